"""Settings and networks of NEST that a user's script may have made before, and options that change no spike.

Hands on `NEST_VARIATIONS` and `around_nest`, for the conformance suite: see `strop.running.backend.Backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from strop_backends.pynn.common.dialect import dialect_for
from strop_backends.pynn.nest.warning_filter import quiet_nest

Around = Mapping[str, Callable[[], AbstractContextManager[Any]]]

# NEST rounds delays, and PyNN times, at some of these steps.
NEST_VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    **{f"a step of {step} ms": {"timestep": step} for step in (0.01, 0.1, 0.3, 0.7, 2.5)},
    "two threads": {"threads": 2},
    "a wave over three ticks": {"spread": 3, "timestep": 0.1},
    "three copies, layers a tick apart": {"copies": 3, "layer_ticks": 1},
}


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
