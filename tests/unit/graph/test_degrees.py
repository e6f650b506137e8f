"""Fan-in and fan-out equal what is counted from the expanded synapses; large operators stay as they are."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_operator

from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Operator,
    Scale,
    Select,
    SumPool,
    counts_are_exact,
    fan_in,
    fan_out,
    operators,
)


def check(operator: Operator) -> int:
    """Hold both fans against the synapses one by one; return how many synapses there are."""
    pre, post, _ = operator.to_coo()
    ends = np.bincount(post, minlength=operator.size_out).reshape(operator.shape_out)
    starts = np.bincount(pre, minlength=operator.size_in).reshape(operator.shape_in)
    assert counts_are_exact(operator)
    np.testing.assert_array_equal(fan_in(operator), ends)
    np.testing.assert_array_equal(fan_out(operator), starts)
    assert fan_in(operator).sum() == fan_out(operator).sum() == operator.synapse_count == len(pre)
    return len(pre)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_fans_of_random_operators_are_those_of_their_synapses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, int(rng.integers(1, 5))))
    check(random_operator(rng, shape))


def test_a_convolution_at_the_border_reaches_fewer_units() -> None:
    kernel = np.ones((3, 1, 2))
    kernel[0, 0, 1] = 0.0
    operator = Convolution((5, 1), kernel, (1,), (1,), ((1, 1),))
    assert check(operator) == 13 + 13 - 4
    # The first unit is in the windows of the first two outputs: at tap 1 of both filters, and at tap 0, where one is 0.
    np.testing.assert_array_equal(fan_out(operator)[:, 0], [3, 5, 5, 5, 4])
    np.testing.assert_array_equal(fan_in(operator), [[2, 2], [3, 2], [3, 2], [3, 2], [2, 1]])


def test_paths_that_meet_are_one_synapse() -> None:
    """An overlapping pool in front of a convolution: 9 paths, but a unit is joined to another only once."""
    pool = SumPool((5, 1), (3,), (1,), ((0, 0),))
    convolution = Convolution(pool.shape_out, np.ones((3, 1, 1)), (1,), (1,), ((0, 0),))
    operator = Composed((pool, convolution))
    assert check(operator) == 5
    np.testing.assert_array_equal(fan_in(operator), [[5]])


def test_weights_that_cancel_are_no_synapse() -> None:
    operator = Composed((Dense(np.array([[1.0, 1.0]])), Dense(np.array([[1.0, 1.0], [-1.0, 1.0]]))))
    assert check(operator) == 1
    np.testing.assert_array_equal(fan_out(operator), [1])


def test_a_factor_of_zero_is_no_synapse() -> None:
    assert check(Scale((2, 3), np.array([0.0, 1.0, 2.0]))) == 4


def test_bounds_are_told_from_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import strop.graph.degrees as degrees

    for module in (degrees, operators):
        monkeypatch.setattr(module, "_EXACT_COUNT_LIMIT", 8)
    pool = SumPool((5, 1), (3,), (1,), ((0, 0),))
    meeting = Composed((pool, Convolution(pool.shape_out, np.ones((3, 1, 1)), (1,), (1,), ((0, 0),))))
    assert not counts_are_exact(meeting)
    assert fan_in(meeting).sum() == fan_out(meeting).sum() == meeting.synapse_count == 9
    # Past a pool that does not overlap no two paths meet, so however many there are, their number is exact.
    pool = SumPool((9, 1), (3,), (3,), ((0, 0),))
    apart = Composed((pool, Dense(np.ones((1, 7)), (3,))))
    assert counts_are_exact(apart)
    assert check(apart) == 63


def test_large_convolutions_are_not_expanded() -> None:
    """120 million synapses would take 2.9 GB."""
    rng = np.random.default_rng(0)
    first = Select((64, 64, 32), np.arange(64 * 64 * 32).reshape(64, 64, 32)[::-1])
    second = Convolution((64, 64, 32), rng.normal(size=(5, 5, 32, 40)), (1, 1), (1, 1), ((2, 2), (2, 2)))
    operator = Composed((first, second))
    tracemalloc.start()
    counts = fan_out(operator)
    exact = counts_are_exact(operator)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    reach = 64 * 5 - 2 * (1 + 2)
    assert exact
    assert counts.sum() == reach**2 * 32 * 40 > 120e6
    assert counts.max() == 25 * 40
    assert counts[0, 0, 0] == 9 * 40
    assert peak < 200e6
    assert math.prod(counts.shape) == 64 * 64 * 32
