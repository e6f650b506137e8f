"""Mapping with the real sPyNNaker, on a board that is not there. Runs where sPyNNaker is installed."""

from __future__ import annotations

from importlib import import_module

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
def _spynnaker() -> None:
    require("pynn-spinnaker")


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
