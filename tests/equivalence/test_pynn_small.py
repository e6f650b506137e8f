"""Every spike of small networks on the PyNN simulators, in one body for all."""

from __future__ import annotations

import numpy as np
import pytest
from pynn_graphs import branched_graph, one_layer, require
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.graph import Dense, Graph, Input, Population
from strop.running.oracle import evaluate

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]

BACKENDS = ("pynn-nest", "pynn-brian2", "pynn-neuron")


@pytest.fixture(params=BACKENDS)
def simulator(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return request.param


@pytest.mark.parametrize("seed", range(4))
def test_branched_networks_spike_as_the_oracle_does(simulator: str, seed: int) -> None:
    graph = branched_graph(seed)
    frames = np.random.default_rng(seed).random((40, *graph.inputs[0].shape))
    expected = evaluate(graph, {"x": frames >= 0.5})
    found = strop.simulate(graph, frames, simulator).spikes
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_a_sum_that_equals_the_threshold_spikes_and_one_just_below_does_not(simulator: str) -> None:
    below = 0.5 - 2.0**-20
    graph = one_layer([[0.5, below, 0.25, 0.5], [0.0, 0.0, 0.25, -0.25]], 0.5)
    spikes = strop.simulate(graph, np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), simulator).spikes["y"]
    np.testing.assert_array_equal(spikes, [[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_the_bias_counts_up_to_the_threshold_exactly(simulator: str) -> None:
    graph = one_layer([[0.25, 0.25, 0.0]], 0.5, [0.25, 0.25 - 2.0**-20, 0.5])
    spikes = strop.simulate(graph, np.array([[1.0], [0.0], [1.0]]), simulator).spikes["y"]
    np.testing.assert_array_equal(spikes, [[1, 0, 1], [0, 0, 1], [1, 0, 1]])


def test_a_threshold_of_zero_is_reached_by_nothing_and_missed_by_inhibition(simulator: str) -> None:
    graph = one_layer([[-0.25, 0.25]], 0.0)
    spikes = strop.simulate(graph, np.array([[0.0], [1.0], [0.0], [1.0], [1.0]]), simulator).spikes["y"]
    np.testing.assert_array_equal(spikes[:, 0], [1, 0, 1, 0, 0])
    assert spikes[:, 1].all()


def test_nothing_is_left_over_from_one_frame_to_the_next(simulator: str) -> None:
    # What almost fires, what fires far above the threshold and what is held far below it must all be
    # forgotten.
    graph = one_layer([[0.5 - 2.0**-20, 50.0, -50.0], [0.5, 0.5, 0.5]], 0.5)
    frames = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    spikes = strop.simulate(graph, frames, simulator).spikes["y"]
    np.testing.assert_array_equal(spikes, [[0, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]])


def test_chunks_run_on_the_same_network(simulator: str) -> None:
    graph = branched_graph(7)
    signals = {"x": np.random.default_rng(7).random((30, *graph.inputs[0].shape)) < 0.5}
    expected = evaluate(graph, signals)
    runner = strop.running.registry.get_backend(simulator).prepare(graph)
    try:
        parts = [runner.run({"x": signals["x"][start : start + 10]}) for start in (0, 10, 20)]
    finally:
        runner.close()
    for name, spikes in expected.items():
        assert spikes.any()
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), spikes, err_msg=name)


def test_a_runner_that_lost_the_kernel_to_another_builds_its_network_again(simulator: str) -> None:
    first, second = branched_graph(1), branched_graph(2)
    signals = [{"x": np.ones((3, *graph.inputs[0].shape), dtype=bool)} for graph in (first, second)]
    engine = strop.running.registry.get_backend(simulator)
    one = engine.prepare(first)
    two = engine.prepare(second)
    for runner, graph, signal in (
        (one, first, signals[0]),
        (two, second, signals[1]),
        (one, first, signals[0]),
    ):
        expected = evaluate(graph, signal)
        found = runner.run(signal)
        assert any(spikes.any() for spikes in expected.values())
        for name, spikes in expected.items():
            np.testing.assert_array_equal(found[name], spikes, err_msg=name)
    one.close()
    two.close()


def test_two_ways_from_one_layer_to_another_add_up(simulator: str) -> None:
    rng = np.random.default_rng(2)
    ways = [Dense(rng.integers(-4, 5, (5, 6)) / 4) for _ in range(2)]
    graph = Graph.from_nodes(
        [Input("x", (5,), "binary")],
        [Population("y", (6,), 0.5, 0.0)],
        [("x", "y", way) for way in ways],
        outputs=["y"],
    )
    frames = rng.random((20, 5))
    expected = evaluate(graph, {"x": frames >= 0.5})["y"]
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(strop.simulate(graph, frames, simulator).spikes["y"], expected)
