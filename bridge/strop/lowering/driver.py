"""Drives the lowering: inputs first, then every layer call, then the outputs."""

from __future__ import annotations

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


def trace_model(model: keras.Model, encoding: str, decision: str) -> Lowering:
    """Lower `model`; see `strop.lower`."""
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
            _refuse_low_precision(operation)
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
    outputs = walk(model, [_input(context, tensor, encoding) for tensor in model.inputs], visit)
    for tensor, signal in zip(model.outputs, outputs, strict=True):
        name = tensor._keras_history.operation.name if hasattr(tensor, "_keras_history") else "output"
        try:
            context.finish(name, signal, as_spikes=decision == "spikes")
        except Refusal as refusal:
            raise _named(f"output {name!r}", refusal) from refusal
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


def _input(context: Context, tensor: Any, encoding: str) -> Signal:
    """Make an input node and the signal that leaves it: the frame's values, under every encoding."""
    shape = tuple(tensor.shape[1:])
    name = tensor._keras_history.operation.name
    if any(extent is None for extent in shape):
        raise UnsupportedLayerError(
            f"input {name!r} has the shape {shape}, with extents left open: rebuild the model with a fixed input shape"
        )
    if not shape:
        raise UnsupportedLayerError(f"input {name!r} is a scalar per frame: give it the shape (1,)")
    node = Input(context.unique(name), shape, encoding)
    context.inputs.append(node)
    if encoding == "bitplane":
        planes = Signal(node.signal_shape, (Term(node.name),), roundings=2)
        return planes.linear(plane_weights(shape, node.bits))
    return Signal(shape, (Term(node.name),), ZERO)


def _refuse_values_that_are_not_finite(model: keras.Model) -> None:
    for variable in model.weights:
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelFileError(
                f"weight {variable.path!r} of model {model.name!r} holds values that are not finite (NaN or infinity): "
                "the training diverged or the file is damaged"
            )


def _refuse_low_precision(operation: Any) -> None:
    compute = getattr(operation, "compute_dtype", "float32")
    if compute not in ("float32", "float64"):
        raise Refusal(
            f"Keras evaluates it in {compute}, whose rounding decides spikes differently from step to step",
            "set its dtype policy to 'float32' and check the model's accuracy before lowering",
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
