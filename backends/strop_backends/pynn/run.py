"""Streaming frames through a PyNN simulator and reading every spike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.backend import Runner
from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.reference import host_spikes
from strop_backends.pynn.network import PyNNNetwork


class PyNNRunner(Runner):
    """A network that was built once and streams chunk after chunk, the clock running on.

    PyNN keeps one network per process and simulator: `setup()` drops the one before. A runner that has lost
    its network to another builds it again.
    """

    def __init__(self, graph: Graph, module: str, **options: Any) -> None:
        self.graph, self.module, self.options = graph, module, options
        self.network = self._build()

    def _build(self) -> PyNNNetwork:
        network = PyNNNetwork(self.graph, self.module, **self.options)
        # What is played in needs no recording.
        network.dialect.record(
            {name: network.populations[name] for name in self.graph.population_names if name not in network.played}
        )
        return network

    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.backend.Runner`."""
        if not self.network.alive:
            self.network = self._build()
        network = self.network
        count = len(next(iter(signals.values())))
        network.dialect.rewind()
        end = network.play(signals)
        try:
            network.dialect.run_until(end)
        except Exception as error:
            # What it left is of no use: the next chunk starts on a new network.
            network.kernel_mark = None
            if isinstance(error, StropError):
                raise
            raise BackendError(
                f"{network.dialect.name} stopped in the middle of {count} frames: {type(error).__name__}: {error}"
            ) from error
        found = network.answers(network.dialect.take(), count)
        found.update(host_spikes(self.graph, signals))
        return {name: found[name] for name in self.graph.population_names}

    def close(self) -> None:
        """Let PyNN tidy up."""
        if self.network.alive:
            self.network.sim.end()
