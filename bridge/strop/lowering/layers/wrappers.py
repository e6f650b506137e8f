"""Wrappers: `TimeDistributed` (one layer or model on every slice of the first axis) and `SpectralNormalization`."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import Any

import keras
import numpy as np

from strop.keras.walk import walk
from strop.lowering.context import Context, Observation
from strop.lowering.layers.merging import joined
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handler_for, handles, lower_call
from strop.lowering.signal import Signal, rearrange


@handles(keras.layers.TimeDistributed)
def _time_distributed(layer: Any, context: Context, signal: Signal) -> Signal:
    signal = signal.in_keras_order()
    path, slices = context.path, []
    steps = signal.shape[0]
    for step in range(steps):
        context.path = f"{path}/{step}"
        seen = len(context.observations)
        part = _slice(layer.layer, context, rearrange(signal, itemgetter(step))).in_keras_order()
        # Keras shows all slices in one tensor; each population is one of them.
        context.observations[seen:] = [
            replace(found, steps=(step, *found.steps)) for found in context.observations[seen:]
        ]
        slices.append(rearrange(part, lambda index: index[None]))
    context.path = path
    return joined(slices, 0, np.arange(1, steps + 1))


def _slice(layer: Any, context: Context, signal: Signal) -> Signal:
    """Lower one call of the wrapped layer, or of all layers of a wrapped model."""
    if not isinstance(layer, keras.Model):
        return handler_for(layer)(layer, context, signal)
    outer, seen = context.path, len(context.observations)

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        context.path = path
        return lower_call(operation, context, args, kwargs)

    outputs: list[Signal] = walk(layer, [signal], visit, f"{outer}/")
    context.path = outer
    if len(outputs) != 1:
        raise Refusal("it wraps a model with several outputs", "wrap a model for each of them")
    # Keras shows no layer inside, only the model's output.
    del context.observations[seen:]
    levels = outputs[0].levels
    if levels is not None and len(levels.terms) == 1 and levels.terms[0].operator is None and levels.scale.all():
        shown = (levels.scale, levels.shift)
        context.observations.append(
            Observation(context.visit, levels.terms[0].source, outputs[0].channels_first, shown)
        )
    return outputs[0]


@handles(keras.layers.SpectralNormalization)
def _spectral_normalization(layer: Any, context: Context, signal: Signal) -> Signal:
    """The wrapped layer as it is: the kernel is divided by its norm in training, and stored so."""
    return handler_for(layer.layer)(layer.layer, context, signal)
