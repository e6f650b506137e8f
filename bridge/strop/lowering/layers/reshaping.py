"""Layers that move values about: they compose into the next operator and cost no step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from strop.lowering.context import Context
from strop.lowering.layers.linear import spatial_input
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import Signal, rearrange


@handles(keras.layers.Flatten)
def _flatten(layer: Any, context: Context, signal: Signal) -> Signal:
    # With data_format="channels_first" Keras moves the channels to the end before it flattens.
    if layer.data_format == "channels_first" and len(signal.shape) > 1:
        signal = replace(signal.in_channels_last(), channels_first=False)
    return rearrange(signal.in_keras_order(), lambda index: index.reshape(-1))


@handles(keras.layers.Reshape)
def _reshape(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = signal.in_keras_order()
    shape = tuple(layer.compute_output_shape((1, *signal.shape))[1:])
    return rearrange(signal, lambda index: index.reshape(shape))


@handles(keras.layers.Permute)
def _permute(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = signal.in_keras_order()
    return rearrange(signal, lambda index: index.transpose([axis - 1 for axis in layer.dims]))


@handles(keras.layers.ZeroPadding2D)
def _zero_padding(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    return rearrange(signal, lambda index: np.pad(index, (*layer.padding, (0, 0)), constant_values=-1))


@handles(keras.layers.Cropping2D)
def _cropping(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = spatial_input(layer, signal)
    cuts = tuple(slice(before, n - after) for n, (before, after) in zip(signal.shape, layer.cropping, strict=False))
    return rearrange(signal, lambda index: index[cuts])


@handles(keras.layers.UpSampling2D)
def _up_sampling(layer: Any, context: Context, signal: Signal) -> Signal:
    if layer.interpolation != "nearest":
        raise Refusal(f"its interpolation is {layer.interpolation!r}", "use interpolation='nearest'")
    signal = spatial_input(layer, signal)
    rows, columns = layer.size
    return rearrange(signal, lambda index: index.repeat(rows, axis=0).repeat(columns, axis=1))
