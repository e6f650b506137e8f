"""`Signal`: the value on an edge of a NIR graph while it is read, a linear map of spikes and inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import UnsupportedLayerError
from strop.graph import Operator, Select
from strop_backends.nir.emit import Place

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """A linear map of spikes and inputs on an edge, and where its values lie in NIR's tensor.

    `parts` are (source, stages); `shape` is the frame in strop's order, `place` the flat index into it of
    each value of the NIR tensor; `bias` is None or has that shape; `time` is its delay behind the entry of
    a frame.
    """

    parts: tuple[tuple[str, tuple[Operator, ...]], ...]
    shape: tuple[int, ...]
    place: Place
    bias: FloatArray | None = None
    time: float = 0.0

    def through(self, op: Operator, place: Place, exact_for: str) -> Signal:
        bias = None if self.bias is None else _exactly(op, self.bias, exact_for)
        parts = tuple((source, (*stages, op)) for source, stages in self.parts)
        return replace(self, parts=parts, shape=op.shape_out, place=place, bias=bias)

    def moved(self, shape: tuple[int, ...], place: Place, where: str) -> Signal:
        """Return the same values as a frame of another shape or order."""
        if self.shape == shape and np.array_equal(self.place, place):
            return self
        index = np.empty(self.place.size, dtype=np.int64)
        index[place.reshape(-1)] = self.place.reshape(-1)
        return self.through(Select(self.shape, index.reshape(shape)), place, where)


def _exactly(op: Operator, bias: FloatArray, where: str) -> FloatArray:
    """Return a bias behind another linear map, or refuse if float64 would have to round it."""
    result: FloatArray = op.apply(bias[None])[0]
    totals = [Fraction(0)] * op.size_out
    flat = [Fraction(float(b)) for b in bias.reshape(-1)]
    for pre, post, weight in zip(*op.to_coo(), strict=True):
        totals[post] += Fraction(float(weight)) * flat[pre]
    if any(Fraction(float(r)) != t for r, t in zip(result.reshape(-1), totals, strict=True)):
        raise UnsupportedLayerError(
            f"{where}: a bias in front of this linear map cannot be carried through it without rounding; merge the "
            "two maps, or put the bias behind the last one"
        )
    return result


def channels_last(extents: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a NIR tensor, channels first, as strop counts it."""
    return (*extents[1:], extents[0]) if len(extents) > 1 else extents


def sum_is_exact(parts: list[FloatArray], total: Any) -> bool:
    """Whether `total` is the exact sum of arrays of its shape."""
    columns = zip(*(part.reshape(-1) for part in parts), strict=True)
    return all(
        sum((Fraction(float(x)) for x in column), Fraction(0)) == Fraction(float(t))
        for column, t in zip(columns, total.reshape(-1), strict=True)
    )
