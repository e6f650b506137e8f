"""Layers with several inputs: sums are projections into one population, concatenation is offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import combinations
from typing import Any

import keras
import numpy as np

from strop.graph import ELEMENTWISE_KINDS, Select, Sparse
from strop.lowering.context import Context, bits
from strop.lowering.readout_signal import ReadoutSignal, joined_readouts, only_readouts
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles
from strop.lowering.signal import ZERO, FloatArray, Levels, Pooled, Signal, disjoint, flat_index, rearrange, total


def _listed(signals: Any) -> list[Signal]:
    return list(signals) if isinstance(signals, (list, tuple)) else [signals]


def _in_one_order(signals: Sequence[Signal]) -> list[Signal]:
    """Return the signals with one order of axes: as they are stored if all agree, else as Keras has them."""
    # Frames of fewer axes are aligned at Keras's last one.
    if all(signal.channels_first for signal in signals) and len({len(signal.shape) for signal in signals}) == 1:
        return list(signals)
    return [signal.in_keras_order() for signal in signals]


def _refuse_pooled(signals: Sequence[Signal]) -> None:
    if any(signal.pooled is not None for signal in signals):
        raise Refusal("one of its inputs was max-pooled before any activation", "put the activation before the pooling")


@handles(keras.layers.Add, behind_readouts=True)
def _add(layer: Any, context: Context, signals: Any) -> Signal:
    return added(_listed(signals))


def added(signals: Sequence[Signal]) -> Signal:
    """Return the sum of signals, those of extent one repeated along an axis."""
    addends = _in_one_order(signals)
    if len(addends) > 1 and only_readouts(addends):
        readouts = only_readouts(_broadcast(addends))
        return joined_readouts(readouts, readouts[0].shape, [flat_index(one.shape) for one in readouts], joined)
    _refuse_pooled(addends)
    return addends[0] if len(addends) == 1 else total(_broadcast(addends))


def _broadcast(signals: list[Signal]) -> list[Signal]:
    """Return signals of one shape, repeated along axes of extent one."""
    shape = np.broadcast_shapes(*(signal.shape for signal in signals))
    return [rearrange(s, lambda index: np.broadcast_to(_aligned(index, shape), shape)) for s in signals]


@handles(keras.layers.Average, behind_readouts=True)
def _average(layer: Any, context: Context, signals: Any) -> Signal:
    addends = _listed(signals)
    return added(addends).scaled(np.asarray(1.0 / len(addends)))


@handles(keras.layers.Subtract, behind_readouts=True)
def _subtract(layer: Any, context: Context, signals: Any) -> Signal:
    return subtracted(*_listed(signals))


def subtracted(minuend: Signal, subtrahend: Signal) -> Signal:
    """Return the difference of two signals."""
    _refuse_pooled([minuend, subtrahend])
    return added([minuend, subtrahend.scaled(np.asarray(-1.0))])


# Maximum, minimum and product of two-valued signals ------------------------------------------------------------------
#
# Where all have the same two values l and l + d, the maximum is l + d OR for d > 0 and l + d AND for d < 0; the minimum
# the other way round. Where all have the values 0 and d_i, the product is (d_1 ... d_n) AND. Else, any function f of n
# bits is a sum over sets S of the bits, f(s) = sum_S c_S AND_S(s) with c_S = sum_{T in S} (-1)^(|S| - |T|) f(T), f(T)
# standing for f where the bits of T are one and the others zero (Moebius inversion over subsets): neurons for the
# ANDs of two and more bits, the rest is linear.

_MOST_MIXED = 4


@handles(keras.layers.Maximum)
def _maximum(layer: Any, context: Context, signals: Any) -> Signal:
    return combined(context, "Maximum", _listed(signals))


@handles(keras.layers.Minimum)
def _minimum(layer: Any, context: Context, signals: Any) -> Signal:
    return combined(context, "Minimum", _listed(signals))


@handles(keras.layers.Multiply)
def _multiply(layer: Any, context: Context, signals: Any) -> Signal:
    return combined(context, "Multiply", _listed(signals))


# Of values that may have one factor for all places, or one for each.
_FUNCTIONS: dict[str, Callable[[Sequence[FloatArray]], FloatArray]] = {
    "Maximum": partial(reduce, np.maximum),
    "Minimum": partial(reduce, np.minimum),
    "Multiply": partial(reduce, np.multiply),
}


def combined(context: Context, kind: str, signals: Sequence[Signal]) -> Signal:
    """Return the elementwise maximum, minimum or product of two-valued signals."""
    if len(signals) == 1:
        return signals[0]
    ordered = _broadcast(_in_one_order(signals))
    levels = [signal.levels for signal in ordered if signal.levels is not None]
    if len(levels) < len(ordered):
        raise Refusal(
            f"{kind} of values that are not spikes is no threshold of a sum",
            "apply it to the outputs of spiking activations",
        )
    single = [bits(level.terms, ordered[0].shape, ordered[0].channels_first) for level in levels]
    first = levels[0]
    if kind == "Multiply" and not any(level.shift.any() for level in levels):
        return context.counted(single, np.asarray(len(single)), _FUNCTIONS[kind]([level.scale for level in levels]))
    alike = all(_equal(level.scale, first.scale) and _equal(level.shift, first.shift) for level in levels)
    if kind != "Multiply" and alike:
        either = (first.scale > 0) == (kind == "Maximum")
        return context.counted(single, np.where(either, 1, len(single)), first.scale, first.shift)
    if len(levels) > _MOST_MIXED:
        raise Refusal(
            f"{kind} of {len(levels)} signals whose values differ or are not 0 and 1 needs too many neurons",
            f"apply it to at most {_MOST_MIXED} signals at a time",
        )
    return _expanded(context, _FUNCTIONS[kind], single, levels)


def _equal(a: FloatArray, b: FloatArray) -> bool:
    return bool((a == b).all())


def _expanded(
    context: Context,
    function: Callable[[Sequence[FloatArray]], FloatArray],
    single: Sequence[Signal],
    levels: Sequence[Levels],
) -> Signal:
    """Return `function` of two-valued signals as a sum of ANDs of their bits."""
    members = range(len(levels))
    subsets = [frozenset(s) for size in range(len(levels) + 1) for s in combinations(members, size)]
    value = {s: function([levels[i].shift + levels[i].scale * (i in s) for i in members]) for s in subsets}
    path, parts = context.path, []
    for s in subsets[1:]:
        factor = sum(((-1.0) ** (len(s) - len(t)) * value[t] for t in subsets if t <= s), start=ZERO)
        if not factor.any():
            continue
        together = single[min(s)]
        if len(s) > 1:
            name = f"{path}/{'+'.join(str(i) for i in sorted(s))}"
            together = context.populate(name, total([single[i] for i in sorted(s)]), np.asarray(len(s) - 0.5))
        parts.append(together.scaled(factor))
    if not parts:
        parts = [single[0].scaled(ZERO)]
    return total(parts).biased(value[frozenset()])


def _aligned(index: Any, shape: tuple[int, ...]) -> Any:
    return index.reshape((1,) * (len(shape) - index.ndim) + index.shape)


@handles(keras.layers.Concatenate, moves=True)
def _concatenate(layer: Any, context: Context, signals: Any) -> Signal:
    signals = _in_one_order(_listed(signals))
    axis = signals[0].axis(layer.axis)
    return joined(signals, axis, np.cumsum([signal.shape[axis] for signal in signals]))


def joined(signals: Sequence[Signal], axis: int, ends: Any) -> Signal:
    """Return signals one behind the other along `axis`; the k-th one ends before place `ends[k]`."""
    if readouts := only_readouts(signals):
        return _joined_readouts(readouts, axis, ends)
    if any(signal.pooled is not None for signal in signals):
        return _joined_maxima(signals, axis, ends)
    placed = []
    for signal, end in zip(signals, ends, strict=True):
        margins = [(0, 0)] * len(signal.shape)
        margins[axis] = (int(end - signal.shape[axis]), int(ends[-1] - end))
        placed.append(rearrange(signal, partial(np.pad, pad_width=margins, constant_values=-1)))
    return merged(placed)


def _joined_readouts(readouts: Sequence[ReadoutSignal], axis: int, ends: Any) -> Signal:
    """Join read-outs: their logits where each function stays as it is, else what comes after the functions."""
    shape = list(readouts[0].shape)
    shape[axis] = int(ends[-1])
    apart = readouts[0].kind in ELEMENTWISE_KINDS or axis < len(shape) - 1
    if apart and all(one.after is None and one.kind == readouts[0].kind for one in readouts):
        logits = joined([one.summed for one in readouts], axis, ends)
        return replace(readouts[0], shape=tuple(shape), logits=logits, record=None)
    index = flat_index(tuple(shape))
    starts = (int(end) - one.shape[axis] for one, end in zip(readouts, ends, strict=True))
    places = [
        index[(slice(None),) * axis + (slice(start, start + one.shape[axis]),)]
        for one, start in zip(readouts, starts, strict=True)
    ]
    return joined_readouts(readouts, tuple(shape), places, joined)


def _joined_maxima(signals: Sequence[Signal], axis: int, ends: Any) -> Signal:
    """Join signals that were max-pooled before their activation; a signal without a pool is a window of one member."""
    shape = list(signals[0].shape)
    shape[axis] = int(ends[-1])
    places = flat_index(tuple(shape))
    bases: list[Signal] = []
    pre, post, sizes = [], [], [0]
    scale, shift, shift_size = (np.zeros(shape) for _ in range(3))
    for signal, end in zip(signals, ends, strict=True):
        own = (slice(None),) * axis + (slice(int(end) - signal.shape[axis], int(end)),)
        pooled = signal.pooled or Pooled(signal, Select(signal.shape, flat_index(signal.shape)))
        sources, targets, _ = pooled.windows.to_coo()
        pre.append(sources + sizes[-1])
        post.append(places[own].reshape(-1)[targets])
        base = rearrange(replace(pooled.base, channels_first=False), lambda index: index.reshape(-1))
        bases.append(base)
        sizes.append(sizes[-1] + base.shape[0])
        scale[own], shift[own], shift_size[own] = pooled.scale, pooled.shift, pooled.shift_size
    base = joined(bases, 0, np.asarray(sizes[1:]))
    members = np.concatenate(pre), np.concatenate(post)
    windows = Sparse(base.shape, tuple(shape), *members, np.ones(len(members[0])))
    waiting = [signal.pooled for signal in signals if signal.pooled is not None]
    roundings, plain = max(pooled.roundings for pooled in waiting), all(pooled.plain for pooled in waiting)
    return Signal(
        tuple(shape),
        (),
        channels_first=signals[0].channels_first,
        pooled=Pooled(base, windows, scale, shift, shift_size, roundings, plain),
    )


def merged(placed: Sequence[Signal]) -> Signal:
    """Return the sum of signals no two of which fill the same place."""
    if any(isinstance(signal, ReadoutSignal) for signal in placed):
        return added(placed)
    return replace(disjoint(placed), levels=_joined_levels(placed))


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
