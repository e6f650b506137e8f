"""How far a sum in finite precision can be from the exact one: a running error analysis, stage by stage.

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

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Convolution, Dense, Graph, Operator, Scale, Select, Sparse, SumPool, stages_of, structure

FloatArray = npt.NDArray[np.float64]
Signals = Mapping[str, npt.NDArray[Any]]

# The exponent of zero's lowest bit: zero is a multiple of everything.
_ANY = np.inf
# Nothing is known of the lowest bit.
_UNKNOWN = -np.inf


@dataclass(frozen=True)
class Arithmetic:
    """A binary floating-point format.

    Parameters
    ----------
    name : str
    digits : int
        Bits of the significand, the hidden one counted.
    least, most : int
        Exponents of the least normal number and of the largest power of two.
    """

    name: str
    digits: int
    least: int
    most: int

    @property
    def unit(self) -> float:
        """The unit roundoff `u = 2^-digits`: relative error of one rounding to nearest."""
        return 2.0**-self.digits

    def gamma(self, roundings: npt.ArrayLike) -> FloatArray:
        """Return `n u / (1 - n u)`, the bound on the relative error of n roundings; infinity from `1/u` on."""
        product = np.asarray(roundings, dtype=np.float64) * self.unit
        with np.errstate(divide="ignore"):
            bound: FloatArray = np.where(product < 1.0, product / np.maximum(1.0 - product, 0.0), np.inf)
        return bound

    def error(self, roundings: npt.ArrayLike, magnitude: FloatArray, grid: FloatArray) -> FloatArray:
        """Return the bound on the rounding error of a sum.

        Parameters
        ----------
        roundings : int or array
            Roundings behind one value.
        magnitude : array
            Sum of the absolute values of all terms.
        grid : array
            Exponent g such that all terms are whole multiples of 2^g.
        """
        exact = (grid >= self.least) & (magnitude <= np.exp2(np.minimum(grid + self.digits, self.most)))
        # The oracle's own float64 sums are rounded, too, and tiny results may be flushed.
        rounded = (self.gamma(roundings) + FLOAT64.gamma(roundings)) * magnitude
        flushed = np.asarray(roundings) * 2.0**self.least * (1.0 + magnitude)
        overflown = magnitude >= 2.0**self.most
        bound: FloatArray = np.where(exact | (magnitude == 0.0), 0.0, np.where(overflown, np.inf, rounded + flushed))
        return bound

    def holds(self, values: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which values are numbers of the format."""
        exact: npt.NDArray[np.bool_] = (values == 0.0) | (
            (np.abs(values) <= (2.0 - 2.0 * self.unit) * 2.0**self.most)
            & (np.abs(values) >= 2.0**self.least)
            & (np.frexp(values)[1] - self.digits <= lowest_bit(values))
        )
        return exact


FLOAT64 = Arithmetic("float64", 53, -1022, 1023)
FLOAT32 = Arithmetic("float32", 24, -126, 127)
ARITHMETICS = {arithmetic.name: arithmetic for arithmetic in (FLOAT32, FLOAT64)}


def lowest_bit(values: npt.ArrayLike) -> FloatArray:
    """Return for each value the exponent of its lowest set bit: the largest g with value = whole number * 2^g.

    >>> lowest_bit([1.0, 0.75, 12.0, 0.0])
    array([ 0., -2.,  2., inf])
    """
    fraction, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    # x & -x keeps the lowest bit that is set: a power of two, whose exponent frexp gives without rounding.
    _, trailing = np.frexp((whole & -whole).astype(np.float64))
    return np.where(whole == 0, _ANY, exponent - 53.0 + trailing - 1.0)


def weights_of(operator: Operator) -> FloatArray:
    """Return the weights of one stage of an operator; one for those that only add or move."""
    match operator:
        case Dense() | Sparse():
            return operator.weight
        case Convolution():
            return operator.kernel
        case Scale():
            return operator.factor
        case Select() | SumPool():
            return np.ones(())
        case _:
            raise TypeError(f"the weights of {type(operator).__name__} are not known")


@dataclass(frozen=True, eq=False)
class OpenSum:
    """The terms of a sum, so that more of them can be counted in.

    Attributes
    ----------
    carried : float64 array
        Errors that the terms came with.
    roundings : int or array
    magnitude : float64 array
        Sum of the absolute values of the terms.
    """

    carried: FloatArray
    roundings: Any
    magnitude: FloatArray


