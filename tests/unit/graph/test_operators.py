"""Every operator: applied, expanded and counted, the three must say the same; and bad ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import GraphError
from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Operator,
    Scale,
    Select,
    Sparse,
    SumPool,
    compose,
    structure,
)


def as_matrix(operator: Operator) -> np.ndarray:
    pre, post, weight = operator.to_coo()
    matrix = np.zeros((operator.size_out, operator.size_in))
    matrix[post, pre] = weight
    assert np.count_nonzero(matrix) == len(weight), "to_coo gives a pair twice, or a zero"
    return matrix


def check(operator: Operator, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, *operator.shape_in))
    matrix = as_matrix(operator)
    flat = x.reshape(3, -1)
    np.testing.assert_allclose(operator.apply(x).reshape(3, -1), flat @ matrix.T, atol=1e-12)
    np.testing.assert_array_equal(as_matrix(operator.absolute()) >= np.abs(matrix) - 1e-12, True)
    assert operator.synapse_count == np.count_nonzero(matrix)
    if not isinstance(operator, Composed):
        assert operator.terms >= np.count_nonzero(matrix, axis=1).max(initial=0)
    np.testing.assert_array_equal(as_matrix(structure(operator)) > 0, matrix != 0)


def ints(rng: np.random.Generator, low: int, high: int, count: int) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(low, high, count))


def random_convolution(rng: np.random.Generator) -> Convolution:
    axes, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    transposed = bool(rng.random() < 0.4)
    strides = ints(rng, 1, 4, axes)
    kernel = rng.normal(size=(*ints(rng, 1, 4, axes), 2, 3 * groups))
    kernel[rng.random(kernel.shape) < 0.2] = 0.0
    return Convolution(
        (*ints(rng, 5, 8, axes), 2 * groups),
        kernel,
        strides,
        ints(rng, 1, 3, axes),
        tuple(ints(rng, 0, 2, 2) for _ in range(axes)),
        groups,
        transposed,
        tuple(int(rng.integers(0, s)) for s in strides) if transposed else None,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_convolution_applied_and_expanded_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(random_convolution(rng), rng)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pool_applied_and_expanded_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    pool = SumPool(
        (*ints(rng, 4, 8, axes), 2),
        ints(rng, 1, 4, axes),
        ints(rng, 1, 4, axes),
        tuple(ints(rng, 0, 2, 2) for _ in range(axes)),
    )
    check(pool, rng)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_composition_is_simplified_without_changing_the_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (5, 4, 3)
    stages: list[Operator] = []
    for _ in range(int(rng.integers(2, 6))):
        kind = int(rng.integers(5))
        size = int(np.prod(shape))
        if kind == 0:
            stages.append(Scale(shape, rng.normal(size=shape[-1] if rng.random() < 0.7 else shape)))
        elif kind == 1:
            stages.append(Select(shape, rng.integers(-1, size, shape)))
        elif kind == 2:
            stages.append(Dense(rng.normal(size=(shape[-1], 3)), shape[:-1]))
        elif kind == 3:
            stages.append(Convolution(shape, rng.normal(size=(3, 2, 3, 3)), (1, 1), (1, 1), ((1, 1), (1, 0))))
        else:
            stages.append(Select(shape, np.arange(size).reshape(shape)))
    merged = compose(*stages)
    x = rng.normal(size=(2, *shape))
    expected = x
    for stage in stages:
        expected = stage.apply(expected)
    got = x if merged is None else merged.apply(x)
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert len(getattr(merged, "stages", (merged,))) <= len(stages)
    if merged is not None:
        check(merged, rng)


def test_dense_serves_every_leading_axis_with_one_matrix() -> None:
    rng = np.random.default_rng(0)
    dense = Dense(rng.normal(size=(3, 4)), (2, 5))
    assert (dense.shape_in, dense.shape_out, dense.synapse_count) == ((2, 5, 3), (2, 5, 4), 120)
    check(dense, rng)


def test_average_then_convolution_counts_merged_synapses_once() -> None:
    pool = SumPool((4, 4, 1), (2, 2), (2, 2), ((0, 0), (0, 0)))
    convolution = Convolution(pool.shape_out, np.ones((2, 2, 1, 1)), (1, 1), (1, 1), ((0, 1), (0, 1)))
    both = Composed((pool, convolution))
    check(both, np.random.default_rng(1))
    assert both.synapse_count == 16 + 2 * 8 + 4


def test_large_compositions_are_counted_without_being_expanded() -> None:
    side = 300
    flatten = Select((side, side, 8), np.arange(side * side * 8))
    dense = Dense(np.ones((side * side * 8, 10)))
    assert Composed((flatten, dense)).synapse_count == side * side * 8 * 10


def test_arrays_are_read_only_and_detached_from_the_callers() -> None:
    weight = np.ones((2, 3))
    dense = Dense(weight)
    weight[0, 0] = 7.0
    assert dense.weight[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        dense.weight[0, 0] = 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(np.ones(3)), "shape"),
        (lambda: Dense(np.array([[np.nan]])), "not finite"),
        (lambda: Convolution((5, 5, 3), np.ones((3, 3, 2, 4)), (1, 1), (1, 1), ((0, 0),) * 2), "channels"),
        (
            lambda: Convolution((2, 2, 1), np.ones((3, 3, 1, 1)), (1, 1), (1, 1), ((0, 0),) * 2),
            "does not fit",
        ),
        (lambda: Convolution((5, 5, 1), np.ones((3, 3, 1, 1)), (1, 0), (1, 1), ((0, 0),) * 2), "positive"),
        (lambda: SumPool((4, 4, 1), (2, 2), (2, 2), ((0, -1), (0, 0))), "negative"),
        (lambda: Select((3,), np.array([3])), r"\[-1, 3\)"),
        (lambda: Sparse((2,), (2,), [0, 0], [1, 1], [1.0, 2.0]), "more than one"),
        (lambda: Sparse((2,), (2,), [0, 2], [1, 1], [1.0, 2.0]), "flat indices"),
        (lambda: Scale((2, 3), np.ones(2)), "broadcast"),
        (lambda: Composed((Dense(np.ones((2, 3))), Dense(np.ones((2, 3))))), "takes"),
        (lambda: Composed(()), "at least one"),
        (lambda: Dense(np.ones((2, 3))).apply(np.ones((1, 4))), "frames of shape"),
    ],
)
def test_malformed_operators_are_refused(make: object, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()  # type: ignore[operator]
