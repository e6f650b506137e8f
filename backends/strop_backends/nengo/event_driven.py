"""Nengo transforms for spikes: what is added up follows the neurons that fired, where few of them did.

Each is one of Nengo's own transforms, so that a network stays one that any Nengo simulator builds: a builder that does
not know the class takes that of its base class (nengo 4.1.0, `builder/builder.py`: `Builder.build` goes along the
method resolution order). Only the operator of Nengo's reference simulator differs:

* `DotInc` multiplies by the whole matrix. `SpikeDense` adds up the columns of the neurons that fired, unless many did.
* `SparseDotInc` goes through all synapses. `SpikeSparse` goes through those of the neurons that fired, unless many
  did.
* `ConvInc` pads the frame and gathers all windows into new arrays in every step. `SpikeConvolution` gathers them into
  memory that it keeps; where few of their values are spikes, it adds up a kernel's rows for each of these alone.
* `SumPool` has no transform in Nengo but `Sparse`. `SpikePool` adds up shifted views.

What is not 0 counts as a spike, and is multiplied by its height: nothing changes for a source that is no neuron. How
many spikes are few is a matter of speed, never of spikes (measured with `benchmarks/nengo_streaming.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import nengo
import numpy as np
import numpy.typing as npt
from nengo.builder.builder import Builder
from nengo.builder.operator import Operator, Reset
from nengo.builder.signal import Signal
from nengo.builder.transforms import build_convolution, build_dense, build_sparse
from scipy.sparse import csr_array

from strop.graph import SumPool
from strop.graph.window import BLOCK_VALUES, multiply

FloatArray = npt.NDArray[np.float64]
# From a signal, flat, to what is added to the target.
Product = Callable[[FloatArray], FloatArray]

# Up to these shares of neurons that fire, the event-driven product is the faster one.
_FEW_COLUMNS, _FEW_SYNAPSES, _FEW_IN_WINDOWS = 0.35, 0.2, 0.04
# Below so many weights, a product of all of them takes no longer than finding out who fired.
_SMALL = 20_000
# From about twice as many weights on, OpenBLAS shares a matrix-vector product among threads that wait for each other
# in a loop: milliseconds in every step where another process wants a core.
_ALONE = 200_000


class SpikeDense(nengo.Dense):  # type: ignore[misc]  # Nengo ships no types
    """A dense transform of spikes."""

    def product(self, weights: FloatArray) -> Product:
        """Return a function that multiplies by `weights`, shape (size_out, size_in)."""
        if weights.size < _SMALL:
            return lambda x: weights @ x
        rows = np.ascontiguousarray(weights.T)
        most = int(_FEW_COLUMNS * len(rows))

        def multiply_fired(x: FloatArray) -> FloatArray:
            fired = np.flatnonzero(x != 0.0)
            if len(fired) > most:
                return _summed(x, rows)
            return _summed(x.take(fired), rows.take(fired, axis=0))

        return multiply_fired


def _summed(x: FloatArray, rows: FloatArray) -> FloatArray:
    """Return `x @ rows`, in products so small that BLAS computes each in the thread that calls it."""
    step = max(1, _ALONE // rows.shape[1])
    total: FloatArray = x[:step] @ rows[:step]
    for start in range(step, len(rows), step):
        total += x[start : start + step] @ rows[start : start + step]
    return total


class SpikeSparse(nengo.Sparse):  # type: ignore[misc]  # Nengo ships no types
    """A sparse transform of spikes."""

    def product(self, weights: Any) -> Product:
        """Return a function that multiplies by the sparse matrix `weights`, shape (size_out, size_in)."""
        matrix = csr_array(weights)
        if matrix.nnz < _SMALL:
            return lambda x: matrix @ x
        columns = csr_array(matrix.T)
        most, size = int(_FEW_SYNAPSES * self.size_in), self.size_out

        def multiply_fired(x: FloatArray) -> FloatArray:
            fired = np.flatnonzero(x != 0.0)
            if len(fired) > most:
                result: FloatArray = matrix @ x
                return result
            row = csr_array((x.take(fired), fired, [0, len(fired)]), shape=(1, self.size_in))
            met = row @ columns
            result = np.zeros(size)
            result[met.indices] = met.data
            return result

        return multiply_fired


class SpikePool(nengo.Sparse):  # type: ignore[misc]  # Nengo ships no types
    """A sum over windows, channel by channel: `Sparse` with a weight of one for each synapse.

    Parameters
    ----------
    pool : SumPool
    pre, post : int arrays, shape (synapses,)
        The pool, expanded.
    """

    def __init__(self, pool: SumPool, pre: npt.NDArray[np.int64], post: npt.NDArray[np.int64]) -> None:
        indices = np.stack([post, pre], axis=1)
        super().__init__((pool.size_out, pool.size_in), indices=indices, init=np.ones(len(pre)))
        self.pool = pool

    def product(self, weights: Any) -> Product:
        """Return a function that adds up windows; the weights are ones."""
        shape, out = self.pool.shape_in, np.empty(self.pool.shape_out)
        taps = [(at, read) for _, at, read in self.pool.window.taps()]

        def add_up(x: FloatArray) -> FloatArray:
            frame = x.reshape(shape)
            out[...] = 0.0
            for at, read in taps:
                out[at] += frame[read]
            return out.reshape(-1)

        return add_up


class SpikeConvolution(nengo.Convolution):  # type: ignore[misc]  # Nengo ships no types
    """A convolution of spikes, channels last.

    Parameters
    ----------
    before : tuple of int
        Zeros before each axis, which Nengo's word for the padding stands for.
    options
        As for `nengo.Convolution`.
    """

    def __init__(self, *args: Any, before: tuple[int, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.before = before

    def product(self, weights: FloatArray) -> Product:
        """Return a function that convolves with a kernel of shape (*kernel_size, channels / groups, filters)."""
        kernels = [own.reshape(-1, own.shape[-1]) for own in np.split(weights, self.groups, axis=-1)]
        whole = self._product_of_all(kernels)
        if self.groups > 1 or weights.size * math.prod(self.output_shape.spatial_shape) < 50 * _SMALL:
            return whole
        few = self._product_of_few(kernels[0])
        most = int(_FEW_IN_WINDOWS * self.size_in)

        def convolve(x: FloatArray) -> FloatArray:
            fired = x != 0.0
            if np.count_nonzero(fired) > most or not (x[fired] == 1.0).all():
                return whole(x)
            return few(fired)

        return convolve

    def _product_of_all(self, kernels: list[FloatArray]) -> Product:
        """Return a function that gathers windows, some lines of positions at a time, and a product for each group."""
        frame, inside, windows = self._windows(len(kernels[0]) // math.prod(self.kernel_size), np.float64)
        shape, positions = self.input_shape.shape, self.output_shape.spatial_shape
        kernels = [np.ascontiguousarray(kernel) for kernel in kernels]
        out = np.empty((len(kernels), *positions, kernels[0].shape[1]))
        memory = np.empty(windows[0][_lines(windows[0])[0]].shape)
        products = [
            (seen[lines], kernel, to[lines].reshape(-1, kernel.shape[1]))
            for seen, kernel, to in zip(windows, kernels, out, strict=True)
            for lines in _lines(seen)
        ]

        def convolve(x: FloatArray) -> FloatArray:
            frame[inside] = x.reshape(shape)
            for seen, kernel, to in products:
                matrix = memory[: len(seen)]
                np.copyto(matrix, seen)
                multiply(matrix.reshape(len(to), -1), kernel, to)
            return (out if len(out) == 1 else np.moveaxis(out, 0, -2)).reshape(-1)

        return convolve

    def _product_of_few(self, kernel: FloatArray) -> Callable[[npt.NDArray[np.bool_]], FloatArray]:
        """Return a function of spikes of height one, that adds up the kernel's row for each spike in each window."""
        frame, inside, (windows,) = self._windows(self.input_shape.n_channels, np.bool_)
        shape = self.input_shape.shape
        out = np.empty((*self.output_shape.spatial_shape, kernel.shape[1]))
        blocks = [(windows[lines], out[lines].reshape(-1, kernel.shape[1])) for lines in _lines(windows)]
        memory = np.empty(blocks[0][0].shape, np.bool_)
        columns = np.tile(np.arange(len(kernel), dtype=np.int32), len(blocks[0][1]))
        ends, ones = np.arange(0, memory.size + 1, len(kernel)), np.ones(memory.size)
        matrices = [csr_array((len(to), len(kernel))) for _, to in blocks]

        def add_up(fired: npt.NDArray[np.bool_]) -> FloatArray:
            frame[inside] = fired.reshape(shape)
            for (seen, to), matrix in zip(blocks, matrices, strict=True):
                np.copyto(memory[: len(seen)], seen)
                where = np.flatnonzero(memory[: len(seen)])
                matrix.indices, matrix.data = columns.take(where), ones[: len(where)]
                matrix.indptr = np.searchsorted(where, ends[: len(to) + 1]).astype(np.int32)
                to[...] = matrix @ kernel
            return out.reshape(-1)

        return add_up

    def _windows(self, per_group: int, dtype: Any) -> tuple[Any, tuple[slice, ...], Any]:
        """Return memory for a padded frame, where the frame lies in it, and a view of all windows of it.

        The view has the shape (groups, *positions, *kernel_size, channels / groups).
        """
        *spatial, channels = self.input_shape.shape
        positions = self.output_shape.spatial_shape
        steps = zip(positions, self.strides, self.kernel_size, self.before, spatial, strict=True)
        extents = [max((p - 1) * s + k, b + n) for p, s, k, b, n in steps]
        frame = np.zeros((*extents, channels), dtype)
        inside = tuple(slice(b, b + n) for b, n in zip(self.before, spatial, strict=True))
        *along, channel = frame.strides
        view = np.lib.stride_tricks.as_strided(
            frame,
            (self.groups, *positions, *self.kernel_size, per_group),
            (per_group * channel, *(a * s for a, s in zip(along, self.strides, strict=True)), *along, channel),
            writeable=False,
        )
        return frame, inside, view


