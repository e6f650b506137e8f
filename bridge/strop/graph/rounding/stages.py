"""Rounding bounds of sums in finite precision (Keras's float32): a running error analysis, stage by stage.

The lowering records for every population and read-out which float32 stages Keras goes through (`Stage`, a small
graph of its own); `strop.verify` evaluates the record on real spikes and gets, neuron by neuron and frame by frame,
the exact value and a bound on its rounding error. A difference within that bound is a tie, any other is a fault.

Two facts are combined, both after N. J. Higham, "Accuracy and Stability of Numerical Algorithms" (2002):

* section 3.1: n roundings, in any order of summation, are off by at most `gamma_n * sum |terms|`;
* section 2.1: where all terms are whole multiples of one `2^grid` and their absolute values add up to at most
  `2^(grid + digits)`, every partial sum is a number of the format, and *nothing* is rounded. The bound is then 0, and
  nothing can be a tie. Whole-number weights on spikes are of this kind.

What is assumed of the arithmetic: round to nearest; products and sums of the layer's own terms, in any order, fused or
not (no Winograd or FFT convolutions, no reduced-precision modes such as TF32 or bfloat16); results below the least
normal number may be flushed to zero, as TensorFlow's threads do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Operator, Scale, Select, stages_of
from strop.graph.rounding.evaluation import Computed, Evaluation, OpenSum, Signals, Stage
from strop.graph.rounding.formats import ANY_GRID, FLOAT64, FloatArray, FloatFormat, lowest_bit
from strop.graph.rounding.grids import UNKNOWN_GRID, finest, grid_behind, product_grid, total


@dataclass(frozen=True, eq=False)
class Source(Stage):
    """The signal of an input or a population: spikes, or the values of a frame."""

    name: str

    def evaluate(self, at: Evaluation) -> Computed:
        sent = at.signals[self.name]
        values = sent.astype(np.float64)
        if sent.dtype == np.bool_:
            return Computed(values, np.zeros(()), np.zeros(()))
        grid = at.grids[self.name] if self.name in at.grids else lowest_bit(values).min(axis=0)
        return Computed(values, np.zeros(()), grid)


@dataclass(frozen=True, eq=False)
class Recoded(Stage):
    """Single bits b as the two values of the activation, `shift + scale * b`; nothing is computed.

    Parameters
    ----------
    off : array
        How far Keras's own values may be from these, where they are computed from rounded values.
    """

    of: Stage
    scale: FloatArray
    shift: FloatArray
    off: FloatArray = field(default_factory=lambda: np.zeros(()))

    def evaluate(self, at: Evaluation) -> Computed:
        bits = at.of(self.of)
        high = self.shift + self.scale
        grid = np.minimum(lowest_bit(self.shift), lowest_bit(high))
        exact = at.arithmetic.holds(self.shift) & at.arithmetic.holds(high) & (self.off == 0.0)
        # Keras holds the float32 nearest to each of the two values, or adds them up from two that it holds.
        blur = np.where(exact, 0.0, 4.0 * at.arithmetic.unit * (np.abs(self.shift) + np.abs(self.scale)))
        if at.ceiling:
            value = np.broadcast_to(np.maximum(np.abs(self.shift), np.abs(high)), bits.value.shape)
        else:
            value = self.shift + self.scale * bits.value
        return Computed(value, blur + self.off + np.abs(self.scale) * bits.error, np.where(exact, grid, UNKNOWN_GRID))


@dataclass(frozen=True, eq=False)
class Linear(Stage):
    """A linear operator, all products and sums in the arithmetic."""

    of: Stage
    operator: Operator

    def evaluate(self, at: Evaluation) -> Computed:
        result = at.of(self.of)
        for stage in stages_of(self.operator):
            result = _moved(stage, result) if isinstance(stage, Select) else _summed(at, stage, result)
        return result


@dataclass(frozen=True, eq=False)
class Affine(Stage):
    """`scale * x + shift`, elementwise.

    Parameters
    ----------
    size : array
        Sum of the absolute values that `shift` is added up from.
    roundings : int
        Number of roundings, including those of computing `scale` and `shift`.
    plain : bool
        Whether the computation multiplies by `scale` and adds `shift` as they stand here: then it can be exact.
    """

    of: Stage
    scale: FloatArray
    shift: FloatArray
    size: FloatArray
    roundings: int
    plain: bool = False

    def evaluate(self, at: Evaluation) -> Computed:
        x = at.of(self.of)
        value = self.scale * x.value + self.shift
        magnitude = np.abs(self.scale) * x.size + self.size
        known = self.plain & at.arithmetic.holds(self.scale) & at.arithmetic.holds(self.shift)
        grid = np.minimum(product_grid(x.grid, lowest_bit(self.scale)), lowest_bit(self.shift))
        grid = np.where(known, grid, UNKNOWN_GRID)
        # A factor that is no number of the format is rounded somewhere: here, or in the computation.
        roundings = self.roundings + (~at.arithmetic.holds(self.scale)).astype(np.int64)
        terms = OpenSum(np.abs(self.scale) * x.error, roundings, magnitude)
        return at.summed(value, terms, grid, closed=True)


@dataclass(frozen=True, eq=False)
class Constant(Stage):
    """Values that are the same in every frame: a bias."""

    values: FloatArray

    def evaluate(self, at: Evaluation) -> Computed:
        exact = at.arithmetic.holds(self.values)
        value = np.abs(self.values) if at.ceiling else self.values
        error = np.where(exact, 0.0, at.arithmetic.unit * np.abs(self.values))
        return Computed(value, error, np.where(exact, lowest_bit(self.values), UNKNOWN_GRID))


@dataclass(frozen=True, eq=False)
class Sum(Stage):
    """The sum of several signals of one shape; the terms of sums among them are added up in any order."""

    parts: tuple[Stage, ...]

    def evaluate(self, at: Evaluation) -> Computed:
        parts = [at.of(part) for part in self.parts]
        terms = [part.open or OpenSum(part.error, 0, part.size) for part in parts]
        together = OpenSum(
            total([part.carried for part in terms]),
            total([np.asarray(part.roundings) for part in terms]) + len(terms) - 1,
            total([part.magnitude for part in terms]),
        )
        return at.summed(total([part.value for part in parts]), together, finest([part.grid for part in parts]))


@dataclass(frozen=True, eq=False)
class Join(Stage):
    """Signals of one shape no two of which fill the same place: a concatenation. Nothing is rounded."""

    parts: tuple[Stage, ...]

    def evaluate(self, at: Evaluation) -> Computed:
        parts = [at.of(part) for part in self.parts]
        value, error = total([part.value for part in parts]), total([part.error for part in parts])
        return Computed(value, error, finest([part.grid for part in parts]))


@dataclass(frozen=True, eq=False)
class InFormat(Stage):
    """A stage that is computed in an arithmetic of its own, whatever the evaluation's is."""

    of: Stage
    arithmetic: FloatFormat

    def evaluate(self, at: Evaluation) -> Computed:
        return Evaluation(at.signals, self.arithmetic, at.operators, at.grids, at.ceiling).of(self.of)


