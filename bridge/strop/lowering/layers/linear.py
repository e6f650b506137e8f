"""Dense and other linear layers (but convolutions), normalisations, and layers that act in training only."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from strop.graph import Dense, Sparse
from strop.graph.capacity import require_memory
from strop.keras.sharpening.rounding import is_rounding
from strop.lowering.context import Context
from strop.lowering.layers.activation import activate
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import NORMALISATION_ROUNDINGS, FloatArray, Signal, coarse


def weights(variable: Any) -> FloatArray:
    """Return a Keras variable as float64: the float32 parameters themselves, nothing rounded."""
    return np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float64)


def refuse_quantised(layer: Any) -> None:
    """Refuse layers whose kernel is not what they multiply with: quantised or split by Keras, or rounded in training.

    A low-rank update is multiplied out in float32 at every call, and its rounding is not bounded by the products'
    size; Keras merges it into the kernel when the model is saved, and leaves an update of zeros.
    """
    if getattr(layer, "quantization_mode", None) is not None:
        raise Refusal(
            f"its weights are quantised by Keras ({layer.quantization_mode})",
            "lower the model before quantising it",
        )
    if is_rounding(layer):
        raise Refusal(
            "a training with weight_bits was begun and did not end, so it computes with a kernel that is rounded",
            "call fit again and let it end",
        )
    factors = [getattr(layer, f"lora_kernel_{side}", None) for side in "ab"]
    if all(factor is not None and weights(factor).any() for factor in factors):
        raise Refusal(
            "its low-rank update (enable_lora) is not merged into its kernel",
            "save the model and load it again: Keras merges the update when it saves",
        )


@handles(keras.layers.Dense, casts=True)
def _dense(layer: Any, context: Context, signal: Signal) -> Signal:
    refuse_quantised(layer)
    signal = signal.in_keras_order()
    signal = signal.linear(Dense(weights(layer.kernel), signal.shape[:-1]))
    if layer.use_bias:
        signal = signal.biased(weights(layer.bias))
    return activate(layer, context, signal)


@handles(keras.layers.EinsumDense, casts=True)
def _einsum_dense(layer: Any, context: Context, signal: Signal) -> Signal:
    """A linear map, found by sending every unit vector of the input through the equation."""
    refuse_quantised(layer)
    signal = signal.in_keras_order()
    kernel = weights(layer.kernel)
    size = math.prod(signal.shape)
    equation = _explicit(layer.equation, 1 + len(signal.shape))
    # One frame tells the shape; then every unit vector of the input is sent through.
    shape = np.einsum(equation, np.zeros((1, *signal.shape)), kernel).shape[1:]
    require_memory(f"expanding layer {context.path!r}", 16 * size * math.prod(shape))
    image = np.einsum(equation, np.eye(size).reshape(size, *signal.shape), kernel).reshape(size, -1)
    pre, post = np.nonzero(image)
    signal = signal.linear(Sparse(signal.shape, shape, pre, post, image[pre, post]))
    if layer.bias is not None:
        signal = signal.biased(weights(layer.bias))
    return activate(layer, context, signal)


def _explicit(equation: str, rank: int) -> str:
    """Return an einsum equation with its ellipsis spelt out, which NumPy would broadcast in another way."""
    left, right = equation.replace(" ", "").split("->")
    inputs, kernel = left.split(",")
    named = rank - len(inputs.replace("...", ""))
    letters = "".join(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation)[:named]
    return f"{inputs.replace('...', letters)},{kernel}->{right.replace('...', letters)}"


@handles(keras.layers.Rescaling, casts=True, behind_readouts=True)
def _rescaling(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = signal.in_keras_order()
    # Keras casts both to what the layer computes in.
    scale, offset = (np.asarray(value, layer.compute_dtype).astype(float) for value in (layer.scale, layer.offset))
    if (np.ndim(scale) or np.ndim(offset)) and keras.config.image_data_format() == "channels_first":
        raise Refusal("it rescales channel by channel under a global channels-first format", "use a BatchNormalization")
    return signal.scaled(np.asarray(scale), np.asarray(offset))


@handles(keras.layers.Normalization, casts=True)
def _normalization(layer: Any, context: Context, signal: Signal) -> Signal:
    """`(x - mean) / max(sqrt(variance), epsilon)`, with Keras's global epsilon."""
    if layer.invert:
        raise Refusal("it inverts a normalisation", "leave it out: a spiking network takes the frame itself")
    signal = signal.in_keras_order()
    mean, variance = weights(layer.mean), weights(layer.variance)
    scale = coarse(1.0 / np.maximum(np.sqrt(variance), keras.config.epsilon()))
    scale, shift = (values.reshape(values.shape[1:]) for values in (scale, -mean * scale))
    # A difference, a root and a quotient, and one to spare.
    return signal.scaled(scale, shift, roundings=4, plain=False)


@handles(keras.layers.BatchNormalization, casts=True)
def _batch_normalization(layer: Any, context: Context, signal: Signal) -> Signal:
    """Fold `gamma (x - mean) / sqrt(variance + epsilon) + beta`, epsilon inside the root (Ioffe and Szegedy, 2015)."""
    if not isinstance(layer.axis, int):
        raise Refusal(f"it normalises over the axes {layer.axis}", "normalise over one axis")
    axis = signal.axis(layer.axis)
    scale = 1.0 / np.sqrt(weights(layer.moving_variance) + float(layer.epsilon))
    if layer.scale:
        scale = scale * weights(layer.gamma)
    scale = coarse(scale)
    shift = -weights(layer.moving_mean) * scale
    size = np.abs(shift)
    if layer.center:
        shift = shift + weights(layer.beta)
        size = size + np.abs(weights(layer.beta))
    extents = [1] * len(signal.shape)
    extents[axis] = -1
    scale, shift, size = (values.reshape(extents) for values in (scale, shift, size))
    return signal.scaled(scale, shift, size, roundings=NORMALISATION_ROUNDINGS, plain=False)


TRAINING_ALONE = (
    *("ActivityRegularization", "AlphaDropout", "AugMix", "CutMix", "Dropout", "GaussianDropout", "GaussianNoise"),
    *("Identity", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter"),
    *("RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation"),
    *("RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "SpatialDropout1D"),
    *("SpatialDropout2D", "SpatialDropout3D"),
)


@handles(
    *(getattr(keras.layers, name) for name in TRAINING_ALONE if hasattr(keras.layers, name)),
    behind_readouts=True,
    moves=True,
)
def _vanishes(layer: Any, context: Context, signal: Signal) -> Signal:
    """Pass on: these layers act in training only."""
    return signal
