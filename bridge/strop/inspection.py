"""What a graph costs: neurons, synapses, fan-in, depth and memory, as stored and as expanded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.backend import get_backend
from strop.encode import Frames
from strop.graph import Graph, Operator, structure

# Bytes per synapse in the three arrays of `Operator.to_coo`: pre and post (int64), weight (float64).
COO_BYTES = 24


@dataclass
class PopulationCost:
    """One row of an inspection.

    Attributes
    ----------
    name : str
    shape : tuple of int
    neurons, synapses, parameters : int
        Units; incoming synapses when expanded; weight values that the graph stores for them.
    fan_in : int
        Most synapses that end at one unit.
    depth : int
    sources : tuple of str
    operators : tuple of str
        Kind of each incoming operator, "Convolution" or "SumPool + Select".
    """

    name: str
    shape: tuple[int, ...]
    neurons: int
    synapses: int
    parameters: int
    fan_in: int
    depth: int
    sources: tuple[str, ...]
    operators: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "neurons": self.neurons,
            "synapses": self.synapses,
            "parameters": self.parameters,
            "fan_in": self.fan_in,
            "depth": self.depth,
            "sources": list(self.sources),
            "operators": list(self.operators),
        }


@dataclass
class Inspection:
    """What `strop inspect` found.

    Attributes
    ----------
    model : str
    populations : list of PopulationCost
    totals : dict
        populations, neurons, synapses, depth, stored_bytes (the graph as it is) and expanded_bytes (its synapses as
        pre, post and weight, 24 bytes each).
    inputs : list of dict
    outputs : list of dict
    target : dict or None
        What a backend says of the graph.
    """

    model: str
    populations: list[PopulationCost]
    totals: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    target: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model": self.model,
            "inputs": self.inputs,
            "populations": [population.to_dict() for population in self.populations],
            "outputs": self.outputs,
            "graph": self.totals,
            "target": self.target,
        }

    def __str__(self) -> str:
        from strop.tables import render_inspection

        return render_inspection(self)


def inspect_graph(graph: Graph, target: str | None = None, frames: Frames | None = None) -> Inspection:
    """Return what `graph` costs; nothing is expanded to find out.

    Parameters
    ----------
    target : str, optional
        Name of a backend, to say what it makes of each population.
    frames : array, shape (n, *input_shape), optional
        For targets that map a graph (`spinnaker`): to find what these frames load it with, and what would differ.

    Raises
    ------
    BackendMissingError
        If `target` cannot be used.
    DataError
        If frames are given for a target that has no use for them.
    """
    rows = []
    for population in graph.populations:
        incoming = graph.incoming(population.name)
        rows.append(
            PopulationCost(
                population.name,
                population.shape,
                population.size,
                sum(p.operator.synapse_count for p in incoming),
                sum(stored_values(p.operator) for p in incoming),
                int(sum(_fan_in(p.operator) for p in incoming).max()),
                graph.depth(population.name),
                tuple(p.source for p in incoming),
                tuple(_kind(p.operator) for p in incoming),
            )
        )
    synapses = sum(row.synapses for row in rows)
    totals = {
        "populations": len(rows),
        "neurons": graph.neurons,
        "synapses": synapses,
        "depth": graph.total_depth,
        "stored_bytes": 8 * sum(row.parameters for row in rows),
        "expanded_bytes": COO_BYTES * synapses,
    }
    inputs = [{"name": node.name, "shape": list(node.shape), "encoding": node.encoding} for node in graph.inputs]
    readouts = {readout.name: readout for readout in graph.readouts}
    outputs = [
        {
            "name": name,
            "kind": readouts[name].kind if name in readouts else "spikes",
            "shape": list(readouts[name].shape if name in readouts else graph.population(name).shape),
        }
        for name in graph.outputs
    ]
    return Inspection(
        graph.name, rows, totals, inputs, outputs, None if target is None else _target(graph, target, frames)
    )


def stored_values(operator: Operator) -> int:
    """Return how many values an operator keeps in memory, its stages included."""
    own = (getattr(operator, name, None) for name in ("weight", "kernel", "index", "factor"))
    total = sum(values.size for values in own if values is not None)
    return int(total) + sum(stored_values(stage) for stage in getattr(operator, "stages", ()))


def _fan_in(operator: Operator) -> Any:
    return structure(operator).apply(np.ones((1, *operator.shape_in)))[0]


def _kind(operator: Operator) -> str:
    stages = getattr(operator, "stages", (operator,))
    return " + ".join(type(stage).__name__ for stage in stages)


def _target(graph: Graph, name: str, frames: Frames | None) -> dict[str, Any]:
    from strop.errors import BackendError, DataError

    # Targets of `strop export` go by a shorter name.
    backend = get_backend({"spinnaker": "pynn-spinnaker"}.get(name, name))
    problem = ""
    try:
        backend.check(graph)
    except BackendError as error:
        problem = str(error)
    found: dict[str, Any] = {"name": name, "version": backend.version(), "problem": problem}
    fidelity = getattr(backend, "fidelity", None)
    if fidelity is not None:
        found["fidelity"] = [list(row) for row in fidelity(graph)]
    mapping = getattr(backend, "inspect_mapping", None)
    if frames is not None and mapping is None:
        raise DataError(f"frames say nothing more of the target {name!r}: it maps nothing")
    if mapping is not None and not problem:
        found["mapping"] = mapping(graph) if frames is None else mapping(graph, frames)
    return found
