"""Settings and networks of NEURON that a user's script may have made before, and options that change no spike.

Hands on `NEURON_VARIATIONS` and `around_neuron`, for the conformance suite: see `strop.running.backend.Backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from strop_backends.pynn.common.dialect import dialect_for

Around = Mapping[str, Callable[[], AbstractContextManager[Any]]]

NEURON_VARIATIONS: Mapping[str, Mapping[str, Any]] = {
    f"a step of {step} ms": {"timestep": step} for step in (0.025, 0.3, 1.0)
}


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
