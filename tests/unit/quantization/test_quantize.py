"""Quantising: what comes out fits its target, whatever the input, and changes nothing where nothing need be rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import random_frames, random_graph

from strop.errors import BackendError, BackendMissingError, QuantizationError
from strop.graph import Convolution, Dense, Graph, Input, Population, Projection, Scale, Select, SumPool
from strop.graph.compose import compose
from strop.quantization.certify import certify
from strop.quantization.integers import whole_numbers
from strop.quantization.quantize import quantize, quantize_report
from strop.quantization.targets import arithmetic_of
from strop.running.arithmetic import Arithmetic
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate

TARGETS = ("float64", "float32", "spinnaker", "int8", "int4", "int2", "int1", "loihi", "truenorth")


def in_arithmetic(
    graph: Graph, signals: dict[str, Any], arithmetic: Arithmetic, rng: np.random.Generator
) -> dict[str, Any]:
    """Every neuron's spikes as a target computes them: whole numbers, synapse by synapse in a random order,
    saturating."""
    known = dict(signals)
    for population in graph.populations:
        if population.name in graph.host_populations:
            known[population.name] = evaluate(graph, signals)[population.name]
            continue
        synapses = [(p.source, *p.operator.to_coo()) for p in graph.incoming(population.name)]
        weights = np.concatenate([row[3] for row in synapses])
        if arithmetic.exponent is None:
            # Any grid that all of a population's weights lie on will do for the order and the comparator.
            bits = [np.frexp(w)[1] - 53 for w in weights if w]
            exponent = min([*bits, 0])
        else:
            exponent = arithmetic.exponent
        count = len(next(iter(signals.values())))
        spikes = np.zeros((count, population.size), bool)
        threshold = np.ldexp((population.threshold - population.bias).reshape(-1), -exponent)
        for frame in range(count):
            sums = np.zeros((2, population.size), object)
            events = []
            for source, pre, post, weight in synapses:
                fired = known[source][frame].reshape(-1)[pre].astype(bool)
                numbers, fits = whole_numbers(weight[fired], np.full(int(fired.sum()), exponent))
                assert fits.all()
                events += list(zip(post[fired], numbers, strict=True))
            for k in rng.permutation(len(events)):
                post, number = events[k]
                sign = int(number < 0)
                value = sums[sign, post] + abs(int(number))
                if arithmetic.exponent is not None:
                    value = min(value, arithmetic.largest_sum)
                sums[sign, post] = value
            total = sums[0] - sums[1]
            for neuron in range(population.size):
                above = total[neuron] > threshold[neuron]
                spikes[frame, neuron] = above or (arithmetic.comparator == ">=" and total[neuron] == threshold[neuron])
        known[population.name] = spikes.reshape(count, *population.shape)
    return {population.name: known[population.name] for population in graph.populations}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), target=st.sampled_from(TARGETS))
def test_a_quantised_graph_is_proved_and_runs_in_its_arithmetic(seed: int, target: str) -> None:
    graph = random_graph(seed, ("host", "bitplane", "binary")[seed % 3])
    try:
        quantised = quantize(graph, target)
    except QuantizationError:
        # Votes of many spikes in few bits: see test_what_cannot_fit_is_refused_with_the_bits_that_would_do.
        assume(False)
    certificate = certify(quantised, target)
    assert certificate.holds, str(certificate)
    signals = encode(quantised, as_frames(quantised, random_frames(quantised, 4, seed)))
    wanted = evaluate(quantised, signals)
    found = in_arithmetic(quantised, signals, arithmetic_of(target), np.random.default_rng(seed))
    for name in quantised.population_names:
        np.testing.assert_array_equal(found[name], wanted[name])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_whole_already_changes_no_spike(seed: int) -> None:
    graph = random_graph(seed, ("host", "binary")[seed % 2])
    report = quantize_report(graph, "float64")
    assert all(row.exact for row in report.populations)
    signals = encode(graph, as_frames(graph, random_frames(graph, 12, seed)))
    wanted, found = evaluate(graph, signals), evaluate(report.graph, signals)
    for name in graph.population_names:
        np.testing.assert_array_equal(found[name], wanted[name])
    # Once more, nothing is rounded either.
    again = quantize_report(report.graph, "float64")
    assert all(row.exact for row in again.populations)
    found = evaluate(again.graph, signals)
    for name in graph.population_names:
        np.testing.assert_array_equal(found[name], wanted[name])


def two_layers(first: np.ndarray, second: np.ndarray, threshold: float = 0.5) -> Graph:
    node = Input("x", (first.shape[0],), "binary")
    return Graph.from_nodes(
        [node],
        [Population("a", (first.shape[1],), threshold, 0.1), Population("b", (second.shape[1],), threshold, -0.1)],
        [("x", "a", Dense(first)), ("a", "b", Dense(second))],
        (),
        ["b"],
    )


def test_weights_are_whole_numbers_times_a_power_of_two_and_thresholds_lie_half_way() -> None:
    rng = np.random.default_rng(1)
    graph = quantize(two_layers(rng.normal(size=(30, 20)), rng.normal(size=(20, 10))), "int8")
    for projection in graph.projections:
        weight = projection.operator.weight  # type: ignore[attr-defined]
        threshold = graph.population(projection.target).threshold
        for neuron in range(weight.shape[1]):
            grid = 2.0 ** min(0, *(np.frexp(weight[:, neuron])[1] - 8))
            numbers = weight[:, neuron] / grid
            assert (numbers == np.rint(numbers)).all()
        assert (graph.population(projection.target).bias == 0.0).all()
        assert (threshold * 2.0**20 == np.rint(threshold * 2.0**20)).all()


def test_thresholds_are_moved_to_where_fewest_spikes_change() -> None:
    rng = np.random.default_rng(2)
    graph = two_layers(rng.normal(size=(64, 40)), rng.normal(size=(40, 30)))
    frames = rng.random((400, 64)).astype(np.float32)
    plain, moved = (quantize(graph, "int4", frames=given) for given in (None, frames))
    signals = encode(graph, as_frames(graph, frames))
    wanted = evaluate(graph, signals)
    wrong = [
        sum(int((evaluate(found, signals)[name] != wanted[name]).sum()) for name in graph.population_names)
        for found in (plain, moved)
    ]
    assert 0 < wrong[1] < wrong[0]
    report = quantize_report(graph, "int4", frames=frames)
    assert sum(row.changed or 0 for row in report.populations) == wrong[1]
    assert report.frames == 400
    assert report.decisions is None


def test_fewer_bits_round_more() -> None:
    rng = np.random.default_rng(4)
    graph = two_layers(rng.normal(size=(64, 40)), rng.normal(size=(40, 30)))
    frames = rng.random((200, 64)).astype(np.float32)
    changed = []
    for bits in (12, 8, 4, 2):
        report = quantize_report(graph, "spinnaker", bits, frames)
        assert max(row.weight_bits for row in report.populations) <= bits - 1
        changed.append(sum(row.changed or 0 for row in report.populations))
    assert changed == sorted(changed)
    assert changed[0] < changed[-1]


def test_skips_and_pools_share_the_scale_of_what_they_join() -> None:
    rng = np.random.default_rng(5)
    node = Input("x", (4, 4, 3), "binary")
    weight = rng.normal(size=(3, 3))
    pool = SumPool((4, 4, 3), (2, 2), (2, 2), ((0, 0), (0, 0)))
    average = compose(pool, Scale((2, 2, 3), np.float64(0.25)))
    assert average is not None
    graph = Graph.from_nodes(
        [node],
        [
            Population("a", (4, 4, 3), 0.5, 0.2),
            Population("sum", (4, 4, 3), 0.5, 0.1),
            Population("low", (2, 2, 3), 0.4, 0.0),
        ],
        [
            ("x", "a", Dense(weight, (4, 4))),
            ("a", "sum", Dense(weight.T, (4, 4))),
            ("x", "sum", Select((4, 4, 3), np.arange(48).reshape(4, 4, 3))),
            ("sum", "low", average),
        ],
        (),
        ["low"],
    )
    for target in ("int8", "spinnaker", "float32"):
        report = quantize_report(graph, target)
        assert certify(report.graph, target).holds
        # Channels keep one kernel for all places.
        assert isinstance(report.graph.incoming("a")[0].operator, Dense)
    rows = {row.name: row for row in report.populations}
    assert rows["low"].exact


def test_a_window_over_places_that_were_channels_shares_one_scale() -> None:
    """An index map can lay channels out as places, so that a window adds up neurons of different kernels."""
    rng = np.random.default_rng(8)
    spread = Select((4, 3), np.arange(12).reshape(12, 1))
    operator = compose(Dense(rng.normal(size=(5, 3)), (4,)), spread, SumPool((12, 1), (3,), (3,), ((0, 0),)))
    assert operator is not None
    node, population = Input("x", (4, 5), "binary"), Population("a", (4, 1), 0.3, 0.1)
    graph = Graph((node,), (population,), (Projection("x", "a", operator),), (), ("a",))
    quantised = quantize(graph, "float32")
    frames = rng.random((50, 4, 5)).astype(np.float32)
    signals = encode(graph, as_frames(graph, frames))
    np.testing.assert_array_equal(evaluate(graph, signals)["a"], evaluate(quantised, signals)["a"])
    assert certify(quantised, "float32").holds


@pytest.mark.parametrize("target", ["float64", "truenorth", "loihi", "int8"])
def test_thresholds_beyond_every_sum_stay_where_they_can_be_held(target: str) -> None:
    rng = np.random.default_rng(9)
    weight = rng.normal(size=(20, 3)) * np.array([1.0, 2.0**-30, 2.0**20])
    node, population = Input("x", (20,), "binary"), Population("a", (3,), np.array([1e9, -1e9, 2.0**18]), 0.25)
    graph = Graph((node,), (population,), (Projection("x", "a", Dense(weight)),), (), ("a",))
    quantised = quantize(graph, target)
    assert certify(quantised, target).holds
    signals = encode(graph, as_frames(graph, rng.random((40, 20)).astype(np.float32)))
    wanted, found = evaluate(graph, signals)["a"], evaluate(quantised, signals)["a"]
    np.testing.assert_array_equal(found[:, :2], wanted[:, :2])
    assert not wanted[:, 0].any()
    assert wanted[:, 1].all()


def test_thresholds_that_the_grid_of_a_kernel_makes_large_are_still_held() -> None:
    """A neuron at the border reads whole weights alone: in the kernel's grid its threshold is 1,024 times as large."""
    kernel = np.array([2.0**-10, 1.0]).reshape(2, 1, 1)
    operator = Convolution((3, 1), kernel, (1,), (1,), ((1, 0),))
    threshold = np.array([[1.5], [2.0**-11], [2.0**-11]])
    node, population = Input("x", (3, 1), "binary"), Population("a", (3, 1), threshold, 0.0)
    graph = Graph((node,), (population,), (Projection("x", "a", operator),), (), ("a",))
    target = Arithmetic("narrow", None, 12, threshold_bits=11)
    assert certify(quantize(graph, target), target).holds


