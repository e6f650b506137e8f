"""Random graphs whose potentials are exact in float64, hit thresholds, and cannot be told from them in float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from random_graphs import random_frames, random_graph

from strop.graph import Composed, Convolution, Dense, Graph, Operator, Scale, Sparse
from strop.running.encode import as_frames, encode
from strop.running.oracle import fires, potential

# Quarters plus whole multiples of this: sums of thousands of such weights are exact in 53 bits, and not in 24.
_GRAIN = 2.0**-34


def exact_graph(seed: int, encoding: str | None, count: int) -> tuple[Graph, dict[str, Any]]:
    """Return a random graph and frames under which half of its units come to their thresholds exactly."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, encoding)
    frames = random_frames(graph, count, seed)
    projections = tuple(replace(p, operator=_grained(p.operator, rng)) for p in graph.projections)
    graph = replace(graph, projections=projections)
    known: dict[str, Any] = dict(encode(graph, as_frames(graph, frames)))
    populations = []
    for population in graph.populations:
        a = potential(graph, population.name, known)
        # Each unit's potential in one of the frames; elsewhere it comes close from both sides.
        chosen = np.take_along_axis(a, rng.integers(0, count, (1, *population.shape)), 0)[0]
        threshold = np.where(rng.random(population.shape) < 0.7, chosen, population.threshold)
        populations.append(replace(population, threshold=threshold))
        known[population.name] = fires(populations[-1], a)
    return replace(graph, populations=tuple(populations)), frames


def _grained(operator: Operator, rng: np.random.Generator) -> Operator:
    """Return the operator with weights that float32 has not; of a composition, in its last stage that has weights."""

    def grains(values: Any) -> Any:
        return values + np.where(values != 0, rng.integers(-(2**20), 2**20, values.shape) * _GRAIN, 0.0)

    match operator:
        case Dense():
            return replace(operator, weight=grains(operator.weight))
        case Scale():
            return replace(operator, factor=grains(operator.factor))
        case Sparse():
            return replace(operator, weight=grains(operator.weight))
        case Convolution():
            return operator.with_kernel(grains(operator.kernel))
        case Composed():
            stages = list(operator.stages)
            for place in reversed(range(len(stages))):
                changed = _grained(stages[place], rng)
                if changed is not stages[place]:
                    stages[place] = changed
                    return Composed(tuple(stages))
    return operator
