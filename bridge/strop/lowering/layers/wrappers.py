"""TimeDistributed: one layer on every slice of the first axis, with the same weights."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import Any

import keras
import numpy as np

from strop.lowering.context import Context
from strop.lowering.layers.merging import joined
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handler_for, handles
from strop.lowering.signal import Signal, rearrange


@handles(keras.layers.TimeDistributed)
def _time_distributed(layer: Any, context: Context, signal: Signal) -> Signal:
    if isinstance(layer.layer, keras.Model):
        raise Refusal("it wraps a model", "wrap the model's layers one by one")
    signal = signal.in_keras_order()
    handler = handler_for(layer.layer)
    path, slices = context.path, []
    steps = signal.shape[0]
    for step in range(steps):
        context.path = f"{path}/{step}"
        seen = len(context.observations)
        part = handler(layer.layer, context, rearrange(signal, itemgetter(step))).in_keras_order()
        # Keras shows all slices in one tensor; each population is one of them.
        context.observations[seen:] = [replace(found, step=step) for found in context.observations[seen:]]
        slices.append(rearrange(part, lambda index: index[None]))
    context.path = path
    return joined(slices, 0, np.arange(1, steps + 1))
