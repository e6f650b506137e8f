"""Events, arithmetic and energy of a graph, held against counting by hand and synapse by synapse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import frames_for, image_network, skip_network
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import graphs, random_frames

import strop
from strop.costs.activity import Activity, count_activity
from strop.costs.energy import FLOAT32_ADD, FLOAT32_MAC, NEUROMORPHIC, as_energy, float32_energy
from strop.costs.inspection import inspect_graph
from strop.costs.macs import graph_arithmetic, host_arithmetic, operator_arithmetic
from strop.errors import DataError
from strop.graph import Convolution, Dense, Graph, Input, Population, Readout, Scale, Select, Sparse, SumPool
from strop.quantization.quantize import quantize
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate


def spikes_and_inputs(graph: Graph, frames: object) -> dict[str, np.ndarray]:
    signals = encode(graph, as_frames(graph, frames))  # type: ignore[arg-type]
    sent = {node.name: signals[node.name] for node in graph.inputs if node.spiking}
    return {**sent, **evaluate(graph, signals)}


@settings(deadline=None, max_examples=60)
@given(graphs, st.integers(0, 2**32 - 1))
def test_costs_of_random_graphs_equal_those_counted_from_single_synapses(graph: Graph, seed: int) -> None:
    frames = random_frames(graph, 5, seed)
    sent = spikes_and_inputs(graph, frames)
    found = inspect_graph(graph, frames=frames)
    received = dict.fromkeys(graph.population_names, 0)
    caused = dict.fromkeys(graph.depths, 0)
    ends = {name: np.zeros(graph.population(name).size, int) for name in graph.population_names}
    starts = {name: np.zeros(graph.population(name).size, int) for name in graph.population_names}
    for p in graph.projections:
        pre, post, _ = p.operator.to_coo()
        np.add.at(ends[p.target], post, 1)
        if p.source in starts:
            np.add.at(starts[p.source], pre, 1)
        # What the host evaluates receives no events.
        if p.source in sent and p.target not in graph.host_populations:
            events = int(sent[p.source].reshape(5, -1)[:, pre].sum())
            received[p.target] += events
            caused[p.source] += events
    assert found.activity is not None
    for row, active in zip(found.populations, found.activity["populations"], strict=True):
        name = row.name
        assert (row.fan_in, row.fan_out) == (ends[name].max(), starts[name].max())
        assert (row.mean_fan_in, row.mean_fan_out) == pytest.approx((ends[name].mean(), starts[name].mean()))
        assert row.synapses == ends[name].sum()
        assert active["spikes_per_frame"] == sent[name].sum() / 5
        assert active["firing_rate"] == pytest.approx(sent[name].mean())
        assert active["synaptic_events_per_frame"] == received[name] / 5
        assert active["synaptic_events_sent_per_frame"] == caused[name] / 5
    for active in found.activity["inputs"]:
        assert active["synaptic_events_sent_per_frame"] == caused[active["name"]] / 5
    assert found.activity["synaptic_events_per_frame"] == sum(received.values()) / 5
    assert found.totals["counts_exact"]
    report = strop.verify(graph, frames, backends=("reference",))
    assert report.graph["synaptic_events_per_frame"] == found.activity["synaptic_events_per_frame"]
    json.dumps(found.to_dict())
    assert all(len(line) <= 110 for line in str(found).splitlines())


def test_events_are_spikes_times_their_synapses() -> None:
    weight = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    graph = Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("a", (3,), 0.5, 0.0)],
        [("x", "a", Dense(weight))],
        [Readout("out", "key", ("a",), (Dense(np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])),))],
        ["out"],
    )
    activity = count_activity(graph, np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], bool))
    np.testing.assert_array_equal(activity.spikes["x"], [2, 2, 2])
    np.testing.assert_array_equal(activity.spikes["a"], [3, 2, 3])
    # x: 2 x 2 synapses, 2 x 1, 2 x 3, over four frames; the read-out adds 2 weights of unit 0 and one of unit 1.
    assert activity.events_per_frame() == activity.events_at("a") == activity.events_from("x") == 12 / 4
    assert activity.events_from("a") == 0.0
    assert activity.readout_events_per_frame() == (3 * 2 + 2 * 1) / 4
    assert activity.spikes_per_frame("a") == 2.0
    assert activity.firing_rate("a") == pytest.approx(2 / 3)


def test_counts_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = image_network(np.random.default_rng(1))
    frames = frames_for(graph, np.random.default_rng(2), 23)
    whole = count_activity(graph, frames)
    monkeypatch.setattr("strop.costs.activity.chunk_size", lambda graph: 4)
    cut = count_activity(graph, frames)
    assert whole.frames == cut.frames == 23
    assert whole.events_per_frame() == cut.events_per_frame() > 0
    for name, counts in whole.spikes.items():
        np.testing.assert_array_equal(cut.spikes[name], counts)


def test_nothing_was_counted_yet() -> None:
    activity = Activity(skip_network(np.random.default_rng(0)))
    assert (activity.frames, activity.events_per_frame(), activity.spikes_per_frame("a")) == (0, 0.0, 0.0)


def test_dense_arithmetic_of_operators() -> None:
    convolution = Convolution((6, 6, 4), np.ones((3, 2, 2, 8)), (2, 1), (1, 2), ((1, 1), (0, 0)), 2)
    assert convolution.shape_out == (3, 4, 8)
    assert operator_arithmetic(convolution) == (3 * 4 * (3 * 2 * 2) * 8, 0)
    up = Convolution((3, 2), np.ones((4, 2, 5)), (2,), (1,), ((0, 0),), 1, True)
    assert operator_arithmetic(up) == (3 * (4 * 2 * 5), 0)
    assert operator_arithmetic(Dense(np.zeros((7, 5)), (3,))) == (3 * 7 * 5, 0)
    assert operator_arithmetic(SumPool((6, 6, 4), (2, 3), (2, 3), ((0, 0), (0, 0)))) == (0, 3 * 2 * 4 * (6 - 1))
    assert operator_arithmetic(Scale((3, 4), np.array(2.0))) == (12, 0)
    assert operator_arithmetic(Select((3,), np.array([0, 2]))) == (0, 0)
    assert operator_arithmetic(Sparse((3,), (2,), np.array([0, 1]), np.array([1, 1]), np.array([1.0, 2.0]))) == (2, 0)


def test_what_the_host_does_depends_on_the_encoding() -> None:
    rng = np.random.default_rng(0)
    for encoding, macs, additions in (("host", 6 * 9, 18), ("current", 6 * 9, 0), ("binary", 0, 0), ("bitplane", 0, 0)):
        graph = skip_network(rng, encoding)
        found = host_arithmetic(graph)
        assert sum(part.macs for part in found) == macs
        assert sum(part.additions for part in found) == additions
    # Merged projections are added up: 9 x 8 + 7 x 8 products, 8 sums of two, 8 biases, 8 comparisons.
    by_name = {part.name: part for part in graph_arithmetic(skip_network(rng))}
    assert (by_name["c"].macs, by_name["c"].additions) == (9 * 8 + 7 * 8, 3 * 8)
    assert (by_name["out"].macs, by_name["out"].kind) == (15, "Readout")


def test_energy_is_events_times_the_published_figure() -> None:
    graph = image_network(np.random.default_rng(3), "host")
    found = inspect_graph(graph, frames=frames_for(graph, np.random.default_rng(4)))
    assert found.activity is not None
    assert found.energy is not None
    events = found.activity["synaptic_events_per_frame"]
    assert events > 0
    assert [entry["name"] for entry in found.energy["spiking"]] == ["SpiNNaker", "TrueNorth", "Loihi", "ODIN"]
    for entry, picojoules in zip(found.energy["spiking"], (43_000.0, 26.0, 23.6, 12.7), strict=True):
        assert entry["picojoules_per_frame"] == pytest.approx(picojoules * events)
        assert entry["doi"].startswith("10.")
        assert entry["doi"] in str(found).replace("\n", "")
    dense = found.arithmetic["dense"]
    expected = 4.6 * dense["macs"] + 0.9 * dense["additions"]
    assert found.energy["dense"]["picojoules_per_frame"] == pytest.approx(expected)
    assert dense["counted"] == "graph"
    assert 0 < found.energy["host"]["picojoules_per_frame"] < expected
    text = " ".join(str(found).split())
    assert "no measurement" in text
    assert "static power" in text
    assert "conv (on the host)" in text
    # The graph ends in spikes, so all that is left to the host is the first layer.
    left = dense["macs"] - found.arithmetic["host"]["macs"]
    assert f"{events:,.1f} synaptic events in place of {left:,} multiply-accumulates" in text


def test_every_figure_has_its_source() -> None:
    for figure in (*NEUROMORPHIC, FLOAT32_MAC, FLOAT32_ADD):
        assert figure.picojoules > 0
        assert figure.doi.startswith("10.")
        assert figure.source
        assert figure.process.split()[0].isdigit()
        assert len(figure.counts) > 20
    assert float32_energy(10, 100) == pytest.approx(46 + 90)


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (0.0, "0 pJ"),
        (4.6, "4.6 pJ"),
        (43_000.0, "43 nJ"),
        (1_271_946.0, "1.27 µJ"),
        (2.1e9, "2.1 mJ"),
        (5e15, "5,000,000 mJ"),
    ],
)
def test_energies_are_written_with_a_unit(picojoules: float, text: str) -> None:
    assert as_energy(picojoules) == text


def test_without_frames_nothing_is_said_of_events() -> None:
    found = inspect_graph(image_network(np.random.default_rng(3)))
    assert found.activity is None
    assert found.energy is None
    assert found.arithmetic["dense"]["macs"] > 0
    assert "per frame, mean of" not in str(found)
    assert f"{found.arithmetic['dense']['macs']:,} multiply-accumulates" in str(found)


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"the network takes \(n, 7, 6, 2\)"):
        strop.inspect(image_network(np.random.default_rng(3)), np.zeros((2, 5), np.float32))


def test_a_target_says_whether_spikes_are_proved_and_what_quantising_changes() -> None:
    rng = np.random.default_rng(0)
    graph = Graph.from_nodes(
        [Input("x", (8,), "binary")],
        [Population("a", (12,), 0.5, rng.normal(size=12))],
        [("x", "a", Dense(rng.normal(size=(8, 12))))],
        (),
        ["a"],
    )
    frames = rng.random((20, 8)).astype(np.float32)
    found = inspect_graph(graph, "int4", frames).target
    assert found is not None
    assert found["quantization"]["proved"] is False
    assert found["quantization"]["reason"].startswith("a, neuron 0: ")
    assert found["quantization"]["weight_bits"] == 3
    assert found["quantization"]["compared"] == 240
    quantised = quantize(graph, "int4", frames=frames)
    proved = inspect_graph(quantised, "int4").target
    assert proved is not None
    assert proved["quantization"] == {"proved": True}
    reference = inspect_graph(quantised, "reference").target
    assert reference is not None
    assert reference["quantization"] == {"proved": True}
    assert reference["version"].startswith("numpy")
