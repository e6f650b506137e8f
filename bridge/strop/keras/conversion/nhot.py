"""An n-hot code in place of the last dense layer: spikes that say the class, read by a fixed key.

Neuron j of the code stands for some classes. It begins as the sum of their old scores less that of the others, with its
threshold where it fires as often as its classes come, so that the code is right for most frames from the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import UnsupportedLayerError
from strop.keras.activations import SpikingBReLU
from strop.keras.conversion.program import Program, Step, without_activation
from strop.keras.conversion.ramps import is_linear, is_softmax
from strop.keras.decoder import SoftmaxDecode, key_generator

L = keras.layers

_SPARSITY = 0.3
_NEURONS_PER_CLASS = 20
_SLOPE = 0.4


@dataclass(frozen=True, eq=False)
class NhotHead:
    """The last dense layer of a program, and the code that takes its place."""

    step: Step
    softmax: Step | None
    """Where the softmax is a layer of its own."""
    key: NDArray[np.float32]


def nhot_head(program: Program, width: int | None, seed: int) -> NhotHead:
    """Find the head of a classifier: a dense layer, with or without a softmax.

    Raises
    ------
    UnsupportedLayerError
        If the model has several outputs, or ends otherwise.
    DataError
        If `width` is too small for the classes.
    """
    producers = program.producers()
    last = producers.get(id(program.outputs[0])) if len(program.outputs) == 1 else None
    softmax = last if last is not None and last.kind == "other" and is_softmax(last.operation) else None
    dense = producers.get(id(softmax.inputs[0])) if softmax is not None else last
    right = dense is not None and isinstance(dense.operation, L.Dense) and len(dense.outputs[0].shape) == 2
    if right and dense is not None and (is_linear(dense.activation) or is_softmax(dense.activation)):
        classes = int(dense.operation.units)
        if classes > 1:
            neurons = _NEURONS_PER_CLASS * classes if width is None else width
            return NhotHead(dense, softmax, key_generator(classes, neurons, seed=seed, sparsity=_SPARSITY))
    raise UnsupportedLayerError(
        f"model {program.model.name!r}: head='nhot' takes the place of a Dense layer of two classes or more, with or "
        "without softmax, that is the model's one output, and it has none: use head='linear'"
    )


def scores(step: Step, features: Any) -> NDArray[np.float64]:
    """Return the old scores of a batch, without their bias, shape (n, classes)."""
    values = np.asarray(keras.ops.convert_to_numpy(without_activation(step.operation, features)), np.float64)
    bias = step.operation.bias
    return values if bias is None else values - np.asarray(keras.ops.convert_to_numpy(bias), np.float64)


def nhot_layers(head: NhotHead, found: NDArray[np.float64], scale: float, surrogate: float, name: str) -> list[Any]:
    """Return the new layers, built: dense, batch normalisation, spikes, decoder.

    Parameters
    ----------
    found : array, shape (n, classes)
        The old scores of some frames.
    scale : float
        By which the features are divided now.
    """
    width = head.key.shape[1]
    signs = 2.0 * head.key.astype(np.float64) - 1.0
    kernel = np.asarray(keras.ops.convert_to_numpy(head.step.operation.kernel), np.float64)
    # What is added to all scores alike says nothing.
    kernel, found = (values - values.mean(axis=1, keepdims=True) for values in (kernel, found))
    sums = found @ signs
    dense = L.Dense(width, use_bias=False, dtype="float32", name=name)
    norm = L.BatchNormalization(momentum=0.9, dtype="float32", name=f"{name}_norm")
    dense.build((None, len(kernel)))
    norm.build((None, width))
    dense.set_weights([(kernel @ signs * scale).astype(np.float32)])
    deviation = np.sqrt(sums.var(axis=0) + norm.epsilon)
    firing = [np.quantile(column, 1.0 - share) for column, share in zip(sums.T, head.key.mean(axis=0), strict=True)]
    beta = 0.5 - _SLOPE * (np.asarray(firing) - sums.mean(axis=0)) / deviation
    norm.set_weights([np.full(width, _SLOPE), beta, sums.mean(axis=0), sums.var(axis=0)])
    spikes = SpikingBReLU(surrogate_width=surrogate, name=f"{name}_spikes", dtype="float32")
    temperature = 2.0 ** round(math.log2(max(1.0, width / 12.0)))
    decode = SoftmaxDecode(head.key, temperature=temperature, name=f"{name}_decode", dtype="float32")
    return [dense, norm, spikes, decode]
