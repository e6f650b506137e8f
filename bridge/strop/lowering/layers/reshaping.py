"""Layers that only move values: they compose into the next operator and cost no step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from strop.lowering.context import Context
from strop.lowering.layers.convolutional import spatial_input
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import Signal, rearrange


@handles(keras.layers.Flatten, moves=True)
def _flatten(layer: Any, context: Context, signal: Signal) -> Signal:
    # With data_format="channels_first" Keras moves the channels to the end before it flattens.
    if layer.data_format == "channels_first" and len(signal.shape) > 1:
        signal = replace(signal.in_channels_last(), channels_first=False)
    return rearrange(signal.in_keras_order(), lambda index: index.reshape(-1))


@handles(keras.layers.Reshape, moves=True)
def _reshape(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = signal.in_keras_order()
    shape = tuple(layer.compute_output_shape((1, *signal.shape))[1:])
    return rearrange(signal, lambda index: index.reshape(shape))


@handles(keras.layers.Permute, moves=True)
def _permute(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = signal.in_keras_order()
    return rearrange(signal, lambda index: index.transpose([axis - 1 for axis in layer.dims]))


@handles(keras.layers.RepeatVector, moves=True)
def _repeat_vector(layer: Any, context: Context, signal: Signal) -> Signal:
    return rearrange(signal, lambda index: np.repeat(index[None], layer.n, axis=0))


def _pairs(values: Any) -> tuple[tuple[int, int], ...]:
    """Return the (before, after) pairs of a 1-D layer, which has one pair, or of a 2-D or 3-D layer."""
    return (tuple(values),) if isinstance(values[0], int) else tuple(tuple(pair) for pair in values)


@handles(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D, moves=True)
def _zero_padding(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    margins = (*_pairs(layer.padding), (0, 0))
    return rearrange(signal, lambda index: np.pad(index, margins, constant_values=-1))


@handles(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D, moves=True)
def _cropping(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    pairs = zip(signal.shape, _pairs(layer.cropping), strict=False)
    cuts = tuple(slice(before, n - after) for n, (before, after) in pairs)
    return rearrange(signal, lambda index: index[cuts])


@handles(keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D, moves=True)
def _up_sampling(layer: Any, context: Context, signal: Signal) -> Signal:
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation != "nearest":
        raise Refusal(f"its interpolation is {interpolation!r}", "use interpolation='nearest'")
    factors = (layer.size,) if isinstance(layer.size, int) else tuple(layer.size)
    return _repeated(spatial_input(layer, signal), factors)


def _repeated(signal: Signal, factors: tuple[int, ...]) -> Signal:
    def repeat(index: Any) -> Any:
        for axis, factor in enumerate(factors):
            index = index.repeat(factor, axis=axis)
        return index

    return rearrange(signal, repeat)


@handles(keras.layers.Resizing, moves=True)
def _resizing(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    rows, columns = signal.shape[:2]
    if layer.interpolation != "nearest" or layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio:
        raise Refusal("it interpolates or changes the aspect ratio", "use interpolation='nearest' and whole factors")
    if layer.height % rows or layer.width % columns:
        raise Refusal(
            f"it resizes {rows} x {columns} to {layer.height} x {layer.width}, which is no whole factor",
            "resize by whole factors, or before the network",
        )
    return _repeated(signal, (layer.height // rows, layer.width // columns))


@handles(keras.layers.CenterCrop, moves=True)
def _center_crop(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    rows, columns = signal.shape[0] - layer.height, signal.shape[1] - layer.width
    if rows < 0 or columns < 0:
        raise Refusal("its frames are smaller than what it crops to, so it interpolates", "crop to a smaller size")
    cut = slice(rows // 2, rows // 2 + layer.height), slice(columns // 2, columns // 2 + layer.width)
    return rearrange(signal, lambda index: index[cut])
