"""`Waves`: the input that is still to enter a network, series of frames one after the other.

PyNN's sources take all their spike times at once, in place of those before. When frames are presented before earlier
ones have entered, the spikes that are still to come are kept and set again together with the new ones.
"""

from __future__ import annotations

import numpy as np

from strop.errors import BackendError
from strop.running.backend import checked_start
from strop_backends.pynn.common.dialect import Dialect, FloatArray, IntArray


class Waves:
    """Frames that have been presented to one network.

    Parameters
    ----------
    dialect : Dialect
        Has the first tick in which a source can still spike.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._forget()

    def _forget(self) -> None:
        self._epoch = self._dialect.epoch
        self._unplayed = 0
        # First tick in which the next frame can enter, and the tick after the last answer.
        self._next: int | None = None
        self._end = 0
        self._spikes: dict[str, tuple[IntArray, IntArray]] = {}
        self._values: dict[str, tuple[FloatArray, IntArray]] = {}

    def reserve(self, start: int | None, count: int, end: int) -> int:
        """Return the tick in which the first of `count` frames enters.

        Parameters
        ----------
        start : int, optional
            The tick that the user asks for.
        end : int
            Ticks from the entry of the first frame to the end of the last answer.

        Raises
        ------
        BackendError
            If that is in the past, or frames that were presented before are in the way.
        """
        dialect, start = self._dialect, checked_start(start, self._dialect.name)
        if self._epoch != dialect.epoch:
            self._forget()
        interval, first, self._unplayed = dialect.ticks_per_step, dialect.first_free_tick(), dialect.unplayed_tick()
        if start is None:
            start = first
            if self._next is not None:
                # In step with the frames before, whose spikes may be under way.
                start = self._next + max(0, -((self._next - first) // interval)) * interval
        elif start < first:
            raise BackendError(f"{dialect.name}: tick {start} is too early, the first that is possible is {first}")
        elif self._next is not None and start < self._next:
            raise BackendError(
                f"{dialect.name}: frames that were presented before enter up to tick {self._next - interval}; the next "
                f"can enter in tick {self._next}, or leave start out"
            )
        elif self._next is not None and start < self._end and (start - self._next) % interval:
            before = start - (start - self._next) % interval
            raise BackendError(
                f"{dialect.name}: a frame enters in every {interval}th tick, and frames that were presented before are "
                f"under way until tick {self._end}; start in tick {before} or {before + interval}, or leave start out"
            )
        self._next, self._end = start + count * interval, max(self._end, start + end)
        return start

    @property
    def segment(self) -> object:
        """The dialect's `epoch` when frames were presented last."""
        return self._epoch

    def remaining(self) -> int:
        """Return how many ticks from now the last answer is due."""
        return max(0, self._end - self._dialect.first_free_tick()) if self._epoch == self._dialect.epoch else 0

    def spikes(self, name: str, neurons: IntArray, ticks: IntArray) -> tuple[IntArray, IntArray]:
        """Return the spikes that are still to come with the new ones, ascending by neuron, then by tick."""
        if name in self._spikes:
            old_neurons, old_ticks = self._spikes[name]
            waiting = old_ticks >= self._unplayed
            if waiting.any():
                neurons = np.concatenate([old_neurons[waiting], neurons])
                ticks = np.concatenate([old_ticks[waiting], ticks])
                # Series of frames overlap in the spikes of the source that always spikes; those are the same.
                neurons, ticks = np.unique(np.stack([neurons, ticks]), axis=1)
        self._spikes[name] = (neurons, ticks)
        return neurons, ticks

    def values(self, name: str, values: FloatArray, ticks: IntArray) -> tuple[FloatArray, IntArray]:
        """Return the values that are still to be injected with the new ones, row r in tick `ticks[r]`, ascending."""
        if name in self._values:
            old, old_ticks = self._values[name]
            waiting = old_ticks >= self._unplayed
            values = np.concatenate([old[waiting], values])
            ticks = np.concatenate([old_ticks[waiting], ticks])
        self._values[name] = (values, ticks)
        return values, ticks
