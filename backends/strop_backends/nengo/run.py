"""`NengoRunner`: streams frames through Nengo's reference simulator and reads every spike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nengo
import numpy as np
import numpy.typing as npt
from nengo.builder import Model
from nengo.cache import NoDecoderCache

from strop.graph import Graph
from strop.running.backend import Pair, Runner
from strop_backends.nengo.network import SpikingNetwork
from strop_backends.nengo.pruning import prune


class NengoRunner(Runner):
    """A simulator that was built once and streams chunk after chunk, its clock running on.

    Spikes are read from the neurons' output signals after each step. A `nengo.Probe` on each population would
    say the same, but costs a third of the time of a small network (nengo 4.1.0 looks up its parameters in
    every step).

    Parameters
    ----------
    graph : Graph
    dt : float
        Length of a time step in seconds; it only sets the scale of Nengo's time.
    optimize : bool
        Let Nengo merge operators.
    adjustable : bool
        Give every synapse a weight that can be changed.
    """

    def __init__(self, graph: Graph, dt: float = 1e-3, optimize: bool = False, adjustable: bool = False) -> None:
        self.graph = graph
        # Not part of a network that the user is defining.
        with nengo.Network(add_to_container=False):
            self.network = SpikingNetwork(graph, adjustable=adjustable)
        # The optimiser copies weights into merged matrices, and gains nothing where a layer waits for the one
        # before.
        # There are no decoders here, and the file in which Nengo keeps those that it found lets one process in at a
        # time (nengo 4.1.0, utils/lock.py).
        model = Model(dt=float(dt), label=graph.name, decoder_cache=NoDecoderCache())
        # Nengo draws a seed for the outermost network, and then takes the one that this has (builder/network.py).
        state = np.random.get_state()  # noqa: NPY002
        model.build(self.network)
        np.random.set_state(state)  # noqa: NPY002
        prune(model, self.network)
        # With a seed, for else Nengo takes one from NumPy's global generator.
        seed = self.network.seed + 1
        self.simulator = nengo.Simulator(None, seed=seed, model=model, progress_bar=False, optimize=optimize)
        signals = self.simulator.signals
        self._outputs = {
            name: signals[model.sig[ensemble.neurons]["out"]] for name, ensemble in self.network.populations.items()
        }

    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`."""
        simulator, count = self.simulator, len(next(iter(signals.values())))
        # Drop frames left from an interrupted run.
        self.network.clear()
        self.network.play(signals, simulator.n_steps)
        rasters = {name: np.zeros((count, output.size), dtype=np.bool_) for name, output in self._outputs.items()}
        pairs = [(rasters[name], output) for name, output in self._outputs.items()]
        step = simulator.step
        for n in range(count):
            step()
            for raster, output in pairs:
                raster[n] = output
        return {name: raster.reshape(count, *self.graph.population(name).shape) for name, raster in rasters.items()}

    def reset(self) -> None:
        """Go back to step 0; weights that were changed stay."""
        weights = self.weights() if self.network.adjustable else {}
        self.simulator.reset()
        if weights:
            self.set_weights(weights)

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Return the weights that the simulator has now; see `strop.running.backend.Runner`."""
        return self.network.weights(self.simulator)

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights in place; see `strop.running.backend.Runner`."""
        self.network.set_weights(self.simulator, weights)

    def close(self) -> None:
        """Close the simulator."""
        self.simulator.close()
