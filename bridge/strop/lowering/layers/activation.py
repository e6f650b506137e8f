"""Activations: as layers, as `activation=` arguments, and the decoder at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from strop.errors import NotSharpenedError
from strop.graph import Dense
from strop.keras import SoftmaxDecode
from strop.keras.activations import SpikingActivation
from strop.keras.thresholds import compared_threshold
from strop.lowering.context import Context
from strop.lowering.layers.elementwise import SHARPEN, applied, elementwise_function
from strop.lowering.readout_signal import as_readout
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handler_for, handles
from strop.lowering.signal import Signal


@handles(SpikingActivation)
def _spiking(layer: Any, context: Context, signal: Signal) -> Signal:
    sharpness = float(layer.sharpness)
    if sharpness != 1.0:
        raise NotSharpenedError(
            f"layer {context.path!r} ({type(layer).__name__}) is sharpened to {sharpness:.4g}, not to 1: its outputs "
            "are not single bits. Finish sharpening, or call strop.keras.set_sharpness(model, 1.0)"
        )
    return context.spiking(signal, float(layer.threshold))


def activate(layer: Any, context: Context, signal: Signal) -> Signal:
    """Apply the `activation=` argument of a layer (or the function of an Activation layer) to its signal."""
    activation = layer.activation
    if activation is None or activation is keras.activations.linear:
        return signal
    if activation in (keras.activations.softmax, keras.ops.softmax):
        return softmax("softmax", signal, -1)
    if activation in (keras.activations.log_softmax, keras.ops.log_softmax):
        return softmax("log_softmax", signal, -1)
    if isinstance(activation, keras.layers.Layer):
        signal = replace(signal, wide=signal.wide and layer.compute_dtype == "float64")
        return handler_for(activation)(activation, context, signal)
    declared = compared_threshold(activation, layer.compute_dtype)
    if declared is not None:
        return context.spiking(signal, declared.at, declared.low, declared.high)
    name = getattr(activation, "__name__", type(activation).__name__)
    refusal = Refusal(
        f"its activation {name!r} is not a threshold",
        f"{SHARPEN}; or, if it is a threshold, say so with strop.keras.declare_threshold",
        f"layer {context.path!r} ({type(layer).__name__})",
    )
    known = elementwise_function(activation)
    if known:
        return applied(context, signal, activation, known, refusal)
    raise refusal


@handles(keras.layers.Activation)
def _activation(layer: Any, context: Context, signal: Signal) -> Signal:
    return activate(layer, context, signal)


@handles(keras.layers.Softmax)
def _softmax_layer(layer: Any, context: Context, signal: Signal) -> Signal:
    return softmax("softmax", signal, layer.axis)


def softmax(kind: str, signal: Signal, axis: Any) -> Signal:
    """Return the softmax of a read-out, or its logarithm, over an axis of Keras's tensor (batch axis counted)."""
    signal = signal.in_keras_order()
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    if len(axes) != 1 or not -len(signal.shape) <= axes[0] <= len(signal.shape) or axes[0] == 0:
        raise Refusal(f"its softmax runs over the axes {axis}", "let it run over one axis of a frame")
    return as_readout(kind, signal, axes[0] - (axes[0] > 0))


@handles(SoftmaxDecode)
def _softmax_decode(layer: Any, context: Context, signal: Signal) -> Signal:
    """Softmax of `(2 s - 1) . (2 key^T - 1)` (Whetstone 0.9, `Softmax_Decode.call`), over a temperature.

    The temperature is a power of two, so that the weights are exact, and scores that are equal stay equal.
    """
    rescaled = (2.0 * np.asarray(layer.key, dtype=np.float64).T - 1.0) / layer.temperature
    signal = signal.in_keras_order()
    if signal.shape[-1] != len(rescaled):
        raise Refusal(f"its key has {len(rescaled)} neurons, its input {signal.shape[-1]}")
    decoded = signal.linear(Dense(2.0 * rescaled, signal.shape[:-1])).biased(-rescaled.sum(axis=0))
    return as_readout("key", decoded)
