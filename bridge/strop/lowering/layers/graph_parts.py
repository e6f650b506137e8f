"""Layers that say what a graph says (`strop.to_keras`): each gives back the very node or operator it was made from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from strop.errors import NotSharpenedError
from strop.graph import Operator, Select
from strop.graph.rounding.formats import FLOAT64
from strop.graph.rounding.stages import InFormat, Linear
from strop.keras.graph_parts import FirstOf, InputEncoding, SpikeReadout, SpikingThreshold
from strop.keras.linear_map import LinearMap
from strop.lowering.context import Context, Observation
from strop.lowering.layers.linear import weights
from strop.lowering.readout_signal import ReadoutSignal
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import ONE, ZERO, Signal, Term


@handles(InputEncoding, casts=True)
def _input_encoding(layer: Any, context: Context, signal: Signal) -> Signal:
    """Pass on: the driver has given the input this encoding already."""
    if [(term.source in context.encoded, term.operator) for term in signal.terms] != [(True, None)]:
        raise Refusal("it does not stand directly behind an input", "put it behind a keras.Input")
    return signal


@handles(LinearMap)
def _linear_map(layer: Any, context: Context, signal: Signal) -> Signal:
    return mapped(signal.in_keras_order(), layer.operator)


def mapped(signal: Signal, operator: Operator) -> Signal:
    """Return the signal behind an operator, which is kept as it is where nothing stands before it."""
    if operator.shape_in != signal.shape:
        raise Refusal(f"it takes frames of shape {operator.shape_in}, and gets {signal.shape}")
    exact = signal.pooled is None and len(signal.terms) == 1 and signal.terms[0].operator is None
    found = signal.select(operator) if isinstance(operator, Select) else signal.linear(operator)
    if not exact:
        return found
    terms = (Term(signal.terms[0].source, operator),)
    return replace(found, terms=terms, computed=Linear(signal.stage, operator))


@handles(SpikingThreshold)
def _spiking_threshold(layer: Any, context: Context, signal: Signal) -> Signal:
    if layer.sharpness != 1.0:
        raise NotSharpenedError(
            f"layer {context.path!r} ({type(layer).__name__}) is sharpened to {layer.sharpness:.4g}, not to 1: its "
            "outputs are not single bits. Finish sharpening, or call strop.keras.set_sharpness(model, 1.0)"
        )
    signal = signal.in_keras_order()
    if signal.pooled is not None:
        raise Refusal("its input was max-pooled before any activation", "put the activation before the pooling")
    for what, values in (("threshold", layer.threshold), ("bias", layer.bias)):
        if np.broadcast_shapes(tuple(values.shape), signal.shape) != signal.shape:
            raise Refusal(f"its {what} of shape {tuple(values.shape)} does not fit frames of shape {signal.shape}")
    name = layer.record.get("name", context.path)
    spikes = context.populate(name, signal.biased(weights(layer.bias)), weights(layer.threshold))
    name = spikes.terms[0].source
    if signal.wide and layer.compute_dtype == "float64":
        context.computed[name] = InFormat(context.computed[name], FLOAT64)
    context.records[name] = layer.record
    context.observations.append(Observation(context.visit, name, signal.channels_first, (ONE, ZERO)))
    return spikes


@handles(SpikeReadout)
def _spike_readout(layer: Any, context: Context, signal: Signal) -> Signal:
    if signal.pooled is not None:
        raise Refusal("its input was max-pooled before any activation", "put the activation before the pooling")
    logits = signal.in_keras_order().biased(weights(layer.bias))
    after = None if layer.after is None else layer.after.operator
    shape = logits.shape if after is None else after.shape_out
    return ReadoutSignal(
        shape[:-1] if layer.argmax else shape,
        (),
        logits=replace(logits, levels=None, wide=signal.wide and layer.compute_dtype == "float64"),
        kind=layer.kind,
        after=after,
        argmax=layer.argmax,
        record={"name": context.path, **layer.record},
    )


@handles(FirstOf, behind_readouts=True, casts=True)
def _first_of(layer: Any, context: Context, signals: Any) -> Signal:
    listed: list[Signal] = list(signals) if isinstance(signals, (list, tuple)) else [signals]
    for signal in listed[1:]:
        if isinstance(signal, ReadoutSignal) and signal.record is not None:
            context.recorded_readout(signal)
    return listed[0]
