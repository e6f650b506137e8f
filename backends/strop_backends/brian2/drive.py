"""Stimulus of a Brian2 network: presented frames wait in a queue, enter one per step, and are dropped.

Read in brian2 2.9.0, 2.10.1 and 2.11.0:

* `Network.run` sets every clock to the time of the network before it begins (`core/network.py`, `Clock.set_interval`).
  So a clock shows the next step only in the network that ran it last: the step in which waiting frames enter is
  determined when they enter, not when they are presented.
* `Network.store` and `restore` ask every object for its state (`Network._full_state`). Frames that wait are state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import brian2
import numpy as np
import numpy.typing as npt
from brian2.devices.device import runtime_device

from strop.errors import BackendError
from strop.graph import Graph
from strop.running.backend import checked_start
from strop.running.oracle import host_spikes

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# All that happens in a step of a strop network happens in this slot, in the order of DRIVE to RECORD, so that neither
# a network's schedule nor the preference `core.network.default_schedule` can put it in another one.
SLOT = "thresholds"
DRIVE, DECIDE, FORGET, DELIVER, RECORD = -1, 0, 1, 2, 3
# No step follows it.
_NEVER = -2


@dataclass(frozen=True)
class Span:
    """The place of one node among the neurons: `start` to `stop - 1`; `stimulus` if its spikes are presented."""

    start: int
    stop: int
    stimulus: bool


@dataclass(frozen=True)
class _Pulses:
    """Stimulus spikes: those of row r are `neurons[ends[r]:ends[r + 1]]`; row 0 is `late` steps late."""

    late: int
    neurons: IntArray
    ends: list[int]

    def add_to(self, v: FloatArray, step: int) -> None:
        row = step - self.late
        if 0 <= row < len(self.ends) - 1:
            np.add.at(v, self.neurons[self.ends[row] : self.ends[row + 1]], 1.0)


@dataclass(frozen=True)
class _Currents:
    """Input currents of a population: row r of `values` arrives `late + r` steps after the first frame entered."""

    late: int
    place: slice
    values: FloatArray

    def add_to(self, v: FloatArray, step: int) -> None:
        row = step - self.late
        if 0 <= row < len(self.values):
            v[self.place] += self.values[row]


@dataclass(frozen=True)
class _Wave:
    """Frames that were presented together; the first enters in step `first`, or as soon as it can (None)."""

    first: int | None
    count: int
    parts: tuple[_Pulses | _Currents, ...]
    begun: bool = False

    @property
    def end(self) -> int:
        """The step after the one in which the last frame enters."""
        assert self.first is not None
        return self.first + self.count


class Drive(brian2.NetworkOperation):  # type: ignore[misc]  # Brian2 ships no types
    """Adds stimulus spikes and input currents to the potentials, just before the threshold is evaluated.

    Parameters
    ----------
    graph : Graph
    spans : mapping of node name to Span
    v : float64 array, shape (neurons,)
        The potentials: Brian2's own array.
    clock : brian2.Clock
    name : str

    Attributes
    ----------
    starts : list of int
        The step in which the first frame of each presentation entered, oldest first.
    """

    add_to_magic_network = False

    def __init__(self, graph: Graph, spans: Mapping[str, Span], v: FloatArray, clock: Any, name: str) -> None:
        super().__init__(self.deliver, clock=clock, when=SLOT, order=DRIVE, name=name)
        self.graph, self.spans, self.v = graph, spans, v
        self._depth = graph.total_depth
        self.step_length = float(clock.dt_)
        self.starts: list[int] = []
        self._timestep = clock.variables["timestep"].get_value()
        self._currents = {
            population.name: [p for p in graph.incoming(population.name) if p.source not in spans]
            for population in graph.populations
            if not spans[population.name].stimulus
        }
        self._waves: list[_Wave] = []
        self._waiting = False
        # The step that was begun last: one that is begun again was interrupted.
        self._begun: int | None = None
        self._jump = ""

    def __del__(self) -> None:
        """Suppress Brian2's warning of objects that were never run: a network may be built without being run."""

    @property
    def next_step(self) -> int:
        """Number of the step that follows the last one of the network that ran last."""
        return int(self._timestep[0])

    def load(self, signals: Mapping[str, npt.NDArray[Any]], start: int | None) -> None:
        """Queue encoded frames (see `strop.running.encode.encode`) behind those presented before.

        Parameters
        ----------
        start : int or None
            Step in which the first one enters; None: the next that is free.

        Raises
        ------
        BackendError
            If the step is past, or frames presented before enter then.
        """
        count = len(next(iter(signals.values())))
        wave = _Wave(checked_start(start, "brian2"), count, self._parts(signals, count))
        if wave.first is not None:
            self._refuse_past(wave, self.next_step)
            self._refuse_overlap(wave, self._waves)
        self._waves.append(wave)
        self._waiting = True

    def clear(self) -> None:
        """Drop all frames that have not entered yet, and late parts of those that have."""
        self._waves, self._waiting, self._begun = [], False, None

    @property
    def remaining(self) -> int:
        """Steps to run until the last population has answered the last frame that was presented."""
        end = now = self.next_step
        for wave in self._waves:
            end = max(end, now) + wave.count if wave.first is None else max(end, wave.end)
        return end - now + self._depth if self._waves else 0

    def _parts(self, signals: Mapping[str, npt.NDArray[Any]], count: int) -> tuple[_Pulses | _Currents, ...]:
        stimulus = {**signals, **host_spikes(self.graph, signals)}
        parts: list[_Pulses | _Currents] = []
        for name, span in self.spans.items():
            late = self.graph.depth(name)
            if span.stimulus:
                row, neuron = np.nonzero(stimulus[name].reshape(count, -1))
                ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))])
                parts.append(_Pulses(late, neuron + span.start, ends.tolist()))
            elif self._currents[name]:
                sums = np.sum([p.operator.apply(signals[p.source]) for p in self._currents[name]], axis=0)
                parts.append(_Currents(late, slice(span.start, span.stop), sums.reshape(count, -1)))
        return tuple(parts)

    # Within a run ------------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Add the spikes and currents of this step to the potentials."""
        if not self._waves:
            return
        step = int(self._timestep[0])
        if self._begun is not None and step != self._begun + 1:
            self._refuse_step(step)
        self._begun = step
        if self._waiting:
            self._begin(step)
        for wave in self._waves:
            assert wave.first is not None
            for part in wave.parts:
                part.add_to(self.v, step - wave.first)
        # A host population is deeper than its input: the last row is late.
        if step + 1 >= self._waves[0].end + self._depth:
            self._waves = [wave for wave in self._waves if wave.end + self._depth > step + 1]

    def _refuse_step(self, step: int) -> None:
        """Raise `BackendError` as this step does not follow the last one, unless no frame was under way."""
        assert self._begun is not None
        if step == self._begun:
            raise BackendError(
                f"brian2: step {step:,} was interrupted by an exception and is begun again, so that its spikes would "
                "arrive twice. Restore a state that was stored before, or drop the frames with `clear()` and present "
                "them anew"
            )
        if self._begun != _NEVER:
            if not any(wave.begun for wave in self._waves):
                return
            self._jump = f"from step {self._begun + 1:,} to step {step:,}"
        # Setting it back helps no more: parts of a step have been run.
        self._begun = _NEVER
        raise BackendError(
            f"brian2: the clock has been set {self._jump} while frames were under way, so that spikes would be lost. "
            "Let `run` and `restore` alone move it; drop the frames with `clear()` and present them anew"
        )

    def _begin(self, step: int) -> None:
        """Assign a step to each new presentation."""
        placed: list[_Wave] = []
        for wave in self._waves:
            if wave.begun:
                placed.append(wave)
                continue
            first = max([step, *(other.end for other in placed)]) if wave.first is None else wave.first
            new = replace(wave, first=first, begun=True)
            self._refuse_past(new, step)
            self._refuse_overlap(new, placed)
            placed.append(new)
            self.starts.append(first)
        # By time: the first is the first that ends.
        self._waves, self._waiting = sorted(placed, key=lambda wave: wave.first or 0), False

    def _refuse_past(self, wave: _Wave, step: int) -> None:
        assert wave.first is not None
        if wave.first < step:
            raise BackendError(
                f"brian2: {wave.count:,} frames were to enter from step {wave.first:,} on, which is past: the next "
                f"step is {step:,}. Present them without `start`, and they enter as soon as they can"
            )

    def _refuse_overlap(self, wave: _Wave, others: list[_Wave]) -> None:
        assert wave.first is not None
        for other in others:
            if other.first is not None and other.first < wave.end and wave.first < other.end:
                raise BackendError(
                    f"brian2: {wave.count:,} frames were to enter from step {wave.first:,} on, but others that were "
                    f"presented before enter from {other.first:,} to {other.end - 1:,}. Present them without `start`, "
                    "and they follow those; or drop the others with `clear()`"
                )

    # Before a run, store and restore -----------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `BackendError` if the device or the clock has changed so that spikes would differ from the graph's."""
        if brian2.get_device() is not runtime_device:
            raise BackendError(
                f"brian2: the device {type(brian2.get_device()).__name__} was set after the network had been built; it "
                "runs in runtime mode only. Call brian2.device.reinit() and brian2.set_device('runtime')"
            )
        if self.clock.dt_ != self.step_length:
            raise BackendError(
                f"brian2: the network was built for steps of {self.step_length:g} s, and its clock has been set to "
                f"{self.clock.dt_:g} s: delays would no longer be whole steps. Build it with dt={self.clock.dt_:g}"
            )

    def before_run(self, run_namespace: Any) -> None:
        """Check also where the objects run in another network."""
        self.check()
        super().before_run(run_namespace)

    def _full_state(self) -> tuple[Any, ...]:
        return (tuple(self._waves), tuple(self.starts), self._waiting)

    def _restore_from_full_state(self, state: tuple[Any, ...]) -> None:
        waves, starts, self._waiting = state
        self._waves, self.starts, self._begun = list(waves), list(starts), None
