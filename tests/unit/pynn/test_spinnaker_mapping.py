"""Mapping with the real sPyNNaker, on a board that is not there. Runs where sPyNNaker is installed."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from pynn_graphs import branched_graph, require

import strop
from strop.costs.inspection import inspect_graph
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population
from strop.running.registry import get_backend
from strop_backends.pynn import PyNNSpinnakerBackend
from strop_backends.pynn.spinnaker.fixed_point import Scaling, exact_scaling, fixed_point_report, measured_scaling

pytestmark = [
    # sPyNNaker 7.4 leaves its database and log files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _spynnaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("pynn-spinnaker")
    # It writes its reports to the folder that it is in.
    monkeypatch.chdir(tmp_path)


def test_a_mapping_reports_cores_load_and_shifts() -> None:
    from strop_backends.pynn.spinnaker.mapping import inspect_mapping

    graph = branched_graph(3)
    frames = np.random.default_rng(3).random((20, *graph.inputs[0].shape))
    mapping = inspect_mapping(graph, frames)
    assert (mapping.boards, mapping.chips, mapping.cores) == (1, 1, 4)
    assert mapping.sdram == sum(p.sdram for p in mapping.populations) > 1000
    assert [p.name for p in mapping.populations] == ["x", "a", "b", "c"]
    c = mapping.populations[-1]
    assert c.fan_in == sum(p.operator.synapse_count for p in graph.incoming("c"))
    assert c.events_per_tick is not None
    assert c.spikes_per_tick is not None
    assert 0 < c.spikes_per_tick <= c.events_per_tick <= c.fan_in
    report = fixed_point_report(graph, frames, mapping.scaling)
    assert {layer.name for layer in report.layers} == {"a", "b", "c"}
    assert mapping.to_dict()["populations"][0]["shifts"] is None


def test_a_scaling_reaches_the_ring_buffers_and_neurons_spread() -> None:
    from strop_backends.pynn.spinnaker.mapping import inspect_mapping

    graph = branched_graph(3)
    scaling = {"a": Scaling(3, 2), "b": Scaling(0, 1), "c": Scaling(5, 5)}
    mapping = inspect_mapping(graph, scaling=scaling, neurons_per_core=4)
    assert mapping.scaling == scaling
    for p in mapping.populations[1:]:
        assert p.cores == -(-p.units // 4)


def test_two_copies_take_twice_the_cores_and_deal_the_packets_out() -> None:
    graph = branched_graph(3)
    frames = np.random.default_rng(3).random((20, *graph.inputs[0].shape))
    engine = get_backend("pynn-spinnaker")
    assert isinstance(engine, PyNNSpinnakerBackend)
    # Cores of two neurons, so that the network needs more than a chip.
    one, two = (engine.map(graph, frames, neurons_per_core=2, copies=copies) for copies in (1, 2))
    assert two.copies == 2
    assert (two.cores, two.sdram) == (2 * one.cores, 2 * one.sdram)
    assert two.populations == one.populations
    assert two.scaling == one.scaling
    assert two.router_entries > 0
    assert one.tick_us is not None
    assert one.tick_us >= max(p.cycles_per_tick or 0.0 for p in one.populations) / 200 > 0
    assert one.tick_limit.startswith(("a core of ", "a link"))
    for tick in (1000, 100):
        a, b = one.throughput(tick), two.throughput(tick)
        assert b["frames_per_second"] == 2 * a["frames_per_second"] == 2e6 / tick / a["time_scale_factor"]


def test_packets_of_a_link_are_counted_where_a_network_is_on_two_chips() -> None:
    # Sixteen cores of one neuron and one of sources: two chips. All but the sources of a core stay on theirs.
    graph = Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("a", (24,), 0.5, 0.0)],
        [("x", "a", Dense(np.ones((3, 24))))],
        outputs=["a"],
    )
    engine = get_backend("pynn-spinnaker")
    assert isinstance(engine, PyNNSpinnakerBackend)
    frames = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    mapping = engine.map(graph, frames, neurons_per_core=1)
    assert mapping.chips == 2
    assert mapping.link_packets_per_tick == 3
    (a,) = (p for p in mapping.populations if p.name == "a")
    # Three packets, each with a row of one synapse, and a neuron.
    assert (a.spikes_per_tick, a.events_per_tick) == (3, 3)
    assert a.cycles_per_tick == 3 * (100 + 350 + 30) + 220


def test_more_packets_than_can_wait_for_a_core_are_told_of() -> None:
    graph = Graph.from_nodes(
        [Input("x", (300,), "binary")],
        [Population("a", (2,), 0.5, 0.0)],
        [("x", "a", Dense(np.ones((300, 2))))],
        outputs=["a"],
    )
    engine = get_backend("pynn-spinnaker")
    assert isinstance(engine, PyNNSpinnakerBackend)
    frames = np.ones((2, 300))
    assert any("300 packets reach a core of 'a'" in warning for warning in engine.map(graph, frames).warnings)
    frames[:, 256:] = 0.0
    assert not any("packets" in warning for warning in engine.map(graph, frames).warnings)


def test_a_board_is_filled_until_its_cores_are_used_up() -> None:
    graph = branched_graph(3)
    frames = np.random.default_rng(3).random((5, *graph.inputs[0].shape))
    engine = get_backend("pynn-spinnaker")
    assert isinstance(engine, PyNNSpinnakerBackend)
    full = engine.map(graph, frames, board=3, copies="fill")
    free = full.board_cores - full.system_cores
    assert full.boards == 1
    assert full.copies == free // 4 > 10
    assert full.limit == f"cores: {free} of the board are free, a copy takes 4"
    # strop's own set-up finds the same number.
    network = strop.build(graph, "pynn-spinnaker", board=3, virtual=True, copies="fill")
    assert network.copies == full.copies
    network.sim.end()


def test_an_inspection_says_how_many_copies_a_board_holds_and_why_no_more() -> None:
    graph = branched_graph(3)
    frames = np.random.default_rng(3).random((5, *graph.inputs[0].shape))
    found = inspect_graph(graph, "spinnaker", frames, copies=2)
    assert found.target is not None
    assert found.target["mapping"]["copies"] == 2
    text = str(found)
    assert "copies 2, copies limited by -, board cores 808" in text.replace("\n", " ")
    assert "time scale factor ┃ frames per second" in text
    assert re.search(r"1,000 +│ +1 │ +2,000 │", text)
    assert "{" not in text


def test_filling_needs_a_set_up_of_strops_own() -> None:
    import pyNN.spiNNaker as sim

    from strop_backends.pynn.spinnaker.dialect import available_configuration

    with available_configuration():
        sim.setup(timestep=1.0, min_delay=1.0)
    with pytest.raises(BackendError, match='copies="fill" maps the network first'):
        strop.build(branched_graph(3), sim, copies="fill")
    sim.end()


def test_a_spread_wave_reaches_a_core_in_parts() -> None:
    graph = branched_graph(3)
    frames = np.random.default_rng(3).random((20, *graph.inputs[0].shape))
    engine = get_backend("pynn-spinnaker")
    assert isinstance(engine, PyNNSpinnakerBackend)
    scaling = measured_scaling(graph, frames)
    whole, spread = (engine.map(graph, frames, spread=ticks, scaling=scaling) for ticks in (1, 3))
    assert whole.scaling == spread.scaling == scaling
    for a, b in zip(whole.populations[1:], spread.populations[1:], strict=True):
        assert a.fan_in == b.fan_in
        assert a.spikes_per_tick is not None
        assert b.spikes_per_tick is not None
        assert a.spikes_per_tick / 3 <= b.spikes_per_tick < a.spikes_per_tick


def test_an_inspection_shows_the_mapping_and_what_would_differ() -> None:
    graph = branched_graph(3)
    frames = np.random.default_rng(3).random((20, *graph.inputs[0].shape))
    text = str(inspect_graph(graph, "spinnaker", frames))
    assert "boards 1, chips 1, cores 4" in text
    for choice in ("sPyNNaker's own", "measured on these frames", "measured, with factors"):
        assert f"fixed point: frames 20, scaling {choice}, different " in text
    assert "{" not in text


def test_a_spread_whose_delays_spynnaker_does_not_hold_is_refused() -> None:
    from strop_backends.pynn.spinnaker.dialect import delay_slots

    graph = branched_graph(3)
    engine = get_backend("pynn-spinnaker")
    assert isinstance(engine, PyNNSpinnakerBackend)
    slots = min(9 * delay_slots(graph.population("c").size), 9 * delay_slots(graph.population("b").size))
    with pytest.raises(BackendError, match=f"the longest delay that it holds there is {slots:,}"):
        # A spread of k needs delays of up to (d + 1) k - 1.
        engine.map(graph, spread=slots)


def test_spynnaker_itself_rounds_a_quantised_graph_to_its_whole_numbers() -> None:
    """Its own choice of shifts, its own weight scales, and the words that it would write to a core."""
    rng = np.random.default_rng(5)
    sizes = (12, 20, 15)
    graph = Graph.from_nodes(
        [Input("x", (sizes[0],), "binary")],
        [Population("a", (sizes[1],), 0.5, rng.normal(size=sizes[1])), Population("b", (sizes[2],), 0.1, 0.3)],
        [("x", "a", Dense(rng.normal(size=sizes[:2]))), ("a", "b", Dense(rng.normal(size=sizes[1:])))],
        (),
        ["b"],
    )
    quantised = strop.quantize(graph, "spinnaker")
    scaling = exact_scaling(quantised)
    assert scaling is not None
    network = strop.build(quantised, "pynn-spinnaker", virtual=True, board=3, scaling=scaling)
    try:
        dynamics = import_module(
            "spynnaker.pyNN.models.neuron.synapse_dynamics.synapse_dynamics_static"
        ).SynapseDynamicsStatic()
        for name in ("a", "b"):
            vertex = network.populations[name]._vertex
            shifts = vertex.get_ring_buffer_shifts()
            assert list(shifts) == [1, 1]
            pre, post, weight = quantised.incoming(name)[0].operator.to_coo()
            del pre
            scales = vertex.get_weight_scales(shifts)
            # As in spynnaker/pyNN/models/neuron/synapse_io.py: scaled in float64 or float32, then rounded to 16 bits.
            for sign, kept in enumerate((weight > 0, weight < 0)):
                numbers = np.abs(weight[kept]) * 2.0**14
                assert (numbers == np.rint(numbers)).all()
                connections = np.zeros(
                    int(kept.sum()),
                    [("target", "u4"), ("weight", "f8"), ("delay", "f8"), ("synapse_type", "u4")],
                )
                connections["weight"] = weight[kept] * scales[sign]
                connections["delay"], connections["synapse_type"], connections["target"] = 1, sign, post[kept]
                rows = np.zeros(len(connections), np.int64)
                words, _ = dynamics.get_static_synaptic_data(connections, rows, 1, 2, len(connections), 32)
                np.testing.assert_array_equal(np.sort(words[0] >> 16), np.sort(numbers.astype(np.uint32)))
    finally:
        network.sim.end()