@dataclass(frozen=True, eq=False)
class Computed:
    """What a stage gives.

    Attributes
    ----------
    value : float64 array, shape (n, *shape)
        The exact value, in the oracle's float64; for a ceiling, the largest that its absolute value can be.
    error : float64 array that broadcasts to `value`
        How far the computed value may be from it.
    grid : float64 array that broadcasts to `shape`
        Exponents g: the computed values are whole multiples of 2^g. Minus infinity where nothing is known.
    open : OpenSum or None
        What was summed last. A bias or another sum that follows may be added in among its terms: a fused kernel starts
        from the bias, or ends with it.
    """

    value: FloatArray
    error: FloatArray
    grid: FloatArray
    open: OpenSum | None = None

    @property
    def size(self) -> FloatArray:
        """The largest that the computed absolute value can be."""
        size: FloatArray = np.abs(self.value) + self.error
        return size


class Operators:
    """What bounds need of operators again and again: absolute weights, connections, lowest bits."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Operator, Operator, Operator]] = {}
        self._bits: dict[int, tuple[Operator, FloatArray]] = {}

    def absolute(self, operator: Operator) -> Operator:
        """Return the operator with the absolute values of its weights."""
        return self._derived(operator)[1]

    def structure(self, operator: Operator) -> Operator:
        """Return the operator with ones for its non-zero weights."""
        return self._derived(operator)[2]

    def bits(self, operator: Operator) -> FloatArray:
        """Return `lowest_bit` of the operator's weights."""
        if id(operator) not in self._bits:
            # The operator is kept beside what was derived, so that no other object can take its identity.
            self._bits[id(operator)] = (operator, lowest_bit(weights_of(operator)))
        return self._bits[id(operator)][1]

    def _derived(self, operator: Operator) -> tuple[Operator, Operator, Operator]:
        if id(operator) not in self._known:
            self._known[id(operator)] = (operator, operator.absolute(), structure(operator))
        return self._known[id(operator)]


@dataclass
class Evaluation:
    """One evaluation of recorded stages on given signals; results are shared between the stages that need them.

    Parameters
    ----------
    signals : mapping of node name to array, shape (n, *shape)
        What every source sends: bool spikes, and the encoded frames of inputs.
    arithmetic : Arithmetic
    operators : Operators
        What was derived from operators before.
    grids : mapping of input name to array
        Exponents of the grids of analogue inputs, where `signals` do not tell (see `ceiling`).
    ceiling : bool
        Bound all frames at once: signals hold the largest absolute values, n = 1, and `value` bounds magnitudes.
    """

    signals: Signals
    arithmetic: Arithmetic
    operators: Operators
    grids: Mapping[str, FloatArray] = field(default_factory=dict)
    ceiling: bool = False
    _known: dict[int, tuple[Stage, Computed]] = field(default_factory=dict)

    def of(self, stage: Stage) -> Computed:
        """Return what `stage` gives."""
        known = self._known.get(id(stage))
        if known is None:
            # The stage is kept beside its result, so that no other object can take its identity.
            known = self._known[id(stage)] = (stage, stage.evaluate(self))
        return known[1]

    def summed(self, value: FloatArray, terms: OpenSum, grid: FloatArray, *, closed: bool = False) -> Computed:
        """Return the result of a sum: the errors of its terms, and the rounding on top."""
        error = terms.carried + self.arithmetic.error(terms.roundings, terms.magnitude, grid)
        return Computed(terms.magnitude if self.ceiling else value, error, grid, None if closed else terms)


class Stage(ABC):
    """One step of a computation in finite precision."""

    @abstractmethod
    def evaluate(self, at: Evaluation) -> Computed:
        """Return exact values, error bounds and grids."""