def _lines(windows: npt.NDArray[Any]) -> list[slice]:
    """Return blocks of lines of positions, the first axis of a view of windows, with a cacheful of values in each."""
    step = max(1, BLOCK_VALUES // math.prod(windows.shape[1:]))
    return [slice(first, min(first + step, len(windows))) for first in range(0, len(windows), step)]


class SpikeInc(Operator):  # type: ignore[misc]  # Nengo ships no types
    """Adds a transform of spikes: `Y += product(X)`."""

    def __init__(self, weights: Signal, x: Signal, y: Signal, transform: Any, tag: str | None = None) -> None:
        super().__init__(tag=tag)
        self.transform = transform
        self.sets: list[Signal] = []
        self.incs = [y]
        self.reads = [weights, x]
        self.updates: list[Signal] = []

    def make_step(self, signals: Any, dt: float, rng: Any) -> Any:
        """Return the function that Nengo calls once a step."""
        x, y = signals[self.reads[1]], signals[self.incs[0]]
        product = self.transform.product(signals[self.reads[0]])

        def add() -> None:
            y[...] += product(x)

        return add


def _register(kind: type, build_plain: Callable[..., Any]) -> None:
    @Builder.register(kind)  # type: ignore[untyped-decorator,unused-ignore]  # Nengo ships no types
    def build(
        model: Any, transform: Any, sig_in: Signal, decoders: Any = None, encoders: Any = None, rng: Any = np.random
    ) -> tuple[Signal, Signal]:
        if decoders is not None or encoders is not None:
            # Between ensembles, as a user's script may have it: what is multiplied are no spikes.
            return build_plain(model, transform, sig_in, decoders, encoders, rng)  # type: ignore[no-any-return]
        weighted = Signal(shape=transform.size_out, name=f"{transform}.weighted")
        model.add_op(Reset(weighted))
        weights = Signal(transform.sample(rng=rng), readonly=True, name=f"{transform}.weights")
        model.add_op(SpikeInc(weights, sig_in, weighted, transform, tag=f"{transform}.apply_weights"))
        return weighted, weights


_register(SpikeDense, build_dense)
_register(SpikeSparse, build_sparse)
_register(SpikePool, build_sparse)
_register(SpikeConvolution, build_convolution)
