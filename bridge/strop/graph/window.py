"""Sliding windows: `Window`, their geometry, and `Gathering`, which makes one matrix product of a convolution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph.operator import FloatArray, Shape

Padding = tuple[tuple[int, int], ...]

# Windows are gathered in blocks of about this many values, 1 MiB of float64: they are multiplied while they are in the
# cache of one core (measured with `benchmarks/oracle.py`: 2 MiB and more cost a third of the speed).
BLOCK_VALUES = 131_072


def axis_span(size: int, offset: int, stride: int, before: int, outputs: int) -> tuple[slice, slice]:
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
                axis_span(n, t * d, s, before, out)
                for n, t, d, s, (before, _), out in zip(
                    self.spatial, tap, self.dilation, self.strides, self.padding, self.outputs, strict=True
                )
            ]
            if all(at.stop > at.start for at, _ in spans):
                yield tap, tuple(at for at, _ in spans), tuple(read for _, read in spans)


class Gathering:
    """Convolutions of batches, not transposed: windows gathered into a matrix block by block, and a product of each.

    A block's matrix has a row for each window, and holds the values of a window in the order of the kernel: with the
    channels last in both, what lies side by side in a frame is copied in one run.

    Parameters
    ----------
    window : Window
    channels : int
        Of a frame, all groups together.
    groups : int
    frames : int
        The most frames that are gathered at once.
    """

    def __init__(self, window: Window, channels: int, groups: int, frames: int) -> None:
        self.window, self.groups, self.per_group = window, groups, channels // groups
        padded = tuple(n + before + after for n, (before, after) in zip(window.spatial, window.padding, strict=True))
        # The margins stay zero from block to block.
        self._frames = np.zeros((frames, *padded, channels))
        self._inside = tuple(
            slice(before, before + n) for n, (before, _) in zip(window.spatial, window.padding, strict=True)
        )
        self._matrix = np.empty((0,))
        # Values side by side in a frame and in a window.
        run = self.per_group * (window.size[-1] if window.dilation[-1] == 1 else 1)
        self._wide = window.strides[-1] > 1 or run >= window.outputs[-1]

    def convolve(self, x: npt.NDArray[Any], kernel: FloatArray, out: FloatArray) -> None:
        """Write the convolution of `x`, shape `(n, *shape_in)`, with a kernel to `out`, shape `(n, *shape_out)`.

        Parameters
        ----------
        x : array of any dtype
            At most as many frames as were announced.
        kernel : array, shape (*size, channels / groups, filters)
        """
        self._frames[(slice(len(x)), *self._inside)] = x
        share = kernel.shape[-1] // self.groups
        # Of a frame with many windows, some lines at a time.
        lines = self.window.outputs[0]
        step = max(1, lines * BLOCK_VALUES // max(1, self._values(len(x))))
        for group in range(self.groups):
            own = kernel[..., group * share : (group + 1) * share].reshape(-1, share)
            for first in range(0, lines, step):
                windows = self._windows(len(x), group, first, min(first + step, lines))
                matrix = self._gathered(windows, len(own))
                answers = out[:, first : first + step, ..., group * share : (group + 1) * share]
                if answers.flags.c_contiguous:
                    multiply(matrix, own, answers.reshape(-1, share))
                else:
                    product = np.empty((len(matrix), share))
                    multiply(matrix, own, product)
                    answers[...] = product.reshape(answers.shape)

    def _values(self, frames: int) -> int:
        """Return how many values the windows of some frames have, one group's."""
        return frames * math.prod(self.window.outputs) * math.prod(self.window.size) * self.per_group

    def _windows(self, frames: int, group: int, first: int, last: int) -> FloatArray:
        """Return a view of the windows in some lines, shape `(frames, last - first, ..., *size, channels / groups)`."""
        window = self.window
        frame, *spatial, channel = self._frames.strides
        along = [stride * step for stride, step in zip(spatial, window.strides, strict=True)]
        within = [stride * step for stride, step in zip(spatial, window.dilation, strict=True)]
        origin = self._frames[:, first * window.strides[0] :, ..., group * self.per_group :]
        view: FloatArray = np.lib.stride_tricks.as_strided(
            origin,
            (frames, last - first, *window.outputs[1:], *window.size, self.per_group),
            (frame, *along, *within, channel),
            writeable=False,
        )
        return view

    def _gathered(self, windows: FloatArray, columns: int) -> FloatArray:
        """Return windows as the rows of a matrix, in memory that the next ones will take."""
        if self._matrix.size < windows.size:
            self._matrix = np.empty(windows.size)
        memory = self._matrix[: windows.size]
        if self._wide:
            np.copyto(memory.reshape(windows.shape), windows)
            return memory.reshape(-1, columns)
        # A window's runs are short: the runs along a line are longer, tap by tap. BLAS takes the matrix either way.
        axes = len(self.window.size)
        taps_first = np.moveaxis(windows, range(axes + 1, 2 * axes + 2), range(axes + 1))
        np.copyto(memory.reshape(taps_first.shape), taps_first)
        return memory.reshape(columns, -1).T


# OpenBLAS shares a product of about twice as many multiplications among threads (`interface/gemm.c`: 65536 times
# `GEMM_MULTITHREAD_THRESHOLD`, 4, for each thread). These wait for each other in a loop, so that the product of a
# single layer takes milliseconds where another process wants a core.
_ALONE = 500_000


def multiply(matrix: FloatArray, by: FloatArray, out: FloatArray) -> None:
    """Write `matrix @ by` to `out`, in products so small that BLAS computes each in the thread that calls it.

    Parameters
    ----------
    matrix : array, shape (rows, terms)
    by : array, shape (terms, columns)
    out : array, shape (rows, columns), contiguous
    """
    rows = max(1, _ALONE // by.size)
    if rows * by.size > 2 * _ALONE or len(matrix) <= rows:
        # Wide enough for BLAS's own threads to pay, or small.
        np.matmul(matrix, by, out=out)
        return
    whole = len(matrix) // rows * rows
    stacked = out[:whole].reshape(-1, rows, out.shape[1])
    np.matmul(matrix[:whole].reshape(-1, rows, matrix.shape[1]), by, out=stacked)
    if whole < len(matrix):
        np.matmul(matrix[whole:], by, out=out[whole:])
