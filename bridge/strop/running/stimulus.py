"""What a simulator gets from outside, step by step: stimulus spikes of some nodes, input currents of some populations.

An input either sends spikes (encodings `bitplane`, `binary`) or values (`host`, `current`). Behind `host`, the host
evaluates populations itself and their spikes are the stimulus; behind `current`, populations take a current per neuron.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph, Projection


def spiking_inputs(graph: Graph) -> tuple[str, ...]:
    """Return the inputs that send spikes."""
    return tuple(node.name for node in graph.inputs if node.spiking)


def analogue_inputs(graph: Graph) -> tuple[str, ...]:
    """Return the inputs that send values, not spikes."""
    return tuple(node.name for node in graph.inputs if not node.spiking)


def stimulus_nodes(graph: Graph) -> tuple[str, ...]:
    """Return the nodes whose spikes are the stimulus: spiking inputs, and populations that the host evaluates."""
    return (*spiking_inputs(graph), *(name for name in graph.population_names if name in graph.host_populations))


def current_driven_populations(graph: Graph) -> dict[str, tuple[Projection, ...]]:
    """Return the populations that take an input current per neuron and step, each with the projections that bring it.

    They are those behind an input that sends values (encoding `current`), without those that the host evaluates.
    """
    analogue = analogue_inputs(graph)
    found = {
        name: tuple(p for p in graph.incoming(name) if p.source in analogue)
        for name in graph.population_names
        if name not in graph.host_populations
    }
    return {name: projections for name, projections in found.items() if projections}


def input_currents(graph: Graph, signals: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the input currents of `current_driven_populations`, `sum W x` without the bias, shape `(n, size)`.

    Summed in the oracle's order: a neuron without other inputs gets exactly the oracle's potential.
    """
    values = {}
    for name, projections in current_driven_populations(graph).items():
        total = projections[0].operator.apply(signals[projections[0].source])
        for p in projections[1:]:
            total = total + p.operator.apply(signals[p.source])
        values[name] = np.asarray(total, dtype=np.float64).reshape(len(total), -1)
    return values


def refuse_currents(graph: Graph, target: str) -> None:
    """Raise `BackendError` if a population of `graph` takes input currents: for cells that take spikes alone."""
    for name, projections in current_driven_populations(graph).items():
        raise BackendError(
            f"population {name!r} is driven by the values of input {projections[0].source!r}; the cells of {target} "
            "take no value per step. Lower the model with encoding='bitplane' or 'binary'"
        )
