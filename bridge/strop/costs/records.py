"""Records of an inspection: costs per population and in total, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class PopulationCost:
    """One row of an inspection.

    Attributes
    ----------
    name : str
    shape : tuple of int
    neurons, synapses, parameters : int
        Neurons; incoming synapses when expanded; weight values that the graph stores for them.
    fan_in, fan_out : int
        Most synapses that end at one neuron, and that start at one; read-outs are no synapses.
    depth : int
    sources : tuple of str
    operators : tuple of str
        Kind of each incoming operator, "Convolution" or "SumPool + Select".
    mean_fan_in, mean_fan_out : float
        The same, averaged over the neurons.
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
    mean_fan_in: float = 0.0
    fan_out: int = 0
    mean_fan_out: float = 0.0

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
            "mean_fan_in": self.mean_fan_in,
            "fan_out": self.fan_out,
            "mean_fan_out": self.mean_fan_out,
        }


@dataclass
class Costs:
    """The result of `strop inspect`.

    Attributes
    ----------
    model : str
    populations : list of PopulationCost
    totals : dict
        populations, neurons, synapses, depth, stored_bytes (the graph as it is) and expanded_bytes (its synapses as
        pre, post and weight, 24 bytes each), counts_exact (see `strop.graph.counts_are_exact`).
    inputs : list of dict
    outputs : list of dict
    target : dict or None
        Fidelity, and mapping, of the graph on a backend.
    arithmetic : dict
        Multiply-accumulates and additions per frame, without spikes: of the dense network (`dense`, its `layers` and
        `total`, and whether `counted` from "keras" or the "graph"), of what the `host` evaluates before the first
        spike, and of the `readout`.
    decision : dict
        Where the winning class is found, and the costs of that: see `strop.lower`.
    activity : dict or None
        Spikes and synaptic events per frame, of every population and in total, if there were frames to count.
    notes : list of str
        How the frames were scaled and cast, in plain sentences.
    energy : dict or None
        Estimates per frame in picojoules, each with its source; with frames only.
    """

    model: str
    populations: list[PopulationCost]
    totals: dict[str, Any]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    target: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    arithmetic: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)
    activity: dict[str, Any] | None = None
    energy: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "model": self.model,
            "inputs": self.inputs,
            "populations": [population.to_dict() for population in self.populations],
            "outputs": self.outputs,
            "graph": self.totals,
            "target": self.target,
            "arithmetic": self.arithmetic,
            "decision": self.decision,
            "activity": self.activity,
            "energy": self.energy,
            "notes": self.notes,
        }
