"""`Clues`: counters and a bounded sample of frames, gathered while a comparison runs, to explain its faults.

Nothing is kept before the first fault. What is kept then does not grow with the number of frames: counters of each
faulty layer, a window of consecutive frames from the first fault on, and further faulty frames up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.running.oracle import BoolArray, Signals
from strop.verification.judge import Judgement

Array = npt.NDArray[Any]
# Values of the widest node in the frames that are kept: an explanation needs a few float64 arrays of as many.
_VALUES = 3_000_000
_LEAST_FRAMES, _MOST_FRAMES = 8, 400
# Frames before the first fault.
_BEFORE = 8


class _Found(Protocol):
    """The result of a comparison for one chunk, `strop.verification.comparison.Found`."""

    @property
    def judged(self) -> list[tuple[npt.NDArray[np.int64], Judgement]]: ...
    @property
    def faulty(self) -> BoolArray: ...


@dataclass
class LayerCount:
    """Faults of one layer over all frames: in which neurons, how many are missing and too many, in how many frames."""

    neurons: npt.NDArray[np.int64]
    missing: int = 0
    extra: int = 0
    frames: int = 0


@dataclass(frozen=True)
class Sample:
    """Frames of a comparison that were kept.

    Attributes
    ----------
    frames : int array, shape (n,)
        Their indices among all that were verified, rising.
    chunks : int array, shape (n,)
        The chunk that each was run in: neighbours in time are neighbours within a chunk.
    signals : dict of input name to array, shape (n, *signal_shape)
    observed : dict of population name to bool array, shape (n, *shape)
    outputs : list of arrays, shape (n, ...)
        The model's own outputs; empty for a backend.
    starts : bool array, shape (n,)
        Whether a frame is the first of its chunk.
    """

    frames: npt.NDArray[np.int64]
    chunks: npt.NDArray[np.int64]
    signals: dict[str, Array]
    observed: dict[str, BoolArray]
    outputs: list[Array]
    starts: BoolArray


@dataclass
class _Part:
    frames: npt.NDArray[np.int64]
    chunk: int
    first: int
    signals: dict[str, Array]
    observed: dict[str, BoolArray]
    outputs: list[Array] = field(default_factory=list)


class Clues:
    """Gathers clues about the faults of one comparison, chunk by chunk.

    Parameters
    ----------
    graph : Graph
    name : str
        Of the comparison.
    start : int
        The number of the first frame that it will take.
    """

    def __init__(self, graph: Graph, name: str, start: int = 0) -> None:
        self.graph, self.name = graph, name
        widest = max(int(np.prod(graph.signal_shape(node))) for node in graph.depths)
        capacity = int(np.clip(_VALUES // widest, _LEAST_FRAMES, _MOST_FRAMES))
        self._window, self._more = capacity - capacity // 3, capacity // 3
        self._quota: dict[str, int] = {}
        self._open = False
        self._parts: list[_Part] = []
        self._start, self._chunk = start, 0
        self.counts: dict[str, LayerCount] = {}
        self.differing: dict[str, int] = {}
        self.output_faults: dict[str, int] = {}
        self.faulty_frames = 0

    @property
    def found_any(self) -> bool:
        """Whether there was any fault."""
        return self.faulty_frames > 0

    @property
    def kept(self) -> int:
        """How many frames are kept."""
        return sum(len(part.frames) for part in self._parts)

    def take(
        self,
        found: _Found,
        observed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        outputs: Iterable[Array] = (),
        wrong_outputs: Mapping[str, BoolArray] | None = None,
    ) -> None:
        """Note one chunk that was compared.

        Parameters
        ----------
        outputs : list of arrays, shape (n, ...)
            The model's own outputs, if it has any.
        wrong_outputs : mapping of output name to bool array, shape (n,)
            Frames in which an output, or an answer, is wrong.
        """
        count = len(next(iter(oracle.values())))
        wrong = found.faulty.copy()
        for name, frames in (wrong_outputs or {}).items():
            self.output_faults[name] = self.output_faults.get(name, 0) + int(np.count_nonzero(frames))
            wrong |= frames
        faulty: dict[str, BoolArray] = {"": wrong & ~found.faulty}
        if wrong.any():
            self.faulty_frames += int(np.count_nonzero(wrong))
            for name, spikes in observed.items():
                differing = int(np.count_nonzero(spikes != oracle[name]))
                if differing:
                    self.differing[name] = self.differing.get(name, 0) + differing
            for rows, judgement in found.judged:
                for name, verdict in judgement.verdicts.items():
                    faulty.setdefault(name, np.zeros(count, dtype=bool))[rows] = self._count(
                        name, verdict.faults, observed[name][rows]
                    )
        rows = self._choose(wrong, faulty)
        if len(rows):
            kept_signals, kept_spikes = _picked(signals, rows), _picked(observed, rows)
            own = [np.asarray(values)[rows] for values in outputs]
            self._parts.append(_Part(rows + self._start, self._chunk, self._start, kept_signals, kept_spikes, own))
        self._start += count
        self._chunk += 1

    def _count(self, name: str, faults: BoolArray, observed: BoolArray) -> BoolArray:
        """Count the faults of a layer in some frames; return which frames have any."""
        flat = faults.reshape(len(faults), -1)
        in_frame: BoolArray = np.any(flat, axis=1)
        if in_frame.any():
            count = self.counts.setdefault(name, LayerCount(np.zeros(self.graph.population(name).size, np.int64)))
            extra = int(np.count_nonzero(faults & observed))
            count.neurons += flat.sum(axis=0)
            count.extra += extra
            count.missing += int(np.count_nonzero(flat)) - extra
            count.frames += int(np.count_nonzero(in_frame))
        return in_frame

    def _choose(self, wrong: BoolArray, faulty: Mapping[str, BoolArray]) -> npt.NDArray[np.int64]:
        """Return the rows of a chunk to keep: consecutive ones while the window is open, then faulty ones.

        Every layer may claim a share of the frames beyond the window, or a first one would leave none to a second.
        """
        chosen = np.zeros(len(wrong), dtype=bool)
        if not wrong.any() and not self._open:
            return np.flatnonzero(chosen)
        first = 0 if self._open else max(0, int(np.argmax(wrong)) - _BEFORE)
        stop = min(len(wrong), first + self._window)
        chosen[first:stop] = True
        self._window -= max(0, stop - first)
        self._open = self._window > 0
        for name, rows in faulty.items():
            room = self._quota.setdefault(name, max(_LEAST_FRAMES // 2, self._more // 2))
            more = np.flatnonzero(rows & ~chosen)[: min(room, self._more)]
            self._quota[name] -= len(more)
            self._more -= len(more)
            chosen[more] = True
        return np.flatnonzero(chosen)

    def sample(self) -> Sample:
        """Return the frames that were kept."""
        parts = self._parts
        frames = np.concatenate([part.frames for part in parts])
        return Sample(
            frames,
            np.concatenate([np.full(len(part.frames), part.chunk) for part in parts]),
            _joined([part.signals for part in parts]),
            _joined([part.observed for part in parts]),
            [np.concatenate(own) for own in zip(*(part.outputs for part in parts), strict=True)],
            np.concatenate([part.frames == part.first for part in parts]),
        )


def _picked(given: Mapping[str, Array], rows: npt.NDArray[np.int64]) -> dict[str, Array]:
    return {name: np.asarray(values)[rows] for name, values in given.items()}


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