def biased(of: Stage, bias: FloatArray) -> Stage:
    """Return the stage `of + bias`."""
    return Sum((of, Constant(bias)))


def of_terms(terms: Sequence[tuple[str, Operator | None]]) -> Stage:
    """Return the stage of single bits behind index maps or windows of counted bits."""
    parts = tuple(Source(name) if operator is None else Linear(Source(name), operator) for name, operator in terms)
    return parts[0] if len(parts) == 1 else Join(parts)


def as_summed(graph: Graph, name: str) -> Stage:
    """Return the stages of a population as a graph states it: its own weights, summed, and its bias."""
    parts = tuple(Linear(Source(p.source), p.operator) for p in graph.incoming(name))
    return biased(parts[0] if len(parts) == 1 else Sum(parts), graph.population(name).bias)


@dataclass(frozen=True, eq=False)
class Planes(Stage):
    """The values that bit planes stand for, as Keras sees them: the nearest numbers of the arithmetic."""

    of: Stage
    operator: Operator
    offset: float

    def evaluate(self, at: Evaluation) -> Computed:
        planes = at.of(self.of)
        values = self.operator.apply(planes.value) + self.offset
        if at.ceiling:
            values = self.operator.absolute().apply(planes.value) + abs(self.offset)
            return Computed(values, 2.0 * at.arithmetic.unit * values, np.asarray(UNKNOWN_GRID))
        if at.arithmetic is FLOAT64:
            return Computed(values, FLOAT64.gamma(8) * np.abs(values), np.asarray(UNKNOWN_GRID))
        shown = values.astype(np.float32).astype(np.float64)
        off = np.abs(values - shown)
        grid = np.where(off == 0.0, lowest_bit(shown), UNKNOWN_GRID).min(axis=0)
        return Computed(values, off + FLOAT64.gamma(8) * np.abs(values) * (off > 0.0), grid)


