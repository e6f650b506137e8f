"""NEST's kernel: loading it, what marks one kernel from the next, and which of its settings a script has changed."""

from __future__ import annotations

import math
import os
import sys
from types import ModuleType
from typing import Any

from strop.errors import BackendError
from strop_backends.pynn.common.processes import NEST_WITHOUT_MPI, join, launched, nest_has_mpi
from strop_backends.pynn.nest.warning_filter import quiet_nest

# In ms; a time step is a whole number of them.
TIC = 0.001
# Prefix of the name of a copied model, by which one kernel is told from the next.
MARK = "strop_kernel_"
# Settings that `ResetKernel` sets back, with NEST's own values, for networks that a script builds afterwards: steps and
# delays, seeds, methods and output. Sizes of buffers change nothing that is simulated. Older versions lack some.
_FRESH: dict[str, Any] = {
    "resolution": 0.1,
    "local_num_threads": 1,
    "tics_per_ms": 1000.0,
    "min_delay": 0.1,
    "max_delay": 0.1,
    "rng_seed": 143202461,
    "rng_type": "mt19937_64",
    "print_time": False,
    "keep_source_table": True,
    "use_compressed_spikes": True,
    "use_wfr": True,
    "wfr_comm_interval": 1.0,
    "wfr_interpolation_order": 3,
    "wfr_max_iterations": 15,
    "wfr_tol": 1e-4,
    "dict_miss_is_error": True,
    "structural_plasticity_update_interval": 10000.0,
    "eprop_learning_window": 1000.0,
    "eprop_reset_neurons_on_update": True,
    "eprop_update_interval": 1000.0,
}


def load() -> ModuleType:
    """Import `pyNN.nest` without NEST's banner on standard output."""
    if launched() > 1 and "nest" not in sys.modules and not nest_has_mpi():
        # That NEST ends the process.
        join("pynn-nest", 1, NEST_WITHOUT_MPI, BackendError)
    given = os.environ.get("PYNEST_QUIET")
    os.environ["PYNEST_QUIET"] = "1"
    try:
        with quiet_nest():
            import pyNN.nest
    finally:
        if given is None:
            del os.environ["PYNEST_QUIET"]
    module: ModuleType = pyNN.nest
    return module


def verbosity(nest: Any) -> Any:
    """Return how much NEST says."""
    return nest.verbosity if hasattr(nest, "VerbosityLevel") else nest.get_verbosity()


def set_verbosity(nest: Any, level: Any) -> None:
    """Let NEST say as much as `verbosity` has returned."""
    if hasattr(nest, "VerbosityLevel"):  # since 3.10
        nest.verbosity = level
    else:
        nest.set_verbosity(level)


def changed_settings(nest: Any) -> list[str]:
    """Return the settings that `ResetKernel` would undo, by name; none where the kernel is as it was imported."""
    now = nest.get()
    changed = [name for name, value in _FRESH.items() if name in now and now[name] != value]
    # PyNN's `setup` makes a folder for NEST to write to, `end` removes it.
    if os.path.isdir(nest.get("data_path")):
        changed.append("data_path")
    try:
        # NEST refuses that where a model's defaults were changed or copied, and does nothing otherwise
        # (`nestkernel/simulation_manager.cpp`, `set_status`).
        nest.set(resolution=nest.resolution)
    except nest.NESTError:
        changed.append("defaults of models")
    return changed


def check_timestep(timestep: float) -> None:
    """Raise `BackendError` for a time step that NEST cannot count."""
    tics = timestep / TIC
    if round(tics) < 1 or not math.isclose(tics, round(tics), rel_tol=1e-9):
        raise BackendError(
            f"pynn-nest: a timestep of {timestep} ms cannot be had: NEST counts in tics of {TIC} ms, and a step is "
            f"a whole number of them, for example {max(1, round(tics)) * TIC:g}"
        )
