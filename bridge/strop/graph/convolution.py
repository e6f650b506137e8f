"""Operators that slide a window: `Convolution` (1 to 3 dimensions, also transposed) and `SumPool`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError
from strop.graph.operator import FloatArray, IntArray, Operator, Shape, as_float64, as_shape

Padding = tuple[tuple[int, int], ...]

# Batches are cut so that the gathered windows of one product stay below this many values (16 MiB of float64).
_WINDOW_VALUES = 2_097_152


def _axis_span(size: int, offset: int, stride: int, before: int, outputs: int) -> tuple[slice, slice]:
    """Return which outputs a kernel tap reaches inside the frame, and the inputs it reads there, as slices."""
    shift = offset - before
    first = max(0, -(shift // stride)) if shift < 0 else 0
    last = min(outputs - 1, (size - 1 - shift) // stride) if size - 1 - shift >= 0 else -1
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + shift
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window over the spatial axes of a frame.

    Parameters
    ----------
    spatial : tuple of int
        Spatial extents of the frame that the window slides over.
    size, strides, dilation : tuple of int
        One entry per spatial axis.
    padding : tuple of (int, int)
        Zeros before and after each axis; may be asymmetric.
    """

    spatial: Shape
    size: Shape
    strides: Shape
    dilation: Shape
    padding: Padding

    @property
    def outputs(self) -> Shape:
        """Number of window positions along each axis."""
        return tuple(
            (n + before + after - d * (k - 1) - 1) // s + 1
            for n, k, s, d, (before, after) in zip(
                self.spatial, self.size, self.strides, self.dilation, self.padding, strict=True
            )
        )

    def taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """Yield each kernel tap with the positions where it falls inside the frame and the values it reads there."""
        for tap in itertools.product(*(range(k) for k in self.size)):
            spans = [
                _axis_span(n, t * d, s, before, out)
                for n, t, d, s, (before, _), out in zip(
                    self.spatial, tap, self.dilation, self.strides, self.padding, self.outputs, strict=True
                )
            ]
            if all(at.stop > at.start for at, _ in spans):
                yield tap, tuple(at for at, _ in spans), tuple(read for _, read in spans)


