"""Weights that are whole but for a factor are kept, thresholds included; one bit is a sign, and no synapse is lost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import QuantizationError
from strop.graph import Convolution, Dense, Graph, Input, Population, Projection, SumPool
from strop.graph.compose import compose
from strop.graph.stage_weights import stage_weights
from strop.quantization.certify import certify
from strop.quantization.quantize import quantize, quantize_report
from strop.quantization.targets import arithmetic_of
from strop.running.encode import encode
from strop.running.oracle import evaluate


def one_layer(operator, threshold, bias=0.0):
    shape = operator.shape_out
    population = Population("a", shape, np.broadcast_to(threshold, shape), np.broadcast_to(bias, shape))
    node = Input("x", operator.shape_in, "binary")
    return Graph((node,), (population,), (Projection("x", "a", operator),), (), ("a",))


def all_inputs(size):
    return ((np.arange(2**size)[:, None] >> np.arange(size)) & 1).astype(np.float32)


def spikes(graph, frames):
    return evaluate(graph, encode(graph, {"x": frames}))["a"]


def whole(graph):
    """Return the weights of a quantised layer in units of each neuron's grid."""
    weights = stage_weights(graph.projections[0].operator)
    flat = weights.reshape(-1, weights.shape[-1])
    grid = 2.0 ** np.floor(np.log2(np.abs(np.where(flat == 0.0, np.inf, flat)).min(axis=0)))
    return flat / grid


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 8), factor=st.floats(1e-6, 1e6))
def test_whole_numbers_times_any_factor_are_kept_and_no_spike_changes(seed: int, bits: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    most = max(2 ** (bits - 1) - 1, 1)
    numbers = rng.integers(-most, most + 1, (8, 5)) if bits > 1 else rng.choice([-1, 1], (8, 5))
    # One factor for each neuron, as a batch normalisation leaves it: every product is rounded.
    scale = factor * rng.uniform(0.1, 3.0, 5) * rng.choice([-1.0, 1.0], 5)
    threshold = scale * np.round(rng.normal(size=5) * most + rng.uniform(0.1, 0.9, 5), 3)
    graph = one_layer(Dense(numbers * scale), threshold, scale * 0.0371)
    report = quantize_report(graph, f"int{bits}", frames=all_inputs(8)[::3])
    assert report.populations[0].exact
    assert report.populations[0].changed == 0
    assert certify(report.graph, f"int{bits}").holds
    np.testing.assert_array_equal(spikes(report.graph, all_inputs(8)), spikes(graph, all_inputs(8)))


def test_the_numbers_are_those_that_the_weights_were_made_of() -> None:
    numbers = np.array([[3, -2, 0], [-5, 7, 0], [2, 1, 0], [0, -7, 0]])
    graph = quantize(one_layer(Dense(numbers * np.array([0.1, -0.3, 7.0])), 0.25), "int4")
    weights = stage_weights(graph.projections[0].operator)
    grid = np.abs(weights).max(axis=0)[:2] / [5, 7]
    np.testing.assert_array_equal(weights[:, :2] / grid, numbers[:, :2] * [1, -1])
    assert not weights[:, 2].any()
    # In three bits 5 and 7 are too much: it is rounded, and says so.
    assert not quantize_report(one_layer(Dense(numbers * 0.1), 0.25), "int3").populations[0].exact


def test_one_weight_that_is_off_is_noticed_wherever_it_is() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-7, 8, (300, 40)).astype(float)
    numbers[0], numbers[1] = 7.0, 6.0
    for place in ((0, 0), (299, 39), (137, 20)):
        weights = numbers * 0.0123
        weights[place] *= 1.0 + 1e-9
        graph = one_layer(Dense(weights), 0.5)
        assert quantize_report(one_layer(Dense(numbers * 0.0123), 0.5), "int4").populations[0].exact
        assert not quantize_report(graph, "int4").populations[0].exact


