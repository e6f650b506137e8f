"""`Signal`, the symbolic tensor of the lowering: affine in the spikes of the layers before it.

A layer's handler takes signals and gives signals. Linear layers only rewrite the signal; a spiking activation turns
it into a population. Three kinds of value are told apart, because max pooling treats them differently:

* *affine*: `offset + sum_k operators[k](sources[k])`;
* *two-valued*: affine, and known to be `shift + scale * bit` with single bits, which a max pool turns into OR or AND;
* *pooled*: the maximum over windows of an affine signal, waiting for the activation that commutes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from strop.graph import Operator, Scale, Select, compose
from strop.graph.rounding.evaluation import Stage
from strop.graph.rounding.stages import Affine, Join, Linear, Recoded, Sum, biased, of_terms
from strop.lowering.refusal import Refusal

FloatArray = npt.NDArray[np.float64]
Shape = tuple[int, ...]
ZERO = np.zeros(())
ONE = np.ones(())

# Roundings of an elementwise product with a factor, and of the addition of a shift, that Keras computes as such.
PLAIN_ROUNDINGS = 2

# 53 - 24: what a float64 has beyond a float32.
_FACTOR_BITS = 29

# Roundings on the longest way through Keras's batch normalisation, which makes factor and shift in float32:
# `x * (rsqrt(variance + epsilon) * gamma) + (beta - mean * rsqrt(variance + epsilon) * gamma)` (keras 3.15,
# src/backend/tensorflow/nn.py, batch_normalization; tensorflow 2.21, python/ops/nn_impl.py, batch_normalization).
# An addition below the root, a reciprocal root of up to two units in the last place (four roundings), a product with
# gamma, one with the mean, a difference, a product and a sum: nine, and one to spare.
NORMALISATION_ROUNDINGS = 10


@dataclass(frozen=True, eq=False)
class Term:
    """One summand: an operator (None: identity) on the signal of the node `source`."""

    source: str
    operator: Operator | None = None

    def then(self, operator: Operator | None) -> Term:
        """Return the term with one more operator behind it."""
        return Term(self.source, compose(self.operator, operator))


@dataclass(frozen=True, eq=False)
class Levels:
    """The two values of a signal, `shift + scale * bit`; its bits are spikes behind index maps."""

    terms: tuple[Term, ...]
    scale: FloatArray = field(default_factory=lambda: ONE)
    shift: FloatArray = field(default_factory=lambda: ZERO)

    @property
    def plain(self) -> bool:
        """Whether the values are the bits themselves."""
        return bool((self.scale == 1.0).all() and (self.shift == 0.0).all())


@dataclass(frozen=True, eq=False)
class Pooled:
    """The form of a max-pooled signal: `shift + scale * max over windows of base`.

    `windows` maps a frame of the base's shape to the signal's shape, with a weight of one for each member of a window.
    `shift_size`, `roundings` and `plain` are those of `Signal.scaled`.
    """

    base: Signal
    windows: Operator
    scale: FloatArray = field(default_factory=lambda: ONE)
    shift: FloatArray = field(default_factory=lambda: ZERO)
    shift_size: FloatArray = field(default_factory=lambda: ZERO)
    roundings: int = 0
    plain: bool = True


@dataclass(frozen=True, eq=False)
class Signal:
    """A symbolic tensor, without batch axis.

    Attributes
    ----------
    shape : tuple of int
        Channels last, also where Keras sees channels first.
    terms : tuple of Term
    offset : float64 array that broadcasts to `shape`
    computed : Stage or None
        The stages by which Keras computes the tensor in float32; None for single bits behind index maps, and for a
        max-pooled signal before its activation.
    channels_first : bool
        Whether Keras's tensor has its channels on the first axis.
    levels : Levels or None
    pooled : Pooled or None
    integer : bool
        Whether Keras's tensor holds whole numbers or bools, as an input of such a dtype does until a layer casts it.
    wide : bool
        Whether Keras computes nothing of it in less than float64.
    """

    shape: Shape
    terms: tuple[Term, ...]
    offset: FloatArray = field(default_factory=lambda: ZERO)
    computed: Stage | None = None
    channels_first: bool = False
    levels: Levels | None = None
    pooled: Pooled | None = None
    integer: bool = False
    wide: bool = True

    @property
    def stage(self) -> Stage:
        """The stages by which Keras computes the tensor."""
        if self.computed is not None:
            return self.computed
        return of_terms([(term.source, term.operator) for term in self.terms])

    @property
    def keras_shape(self) -> Shape:
        """Shape of a frame of Keras's tensor."""
        return (self.shape[-1], *self.shape[:-1]) if self.channels_first else self.shape

    def axis(self, keras_axis: int) -> int:
        """Return the axis of `shape` that an axis of Keras's tensor (batch axis counted) stands for."""
        rank = len(self.shape)
        axis = keras_axis - 1 if keras_axis > 0 else keras_axis + rank
        if not 0 <= axis < rank:
            raise Refusal(f"axis {keras_axis} does not exist in frames of shape {self.keras_shape}")
        return (axis - 1) % rank if self.channels_first else axis

    def linear(self, operator: Operator) -> Signal:
        """Return the signal behind a linear operator that does more than move values about."""
        if self.pooled is not None:
            raise Refusal(
                "its input was max-pooled before any activation, and a maximum of values that are not spikes "
                "cannot be carried over",
                "put the spiking activation before or right behind the pooling",
            )
        return replace(
            self,
            shape=operator.shape_out,
            terms=tuple(term.then(operator) for term in self.terms),
            offset=_mapped(operator, self.offset),
            computed=Linear(self.stage, operator),
            levels=None,
        )

    def select(self, operator: Select) -> Signal:
        """Return the signal behind an index map, which keeps its kind."""
        if operator.shape_in == operator.shape_out and operator.is_reshape:
            return self

        levels, pooled = self.levels, self.pooled
        padded = bool((operator.index < 0).any())
        if levels is not None:
            terms = tuple(term.then(operator) for term in levels.terms)
            scale, shift = _mapped(operator, levels.scale), _mapped(operator, levels.shift)
            # A zero that is padded to bits is a bit.
            levels = Levels(terms) if levels.plain else Levels(terms, scale, shift)
        if pooled is not None:
            if padded:
                raise Refusal(
                    "it pads values that were max-pooled before any activation",
                    "put the spiking activation before the pooling",
                )
            windows = compose(pooled.windows, operator)
            assert windows is not None
            pooled = replace(
                pooled,
                windows=windows,
                scale=_mapped(operator, pooled.scale),
                shift=_mapped(operator, pooled.shift),
                shift_size=_mapped(operator, pooled.shift_size),
            )
        return replace(
            self,
            shape=operator.shape_out,
            terms=tuple(term.then(operator) for term in self.terms),
            offset=_mapped(operator, self.offset),
            computed=None if self.computed is None else Linear(self.computed, operator),
            levels=levels,
            pooled=pooled,
        )

    def scaled(
        self,
        scale: FloatArray,
        shift: FloatArray = ZERO,
        shift_size: FloatArray | None = None,
        *,
        roundings: int = PLAIN_ROUNDINGS,
        plain: bool = True,
    ) -> Signal:
        """Return `scale * self + shift`, elementwise, which Keras computes in float32.

        Parameters
        ----------
        scale, shift : arrays that broadcast to the signal's shape
        shift_size : array, optional
            Sum of the absolute values that `shift` is added up from; by default its own.
        roundings : int
            Number of roundings in Keras, including those of computing `scale` and `shift`.
        plain : bool
            Whether Keras multiplies by `scale` and adds `shift` as they stand here.
        """
        scale = coarse(scale)
        size = np.abs(shift) if shift_size is None else shift_size
        if self.pooled is not None:
            pooled = replace(
                self.pooled,
                scale=self.pooled.scale * scale,
                shift=self.pooled.shift * scale + shift,
                shift_size=self.pooled.shift_size * np.abs(scale) + size,
                roundings=self.pooled.roundings + roundings,
                plain=plain and _is_one(self.pooled.scale) and not self.pooled.shift.any(),
            )
            return replace(self, pooled=pooled)
        return replace(self._rescaled(scale, shift), computed=Affine(self.stage, scale, shift, size, roundings, plain))

    def recoded(self, scale: FloatArray, shift: FloatArray = ZERO, off: FloatArray = ZERO) -> Signal:
        """Return single bits as the two values `scale * bit + shift` that Keras has for them.

        A change of variable, not a computation: nothing is rounded. `off` is how far Keras's values may be from these.
        """
        return replace(self._rescaled(scale, shift), computed=Recoded(self.stage, scale, shift, off))

    def _rescaled(self, scale: FloatArray, shift: FloatArray) -> Signal:
        levels, operator = self.levels, Scale(self.shape, scale)
        if levels is not None:
            levels = Levels(levels.terms, levels.scale * scale, levels.shift * scale + shift)
        return replace(
            self,
            terms=tuple(term.then(operator) for term in self.terms),
            offset=self.offset * scale + shift,
            levels=levels,
        )

    def biased(self, bias: FloatArray) -> Signal:
        """Return `self + bias`."""
        if not bias.any():
            return self
        return replace(
            self,
            offset=self.offset + bias,
            computed=biased(self.stage, bias),
            levels=None,
        )

    def in_keras_order(self) -> Signal:
        """Return the signal with its axes as Keras has them, channels-first tensors permuted."""
        if not self.channels_first:
            return self
        rank = len(self.shape)
        return replace(self.select(permutation(self.shape, (rank - 1, *range(rank - 1)))), channels_first=False)

    def in_channels_last(self) -> Signal:
        """Return the signal, whose Keras tensor a layer reads as channels first, with its channels on the last axis."""
        if self.channels_first:
            return self
        order = (*range(1, len(self.shape)), 0)
        return replace(self.select(permutation(self.shape, order)), channels_first=True)