def _check_window(what: str, window: Window) -> None:
    dimensions = len(window.spatial)
    lengths = {len(window.size), len(window.strides), len(window.dilation), len(window.padding)}
    if not 1 <= dimensions <= 3 or lengths != {dimensions}:
        raise GraphError(f"{what} needs 1 to 3 spatial axes and one entry for each of them, got {window}")
    if any(before < 0 or after < 0 for before, after in window.padding):
        raise GraphError(f"{what}.padding must not be negative, got {window.padding}")
    if any(n < 1 for n in (*window.outputs, *window.spatial)):
        raise GraphError(f"{what}: a window of {window.size} does not fit a frame of {window.spatial}")


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """Cross-correlation of channels-last frames with a kernel, as Keras defines convolution; or its adjoint.

    Not transposed: `y[p, o] = sum_{k,i} x[p*stride + k*dilation - before, i] kernel[k, i, o]`, the input channels of
    an output's own group only. Transposed: `y[p*stride + k*dilation - before, o] += x[p, i] kernel[k, i, o]`.

    Parameters
    ----------
    shape_in_ : tuple of int
        (*spatial, channels).
    kernel : array, shape (*size, channels / groups, filters)
    strides, dilation : tuple of int
    padding : tuple of (int, int)
        Explicit zeros before and after each axis (for a transposed one: of the convolution it is the adjoint of).
    groups : int
    transposed : bool
    output_padding : tuple of int or None
        Only transposed: extra extent at the end of each axis.
    """

    shape_in_: Shape
    kernel: FloatArray
    strides: Shape
    dilation: Shape
    padding: Padding
    groups: int = 1
    transposed: bool = False
    output_padding: Shape | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "shape_in_", as_shape("Convolution.shape_in_", self.shape_in_))
        set_(self, "kernel", as_float64("Convolution.kernel", self.kernel))
        set_(self, "strides", as_shape("Convolution.strides", self.strides))
        set_(self, "dilation", as_shape("Convolution.dilation", self.dilation))
        set_(self, "padding", tuple((int(a), int(b)) for a, b in self.padding))
        if self.output_padding is not None:
            set_(self, "output_padding", tuple(int(n) for n in self.output_padding))
        channels, (per_group, filters) = self.shape_in_[-1], self.kernel.shape[-2:]
        if self.kernel.ndim != len(self.shape_in_) + 1:
            raise GraphError(f"Convolution.kernel {self.kernel.shape} does not fit frames of {self.shape_in_}")
        if self.groups < 1 or per_group * self.groups != channels or filters % self.groups:
            raise GraphError(
                f"Convolution: {channels} channels, {self.groups} groups and a kernel of shape "
                f"{self.kernel.shape} do not fit together"
            )
        if not self.transposed and self.output_padding is not None:
            raise GraphError("Convolution.output_padding is for transposed convolutions")
        _check_window("Convolution", self._window)

    @property
    def _window(self) -> Window:
        """The window of the convolution itself, or of the one that a transposed convolution is the adjoint of."""
        spatial, size = self.shape_in_[:-1], self.kernel.shape[:-2]
        if self.transposed:
            extra = self.output_padding or (0,) * len(spatial)
            spatial = tuple(
                (n - 1) * s + d * (k - 1) + 1 - before - after + more
                for n, k, s, d, (before, after), more in zip(
                    spatial, size, self.strides, self.dilation, self.padding, extra, strict=True
                )
            )
        return Window(spatial, size, self.strides, self.dilation, self.padding)

    @property
    def shape_in(self) -> Shape:
        return self.shape_in_

    @property
    def shape_out(self) -> Shape:
        window = self._window
        return (*(window.spatial if self.transposed else window.outputs), self.kernel.shape[-1])

    def with_kernel(self, kernel: FloatArray) -> Convolution:
        """Return the same convolution with another kernel of the same spatial size."""
        return replace(self, kernel=kernel)

    def absolute(self) -> Convolution:
        return self.with_kernel(np.abs(self.kernel))

    def _taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """Yield (tap, output positions, input positions)."""
        inner = self.shape_in_[:-1]
        for tap, at, read in self._window.taps():
            if not self.transposed:
                yield tap, at, read
            elif all(a.start < n for a, n in zip(at, inner, strict=True)):
                # Output padding can make room for window positions that the input does not have.
                cut = tuple(slice(a.start, min(a.stop, n)) for a, n in zip(at, inner, strict=True))
                kept = tuple(
                    slice(r.start, r.start + (c.stop - c.start - 1) * (r.step or 1) + 1, r.step)
                    for r, c in zip(read, cut, strict=True)
                )
                yield tap, kept, cut

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        x = self._check(x)
        out = np.zeros((len(x), *self.shape_out))
        per_frame = max(1, math.prod(self._window.outputs) * self.kernel[..., 0].size * self.groups)
        step = max(1, _WINDOW_VALUES // per_frame)
        for start in range(0, len(x), step):
            part = x[start : start + step].astype(np.float64, copy=False)
            if self.transposed:
                self._scatter(part, out[start : start + step])
            else:
                self._gather(part, out[start : start + step])
        return out

    def _gather(self, x: FloatArray, out: FloatArray) -> None:
        """Convolve by gathering all windows into one matrix per group, then one matrix product.

        The matrix holds a row for each tap and channel and a column for each window, so that a tap is copied in runs
        along the frame's rows.
        """
        positions, size = self._window.outputs, self.kernel.shape[:-2]
        per_group, filters = self.kernel.shape[-2:]
        share = filters // self.groups
        planes = np.ascontiguousarray(np.moveaxis(x, -1, 0))
        for group in range(self.groups):
            channels = slice(group * per_group, (group + 1) * per_group)
            windows = np.zeros((*size, per_group, len(x), *positions))
            for tap, at, read in self._taps():
                place: Any = (*tap, slice(None), slice(None), *at)
                windows[place] = planes[(channels, slice(None), *read)]
            kernel = self.kernel[..., group * share : (group + 1) * share].reshape(-1, share)
            product = kernel.T @ windows.reshape(len(kernel), -1)
            out[..., group * share : (group + 1) * share] = np.moveaxis(
                product.reshape(share, len(x), *positions), 0, -1
            )

    def _scatter(self, x: FloatArray, out: FloatArray) -> None:
        """Convolve transposed: every tap adds its product to the outputs it reaches."""
        per_group, filters = self.kernel.shape[-2:]
        share = filters // self.groups
        for tap, at, read in self._taps():
            for group in range(self.groups):
                source = x[(slice(None), *read, slice(group * per_group, (group + 1) * per_group))]
                kernel = self.kernel[tap][:, group * share : (group + 1) * share]
                out[(slice(None), *at, slice(group * share, (group + 1) * share))] += source @ kernel

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        inputs = np.arange(self.size_in, dtype=np.int64).reshape(self.shape_in)
        outputs = np.arange(self.size_out, dtype=np.int64).reshape(self.shape_out)
        per_group, filters = self.kernel.shape[-2:]
        share = filters // self.groups
        pre, post, weight = [], [], []
        for tap, at, read in self._taps():
            for group in range(self.groups):
                sources = inputs[(*read, slice(group * per_group, (group + 1) * per_group))].reshape(-1, per_group, 1)
                targets = outputs[(*at, slice(group * share, (group + 1) * share))].reshape(-1, 1, share)
                shape = (len(sources), per_group, share)
                pre.append(np.broadcast_to(sources, shape).reshape(-1))
                post.append(np.broadcast_to(targets, shape).reshape(-1))
                kernel = self.kernel[tap][:, group * share : (group + 1) * share]
                weight.append(np.broadcast_to(kernel, shape).reshape(-1))
        if not pre:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        return np.concatenate(pre), np.concatenate(post), np.concatenate(weight)

    @property
    def synapse_count(self) -> int:
        return sum(
            math.prod(a.stop - a.start for a in (read if self.transposed else at))
            * int(np.count_nonzero(self.kernel[tap]))
            for tap, at, read in self._taps()
        )

    @property
    def terms(self) -> int:
        return int(self.kernel[..., 0].size)

    def structure(self) -> Convolution:
        return self.with_kernel((self.kernel != 0).astype(np.float64))


@dataclass(frozen=True, eq=False)
class SumPool(Operator):
    """Sum over a window, channel by channel, all weights one; padding adds nothing.

    Parameters
    ----------
    shape_in_ : tuple of int
        (*spatial, channels).
    size, strides : tuple of int
    padding : tuple of (int, int)
    """

    shape_in_: Shape
    size: Shape
    strides: Shape
    padding: Padding

    def __post_init__(self) -> None:
        for name in ("shape_in_", "size", "strides"):
            object.__setattr__(self, name, as_shape(f"SumPool.{name}", getattr(self, name)))
        object.__setattr__(self, "padding", tuple((int(a), int(b)) for a, b in self.padding))
        _check_window("SumPool", self._window)

    @property
    def _window(self) -> Window:
        spatial = self.shape_in_[:-1]
        return Window(spatial, self.size, self.strides, (1,) * len(spatial), self.padding)

    @property
    def shape_in(self) -> Shape:
        return self.shape_in_

    @property
    def shape_out(self) -> Shape:
        return (*self._window.outputs, self.shape_in_[-1])

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        x = self._check(x)
        out = np.zeros((len(x), *self.shape_out))
        for _, at, read in self._window.taps():
            out[(slice(None), *at)] += x[(slice(None), *read)]
        return out

    def absolute(self) -> SumPool:
        return self

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        inputs = np.arange(self.size_in, dtype=np.int64).reshape(self.shape_in)
        outputs = np.arange(self.size_out, dtype=np.int64).reshape(self.shape_out)
        pairs = [(inputs[read].reshape(-1), outputs[at].reshape(-1)) for _, at, read in self._window.taps()]
        # Windows may all lie on the padding.
        pre = np.concatenate([np.empty(0, np.int64), *(pre for pre, _ in pairs)])
        post = np.concatenate([np.empty(0, np.int64), *(post for _, post in pairs)])
        return pre, post, np.ones(len(pre))

    @property
    def synapse_count(self) -> int:
        reached: int = sum(math.prod(a.stop - a.start for a in at) for _, at, _ in self._window.taps())
        return reached * self.shape_in_[-1]

    @property
    def terms(self) -> int:
        return math.prod(self.size)
