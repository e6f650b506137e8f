"""`PyNNRunner`: streams frames through a PyNN simulator and reads every spike, chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.backend import Pair, Runner
from strop.running.oracle import host_spikes
from strop.running.own_process import ProcessRunner
from strop_backends.pynn.common.dialect import SimulatorInUseError
from strop_backends.pynn.common.processes import launched
from strop_backends.pynn.network import PyNNNetwork


class PyNNRunner(Runner):
    """A network that was built once and streams chunk after chunk, the clock running on.

    PyNN keeps one network per process and simulator: `setup()` drops the one before. A runner whose network has been
    dropped builds it again. Where the simulator holds a network of the user's, that one stays, and the runner builds
    its own in another process.
    """

    def __init__(self, graph: Graph, module: str, name: str, **options: Any) -> None:
        self.graph, self.module, self.name, self.options = graph, module, name, options
        self._changed: dict[Pair, npt.NDArray[np.float64]] = {}
        self._remote: ProcessRunner | None = None
        self._network: PyNNNetwork | None = None
        self._refuse_processes(launched())
        self._build()

    @property
    def network(self) -> PyNNNetwork:
        """The network in this process."""
        if self._network is None:
            raise BackendError(f"{self.name}: this network is in a process of its own, or has been closed")
        return self._network

    def _refuse_processes(self, count: int) -> None:
        """Frames are streamed, read and compared by one process."""
        if count > 1:
            raise BackendError(
                f"{self.name}: mpirun started {count} processes; verify, predict and simulate run in one. A network "
                "over processes: strop export --target pynn, then mpirun -n N python run.py neuron in that folder; or "
                "strop.build in a script of your own. (STROP_MPI=0: each rank runs a whole network, by itself)"
            )

    def _build(self) -> None:
        try:
            network = PyNNNetwork(self.graph, self.module, disposable=True, **self.options)
        except SimulatorInUseError:
            self._network, self._remote = None, ProcessRunner(self.name)
            try:
                self._remote.prepare(self.graph, self.options)
            except BaseException:
                self.close()
                raise
            if self._changed:
                self._remote.set_weights(self._changed)
            return
        self._refuse_processes(network.processes.size)
        # Input spikes need no recording.
        network.dialect.record(network.answering)
        if self._changed:
            network.set_weights(self._changed)
        network.dialect.claim(disposable=True)
        self._network = network

    def _host(self) -> PyNNNetwork | ProcessRunner:
        """Return the network of this or the other process, built again if the simulator has dropped it."""
        if self._remote is None and (self._network is None or not self._network.alive):
            dropped = self._network
            self._build()
            if dropped is not None:
                dropped.dialect.discard(dropped.populations.values())
        return self._remote or self.network

    def run(self, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`."""
        network = self._host()
        if isinstance(network, ProcessRunner):
            return network.run(signals)
        count = len(next(iter(signals.values())))
        network.dialect.rewind()
        end = network.play(signals)
        try:
            network.dialect.run_until(end)
        except Exception as error:
            # The network is in an undefined state: the next chunk starts on a new one.
            network.kernel_mark = None
            if isinstance(error, StropError):
                raise
            raise BackendError(
                f"{network.dialect.name} stopped in the middle of {count} frames: {type(error).__name__}: {error}"
            ) from error
        found = network.answers(network.dialect.take(), count)
        found.update(host_spikes(self.graph, signals))
        return {name: found[name] for name in self.graph.population_names}

    def reset(self) -> None:
        """Set PyNN's time back to 0; weights stay as they are."""
        self._host().reset()

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Read the simulator's weights; see `strop.running.backend.Runner`."""
        return self._host().weights()

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Write weights into the simulator; see `strop.running.backend.Runner`."""
        self._host().set_weights(weights)
        self._changed.update({pair: np.array(values, dtype=np.float64) for pair, values in weights.items()})

    def close(self) -> None:
        """Release the network, and restore the simulator's state of before."""
        if self._remote is not None:
            self._remote.close()
        elif self._network is not None:
            network, dialect = self._network, self._network.dialect
            # Only if it is still as this runner left it: a script may have built into it since.
            if network.alive and dialect.in_use(disposable=True) is not None:
                dialect.sim.end()
            else:
                network.close()
                dialect.discard(network.populations.values())
        self._remote = self._network = None