def test_a_sum_that_is_equal_to_the_threshold_still_fires() -> None:
    """3 of 12,345 units are the threshold: the factor is no float64, so the comparison is done in fractions."""
    scale = 12345 * 2.0**-16
    numbers = np.array([[1.0], [2.0], [-1.0], [3.0]])
    for above in (0.0, 2.0**-40):
        graph = one_layer(Dense(numbers * scale), 3 * scale + above)
        assert Fraction(3 * scale) == 3 * Fraction(scale)
        report = quantize_report(graph, "int3")
        assert report.populations[0].exact
        np.testing.assert_array_equal(spikes(report.graph, all_inputs(4)), spikes(graph, all_inputs(4)))
        assert spikes(report.graph, np.float32([[1, 1, 0, 0]]))[0, 0] == (above == 0.0)


def test_channels_of_a_kernel_have_a_factor_each() -> None:
    rng = np.random.default_rng(3)
    numbers = rng.integers(-1, 2, (2, 2, 1, 3))
    operator = Convolution((3, 3, 1), numbers * np.array([0.3, -0.01, 4.0]), (1, 1), (1, 1), ((0, 0), (0, 0)))
    graph = one_layer(operator, 0.45 * np.array([0.3, -0.01, 4.0]))
    report = quantize_report(graph, "int2")
    assert report.populations[0].exact
    frames = all_inputs(9).reshape(-1, 3, 3, 1)
    np.testing.assert_array_equal(spikes(report.graph, frames), spikes(graph, frames))


@pytest.mark.parametrize(("target", "bits"), [("int1", None), ("spinnaker", 1), ("loihi", 1)])
def test_one_bit_is_a_sign_and_no_weight_is_rounded_to_zero(target: str, bits: int | None) -> None:
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(40, 6)) ** 3
    weights[:5] = 0.0  # no synapses
    graph = quantize(one_layer(Dense(weights), 0.3), target, bits)
    np.testing.assert_array_equal(whole(graph), np.sign(weights))
    assert certify(graph, "int1" if target == "int1" else target).holds
    # Thresholds follow the mean magnitude.
    grid = np.abs(stage_weights(graph.projections[0].operator)).max(axis=0)
    mean = np.abs(weights[5:]).mean(axis=0)
    if target == "int1":
        np.testing.assert_array_equal(np.ceil(graph.population("a").threshold / grid), np.ceil(0.3 / mean))


def test_two_bits_have_a_zero_and_one_has_not() -> None:
    assert arithmetic_of("int1").signs
    assert arithmetic_of("spinnaker", 1).signs
    assert not arithmetic_of("int2").signs
    assert not arithmetic_of("spinnaker", 2).signs
    assert arithmetic_of("int1").largest_weight == arithmetic_of("int2").largest_weight == 1
    weights = np.array([[1.0], [0.9], [-0.1]])
    assert whole(quantize(one_layer(Dense(weights), 0.5), "int2")).ravel().tolist() == [1.0, 1.0, 0.0]
    assert whole(quantize(one_layer(Dense(weights), 0.5), "int1")).ravel().tolist() == [1.0, 1.0, -1.0]
    # What is more than a sign is not proved for one bit.
    assert not certify(one_layer(Dense(np.array([[2.0], [1.0]])), 1.5), "int1").holds


def test_signs_that_do_not_fit_are_refused() -> None:
    windows = SumPool((4, 1), (2,), (1,), ((0, 0),))
    mixed = Dense(np.array([[0.3], [0.2], [0.1]]))
    overlapping = compose(windows, Dense(np.array([[0.3]]), (3,)), SumPool((3, 1), (3,), (1,), ((0, 0),)))
    assert overlapping is not None
    with pytest.raises(QuantizationError, match="a, neuron 0: several ways lead from one source to it"):
        quantize(one_layer(overlapping, 0.5), "int1")
    assert quantize_report(one_layer(mixed, 0.5), "int1").populations[0].weight_bits == 1
    many = one_layer(Dense(np.random.default_rng(0).uniform(0.1, 1.0, (70000, 1))), 0.5)
    with pytest.raises(QuantizationError, match=r"70,000 weights of one sign do not fit sums of 16 bits \(spinnaker\)"):
        quantize(many, "spinnaker", 1)