@dataclass(frozen=True, eq=False)
class Source(Stage):
    """What an input or a population sends: spikes, or the values of a frame."""

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
    """Single bits b as the two values that the activation gives for them, `shift + scale * b`; nothing is computed.

    Parameters
    ----------
    off : array
        How far Keras's own values may be from these, where they come out of values that were rounded.
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
        return Computed(value, blur + self.off + np.abs(self.scale) * bits.error, np.where(exact, grid, _UNKNOWN))


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
        How many there are on the way, those in making `scale` and `shift` counted.
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
        grid = np.minimum(_times(x.grid, lowest_bit(self.scale)), lowest_bit(self.shift))
        grid = np.where(known, grid, _UNKNOWN)
        terms = OpenSum(np.abs(self.scale) * x.error, self.roundings, magnitude)
        return at.summed(value, terms, grid, closed=True)


@dataclass(frozen=True, eq=False)
class Constant(Stage):
    """Values that are the same in every frame: a bias."""

    values: FloatArray

    def evaluate(self, at: Evaluation) -> Computed:
        exact = at.arithmetic.holds(self.values)
        value = np.abs(self.values) if at.ceiling else self.values
        error = np.where(exact, 0.0, at.arithmetic.unit * np.abs(self.values))
        return Computed(value, error, np.where(exact, lowest_bit(self.values), _UNKNOWN))


@dataclass(frozen=True, eq=False)
class Sum(Stage):
    """The sum of several signals of one shape; the terms of sums among them are added up in any order."""

    parts: tuple[Stage, ...]

    def evaluate(self, at: Evaluation) -> Computed:
        parts = [at.of(part) for part in self.parts]
        terms = [part.open or OpenSum(part.error, 0, part.size) for part in parts]
        together = OpenSum(
            _total([part.carried for part in terms]),
            _total([np.asarray(part.roundings) for part in terms]) + len(terms) - 1,
            _total([part.magnitude for part in terms]),
        )
        return at.summed(_total([part.value for part in parts]), together, _least([part.grid for part in parts]))


@dataclass(frozen=True, eq=False)
class Join(Stage):
    """Signals of one shape no two of which fill the same place: a concatenation. Nothing is rounded."""

    parts: tuple[Stage, ...]

    def evaluate(self, at: Evaluation) -> Computed:
        parts = [at.of(part) for part in self.parts]
        value, error = _total([part.value for part in parts]), _total([part.error for part in parts])
        return Computed(value, error, _least([part.grid for part in parts]))


def biased(of: Stage, bias: FloatArray) -> Stage:
    """Return the stage `of + bias`."""
    return Sum((of, Constant(bias)))


def of_terms(terms: Sequence[tuple[str, Operator | None]]) -> Stage:
    """Return single bits that are only moved about: sources behind index maps or windows of counted bits."""
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
            return Computed(values, 2.0 * at.arithmetic.unit * values, np.asarray(_UNKNOWN))
        if at.arithmetic is FLOAT64:
            return Computed(values, FLOAT64.gamma(8) * np.abs(values), np.asarray(_UNKNOWN))
        shown = values.astype(np.float32).astype(np.float64)
        off = np.abs(values - shown)
        grid = np.where(off == 0.0, lowest_bit(shown), _UNKNOWN).min(axis=0)
        return Computed(values, off + FLOAT64.gamma(8) * np.abs(values) * (off > 0.0), grid)


def loudest(graph: Graph, signals: Signals) -> tuple[dict[str, npt.NDArray[Any]], dict[str, FloatArray]]:
    """Return the largest absolute value of every place of every node, and the grids of analogue inputs.

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


# Stages of operators ----------------------------------------------------------------------------------------------


def _summed(at: Evaluation, operator: Operator, x: Computed) -> Computed:
    """Return `x` behind an operator that multiplies and adds."""
    absolute = at.operators.absolute(operator)
    sizes = np.broadcast_to(x.size, x.value.shape)
    magnitude = absolute.apply(sizes)
    roundings: npt.ArrayLike = operator.terms
    if not at.ceiling and not isinstance(operator, Scale):
        # Zeros add nothing and are added without rounding: only what is there can be rounded.
        roundings = np.minimum(at.operators.structure(operator).apply(sizes != 0.0), operator.terms)
    carried = absolute.apply(np.broadcast_to(x.error, x.value.shape)) if x.error.any() else np.zeros(())
    value = magnitude if at.ceiling else operator.apply(x.value)
    return at.summed(value, OpenSum(carried, roundings, magnitude), _grid_behind(at.operators, operator, x.grid))


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
    return Computed(move(x.value), move_if_any(x.error), np.where(operator.index < 0, _ANY, grid), terms)


def _grid_behind(known: Operators, operator: Operator, grid: FloatArray) -> FloatArray:
    """Return exponents of a grid that holds every term behind an operator, broadcasting to its output's shape."""
    least = np.asarray(grid.min())
    match operator:
        case Dense():
            # Along a vector each input has a grid of its own; behind leading axes they share the finest.
            rows = np.broadcast_to(grid, operator.shape_in)[:, None] if not operator.leading else least
            result: FloatArray = np.min(_times(rows, known.bits(operator)), axis=0)
        case Convolution():
            taps = _times(least, known.bits(operator)).reshape(-1, operator.shape_out[-1])
            result = np.min(taps, axis=0)
        case Scale():
            result = _times(grid, known.bits(operator))
        case Sparse():
            read = np.broadcast_to(grid, operator.shape_in).reshape(-1)[operator.pre]
            result = np.full(operator.size_out, _ANY)
            np.minimum.at(result, operator.post, _times(read, known.bits(operator)))
            result = result.reshape(operator.shape_out)
        case SumPool():
            result = least
        case _:
            result = np.asarray(_UNKNOWN)
    return result


def _times(grid: FloatArray, bits: FloatArray) -> FloatArray:
    """Return the grid of products; that of a product with zero holds everything."""
    with np.errstate(invalid="ignore"):
        return np.where((bits == _ANY) | (grid == _ANY), _ANY, grid + bits)


def _least(arrays: Sequence[FloatArray]) -> FloatArray:
    result = arrays[0]
    for array in arrays[1:]:
        result = np.minimum(result, array)
    return result


def _total(arrays: Sequence[FloatArray]) -> FloatArray:
    result = arrays[0]
    for array in arrays[1:]:
        result = result + array
    return result
