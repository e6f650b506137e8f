"""`recorder_class`: PyNN's recorder, with a note of the time since when it has all spikes; `require_answers` asks it.

PyNN 0.13 hands out what it has (`recording/__init__.py`): neurons that were recorded too late, or for the last time
cleared in the middle, or are still to answer, look as if they were silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from strop.errors import BackendError
from strop_backends.pynn.common.dialect import Dialect


class Window(NamedTuple):
    """Ticks in which a population answers a series of frames, the first and the last."""

    first: int
    last: int


class Coverage(NamedTuple):
    """What is recorded: from when on, for each cell by number, and until when; in ms of PyNN's time."""

    since: Mapping[int, float]
    until: float


def recorder_class(base: type) -> type:
    """Return a recorder that keeps book, for a simulator whose PyNN recorder is `base`."""

    class Recorder(base):  # type: ignore[misc]  # PyNN ships no types
        __doc__ = base.__doc__

        def __init__(self, population: Any, file: Any = None) -> None:
            self.since: dict[int, float] = {}
            self.before: Coverage | None = None
            super().__init__(population, file)

        def now(self) -> float:
            """The time from which on spikes are recorded, if recording begins now."""
            return float(self._simulator.state.t)

        def spiking(self) -> set[int]:
            """Cells whose spikes are recorded, by number."""
            return {
                int(cell) for variable, cells in self.recorded.items() if variable.name == "spikes" for cell in cells
            }

        def record(self, variables: Any, ids: Any, sampling_interval: Any = None, locations: Any = None) -> None:
            super().record(variables, ids, sampling_interval, locations)
            self.since.update(dict.fromkeys(self.spiking() - self.since.keys(), self.now()))

        def reset(self) -> None:
            super().reset()
            self.since = {}

        def clear(self) -> None:
            super().clear()
            self.since = dict.fromkeys(self.since, self.now())

        def store_to_cache(self, annotations: Any = None) -> None:
            """PyNN calls this before each reset, where time begins anew."""
            stored, until = self._simulator.state.t != 0 and not self.clear_flag, float(self._simulator.state.t)
            super().store_to_cache(annotations)
            self.before = Coverage(self.since, until) if stored else None
            self.since = dict.fromkeys(self.since, 0.0)

        def coverage(self, segment: object) -> Coverage | None:
            """What PyNN's last segment covers; None if that is not the segment in which frames were presented."""
            state = self._simulator.state
            if state.running:
                return Coverage(self.since, float(state.t)) if segment == state.segment_counter else None
            # After a reset, the last segment is the one before.
            return None if segment == state.segment_counter else self.before

    return Recorder


def require_answers(
    dialect: Dialect, populations: Mapping[str, Any], windows: Mapping[str, Window], segment: object, end: int
) -> None:
    """Raise `BackendError` unless PyNN has recorded all answers of these populations.

    Parameters
    ----------
    dialect : Dialect
    populations : mapping of name to PyNN Population
        Those of which all cells are recorded.
    windows : mapping of name to Window
    segment : object
        The dialect's `epoch` when frames were presented last.
    end : int
        The tick up to which to run for all answers.
    """
    for name, population in populations.items():
        recorder, window = getattr(population, "recorder", None), windows[name]
        if recorder is None or not hasattr(recorder, "coverage"):
            return  # sPyNNaker
        found, dt = recorder.coverage(segment), dialect.dt
        seen = 0 if found is None else dialect.first_tick_after(found.until)
        if found is None or window.last >= seen:
            raise BackendError(
                f"{dialect.name}: {name!r} answers the last of these frames in tick {window.last}, and PyNN has not "
                f"run tick {seen} since they were presented; first sim.run_until({end * dt:g}) (a run of the simulator "
                "itself, without PyNN, does not count)"
            )
        since = max(found.since.values(), default=0.0)
        if dialect.first_tick_after(since) > window.first:
            raise BackendError(
                f"{dialect.name}: {name!r} answers the first of these frames in tick {window.first}, and is recorded "
                f"since tick {dialect.first_tick_after(since)}; call network.record() before sim.run(), and "
                "get_data(clear=True) where no frame is on its way"
            )
