"""`classes`: PyNN's population, source, synapse and projection for Brian2, independent of preferences and clocks.

Brian2 asks its preferences when variables are made and when code is generated, at the start of each run
(`core/variables.py`, `codegen/optimisation.py`, `core/network.py`, read in 2.9.0). Those that bear on a spike (the
second and the third have changed none that was tried):

* `core.default_float_dtype`: the precision of variables that name none, and of constants in generated code.
* `codegen.loop_invariant_optimisations`: rewrites `exp(-dt / tau_m)`, whose last bit decides where a threshold is met.
* `legacy.refractory_timing`: when a neuron is refractory.
* `core.network.default_schedule`, and the `schedule` of the network: the order within a tick.

The first three are set while strop's parts are made and their code is generated, and set back; the last is checked.
The target of the generated code changes nothing: strop's parts have NumPy code.

A `SpikeSourceArray` of PyNN runs on Brian2's default clock (`cells.py`, `SpikeGeneratorGroup`), and so do its synapses;
`Sources` follows the clock that `setup` has set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

import brian2
import numpy as np
from brian2.codegen.runtime.numpy_rt import NumpyCodeObject
from brian2.core.network import _get_all_objects

from strop.errors import BackendError
from strop_backends.pynn.common.parameters import tuned_classes
from strop_backends.pynn.common.synapse_lists import rows_of

PREFERENCES: Mapping[str, Any] = {
    "core.default_float_dtype": np.float64,
    "codegen.loop_invariant_optimisations": True,
    "legacy.refractory_timing": False,
}
# The order within a tick that `strop_backends.pynn.brian2.dialect` builds on.
SCHEDULE = ("start", "groups", "thresholds", "synapses", "resets", "end")


@contextmanager
def preferences() -> Iterator[None]:
    """Let the preferences that could change a spike be those that strop builds on."""
    given = {name: brian2.prefs[name] for name in PREFERENCES}
    changed = {name: value for name, value in PREFERENCES.items() if given[name] is not value}
    for name, value in changed.items():
        brian2.prefs[name] = value
    try:
        yield
    finally:
        for name in changed:
            brian2.prefs[name] = given[name]


def require_surroundings(network: Any, dt: float) -> None:
    """Raise `BackendError` if the clock or the schedule of PyNN's network is not the one that strop has built for.

    Parameters
    ----------
    dt : float
        Length of a tick in seconds, when the network was built.
    """
    if float(network.clock.dt_) != dt:
        raise BackendError(
            f"pynn-brian2: the clock's dt is {float(network.clock.dt_) * 1e3:g} ms now, the network was built for "
            f"{dt * 1e3:g} ms; set it before strop.build, with sim.setup(timestep=...)"
        )
    wrong = wrong_schedule(network)
    if wrong:
        raise BackendError(f"pynn-brian2: spikes would be wrong, this script has {wrong}")


# No tick follows it.
_NEVER = -2


class Begun(brian2.NetworkOperation):  # type: ignore[misc]  # Brian2 ships no types
    """Refuses a tick that an exception has interrupted and that is begun again: its spikes would arrive twice; and a
    clock that was set, whose ticks do not follow one another.

    And lets PyNN reset a network to which something was added after its first run.
    """

    def __init__(self, state: Any) -> None:
        clock = state.network.clock
        super().__init__(self.begin, clock=clock, when="before_groups")
        self._state, self._tick = state, clock.variables["timestep"].get_value()
        self._last: tuple[int, int] | None = None
        self._jump = ""

    def before_run(self, run_namespace: Any) -> None:
        """Let PyNN's `reset` find a state of objects that were added after the first run: that of now, before they run.

        It restores what was stored then (`simulator.py`), and Brian2 asks for the state of each object.
        """
        super().before_run(run_namespace)
        stored = self._state.network._stored_state.get("before-first-run")
        for found in _get_all_objects(self._state.network.objects) if stored is not None else ():
            for one in (found, found.clock):
                if one.name not in stored and hasattr(one, "_full_state"):
                    stored[one.name] = one._full_state()

    def begin(self) -> None:
        """Remember the tick, of this PyNN segment."""
        now = (int(self._state.segment_counter), int(self._tick.item()))
        if now == self._last:
            raise BackendError(
                f"pynn-brian2: tick {now[1]} was interrupted by an exception and is begun again, so that its spikes "
                "would arrive twice; sim.reset() or network.reset(), and present the frames anew"
            )
        if self._last is not None and now[0] == self._last[0] and now[1] != self._last[1] + 1:
            if self._last[1] != _NEVER:
                self._jump = f"from tick {self._last[1] + 1} to tick {now[1]}"
            # Setting it back helps no more: parts of a tick have been run.
            self._last = now[0], _NEVER
            raise BackendError(
                f"pynn-brian2: the clock has been set {self._jump}, so that spikes would be lost; let sim.run and "
                "sim.reset alone move it. sim.reset() or network.reset(), and present the frames anew"
            )
        self._last = now

    def _full_state(self) -> None:
        """Nothing is stored; a tick may be run again after Brian2's `restore`."""

    def _restore_from_full_state(self, state: None) -> None:
        self._last = None


