"""A model as a list of steps: its calls in order, each with what scaling its inputs does to its outputs.

Nested models are entered, and `activation=` arguments become steps of their own, so that everything behind this module
sees one flat list.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import keras
import numpy as np

from strop.errors import UnsupportedLayerError
from strop.keras.conversion.ramps import Ramp, activation_name, is_linear, is_threshold, ramp_of
from strop.keras.decoder import SoftmaxDecode
from strop.keras.walk import operation_classes, walk

L = keras.layers

# linear: x -> W x + b. norm: batch normalisation. activation: gets a counterpart. same: scaled inputs give outputs
# scaled alike. other: must see its inputs as they were.
Kind = Literal["linear", "norm", "activation", "same", "other"]


def _layers(*names: str) -> tuple[Any, ...]:
    return tuple(getattr(L, name) for name in names if hasattr(L, name))


LINEAR = _layers(
    *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
)
_DROPPING = _layers(
    "Dropout", "AlphaDropout", "GaussianDropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"
)
# Layers that only move values, or act in training alone: what is behind them is what was in front.
_MOVING = (
    *_DROPPING,
    *_layers("Flatten", "Reshape", "Permute", "Identity", "GaussianNoise", "ActivityRegularization", "Activation"),
)
_DIMENSIONS = [f"{name}{d}D" for name in ("ZeroPadding", "Cropping", "UpSampling") for d in (1, 2, 3)]
_POOLS = [
    f"{name}Pooling{d}D"
    for name in ("Max", "Average", "GlobalMax", "GlobalAverage", "AdaptiveMax", "AdaptiveAverage")
    for d in (1, 2, 3)
]
MAX_POOLS = _layers("MaxPooling1D", "MaxPooling2D", "MaxPooling3D")
_SAME = (
    *_MOVING,
    *_layers(*_DIMENSIONS, *_POOLS, "RepeatVector"),
    *_layers("Add", "Subtract", "Average", "Concatenate", "Maximum", "Minimum"),
)
_OTHER = (
    *_layers("Rescaling", "Normalization", "Resizing", "CenterCrop", "Multiply"),
    *_layers(*(name for name in dir(L) if name.startswith("Random"))),
    SoftmaxDecode,
)
_SAME_OPERATIONS = operation_classes(
    *("add", "average", "broadcast_to", "concatenate", "expand_dims", "flip", "get_item", "max", "maximum", "mean"),
    *("minimum", "moveaxis", "negative", "repeat", "reshape", "roll", "squeeze", "stack", "subtract", "sum"),
    *("swapaxes", "tile", "transpose"),
)
_MAXIMUM = operation_classes("maximum")
_OTHER_OPERATIONS = operation_classes(
    *("cast", "divide", "greater", "greater_equal", "less", "less_equal", "multiply", "pad", "true_divide"),
)


@dataclass(eq=False)
class Step:
    """One call of a layer or operation, or of the activation that a layer has."""

    kind: Kind
    operation: Any
    """The layer or operation, or the function of an activation."""
    path: str
    key: Any
    """Steps of one key share their weights, or their activation."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]
    """Symbolic tensors, as those within `args` and `kwargs`."""
    ramp: Ramp | None = None
    activation: Any = None
    """Of a linear step at the end of the model: the activation that it keeps."""
    inputs: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = [value for value in keras.tree.flatten((self.args, self.kwargs)) if _is_tensor(value)]

    @property
    def where(self) -> str:
        """The layer, as messages name it."""
        return f"layer {self.path!r} ({type(self.operation).__name__})"


