"""Grids: exponents g such that values are whole multiples of 2^g, behind operators, products and sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from strop.graph import Convolution, Dense, Operator, Scale, Sparse, SumPool
from strop.graph.rounding.formats import ANY_GRID, FloatArray

# Nothing is known of the lowest bit.
UNKNOWN_GRID = -np.inf


def grid_behind(operator: Operator, grid: FloatArray, bits: Callable[[Operator], FloatArray]) -> FloatArray:
    """Return exponents of a grid that holds every term behind an operator, broadcasting to its output's shape.

    Parameters
    ----------
    operator : Operator
    grid : array that broadcasts to `operator.shape_in`
    bits : callable
        Gives `lowest_bit` of an operator's weights.
    """
    least = np.asarray(grid.min())
    match operator:
        case Dense():
            # Along a vector each input has a grid of its own; behind leading axes they share the finest.
            rows = np.broadcast_to(grid, operator.shape_in)[:, None] if not operator.leading else least
            result: FloatArray = np.min(product_grid(rows, bits(operator)), axis=0)
        case Convolution():
            taps = product_grid(least, bits(operator)).reshape(-1, operator.shape_out[-1])
            result = np.min(taps, axis=0)
        case Scale():
            result = product_grid(grid, bits(operator))
        case Sparse():
            read = np.broadcast_to(grid, operator.shape_in).reshape(-1)[operator.pre]
            result = np.full(operator.size_out, ANY_GRID)
            np.minimum.at(result, operator.post, product_grid(read, bits(operator)))
            result = result.reshape(operator.shape_out)
        case SumPool():
            result = least
        case _:
            result = np.asarray(UNKNOWN_GRID)
    return result


def product_grid(grid: FloatArray, bits: FloatArray) -> FloatArray:
    """Return the grid of products; that of a product with zero holds everything."""
    with np.errstate(invalid="ignore"):
        return np.where((bits == ANY_GRID) | (grid == ANY_GRID), ANY_GRID, grid + bits)


def finest(arrays: Sequence[FloatArray]) -> FloatArray:
    """Return the finest of several grids: one that holds the values of all."""
    result = arrays[0]
    for array in arrays[1:]:
        result = np.minimum(result, array)
    return result


def total(arrays: Sequence[FloatArray]) -> FloatArray:
    """Return the sum of arrays that broadcast to one shape."""
    result = arrays[0]
    for array in arrays[1:]:
        result = result + array
    return result
