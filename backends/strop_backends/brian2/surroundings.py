"""States in which a user's script may leave Brian2 before it calls strop; none of them may change a spike.

Each is a context manager that sets the state and undoes it, for the conformance suite and for the property tests that
draw several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import brian2
import numpy as np
from brian2.codegen.runtime.numpy_rt.numpy_rt import NumpyCodeObject
from brian2.core.base import BrianObject

from strop_backends.brian2.preferences import preferring

_SLOTS = ["start", "groups", "synapses", "resets", "end", "thresholds", "mine"]


@contextmanager
def _default_clock(step: float) -> Iterator[None]:
    before = float(brian2.defaultclock.dt_)
    brian2.defaultclock.dt = step * brian2.second
    try:
        yield
    finally:
        brian2.defaultclock.dt = before * brian2.second


@contextmanager
def _used() -> Iterator[None]:
    """Run a network of the user's with names that strop uses, and keep it."""
    clock = brian2.Clock(0.1 * brian2.ms, name="strop_clock")
    mine = [
        brian2.NeuronGroup(
            4, "v : 1", threshold="v > 1", reset="v = 0", name=name, clock=clock, codeobj_class=NumpyCodeObject
        )
        for name in ("strop_units", "a", "conv")
    ]
    mine[0].v = 2.0
    network = brian2.Network(mine)
    network.run(1.3 * brian2.ms)
    yield
    network.run(0.5 * brian2.ms)
    assert len(mine[0].v) == 4


@contextmanager
def _scope_and_seed() -> Iterator[None]:
    key = BrianObject._scope_current_key
    state = brian2.get_device().get_random_state()
    brian2.start_scope()
    brian2.seed(12345)
    try:
        yield
    finally:
        BrianObject._scope_current_key = key
        brian2.get_device().set_random_state(state)


SURROUNDINGS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "float32 preferred": partial(preferring, {"core.default_float_dtype": np.float32}),
    "int64 preferred": partial(preferring, {"core.default_integer_dtype": np.int64}),
    "slots in another order": partial(preferring, {"core.network.default_schedule": _SLOTS}),
    "slots in reverse order": partial(preferring, {"core.network.default_schedule": _SLOTS[::-1]}),
    "NumPy preferred": partial(preferring, {"codegen.target": "numpy", "codegen.runtime.numpy.discard_units": True}),
    "nothing optimised": partial(preferring, {"codegen.loop_invariant_optimisations": False}),
    "old refractoriness": partial(preferring, {"legacy.refractory_timing": True}),
    "a default clock of 0.07 ms": partial(_default_clock, 0.07e-3),
    "a network that ran and runs on": _used,
    "a scope and a seed of one's own": _scope_and_seed,
}

_compiled_here: list[bool] = []


@contextmanager
def before_compiling() -> Iterator[None]:
    """Set every preference that could affect a C++ program, and another device; drop programs compiled before, once."""
    from strop_backends.brian2.cpp_standalone import _compiled

    if not _compiled_here:
        _compiled.cache_clear()
        _compiled_here.append(True)
    settings = {
        "core.default_float_dtype": np.float32,
        "core.default_integer_dtype": np.int64,
        "core.network.default_schedule": _SLOTS,
        "codegen.target": "numpy",
        "codegen.loop_invariant_optimisations": False,
        "codegen.generators.cpp.flush_denormals": True,
        "codegen.cpp.extra_compile_args": ["-w", "-Ofast", "-march=native", "-std=c++11"],
        "devices.cpp_standalone.openmp_threads": 2,
        "legacy.refractory_timing": True,
    }
    with ExitStack() as stack:
        stack.enter_context(_default_clock(0.07e-3))
        stack.enter_context(_used())
        stack.enter_context(preferring(settings))
        brian2.set_device("cpp_standalone", build_on_run=False, directory="not-mine")
        stack.callback(brian2.devices.reset_device)
        stack.callback(brian2.device.reinit)
        yield
