"""Brian2's preferences that could change a spike, and how each is set or followed here.

All preferences of brian2 2.9.0 were read in its source (`prefs.register_preferences`). 2.10.1 adds
`logging.warn_for_unused_objects`, 2.11.0 `codegen.synapse_connect_target`; neither matters here.

| preference | where it acts | what becomes of it |
|---|---|---|
| `core.default_float_dtype` | dtype of every array without one (`core/variables.py`, `groups/group.py: get_dtype`) | set to float64 while a network is built |
| `core.default_integer_dtype` | the same, for whole numbers | set to int32 while a network is built |
| `core.network.default_schedule` | the order of slots (`core/network.py`) | all of a step happens in one slot (`drive.SLOT`), so no order of slots matters; the slot must be there, or the run is refused |
| `codegen.target`, `codegen.string_expression_target` | which code is generated | followed; every target adds and compares in float64 |
| `codegen.loop_invariant_optimisations` | rewrites expressions (`codegen/optimisation.py`) | followed: the code here is `v >= th`, `v = bias` and `v_post += w`, which holds no expression |
| `codegen.cpp.*` | compiler and its flags, `-ffast-math` among them | followed in runtime mode: each addition is a statement of its own that no flag reorders; replaced for standalone programs, whose sums are compiled as a whole |
| `codegen.generators.cpp.flush_denormals` | C++ standalone only (`generators/cpp_generator.py`) | off for standalone programs |
| `devices.cpp_standalone.openmp_threads` | order of sums in a standalone program | set to 0 for standalone programs |
| `legacy.refractory_timing`, `GSL.directory`, `logging.*`, `core.stop_on_keyboard_interrupt`, others | no refractoriness, no GSL here; no sum | followed |
"""  # noqa: E501  # a table

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import brian2
import numpy as np

# While a network's arrays are made.
EXACT: Mapping[str, Any] = {
    "core.default_float_dtype": np.float64,
    "core.default_integer_dtype": np.int32,
}

# While a C++ program is written and compiled. Without -ffast-math no sum is reordered and the smallest numbers stay;
# without -ffp-contract nothing is rounded once where the graph rounds twice.
EXACT_PROGRAM: Mapping[str, Any] = {
    **EXACT,
    "core.network.default_schedule": ["start", "groups", "thresholds", "synapses", "resets", "end"],
    "codegen.loop_invariant_optimisations": True,
    "codegen.generators.cpp.flush_denormals": False,
    "codegen.cpp.extra_compile_args": None,
    "codegen.cpp.extra_compile_args_gcc": ["-w", "-O3", "-march=native", "-ffp-contract=off", "-std=c++17"],
    "codegen.cpp.extra_link_args": [],
    "codegen.cpp.define_macros": [],
    "codegen.cpp.headers": [],
    "devices.cpp_standalone.openmp_threads": 0,
}


@contextmanager
def preferring(settings: Mapping[str, Any]) -> Iterator[None]:
    """Set preferences within a `with` block, and restore them after it."""
    before = {name: brian2.prefs[name] for name in settings}
    try:
        for name, value in settings.items():
            brian2.prefs[name] = value
        yield
    finally:
        for name, value in before.items():
            brian2.prefs[name] = value
