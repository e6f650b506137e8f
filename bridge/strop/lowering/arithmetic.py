"""The arithmetic of a Keras model, layer by layer: what it does for every frame (see `strop.arithmetic`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from strop.arithmetic import Arithmetic
from strop.keras import SoftmaxDecode
from strop.keras.activations import SpikingActivation
from strop.keras.thresholds import declared_threshold
from strop.lowering.walk import walk

L = keras.layers
Shape = tuple[int, ...]

# Takes (layer, shapes that enter, shape that leaves), all without the batch axis; returns (macs, additions).
_Count = Callable[[Any, list[Shape], Shape], tuple[int, int]]


def model_arithmetic(model: keras.Model) -> list[Arithmetic]:
    """Return the operations per frame of every layer call that has any, in the order of the model.

    Nothing is evaluated: only shapes go through the model.

    Raises
    ------
    UnsupportedLayerError
        If the model cannot be followed layer by layer (see `strop.lowering.walk`).
    """
    found: list[Arithmetic] = []

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # The outputs of a call as Keras infers them, with no trace of it left on the layer.
        outputs = operation.compute_output_spec(*args, **kwargs)
        before = [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(args) if hasattr(tensor, "shape")]
        macs, additions = layer_arithmetic(operation, before, tuple(keras.tree.flatten(outputs)[0].shape[1:]))
        if macs or additions:
            found.append(Arithmetic(path, type(operation).__name__, macs, additions))
        return outputs

    walk(model, [keras.KerasTensor(tensor.shape, tensor.dtype) for tensor in model.inputs], visit)
    return found


def layer_arithmetic(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """Return `(macs, additions)` of one call of a layer on frames of the shapes `before`, giving the shape `after`."""
    if isinstance(layer, L.TimeDistributed):
        macs, additions = layer_arithmetic(layer.layer, [shape[1:] for shape in before], after[1:])
        return macs * after[0], additions * after[0]
    macs = additions = 0
    for classes, count in _COUNTS:
        if isinstance(layer, classes):
            macs, additions = count(layer, before, after)
            break
    if getattr(layer, "use_bias", False) or (isinstance(layer, L.EinsumDense) and layer.bias is not None):
        additions += math.prod(after)
    if _thresholds(layer) or _thresholds(getattr(layer, "activation", None)):
        additions += math.prod(after)
    return macs, additions


def _thresholds(activation: Any) -> bool:
    return isinstance(activation, SpikingActivation) or declared_threshold(activation) is not None


def _places(layer: Any, shape: Shape) -> int:
    """Return the number of places of a frame, its channels not counted."""
    return math.prod(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _dense(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after) * before[0][-1], 0


def _einsum(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """One product for each output and each value of the letters that are summed over."""
    _, kernel, output = layer.equation.replace(" ", "").replace("->", ",").split(",")
    extents = dict(zip(kernel, layer.kernel.shape, strict=True))
    return math.prod(after) * math.prod(extents[letter] for letter in kernel if letter not in output), 0


def _convolution(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return _places(layer, after) * math.prod(layer.kernel.shape), 0


def _separable(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return _places(layer, after) * kernels, 0


def _transposed(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """Every value that enters is multiplied with the whole kernel."""
    return _places(layer, before[0]) * math.prod(layer.kernel.shape), 0


def _maximum(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, math.prod(after) * (math.prod(layer.pool_size) - 1)


def _average(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """Sum each window, then scale the sum."""
    return math.prod(after), math.prod(after) * (math.prod(layer.pool_size) - 1)


def _global_maximum(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, math.prod(after) * (_places(layer, before[0]) - 1)


def _global_average(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after), math.prod(after) * (_places(layer, before[0]) - 1)


def _scaling(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """One factor and one offset for each value, as inference has it."""
    return math.prod(after), 0


def _adding(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, math.prod(after) * (len(before) - 1)


def _averaging(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after), math.prod(after) * (len(before) - 1)


def _multiplying(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after) * (len(before) - 1), 0


# `a + b` on tensors of a functional model; Keras exports the operation's class under no public name.
_SYMBOLIC_ADD = type(keras.ops.add(keras.KerasTensor((1,)), keras.KerasTensor((1,)))._keras_history.operation)

# Looked through in this order: depthwise and transposed convolutions are no subclasses of the plain ones.
_COUNTS: tuple[tuple[tuple[type, ...], _Count], ...] = (
    ((L.Dense,), _dense),
    ((L.EinsumDense,), _einsum),
    ((L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose), _transposed),
    ((L.SeparableConv1D, L.SeparableConv2D), _separable),
    ((L.Conv1D, L.Conv2D, L.Conv3D, L.DepthwiseConv1D, L.DepthwiseConv2D), _convolution),
    ((L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D), _maximum),
    ((L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D), _average),
    ((L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D), _global_maximum),
    ((L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D), _global_average),
    ((L.BatchNormalization, L.Rescaling, L.Normalization), _scaling),
    ((L.Average,), _averaging),
    ((L.Multiply,), _multiplying),
    ((L.Add, L.Subtract, L.Maximum, L.Minimum, _SYMBOLIC_ADD), _adding),
    ((SoftmaxDecode,), lambda layer, before, after: (math.prod(before[0]) * after[-1], 0)),
)
