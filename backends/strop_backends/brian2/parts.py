"""The neurons of a graph as Brian2 has them: groups, their names, and where each population lies among them."""

from __future__ import annotations

import keyword
import math
from typing import Any

import brian2
import numpy as np
from brian2.groups.subgroup import Subgroup

from strop.errors import BackendError
from strop.graph import Graph
from strop.running.stimulus import spiking_inputs
from strop_backends.brian2.drive import Span


def brian2_name(name: str, taken: set[str]) -> str:
    """Return `name` as an identifier that Brian2 accepts as the name of an object, different from those `taken`."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    # Names that begin with "strop_" are those of the objects that strop adds itself.
    if not clean[0].isalpha() or keyword.iskeyword(clean) or clean.startswith("strop_"):
        clean = f"p_{clean}"
    candidate, number = clean, 2
    while candidate in taken:
        candidate, number = f"{clean}_{number}", number + 1
    taken.add(candidate)
    return candidate


def seconds_of(dt: Any) -> float:
    """Return a time step in seconds, given as a number or as a Brian2 time, or raise `BackendError`."""
    try:
        seconds = float(dt) if any(brian2.have_same_dimensions(dt, unit) for unit in (1, brian2.second)) else math.nan
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BackendError(f"brian2: dt must be positive (seconds), got {dt!r}")
    return seconds


class Neurons(brian2.NeuronGroup):  # type: ignore[misc]  # Brian2 ships no types
    """All neurons of a network."""

    add_to_magic_network = False

    def __del__(self) -> None:
        """Suppress Brian2's warning of objects that were never run: a network may be built without being run."""


class Part(Subgroup):  # type: ignore[misc]  # Brian2 ships no types
    """Those of a population."""

    add_to_magic_network = False

    def __del__(self) -> None:
        """Suppress the warning, as `Neurons`."""


def layout(graph: Graph) -> dict[str, Span]:
    """Return where each spiking node lies among the neurons."""
    spans: dict[str, Span] = {}
    end = 0
    inputs = spiking_inputs(graph)
    for name in (*inputs, *graph.population_names):
        size = int(np.prod(graph.signal_shape(name), dtype=np.int64))
        spans[name] = Span(end, end + size, name in inputs or name in graph.host_populations)
        end += size
    return spans
