"""Which inputs of a model take the whole numbers of a camera as they are, because the model scales them itself.

A model whose frames first reach a `Rescaling` was trained on frames from 0 to 255: to divide them by 255 once more, as
strop does with uint8 otherwise, would show it another picture than `model.predict` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from strop.graph import WHOLE_TYPES
from strop.keras.walk import walk
from strop.lowering.layers.elementwise import operation_classes
from strop.lowering.layers.linear import TRAINING_ALONE
from strop.lowering.layers.operations import MOVING
from strop.lowering.layers.pooling import newer_layers

L = keras.layers

# Values go through these, and stay of the same size: nothing in them says what frames hold.
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
    """What flows where nothing has scaled the values of some inputs yet."""

    def __init__(self, inputs: frozenset[str]) -> None:
        self.inputs = inputs


# What flows everywhere else.
_OTHER = _Raw(frozenset())


def whole_numbers(model: keras.Model, encoding: str, planes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Add to what was said of each input's planes what the model says of its frames: fields of `strop.graph.Input`.

    The planes of whole numbers are those numbers, unless it was said otherwise: `step` is 1.
    """
    scaled = scaled_inputs(model)
    said = {}
    for tensor in model.inputs:
        name = tensor._keras_history.operation.name
        found = {"scaled_by": scaled[name]} if name in scaled else {}
        if tensor.dtype in WHOLE_TYPES:
            found["dtype"] = tensor.dtype
        step = {"step": 1.0} if found and encoding == "bitplane" else {}
        said[name] = {**step, **planes[name], **found}
    return said


def scaled_inputs(model: keras.Model) -> dict[str, str]:
    """Return which inputs the model scales itself: input name to the layer or operation that does.

    Looked through is whatever only moves values, picks or averages them, adds up several inputs, or acts in training.
    What scales is a Rescaling, a Normalization, or a constant that is added or multiplied. What cannot be meant for
    frames from 0 to 1 counts as well: a comparison with a number above 1, a BatchNormalization with such a mean.
    """
    found: dict[str, str] = {}

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flowing = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, _Raw)]
        raw = frozenset[str]().union(*(value.inputs for value in flowing))
        while isinstance(operation, L.TimeDistributed):
            operation = operation.layer
        if raw and isinstance(operation, keras.Model):
            return walk(operation, [_Raw(raw)] * len(operation.inputs), visit, f"{path}/")
        if raw and _scales(operation, flowing, args):
            for name in raw:
                found.setdefault(name, type(operation).__name__)
            raw = frozenset()
        keeps = raw and (isinstance(operation, _KEEPING_LAYERS) or _keeps(operation, flowing))
        return [_Raw(raw) if keeps else _OTHER] * _outputs(operation)

    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    walk(model, [_Raw(frozenset([name])) for name in names], visit)
    return found


def _outputs(operation: Any) -> int:
    """Return how many tensors an operation gives: as many as where it was called, for all that the walk asks it of."""
    nodes = getattr(operation, "_inbound_nodes", ())
    return len(nodes[0].outputs) if nodes else 1


def _scales(operation: Any, flowing: list[_Raw], args: tuple[Any, ...]) -> bool:
    if isinstance(operation, (L.Rescaling, L.Normalization)):
        return True
    if isinstance(operation, L.BatchNormalization):
        return _of_larger_frames(operation)
    if len(flowing) == 1 and type(operation) in _COMPARISONS:
        constants = [value for value in args if not isinstance(value, _Raw)]
        return bool(np.max(keras.ops.convert_to_numpy(constants[0])) > 1.0) if constants else False
    return len(flowing) == 1 and type(operation) in _ARITHMETIC


def _keeps(operation: Any, flowing: list[_Raw]) -> bool:
    if type(operation) in _SUMS:
        return len(flowing) > 1
    if isinstance(operation, L.Activation):
        return operation.activation is keras.activations.linear
    return type(operation) in _KEEPING_OPERATIONS


def _of_larger_frames(layer: Any) -> bool:
    """Whether a mean lies above 1, and none below 0: moving averages of frames from 0 to 1 start at 0 and never do."""
    mean = np.asarray(keras.ops.convert_to_numpy(layer.moving_mean))
    return bool(mean.max() > 1.0 and mean.min() >= 0.0)
