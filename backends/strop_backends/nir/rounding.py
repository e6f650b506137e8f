"""What rounding weights to float32 does: thresholds moved to where frames fire as before, and the spikes that change.

Rounding moves every sum a little. A sum that met its threshold exactly may then lie below it, and a neuron falls
silent. Where the frames at hand leave room between the sums that fired and those that did not, the threshold of the
population is moved into that room, by no more than twice the largest change of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.running.oracle import evaluate, potential
from strop_backends.nir.neurons import NEURONS, compared_with, fires_from, level, set_level
from strop_backends.nir.profiles import get_profile
from strop_backends.nir.reading import read_nir
from strop_backends.nir.writing import graph_hint


@dataclass(frozen=True)
class Rounding:
    """What rounding did.

    Attributes
    ----------
    frames : int
        On how many frames spikes were counted; 0 where none were given.
    spikes : int
        Spikes of the network before.
    changed : dict of population name to int
        Spikes that came or went.
    moved : dict of population name to float
        By how much thresholds were moved.
    """

    frames: int = 0
    spikes: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)


def recentre(graph: Graph, written: Any, signals: dict[str, npt.NDArray[Any]] | None) -> Rounding:
    """Move thresholds of a graph that was written with `rounding`, in place, and count the spikes that change.

    Parameters
    ----------
    graph : Graph
        As it was before.
    written : nir.NIRGraph
        Of `to_nir(graph, rounding=True)`.
    signals : dict of input name to array, shape (n, *signal_shape), optional
        Encoded frames.
    """
    if signals is None:
        return Rounding()
    fires = get_profile(str(graph_hint(written.metadata)["profile"])).fires
    nodes = {str(graph_hint(n.metadata)["name"]): n for n in written.nodes.values() if isinstance(n, NEURONS)}
    again = read_nir(written, memoryless=True)
    before = evaluate(graph, signals)
    known = {**signals, **before}
    moved = {}
    for population in again.populations:
        name = population.name
        sums = potential(again, name, known)
        shift = _shift(sums - population.threshold, potential(graph, name, known) - sums, before[name])
        if shift:
            node = nodes[name]
            value = level(node)
            precision = "float32" if value.dtype == np.float32 else "float64"
            set_level(node, compared_with(fires_from(value, fires) + shift, precision, fires))
            moved[name] = shift
    after = evaluate(read_nir(written, memoryless=True), signals)
    changed = {name: int(np.count_nonzero(after[name] != spikes)) for name, spikes in before.items()}
    spikes = sum(int(values.sum()) for values in before.values())
    return Rounding(len(next(iter(signals.values()))), spikes, changed, moved)


def _shift(margins: npt.NDArray[Any], changes: npt.NDArray[Any], fired: npt.NDArray[np.bool_]) -> float:
    """Return what to move a population's threshold by, so that what fired fires and what did not does not; or 0."""
    least = float(margins[fired].min(initial=np.inf))
    most = float(margins[~fired].max(initial=-np.inf))
    room, step = least - most, 2.0 * float(np.abs(changes).max())
    if most < 0.0 <= least or not room > 0.0:
        return 0.0
    return least - min(step, room / 2) if least < 0.0 else most + min(step, room / 2)


def account(rounding: Rounding) -> str:
    """Return what a folder's README says of the rounding."""
    if not rounding.frames:
        return (
            "Weights and biases were rounded to float32. No frames were given, so nothing is known of the spikes that "
            "change."
        )
    changed = {name: count for name, count in rounding.changed.items() if count}
    where = "" if not changed else ": " + ", ".join(f"{count:,} of `{name}`" for name, count in changed.items())
    moved = ", ".join(f"`{name}` by {shift:.3g}" for name, shift in rounding.moved.items())
    return (
        f"Weights and biases were rounded to float32. On the {rounding.frames:,} frames in this folder, "
        f"{sum(changed.values()):,} spikes of {rounding.spikes:,} change{where}."
        + (f" Thresholds were moved, so that fewer change: {moved}." if moved else "")
    )
