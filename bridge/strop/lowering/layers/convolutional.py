"""Convolutions of one to three dimensions: plain, grouped, depthwise, separable and transposed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from strop.graph import Convolution
from strop.lowering.context import Context
from strop.lowering.layers.activation import activate
from strop.lowering.layers.linear import refuse_quantised, weights
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import FloatArray, Shape, Signal

Padding = tuple[tuple[int, int], ...]


def same_padding(spatial: Shape, size: Shape, strides: Shape, dilation: Shape) -> Padding:
    """Return the zeros before and after each axis of Keras's "same" padding (the odd one goes to the end)."""
    padding = []
    for n, k, s, d in zip(spatial, size, strides, dilation, strict=True):
        needed = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        padding.append((needed // 2, needed - needed // 2))
    return tuple(padding)


def spatial_input(layer: Any, signal: Signal) -> Signal:
    """Return the input of a layer that may have a `data_format`, with its channels on the last axis."""
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return signal.in_channels_last()
    return signal.in_keras_order()


def _padding(layer: Any, spatial: Shape, strides: Shape, dilation: Shape) -> Padding:
    size = tuple(layer.kernel_size)
    if layer.padding == "valid":
        return ((0, 0),) * len(spatial)
    if layer.padding == "same":
        return same_padding(spatial, size, strides, dilation)
    if layer.padding == "causal":
        return tuple((d * (k - 1), 0) for k, d in zip(size, dilation, strict=True))
    raise Refusal(f"its padding is {layer.padding!r}", "use 'valid' or 'same'")


def _finished(layer: Any, context: Context, signal: Signal, shape: Shape) -> Signal:
    """Add the bias and take the activation; `shape` is that of Keras's input."""
    if layer.use_bias:
        bias = weights(layer.bias)
        if signal.channels_first and signal.keras_shape[0] == signal.keras_shape[-1] and np.ptp(bias) != 0:
            _refuse_misplaced_bias(layer, bias, shape)
        signal = signal.biased(bias)
    return activate(layer, context, signal)


def _refuse_misplaced_bias(layer: Any, bias: FloatArray, shape: Shape) -> None:
    """Refuse a channels-first layer whose bias Keras adds along the width.

    Keras 3.15 on TensorFlow guesses the axis from the shape (`keras/src/backend/tensorflow/numpy.py`, `add`), so where
    a frame is as wide as it has channels some layers come out wrong (dilated, depthwise and separable convolutions in
    compiled functions; all of them in eager mode). A copy with zero kernels shows nothing but its bias.
    """
    copy = type(layer).from_config({**layer.get_config(), "activation": None})
    model = keras.Sequential([keras.Input(shape), copy])
    copy.set_weights([np.zeros(w.shape) if w is not copy.bias else bias for w in copy.weights])
    shown = np.asarray(model.predict_on_batch(np.zeros((2, *shape), np.float32)))
    expected = bias.astype(np.float32).reshape(-1, *(1,) * (shown.ndim - 2))
    if not np.array_equal(shown, np.broadcast_to(expected, shown.shape)):
        raise Refusal(
            f"Keras {keras.__version__} adds its bias along the width and not along the channels, which come first "
            "and are as many as the frame is wide: the model does not compute what its layers say",
            "use channels_last, or another number of filters",
        )


def _convolved(layer: Any, signal: Signal, kernel: FloatArray, groups: int) -> Signal:
    spatial, strides, dilation = signal.shape[:-1], tuple(layer.strides), tuple(layer.dilation_rate)
    padding = _padding(layer, spatial, strides, dilation)
    return signal.linear(Convolution(signal.shape, kernel, strides, dilation, padding, groups))


@handles(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def _conv(layer: Any, context: Context, signal: Signal) -> Signal:
    refuse_quantised(layer)
    signal = spatial_input(layer, signal)
    convolved = _convolved(layer, signal, weights(layer.kernel), layer.groups)
    return _finished(layer, context, convolved, signal.keras_shape)


def _depthwise_kernel(kernel: FloatArray) -> FloatArray:
    """Return Keras's depthwise kernel (*size, channels, multiplier) as one with a group for each channel."""
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


@handles(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def _depthwise(layer: Any, context: Context, signal: Signal) -> Signal:
    refuse_quantised(layer)
    signal = spatial_input(layer, signal)
    kernel = _depthwise_kernel(weights(layer.kernel))
    return _finished(layer, context, _convolved(layer, signal, kernel, signal.shape[-1]), signal.keras_shape)


@handles(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def _separable(layer: Any, context: Context, signal: Signal) -> Signal:
    refuse_quantised(layer)
    signal = spatial_input(layer, signal)
    kernel, shape = _depthwise_kernel(weights(layer.depthwise_kernel)), signal.keras_shape
    signal = _convolved(layer, signal, kernel, signal.shape[-1])
    ones = (1,) * (len(signal.shape) - 1)
    point = Convolution(signal.shape, weights(layer.pointwise_kernel), ones, ones, ((0, 0),) * len(ones))
    return _finished(layer, context, signal.linear(point), shape)


@handles(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
def _transposed(layer: Any, context: Context, signal: Signal) -> Signal:
    """The adjoint of the convolution that maps the output's extents to the input's (TensorFlow's conv_transpose)."""
    refuse_quantised(layer)
    signal = spatial_input(layer, signal)
    rank = len(signal.shape) - 1
    shape = layer.compute_output_shape((1, *signal.keras_shape))[1:]
    outputs: Shape = tuple(shape[1:] if layer.data_format == "channels_first" else shape[:-1])
    strides, dilation, size = tuple(layer.strides), tuple(layer.dilation_rate), tuple(layer.kernel_size)
    padding: list[tuple[int, int]] = []
    extra = []
    for n, out, k, s, d in zip(signal.shape, outputs, size, strides, dilation, strict=False):
        reach = (n - 1) * s + d * (k - 1) + 1
        needed = max(reach - out, 0) if layer.padding == "same" else 0
        padding.append((needed // 2, needed - needed // 2))
        extra.append(out - (reach - needed))
    if any(more < 0 for more in extra) or rank != len(extra):
        raise Refusal("its output padding cuts values off", "leave output_padding out")
    kernel = np.swapaxes(weights(layer.kernel), -1, -2)
    transposed = signal.linear(
        Convolution(signal.shape, kernel, strides, dilation, tuple(padding), 1, True, tuple(extra))
    )
    return _finished(layer, context, transposed, signal.keras_shape)