def largest_signals(graph: Graph, signals: Signals) -> tuple[dict[str, npt.NDArray[Any]], dict[str, FloatArray]]:
    """Return the largest absolute value at each place of every node, and the grids of analogue inputs.

    Returns
    -------
    most : dict of node name to array, shape (1, *shape)
        Ones (bool) for spikes.
    grids : dict of input name to array, shape `shape`
    """
    most: dict[str, npt.NDArray[Any]] = {
        population.name: np.ones((1, *population.shape), dtype=bool) for population in graph.populations
    }
    grids: dict[str, FloatArray] = {}
    for node in graph.inputs:
        if node.spiking:
            most[node.name] = np.ones((1, *node.signal_shape), dtype=bool)
        else:
            values = signals[node.name].astype(np.float64)
            most[node.name], grids[node.name] = (
                np.abs(values).max(axis=0, keepdims=True),
                lowest_bit(values).min(axis=0),
            )
    return most, grids


def _summed(at: Evaluation, operator: Operator, x: Computed) -> Computed:
    """Return `x` behind an operator that multiplies and adds."""
    absolute = at.operators.absolute(operator)
    sizes = np.broadcast_to(x.size, x.value.shape)
    magnitude = absolute.apply(sizes)
    roundings: npt.ArrayLike = operator.terms
    if not at.ceiling and not isinstance(operator, Scale):
        # Zeros are added without rounding: only terms that are not zero count.
        roundings = np.minimum(at.operators.structure(operator).apply(sizes != 0.0), operator.terms)
    carried = absolute.apply(np.broadcast_to(x.error, x.value.shape)) if x.error.any() else np.zeros(())
    value = magnitude if at.ceiling else operator.apply(x.value)
    return at.summed(value, OpenSum(carried, roundings, magnitude), grid_behind(operator, x.grid, at.operators.bits))


def _moved(operator: Select, x: Computed) -> Computed:
    def move(values: FloatArray) -> FloatArray:
        return operator.apply(np.broadcast_to(values, x.value.shape))

    def move_if_any(values: FloatArray) -> FloatArray:
        return move(values) if values.any() else np.zeros(())

    grid = np.broadcast_to(x.grid, operator.shape_in).reshape(-1)[np.maximum(operator.index, 0)]
    terms = x.open
    if terms is not None:
        # A bias behind a reshape may still be fused with the sum before it.
        roundings = int(np.max(terms.roundings))
        terms = OpenSum(move_if_any(terms.carried), roundings, move(terms.magnitude))
    return Computed(move(x.value), move_if_any(x.error), np.where(operator.index < 0, ANY_GRID, grid), terms)
