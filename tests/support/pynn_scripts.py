"""What a user's own PyNN script does around a network of strop's: the set-up, and the spikes that are to be seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pynn_graphs import branched_graph

from strop.graph import Graph
from strop.running.oracle import evaluate
from strop_backends.pynn.common.dialect import dialect_for
from strop_backends.pynn.network import PyNNNetwork

MODULES = {"pynn-nest": "pyNN.nest", "pynn-brian2": "pyNN.brian2", "pynn-neuron": "pyNN.neuron"}
GRAPH = branched_graph(3)
FRAMES = np.random.default_rng(3).random((12, *GRAPH.inputs[0].shape))


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """What PyNN says of NEST, and NEST of PyNN, is not the matter here."""
    from strop_backends.pynn.nest.warning_filter import quiet_nest

    with quiet_nest():
        warnings.filterwarnings("ignore", message="Full reset functionality is not available")
        yield


def set_up(name: str, timestep: float = 0.5, **more: Any) -> Any:
    """A user's `sim.setup`, as the guide has it."""
    sim = dialect_for(MODULES[name]).sim
    options = {"max_delay": 20 * timestep, "spike_precision": "on_grid"} if name == "pynn-nest" else {}
    sim.setup(**{"timestep": timestep, "min_delay": timestep, **options, **more})
    return sim


def wrong(network: PyNNNetwork, frames: Any, graph: Graph | None = None, **where: Any) -> int:
    """Count wrong spikes of the frames last presented."""
    expected = evaluate(graph or network.graph, {"x": np.asarray(frames) >= 0.5})
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    found = network.spikes(**where)
    assert set(found) == set(expected)
    return sum(int((found[population] != spikes).sum()) for population, spikes in expected.items())