@dataclass(eq=False)
class Program:
    """The steps of a model, and its symbolic inputs and outputs."""

    model: Any
    inputs: list[Any]
    outputs: list[Any]
    steps: list[Step]

    def inputs_as(self, values: list[Any]) -> Any:
        """Return one value for each input as the model takes its inputs: a list or dict of them, or one alone."""
        return _packed(self.model, "input", values)

    def outputs_as(self, values: list[Any]) -> Any:
        """Return one value for each output as the model gives its outputs."""
        return _packed(self.model, "output", values)

    @property
    def activations(self) -> list[Step]:
        """The steps that get a counterpart."""
        return [step for step in self.steps if step.kind == "activation"]

    def consumers(self) -> dict[int, list[Step]]:
        """Return the steps that take each tensor, by its `id`."""
        found: dict[int, list[Step]] = defaultdict(list)
        for step in self.steps:
            for value in step.inputs:
                found[id(value)].append(step)
        return found

    def producers(self) -> dict[int, Step]:
        """Return the step that gives each tensor, by its `id`."""
        return {id(value): step for step in self.steps for value in step.outputs}

    def channel_axis(self, value: Any) -> int:
        """Return the axis of a tensor's channels, its batch axis counted."""
        producer = self.producers().get(id(value))
        if producer is None or len(value.shape) <= 2:
            return -1
        format = getattr(producer.operation, "data_format", None)
        if format is None and producer.kind != "linear" and producer.inputs:
            return self.channel_axis(producer.inputs[0]) if len(producer.inputs[0].shape) == len(value.shape) else -1
        return 1 if format == "channels_first" else -1

    def run(self, frames: list[Any]) -> Iterator[tuple[Step, list[Any]]]:
        """Run a batch through the model in inference; yield each step with its input values, in order."""
        values: dict[int, Any] = {id(key): value for key, value in zip(self.inputs, frames, strict=True)}
        left = {key: len(steps) for key, steps in self.consumers().items()}
        for step in self.steps:
            yield step, [values[id(value)] for value in step.inputs]
            args, kwargs = replaced((step.args, step.kwargs), values)
            function: Callable[..., Any] = step.operation
            if step.kind == "linear":
                results = without_activation(step.operation, *args)
                results = step.activation(results) if step.activation is not None else results
            else:
                results = function(*args, **kwargs, **_in_inference(step.operation))
            for key, value in zip(step.outputs, keras.tree.flatten(results), strict=True):
                values[id(key)] = value
            for value in step.inputs:  # a deep network's activations need not all be kept
                left[id(value)] -= 1
                if not left[id(value)]:
                    values.pop(id(value), None)


def _packed(model: Any, side: str, values: list[Any]) -> Any:
    if isinstance(model, keras.Sequential):  # it has one of each, and knows them only once it was called
        return values[0]
    return keras.tree.pack_sequence_as(getattr(model, side), values)


def replaced(structure: Any, values: dict[int, Any]) -> Any:
    """Return `structure` with every symbolic tensor replaced by its value."""
    return keras.tree.map_structure(lambda leaf: values[id(leaf)] if _is_tensor(leaf) else leaf, structure)


def without_activation(layer: Any, *inputs: Any) -> Any:
    """Call a linear layer as if it had no activation."""
    kept, layer.activation = layer.activation, None
    try:
        return layer(*inputs)
    finally:
        layer.activation = kept


def program_of(model: Any) -> Program:
    """Return the steps of a built Sequential or functional model.

    Raises
    ------
    UnsupportedLayerError
        If it is a subclassed model, or holds a layer or an activation that has no spiking counterpart.
    """
    calls: list[tuple[Any, str, tuple[Any, ...], dict[str, Any], Any]] = []

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
        outputs = operation.compute_output_spec(*args, **kwargs)
        # An operation may hand on its very input; tensors are told apart by identity.
        outputs = keras.tree.map_structure(_symbol, outputs)
        calls.append((operation, path, args, kwargs, outputs))
        return outputs

    inputs = list(getattr(model, "inputs", None) or [])  # a subclassed model has none, and is refused by the walk
    outputs = walk(model, inputs, visit)
    program = Program(model, inputs, outputs, [])
    for number, call in enumerate(calls):
        if not isinstance(call[0], L.InputLayer):
            program.steps.extend(_steps(number, *call))
    _keep_heads(program)
    for step in program.activations:
        step.ramp = ramp_of(step.operation, step.where)
    _pool_first(program)
    return program


def _in_inference(operation: Any) -> dict[str, Any]:
    """Return what tells a layer not to act as in training: layers of augmentation do, if nothing is said."""
    told = isinstance(operation, L.Layer) and "training" in inspect.signature(operation.call).parameters
    return {"training": False} if told else {}


def _symbol(tensor: Any) -> Any:
    return keras.KerasTensor(tensor.shape, dtype=tensor.dtype)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _steps(
    number: int, operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
) -> Iterator[Step]:
    flat = keras.tree.flatten(outputs)
    if _is_a(operation, LINEAR):
        if is_linear(operation.activation):
            yield Step("linear", operation, path, operation, args, kwargs, flat)
            return
        middle = _symbol(flat[0])
        yield Step("linear", operation, path, operation, args, kwargs, [middle])
        yield _activation(operation.activation, path, operation, (middle,), {}, flat)
        return
    kind = _kind(operation, args, kwargs)
    rectified = _rectified(operation, args, kwargs)
    if rectified is not None:
        yield _activation(keras.activations.relu, path, (operation, number), (rectified,), {}, flat)
    elif kind == "activation":
        # Without weights, a layer that is used twice is two activations.
        yield _activation(operation, path, (operation, number), args, kwargs, flat)
    elif kind:
        yield Step(kind, operation, path, operation, args, kwargs, flat)
    else:
        raise UnsupportedLayerError(
            f"layer {path!r} ({type(operation).__name__}): strop knows no spiking counterpart for it: replace it by "
            "layers of the table in docs/layers.md, and train the model again"
        )


