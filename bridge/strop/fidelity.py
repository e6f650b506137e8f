"""How faithfully a simulator runs a graph, layer by layer: exact, exact within a margin, or not at all.

This is the default behind `Backend.fidelity`. It asks whether a potential can be rounded at all: where every
weight, bias and threshold is a multiple of one power of two, and all of them together stay within the digits
of the simulator's numbers, every order of summation gives the same value, and the spikes are exact. Where
they are not, the margin is the bound that `strop.verify` grants: N. J. Higham, "Accuracy and Stability of
Numerical Algorithms" (2002), section 3.1. A simulator that cannot tell neighbouring potentials apart states its
`Backend.resolution`, which is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Composed, Convolution, Dense, Graph, Operator, Population, Scale, Sparse

_DIGITS = {"float64": 53, "float32": 24}


def fidelity_of(
    graph: Graph, encodings: Sequence[str], precision: str, backend: str, resolution: float = 0.0
) -> list[tuple[str, str, str]]:
    """Return `(population, level, reason)` for a backend of these encodings, this precision and resolution."""
    return [
        (population.name, *_fidelity(graph, population.name, encodings, precision, backend, resolution))
        for population in graph.populations
    ]


def compared(population: Population, magnitude: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the size of all that a unit compares, which `Backend.resolution` is relative to, shape `(n, *shape)`.

    Parameters
    ----------
    magnitude : array, shape (n, *shape)
        `sum |w||s|`.
    """
    # A unit at a threshold of 0 is held against some constant: nothing else says what is small.
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
    analogue = sorted(node.name for node in graph.inputs if node.name in fed_by and not node.spiking)
    digits = _DIGITS[precision]
    blur = resolution * float(compared(graph.population(name), _loudest(graph, name)).max())
    unit = _unit(graph, name)
    # Potentials and thresholds are whole numbers of units: what differs at all differs by one.
    if not analogue and _sums_are_exact(graph, name, unit, digits) and (blur == 0.0 or np.log2(blur) < unit):
        return "exact", f"no sum of its weights and biases needs more than the {digits} bits of {precision}"
    margin = _margin(graph, name, digits) + blur
    why = f"sums may be rounded in another order, in {precision}"
    if blur:
        why += f", and {backend} resolves {resolution:.1e} of what it compares"
    if analogue:
        why += f"; the margin is for values of {', '.join(analogue)} between -1 and 1"
    return f"exact within {margin:.1e}", why


def _loudest(graph: Graph, name: str) -> npt.NDArray[np.float64]:
    """Return `sum |W|` of each unit: what it sums, besides its bias, when everything that feeds it fires."""
    ones = (p.operator.absolute().apply(np.ones((1, *p.operator.shape_in)))[0] for p in graph.incoming(name))
    total: npt.NDArray[np.float64] = sum(ones, start=np.zeros(()))
    return total


def _margin(graph: Graph, name: str, digits: int) -> float:
    from strop.reference import gamma, terms

    # The bound of `strop.verify.float64_bound`, with the numbers of this precision.
    size = _loudest(graph, name) + np.abs(graph.population(name).bias)
    return float(2.0 * gamma(terms(graph, name) + 4, 2.0**-digits) * size.max())


def _unit(graph: Graph, name: str) -> float:
    """Return the exponent of a power of two that divides every weight, bias and threshold of a population."""
    population = graph.population(name)
    lowest = [_lowest_bit(p.operator) for p in graph.incoming(name)]
    return min(*lowest, _lowest_bit_of(population.bias), _lowest_bit_of(population.threshold))


def _sums_are_exact(graph: Graph, name: str, unit: float, digits: int) -> bool:
    population = graph.population(name)
    size = _loudest(graph, name) + np.abs(population.bias)
    largest = max(float(size.max()), float(np.abs(population.threshold).max()))
    return bool(largest <= 2.0 ** min(1023.0, unit + digits))


def _lowest_bit(operator: Operator) -> float:
    """Return the exponent of a power of two that divides every weight of an operator."""
    match operator:
        case Dense() | Sparse():
            return _lowest_bit_of(operator.weight)
        case Convolution():
            return _lowest_bit_of(operator.kernel)
        case Scale():
            return _lowest_bit_of(operator.factor)
        case Composed():
            # A product of multiples is a multiple of the product.
            return sum(min(_lowest_bit(stage), 0.0) for stage in operator.stages)
        case _:
            return 0.0


def _lowest_bit_of(values: npt.NDArray[Any]) -> float:
    """Return the exponent of the lowest bit that is set in any of `values`; infinity if all are zero."""
    fraction, exponent = np.frexp(values[values != 0.0])
    if fraction.size == 0:
        return float("inf")
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    # x & -x keeps the lowest bit that is set.
    trailing = np.log2((whole & -whole).astype(np.float64))
    return float((exponent - 53 + trailing).min())
