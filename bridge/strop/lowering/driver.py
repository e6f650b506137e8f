"""Lowering of a whole model: its inputs, then every layer call, then its outputs."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

import strop.lowering.layers  # noqa: F401  (registers the handlers)
from strop.errors import GraphError, ModelFileError, UnsupportedLayerError, did_you_mean
from strop.graph import ENCODINGS, Input
from strop.graph.planes import plane_weights
from strop.graph.rounding.stages import Planes, Source
from strop.keras.walk import walk
from strop.lowering.context import Context, Lowering
from strop.lowering.decision import winner_of
from strop.lowering.recorded_inputs import recorded_inputs
from strop.lowering.refusal import Refusal
from strop.lowering.rules import lower_call
from strop.lowering.scaling import whole_numbers
from strop.lowering.signal import ZERO, Signal, Term

_FLOATS = ("float32", "float64")
_WHOLE = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")
# Planes of inputs of these dtypes, each plane standing for its power of two.
_BITS = {"bool": 1, "uint8": 8, "uint16": 16}


def trace_model(
    model: keras.Model, encoding: str, decision: str, planes: Mapping[str, Any] = MappingProxyType({})
) -> Lowering:
    """Lower `model`; see `strop.lower`. `planes` holds its `bits`, `step` and `offset`, or None for them."""
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(f"strop.lower takes a Keras 3 model, got {type(model).__name__}")
    if not isinstance(encoding, str) or encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise GraphError(f"encoding must be one of {known}, got {encoding!r}{did_you_mean(encoding, ENCODINGS)}")
    _refuse_values_that_are_not_finite(model)
    if not isinstance(decision, str) or decision not in ("host", "spikes"):
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
        raise UnsupportedLayerError(
            f"model {model.name!r} was never built, and no frames say for which shape: call model.build(), give it an "
            "Input, or give frames"
        )
    given = _planes(model, encoding, planes)
    fields, recorded = whole_numbers(model, encoding, given), recorded_inputs(model, encoding, given)
    outputs = walk(model, [_input(context, tensor, encoding, fields, recorded) for tensor in model.inputs], visit)
    for tensor, signal in zip(model.outputs, outputs, strict=True):
        name = tensor._keras_history.operation.name if hasattr(tensor, "_keras_history") else "output"
        try:
            context.finish(name, signal, winner_of if decision == "spikes" else None)
        except Refusal as refusal:
            raise _named(f"output {name!r}", refusal) from refusal
    # Behind the walk: a layer that takes strings is refused by its own name.
    _refuse_inputs_that_are_no_numbers(model)
    if not context.populations:
        raise UnsupportedLayerError(
            f"model {model.name!r} has no spiking activation (SpikingBReLU, SpikingSigmoid): there is nothing to lower"
        )
    return context.lowering(model.name)


def _named(where: str, refusal: Refusal) -> UnsupportedLayerError:
    advice = f". What to do: {refusal.advice}" if refusal.advice else ""
    return UnsupportedLayerError(f"{refusal.where or where} cannot be carried over: {refusal.reason}{advice}")


def _planes(model: keras.Model, encoding: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `bits`, `step` and `offset` of each input, where they are given: input name to fields of `Input`."""
    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    fields: dict[str, dict[str, Any]] = {name: {} for name in names}
    for what, value in options.items():
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
            raise GraphError(
                f"{what} names {', '.join(map(repr, unknown))}; the inputs are {', '.join(names)}"
                + did_you_mean(unknown[0], names)
            )
        for name, number in each.items():
            if isinstance(number, bool) or not isinstance(number, numbers.Real):
                raise GraphError(f"{what} of input {name!r} must be a number, got {number!r}")
            if what == "bits" and not isinstance(number, numbers.Integral):
                raise GraphError(f"{what} of input {name!r} must be a whole number, got {number!r}")
            fields[name][what] = int(number) if isinstance(number, numbers.Integral) else float(number)
    return fields


def _input(
    context: Context,
    tensor: Any,
    encoding: str,
    planes: Mapping[str, Mapping[str, Any]],
    recorded: Mapping[str, Input],
) -> Signal:
    """Make an input node and its signal: the frame's values, under every encoding."""
    shape = tuple(tensor.shape[1:])
    name = tensor._keras_history.operation.name
    if any(extent is None for extent in shape):
        raise UnsupportedLayerError(
            f"input {name!r} has the shape {shape}, with extents left open: rebuild the model with a fixed input shape"
        )
    if not shape:
        raise UnsupportedLayerError(f"input {name!r} is a scalar per frame: give it the shape (1,)")
    integer = tensor.dtype not in _FLOATS
    if name in recorded:
        node = replace(recorded[name], name=context.unique(recorded[name].name))
        context.inputs.append(node)
        context.encoded.add(node.name)
        return Signal(node.signal_shape, (Term(node.name),), integer=integer)
    known = {"bits": _BITS.get(tensor.dtype, 8)} if integer and encoding == "bitplane" else {}
    node = Input(context.unique(name), shape, encoding, **{**known, **planes[name]})
    context.inputs.append(node)
    if encoding == "bitplane":
        bits, weights = Signal(node.signal_shape, (Term(node.name),)), plane_weights(shape, node.bits, node.step)
        values = bits.linear(weights)
        values = values.biased(np.full(shape, node.offset)) if node.offset else values
        # Keras takes the values themselves: it does not add them up from planes.
        return replace(values, integer=integer, computed=Planes(Source(node.name), weights, node.offset))
    return Signal(shape, (Term(node.name),), ZERO, integer=integer)


def _refuse_values_that_are_not_finite(model: keras.Model) -> None:
    for variable in model.weights:
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelFileError(
                f"weight {variable.path!r} of model {model.name!r} holds values that are not finite (NaN or infinity): "
                "the training diverged or the file is damaged"
            )


def _refuse_inputs_that_are_no_numbers(model: keras.Model) -> None:
    """Refuse strings and half precision; whole numbers are taken where a layer casts them (`strop.lowering.rules`)."""
    for tensor in model.inputs:
        if tensor.dtype not in (*_FLOATS, *_WHOLE):
            raise UnsupportedLayerError(
                f"input {tensor._keras_history.operation.name!r} takes {tensor.dtype}, and strop's frames are float32: "
                "rebuild the model with keras.Input(..., dtype='float32')"
            )
