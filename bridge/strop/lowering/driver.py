"""Drives the lowering: inputs first, then every layer call, then the outputs."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

import strop.lowering.layers  # noqa: F401  (registers the handlers)
from strop.encode import plane_weights
from strop.errors import GraphError, ModelFileError, UnsupportedLayerError
from strop.graph import ENCODINGS, Input
from strop.lowering.context import Context, Lowering
from strop.lowering.refusal import Refusal
from strop.lowering.rules import lower_call
from strop.lowering.signal import ZERO, Signal, Term
from strop.lowering.walk import walk
from strop.rounding import Planes, Source


def trace_model(
    model: keras.Model, encoding: str, decision: str, planes: Mapping[str, Any] = MappingProxyType({})
) -> Lowering:
    """Lower `model`; see `strop.lower`. `planes` holds its `bits`, `step` and `offset`, or None for them."""
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(f"strop.lower takes a Keras 3 model, got {type(model).__name__}")
    if encoding not in ENCODINGS:
        raise GraphError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    _refuse_values_that_are_not_finite(model)
    if decision not in ("host", "spikes"):
        raise GraphError(f"decision must be 'host' or 'spikes', got {decision!r}")
    context = Context()

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context.path, context.visit = path, context.visit + 1
        try:
            return lower_call(operation, context, args, kwargs)
        except Refusal as refusal:
            raise _named(f"layer {path!r} ({type(operation).__name__})", refusal) from refusal

    if not hasattr(model, "operations") and not isinstance(model, keras.Sequential):
        raise UnsupportedLayerError(
            f"model {model.name!r} ({type(model).__name__}) is a subclassed model, so its layers cannot be followed: "
            "rebuild it as a Sequential or functional model"
        )
    if not model.built:
        raise UnsupportedLayerError(f"model {model.name!r} was never built: call model.build() or give it an Input")
    said = _planes(model, encoding, planes)
    outputs = walk(model, [_input(context, tensor, encoding, said) for tensor in model.inputs], visit)
    for tensor, signal in zip(model.outputs, outputs, strict=True):
        name = tensor._keras_history.operation.name if hasattr(tensor, "_keras_history") else "output"
        try:
            context.finish(name, signal, as_spikes=decision == "spikes")
        except Refusal as refusal:
            raise _named(f"output {name!r}", refusal) from refusal
    _refuse_inputs_that_are_no_floats(model)
    if not context.populations:
        raise UnsupportedLayerError(
            f"model {model.name!r} has no spiking activation (SpikingBReLU, SpikingSigmoid): there is nothing to lower"
        )
    lowering = context.lowering(model.name)
    if encoding == "host":
        _refuse_mixed_drive(lowering)
    return lowering


def _named(where: str, refusal: Refusal) -> UnsupportedLayerError:
    advice = f". What to do: {refusal.advice}" if refusal.advice else ""
    return UnsupportedLayerError(f"{where} cannot be carried over: {refusal.reason}{advice}")


def _planes(model: keras.Model, encoding: str, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was said of each input's planes: input name to the fields of `Input` that were given."""
    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    said: dict[str, dict[str, Any]] = {name: {} for name in names}
    for what, value in given.items():
        if value is None:
            continue
        if encoding != "bitplane":
            raise GraphError(
                f"{what}={value!r} says what bit planes stand for, but the encoding is {encoding!r}: give "
                f"encoding='bitplane' too, or leave {what} out"
            )
        each = value if isinstance(value, Mapping) else dict.fromkeys(names, value)
        unknown = sorted(set(each) - set(names))
        if unknown:
            raise GraphError(f"{what} names {', '.join(map(repr, unknown))}; the inputs are {', '.join(names)}")
        for name, number in each.items():
            if isinstance(number, bool) or not isinstance(number, numbers.Real):
                raise GraphError(f"{what} of input {name!r} must be a number, got {number!r}")
            if what == "bits" and not isinstance(number, numbers.Integral):
                raise GraphError(f"{what} of input {name!r} must be a whole number, got {number!r}")
            said[name][what] = int(number) if isinstance(number, numbers.Integral) else float(number)
    return said


def _input(context: Context, tensor: Any, encoding: str, planes: Mapping[str, Mapping[str, Any]]) -> Signal:
    """Make an input node and the signal that leaves it: the frame's values, under every encoding."""
    shape = tuple(tensor.shape[1:])
    name = tensor._keras_history.operation.name
    if any(extent is None for extent in shape):
        raise UnsupportedLayerError(
            f"input {name!r} has the shape {shape}, with extents left open: rebuild the model with a fixed input shape"
        )
    if not shape:
        raise UnsupportedLayerError(f"input {name!r} is a scalar per frame: give it the shape (1,)")
    node = Input(context.unique(name), shape, encoding, **planes[name])
    context.inputs.append(node)
    if encoding == "bitplane":
        bits, weights = Signal(node.signal_shape, (Term(node.name),)), plane_weights(shape, node.bits, node.step)
        values = bits.linear(weights)
        values = values.biased(np.full(shape, node.offset)) if node.offset else values
        # Keras is given the values themselves: it does not add them up from planes.
        return replace(values, computed=Planes(Source(node.name), weights, node.offset))
    return Signal(shape, (Term(node.name),), ZERO)


def _refuse_values_that_are_not_finite(model: keras.Model) -> None:
    for variable in model.weights:
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelFileError(
                f"weight {variable.path!r} of model {model.name!r} holds values that are not finite (NaN or infinity): "
                "the training diverged or the file is damaged"
            )


def _refuse_inputs_that_are_no_floats(model: keras.Model) -> None:
    for tensor in model.inputs:
        if tensor.dtype not in ("float32", "float64"):
            raise UnsupportedLayerError(
                f"input {tensor._keras_history.operation.name!r} takes {tensor.dtype}, and strop's frames are float32: "
                "rebuild the model with keras.Input(..., dtype='float32')"
            )


def _refuse_mixed_drive(lowering: Lowering) -> None:
    graph = lowering.graph
    inputs = {node.name for node in graph.inputs}
    for population in graph.populations:
        sources = {projection.source for projection in graph.incoming(population.name)}
        if sources & inputs and sources - inputs:
            raise UnsupportedLayerError(
                f"population {population.name!r} is fed by the input {min(sources & inputs)!r} as well as by spikes, "
                "so the host encoding, which plays in the spikes of the first layers, cannot drive it. What to do: "
                "lower the model with encoding='bitplane' (8-bit frames), 'binary' or 'current'"
            )
