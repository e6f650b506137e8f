"""What a user's own Brian2 script does around a network of strop's: builds it, watches it, compares its spikes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import brian2
import numpy as np
import pytest
from graphs import frames_for, skip_network

import strop
from strop.graph import Graph
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop_backends.brian2.network import SpikingNetwork
from strop_backends.brian2.preferences import preferring

GRAPH = skip_network(np.random.default_rng(1))
FRAMES = frames_for(GRAPH, np.random.default_rng(2), 20)


@pytest.fixture(autouse=True)
def compile_nothing() -> Iterator[None]:
    """Compiling takes longer than all of this."""
    with preferring({"codegen.target": "numpy"}):
        yield


def built(graph: Graph = GRAPH, **options: Any) -> SpikingNetwork:
    network: SpikingNetwork = strop.build(graph, "brian2", target="numpy", **options)
    return network


def watched(network: SpikingNetwork) -> Any:
    monitor = brian2.SpikeMonitor(network.units, codeobj_class=network.code)
    network.add(monitor)
    return monitor


def spikes_of(graph: Graph, frames: Any) -> dict[str, Any]:
    return evaluate(graph, encode(graph, as_frames(graph, frames)))


def assert_answered(network: SpikingNetwork, monitor: Any, frames: Any, start: int, graph: Graph | None = None) -> None:
    """Compare what a monitor saw of frames that entered from step `start` on with what was to be seen."""
    wanted = spikes_of(graph or network.graph, frames)
    steps = np.rint(np.asarray(monitor.t) / network.step).astype(int)
    assert sum(int(values.sum()) for values in wanted.values()) > 20
    for name, values in wanted.items():
        span = network.spans[name]
        first = start + network.graph.depth(name)
        seen = np.zeros((len(values), span.stop - span.start), dtype=bool)
        unit = np.asarray(monitor.i)
        own = (unit >= span.start) & (unit < span.stop) & (steps >= first) & (steps < first + len(values))
        seen[steps[own] - first, unit[own] - span.start] = True
        np.testing.assert_array_equal(seen, values.reshape(seen.shape), err_msg=name)


def assert_restored(network: SpikingNetwork, monitor: Any, frames: Any, steps: int) -> None:
    """Store a network while frames are on their way through it; it answers them, and again when it is restored."""
    network.present(frames)
    network.run(steps * network.step * brian2.second)
    network.store()
    for _ in range(2):
        network.run(network.duration())
        assert_answered(network, monitor, frames, 0)
        network.restore()
