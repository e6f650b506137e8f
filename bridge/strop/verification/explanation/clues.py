"""`Clues`: counters and a bounded sample of frames, gathered while a comparison runs, to explain its faults.

Nothing is kept before the first fault. What is kept then does not grow with the number of frames: counters of each
faulty layer, consecutive frames from the first fault of a chunk on, and further faulty frames, up to a limit.

Chunks may be compared side by side, in several processes. So a chunk yields `Notes` by itself, with all frames that
may be kept of it, and `Clues.add` chooses among them, chunk by chunk in the order of the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strop.errors import StropError
from strop.graph import Graph
from strop.running.oracle import BoolArray, Signals
from strop.verification.judge import Judgement

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
# Values of the widest node in the frames that are kept: an explanation needs a few float64 arrays of as many.
_VALUES = 3_000_000
_LEAST_FRAMES, _MOST_FRAMES = 8, 400
# Frames before the first fault of a chunk.
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

    neurons: IntArray
    missing: int = 0
    extra: int = 0
    frames: int = 0

    def merge(self, other: LayerCount) -> None:
        """Add the faults of other frames."""
        self.neurons += other.neurons
        self.missing += other.missing
        self.extra += other.extra
        self.frames += other.frames


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

    frames: IntArray
    chunks: IntArray
    signals: dict[str, Array]
    observed: dict[str, BoolArray]
    outputs: list[Array]
    starts: BoolArray


@dataclass
class Room:
    """How many more frames are kept: in a window behind the first fault of a chunk, beyond it, and there per layer."""

    window: int
    more: int
    quota: dict[str, int] = field(default_factory=dict)

    def chosen(self, wrong: BoolArray, faulty: Mapping[str, IntArray]) -> IntArray:
        """Return the rows of a chunk to keep, and take them off: consecutive ones, then faulty ones.

        Every layer may claim a share of the frames beyond the window, or a first one would leave none to a second.
        """
        chosen = np.zeros(len(wrong), dtype=bool)
        if not wrong.any():
            return np.flatnonzero(chosen)
        chosen[self._window(wrong)] = True
        self.window -= int(np.count_nonzero(chosen))
        for name, rows in faulty.items():
            room = self.quota.setdefault(name, max(_LEAST_FRAMES // 2, self.more // 2))
            more = rows[~chosen[rows]][: min(room, self.more)]
            self.quota[name] -= len(more)
            self.more -= len(more)
            chosen[more] = True
        return np.flatnonzero(chosen)

    def candidates(self, wrong: BoolArray, faulty: Mapping[str, IntArray]) -> IntArray:
        """Return all rows of a chunk that `chosen` may return if there is as much room as here, or less.

        With less room the window ends sooner, and of the faulty rows outside this window at most `more` are taken.
        """
        possible = np.zeros(len(wrong), dtype=bool)
        if wrong.any():
            possible[self._window(wrong)] = True
            for rows in [rows[~possible[rows]][: self.more] for rows in faulty.values()]:
                possible[rows] = True
        return np.flatnonzero(possible)

    def _window(self, wrong: BoolArray) -> slice:
        first = max(0, int(np.argmax(wrong)) - _BEFORE)
        return slice(first, first + self.window)


@dataclass
class Notes:
    """What a comparison found in one chunk, and all frames of it that may be kept.

    Attributes
    ----------
    start, count : int
        The chunk's first frame, and how many it has.
    counts, differing, output_faults, faulty_frames
        As in `Clues`, of this chunk.
    wrong : bool array, shape (count,)
        Frames with a fault.
    faulty : dict of population name to int array
        Rows with faults of each layer; under "" those with a wrong answer alone.
    rows : int array, shape (n,)
        The candidates; `signals`, `observed` and `outputs` are those of these rows.
    """

    start: int
    count: int
    counts: dict[str, LayerCount] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    output_faults: dict[str, int] = field(default_factory=dict)
    faulty_frames: int = 0
    wrong: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    faulty: dict[str, IntArray] = field(default_factory=dict)
    rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    signals: dict[str, Array] = field(default_factory=dict)
    observed: dict[str, BoolArray] = field(default_factory=dict)
    outputs: list[Array] = field(default_factory=list)


def notes_on(
    room: Room,
    start: int,
    found: _Found,
    observed: Mapping[str, BoolArray],
    oracle: Mapping[str, BoolArray],
    signals: Signals,
    outputs: Iterable[Array] = (),
    wrong_outputs: Mapping[str, BoolArray] | None = None,
) -> Notes:
    """Return the notes on one chunk that was compared.

    Parameters
    ----------
    room : Room
        At least as much as there will be when the notes are added.
    start : int
        The number of the chunk's first frame.
    outputs : list of arrays, shape (n, ...)
        The model's own outputs, if it has any.
    wrong_outputs : mapping of output name to bool array, shape (n,)
        Frames in which an output, or an answer, is wrong.
    """
    notes = Notes(start, len(next(iter(oracle.values()))))
    wrong = found.faulty.copy()
    for name, frames in (wrong_outputs or {}).items():
        notes.output_faults[name] = int(np.count_nonzero(frames))
        wrong |= frames
    if not wrong.any():
        return notes
    notes.wrong, notes.faulty_frames = wrong, int(np.count_nonzero(wrong))
    for name, spikes in observed.items():
        differing = int(np.count_nonzero(spikes != oracle[name]))
        if differing:
            notes.differing[name] = differing
    faulty: dict[str, BoolArray] = {"": wrong & ~found.faulty}
    for rows, judgement in found.judged:
        for name, verdict in judgement.verdicts.items():
            in_frame = _count(notes.counts, name, verdict.faults, observed[name][rows])
            faulty.setdefault(name, np.zeros(notes.count, dtype=bool))[rows] = in_frame
    notes.faulty = {name: np.flatnonzero(rows) for name, rows in faulty.items()}
    notes.rows = room.candidates(wrong, notes.faulty)
    notes.signals, notes.observed = _picked(signals, notes.rows), _picked(observed, notes.rows)
    notes.outputs = [np.asarray(values)[notes.rows] for values in outputs]
    return notes


def _count(counts: dict[str, LayerCount], name: str, faults: BoolArray, observed: BoolArray) -> BoolArray:
    """Count the faults of a layer in some frames; return which frames have any."""
    flat = faults.reshape(len(faults), -1)
    in_frame: BoolArray = np.any(flat, axis=1)
    if in_frame.any():
        extra = int(np.count_nonzero(faults & observed))
        missing = int(np.count_nonzero(flat)) - extra
        own = LayerCount(flat.sum(axis=0, dtype=np.int64), missing, extra, int(np.count_nonzero(in_frame)))
        _merged(counts, name, own)
    return in_frame


def _merged(counts: dict[str, LayerCount], name: str, own: LayerCount) -> None:
    if name in counts:
        counts[name].merge(own)
    else:
        counts[name] = own


@dataclass
class _Part:
    frames: IntArray
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
        self._room = Room(capacity - capacity // 3, capacity // 3)
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

    @property
    def room(self) -> Room:
        """What may still be kept; it never grows."""
        return Room(self._room.window, self._room.more, dict(self._room.quota))

    def take(
        self,
        found: _Found,
        observed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
    ) -> None:
        """Note one chunk that was compared here."""
        self.add(notes_on(self.room, self._start, found, observed, oracle, signals))

    def add(self, notes: Notes) -> None:
        """Add the notes on the next chunk.

        Raises
        ------
        StropError
            If they are of another chunk, or lack a frame that is to be kept.
        """
        if notes.start != self._start:
            raise StropError(f"{self.name}: frame {self._start} is to come next, and these notes are on {notes.start}")
        for name, count in notes.output_faults.items():
            self.output_faults[name] = self.output_faults.get(name, 0) + count
        for name, count in notes.differing.items():
            self.differing[name] = self.differing.get(name, 0) + count
        for name, own in notes.counts.items():
            _merged(self.counts, name, own)
        self.faulty_frames += notes.faulty_frames
        rows = self._room.chosen(notes.wrong, notes.faulty)
        if len(rows):
            self._keep(notes, rows)
        self._start += notes.count
        self._chunk += 1

    def _keep(self, notes: Notes, rows: IntArray) -> None:
        places = np.searchsorted(notes.rows, rows)
        if not np.isin(rows, notes.rows).all():
            raise StropError(f"{self.name}: frames from {notes.start} that would explain faults were not kept")
        kept_signals, kept_spikes = _picked(notes.signals, places), _picked(notes.observed, places)
        own = [values[places] for values in notes.outputs]
        self._parts.append(_Part(rows + self._start, self._chunk, self._start, kept_signals, kept_spikes, own))

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


def _picked(given: Mapping[str, Array], rows: IntArray) -> dict[str, Array]:
    return {name: np.asarray(values)[rows] for name, values in given.items()}


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