def wrong_schedule(network: Any) -> str | None:
    """Describe the order within a tick if it is not `SCHEDULE`, or return None; additional slots are allowed."""
    order = [slot for slot in network.schedule if slot in SCHEDULE]
    if tuple(order) == SCHEDULE:
        return None
    return (
        f"the schedule {', '.join(order)} (of the network, or the preference core.network.default_schedule), where it "
        f"must be {', '.join(SCHEDULE)}"
    )


def independent(group: Any, check: Callable[[], None]) -> None:
    """Let a Brian2 group and its parts generate NumPy code under strop's preferences, after `check`."""
    for part in (group, *group.contained_objects):
        part.codeobj_class = NumpyCodeObject
        object.__setattr__(part, "before_run", _under_preferences(part.before_run, check))


def _under_preferences(before_run: Callable[..., Any], check: Callable[[], None]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        check()
        with preferences():
            return before_run(*arguments, **named)

    return run


def _neurons(sim: ModuleType) -> type:
    tuned, _ = tuned_classes(sim)
    recorder: Any = tuned._recorder_class  # type: ignore[attr-defined]  # PyNN's

    class Recorder(recorder):  # type: ignore[misc]  # PyNN ships no types
        def _clear_simulator(self) -> None:
            """PyNN's leaves the number of spikes as it was, with zeros in front of the next ones."""
            super()._clear_simulator()
            for device in self._devices.values():
                device.variables["N"].set_value(0)

    class Neurons(tuned):  # type: ignore[misc,valid-type]
        __doc__ = tuned.__doc__
        _recorder_class = Recorder

    return Neurons


@lru_cache
def classes(sim: ModuleType) -> tuple[type, type, type, type]:
    """Return population, cell of sources, synapse and projection for `sim`, the module `pyNN.brian2`."""
    base: Any = sim
    from pyNN.brian2.cells import SpikeGeneratorGroup

    class Generator(SpikeGeneratorGroup):  # type: ignore[misc]  # PyNN ships no types
        def __init__(self, n: int, equations: Any, spike_time_sequences: Any = None) -> None:
            # PyNN's own does not pass a clock on.
            brian2.SpikeGeneratorGroup.__init__(
                self, n, indices=[], times=[] * brian2.second, clock=base.simulator.state.network.clock
            )

    class Sources(base.SpikeSourceArray):  # type: ignore[misc]
        __doc__ = base.SpikeSourceArray.__doc__
        brian2_model = Generator

    class VoltSynapse(base.StaticSynapse):  # type: ignore[misc]
        __doc__ = base.StaticSynapse.__doc__

        def _set_target_type(self, weight_units: Any) -> None:
            # PyNN's unit for a delta cell is mV, which would round; a weight of 1 is a volt in Brian2.
            self.translations["weight"]["forward_transform"] = lambda **given: given["weight"] * brian2.volt
            self.translations["weight"]["reverse_transform"] = lambda **given: given["weight"] / brian2.volt

    class VoltProjection(base.Projection):  # type: ignore[misc]
        """A projection whose weights are the graph's, read and written with `get` and `set`."""

        def _set_attributes(self, parameter_space: Any) -> None:
            """Write matrices of weights or delays; all or nothing."""
            parameter_space.evaluate(simplify=False)
            synapses = self._brian2_synapses[0][0]
            place = synapses.i[:], synapses.j[:]
            columns = {name: np.broadcast_to(value, self.shape)[place] for name, value in parameter_space.items()}
            for name, column in columns.items():
                if not np.isfinite(column).all():
                    raise BackendError(f"pynn-brian2: {name} of {self.label} must be finite")
                # Both are in SI units here.
                self._variable(name).set_value(np.asarray(column, dtype=np.float64))

        def _get_attributes_as_list(self, names: Sequence[str]) -> list[tuple[float, ...]]:
            synapses = self._brian2_synapses[0][0]
            pre, post = (np.asarray(index[:], dtype=np.float64) for index in (synapses.i, synapses.j))
            special = {"presynaptic_index": pre, "postsynaptic_index": post}
            return rows_of(pre, post, [special[n] if n in special else self._values(n) for n in names])

        def _values(self, name: str) -> Any:
            """Return one value for each synapse in PyNN's unit, or the graph's for weights."""
            values = self._variable(name).get_value()
            return values / float(brian2.ms) if name == "delay" else values

        def _variable(self, name: str) -> Any:
            synapses = self._brian2_synapses[0][0]
            return (synapses.pre if name == "delay" else synapses).variables[name]

    return _neurons(sim), Sources, VoltSynapse, VoltProjection
