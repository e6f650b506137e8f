"""`RecordingDialect`: a dialect of a simulator whose spikes PyNN records, as their times."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from strop_backends.pynn.common.dialect import Dialect, Events, FloatArray


class RecordingDialect(Dialect):
    """A dialect that records with PyNN's `record("spikes")`."""

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        self._recorded: dict[str, Any] = {}

    def record(self, populations: Mapping[str, Any]) -> None:
        """Let PyNN record spikes."""
        for name, population in populations.items():
            population.record("spikes")
            self._recorded[name] = population

    @abstractmethod
    def spike_times(self, population: Any) -> Sequence[FloatArray]:
        """Return the times in ms recorded since the last call, one array for each neuron, and discard them."""

    def take(self) -> dict[str, Events]:
        """Return each spike's neuron and tick."""
        found = {}
        for name, population in self._recorded.items():
            times = self.spike_times(population)
            neurons = np.repeat(np.arange(len(times), dtype=np.int64), [len(part) for part in times])
            found[name] = (neurons, np.rint(np.concatenate(times) / self.dt).astype(np.int64))
        return found
