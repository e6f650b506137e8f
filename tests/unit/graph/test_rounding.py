"""Bounds hold whatever the order of summation, are 0 just where nothing is rounded, and ceilings cover all frames."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.graph import Composed, Convolution, Dense, Graph, Input, Population, Scale, Select, Sparse, SumPool
from strop.graph.rounding.evaluation import Evaluation, Operators, Stage
from strop.graph.rounding.formats import FLOAT32, FLOAT64, lowest_bit
from strop.graph.rounding.stages import Affine, Constant, Join, Linear, Recoded, Source, Sum, biased
from strop.verification.bounds import RoundingBound, SimulatorBound, graph_stages, undecided
from strop.verification.judge import judge

SEEDS = st.integers(0, 2**32 - 1)


def evaluated(stage: Stage, **signals: np.ndarray):
    return Evaluation(signals, FLOAT32, Operators()).of(stage)


def test_lowest_bits_are_exponents_of_the_last_bit_that_is_set() -> None:
    assert lowest_bit([1.0, -0.75, 12.0, 0.1, 2.0**-1074, 2.0**1023]).tolist() == [0, -2, 2, -55, -1074, 1023]
    assert lowest_bit(0.0) == np.inf


def test_a_format_holds_what_fits_its_digits_and_its_range() -> None:
    values = [
        0.0,
        1.0,
        2.0**24,
        2.0**24 + 1,
        0.1,
        float(np.float32(0.1)),
        2.0**-126,
        2.0**-127,
        3.4028234663852886e38,
        2.0**128,
    ]
    assert FLOAT32.holds(np.array(values)).tolist() == [True, True, True, False, False, True, True, False, True, False]
    assert FLOAT64.holds(np.array([0.1, 2.0**-1022, 2.0**-1074, 1.7976931348623157e308])).tolist() == [
        True,
        True,
        False,
        True,
    ]


def sums_of(rng: np.random.Generator, terms: np.ndarray) -> list[np.float32]:
    """float32 sums of terms in several orders: one by one, and in pairs."""
    found = []
    for _ in range(4):
        left = list(rng.permutation(terms.astype(np.float32)))
        while len(left) > 1:
            at = 0 if rng.random() < 0.5 else int(rng.integers(len(left) - 1))
            left[at : at + 2] = [np.float32(left[at] + left[at + 1])]
        found.append(left[0] if left else np.float32(0))
    return found


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from(["normal", "whole", "eighths", "huge", "mixed"]))
def test_every_order_of_summation_stays_within_the_bound_and_exact_means_exact(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    weight = {
        "normal": lambda: rng.normal(size=n),
        "whole": lambda: rng.integers(-9, 10, n).astype(float),
        "eighths": lambda: rng.integers(-99, 100, n) / 8,
        "huge": lambda: rng.integers(-(2**23), 2**23, n).astype(float),
        "mixed": lambda: rng.normal(size=n) * 10.0 ** rng.integers(-4, 5, n),
    }[kind]()
    weight = weight.astype(np.float32).astype(np.float64)
    bias = np.float64(np.float32(rng.choice([0.0, 0.5, 3.0, 1e6, rng.normal()])))
    spikes = rng.random((1, n)) < 0.6
    found = evaluated(biased(Linear(Source("x"), Dense(weight[:, None])), np.array([bias])), x=spikes)
    terms = np.append(weight[spikes[0]], bias)
    exact = sum((Fraction(float(term)) for term in terms), Fraction(0))
    for total in sums_of(rng, terms):
        off = abs(Fraction(float(total)) - exact)
        assert off <= Fraction(float(found.error.item()))
    if kind in ("whole", "eighths") and bias in (0.0, 0.5, 3.0):
        assert found.error.item() == 0.0
    if kind == "normal" and spikes.sum() > 2:
        assert found.error.item() > 0.0


def test_one_bit_too_many_and_a_sum_is_no_longer_exact() -> None:
    fits = Linear(Source("x"), Dense(np.array([[2.0**23], [2.0**23 - 1], [1.0]])))
    beyond = Linear(Source("x"), Dense(np.array([[2.0**23], [2.0**23], [1.0]])))
    spikes = np.ones((1, 3), dtype=bool)
    assert evaluated(fits, x=spikes).error.item() == 0.0
    assert float(np.float32(2.0**24) + np.float32(1)) != 2.0**24 + 1
    assert evaluated(beyond, x=spikes).error.item() >= 1.0
    # Neuron by neuron, and frame by frame: where the large weights are silent nothing is rounded.
    assert evaluated(beyond, x=np.array([[True, False, True]])).error.item() == 0.0


def test_a_fused_bias_may_be_the_first_term_of_the_sum() -> None:
    """2^24 + 1 + 1 one by one is 2^24; a bound that adds a rounding for the bias behind the sum would miss it."""
    stage = biased(Linear(Source("x"), Dense(np.array([[1.0], [1.0]]))), np.array([2.0**24]))
    found = evaluated(stage, x=np.ones((1, 2), dtype=bool))
    computed = np.float32(np.float32(np.float32(2.0**24) + np.float32(1)) + np.float32(1))
    assert abs(float(computed) - found.value.item()) == 2.0
    assert found.error.item() >= 2.0


def test_results_below_the_least_normal_number_may_be_flushed() -> None:
    tiny = np.array([[2.0**-130], [-(2.0**-131)]])
    found = evaluated(Linear(Source("x"), Dense(tiny)), x=np.ones((1, 2), dtype=bool))
    assert found.error.item() >= abs(found.value.item())


def float32_layer(rng: np.random.Generator, x32: np.ndarray, shape: tuple[int, ...], stage: Stage):
    """A random stage behind `stage`, and what float32 makes of it."""
    kind = rng.choice(["dense", "scale", "bias", "pool", "select", "average", "add"])

    def numbers(shape: tuple[int, ...]) -> np.ndarray:
        return (rng.integers(-4, 5, shape) / 4 if rng.random() < 0.5 else rng.normal(size=shape)).astype(np.float32)

    if kind == "dense":
        weight = numbers((shape[-1], 3))
        return x32 @ weight, (*shape[:-1], 3), Linear(stage, Dense(weight.astype(np.float64), shape[:-1]))
    if kind == "bias":
        bias = numbers(shape[-1:])
        return x32 + bias, shape, biased(stage, bias.astype(np.float64))
    if kind in ("scale", "average"):
        factor = np.float32(0.25 if kind == "average" else rng.normal())
        shift = np.float32(rng.choice([0.0, 0.5, -1.5]))
        affine = Affine(stage, np.float64(factor), np.float64(shift), np.abs(np.float64(shift)), 2, plain=True)
        return (x32 * factor + shift).astype(np.float32), shape, affine
    if kind == "add":
        return x32 + x32, shape, Sum((stage, stage))
    if kind == "select":
        order = rng.permutation(int(np.prod(shape))).reshape(shape)
        return x32.reshape(len(x32), -1)[:, order], shape, Linear(stage, Select(shape, order))
    pool = SumPool(shape, (2,), (1,), ((0, 0),)) if len(shape) == 2 and shape[0] > 1 else None
    if pool is None:
        return x32, shape, stage
    return x32[:, :-1] + x32[:, 1:], pool.shape_out, Linear(stage, pool)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_chains_of_stages_stay_within_their_bounds_and_below_their_ceilings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (4, 3)
    values = rng.random((6, *shape)) if rng.random() < 0.5 else rng.integers(0, 9, (6, *shape)) / 8
    frames = values.astype(np.float32)
    sent = frames.astype(np.float64)
    x32, stage = frames, Source("x")
    for _ in range(int(rng.integers(1, 6))):
        x32, shape, stage = float32_layer(rng, x32, shape, stage)
    found = evaluated(stage, x=sent)
    off = np.abs(x32.astype(np.float64) - found.value)
    # The oracle's own float64 value may be off by far less.
    assert (off <= found.error * (1 + 1e-9)).all()
    grids = {"x": lowest_bit(sent).min(axis=0)}
    most = {"x": np.abs(sent).max(axis=0, keepdims=True)}
    ceiling = Evaluation(most, FLOAT32, Operators(), grids, ceiling=True).of(stage)
    assert (np.broadcast_to(ceiling.error, found.value.shape) * (1 + 1e-12) >= found.error).all()
    assert (np.broadcast_to(ceiling.value, found.value.shape) * (1 + 1e-12) >= np.abs(found.value)).all()


def test_two_values_are_a_change_of_variable_that_rounds_nothing() -> None:
    signs = Recoded(Source("x"), np.float64(2.0), np.float64(-1.0))
    found = evaluated(Linear(signs, Dense(np.ones((5, 1)))), x=np.array([[True, False, True, True, False]]))
    assert (found.value.item(), found.error.item()) == (1.0, 0.0)
    tenths = Recoded(Source("x"), np.float64(0.1), np.float64(0.2))
    assert evaluated(tenths, x=np.array([[True]])).error.item() > 0.0


def test_a_normalisation_is_never_taken_for_exact() -> None:
    """Its factor comes out of a reciprocal root in float32, even where it looks like a whole number here."""
    stage = Affine(Source("x"), np.float64(1.0), np.float64(0.0), np.float64(0.0), 10, plain=False)
    assert evaluated(stage, x=np.ones((1, 1), dtype=bool)).error.item() > 0.0


def test_joined_signals_keep_their_own_bounds() -> None:
    first = Linear(Linear(Source("x"), Dense(np.array([[0.1]]))), Select((1,), np.array([0, -1])))
    second = Linear(Linear(Source("x"), Dense(np.array([[2.0]]))), Select((1,), np.array([-1, 0])))
    found = evaluated(biased(Join((first, second)), np.array([0.1, 1.0])), x=np.ones((1, 1), dtype=bool))
    assert found.error[0, 0] > 0.0
    assert found.error[0, 1] == 0.0


def test_constants_that_float32_does_not_hold_are_rounded() -> None:
    assert evaluated(Sum((Source("x"), Constant(np.array([0.1])))), x=np.ones((1, 1), dtype=bool)).error.item() > 0.0


@pytest.mark.parametrize(
    "operator",
    [
        Dense(np.array([[1.0, 0.5], [2.0, 0.1], [3.0, 0.25]])),
        Composed((Scale((3,), np.array([1.0, 2.0, 4.0])), Dense(np.array([[1.0, 0.5], [2.0, 0.1], [3.0, 0.25]])))),
        Sparse((3,), (2,), np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([1.0, 2.0, 0.1])),
        Convolution((3, 1), np.array([[[1.0, 0.1]], [[2.0, 0.2]]]), (1,), (1,), ((0, 0),)),
    ],
)
def test_exactness_is_found_neuron_by_neuron(operator) -> None:
    found = evaluated(Linear(Source("x"), operator), x=np.ones((1, *operator.shape_in), dtype=bool))
    error = np.broadcast_to(found.error, found.value.shape).reshape(-1, 2)
    assert (error[:, 0] == 0.0).all()
    assert (error[:, 1] > 0.0).any()


# What hangs on it: the verdicts -------------------------------------------------------------------------------------


def whole_number_network(threshold: float = 2.0) -> Graph:
    rng = np.random.default_rng(5)
    return Graph.from_nodes(
        [Input("x", (12,), "binary")],
        [Population("a", (40,), threshold, 1.0)],
        [("x", "a", Dense(rng.integers(-2, 3, (12, 40)).astype(float)))],
        (),
        ["a"],
    )


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_who_compares_strictly_is_at_fault_where_sums_are_exact(kind: str) -> None:
    """`>` for `>=` on whole numbers: many potentials are equal to their threshold, and none of them is a tie."""
    graph = whole_number_network()
    spikes = np.random.default_rng(1).random((50, 12)) < 0.5
    potentials = spikes @ graph.projections[0].operator.weight + 1.0
    bound = RoundingBound(graph, graph_stages(graph)) if kind == "float32" else SimulatorBound(graph)
    found = judge(graph, {"x": spikes}, {"a": potentials > 2.0}, bound).verdicts["a"]
    assert found.faults.sum() == (potentials == 2.0).sum() > 100
    assert not found.ties.any()
    assert not found.undecided.any()


def test_undecided_is_what_lies_within_the_error_and_nothing_where_there_is_none() -> None:
    margin = np.array([0.0, 0.1, 0.3, 0.0, 0.1])
    error = np.array([0.2, 0.2, 0.2, 0.0, 0.0])
    assert undecided(margin, error).tolist() == [True, True, False, False, False]
    assert undecided(margin, error, np.full(5, 0.15)).tolist() == [True, True, True, False, True]
