"""Evaluation of recorded computation stages on real spikes: exact values, error bounds, and grids of the values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Operator, structure
from strop.graph.rounding.formats import FloatArray, FloatFormat, lowest_bit
from strop.graph.stage_weights import stage_weights

Signals = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class OpenSum:
    """The terms of a sum to which more terms may be added.

    Attributes
    ----------
    carried : float64 array
        Errors of the terms themselves.
    roundings : int or array
    magnitude : float64 array
        Sum of the absolute values of the terms.
    """

    carried: FloatArray
    roundings: Any
    magnitude: FloatArray


@dataclass(frozen=True, eq=False)
class Computed:
    """The result of a stage: exact value, error bound and grid.

    Attributes
    ----------
    value : float64 array, shape (n, *shape)
        The exact value, in the oracle's float64; for a ceiling, the largest that its absolute value can be.
    error : float64 array that broadcasts to `value`
        How far the computed value may be from it.
    grid : float64 array that broadcasts to `shape`
        Exponents g: the computed values are whole multiples of 2^g. Minus infinity where nothing is known.
    open : OpenSum or None
        The last sum. A bias or another sum that follows may be added among its terms: a fused kernel starts from the
        bias, or ends with it.
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
    """Cache of what bounds need of operators: absolute weights, connections, lowest bits."""

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
            self._bits[id(operator)] = (operator, lowest_bit(stage_weights(operator)))
        return self._bits[id(operator)][1]

    def _derived(self, operator: Operator) -> tuple[Operator, Operator, Operator]:
        if id(operator) not in self._known:
            self._known[id(operator)] = (operator, operator.absolute(), structure(operator))
        return self._known[id(operator)]


@dataclass
class Evaluation:
    """One evaluation of recorded stages on some signals; results are shared between the stages that need them.

    Parameters
    ----------
    signals : mapping of node name to array, shape (n, *shape)
        Signals of every source: bool spikes, and the encoded frames of inputs.
    arithmetic : FloatFormat
    operators : Operators
        Cache shared between evaluations.
    grids : mapping of input name to array
        Exponents of the grids of analogue inputs, where `signals` do not tell (see `ceiling`).
    ceiling : bool
        Bound all frames at once: signals hold the largest absolute values, n = 1, and `value` bounds magnitudes.
    """

    signals: Signals
    arithmetic: FloatFormat
    operators: Operators
    grids: Mapping[str, FloatArray] = field(default_factory=dict)
    ceiling: bool = False
    _known: dict[int, tuple[Stage, Computed]] = field(default_factory=dict)

    def of(self, stage: Stage) -> Computed:
        """Return the result of `stage`."""
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
