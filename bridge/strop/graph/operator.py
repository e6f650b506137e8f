"""`Operator`, the base of linear maps between signals, and the checks that all nodes share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError
from strop.graph.content import Content

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Shape = tuple[int, ...]

_T = TypeVar("_T", bound=np.generic)


def freeze(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """Return `array` as a read-only array that shares no writable memory with the caller's."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def as_float64(what: str, values: Any) -> FloatArray:
    """Return `values` as a read-only float64 array, or raise `GraphError` if one of them is not finite."""
    array: FloatArray = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise GraphError(f"{what} holds values that are not finite (NaN or infinity)")
    return freeze(array)


def as_shape(what: str, shape: Any) -> Shape:
    """Return `shape` as a tuple of positive integers, or raise `GraphError`."""
    result = tuple(int(n) for n in shape)
    if any(n < 1 for n in result):
        raise GraphError(f"{what} must have positive extents, got {result}")
    return result


@dataclass(frozen=True, eq=False)
class Operator(Content, ABC):
    """A linear map from frames of `shape_in` to frames of `shape_out`.

    Attributes
    ----------
    shape_in, shape_out : tuple of int
        Shapes of one frame before and after, without batch axis.
    """

    @property
    @abstractmethod
    def shape_in(self) -> Shape: ...

    @property
    @abstractmethod
    def shape_out(self) -> Shape: ...

    @abstractmethod
    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        """Map a batch of shape `(n, *shape_in)` to one of shape `(n, *shape_out)`, in float64."""

    @abstractmethod
    def absolute(self) -> Operator:
        """Return the same operator with the absolute values of its weights, for error bounds."""

    @abstractmethod
    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Return `(pre, post, weight)` in any order, without duplicates; zeros may be among the weights."""

    @property
    @abstractmethod
    def synapse_count(self) -> int:
        """Number of non-zero weights that `to_coo` gives, found without expanding (see `Composed`)."""

    @property
    @abstractmethod
    def terms(self) -> int:
        """Roundings behind one output value, applied as it stands: `n` of the rounding bound (stages add up)."""

    def to_coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Expand into single synapses.

        Returns
        -------
        pre, post : int64 arrays, shape (synapses,)
            Flat indices into `shape_in` and `shape_out`, sorted by `pre`, then `post`.
        weight : float64 array, shape (synapses,)
            Weights; those that are exactly zero are left out.
        """
        pre, post, weight = self._coo()
        keep = weight != 0.0
        if not keep.all():
            pre, post, weight = pre[keep], post[keep], weight[keep]
        order = np.lexsort((post, pre))
        # One after the other, because there can be a hundred million of them.
        pre = pre[order]
        post = post[order]
        return pre, post, weight[order]

    @property
    def size_in(self) -> int:
        """Number of values in one frame before the operator."""
        return math.prod(self.shape_in)

    @property
    def size_out(self) -> int:
        """Number of values in one frame behind the operator."""
        return math.prod(self.shape_out)

    def _check(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if x.shape[1:] != self.shape_in:
            raise GraphError(f"{type(self).__name__} takes frames of shape {self.shape_in}, got {x.shape[1:]}")
        return x

    def structure(self) -> Operator:
        """Return this operator with every non-zero weight replaced by one: what connects to what."""
        return self
