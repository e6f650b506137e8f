"""What a user's script sets around a PyNN network, drawn at random: for each simulator, everything known to matter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from hypothesis import strategies as st

from strop_backends.pynn.brian2.log_filter import quiet_brian2
from strop_backends.pynn.common.dialect import dialect_for
from strop_backends.pynn.nest.warning_filter import quiet_nest

STEPS = {
    "pynn-nest": (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.25, 1.0, 2.0),
    "pynn-brian2": (0.01, 0.05, 0.1, 0.2, 0.3, 0.7, 1.0),
    "pynn-neuron": (0.01, 0.025, 0.1, 0.2, 0.3, 0.7, 1.0),
}
MODULES = {"pynn-nest": "pyNN.nest", "pynn-brian2": "pyNN.brian2", "pynn-neuron": "pyNN.neuron"}


@st.composite
def surroundings(draw: st.DrawFn, backend: str) -> dict[str, Any]:
    """Draw a time step, options of `setup`, and settings of the simulator."""
    found: dict[str, Any] = {"timestep": draw(st.sampled_from(STEPS[backend])), "longest": draw(st.integers(4, 30))}
    if backend == "pynn-nest":
        found["threads"] = draw(st.sampled_from((1, 1, 1, 2)))
        found["rng_seed"] = draw(st.integers(1, 2**31))
        found["defaults"] = draw(st.booleans())
        found["precise neurons"] = draw(st.booleans())
        found["use_wfr"] = draw(st.booleans())
    elif backend == "pynn-brian2":
        found["core.default_float_dtype"] = draw(st.sampled_from((np.float32, np.float64)))
        found["codegen.loop_invariant_optimisations"] = draw(st.booleans())
        found["legacy.refractory_timing"] = draw(st.booleans())
        # For PyNN's own recorders: compiling them takes longer than all the rest.
        found["codegen.target"] = "numpy"
        found["defaultclock"] = draw(st.sampled_from((0.1, 0.25, 1.0)))
    else:
        found["celsius"] = draw(st.sampled_from((6.3, 37.0)))
        found["queue_mode"] = draw(st.booleans())
        found["condition_order"] = draw(st.sampled_from((1, 2)))
        found["min_delay"] = draw(st.sampled_from((1, 3)))
    return found


@contextmanager
def surrounded(backend: str, drawn: dict[str, Any]) -> Iterator[Any]:
    """Yield PyNN's module, set up as drawn."""
    around = {"pynn-nest": _nest, "pynn-brian2": _brian2, "pynn-neuron": _neuron}[backend]
    dialect = dialect_for(MODULES[backend])
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Full reset functionality is not available")
        stack.enter_context(quiet_nest())
        stack.enter_context(quiet_brian2())
        stack.callback(dialect.release)
        stack.enter_context(around(dialect, drawn))
        yield dialect.sim


@contextmanager
def _nest(dialect: Any, drawn: dict[str, Any]) -> Iterator[None]:
    step, nest = drawn["timestep"], dialect.nest
    dialect.sim.setup(
        timestep=step,
        # On a step itself NEST's rounding may fall short (`docs/pynn.md`).
        min_delay=step * 1.001,
        max_delay=(drawn["longest"] + 0.5) * step,
        spike_precision="on_grid",
        threads=drawn["threads"],
        rng_seed=drawn["rng_seed"],
        t_flush=40 * step,
    )
    nest.set(use_wfr=drawn["use_wfr"])
    if drawn["precise neurons"]:
        nest.Create("iaf_psc_delta_ps", 2)
    if drawn["defaults"]:
        nest.SetDefaults("iaf_psc_delta", {"V_min": 0.25, "t_ref": 3 * step, "refractory_input": True, "I_e": 9.0})
        nest.SetDefaults("spike_generator", {"start": 3 * step, "origin": step})
        nest.SetDefaults("step_current_generator", {"stop": 5 * step})
        nest.SetDefaults("spike_recorder", {"start": 3 * step, "stop": 9 * step, "time_in_steps": True})
        nest.SetDefaults("static_synapse", {"weight": 3.0, "delay": 2 * step, "receptor_type": 1})
        nest.SetDefaults("static_synapse_lbl", {"weight": 3.0, "receptor_type": 1})
    yield


@contextmanager
def _brian2(dialect: Any, drawn: dict[str, Any]) -> Iterator[None]:
    import brian2

    names = [name for name in drawn if "." in name]
    given, clock = {name: brian2.prefs[name] for name in names}, brian2.defaultclock.dt
    try:
        for name in names:
            brian2.prefs[name] = drawn[name]
        brian2.defaultclock.dt = drawn["defaultclock"] * brian2.ms
        dialect.sim.setup(timestep=drawn["timestep"])
        yield
    finally:
        brian2.defaultclock.dt = clock
        for name in names:
            brian2.prefs[name] = given[name]


@contextmanager
def _neuron(dialect: Any, drawn: dict[str, Any]) -> Iterator[None]:
    h = dialect.h
    cvode = h.CVode()
    try:
        h.celsius = drawn["celsius"]
        cvode.queue_mode(int(drawn["queue_mode"]))
        cvode.condition_order(drawn["condition_order"])
        dialect.sim.setup(timestep=drawn["timestep"], min_delay=drawn["min_delay"] * drawn["timestep"])
        yield
    finally:
        h.celsius = 6.3
        cvode.queue_mode(0)
        cvode.condition_order(1)
