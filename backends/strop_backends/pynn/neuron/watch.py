"""`Watch`: checks before each of PyNN's runs, and in each step that a script takes itself between two of them.

Tried out in NEURON 9 (`tests/unit/pynn/test_neuron_steps.py`):

* PyNN asks each of its current sources before it runs (PyNN 0.13, `pyNN/neuron/simulator.py`, `run_until`); the first
  run, and the first after a reset, begins with `finitialize`, which empties NEURON's queue of events.
* NEURON calls what `CVode.extra_scatter_gather` was given in each step, of `h.fadvance`, `h.run` and `psolve` alike.
  That takes some 5 microseconds, as long as a step of a small network. So it is taken away while PyNN runs, and an
  event in PyNN's last step puts it back.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from types import ModuleType

from strop.errors import BackendError


class Watch:
    """Looks like a current source to PyNN, and joins those that it has.

    Parameters
    ----------
    sim : module
        `pyNN.neuron`.
    check : callable
        Raises `BackendError` if PyNN must not run now.
    wrong : callable
        Describes what makes a step wrong; empty if nothing does.

    Attributes
    ----------
    spoilt : str
        What has made a step wrong that has been taken since the last `finitialize`; empty if nothing has.
    """

    def __init__(self, sim: ModuleType, check: Callable[[], None], wrong: Callable[[], str]) -> None:
        self._state, self._h = sim.simulator.state, sim.simulator.h
        self._check, self._wrong = check, wrong
        self._devices = (None,)
        self._until: float | None = None
        self.spoilt = ""
        # NEURON keeps what it is given; PyNN's list of current sources keeps this object, until the next `setup`.
        own = weakref.ref(self)
        self._step, self._watching = _of(own, "_see_own_step"), False
        weakref.finalize(self, self._h.CVode().extra_scatter_gather_remove, self._step).atexit = False
        self._handler = self._h.FInitializeHandler(1, _of(own, "_initialized"))
        self._resume_later = _of(own, "_resume")
        self._state.current_sources.append(self)
        self._resume()

    def _update_iclamp(self, device: None, until: float) -> None:
        """PyNN runs until `until`, in ms."""
        self._check()
        self._until = until
        if self._state.running:
            self._pause()

    def _initialized(self) -> None:
        """NEURON begins anew: no event is left, and no potential."""
        self.spoilt = ""
        self._pause()

    def _pause(self) -> None:
        """See no step of PyNN's run but its last one or two."""
        until, self._until = self._until, None
        steps = 0 if until is None else math.floor((until - self._h.t) / self._h.dt - 0.25)
        if steps >= 1:
            self.end()
            # A step takes the events of its first half.
            self._h.CVode().event(self._h.t + (steps - 0.75) * self._h.dt, self._resume_later)
        else:
            self._resume()

    @property
    def _listed(self) -> bool:
        """Whether PyNN still has the network."""
        return any(source is self for source in self._state.current_sources)

    def end(self) -> None:
        """See no more steps."""
        if self._watching:
            self._h.CVode().extra_scatter_gather_remove(self._step)
            self._watching = False

    def _resume(self) -> None:
        if self._listed and not self._watching:
            self._h.CVode().extra_scatter_gather(0, self._step)
            self._watching = True

    def _see_own_step(self) -> None:
        # What comes before PyNN's first run, or after its reset, does not count: PyNN begins with `finitialize`.
        wrong = self._wrong() if self._listed and self._state.running else ""
        if wrong:
            self.spoilt = f"a step was taken while {wrong}; sim.reset(), and present the frames anew"
            raise BackendError(f"pynn-neuron: spikes would be wrong: {wrong}")


def _of(own: weakref.ref[Watch], method: str) -> Callable[[], None]:
    """Return a call of a method that does not keep its object alive."""

    def call() -> None:
        watch = own()
        if watch is not None:
            getattr(watch, method)()

    return call
