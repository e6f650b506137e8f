"""Rounding bounds of single neurons in single frames: stages are evaluated only where a sum is near its threshold.

Most frames have a neuron that is near its threshold by the bound that holds for all frames at once, and hardly one is
near by its own bound. A pair is a neuron in a frame; for a few hundred of them the windows that they see are gathered
and bounded, and whole layers need not be. What is not known here (a chain of several sums, a transposed convolution)
has no answer, and is evaluated whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Convolution, Dense, Operator, Select, SumPool, stages_of
from strop.graph.operator import FloatArray, IntArray, Shape
from strop.graph.rounding.evaluation import Computed, Evaluation, OpenSum, Operators, Signals, Stage
from strop.graph.rounding.formats import FLOAT32
from strop.graph.rounding.grids import UNKNOWN_GRID
from strop.graph.rounding.stages import Affine, Constant, Linear, Recoded, Source, Sum

# More gathered values than this are not worth it (32 MiB of float64).
_MOST_VALUES = 4_194_304
# Bounds here and of whole layers are sums of the same terms in float64, in another order.
_SLACK = 1.0 + 1e-6


@dataclass(frozen=True)
class Pairs:
    """Neurons in frames, one by one.

    Attributes
    ----------
    rows : int array, shape (pairs,)
        Frames.
    neurons : int array, shape (pairs,)
        Flat indices into `shape`.
    shape : tuple of int
        Of the population.
    """

    rows: IntArray
    neurons: IntArray
    shape: Shape

    def of(self, values: npt.NDArray[Any]) -> FloatArray:
        """Return what a constant of the population is at each pair, shape `(pairs, 1)`."""
        return np.broadcast_to(values, self.shape).reshape(-1)[self.neurons, None]


def error_at(stage: Stage, pairs: Pairs, signals: Signals) -> FloatArray | None:
    """Return a bound on the float32 error at each pair, shape `(pairs,)`; None where only whole layers can tell.

    It is at least what `Evaluation` gives for the whole layer there.

    Parameters
    ----------
    stage : Stage
        Of the population.
    pairs : Pairs
    signals : mapping of node name to array, shape (n, *shape)
        Of every source.
    """
    picked = _picked(stage, pairs, signals)
    if picked is None:
        return None
    error = Evaluation({}, FLOAT32, Operators()).of(picked).error
    return np.broadcast_to(error * _SLACK, (len(pairs.rows), 1))[:, 0]


def _picked(stage: Stage, pairs: Pairs, signals: Signals) -> Stage | None:
    """Return the stage with one frame for each pair, and in it the one neuron."""
    match stage:
        case Constant():
            return Constant(pairs.of(stage.values))
        case Sum():
            parts = [_picked(part, pairs, signals) for part in stage.parts]
            return Sum(tuple(part for part in parts if part is not None)) if None not in parts else None
        case Affine():
            inner = _picked(stage.of, pairs, signals)
            scale, shift, size = (pairs.of(values) for values in (stage.scale, stage.shift, stage.size))
            return None if inner is None else replace(stage, of=inner, scale=scale, shift=shift, size=size)
        case Linear():
            return _picked_sum(stage, pairs, signals)
        case _:
            return None


def _picked_sum(stage: Linear, pairs: Pairs, signals: Signals) -> Stage | None:
    *moves, last = stages_of(stage.operator)
    seen = window_of(last, pairs.neurons)
    if seen is None or seen[0].size > _MOST_VALUES:
        return None
    places = _moved_back(moves, seen[0])
    found = None if places is None else _gathered(stage.of, places, pairs.rows, signals)
    if found is None:
        return None
    source, places = found
    return _Dot(source, np.where(places >= 0, seen[1], 0.0), last.terms)


def _moved_back(moves: Sequence[Operator], places: IntArray) -> IntArray | None:
    """Return where values came from before index maps, -1 for zeros; None if one of the operators is no index map."""
    for move in reversed(moves):
        if not isinstance(move, Select):
            return None
        places = np.where(places >= 0, move.index.reshape(-1)[np.maximum(places, 0)], -1)
    return places


def _gathered(stage: Stage, places: IntArray, rows: IntArray, signals: Signals) -> tuple[Stage, IntArray] | None:
    """Return the values at flat places of frames, a frame for each row of `places`, and the places in the source."""
    at = np.maximum(places, 0)
    match stage:
        case Source():
            values = signals[stage.name]
            shown = values.reshape(len(values), -1)[rows[:, None], at]
            return _Shown(shown.astype(np.float64), values.dtype == np.bool_), places
        case Recoded(of=Source() as of):
            shape = signals[of.name].shape[1:]
            constants: Mapping[str, Any] = {
                name: np.broadcast_to(getattr(stage, name), shape).reshape(-1)[at] for name in ("scale", "shift", "off")
            }
            inner = _gathered(of, places, rows, signals)
            return None if inner is None else (Recoded(inner[0], **constants), places)
        case Linear():
            before = _moved_back(list(stages_of(stage.operator)), places)
            return None if before is None else _gathered(stage.of, before, rows, signals)
        case _:
            return None


def window_of(operator: Operator, neurons: IntArray) -> tuple[IntArray, FloatArray] | None:
    """Return what some outputs of an operator are the sums of; None where it is not known here.

    Parameters
    ----------
    neurons : int array, shape (pairs,)
        Flat indices of outputs.

    Returns
    -------
    places : int array, shape (pairs, terms)
        Flat indices of inputs, -1 for padding.
    weight : float64 array, shape (pairs, terms)
    """
    match operator:
        case Dense():
            inputs, outputs = operator.weight.shape
            block, output = np.divmod(neurons, outputs)
            return block[:, None] * inputs + np.arange(inputs), operator.weight.T[output]
        case Convolution(transposed=False):
            per_group, filters = operator.kernel.shape[-2:]
            *place, one = np.unravel_index(neurons, operator.shape_out)
            first = one // (filters // operator.groups) * per_group
            channels = first[:, None] + np.arange(per_group)
            kernel = operator.kernel.reshape(-1, filters)
            return _places(operator, tuple(place), channels), kernel.T[one]
        case SumPool():
            *place, channel = np.unravel_index(neurons, operator.shape_out)
            places = _places(operator, tuple(place), channel[:, None])
            return places, np.ones(places.shape)
        case _:
            return None


def _places(operator: Convolution | SumPool, positions: tuple[IntArray, ...], channels: IntArray) -> IntArray:
    """Return the flat inputs in the windows at some positions, shape `(pairs, taps * channels)`, -1 for padding."""
    window = operator.window
    flat, inside = np.zeros((len(channels), 1), np.int64), np.ones((len(channels), 1), bool)
    for axis, position in enumerate(positions):
        taps = np.arange(window.size[axis]) * window.dilation[axis] - window.padding[axis][0]
        read = position[:, None] * window.strides[axis] + taps
        within = (read >= 0) & (read < window.spatial[axis])
        flat = (flat[:, :, None] * window.spatial[axis] + read[:, None, :]).reshape(len(channels), -1)
        inside = (inside[:, :, None] & within[:, None, :]).reshape(len(channels), -1)
    all_channels = operator.shape_in[-1]
    places = np.where(inside[:, :, None], flat[:, :, None] * all_channels + channels[:, None, :], -1)
    return places.reshape(len(channels), -1)


@dataclass(frozen=True, eq=False)
class _Shown(Stage):
    """Gathered values of a source, shape (pairs, terms)."""

    values: FloatArray
    bits: bool

    def evaluate(self, at: Evaluation) -> Computed:
        return Computed(self.values, np.zeros(()), np.asarray(0.0 if self.bits else UNKNOWN_GRID))


@dataclass(frozen=True, eq=False)
class _Dot(Stage):
    """A sum of products for each pair: `strop.graph.rounding.stages.Linear` with weights of each pair's own."""

    of: Stage
    weight: FloatArray
    terms: int

    def evaluate(self, at: Evaluation) -> Computed:
        x = at.of(self.of)
        absolute = np.abs(self.weight)
        sizes = np.broadcast_to(x.size, x.value.shape)
        magnitude = _dot(absolute, sizes)
        roundings = np.minimum(np.count_nonzero((absolute > 0.0) & (sizes != 0.0), axis=1), self.terms)[:, None]
        carried = _dot(absolute, np.broadcast_to(x.error, x.value.shape)) if x.error.any() else np.zeros(())
        terms = OpenSum(carried, roundings, magnitude)
        # Where sums are exact for whole layers, nothing is near, and no pair comes here.
        return at.summed(_dot(self.weight, x.value), terms, np.asarray(UNKNOWN_GRID))


def _dot(weight: FloatArray, values: FloatArray) -> FloatArray:
    result: FloatArray = np.einsum("pk,pk->p", weight, values)[:, None]
    return result
