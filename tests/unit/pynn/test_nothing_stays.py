"""A simulation leaves nothing behind: no population, cell, view or section more after many of them than after a few."""

from __future__ import annotations

import gc
import sys
from collections import Counter

import numpy as np
import pytest
from pynn_graphs import branched_graph, require
from pynn_scripts import quietly  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.running.encode import as_frames, encode
from strop.running.registry import get_backend

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


def objects() -> Counter[str]:
    gc.collect()
    return Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.get_objects())


@pytest.mark.parametrize("backend", ["pynn-nest", "pynn-neuron", "pynn-brian2"])
@pytest.mark.parametrize("runners", [0, 2])
def test_python_frees_all_that_simulations_made(backend: str, runners: int) -> None:
    """Each simulation builds its network; or two runners in turn build theirs, which the other has dropped."""
    require(backend)
    graph = branched_graph(2)
    frames = np.random.default_rng(0).random((20, *graph.inputs[0].shape)).astype(np.float32)
    signals = encode(graph, as_frames(graph, frames))
    kept = [get_backend(backend).prepare(graph) for _ in range(runners)]

    def some(count: int) -> Counter[str]:
        for _ in range(count):
            for runner in kept:
                runner.run(signals)
            if not kept:
                strop.simulate(graph, frames, backend)
        return objects()

    some(3)  # modules are imported, caches filled
    few, many = some(3), some(6)
    # Not what pytest keeps, such as records of a log.
    made = [kind for kind in many if kind.startswith(("pyNN.", "neo.", "nest.", "strop", "builtins.memoryview"))]
    grown = {kind: many[kind] - few[kind] for kind in made if many[kind] - few[kind] >= 6}
    assert not grown
    for runner in kept:
        runner.close()
    if backend == "pynn-neuron":
        assert sum(1 for _ in sys.modules["neuron"].h.allsec()) == 1
