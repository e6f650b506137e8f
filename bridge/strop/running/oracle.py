"""The oracle: a graph evaluated in float64, and the sizes that rounding bounds are made of.

Keras is compared with it layer by layer, each simulator on the whole network; both comparisons are in
`strop.verification`. Bounds follow N. J. Higham, "Accuracy and Stability of Numerical
Algorithms" (2002), section 3.1: a sum of n terms, in any order, is off by at most `gamma_n * sum |terms|`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Population, structure

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Signals = Mapping[str, npt.NDArray[Any]]

# Unit roundoffs.
FLOAT32_UNIT = 2.0**-24
FLOAT64_UNIT = 2.0**-53


def gamma(terms: int, unit: float) -> float:
    """Return `n u / (1 - n u)`, Higham's bound on the relative error of n roundings."""
    product = terms * unit
    if product >= 1.0:
        raise ValueError(f"{terms} roundings of {unit} leave no correct digit")
    return product / (1.0 - product)


def potential(graph: Graph, name: str, signals: Signals) -> FloatArray:
    """Return `a = bias + sum W s` of one population, shape `(n, *shape)`, given the signals of its sources.

    Parameters
    ----------
    signals : mapping of node name to array, shape (n, *shape)
        Spikes of populations (bool) and the encoded frames of inputs.
    """
    result: FloatArray | None = None
    for projection in graph.incoming(name):
        part = projection.operator.apply(signals[projection.source])
        result = part if result is None else result + part
    assert result is not None  # a valid graph has no population without a projection
    return result + graph.population(name).bias


def magnitude(graph: Graph, name: str, signals: Signals) -> FloatArray:
    """Return `sum |W| |s|`, the size of all terms that were summed, shape `(n, *shape)`; the bias is not in it."""
    result: FloatArray | None = None
    for projection in graph.incoming(name):
        part = projection.operator.absolute().apply(np.abs(signals[projection.source].astype(np.float64)))
        result = part if result is None else result + part
    assert result is not None
    return result


def terms(graph: Graph, name: str) -> int:
    """Return the largest number of summed terms behind one neuron of a population, the bias counted as one."""
    return 1 + sum(projection.operator.terms for projection in graph.incoming(name))


def fan_in(graph: Graph, name: str) -> int:
    """Return the largest number of synapses that end at one neuron of a population, all projections expanded."""
    counts = sum(structure(p.operator).apply(np.ones((1, *p.operator.shape_in))) for p in graph.incoming(name))
    return int(np.max(counts))


def fires(population: Population, potentials: FloatArray) -> BoolArray:
    """Return which neurons spike: `a >= threshold`."""
    result: BoolArray = potentials >= population.threshold
    return result


def evaluate(
    graph: Graph, signals: Signals, watch: Callable[[str, FloatArray], None] | None = None
) -> dict[str, BoolArray]:
    """Return the spikes of every population, shape `(n, *shape)`.

    Parameters
    ----------
    signals : mapping of input name to array, shape (n, *signal_shape)
        Encoded frames (see `strop.running.encode.encode`).
    watch : callable, optional
        Called with the name of each population and its potentials, shape `(n, *shape)`.
    """
    known: dict[str, npt.NDArray[Any]] = dict(signals)
    for population in graph.populations:
        potentials = potential(graph, population.name, known)
        if watch is not None:
            watch(population.name, potentials)
        known[population.name] = fires(population, potentials)
    return {population.name: known[population.name] for population in graph.populations}


def host_spikes(graph: Graph, signals: Signals) -> dict[str, BoolArray]:
    """Return the spikes of the populations that the `host` encoding evaluates off the simulator."""
    known: dict[str, npt.NDArray[Any]] = dict(signals)
    found: dict[str, BoolArray] = {}
    for population in graph.populations:
        if population.name in graph.host_populations:
            known[population.name] = found[population.name] = fires(
                population, potential(graph, population.name, known)
            )
    return found