def test_what_cannot_fit_is_refused_with_the_bits_that_would_do() -> None:
    graph = two_layers(np.ones((40, 3)), np.ones((3, 2)))
    narrow = Arithmetic("narrow", 3, 4)
    with pytest.raises(
        QuantizationError, match=r"a, neuron 0: .* do not fit sums of 4 bits \(narrow\); 6 bits would do"
    ):
        quantize(graph, narrow)
    assert certify(quantize(graph, Arithmetic("wider", 3, 6)), "float32").holds


def test_analogue_values_on_the_target_are_refused() -> None:
    node = Input("x", (3,), "current")
    population = Population("a", (2,), 0.5, 0.0)
    graph = Graph((node,), (population,), (Projection("x", "a", Dense(np.ones((3, 2)))),), (), ("a",))
    with pytest.raises(QuantizationError, match="a is driven by the values of 'x'"):
        quantize(graph, "int8")


def test_a_graph_that_was_quantised_for_a_wider_target_is_refused() -> None:
    rng = np.random.default_rng(6)
    graph = quantize(two_layers(rng.normal(size=(30, 20)), rng.normal(size=(20, 10))), "float32")
    with pytest.raises(QuantizationError, match="quantised already, and a does not fit int8"):
        quantize(graph, "int8")
    assert quantize(graph, "float64") == graph


@pytest.mark.parametrize(
    ("target", "bits", "error", "message"),
    [
        ("int9000", None, BackendError, "do not fit"),
        ("int0", None, BackendError, "at least 1 bit"),
        ("spinaker", None, BackendMissingError, "Did you mean 'spinnaker'"),
        ("spinnaker", 0, BackendError, "at least 1"),
        ("spinnaker", 40, BackendError, "weights of 17 bits"),
        ("int1", 2, BackendError, "weights of 1 bits"),
        ("spinnaker", 2.5, BackendError, "whole number"),
        (7, None, BackendError, "a name or an Arithmetic"),
    ],
)
def test_unknown_targets_and_bits_are_refused(target: Any, bits: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quantize(two_layers(np.ones((2, 2)), np.ones((2, 2))), target, bits)


def test_backends_state_their_arithmetic() -> None:
    assert arithmetic_of("reference").sum_bits == 53
    assert arithmetic_of("int8").largest_weight == 127
    assert arithmetic_of("spinnaker", 8).largest_weight == 127
