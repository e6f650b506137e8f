"""The synapses of one neuron: its weights, and what they added to its potential in one frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Dense, Graph, Operator
from strop.graph.operators import stages_of
from strop.verification.explanation.places import index_of
from strop.verification.explanation.records import Contribution

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# A stage with more synapses than this is not expanded to find those of one neuron.
_MOST_SYNAPSES = 20_000_000


def incoming_weights(operator: Operator, neuron: int) -> tuple[Ints, Floats] | None:
    """Return the synapses that end at one neuron: flat places of their sources, and weights.

    None where the operator is too large to be expanded.
    """
    if isinstance(operator, Dense) and not operator.leading:
        weights = operator.weight[:, neuron]
        places = np.flatnonzero(weights)
        return places, weights[places]
    stages = list(stages_of(operator))
    if any(stage.synapse_count > _MOST_SYNAPSES for stage in stages):
        return None
    # From the neuron backwards, stage by stage.
    share = np.zeros(operator.size_out)
    share[neuron] = 1.0
    for stage in reversed(stages):
        pre, post, weight = stage.to_coo()
        reached = share[post] != 0.0
        before = np.zeros(stage.size_in)
        np.add.at(before, pre[reached], weight[reached] * share[post[reached]])
        share = before
    places = np.flatnonzero(share)
    return places, share[places]


def contributions(
    graph: Graph, name: str, neuron: int, sent: Mapping[str, npt.NDArray[Any]], most: int
) -> tuple[tuple[Contribution, ...], int]:
    """Return the largest contributions to a neuron's potential in one frame, and how many there are.

    Parameters
    ----------
    neuron : int
        Flat place.
    sent : mapping of node name to array, shape (*signal_shape)
        What the sources sent in that frame.
    most : int
        How many to return.
    """
    found: list[Contribution] = []
    for p in graph.incoming(name):
        own = incoming_weights(p.operator, neuron)
        if own is None:
            continue
        signal = np.asarray(sent[p.source], dtype=np.float64).reshape(-1)
        shape = graph.signal_shape(p.source)
        for place, weight in zip(*own, strict=True):
            if signal[place] != 0.0:
                found.append(Contribution(p.source, index_of(int(place), shape), float(weight), float(signal[place])))
    found.sort(key=lambda one: -abs(one.value))
    return tuple(found[:most]), len(found)
