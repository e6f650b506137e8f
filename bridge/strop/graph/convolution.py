"""Operators that slide a window: `Convolution` (1 to 3 dimensions, also transposed) and `SumPool`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError
from strop.graph.operator import FloatArray, IntArray, Operator, Shape, as_float64, as_shape
from strop.graph.threads import in_threads
from strop.graph.window import BLOCK_VALUES, Gathering, Padding, Window, axis_span


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
        _check_window("Convolution", self.window)

    @property
    def window(self) -> Window:
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
        window = self.window
        return (*(window.spatial if self.transposed else window.outputs), self.kernel.shape[-1])

    def with_kernel(self, kernel: FloatArray) -> Convolution:
        """Return the same convolution with another kernel of the same spatial size."""
        return replace(self, kernel=kernel)

    def absolute(self) -> Convolution:
        return self.with_kernel(np.abs(self.kernel))

    def _taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """Yield (tap, output positions, input positions)."""
        inner = self.shape_in_[:-1]
        for tap, at, read in self.window.taps():
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
        out = np.zeros((len(x), *self.shape_out)) if self.transposed else np.empty((len(x), *self.shape_out))
        per_frame = math.prod(self.window.outputs) * self.kernel[..., 0].size
        # Of a wide layer, a single frame may have more windows than that; `Gathering` then takes some lines at a time.
        step = max(1, BLOCK_VALUES // max(per_frame, 1))
        starts = range(0, len(x), step)

        def convolve(own: range) -> None:
            gathering = None if self.transposed else Gathering(self.window, self.shape_in_[-1], self.groups, step)
            for start in own:
                part, to = x[start : start + step], out[start : start + step]
                if gathering is None:
                    self._scatter(part.astype(np.float64, copy=False), to)
                else:
                    gathering.convolve(part, self.kernel, to)

        in_threads(convolve, starts)
        return out

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
        _check_window("SumPool", self.window)

    @property
    def window(self) -> Window:
        spatial = self.shape_in_[:-1]
        return Window(spatial, self.size, self.strides, (1,) * len(spatial), self.padding)

    @property
    def shape_in(self) -> Shape:
        return self.shape_in_

    @property
    def shape_out(self) -> Shape:
        return (*self.window.outputs, self.shape_in_[-1])

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        x = self._check(x)
        if x.dtype == np.bool_ and self.terms < 256:
            return self._count(x.view(np.uint8)).astype(np.float64)
        out = np.zeros((len(x), *self.shape_out))
        for _, at, read in self.window.taps():
            out[(slice(None), *at)] += x[(slice(None), *read)]
        return out

    def _count(self, bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return how many bits are set in each window: axis by axis, in bytes, an eighth of the memory traffic."""
        window = self.window
        for axis, outputs in enumerate(window.outputs):
            before = (slice(None),) * (axis + 1)
            counts = np.zeros((*bits.shape[: axis + 1], outputs, *bits.shape[axis + 2 :]), dtype=np.uint8)
            for tap in range(window.size[axis]):
                at, read = axis_span(window.spatial[axis], tap, window.strides[axis], window.padding[axis][0], outputs)
                counts[(*before, at)] += bits[(*before, read)]
            bits = counts
        return bits

    def absolute(self) -> SumPool:
        return self

    def _coo(self) -> tuple[IntArray, IntArray, FloatArray]:
        inputs = np.arange(self.size_in, dtype=np.int64).reshape(self.shape_in)
        outputs = np.arange(self.size_out, dtype=np.int64).reshape(self.shape_out)
        pairs = [(inputs[read].reshape(-1), outputs[at].reshape(-1)) for _, at, read in self.window.taps()]
        # Windows may all lie on the padding.
        pre = np.concatenate([np.empty(0, np.int64), *(pre for pre, _ in pairs)])
        post = np.concatenate([np.empty(0, np.int64), *(post for _, post in pairs)])
        return pre, post, np.ones(len(pre))

    @property
    def synapse_count(self) -> int:
        reached: int = sum(math.prod(a.stop - a.start for a in at) for _, at, _ in self.window.taps())
        return reached * self.shape_in_[-1]

    @property
    def terms(self) -> int:
        return math.prod(self.size)
