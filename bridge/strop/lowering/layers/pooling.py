"""Pooling: maxima of spikes are OR, averages are linear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from strop.graph import Composed, Operator, Select, Sparse, SumPool, compose
from strop.lowering.context import Context
from strop.lowering.layers.convolutional import same_padding, spatial_input
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import Pooled, Signal, flat_index, rearrange


def _windows(layer: Any, signal: Signal) -> SumPool:
    size, strides = tuple(layer.pool_size), tuple(layer.strides)
    spatial = signal.shape[:-1]
    padding = ((0, 0),) * len(spatial)
    if layer.padding == "same":
        padding = same_padding(spatial, size, strides, (1,) * len(spatial))
    return SumPool(signal.shape, size, strides, padding)


def _whole(layer: Any, signal: Signal) -> Operator:
    """Return the window of a global pool, its result with or without the pooled axes."""
    spatial = signal.shape[:-1]
    pool = SumPool(signal.shape, spatial, spatial, ((0, 0),) * len(spatial))
    if layer.keepdims:
        return pool
    operator = compose(pool, Select(pool.shape_out, flat_index((signal.shape[-1],))))
    assert operator is not None
    return operator


def _maximum(context: Context, signal: Signal, windows: Operator) -> Signal:
    if signal.levels is not None:
        return context.pooled_bits(signal, windows)
    if signal.pooled is None:
        return _pooled(signal, windows, signal.channels_first)
    if (signal.pooled.scale == 1.0).all() and not signal.pooled.shift.any():
        # A maximum of maxima is one maximum over the union of the windows.
        return _pooled(signal.pooled.base, _union(signal.pooled.windows, windows), signal.channels_first)
    raise Refusal(
        "it pools values that were max-pooled and normalised before, without an activation in between",
        "put a spiking activation between the two pools",
    )


def _pooled(base: Signal, windows: Operator, channels_first: bool) -> Signal:
    return Signal(
        windows.shape_out,
        (),
        channels_first=channels_first,
        pooled=Pooled(base, windows),
    )


def _union(first: Operator, second: Operator) -> Operator:
    """Return the windows of two max pools in a row, each member counted once."""
    both = Composed((first, second))
    pre, post, _ = both.to_coo()
    return Sparse(both.shape_in, both.shape_out, pre, post, np.ones(len(pre)))


def _average(signal: Signal, windows: Operator) -> Signal:
    members = windows.apply(np.ones((1, *windows.shape_in)))[0]
    return signal.linear(windows).scaled(1.0 / members)


@handles(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
def _max_pooling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    if all(extent == 1 for extent in layer.pool_size):  # a shortcut that only takes every second place, in ResNetV2
        steps = tuple(slice(None, None, step) for step in layer.strides)
        return rearrange(signal, lambda index: index[steps])
    return _maximum(context, signal, _windows(layer, signal))


@handles(keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
def _global_max_pooling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    return _without_axes(layer, _maximum(context, signal, _whole(layer, signal)))


@handles(
    keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D, behind_readouts=True
)
def _average_pooling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    return _average(signal, _windows(layer, signal))


@handles(
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    behind_readouts=True,
)
def _global_average_pooling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    return _without_axes(layer, _average(signal, _whole(layer, signal)))


def newer_layers(*names: str) -> list[Any]:
    """Return the layers of these names that the installed Keras has."""
    return [getattr(keras.layers, name) for name in names if hasattr(keras.layers, name)]


@handles(*newer_layers("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D"))
def _adaptive_max_pooling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    return _maximum(context, signal, _adaptive(layer, signal))


@handles(*newer_layers("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D"))
def _adaptive_average_pooling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    return _average(signal, _adaptive(layer, signal))


def _adaptive(layer: Any, signal: Signal) -> Operator:
    """Return the windows of an adaptive pool: output k of m covers the places floor(k n / m) to ceil((k + 1) n / m)."""
    sizes = layer.output_size
    outputs = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    index, shape = flat_index(signal.shape), (*outputs, signal.shape[-1])
    pre, post = [], []
    for place, target in zip(np.ndindex(*outputs), flat_index(shape).reshape(-1, shape[-1]), strict=True):
        spans = zip(place, signal.shape, outputs, strict=False)
        window = index[tuple(slice(k * n // m, -(-(k + 1) * n // m)) for k, n, m in spans)].reshape(-1, shape[-1])
        pre.append(window.reshape(-1))
        post.append(np.broadcast_to(target, window.shape).reshape(-1))
    sources, targets = np.concatenate(pre), np.concatenate(post)
    return Sparse(signal.shape, shape, sources, targets, np.ones(len(sources)))


def reduced(context: Context, kind: str, signal: Signal, axes: tuple[int, ...], keepdims: bool) -> Signal:
    """Return the sum, mean or maximum over some axes of a frame, in Keras's order."""
    signal = signal.in_keras_order()
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(signal.shape))
    targets = np.broadcast_to(flat_index(shape), signal.shape).reshape(-1)
    kept = shape if keepdims else tuple(n for axis, n in enumerate(signal.shape) if axis not in axes)
    size = len(targets)
    windows = Sparse(signal.shape, kept, np.arange(size), targets, np.ones(size))
    if kind == "Max":
        return _maximum(context, signal, windows)
    return _average(signal, windows) if kind == "Mean" else signal.linear(windows)


def _without_axes(layer: Any, signal: Signal) -> Signal:
    """A vector of channels has no order of axes left."""
    return signal if layer.keepdims else replace(signal, channels_first=False)
