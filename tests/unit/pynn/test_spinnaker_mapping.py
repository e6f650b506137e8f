"""Mapping with the real sPyNNaker, on a board that is not there. Runs where sPyNNaker is installed."""

from __future__ import annotations

import numpy as np
import pytest
from pynn_graphs import branched_graph, require

from strop_backends.pynn.fixed_point import Scaling, fixed_point_report

pytestmark = [
    # sPyNNaker 7.4 leaves its database and log files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _spynnaker() -> None:
    require("pynn-spinnaker")


def test_a_mapping_reports_cores_load_and_shifts() -> None:
    from strop_backends.pynn.spinnaker import inspect_mapping

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
    from strop_backends.pynn.spinnaker import inspect_mapping

    graph = branched_graph(3)
    scaling = {"a": Scaling(3, 2), "b": Scaling(0, 1), "c": Scaling(5, 5)}
    mapping = inspect_mapping(graph, scaling=scaling, neurons_per_core=4)
    assert mapping.scaling == scaling
    for p in mapping.populations[1:]:
        assert p.cores == -(-p.units // 4)
