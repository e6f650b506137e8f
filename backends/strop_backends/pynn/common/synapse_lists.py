"""`rows_of`, `matrix_of`: synapses in the two formats of PyNN's `Projection.get`, lists and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def rows_of(
    pre: npt.NDArray[Any], post: npt.NDArray[Any], columns: Sequence[npt.NDArray[Any]]
) -> list[tuple[float, ...]]:
    """Return one row for each synapse, by the presynaptic, then the postsynaptic cell: the order in which PyNN's `set`
    takes a list."""
    order = np.lexsort((post, pre))
    return list(zip(*(column[order].tolist() for column in columns), strict=True))


def matrix_of(
    values: npt.NDArray[np.float64],
    place: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    shape: tuple[int, int],
    multiple_synapses: str,
) -> npt.NDArray[np.float64]:
    """Return the matrix of synaptic `values`, nan where there is none; several between two cells are combined.

    Parameters
    ----------
    values : array, shape (synapses,)
    place : two int arrays, shape (synapses,)
        Indices of the presynaptic and postsynaptic cells.
    multiple_synapses : {"sum", "min", "max", "first", "last"}
    """
    matrix = np.full(shape, np.nan)
    if multiple_synapses == "sum":
        matrix[place] = 0.0
        np.add.at(matrix, place, values)
    elif multiple_synapses in ("min", "max"):
        combine = np.fmin if multiple_synapses == "min" else np.fmax
        combine.at(matrix, place, values)
    else:
        order = slice(None) if multiple_synapses == "last" else slice(None, None, -1)
        matrix[place[0][order], place[1][order]] = values[order]
    return matrix
