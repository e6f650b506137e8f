"""Layers that are linear in their input: Dense, Conv2D, batch normalisation; and those that vanish."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from strop.graph import Convolution, Dense
from strop.lowering.context import Context
from strop.lowering.layers.activation import activate
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import FloatArray, Shape, Signal


def weights(variable: Any) -> FloatArray:
    """Return a Keras variable as float64: the float32 parameters themselves, nothing rounded."""
    return np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float64)


def refuse_quantised(layer: Any) -> None:
    """Refuse layers whose weights Keras quantised: they are not the weights that it multiplies with."""
    if getattr(layer, "quantization_mode", None) is not None:
        raise Refusal(
            f"its weights are quantised by Keras ({layer.quantization_mode})",
            "lower the model before quantising it",
        )


@handles(keras.layers.Dense)
def _dense(layer: Any, context: Context, signal: Signal) -> Signal:
    refuse_quantised(layer)
    signal = signal.in_keras_order()
    signal = signal.linear(Dense(weights(layer.kernel), signal.shape[:-1]))
    if layer.use_bias:
        signal = signal.biased(weights(layer.bias))
    return activate(layer, context, signal)


def same_padding(spatial: Shape, size: Shape, strides: Shape, dilation: Shape) -> tuple[tuple[int, int], ...]:
    """Return the zeros before and after each axis of Keras's "same" padding (the odd one goes to the end)."""
    padding = []
    for n, k, s, d in zip(spatial, size, strides, dilation, strict=True):
        needed = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        padding.append((needed // 2, needed - needed // 2))
    return tuple(padding)


def spatial_input(layer: Any, signal: Signal) -> Signal:
    """Return the input of a layer with a `data_format`, with its channels on the last axis."""
    if layer.data_format == "channels_first":
        return signal.in_channels_last()
    return signal.in_keras_order()


@handles(keras.layers.Conv2D)
def _conv2d(layer: Any, context: Context, signal: Signal) -> Signal:
    refuse_quantised(layer)
    signal = spatial_input(layer, signal)
    spatial = signal.shape[:-1]
    strides, dilation = tuple(layer.strides), tuple(layer.dilation_rate)
    if layer.padding == "valid":
        padding: tuple[tuple[int, int], ...] = ((0, 0),) * len(spatial)
    elif layer.padding == "same":
        padding = same_padding(spatial, tuple(layer.kernel_size), strides, dilation)
    else:
        raise Refusal(f"its padding is {layer.padding!r}", "use 'valid' or 'same'")
    signal = signal.linear(Convolution(signal.shape, weights(layer.kernel), strides, dilation, padding, layer.groups))
    if layer.use_bias:
        signal = signal.biased(weights(layer.bias))
    return activate(layer, context, signal)


@handles(keras.layers.BatchNormalization)
def _batch_normalization(layer: Any, context: Context, signal: Signal) -> Signal:
    """Fold `gamma (x - mean) / sqrt(variance + epsilon) + beta`, epsilon inside the root (Ioffe and Szegedy, 2015)."""
    if not isinstance(layer.axis, int):
        raise Refusal(f"it normalises over the axes {layer.axis}", "normalise over one axis")
    axis = signal.axis(layer.axis)
    scale = 1.0 / np.sqrt(weights(layer.moving_variance) + float(layer.epsilon))
    if layer.scale:
        scale = scale * weights(layer.gamma)
    shift = -weights(layer.moving_mean) * scale
    size = np.abs(shift)
    if layer.center:
        shift = shift + weights(layer.beta)
        size = size + np.abs(weights(layer.beta))
    extents = [1] * len(signal.shape)
    extents[axis] = -1
    return signal.scaled(scale.reshape(extents), shift.reshape(extents), size.reshape(extents))


@handles(
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)
def _vanishes(layer: Any, context: Context, signal: Signal) -> Signal:
    """Pass on: these act in training alone."""
    return signal
