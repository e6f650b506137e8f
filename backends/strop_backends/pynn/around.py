"""What a user's script may have done around a network, for the conformance suite: see
`strop.running.backend.Backend`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from strop_backends.pynn.dialect import dialect_for
from strop_backends.pynn.quiet import quiet_brian2, quiet_nest

Around = Mapping[str, Callable[[], AbstractContextManager[Any]]]

# Options under which no spike changes. NEST rounds delays, and PyNN times, at some of these steps.
NEST_VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    **{f"a step of {step} ms": {"timestep": step} for step in (0.01, 0.1, 0.3, 0.7, 2.5)},
    "two threads": {"threads": 2},
    "a wave over three ticks": {"spread": 3, "timestep": 0.1},
}
BRIAN2_VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    f"a step of {step} ms": {"timestep": step} for step in (0.01, 0.3, 0.7, 1.0)
}
NEURON_VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    f"a step of {step} ms": {"timestep": step} for step in (0.025, 0.3, 1.0)
}


# NEST ------------------------------------------------------------------------------------------------------------


@contextmanager
def used_nest(**setup: Any) -> Iterator[Any]:
    """A PyNN network of the user's in NEST's kernel, which has run; it must go on afterwards."""
    sim = dialect_for("pyNN.nest").sim
    with quiet_nest():
        sim.setup(**{"timestep": 0.5, "min_delay": 0.5, "max_delay": 4.0, "spike_precision": "on_grid", **setup})
        cells = sim.Population(3, sim.IF_curr_exp(i_offset=3.0))
        cells.record("spikes")
        sim.run(20.0)
        before = len(cells.get_data("spikes").segments[-1].spiketrains[0])
    try:
        yield sim
        with quiet_nest():
            sim.run(20.0)
            after = len(cells.get_data("spikes").segments[-1].spiketrains[0])
        assert after > before > 0, "the network that was in the kernel no longer runs"
    finally:
        with quiet_nest():
            dialect_for("pyNN.nest").release()


@contextmanager
def nest_settings(**settings: Any) -> Iterator[None]:
    """Settings of a kernel in which there is nothing yet; they must be the same afterwards."""
    dialect = dialect_for("pyNN.nest")
    nest: Any = dialect.nest  # type: ignore[attr-defined]  # NEST's dialect has it
    with quiet_nest():
        nest.ResetKernel()
        nest.set(**settings)
    try:
        yield
        with quiet_nest():
            assert all(nest.get(name) == value for name, value in settings.items()), "settings have been lost"
    finally:
        dialect.release()


@contextmanager
def nest_defaults() -> Iterator[None]:
    """Other defaults of the models that strop builds with."""
    dialect = dialect_for("pyNN.nest")
    nest: Any = dialect.nest  # type: ignore[attr-defined]
    with quiet_nest():
        nest.SetDefaults("iaf_psc_delta", {"V_min": 0.25, "refractory_input": True, "t_ref": 5.0})
        nest.SetDefaults("spike_generator", {"start": 3.0})
        nest.SetDefaults("spike_recorder", {"time_in_steps": True})
        nest.SetDefaults("static_synapse", {"weight": 3.0, "receptor_type": 1})
    try:
        yield
        with quiet_nest():
            assert nest.GetDefaults("iaf_psc_delta", "V_min") == 0.25, "defaults have been lost"
    finally:
        dialect.release()


def around_nest() -> Around:
    """See `strop.running.backend.Backend.surroundings`."""
    return {
        "a kernel in use": used_nest,
        "a kernel in use, with precise times": lambda: used_nest(spike_precision="off_grid"),
        "another resolution": lambda: nest_settings(resolution=0.25),
        "four threads": lambda: nest_settings(local_num_threads=4),
        "other defaults of models": nest_defaults,
    }


# Brian2 ----------------------------------------------------------------------------------------------------------


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


# NEURON ----------------------------------------------------------------------------------------------------------


@contextmanager
def neuron_setting(change: Callable[[Any], None], undo: Callable[[Any], None]) -> Iterator[None]:
    """Something that is set in NEURON, and set back."""
    h = dialect_for("pyNN.neuron").h  # type: ignore[attr-defined]  # NEURON's dialect has it
    change(h)
    try:
        yield
    finally:
        undo(h)


@contextmanager
def used_neuron() -> Iterator[None]:
    """A section of the user's, without PyNN, and an integration that is under way."""
    h = dialect_for("pyNN.neuron").h  # type: ignore[attr-defined]
    section = h.Section(name="users")
    section.insert("hh")
    voltage = h.Vector().record(section(0.5)._ref_v)
    h.dt = 0.05
    try:
        h.finitialize(-65.0)
        for _ in range(40):
            h.fadvance()
        seen = len(voltage)
        yield
        assert (h.dt, len(voltage)) == (0.05, seen), "NEURON has been set up, or run"
        h.fadvance()
        assert len(voltage) > seen, "the section is no longer recorded"
    finally:
        h.dt = 0.025
        voltage.play_remove()


def around_neuron() -> Around:
    """See `strop.running.backend.Backend.surroundings`."""

    def attribute(name: str, value: float, given: float) -> Callable[[], AbstractContextManager[Any]]:
        return lambda: neuron_setting(lambda h: setattr(h, name, value), lambda h: setattr(h, name, given))

    return {
        "a section in use": used_neuron,
        "another temperature": attribute("celsius", 37.0, 6.3),
        "another integration": attribute("secondorder", 2, 0),
        "another step": attribute("dt", 0.1, 0.025),
        "steps of a variable length": lambda: neuron_setting(
            lambda h: h.CVode().active(1), lambda h: h.CVode().active(0)
        ),
        "two threads": lambda: neuron_setting(
            lambda h: h.ParallelContext().nthread(2), lambda h: h.ParallelContext().nthread(1)
        ),
    }
