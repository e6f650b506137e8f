"""Stimulus of a Nengo network: one queue of presented frames per network, and a cursor in it for every simulator.

Read in nengo 4.1.0:

* A `Process` belongs to a network, not to a simulator: `SimProcess.make_step` (`builder/processes.py`) asks it for a
  step function whenever a `Simulator` is made or reset, any number of times. The position of a simulator is therefore
  kept in the step function, not in the process.
* The arrays of a process's state are a simulator's own and outlive `Simulator.reset` (`builder/signal.py`,
  `SignalDict.reset`): they distinguish a reset from another simulator.
* A simulator's time is a float of `nengo.rc`'s precision, that of the end of the step: the first step has `t = dt`.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nengo
import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.running.backend import checked_start

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Wave:
    """Frames that were presented together; the first enters in step `start`, or as soon as it can (None)."""

    start: int | None
    count: int
    rows: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Place:
    """Where a wave lies in the steps of one simulator: `first` to `end - 1`."""

    first: int
    end: int
    wave: _Wave


class FrameQueue:
    """The frames presented to a network, for all its simulators.

    Attributes
    ----------
    waves : list of _Wave
        Frames for a simulator that takes its first step now: all those presented since frames last entered.
    """

    def __init__(self) -> None:
        self.waves: list[_Wave] = []
        self.cursors: list[Cursor] = []
        self.begun: weakref.WeakSet[_Wave] = weakref.WeakSet()

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of a network have simulators of their own.
        return {"waves": self.waves}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # as new
        self.waves = state["waves"]

    def add(self, rows: Mapping[str, npt.NDArray[Any]], start: int | None) -> None:
        """Queue frames, for running simulators behind those still in their queue; see `SpikingNetwork.present`."""
        cursors = self._live()
        self._refuse_within_a_step(cursors)
        wave = _Wave(checked_start(start, "nengo"), len(next(iter(rows.values()))), dict(rows))
        waves = [other for other in self.waves if other not in self.begun]
        if wave.start is not None:
            known = [(w.start, w.start + w.count) for w in waves if w.start is not None]
            _refuse_overlap(wave.start, wave.count, known)
        self.waves = [*waves, wave]
        for cursor in cursors:
            if cursor.step >= 0:
                cursor.waiting.append(wave)

    def clear(self) -> None:
        """Drop all frames that have not entered."""
        self.waves = []
        for cursor in self._live():
            cursor.waiting, cursor.places = [], []

    def cursor(self, name: str, owner: npt.NDArray[Any]) -> Cursor:
        """Return the cursor of a simulator, which owns the array `owner`, in the rows called `name`."""
        for cursor in self._live():
            if cursor.name == name and cursor.owner() is owner:
                cursor.rewind()
                return cursor
        self.cursors.append(Cursor(self, name, weakref.ref(owner)))
        return self.cursors[-1]

    def _live(self) -> list[Cursor]:
        self.cursors = [cursor for cursor in self.cursors if cursor.owner() is not None]
        return self.cursors

    @staticmethod
    def _refuse_within_a_step(cursors: list[Cursor]) -> None:
        steps: dict[str, list[int]] = {}
        for cursor in cursors:
            steps.setdefault(cursor.name, []).append(cursor.step)
        if len({tuple(sorted(values)) for values in steps.values()}) > 1:
            raise BackendError(
                "nengo: frames were presented within a step, when some of them could no longer enter. Present them "
                "between two runs of the simulator; if one was interrupted in a step, reset or delete it"
            )


@dataclass(eq=False)
class Cursor:
    """Position of one simulator in the rows of one stimulus."""

    frames: FrameQueue
    name: str
    owner: weakref.ref[npt.NDArray[Any]]
    step: int = -1
    waiting: list[_Wave] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)

    def rewind(self) -> None:
        """Begin once more with step 0."""
        self.step, self.waiting, self.places = -1, [], []

    def row(self, step: int) -> Any:
        """Return the row of a step, or zero."""
        if self.step < 0:
            self.waiting = list(self.frames.waves)
        if self.waiting:
            self._place(step)
        self.step = step
        for place in self.places:
            if place.first <= step < place.end:
                if step == place.first:
                    self.frames.begun.add(place.wave)
                return place.wave.rows[self.name][step - place.first]
        return 0.0

    def _place(self, step: int) -> None:
        """Assign steps to each waiting wave, and drop those that have passed."""
        self.places = [place for place in self.places if place.end > step]
        for wave in self.waiting:
            first = max([step, *(place.end for place in self.places)]) if wave.start is None else wave.start
            if first < step:
                raise BackendError(
                    f"nengo: {wave.count:,} frames were to enter from step {first:,} on, which is past: the next step "
                    f"is {step:,}. Present them without `start`, and they enter as soon as they can"
                )
            _refuse_overlap(first, wave.count, [(place.first, place.end) for place in self.places])
            self.places.append(_Place(first, first + wave.count, wave))
        self.waiting = []


def _refuse_overlap(first: int, count: int, others: list[tuple[int, int]]) -> None:
    for begin, end in others:
        if begin < first + count and first < end:
            raise BackendError(
                f"nengo: {count:,} frames were to enter from step {first:,} on, but others that were presented before "
                f"enter from {begin:,} to {end - 1:,}. Present them without `start`, and they follow those; or drop "
                "the others with `clear()`"
            )


class Stimulus(nengo.Process):  # type: ignore[misc]  # Nengo ships no types
    """Outputs the rows presented to the network, one per time step; zeros where there are none.

    Parameters
    ----------
    name : str
        Name of its rows in the queue.
    size : int
        Number of values in a row.
    frames : FrameQueue
        The network's queue.
    """

    def __init__(self, name: str, size: int, frames: FrameQueue) -> None:
        super().__init__(default_size_in=0, default_size_out=size)
        self.name, self.size, self.frames = name, size, frames

    def make_state(self, shape_in: Any, shape_out: Any, dt: float, dtype: Any = None) -> dict[str, FloatArray]:
        """Return an array that identifies a simulator, or refuse one that does not calculate in float64."""
        if dtype is not None and np.dtype(dtype) != np.float64:
            raise BackendError(
                f"nengo is configured for {np.dtype(dtype).name}, which rounds weights; set bits = 64 in the section "
                "[precision] of its nengorc"
            )
        return {"owner": np.zeros(1)}

    def make_step(self, shape_in: Any, shape_out: Any, dt: float, rng: Any, state: Any) -> Any:
        """Return the function of time that Nengo calls once a step."""
        cursor = self.frames.cursor(self.name, state["owner"])

        def row(t: float) -> Any:
            return cursor.row(int(t / dt + 0.5) - 1)

        return row