def _activation(
    function: Any, path: str, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: list[Any]
) -> Step:
    kind: Kind = "same" if is_linear(function) else "other" if is_threshold(function) else "activation"
    return Step(kind, function, path, key if isinstance(key, tuple) else ("activation", key), args, kwargs, outputs)


def _kind(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kind | None:
    if _is_a(operation, (L.BatchNormalization,)):
        return "norm"
    if is_threshold(operation) or _is_a(operation, _OTHER):
        return "other"
    if _is_a(operation, (L.Activation,)) or activation_name(operation):
        return "activation"
    if _is_a(operation, _SAME):
        return "same"
    if type(operation) in _SAME_OPERATIONS:
        constants = [value for value in keras.tree.flatten((args, kwargs)) if hasattr(value, "shape")]
        mixed = type(operation).__name__ in ("Add", "Subtract", "Maximum", "Minimum")
        tensors = [value for value in keras.tree.flatten((args, kwargs)) if _is_tensor(value)]
        return "other" if len(constants) > len(tensors) or (mixed and len(tensors) < 2) else "same"
    return "other" if type(operation) in _OTHER_OPERATIONS else None


def _rectified(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the tensor of ``maximum(x, 0)``, which is a ReLU by another name; None for all else."""
    values = keras.tree.flatten((args, kwargs))
    if type(operation) not in _MAXIMUM or len(values) != 2 or sum(map(_is_tensor, values)) != 1:
        return None
    tensor, constant = values if _is_tensor(values[0]) else values[::-1]
    return tensor if np.ndim(constant) == 0 and float(constant) == 0.0 else None


def _is_a(operation: Any, classes: tuple[Any, ...]) -> bool:
    """Whether a layer is one of `classes`, or derived from one without another `call`."""
    return any(isinstance(operation, cls) and type(operation).call is cls.call for cls in classes)


def _pool_first(program: Program) -> None:
    """Move activations behind the max pools that follow them: the same for every ramp, on a fraction of the values."""
    consumers, producers = program.consumers(), program.producers()
    ends = {id(value) for value in program.outputs}
    for step in program.activations:
        following = consumers[id(step.outputs[0])]
        before = producers.get(id(step.inputs[0]))
        pools = len(following) == 1 and _is_a(following[0].operation, MAX_POOLS) and not _has_places(step.operation)
        if not pools or id(step.outputs[0]) in ends or before is None or before.kind not in ("linear", "norm"):
            continue
        pool = following[0]
        middle = keras.KerasTensor(pool.outputs[0].shape, dtype=pool.outputs[0].dtype)
        first = replace(pool, args=step.args, kwargs={}, outputs=[middle])
        second = replace(step, args=(middle,), kwargs={}, outputs=pool.outputs)
        at, behind = program.steps.index(step), program.steps.index(pool)
        program.steps[behind : behind + 1] = [first, second]
        del program.steps[at]


def _has_places(activation: Any) -> bool:
    """Whether an activation has weights of its own for each place of a frame: a PReLU without shared axes."""
    return any(max(weight.shape[:-1], default=1) > 1 for weight in getattr(activation, "weights", ()))


def _keep_heads(program: Program) -> None:
    """Leave activations alone that nothing but the model's outputs follows: they are read-outs."""
    consumers, producers = program.consumers(), program.producers()
    ends = {id(value) for value in program.outputs}

    def ends_here(value: Any) -> bool:
        following = consumers[id(value)]
        moved = all(step.kind == "same" and isinstance(step.operation, _MOVING) for step in following)
        return (bool(following) or id(value) in ends) and moved and all(ends_here(s.outputs[0]) for s in following)

    for step in program.activations:
        if not ends_here(step.outputs[0]):
            continue
        before = producers.get(id(step.inputs[0]))
        if step.key[0] == "activation" and before is not None:  # an `activation=` goes back to its layer
            before.activation, before.outputs = step.operation, step.outputs
            program.steps.remove(step)
        else:
            step.kind = "other"
