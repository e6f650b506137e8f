"""Frames that are played into a Nengo network: one queue for a network, and a place in it for every simulator.

Read in nengo 4.1.0:

* A `Process` belongs to a network, not to a simulator: `SimProcess.make_step` (`builder/processes.py`) asks it for a
  step function whenever a `Simulator` is made or reset, any number of times. What a simulator has played so far is
  therefore kept in the step function, and nothing of it in the process.
* The arrays of a process's state are a simulator's own and outlive `Simulator.reset` (`builder/signal.py`,
  `SignalDict.reset`): they tell a reset from another simulator.
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


class Frames:
    """The frames that were presented to a network, in order, for all its simulators."""

    def __init__(self) -> None:
        self.waves: list[_Wave] = []
        self.version = 0
        self.cursors: list[Cursor] = []
        self._played: weakref.WeakSet[_Wave] = weakref.WeakSet()

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of a network have simulators of their own.
        return {"waves": self.waves, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # as new
        self.waves, self.version = state["waves"], state["version"]

    def add(self, rows: Mapping[str, npt.NDArray[Any]], start: int | None) -> None:
        """Take frames behind those that some simulator has still to play; see `SpikingNetwork.present`."""
        self._refuse_within_a_step()
        live = self._live()
        self.waves = [
            w for w in self.waves if w not in self._played or not all(w in cursor.finished for cursor in live)
        ]
        wave = _Wave(None if start is None else int(start), len(next(iter(rows.values()))), dict(rows))
        if wave.start is not None:
            _refuse_overlap(
                wave.start, wave.count, [(w.start, w.start + w.count) for w in self.waves if w.start is not None]
            )
        self.waves.append(wave)
        self.version += 1

    def clear(self) -> None:
        """Drop all frames."""
        self.waves = []
        self.version += 1

    def cursor(self, name: str, owner: npt.NDArray[Any]) -> Cursor:
        """Return the place of a simulator, which owns the array `owner`, in the rows called `name`."""
        for cursor in self._live():
            if cursor.name == name and cursor.owner() is owner:
                cursor.rewind()
                return cursor
        self.cursors.append(Cursor(self, name, weakref.ref(owner)))
        return self.cursors[-1]

    def finished(self, wave: _Wave) -> None:
        """Note that some simulator has played a wave whole."""
        self._played.add(wave)

    def _live(self) -> list[Cursor]:
        self.cursors = [cursor for cursor in self.cursors if cursor.owner() is not None]
        return self.cursors

    def _refuse_within_a_step(self) -> None:
        steps: dict[str, list[int]] = {}
        for cursor in self._live():
            steps.setdefault(cursor.name, []).append(cursor.step)
        if len({tuple(sorted(values)) for values in steps.values()}) > 1:
            raise BackendError(
                "nengo: frames were presented within a step, when some of them could no longer enter. Present them "
                "between two runs of the simulator"
            )


@dataclass(eq=False)
class Cursor:
    """How far one simulator has come with the rows of one playback."""

    frames: Frames
    name: str
    owner: weakref.ref[npt.NDArray[Any]]
    step: int = -1
    version: int = -1
    places: list[_Place] = field(default_factory=list)
    finished: weakref.WeakSet[_Wave] = field(default_factory=weakref.WeakSet)

    def rewind(self) -> None:
        """Begin once more with step 0."""
        self.step, self.version, self.places = -1, -1, []

    def row(self, step: int) -> Any:
        """Return what is played in a step: a row, or zero."""
        if self.version != self.frames.version:
            self._place(step)
        self.step = step
        for place in self.places:
            if place.first <= step < place.end:
                if step == place.end - 1:
                    self.finished.add(place.wave)
                    self.frames.finished(place.wave)
                return place.wave.rows[self.name][step - place.first]
        return 0.0

    def _place(self, step: int) -> None:
        """Give each wave that is new its steps, and forget those that are gone."""
        known = {place.wave: place for place in self.places}
        places: list[_Place] = []
        for wave in self.frames.waves:
            if wave in known:
                places.append(known[wave])
                continue
            first = max([step, *(place.end for place in places)]) if wave.start is None else wave.start
            if first < step:
                raise BackendError(
                    f"nengo: {wave.count:,} frames were to enter from step {first:,} on, which is past: the next step "
                    f"is {step:,}. Present them without `start`, and they enter as soon as they can"
                )
            _refuse_overlap(first, wave.count, [(place.first, place.end) for place in places])
            places.append(_Place(first, first + wave.count, wave))
        self.places = [place for place in places if place.end > step]
        self.version = self.frames.version


def _refuse_overlap(first: int, count: int, others: list[tuple[int, int]]) -> None:
    for begin, end in others:
        if begin < first + count and first < end:
            raise BackendError(
                f"nengo: {count:,} frames were to enter from step {first:,} on, but others that were presented before "
                f"enter from {begin:,} to {end - 1:,}. Present them without `start`, and they follow those; or drop "
                "the others with `clear()`"
            )


class Playback(nengo.Process):  # type: ignore[misc]  # Nengo ships no types
    """Plays rows that were presented to the network, one per time step; zeros where there are none.

    Parameters
    ----------
    name : str
        What its rows are called in the queue.
    size : int
        Number of values in a row.
    frames : Frames
        The network's queue.
    """

    def __init__(self, name: str, size: int, frames: Frames) -> None:
        super().__init__(default_size_in=0, default_size_out=size)
        self.name, self.size, self.frames = name, size, frames

    def make_state(self, shape_in: Any, shape_out: Any, dt: float, dtype: Any = None) -> dict[str, FloatArray]:
        """Return an array by which a simulator is known, or refuse one that does not calculate in float64."""
        if dtype is not None and np.dtype(dtype) != np.float64:
            raise BackendError(
                f"nengo is configured for {np.dtype(dtype).name}, which rounds weights; set bits = 64 in the section "
                "[precision] of its nengorc"
            )
        return {"owner": np.zeros(1)}

    def make_step(self, shape_in: Any, shape_out: Any, dt: float, rng: Any, state: Any) -> Any:
        """Return the function of time that Nengo calls once a step."""
        cursor = self.frames.cursor(self.name, state["owner"])

        def play(t: float) -> Any:
            return cursor.row(int(t / dt + 0.5) - 1)

        return play
