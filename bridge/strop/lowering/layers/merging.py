"""Layers with several inputs: sums are projections into one population, concatenation is offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np

from strop.lowering.context import Context
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import Levels, Signal, rearrange, total


def _listed(signals: Any) -> list[Signal]:
    return list(signals) if isinstance(signals, (list, tuple)) else [signals]


def _in_one_order(signals: Sequence[Signal]) -> list[Signal]:
    """Return the signals with one order of axes: as they are stored if all agree, else as Keras has them."""
    if all(signal.channels_first for signal in signals):
        return list(signals)
    return [signal.in_keras_order() for signal in signals]


def _refuse_pooled(signals: Sequence[Signal]) -> None:
    if any(signal.pooled is not None for signal in signals):
        raise Refusal("one of its inputs was max-pooled before any activation", "put the activation before the pooling")


_SYMBOLIC_ADD = type(keras.ops.add(keras.KerasTensor((1,)), keras.KerasTensor((1,)))._keras_history.operation)


@handles(keras.layers.Add, _SYMBOLIC_ADD)
def _add(layer: Any, context: Context, signals: Any) -> Signal:
    addends = _in_one_order(_listed(signals))
    _refuse_pooled(addends)
    if len(addends) == 1:
        return addends[0]
    shape = np.broadcast_shapes(*(signal.shape for signal in addends))
    return total([rearrange(s, lambda index: np.broadcast_to(_aligned(index, shape), shape)) for s in addends])


def _broadcast(signals: list[Signal]) -> list[Signal]:
    """Return signals of one shape, repeated along axes of extent one."""
    shape = np.broadcast_shapes(*(signal.shape for signal in signals))
    return [rearrange(s, lambda index: np.broadcast_to(_aligned(index, shape), shape)) for s in signals]


@handles(keras.layers.Average)
def _average(layer: Any, context: Context, signals: Any) -> Signal:
    addends = _in_one_order(_listed(signals))
    _refuse_pooled(addends)
    return total(_broadcast(addends)).scaled(np.asarray(1.0 / len(addends)))


@handles(keras.layers.Subtract)
def _subtract(layer: Any, context: Context, signals: Any) -> Signal:
    minuend, subtrahend = _broadcast(_in_one_order(_listed(signals)))
    _refuse_pooled([minuend, subtrahend])
    return total([minuend, subtrahend.scaled(np.asarray(-1.0))])


def _bits(layer: Any, signals: Any) -> list[Signal]:
    ordered = _broadcast(_in_one_order(_listed(signals)))
    if any(signal.levels is None or not signal.levels.plain for signal in ordered):
        raise Refusal(
            f"{type(layer).__name__} of values that are not spikes is no threshold of a sum",
            "apply it to the outputs of spiking activations",
        )
    return ordered


@handles(keras.layers.Maximum)
def _maximum(layer: Any, context: Context, signals: Any) -> Signal:
    """The maximum of bits is their OR: at least one of them."""
    return context.counted(_bits(layer, signals), 1)


@handles(keras.layers.Minimum, keras.layers.Multiply)
def _minimum(layer: Any, context: Context, signals: Any) -> Signal:
    """The minimum of bits, and their product, is their AND: all of them."""
    ordered = _bits(layer, signals)
    return context.counted(ordered, len(ordered))


def _aligned(index: Any, shape: tuple[int, ...]) -> Any:
    return index.reshape((1,) * (len(shape) - index.ndim) + index.shape)


@handles(keras.layers.Concatenate)
def _concatenate(layer: Any, context: Context, signals: Any) -> Signal:
    signals = _in_one_order(_listed(signals))
    axis = signals[0].axis(layer.axis)
    return joined(signals, axis, np.cumsum([signal.shape[axis] for signal in signals]))


def joined(signals: Sequence[Signal], axis: int, ends: Any) -> Signal:
    """Return signals one behind the other along `axis`; the k-th one ends before place `ends[k]`."""
    _refuse_pooled(signals)
    placed = []
    for signal, end in zip(signals, ends, strict=True):
        margins = [(0, 0)] * len(signal.shape)
        margins[axis] = (int(end - signal.shape[axis]), int(ends[-1] - end))
        placed.append(rearrange(signal, partial(np.pad, pad_width=margins, constant_values=-1)))
    return replace(total(placed), roundings=max(signal.roundings for signal in signals), levels=_joined_levels(placed))


def _joined_levels(placed: Sequence[Signal]) -> Levels | None:
    """Return the levels of a concatenation, each place having those of the one signal that fills it."""
    if any(signal.levels is None for signal in placed):
        return None
    levels = [signal.levels for signal in placed if signal.levels is not None]
    terms = tuple(term for level in levels for term in level.terms)
    if all(level.plain for level in levels):
        return Levels(terms)
    # Padding by `select` left scale and shift zero outside a signal's own place, except where they were plain.
    scale, shift = np.zeros(placed[0].shape), np.zeros(placed[0].shape)
    for signal, level in zip(placed, levels, strict=True):
        own = np.zeros(signal.shape, dtype=bool)
        for term in level.terms:
            own |= True if term.operator is None else term.operator.apply(np.ones((1, *term.operator.shape_in)))[0] > 0
        scale = np.where(own, level.scale, scale)
        shift = np.where(own, level.shift, shift)
    return Levels(terms, scale, shift)
