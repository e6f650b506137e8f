"""NEST's kernel: loading it, what marks one kernel from the next, and which of its settings a script has changed."""

from __future__ import annotations

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
# Settings that a script can only make before there are nodes, with NEST's defaults (`nestkernel/nest_time.h`,
# `vp_manager.cpp`).
_FRESH: dict[str, Any] = {"resolution": 0.1, "local_num_threads": 1, "tics_per_ms": 1000.0}


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


def changed_settings(nest: Any) -> list[str]:
    """Return the settings that `ResetKernel` would undo, by name; none where the kernel is as it was imported."""
    changed = [name for name, value in _FRESH.items() if nest.get(name) != value]
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
