"""Copies of a network side by side: frames are dealt out and answers put back, and every spike is the oracle's."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynn_graphs import branched_graph, one_layer, require
from pynn_scripts import quietly  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population
from strop.running.oracle import evaluate
from strop_backends.pynn.copies import checked_copies, deal, steps_of, tiled

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


@given(st.integers(0, 40), st.integers(1, 50))
def test_what_is_dealt_out_comes_back_in_order(count: int, copies: int) -> None:
    frames = np.arange(2 * count).reshape(count, 2)
    parts = deal(frames, copies)
    assert len(parts) == copies
    assert max(map(len, parts)) == steps_of(count, copies)
    assert sum(map(len, parts)) == count
    for frame in range(count):
        np.testing.assert_array_equal(parts[frame % copies][frame // copies], frames[frame])
    answers = np.zeros_like(frames)
    for own, part in zip(deal(answers, copies), parts, strict=True):
        own[:] = part
    np.testing.assert_array_equal(answers, frames)


def test_copies_are_one_graph_of_the_same_operators() -> None:
    graph = branched_graph(2)
    whole = tiled(graph, 3)
    assert whole.population_names == ("a", "b", "c", "a@1", "b@1", "c@1", "a@2", "b@2", "c@2")
    assert whole.neurons == 3 * graph.neurons
    assert whole.synapses == 3 * graph.synapses
    assert whole.projections[4].operator is graph.projections[0].operator
    assert {(p.source, p.target) for p in whole.incoming("c@2")} == {("b@2", "c@2"), ("a@2", "c@2")}
    assert tiled(graph, 1) is graph


def test_a_name_that_a_copy_would_have_is_refused() -> None:
    graph = Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [Population("y", (1,), 0.5, 0.0), Population("y@2", (1,), 0.5, 0.0)],
        [("x", "y", Dense(np.eye(1))), ("y", "y@2", Dense(np.eye(1)))],
        outputs=["y@2"],
    )
    assert tiled(graph, 2).neurons == 4
    with pytest.raises(BackendError, match="'y@2' is a node of 'network', and would be copy 2 of 'y'"):
        tiled(graph, 3)


@pytest.mark.parametrize("copies", [0, -1, 1.0, 2.5, True, "2", None])
def test_copies_that_are_no_number_of_copies_are_refused(copies: Any) -> None:
    with pytest.raises(BackendError, match="copies must be a whole number, 1 or more"):
        checked_copies(copies, "pynn-nest")


@pytest.mark.parametrize(
    ("simulator", "copies"), [("pynn-nest", 3), ("pynn-nest", 30), ("pynn-brian2", 2), ("pynn-neuron", 4)]
)
def test_every_spike_is_the_oracles_whatever_the_number_of_copies(simulator: str, copies: int) -> None:
    require(simulator)
    # No multiple of the copies, and fewer frames than the most.
    graph = branched_graph(1)
    frames = np.random.default_rng(1).random((23, *graph.inputs[0].shape))
    expected = evaluate(graph, {"x": frames >= 0.5})
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    found = strop.simulate(graph, frames, simulator, copies=copies).spikes
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_copies_are_spread_and_threaded_and_driven_by_values() -> None:
    require("pynn-nest")
    rng = np.random.default_rng(8)
    graph = Graph.from_nodes(
        [Input("x", (5,), "current")],
        [Population("a", (7,), 0.5, 0.25), Population("b", (6,), 0.5, -0.25)],
        [("x", "a", Dense(rng.integers(-4, 5, (5, 7)) / 4)), ("a", "b", Dense(rng.integers(-4, 5, (7, 6)) / 4))],
        outputs=["b"],
    )
    frames = rng.random((11, 5))
    expected = strop.simulate(graph, frames, "reference").spikes
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    for copies in (4, 12):
        found = strop.simulate(graph, frames, "pynn-nest", copies=copies, spread=2, threads=2).spikes
        for name, spikes in expected.items():
            np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_a_frame_enters_each_copy_in_each_step() -> None:
    require("pynn-nest")
    graph = one_layer(np.eye(2), 0.5)
    network = strop.build(graph, "pynn-nest", copies=3)
    assert set(network.populations) == {"x", "y", "x@1", "y@1", "x@2", "y@2"}
    assert set(network.projections) == {("x", "y"), ("x@1", "y@1"), ("x@2", "y@2")}
    assert network.populations["y@2"].label == "y@2"
    network.dialect.record(network.answering)
    frames = np.zeros((7, 2), dtype=bool)
    frames[[0, 4, 5], 1] = True
    network.dialect.run_until(network.play({"x": frames}))
    steps = {name: (ticks - network.start - 1).tolist() for name, (_, ticks) in network.dialect.take().items()}
    # Frames 0, 4 and 5 are the first of copy 0 and the second of copies 1 and 2.
    assert steps == {"y": [0], "y@1": [1], "y@2": [1]}


def test_a_script_records_several_series_of_frames_in_copies() -> None:
    require("pynn-nest")
    import pyNN.nest as sim

    graph = branched_graph(1)
    sim.setup(timestep=1.0, min_delay=1.0, max_delay=4.0, spike_precision="on_grid")
    network = strop.build(graph, sim, copies=2)
    network.record()
    for seed in (1, 2):
        frames = np.random.default_rng(seed).random((5, *graph.inputs[0].shape))
        expected = evaluate(graph, {"x": frames >= 0.5})
        sim.run_until(network.present(frames))
        for name, spikes in network.spikes().items():
            assert spikes.any()
            np.testing.assert_array_equal(spikes, expected[name], err_msg=name)
    sim.end()


def test_weights_are_those_of_all_copies() -> None:
    require("pynn-nest")
    graph = branched_graph(1)
    network = strop.build(graph, "pynn-nest", copies=2)
    weights = network.weights()
    assert list(weights) == [(p.source, p.target) for p in graph.projections]
    network.set_weights({("a", "b"): -weights["a", "b"]})
    for pair in (("a", "b"), ("a@1", "b@1")):
        found = [weight for _, _, weight in network.projections[pair].get("weight", format="list")]
        np.testing.assert_array_equal(np.sort(found), np.sort(-weights["a", "b"]))
    with pytest.raises(BackendError, match="a@1 -> b@1 cannot be set"):
        network.set_weights({("a@1", "b@1"): weights["a", "b"]})
    network.projections["a@1", "b@1"].set(weight=0.25)
    with pytest.raises(BackendError, match="weights of a -> b differ between the copies"):
        network.weights()


def test_a_verification_holds_with_copies_and_fails_where_two_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pynn-nest")
    graph = branched_graph(1)
    frames = np.random.default_rng(1).random((23, *graph.inputs[0].shape))
    options = {"pynn-nest": {"copies": 3}}
    assert strop.verify(graph, frames, backends=["pynn-nest"], options=options).passed
    network = import_module("strop_backends.pynn.network")

    def swapped(values: Any, copies: int) -> list[Any]:
        parts = deal(values, copies)
        return parts if len(parts) < 2 else [parts[1], parts[0], *parts[2:]]

    class Mixed(network.PyNNNetwork):
        def answers(self, *arguments: Any) -> Any:
            monkeypatch.setattr(network, "deal", swapped)
            try:
                return super().answers(*arguments)
            finally:
                monkeypatch.setattr(network, "deal", deal)

    monkeypatch.setattr(import_module("strop_backends.pynn.run"), "PyNNNetwork", Mixed)
    report = strop.verify(graph, frames, backends=["pynn-nest"], options=options)
    assert not report.passed
    assert report.to_dict()["backends"]["pynn-nest"]["faults"] > 0


def test_a_board_is_filled_on_spinnaker_alone() -> None:
    require("pynn-nest")
    with pytest.raises(BackendError, match='copies="fill" fills a board of SpiNNaker; give a number'):
        strop.simulate(branched_graph(1), np.zeros((1, 7)), "pynn-nest", copies="fill")
    for copies in (0, 2.0):
        with pytest.raises(BackendError, match="pynn-nest: copies must be a whole number"):
            strop.build(branched_graph(1), "pynn-nest", copies=copies)
