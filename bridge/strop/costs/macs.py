"""Multiply-accumulates and additions of the dense network per frame: the cost of an implementation without spikes.

A multiply-accumulate is one product added to a sum. They are counted as dense kernels run them: every window in full,
the zeros of a padding multiplied too, biases as additions, and a comparison (a threshold, a maximum) as an addition.
The exponentials of a softmax are not counted. For a Keras model the layers themselves are counted
(`strop.costs.keras_macs`); a saved graph knows its operators alone, so there folded normalisations are gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from strop.graph import Convolution, Dense, Graph, Operator, Scale, Select, Sparse, SumPool, stages_of
from strop.running.stimulus import analogue_inputs


@dataclass(frozen=True)
class LayerMacs:
    """Dense operations per frame of one layer, or of all.

    Attributes
    ----------
    name : str
    kind : str
        Class of the Keras layer, or "Population", "Readout".
    macs, additions : int
        Multiply-accumulates; single additions and comparisons.
    """

    name: str
    kind: str
    macs: int
    additions: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"name": self.name, "kind": self.kind, "macs": self.macs, "additions": self.additions}


def operator_arithmetic(operator: Operator) -> tuple[int, int]:
    """Return `(macs, additions)` of one application of an operator, its stages one after the other."""
    macs = additions = 0
    for stage in stages_of(operator):
        match stage:
            case Dense():
                macs += stage.weight.size * math.prod(stage.leading)
            case Convolution():
                # A transposed convolution sends each value through the kernel; a plain one gathers for each output.
                shape = stage.shape_in if stage.transposed else stage.shape_out
                macs += math.prod(shape[:-1]) * stage.kernel.size
            case SumPool():
                additions += stage.size_out * (math.prod(stage.size) - 1)
            case Scale():
                macs += stage.size_in
            case Sparse():
                macs += len(stage.weight)
            case Select():
                pass
    return macs, additions


def graph_arithmetic(graph: Graph) -> list[LayerMacs]:
    """Return the dense operations of a graph: a record for each population, then for each read-out."""
    found = []
    for population in graph.populations:
        parts = [operator_arithmetic(p.operator) for p in graph.incoming(population.name)]
        found.append(_added("Population", population.name, parts, population.size))
    return found + readout_arithmetic(graph)


def readout_arithmetic(graph: Graph) -> list[LayerMacs]:
    """Return the dense operations of the read-outs, which the host does; those that only rearrange spikes cost none."""
    found = []
    for readout in graph.readouts:
        if readout.kind in ("spikes", "winner"):
            continue
        parts = [operator_arithmetic(operator) for operator in readout.operators]
        summed = _added("Readout", readout.name, parts, math.prod(readout.logits_shape))
        macs, additions = (0, 0) if readout.after is None else operator_arithmetic(readout.after)
        found.append(LayerMacs(readout.name, "Readout", summed.macs + macs, summed.additions + additions))
    return found


def host_arithmetic(graph: Graph) -> list[LayerMacs]:
    """Return what is evaluated off the simulator before the first spike: every operator that takes analogue frames.

    Under the `host` encoding that is the first layer up to its spikes (and more where an input meets spikes, see
    `Graph.host_populations`), under `current` up to the input currents of its neurons; under `bitplane` and `binary`
    there is nothing of the kind.
    """
    values = analogue_inputs(graph)
    found = []
    for population in graph.populations:
        host = population.name in graph.host_populations
        parts = [operator_arithmetic(p.operator) for p in graph.incoming(population.name) if host or p.source in values]
        if parts:
            # The bias and the comparison with the threshold belong to the neurons, wherever those are.
            own = population.size if host else 0
            found.append(_added("Population", population.name, parts, own))
    return found


def total(parts: list[LayerMacs], name: str = "total") -> LayerMacs:
    """Return the sum of several records."""
    return LayerMacs(name, "", sum(part.macs for part in parts), sum(part.additions for part in parts))


def _added(kind: str, name: str, parts: list[tuple[int, int]], neurons: int) -> LayerMacs:
    """Sum projections, biases and comparisons: two additions per neuron besides those of the operators."""
    merging = (len(parts) - 1) * neurons
    return LayerMacs(name, kind, sum(macs for macs, _ in parts), sum(more for _, more in parts) + merging + 2 * neurons)
