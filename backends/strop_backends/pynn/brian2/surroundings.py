"""Settings and networks of Brian2 that a user's script may have made before, and options that change no spike.

Hands on `BRIAN2_VARIATIONS` and `around_brian2`, for the conformance suite: see `strop.running.backend.Backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from strop_backends.pynn.brian2.log_filter import quiet_brian2
from strop_backends.pynn.common.dialect import dialect_for

Around = Mapping[str, Callable[[], AbstractContextManager[Any]]]

BRIAN2_VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    f"a step of {step} ms": {"timestep": step} for step in (0.01, 0.3, 0.7, 1.0)
}


@contextmanager
def brian2_preference(name: str, value: Any) -> Iterator[None]:
    """Another value of one of Brian2's preferences."""
    import brian2

    given = brian2.prefs[name]
    brian2.prefs[name] = value
    try:
        yield
        assert brian2.prefs[name] == value, f"the preference {name} has been lost"
    finally:
        brian2.prefs[name] = given


@contextmanager
def brian2_clock() -> Iterator[None]:
    """Another step of Brian2's default clock."""
    import brian2

    given = brian2.defaultclock.dt
    brian2.defaultclock.dt = 0.35 * brian2.ms
    try:
        yield
        assert brian2.defaultclock.dt == 0.35 * brian2.ms, "the default clock has another step"
    finally:
        brian2.defaultclock.dt = given


@contextmanager
def used_brian2() -> Iterator[Any]:
    """A PyNN network of the user's on Brian2, which has run; it must go on afterwards."""
    dialect = dialect_for("pyNN.brian2")
    sim = dialect.sim
    sim.setup(timestep=0.5)
    cells = sim.Population(3, sim.IF_curr_exp(i_offset=3.0))
    cells.record("spikes")
    # Compiling would take longer than all the rest.
    with quiet_brian2(), brian2_preference("codegen.target", "numpy"):
        sim.run(20.0)
        before = len(cells.get_data("spikes").segments[-1].spiketrains[0])
        try:
            yield sim
            sim.run(20.0)
            after = len(cells.get_data("spikes").segments[-1].spiketrains[0])
            assert after > before > 0, "PyNN's network no longer runs"
        finally:
            dialect.release()


def around_brian2() -> Around:
    """See `strop.running.backend.Backend.surroundings`."""
    import numpy as np

    schedule = ["start", "groups", "thresholds", "resets", "synapses", "end"]
    values = {
        "core.default_float_dtype": np.float32,
        "codegen.loop_invariant_optimisations": False,
        "legacy.refractory_timing": True,
        "codegen.target": "cython",
        "core.network.default_schedule": schedule,
    }
    return {
        "a network in use": used_brian2,
        "another default clock": brian2_clock,
        **{f"preference {name}": _with(name, value) for name, value in values.items()},
    }


def _with(name: str, value: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: brian2_preference(name, value)
