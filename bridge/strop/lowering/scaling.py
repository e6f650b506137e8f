"""Inputs that the model itself scales (`Rescaling`, `Normalization`): their uint8 frames are not divided by 255.

A model that begins with a `Rescaling` was trained on frames from 0 to 255. Dividing them by 255 first, as strop does
with other uint8 frames, would give it other frames than `model.predict` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from strop.graph import WHOLE_TYPES
from strop.keras.thresholds import declared_threshold
from strop.keras.walk import operation_classes, walk
from strop.lowering.layers.linear import TRAINING_ALONE
from strop.lowering.layers.operations import MOVING
from strop.lowering.layers.pooling import newer_layers

L = keras.layers

# Layers that keep the range of their values: they tell nothing of the range of frames.
_KEEPING_LAYERS = tuple(
    newer_layers(
        *TRAINING_ALONE,
        *("Flatten", "Reshape", "Permute", "RepeatVector", "Resizing", "CenterCrop", "Concatenate", "Average"),
        *("Maximum", "Minimum", "Add", "Subtract", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D"),
        *("Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D", "UpSampling3D", "MaxPooling1D", "MaxPooling2D"),
        *("MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "GlobalMaxPooling1D"),
        *("GlobalMaxPooling2D", "GlobalMaxPooling3D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        "GlobalAveragePooling3D",
    )
)
_KEEPING_OPERATIONS = tuple(operation_classes(*MOVING, "cast", "max", "mean", "maximum", "minimum", "average"))
_ARITHMETIC = tuple(operation_classes("add", "subtract", "multiply", "divide", "true_divide", "negative"))
_SUMS = tuple(operation_classes("add", "subtract"))
_COMPARISONS = tuple(operation_classes("greater_equal", "greater", "less", "less_equal"))


class _Raw:
    """A tensor that holds unscaled values of some inputs."""

    def __init__(self, inputs: frozenset[str]) -> None:
        self.inputs = inputs


# Any other tensor.
_OTHER = _Raw(frozenset())


def whole_numbers(model: keras.Model, encoding: str, planes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return fields of `strop.graph.Input` for each input: its planes as given, and dtype and scaling from the model.

    Where an input takes whole numbers and no `step` is given, `step` is 1.
    """
    scaled = scaled_inputs(model)
    fields = {}
    for tensor in model.inputs:
        name = tensor._keras_history.operation.name
        found = {"scaled_by": scaled[name]} if name in scaled else {}
        if tensor.dtype in WHOLE_TYPES:
            found["dtype"] = tensor.dtype
        step = {"step": 1.0} if found and encoding == "bitplane" else {}
        fields[name] = {**step, **planes[name], **found}
    return fields


def scaled_inputs(model: keras.Model) -> dict[str, str]:
    """Return which inputs the model scales itself: input name to the layer or operation that does.

    The search passes layers that only move, pick or average values, add up several inputs, or act in training. It ends
    at a Rescaling, a Normalization, or a constant that is added or multiplied. Layers that cannot be meant for frames
    from 0 to 1 count as well: a comparison with a number above 1, a BatchNormalization with such a mean.
    """
    found: dict[str, str] = {}

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, _Raw)]
        raw = frozenset[str]().union(*(value.inputs for value in tensors))
        while isinstance(operation, L.TimeDistributed):
            operation = operation.layer
        if raw and isinstance(operation, keras.Model):
            return walk(operation, [_Raw(raw)] * len(operation.inputs), visit, f"{path}/")
        if raw and _scales(operation, tensors, args):
            for name in raw:
                found.setdefault(name, type(operation).__name__)
            raw = frozenset()
        keeps = raw and (isinstance(operation, _KEEPING_LAYERS) or _keeps(operation, tensors))
        return [_Raw(raw) if keeps else _OTHER] * _outputs(operation)

    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    walk(model, [_Raw(frozenset([name])) for name in names], visit)
    return found


def _outputs(operation: Any) -> int:
    """Return how many outputs an operation has, as in its first call."""
    nodes = getattr(operation, "_inbound_nodes", ())
    return len(nodes[0].outputs) if nodes else 1


def _scales(operation: Any, tensors: list[_Raw], args: tuple[Any, ...]) -> bool:
    if isinstance(operation, (L.Rescaling, L.Normalization)):
        return True
    if isinstance(operation, L.BatchNormalization):
        return _of_larger_frames(operation)
    declared = declared_threshold(operation.activation if isinstance(operation, L.Activation) else operation)
    if declared is not None:
        return declared.at > 1.0
    if len(tensors) == 1 and type(operation) in _COMPARISONS:
        constants = [value for value in args if not isinstance(value, _Raw)]
        return bool(np.max(keras.ops.convert_to_numpy(constants[0])) > 1.0) if constants else False
    return len(tensors) == 1 and type(operation) in _ARITHMETIC


def _keeps(operation: Any, tensors: list[_Raw]) -> bool:
    if type(operation) in _SUMS:
        return len(tensors) > 1
    if isinstance(operation, L.Activation):
        return operation.activation is keras.activations.linear
    return type(operation) in _KEEPING_OPERATIONS


def _of_larger_frames(layer: Any) -> bool:
    """Whether a mean lies above 1, and none below 0: moving averages of frames from 0 to 1 start at 0 and never do."""
    mean = np.asarray(keras.ops.convert_to_numpy(layer.moving_mean))
    return bool(mean.max() > 1.0 and mean.min() >= 0.0)
