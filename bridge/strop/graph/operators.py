"""Linear maps between populations: the `operator` of a projection or a read-out.

An operator maps frames of shape `shape_in` to frames of shape `shape_out` (no batch axis, channels last, C order).
It can be *applied* to a batch at once, as the oracle does, or *expanded* into single synapses with `to_coo`, as
simulators need them. Convolutions stay convolutions until a backend expands them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError
from strop.graph.operator import _T, FloatArray, IntArray, Operator, Shape, as_float64, as_shape, freeze

# Composed operators with at most this many paths are counted exactly by expanding them; larger ones by their paths.
_EXACT_COUNT_LIMIT = 4_000_000


@dataclass(frozen=True, eq=False)
class Dense(Operator):
    """Matrix product over the last axis: `y[..., o] = sum_i x[..., i] weight[i, o]`.

    Parameters
    ----------
    weight : array, shape (in, out)
    leading : tuple of int
        Shape of the axes before the last one; the same matrix serves each of them.
    """

    weight: FloatArray
    leading: Shape = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_float64("Dense.weight", self.weight))
        object.__setattr__(self, "leading", as_shape("Dense.leading", self.leading))
        if self.weight.ndim != 2:
            raise GraphError(f"Dense.weight must have shape (in, out), got {self.weight.shape}")

    @property
    def shape_in(self) -> Shape:
        return (*self.leading, self.weight.shape[0])

    @property
    def shape_out(self) -> Shape:
        return (*self.leading, self.weight.shape[1])

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        x = self._check(x)
        result: FloatArray = x.astype(np.float64, copy=False).reshape(-1, self.weight.shape[0]) @ self.weight
        return result.reshape(len(x), *self.shape_out)

    def absolute(self) -> Dense:
        return Dense(np.abs(self.weight), self.leading)

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        rows, columns = self.weight.shape
        pre, post = (index.reshape(-1).astype(np.int64) for index in np.indices((rows, columns)))
        block = np.arange(math.prod(self.leading), dtype=np.int64)[:, None]
        return (
            (block * rows + pre).reshape(-1),
            (block * columns + post).reshape(-1),
            np.tile(self.weight.reshape(-1), len(block)),
        )

    @property
    def synapse_count(self) -> int:
        return math.prod(self.leading) * int(np.count_nonzero(self.weight))

    @property
    def terms(self) -> int:
        return int(self.weight.shape[0])

    def structure(self) -> Dense:
        return Dense((self.weight != 0).astype(np.float64), self.leading)


@dataclass(frozen=True, eq=False)
class Scale(Operator):
    """Elementwise product with a constant: `y = factor * x` (an average's 1/n, a BatchNorm that found no kernel).

    Parameters
    ----------
    shape : tuple of int
        Shape of a frame.
    factor : array
        Broadcasts against `shape`; stored with as many axes, of extent 1 where the factor does not vary.
    """

    shape: Shape
    factor: FloatArray

    def __post_init__(self) -> None:
        shape = as_shape("Scale.shape", self.shape)
        factor = np.asarray(self.factor, dtype=np.float64)
        factor = factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)
        try:
            fits = np.broadcast_shapes(factor.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise GraphError(f"Scale.factor of shape {factor.shape} does not broadcast to {shape}")
        for axis in range(factor.ndim):
            first = factor.take([0], axis=axis)
            if factor.shape[axis] > 1 and (factor == first).all():
                factor = first
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "factor", as_float64("Scale.factor", factor))

    @property
    def shape_in(self) -> Shape:
        return self.shape

    @property
    def shape_out(self) -> Shape:
        return self.shape

    @property
    def per_channel(self) -> FloatArray | None:
        """The factors along the last axis if they vary along no other, shape (channels,), else None."""
        if any(extent != 1 for extent in self.factor.shape[:-1]):
            return None
        return np.broadcast_to(self.factor.reshape(-1), (self.shape[-1],))

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        result: FloatArray = self._check(x) * self.factor
        return result

    def absolute(self) -> Scale:
        return Scale(self.shape, np.abs(self.factor))

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        index = np.arange(self.size_in, dtype=np.int64)
        return index, index, np.broadcast_to(self.factor, self.shape).reshape(-1)

    @property
    def synapse_count(self) -> int:
        return int(np.count_nonzero(np.broadcast_to(self.factor, self.shape)))

    @property
    def terms(self) -> int:
        return 1

    def structure(self) -> Scale:
        return Scale(self.shape, (self.factor != 0).astype(np.float64))


@dataclass(frozen=True, eq=False)
class Select(Operator):
    """Index map: `y.flat[j] = x.flat[index.flat[j]]`, or 0 where the index is -1.

    Cropping, zero padding, permutation, flattening, nearest-neighbour upsampling and the offsets of a concatenation
    are all of this kind.

    Parameters
    ----------
    shape_in_ : tuple of int
        Shape of a frame before the map.
    index : int array, shape `shape_out`
        Flat indices into a frame of `shape_in_`, or -1.
    """

    shape_in_: Shape
    index: IntArray

    def __post_init__(self) -> None:
        shape = as_shape("Select.shape_in_", self.shape_in_)
        index = freeze(np.asarray(self.index, dtype=np.int64))
        as_shape("Select.index", index.shape)
        if index.size and (index.min() < -1 or index.max() >= math.prod(shape)):
            raise GraphError(f"Select.index must lie in [-1, {math.prod(shape)}) for frames of shape {shape}")
        object.__setattr__(self, "shape_in_", shape)
        object.__setattr__(self, "index", index)

    @property
    def shape_in(self) -> Shape:
        return self.shape_in_

    @property
    def shape_out(self) -> Shape:
        return self.index.shape

    @cached_property
    def is_reshape(self) -> bool:
        """Whether the map keeps every value at its flat place, as Flatten and Reshape do."""
        return self.index.size == self.size_in and bool((self.index.reshape(-1) == np.arange(self.size_in)).all())

    def pick(self, x: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """Apply the map to a batch of any dtype."""
        flat = self._check(x).reshape(len(x), -1)
        if self.is_reshape:
            return flat.reshape(len(x), *self.shape_out)
        result = flat[:, np.maximum(self.index, 0)]
        result[:, self.index < 0] = 0
        return result

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        return self.pick(x.astype(np.float64, copy=False))

    def absolute(self) -> Select:
        return self

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        post = np.flatnonzero(self.index >= 0)
        return self.index.reshape(-1)[post], post, np.ones(len(post))

    @property
    def synapse_count(self) -> int:
        return int(np.count_nonzero(self.index >= 0))

    @property
    def terms(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Sparse(Operator):
    """Any linear map, as its non-zero weights.

    Parameters
    ----------
    shape_in_, shape_out_ : tuple of int
        Shapes of a frame before and after.
    pre, post : int arrays, shape (synapses,)
        Flat indices; a pair may occur only once.
    weight : array, shape (synapses,)
    """

    shape_in_: Shape
    shape_out_: Shape
    pre: IntArray
    post: IntArray
    weight: FloatArray

    def __post_init__(self) -> None:
        for name in ("shape_in_", "shape_out_"):
            object.__setattr__(self, name, as_shape(f"Sparse.{name}", getattr(self, name)))
        for name, size in (("pre", self.size_in), ("post", self.size_out)):
            index = freeze(np.asarray(getattr(self, name), dtype=np.int64))
            if index.ndim != 1 or (index.size and (index.min() < 0 or index.max() >= size)):
                raise GraphError(f"Sparse.{name} must be a vector of flat indices in [0, {size})")
            object.__setattr__(self, name, index)
        object.__setattr__(self, "weight", as_float64("Sparse.weight", self.weight))
        if not self.pre.shape == self.post.shape == self.weight.shape:
            raise GraphError("Sparse.pre, Sparse.post and Sparse.weight must have the same length")
        if len(np.unique(self.pre * self.size_out + self.post)) != len(self.pre):
            raise GraphError("Sparse holds more than one weight for the same pair of neurons")

    @property
    def shape_in(self) -> Shape:
        return self.shape_in_

    @property
    def shape_out(self) -> Shape:
        return self.shape_out_

    @cached_property
    def _matrix(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array((self.weight, (self.post, self.pre)), shape=(self.size_out, self.size_in))

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        flat = self._check(x).reshape(len(x), -1).astype(np.float64, copy=False)
        result: FloatArray = np.ascontiguousarray((self._matrix @ flat.T).T)
        return result.reshape(len(x), *self.shape_out)

    def absolute(self) -> Sparse:
        return Sparse(self.shape_in, self.shape_out, self.pre, self.post, np.abs(self.weight))

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        return self.pre, self.post, self.weight

    @property
    def synapse_count(self) -> int:
        return int(np.count_nonzero(self.weight))

    @property
    def terms(self) -> int:
        return int(np.bincount(self.post).max()) if self.post.size else 0

    def structure(self) -> Sparse:
        weight = (self.weight != 0).astype(np.float64)
        return Sparse(self.shape_in, self.shape_out, self.pre, self.post, weight)


@dataclass(frozen=True, eq=False)
class Composed(Operator):
    """One operator after the other: `y = stages[-1](... stages[0](x))`.

    Counting the synapses of a composition exactly means expanding it; beyond a few million paths `synapse_count` is
    the number of paths from inputs to outputs, an upper bound that is tight unless paths meet (an average pool in
    front of an overlapping convolution).
    """

    stages: tuple[Operator, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise GraphError("Composed needs at least one stage")
        for first, second in zip(self.stages, self.stages[1:], strict=False):
            if first.shape_out != second.shape_in:
                raise GraphError(
                    f"Composed: {type(first).__name__} gives {first.shape_out}, "
                    f"{type(second).__name__} takes {second.shape_in}"
                )

    @property
    def shape_in(self) -> Shape:
        return self.stages[0].shape_in

    @property
    def shape_out(self) -> Shape:
        return self.stages[-1].shape_out

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        for stage in self.stages:
            x = stage.apply(x)
        return x

    def absolute(self) -> Composed:
        return Composed(tuple(stage.absolute() for stage in self.stages))

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        from scipy.sparse import csr_array

        product: Any = None
        for stage in self.stages:
            pre, post, weight = stage.to_coo()
            matrix = csr_array((weight, (post, pre)), shape=(stage.size_out, stage.size_in))
            product = matrix if product is None else matrix @ product
        result = product.tocoo()
        return result.col.astype(np.int64), result.row.astype(np.int64), result.data.astype(np.float64)

    @cached_property
    def _paths(self) -> int:
        counts = np.ones((1, *self.shape_in))
        for stage in self.stages:
            counts = stage.structure().apply(counts)
        return round(float(counts.sum()))

    @cached_property
    def synapse_count(self) -> int:
        return len(self.to_coo()[0]) if self._paths <= _EXACT_COUNT_LIMIT else self._paths

    @property
    def terms(self) -> int:
        return sum(stage.terms for stage in self.stages if not isinstance(stage, Select))

    def structure(self) -> Composed:
        return Composed(tuple(stage.structure() for stage in self.stages))


def stages_of(operator: Operator | None) -> Iterator[Operator]:
    """Yield the stages of a possibly composed operator, first to last; nothing for None (the identity)."""
    if isinstance(operator, Composed):
        for stage in operator.stages:
            yield from stages_of(stage)
    elif operator is not None:
        yield operator
