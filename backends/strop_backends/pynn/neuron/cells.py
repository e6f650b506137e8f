"""What is known of a cell of NEURON by itself: its constants, thresholds, and what its potential depends on.

`strop_backends.pynn.neuron.dialect` says why the numbers are what they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from strop_backends.pynn.common.dialect import FloatArray

# Subtracted from a threshold, relative to it: more than the roundings on the way to the membrane.
RESOLUTION = 2.0**-44
# Membrane time constants in a tick; its inverse is the share of the potential that is left after a tick.
LEAK = 2.0**20
# Membrane potential in mV for a summed weight of 1 nA.
PEAK = 2.0**-20


def strip(cell: Any) -> None:
    """Take a cell's attributes away: it and they refer to each other, which Python's garbage collection does not see.

    NEURON 9 answers `cell.__dict__` with the section's settings (`nrnpython/nrnpy_nrn.cpp`).
    """
    object.__getattribute__(cell, "__dict__").clear()


def foreign(h: Any, dummy: Any) -> tuple[int, int]:
    """Count sections, and connections with a target, without PyNN's own, which is `dummy`."""
    connections = h.List("NetCon")
    targets = [connections.o(n).syn() for n in range(int(connections.count()))]
    lead = [t for t in targets if t is not None and not (t.has_loc() and t.get_segment().sec == dummy)]
    return sum(section != dummy for section in h.allsec()), len(lead)


def shape_of(section: Any) -> tuple[Any, ...]:
    """Return what a section's potential depends on besides its input."""
    middle = section(0.5)
    membrane = (middle.cm, middle.pas.g, middle.pas.e) if hasattr(middle, "pas") else (middle.cm, None, None)
    return section.nseg, section.L, middle.diam, *membrane, tuple(sorted(mechanism.name() for mechanism in middle))


def changed(neurons: Any, shape: tuple[Any, ...], *, ends: bool = False) -> str:
    """Say what a section of a population is, where it is not what it was built as; or return an empty text.

    Parameters
    ----------
    ends : bool
        Look at the first and the last section alone: a command for all sections changes them, too.
    """
    cells = neurons.local_cells
    for own in (cells[0], cells[-1]) if ends and len(cells) > 1 else cells:
        found = shape_of(own._cell)
        if found != shape:
            return (
                f"sections of {neurons.label!r} have been changed since they were built (now {_told(found)}; built "
                f"with {_told(shape)}). Let `forall` and h.allsec() leave out the sections of PyNN's cells"
            )
    return ""


def _told(shape: tuple[Any, ...]) -> str:
    names = ("nseg", "L", "diam", "cm", "g_pas", "e_pas", "mechanisms")
    return ", ".join(f"{name} {value}" for name, value in zip(names, shape, strict=True))


def capacitance(dt: float) -> float:
    """Return the capacitance in nF for which a current of 1 nA over one tick of `dt` ms lifts the membrane by
    `PEAK` mV."""
    return dt / (PEAK * (1.0 + LEAK))


def lowered(threshold: FloatArray) -> FloatArray:
    """Return the lifted thresholds, lowered by more than what is rounded on the way to the membrane; above 0."""
    raised = threshold + lift(threshold)
    level: FloatArray = raised - np.maximum(RESOLUTION * raised, np.minimum(RESOLUTION * np.abs(threshold), raised / 2))
    return level


def lift(threshold: FloatArray) -> FloatArray:
    """Return the lift of thresholds, so that a neuron without input is below them: 0 where they are positive."""
    size = np.where(threshold == 0, 0.5, np.abs(threshold))
    lifted: FloatArray = np.where(threshold > 0, 0.0, np.ldexp(1.0, np.frexp(size)[1]))
    return lifted
