"""The oracle: a graph evaluated in float64, with the margins and rounding bounds that tell a tie from a fault.

It stands between Keras and the simulators. Keras is held against it layer by layer, each simulator on the whole
network; both comparisons are in `strop.verify`. Bounds follow N. J. Higham, "Accuracy and Stability of Numerical
Algorithms" (2002), section 3.1: a sum of n terms, in any order, is off by at most `gamma_n * sum |terms|`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.backend import Backend, Runner
from strop.graph import ENCODINGS, Graph, Population, structure

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Signals = Mapping[str, npt.NDArray[Any]]

FLOAT32_UNIT = 2.0**-24
FLOAT64_UNIT = 2.0**-53


def gamma(terms: int, unit: float) -> float:
    """Return `n u / (1 - n u)`, Higham's bound on the relative error of n roundings."""
    product = terms * unit
    if product >= 1.0:
        raise ValueError(f"{terms} roundings of {unit} leave no correct digit")
    return product / (1.0 - product)


def potential(graph: Graph, name: str, signals: Signals) -> FloatArray:
    """Return `a = bias + sum W s` of one population, shape `(n, *shape)`, given what its sources sent.

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
    """Return the largest number of summed terms behind one unit of a population, the bias counted as one."""
    return 1 + sum(projection.operator.terms for projection in graph.incoming(name))


def fan_in(graph: Graph, name: str) -> int:
    """Return the largest number of synapses that end at one unit of a population, all projections expanded."""
    counts = sum(structure(p.operator).apply(np.ones((1, *p.operator.shape_in))) for p in graph.incoming(name))
    return int(np.max(counts))


def fires(population: Population, potentials: FloatArray) -> BoolArray:
    """Return which units spike: `a >= threshold`."""
    result: BoolArray = potentials >= population.threshold
    return result


def evaluate(
    graph: Graph, signals: Signals, watch: Callable[[str, FloatArray], None] | None = None
) -> dict[str, BoolArray]:
    """Return the spikes of every population, shape `(n, *shape)`, for encoded frames (see `strop.encode.encode`).

    Parameters
    ----------
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


class _ReferenceRunner(Runner):
    """Steps through the network as a machine would, spikes travelling with the delays of their projections."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, signals: Signals) -> dict[str, BoolArray]:
        graph = self.graph
        count = len(next(iter(signals.values())))
        steps = count + graph.total_depth
        # One column of time per node: units without memory let a whole column be computed at once, because a
        # population at step t needs nothing but its sources at step t - delay.
        trace: dict[str, npt.NDArray[Any]] = {
            name: np.concatenate([values, np.zeros((graph.total_depth, *values.shape[1:]), values.dtype)])
            for name, values in signals.items()
        }
        for population in graph.populations:
            total = np.zeros((steps, *population.shape))
            for p in graph.incoming(population.name):
                total[p.delay :] += p.operator.apply(trace[p.source][: steps - p.delay])
            trace[population.name] = fires(population, total + population.bias)
        return {
            population.name: trace[population.name][(first := graph.depth(population.name)) : first + count]
            for population in graph.populations
        }


class ReferenceBackend(Backend):
    """The oracle as a backend: float64 NumPy, streaming with delays, no simulator needed."""

    name: ClassVar[str] = "reference"
    summary: ClassVar[str] = "float64 NumPy, the oracle's arithmetic; streams with delays"
    encodings: ClassVar[tuple[str, ...]] = ENCODINGS

    @classmethod
    def version(cls) -> str:
        """Version of NumPy."""
        return f"numpy {np.__version__}"

    def build(self, graph: Graph, **options: Any) -> Graph:
        """Return the graph itself: it is what this backend runs."""
        return graph

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Return a runner; there are no options."""
        self.refuse_options(options)
        return _ReferenceRunner(graph)
