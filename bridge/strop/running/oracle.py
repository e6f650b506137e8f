"""The oracle: a graph evaluated in float64, and the sizes that rounding bounds are made of.

Keras is compared with it layer by layer, each simulator on the whole network; both comparisons are in
`strop.verification`. Bounds follow N. J. Higham, "Accuracy and Stability of Numerical
Algorithms" (2002), section 3.1: a sum of n terms, in any order, is off by at most `gamma_n * sum |terms|`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Population, structure
from strop.graph.window import BLOCK_VALUES

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
    bias = graph.population(name).bias
    # An array that owns its memory is no view of the signals: it need not be copied.
    return np.add(result, bias, out=result) if result.flags.owndata else result + bias


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
    graph: Graph,
    signals: Signals,
    watch: Callable[[str, FloatArray], None] | None = None,
    glance: Callable[[str, slice, FloatArray], None] | None = None,
) -> dict[str, BoolArray]:
    """Return the spikes of every population, shape `(n, *shape)`.

    Potentials are worked out for some frames at a time, as many as stay in a core's cache.

    Parameters
    ----------
    signals : mapping of input name to array, shape (n, *signal_shape)
        Encoded frames (see `strop.running.encode.encode`).
    watch : callable, optional
        Called once for each population, with its name and all its potentials, shape `(n, *shape)`.
    glance : callable, optional
        Called with the name of a population, the rows of some frames, and its potentials there, until all were shown.
    """
    known: dict[str, npt.NDArray[Any]] = dict(signals)
    for population in graph.populations:
        known[population.name] = spikes_of(graph, population, known, watch, glance)
    return {population.name: known[population.name] for population in graph.populations}


def spikes_of(
    graph: Graph,
    population: Population,
    signals: Signals,
    watch: Callable[[str, FloatArray], None] | None = None,
    glance: Callable[[str, slice, FloatArray], None] | None = None,
) -> BoolArray:
    """Return the spikes of one population, shape `(n, *shape)`, given the signals of its sources; see `evaluate`."""
    name = population.name
    sources = {projection.source: signals[projection.source] for projection in graph.incoming(name)}
    count = len(next(iter(sources.values())))
    spikes = np.empty((count, *population.shape), dtype=np.bool_)
    potentials = None if watch is None else np.empty(spikes.shape)
    for rows in blocks_of(count, population.size):
        part = potential(graph, name, {source: values[rows] for source, values in sources.items()})
        np.greater_equal(part, population.threshold, out=spikes[rows])
        if glance is not None:
            glance(name, rows, part)
        if potentials is not None:
            potentials[rows] = part
    if watch is not None and potentials is not None:
        watch(name, potentials)
    return spikes


def blocks_of(count: int, size: int) -> Iterator[slice]:
    """Yield the rows of `count` frames of so many values each, in blocks that stay in a core's cache."""
    step = max(1, BLOCK_VALUES // size)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def host_spikes(graph: Graph, signals: Signals) -> dict[str, BoolArray]:
    """Return the spikes of the populations that the `host` encoding evaluates off the simulator."""
    known: dict[str, npt.NDArray[Any]] = dict(signals)
    found: dict[str, BoolArray] = {}
    for population in graph.populations:
        if population.name in graph.host_populations:
            known[population.name] = found[population.name] = spikes_of(graph, population, known)
    return found
