"""Streaming frames through Nengo's reference simulator and reading every spike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np
import numpy.typing as npt

from strop.backend import Runner
from strop.errors import BackendError
from strop.graph import Graph
from strop_backends.nengo.network import SpikingNetwork


class NengoRunner(Runner):
    """A simulator that was built once and streams chunk after chunk, its clock running on.

    Spikes are read from the neurons' output signals after each step. A `nengo.Probe` on each population would
    say the same, but costs a third of the time of a small network (nengo 4.1.0 looks up its parameters in
    every step).

    Parameters
    ----------
    graph : Graph
    dt : float
        Length of a time step in seconds; it only sets the unit in which Nengo counts.
    """

    def __init__(self, graph: Graph, dt: float = 1e-3) -> None:
        if nengo.rc.float_dtype != np.float64:
            raise BackendError(
                f"nengo is configured for {np.dtype(nengo.rc.float_dtype).name}, which rounds weights; "
                "set bits = 64 in the section [precision] of its nengorc"
            )
        self.graph = graph
        self.network = SpikingNetwork(graph)
        # The optimiser copies weights into merged matrices, and gains nothing where a layer waits for the one
        # before.
        self.simulator = nengo.Simulator(self.network, dt=dt, progress_bar=False, optimize=False)
        signals, model = self.simulator.signals, self.simulator.model
        self._outputs = {
            name: signals[model.sig[ensemble.neurons]["out"]] for name, ensemble in self.network.populations.items()
        }

    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.backend.Runner`."""
        simulator, count = self.simulator, len(next(iter(signals.values())))
        self.network.play(signals, simulator.n_steps)
        rasters = {name: np.zeros((count, output.size), dtype=np.bool_) for name, output in self._outputs.items()}
        pairs = [(rasters[name], output) for name, output in self._outputs.items()]
        step = simulator.step
        for n in range(count):
            step()
            for raster, output in pairs:
                raster[n] = output
        return {name: raster.reshape(count, *self.graph.population(name).shape) for name, raster in rasters.items()}

    def close(self) -> None:
        """Close the simulator."""
        self.simulator.close()