def _mapped(operator: Operator, values: FloatArray) -> FloatArray:
    """Apply an operator to one frame of values that broadcast to its input."""
    if not values.any():
        return ZERO
    mapped: FloatArray = operator.apply(np.broadcast_to(values, operator.shape_in)[None])[0]
    return mapped


def coarse(factors: FloatArray) -> FloatArray:
    """Return factors with 29 significant bits, so that a product with a float32 weight is a float64, unrounded.

    Where float32 sums the weights exactly, the oracle then sums the products exactly: a sum of whole numbers that is 0
    stays 0 behind a normalisation, and meets a threshold of 0 as in Keras. A float32 factor stays as it is; another is
    off by 2^-30 at most, which the bound counts (`Affine`).
    """
    fraction, exponent = np.frexp(factors)
    rounded: FloatArray = np.ldexp(np.rint(fraction * 2.0**_FACTOR_BITS), exponent - _FACTOR_BITS)
    return rounded


def flat_index(shape: Shape) -> npt.NDArray[np.int64]:
    """Return the flat index of every value of a frame."""
    return np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape)


def permutation(shape: Shape, order: Sequence[int]) -> Select:
    """Return the index map that transposes frames of `shape`."""
    return Select(shape, flat_index(shape).transpose(order))


def rearrange(signal: Signal, change: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]) -> Signal:
    """Return the signal after an index map, given by what it does to the array of flat indices (-1: zero)."""
    return signal.select(Select(signal.shape, change(flat_index(signal.shape))))


def total(signals: Sequence[Signal]) -> Signal:
    """Return the sum of signals of one shape."""
    return _together(signals, Sum(tuple(signal.stage for signal in signals)))


def disjoint(signals: Sequence[Signal]) -> Signal:
    """Return the sum of signals of one shape no two of which fill the same place: nothing is added up."""
    return _together(signals, Join(tuple(signal.stage for signal in signals)))


def _together(signals: Sequence[Signal], computed: Stage) -> Signal:
    first = signals[0]
    return Signal(
        shape=first.shape,
        terms=tuple(term for signal in signals for term in signal.terms),
        offset=sum((signal.offset for signal in signals), start=ZERO),
        computed=computed,
        channels_first=first.channels_first,
    )


def _is_one(values: FloatArray) -> bool:
    return bool((values == 1.0).all())
