"""Multiply-accumulates and additions of a Keras model per frame, layer by layer (see `strop.costs.macs`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from strop.costs.macs import LayerMacs, operator_arithmetic, total
from strop.keras import LinearMap, SoftmaxDecode, SpikeReadout, SpikingThreshold
from strop.keras.activations import SpikingActivation
from strop.keras.thresholds import declared_threshold
from strop.keras.walk import operation_classes, walk
from strop.lowering.layers.pooling import newer_layers

L = keras.layers
Shape = tuple[int, ...]

# Takes (layer, shapes that enter, shape that leaves), all without the batch axis; returns (macs, additions).
_Count = Callable[[Any, list[Shape], Shape], tuple[int, int]]


def model_arithmetic(model: keras.Model) -> list[LayerMacs]:
    """Return the operations per frame of every layer call that has any, in the order of the model.

    Nothing is evaluated: only shapes go through the model.

    Raises
    ------
    UnsupportedLayerError
        If the model cannot be followed layer by layer (see `strop.keras.walk`).
    """
    found: list[LayerMacs] = []

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # The outputs of a call as Keras infers them, with no trace of it left on the layer.
        outputs = operation.compute_output_spec(*args, **kwargs)
        before = [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(args) if hasattr(tensor, "shape")]
        macs, additions = layer_arithmetic(operation, before, tuple(keras.tree.flatten(outputs)[0].shape[1:]))
        if macs or additions:
            found.append(LayerMacs(path, type(operation).__name__, macs, additions))
        return outputs

    walk(model, [keras.KerasTensor(tensor.shape, tensor.dtype) for tensor in model.inputs], visit)
    return found


def layer_arithmetic(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """Return `(macs, additions)` of one call of a layer on frames of the shapes `before`, giving the shape `after`."""
    if isinstance(layer, L.TimeDistributed):
        macs, additions = layer_arithmetic(layer.layer, [shape[1:] for shape in before], after[1:])
        return macs * after[0], additions * after[0]
    if isinstance(layer, L.SpectralNormalization):  # in inference its kernel is a kernel
        return layer_arithmetic(layer.layer, before, after)
    if isinstance(layer, keras.Model):
        inner = total(model_arithmetic(layer))
        return inner.macs, inner.additions
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


def _adaptive_sums(layer: Any, before: list[Shape], after: Shape) -> int:
    """Return the additions of all windows; output k of m covers the places floor(k n / m) to ceil((k + 1) n / m)."""
    first = layer.data_format == "channels_first"
    inputs, outputs = (shape[1:] if first else shape[:-1] for shape in (before[0], after))
    members = math.prod(
        sum(-(-(k + 1) * n // m) - k * n // m for k in range(m)) for n, m in zip(inputs, outputs, strict=True)
    )
    return (members - math.prod(outputs)) * (after[0] if first else after[-1])


def _adaptive_maximum(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, _adaptive_sums(layer, before, after)


def _adaptive_average(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after), _adaptive_sums(layer, before, after)


def _scaling(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """One factor and one offset for each value, as inference has it."""
    return math.prod(after), 0


def _adding(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, math.prod(after) * (len(before) - 1)


def _averaging(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after), math.prod(after) * (len(before) - 1)


def _multiplying(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after) * (len(before) - 1), 0


# Operations of `keras.ops` take two operands, of which one may be a constant.


def _one_addition(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, math.prod(after)


def _one_product(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after), 0


def _linear_map(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return operator_arithmetic(layer.operator)


def _biased(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    """Add a bias to each value; what comes after a read-out's function counts as well."""
    behind = getattr(layer, "after", None)
    macs, additions = (0, 0) if behind is None else operator_arithmetic(behind.operator)
    return macs, additions + math.prod(before[0])


def _reduction(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return 0, math.prod(before[0]) - math.prod(after)


def _mean(layer: Any, before: list[Shape], after: Shape) -> tuple[int, int]:
    return math.prod(after), math.prod(before[0]) - math.prod(after)


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
    ((L.Add, L.Subtract, L.Maximum, L.Minimum), _adding),
    (tuple(newer_layers("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D")), _adaptive_maximum),
    (
        tuple(newer_layers("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D")),
        _adaptive_average,
    ),
    (tuple(operation_classes("add", "subtract", "maximum", "minimum")), _one_addition),
    (tuple(operation_classes("greater_equal", "greater", "less", "less_equal", "heaviside")), _one_addition),
    (tuple(operation_classes("multiply", "divide", "true_divide")), _one_product),
    (tuple(operation_classes("sum", "max")), _reduction),
    (tuple(operation_classes("mean")), _mean),
    ((LinearMap,), _linear_map),
    ((SpikingThreshold, SpikeReadout), _biased),
    ((SoftmaxDecode,), lambda layer, before, after: (math.prod(before[0]) * after[-1], 0)),
)
