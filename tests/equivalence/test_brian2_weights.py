"""Weights of a Brian2 network in a user's script: read and changed between runs, and while it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

b2 = pytest.importorskip("brian2")

from brian2_scripts import FRAMES, GRAPH, assert_answered, built, compile_nothing, spikes_of, watched  # noqa: E402, F401
from graphs import frames_for, image_network  # noqa: E402

from strop.graph import Dense, Graph, Input, Population, synapses_of, weights_of, with_weights  # noqa: E402


def test_weights_are_read_and_changed_in_the_graphs_units() -> None:
    graph = image_network(np.random.default_rng(0))
    frames = frames_for(graph, np.random.default_rng(3), 20)
    network = built(graph)
    monitor = watched(network)
    weights, wanted = network.weights(), weights_of(graph)
    assert len(weights) > 1
    for pair, values in weights.items():
        np.testing.assert_array_equal(values, wanted[pair])
        synapses, place = network.projections[pair]
        np.testing.assert_array_equal(synapses.w[:][place], values)
        pre, post, _ = synapses_of(graph, *pair)
        np.testing.assert_array_equal(synapses.i[:][place] - network.spans[pair[0]].start, pre)
        np.testing.assert_array_equal(synapses.j[:][place] - network.spans[pair[1]].start, post)
    network.present(frames)
    network.run(network.duration())
    lesioned = {pair: np.where(np.arange(len(values)) % 3, values, -2 * values) for pair, values in weights.items()}
    network.set_weights(lesioned)
    network.present(frames)
    network.run(network.duration())
    changed = with_weights(graph, lesioned)
    assert any((spikes_of(graph, frames)[n] != s).any() for n, s in spikes_of(changed, frames).items())
    assert_answered(network, monitor, frames, 0)
    assert_answered(network, monitor, frames, network.drive.starts[1], changed)


def test_brian2s_own_interface_changes_weights_too() -> None:
    network = built()
    monitor = watched(network)
    for synapses in network.synapses:
        synapses.w = "w * 2"
    doubled = with_weights(GRAPH, {pair: 2 * values for pair, values in weights_of(GRAPH).items()})
    network.present(FRAMES)
    network.run(network.duration())
    for pair, values in network.weights().items():
        np.testing.assert_array_equal(values, weights_of(doubled)[pair])
    played = {name: spikes for name, spikes in spikes_of(GRAPH, FRAMES).items() if network.spans[name].stimulus}
    assert not played, "all populations are simulated here"
    assert_answered(network, monitor, FRAMES, 0, doubled)


def test_weights_that_an_operation_changes_count_from_the_next_step_on() -> None:
    """A unit decides in step t with the weights of step t - 1, whatever they were when its frame entered."""
    network = built()
    monitor = watched(network)
    silent = {pair: np.zeros(len(values)) for pair, values in network.weights().items()}

    @b2.network_operation(clock=network.strop_clock, when="end")
    def learn(t: Any) -> None:
        if int(np.rint(t / network.strop_clock.dt)) == 9:
            network.set_weights(silent)

    network.add(learn)
    network.present(FRAMES)
    network.run(network.duration())
    before, after = spikes_of(GRAPH, FRAMES), spikes_of(with_weights(GRAPH, silent), FRAMES)
    steps, unit = np.rint(np.asarray(monitor.t) / network.step).astype(int), np.asarray(monitor.i)
    first, span = network.graph.depth("a"), network.spans["a"]
    seen = np.zeros((20, 9), dtype=bool)
    own = (unit >= span.start) & (unit < span.stop) & (steps >= first) & (steps < first + 20)
    seen[steps[own] - first, unit[own] - span.start] = True
    # Steps 1 to 10 of the first layer belong to frames 0 to 9.
    np.testing.assert_array_equal(seen[:10], before["a"][:10])
    np.testing.assert_array_equal(seen[10:], after["a"][10:])
    assert (before["a"][10:] != after["a"][10:]).any()


def test_projections_that_lead_the_same_way_are_both_there() -> None:
    graph = Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("a", (3,), 0.5, 0.0), Population("b", (3,), 1.0, 0.0)],
        [
            ("x", "a", Dense(np.eye(3))),
            ("a", "b", Dense(np.eye(3) * 0.5)),
            ("a", "b", Dense(np.roll(np.eye(3), 1, 0) * 0.5)),
        ],
        outputs=["b"],
    )
    network = built(graph)
    assert network.weights()["a", "b"].tolist() == [0.5] * 6
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2, (30, 3)).astype(np.float32)
    monitor = watched(network)
    network.present(frames)
    network.run(network.duration())
    assert_answered(network, monitor, frames, 0)
