"""`Brian2Runner`: streams frames through Brian2 and reads every spike."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import brian2
import numpy as np
import numpy.typing as npt
from brian2.codegen.runtime.numpy_rt import NumpyCodeObject

from strop.errors import BackendError
from strop.graph import Graph
from strop.running.backend import Pair, Runner
from strop.running.collection import quick_collection
from strop_backends.brian2.drive import RECORD, SLOT
from strop_backends.brian2.network import SpikingNetwork

logger = logging.getLogger("strop.brian2")


class Brian2Runner(Runner):
    """A network that was built once and streams chunk after chunk, the clock running on.

    Spikes are read from the group's spike space at the end of each step: a network operation that copies a few
    indices costs less than a SpikeMonitor, and needs no code object of its own.

    Attributes
    ----------
    network : SpikingNetwork
    stepping_seconds : float
        How long Brian2's own run took in the last chunk.
    """

    def __init__(self, graph: Graph, **options: Any) -> None:
        self.graph = graph
        # Equal names mean equal code, which is compiled once.
        self.network = SpikingNetwork(graph, **{"prefix": "", **options})
        asked = "numpy" in (options.get("target"), str(brian2.prefs.codegen.target))
        if self.network.code is NumpyCodeObject and not asked:
            logger.warning("brian2 runs on NumPy, several times slower: no C++ compiler was found")
        self.stepping_seconds = 0.0
        self._seen: list[npt.NDArray[np.int32]] = []
        space = self.network.units.variables["_spikespace"].get_value()

        def record() -> None:
            # The last entry counts the spikes, those before it are the neurons that fired.
            self._seen.append(space[: space[-1]].copy())

        self.network.add(
            brian2.NetworkOperation(
                record, clock=self.network.strop_clock, when=SLOT, order=RECORD, name="strop_spike_recorder"
            )
        )
        # A run of no length compiles everything now, so that the first chunk is as fast as the others.
        self.network.run(0 * brian2.second, namespace={})

    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`."""
        count = len(next(iter(signals.values())))
        steps = count + self.graph.total_depth
        self._seen.clear()
        # Drop frames left from an interrupted run.
        self.network.clear()
        self.network.play(signals, self.network.next_step)
        # The sum of many durations drifts; the number of steps does not.
        self.network.t_ = self.network.next_step * self.network.step
        begin = time.perf_counter()
        # `Network.run` of brian2 2.9.0 and 2.10.1 begins with a full `gc.collect()` (core/network.py; 2.11.0 lets the
        # preference `logging.warn_for_unused_objects` decide).
        with quick_collection():
            self.network.run(steps * self.network.step * brian2.second, namespace={})
        self.stepping_seconds = time.perf_counter() - begin
        if len(self._seen) != steps:
            raise BackendError(f"brian2: the run was stopped from outside after {len(self._seen)} of {steps} steps")
        raster = np.zeros((steps, len(self.network.units)), dtype=np.bool_)
        raster[np.repeat(np.arange(steps), [len(spikes) for spikes in self._seen]), np.concatenate(self._seen)] = True
        answers = {}
        for name in self.graph.population_names:
            span, first = self.network.spans[name], self.graph.depth(name)
            part = raster[first : first + count, span.start : span.stop]
            answers[name] = part.reshape(count, *self.graph.population(name).shape)
        return answers

    def reset(self) -> None:
        """Go back to step 0. Spikes that are still on their way reach no frame: waves do not meet."""
        self.network.clear()
        self.network.t_ = 0.0
        self.network.strop_clock.set_interval(0 * brian2.second, 0 * brian2.second)

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Return the weights that Brian2 has now; see `strop.running.backend.Runner`."""
        return self.network.weights()

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights in place; see `strop.running.backend.Runner`."""
        self.network.set_weights(weights)
