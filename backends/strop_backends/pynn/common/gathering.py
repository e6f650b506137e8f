"""`recorded_events`, `all_synapses`: what PyNN has recorded and connected, of all processes (see `processes`).

In several processes, each has the cells that are dealt out to it and the synapses that end at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from strop_backends.pynn.common.dialect import Events, FloatArray, Synapses
from strop_backends.pynn.common.processes import Processes, own_spikes


def is_recorded(population: Any) -> bool:
    """Whether PyNN records spikes of all cells of `population` that this process has, one at least."""
    recorded = getattr(getattr(population, "recorder", None), "recorded", None)
    if recorded is None:
        return False  # sPyNNaker's populations do not say, and take a second `record`
    ours = int(population._mask_local.sum())
    return 0 < ours == sum(len(cells) for variable, cells in recorded.items() if variable.name == "spikes")


def recorded_events(populations: Mapping[str, Any], dt: float, processes: Processes) -> dict[str, Events]:
    """Return neuron and tick of each spike of the populations that PyNN records; those of all processes, in each.

    Parameters
    ----------
    populations : mapping of name to PyNN Population
    dt : float
        Length of a tick in ms.
    processes : Processes
    """
    said = {
        name: is_recorded(population) or not hasattr(population, "recorder") for name, population in populations.items()
    }
    if processes.size == 1:
        return {name: _own_events(populations[name], dt, False) for name in populations if said[name]}
    # A process without recorded cells hands over nothing, but takes part.
    names = {name for found in processes.everyone([n for n, is_so in said.items() if is_so]) for name in found}
    events = {}
    with processes.agreed():
        for name in populations:
            if name in names:
                empty = np.zeros(0, dtype=np.int64)
                events[name] = _own_events(populations[name], dt, True) if said[name] else (empty, empty)
    return {name: (processes.joined(neurons), processes.joined(ticks)) for name, (neurons, ticks) in events.items()}


def _own_events(population: Any, dt: float, several: bool) -> Events:
    neurons, times = own_spikes(population, several)
    return neurons, np.rint(times / dt).astype(np.int64)


def all_synapses(own: Synapses, processes: Processes) -> Synapses:
    """Return the synapses of all processes; `write` takes weights for all of them, and sets those of this one."""
    if processes.size == 1:
        return own
    counts = processes.everyone(len(own.weights))
    first = sum(counts[: processes.rank])

    def write(values: FloatArray) -> None:
        own.write(values[first : first + len(own.weights)])

    joined = processes.joined
    return Synapses(joined(own.pre), joined(own.post), joined(own.weights), write)
