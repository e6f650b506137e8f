"""Running totals of one comparison: observed spikes (Keras's or a backend's) against the oracle's, chunk by chunk.

Frames in which every observed spike equals the oracle's, and every potential is far from its threshold, need no second
look; the others are judged layer by layer (`strop.verification.judge`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strop.errors import StropError
from strop.graph import Graph
from strop.running.oracle import BoolArray, Signals
from strop.verification.bounds import Bound
from strop.verification.judge import Judgement, judge
from strop.verification.outcome import LayerReport

# Values of the widest node that are judged at once: each needs a handful of float64 arrays.
_BLOCK_VALUES = 2_000_000


@dataclass(frozen=True)
class Found:
    """Result of a comparison for one chunk.

    Attributes
    ----------
    judged : list of (int array, Judgement)
        The rows of the chunk that were judged, in blocks.
    faulty, tied : bool array, shape (n,)
        Frames with a fault, and with a tie.
    """

    judged: list[tuple[npt.NDArray[np.int64], Judgement]]
    faulty: BoolArray
    tied: BoolArray


class Comparison:
    """Observed spikes against the oracle's, over all chunks.

    Parameters
    ----------
    graph : Graph
    name : str
        "keras" or the backend, for messages.
    bound : Bound

    Attributes
    ----------
    layers : dict of population name to LayerReport
        Totals of the observed populations, in the graph's order.
    frames : int
    frames_with_faults : int
    unproved : list of str
        Layers in which no fault could be planted, where some were (`strop.verification.selfcheck`).
    """

    def __init__(self, graph: Graph, name: str, bound: Bound) -> None:
        self.graph, self.name, self.bound = graph, name, bound
        self.layers: dict[str, LayerReport] = {}
        self.frames = self.frames_with_faults = 0
        self.unproved: list[str] = []

    def compare(
        self,
        observed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        near: BoolArray | None = None,
    ) -> Found:
        """Add a chunk to the totals.

        Parameters
        ----------
        observed, oracle : mapping of population name to bool array, shape (n, *shape)
        signals : mapping of input name to array, shape (n, *signal_shape)
        near : bool array, shape (n,), optional
            Frames in which some potential is so close to its threshold that rounding may matter.

        Raises
        ------
        StropError
            If a population's spikes are missing from one chunk to the next, or have another shape.
        """
        frames = len(next(iter(oracle.values())))
        self._check_names(observed)
        second_look = np.zeros(frames, dtype=bool) if near is None else near.copy()
        for name, layer in self.layers.items():
            if observed[name].shape != oracle[name].shape or observed[name].dtype != np.bool_:
                raise StropError(
                    f"{self.name} gave {observed[name].dtype} of shape {observed[name].shape} for the spikes of "
                    f"{name!r}, which are bool of shape {oracle[name].shape}"
                )
            layer.compared += observed[name].size
            layer.spikes += int(np.count_nonzero(observed[name]))
            second_look |= (observed[name] != oracle[name]).reshape(frames, -1).any(axis=1)
        found = Found([], np.zeros(frames, dtype=bool), np.zeros(frames, dtype=bool))
        for rows in self._blocks(np.flatnonzero(second_look)):
            some = {name: observed[name][rows] for name in self.layers}
            judgement = judge(self.graph, {name: values[rows] for name, values in signals.items()}, some, self.bound)
            self._add(judgement)
            found.judged.append((rows, judgement))
            for verdict in judgement.verdicts.values():
                found.faulty[rows] |= verdict.faults.reshape(len(rows), -1).any(axis=1)
                found.tied[rows] |= verdict.ties.reshape(len(rows), -1).any(axis=1)
        self.frames += frames
        self.frames_with_faults += int(found.faulty.sum())
        return found

    def _check_names(self, observed: Mapping[str, BoolArray]) -> None:
        unknown = sorted(set(observed) - set(self.graph.population_names))
        if unknown:
            raise StropError(
                f"{self.name} gave spikes of {', '.join(map(repr, unknown))}, which the graph does not have"
            )
        names = [name for name in self.graph.population_names if name in observed]
        if not self.layers:
            self.layers = {name: LayerReport(name, self.graph.population(name).size) for name in names}
        if names != list(self.layers):
            raise StropError(
                f"{self.name} gave spikes of {', '.join(set(names) ^ set(self.layers))} in some chunks only"
            )

    def _add(self, judgement: Judgement) -> None:
        for name, layer in self.layers.items():
            verdict = judgement.verdicts[name]
            layer.faults += int(np.count_nonzero(verdict.faults))
            layer.ties += int(np.count_nonzero(verdict.ties))
            layer.undecided += int(np.count_nonzero(verdict.undecided))

    def _blocks(self, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
        widest = max(int(np.prod(self.graph.signal_shape(name))) for name in self.graph.depths)
        size = max(1, _BLOCK_VALUES // widest)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
