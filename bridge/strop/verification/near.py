"""Which frames need a second look: those in which some potential is so close to its threshold that float32 may matter.

A first glance takes the bound that holds for all frames of a chunk at once; the few neurons that are near by it are
then held against bounds of their own (`strop.graph.rounding.pairs`). What remains is judged layer by layer
(`strop.verification.judge`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from strop.graph import Graph
from strop.graph.rounding.pairs import Pairs, error_at
from strop.running.oracle import BoolArray, FloatArray, Signals
from strop.verification.bounds import RoundingBound

# Neurons of a population, over the frames of a chunk, that are looked at one by one.
_MOST_PAIRS = 20_000


class Near:
    """The frames of a chunk in which rounding may decide.

    Parameters
    ----------
    graph : Graph
    bound : RoundingBound
        Of float32.
    signals : mapping of input name to array, shape (n, *signal_shape)
    count : int
        Frames.
    """

    def __init__(self, graph: Graph, bound: RoundingBound, signals: Signals, count: int) -> None:
        self.graph, self.bound, self.signals, self.count = graph, bound, signals, count
        # No margin is smaller than -1: where a sum is exact, nothing is near.
        self._reach = {name: np.where(error > 0.0, error, -1.0) for name, error in bound.ceilings(signals).items()}
        # Potentials come in blocks of one size or another; new memory for each costs more than what is done with it.
        self._memory = np.empty(0)
        self._near = np.zeros(count, dtype=bool)
        # By population: frames, neurons (flat) and margins.
        self._found: dict[str, list[tuple[np.ndarray, np.ndarray, FloatArray]]] = {}

    def glance(self, name: str, rows: slice, potentials: FloatArray) -> None:
        """Take a population's potentials in some frames, as `strop.running.oracle.evaluate` shows them."""
        if self._memory.size < potentials.size:
            self._memory = np.empty(potentials.size)
        margin = self._memory[: potentials.size].reshape(potentials.shape)
        np.subtract(potentials, self.graph.population(name).threshold, out=margin)
        np.abs(margin, out=margin)
        near = (margin <= self._reach[name]).reshape(-1)
        if near.any():
            flat = np.flatnonzero(near)
            frames, neurons = np.divmod(flat, margin[0].size)
            frames += rows.start
            found = self._found.setdefault(name, [])
            if sum(len(earlier) for earlier, _, _ in found) + len(flat) > _MOST_PAIRS:
                # Sums that lie on their thresholds by construction: no bound of their own would clear them.
                self._near[frames] = True
            else:
                found.append((frames, neurons, margin.reshape(-1)[flat]))

    def frames(self, oracle: Mapping[str, BoolArray]) -> BoolArray:
        """Return which frames need a second look, shape `(n,)`, given the oracle's spikes of every population."""
        near = self._near.copy()
        signals = {**self.signals, **oracle}
        for name, found in self._found.items():
            if not found:
                continue
            rows, neurons, margin = (np.concatenate(parts) for parts in zip(*found, strict=True))
            pairs = Pairs(rows, neurons, self.graph.population(name).shape)
            error = error_at(self.bound.stages[name], pairs, signals)
            near[rows if error is None else rows[margin <= error]] = True
        return near
