"""Fidelity of a backend, population by population: exact, exact within a margin, or unsupported.

This is the default of `Backend.fidelity`. It checks whether a potential can be rounded at all: where every
weight, bias and threshold is a multiple of one power of two, and all of them together stay within the digits
of the simulator's numbers, every order of summation gives the same value, and the spikes are exact. Where
they are not, the margin is the bound that `strop.verify` grants: N. J. Higham, "Accuracy and Stability of
Numerical Algorithms" (2002), section 3.1. A simulator that cannot tell neighbouring potentials apart states its
`Backend.resolution`, which is added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Operator, Population, stages_of
from strop.graph.rounding.formats import FORMATS, FloatFormat, lowest_bit
from strop.graph.stage_weights import stage_weights
from strop.running.stimulus import analogue_inputs


def fidelity_of(
    graph: Graph, encodings: Sequence[str], precision: str, backend: str, resolution: float = 0.0
) -> list[tuple[str, str, str]]:
    """Return `(population, level, reason)` for a backend of these encodings, this precision and resolution."""
    return [
        (population.name, *_fidelity(graph, population.name, encodings, precision, backend, resolution))
        for population in graph.populations
    ]


def compared(population: Population, magnitude: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the size of all that a neuron compares, which `Backend.resolution` is relative to, shape `(n, *shape)`.

    Parameters
    ----------
    magnitude : array, shape (n, *shape)
        `sum |w||s|`.
    """
    # A threshold of 0 gives no scale: 1 stands in.
    threshold = np.where(population.threshold == 0.0, 1.0, np.abs(population.threshold))
    size: npt.NDArray[np.float64] = magnitude + np.abs(population.bias) + threshold
    return size


def _fidelity(
    graph: Graph, name: str, encodings: Sequence[str], precision: str, backend: str, resolution: float
) -> tuple[str, str]:
    fed_by = {p.source for p in graph.incoming(name)}
    for node in graph.inputs:
        if node.name in fed_by and node.encoding not in encodings:
            able = ", ".join(encodings)
            return "unsupported", (
                f"{backend} cannot run the encoding {node.encoding!r} of {node.name!r}; it can run: {able}"
            )
    if name in graph.host_populations:
        return "exact", "evaluated on the host, in float64"
    analogue = sorted(fed_by.intersection(analogue_inputs(graph)))
    arithmetic = FORMATS[precision]
    blur = resolution * float(compared(graph.population(name), _largest_sums(graph, name)).max())
    grid = _coarsest_grid(graph, name)
    digits = arithmetic.digits
    # Potentials and thresholds are whole multiples of 2^grid: what differs at all differs by one.
    if not analogue and _sums_are_exact(graph, name, grid, digits) and (blur == 0.0 or np.log2(blur) < grid):
        return "exact", f"no sum of its weights and biases needs more than the {digits} bits of {precision}"
    margin = _margin(graph, name, arithmetic) + blur
    why = f"sums may be rounded in another order, in {precision}"
    if blur:
        why += f", and {backend} resolves {resolution:.1e} of what it compares"
    if analogue:
        why += f"; the margin is for values of {', '.join(analogue)} between -1 and 1"
    return f"exact within {margin:.1e}", why


def _largest_sums(graph: Graph, name: str) -> npt.NDArray[np.float64]:
    """Return `sum |W|` of each neuron: the size of its sum, without the bias, when all its sources fire."""
    ones = (p.operator.absolute().apply(np.ones((1, *p.operator.shape_in)))[0] for p in graph.incoming(name))
    total: npt.NDArray[np.float64] = sum(ones, start=np.zeros(()))
    return total


def _margin(graph: Graph, name: str, arithmetic: FloatFormat) -> float:
    from strop.running.oracle import gamma, terms

    # The bound of `strop.verification.bounds.SimulatorBound`, with the numbers of this precision.
    size = _largest_sums(graph, name) + np.abs(graph.population(name).bias)
    return float(2.0 * gamma(terms(graph, name) + 4, arithmetic.unit) * size.max())


def _coarsest_grid(graph: Graph, name: str) -> float:
    """Return the exponent of a power of two that divides every weight, bias and threshold of a population."""
    population = graph.population(name)
    lowest = [_lowest_bit(p.operator) for p in graph.incoming(name)]
    return min(*lowest, float(lowest_bit(population.bias).min()), float(lowest_bit(population.threshold).min()))


def _lowest_bit(operator: Operator) -> float:
    # A product of multiples is a multiple of the product.
    return sum(min(float(lowest_bit(stage_weights(stage)).min(initial=np.inf)), 0.0) for stage in stages_of(operator))


def _sums_are_exact(graph: Graph, name: str, grid: float, digits: int) -> bool:
    population = graph.population(name)
    size = _largest_sums(graph, name) + np.abs(population.bias)
    largest = max(float(size.max()), float(np.abs(population.threshold).max()))
    return bool(largest <= 2.0 ** min(1023.0, grid + digits))
