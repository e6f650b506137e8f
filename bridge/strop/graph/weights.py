"""Synaptic weights of a graph: read them, and replace them (plasticity, lesions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError
from strop.graph.network import Graph
from strop.graph.nodes import Projection
from strop.graph.operator import FloatArray, IntArray
from strop.graph.operators import Sparse

Pair = tuple[str, str]


def pairs_of(graph: Graph) -> dict[Pair, list[Projection]]:
    """Return the projections from each node to each population, `(source, target)`, in the graph's order."""
    pairs: dict[Pair, list[Projection]] = {}
    for projection in graph.projections:
        pairs.setdefault((projection.source, projection.target), []).append(projection)
    return pairs


def synapses_of(graph: Graph, source: str, target: str) -> tuple[IntArray, IntArray, FloatArray]:
    """Return all synapses from one node to one population.

    Returns
    -------
    pre, post : int64 arrays, shape (synapses,)
        Flat indices of neurons, sorted by `pre`, then `post`, as `Operator.to_coo` gives them. Where several
        projections connect the same pair, those of the first one come first.
    weight : float64 array, shape (synapses,)
    """
    members = pairs_of(graph).get((source, target))
    if members is None:
        raise GraphError(f"there is no projection {source} -> {target}")
    return joined([p.operator.to_coo() for p in members])


def joined(parts: list[tuple[IntArray, IntArray, FloatArray]]) -> tuple[IntArray, IntArray, FloatArray]:
    """Return synapses behind each other, from a list that is emptied: a single entry is not copied."""
    if len(parts) == 1:
        return parts.pop()
    pre, post, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    parts.clear()
    return pre, post, weight


def weights_of(graph: Graph) -> dict[Pair, FloatArray]:
    """Return the weights of all projections, one for each synapse, in the order of `synapses_of`."""
    return {pair: synapses_of(graph, *pair)[2] for pair in pairs_of(graph)}


def with_weights(graph: Graph, weights: Mapping[Pair, npt.NDArray[np.floating]]) -> Graph:
    """Return the graph with other weights on the synapses that it has.

    >>> weights = weights_of(graph)
    >>> weights["dense_1", "dense_2"][::2] = 0.0  # a lesion
    >>> lesioned = with_weights(graph, weights)

    Parameters
    ----------
    weights : mapping of (source, target) to array, shape (synapses,)
        In the order of `synapses_of`. Projections that are not named keep theirs, and their operators.

    Raises
    ------
    GraphError
        If there is no such projection, or the number of weights differs from that of its synapses.
    """
    pairs = pairs_of(graph)
    unknown = [pair for pair in weights if pair not in pairs]
    if unknown:
        raise GraphError("there is no projection " + ", ".join(f"{a} -> {b}" for a, b in unknown))
    changed: dict[int, Projection] = {}
    for pair, values in weights.items():
        values = np.asarray(values, dtype=np.float64).reshape(-1)
        parts = [p.operator.to_coo() for p in pairs[pair]]
        count = sum(len(part[0]) for part in parts)
        if len(values) != count:
            raise GraphError(
                f"projection {pair[0]} -> {pair[1]} has {count:,} synapses, and {len(values):,} weights were given"
            )
        ends = np.cumsum([len(part[0]) for part in parts])[:-1]
        for p, (pre, post, _), own in zip(pairs[pair], parts, np.split(values, ends), strict=True):
            sparse = Sparse(p.operator.shape_in, p.operator.shape_out, pre, post, own)
            changed[id(p)] = replace(p, operator=sparse)
    return replace(graph, projections=tuple(changed.get(id(p), p) for p in graph.projections))
