"""What a floating-point target adds up besides weights: whether bias, lift and threshold leave every sum exact.

A target that computes in floating point starts from the bias, or adds it last. Where everything that it adds up is a
whole number times one power of two `2^e`, and all of it together needs no more digits than its numbers have, no order
of additions rounds. So the bias counts among the weights here; and so does the lift, where a target raises thresholds
that are not positive by a constant which every step brings as input.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from strop.graph import Population
from strop.quantization.integers import MOST_BITS, NO_GRID, PopulationSums
from strop.running.arithmetic import Arithmetic

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FloatingSums:
    """How the sums of a population lie in a floating-point target.

    Attributes
    ----------
    exact : bool array, shape (neurons,)
        Where no sum of weights, bias and lift is rounded.
    held : bool array, shape (neurons,)
        Where the threshold, raised by its lift, is a number of the target.
    lift : int64 array, shape (neurons,)
        What thresholds are raised by, in units of each neuron's grid, rounded up; 0 without lift.
    """

    exact: BoolArray
    held: BoolArray
    lift: IntArray


def lift_of(threshold: float, arithmetic: Arithmetic) -> float:
    """Return what a threshold is raised by: the power of two above its magnitude where it is not positive."""
    if arithmetic.lift is None or threshold > 0.0:
        return 0.0
    return arithmetic.lift if threshold == 0.0 else 2.0 ** int(np.frexp(threshold)[1])


def floating_sums(population: Population, sums: PopulationSums, arithmetic: Arithmetic) -> FloatingSums:
    """Return how the sums of a population, in units of the target's grid, lie in its floating-point numbers."""
    grids = np.where(sums.exponent == NO_GRID, 0, sums.exponent).astype(np.float64)
    keys = np.stack([population.threshold.reshape(-1), population.bias.reshape(-1), grids])
    # Few are different: Python's whole numbers hold them all.
    unique, where = np.unique(keys, axis=1, return_inverse=True)
    rows = [_place(float(threshold), float(bias), int(grid), arithmetic) for threshold, bias, grid in unique.T]
    shift, besides, limit, held, lift = (np.array(column)[where.reshape(-1)] for column in zip(*rows, strict=True))
    largest = np.maximum(sums.positive, sums.negative)
    fits = (limit > 0) & (np.frexp(largest.astype(np.float64))[1] + shift <= MOST_BITS)
    total = (largest << np.where(fits, shift, 0)) + besides
    return FloatingSums(fits & (total < np.left_shift(1, limit)), held, lift)


def _place(threshold: float, bias: float, grid: int, arithmetic: Arithmetic) -> tuple[int, int, int, bool, int]:
    """Return of one neuron: powers of two from its grid to the common unit, bias and lift in that unit, the bits that
    all of it may take (0 where nothing fits), whether its threshold is held, and its lift in units of the grid."""
    assert arithmetic.digits is not None
    assert arithmetic.exponents is not None
    low, high = arithmetic.exponents
    lift = lift_of(threshold, arithmetic)
    raised = Fraction(threshold) + Fraction(lift)
    added = [Fraction(bias), Fraction(lift), raised] if lift else [Fraction(bias)]
    unit = min([grid, *(_lowest(value) for value in added if value)])
    besides = int((abs(Fraction(bias)) + Fraction(lift)) / Fraction(2) ** unit)
    limit = min(arithmetic.digits, high - unit)
    held = raised == 0 or (
        abs(raised) < Fraction(2) ** high and _lowest(raised) >= low and _digits(raised) <= arithmetic.digits
    )
    units = -int(-Fraction(lift) / Fraction(2) ** grid // 1)
    sound = unit >= low and limit > 0 and besides < 1 << MOST_BITS and units < 1 << MOST_BITS
    return (grid - unit, besides, limit, held, units) if sound else (0, 0, 0, held, min(units, 1 << MOST_BITS))


def _lowest(value: Fraction) -> int:
    """Return the exponent of the lowest bit of a number that is not 0."""
    number = abs(value.numerator)
    return (number & -number).bit_length() - value.denominator.bit_length()


def _digits(value: Fraction) -> int:
    """Return how many binary digits a number takes that is not 0."""
    number = abs(value.numerator)
    return (number // (number & -number)).bit_length()
