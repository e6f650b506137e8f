"""Floating-point formats float32 and float64: error bound of a rounded sum, and the condition for exact sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# The exponent of zero's lowest bit: zero is a multiple of everything.
ANY_GRID = np.inf


@dataclass(frozen=True)
class FloatFormat:
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


FLOAT64 = FloatFormat("float64", 53, -1022, 1023)
FLOAT32 = FloatFormat("float32", 24, -126, 127)
FORMATS = {known.name: known for known in (FLOAT32, FLOAT64)}


def lowest_bit(values: npt.ArrayLike) -> FloatArray:
    """Return for each value the exponent of its lowest set bit: the largest g with value = whole number * 2^g.

    >>> lowest_bit([1.0, 0.75, 12.0, 0.0])
    array([ 0., -2.,  2., inf])
    """
    fraction, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    # x & -x keeps the lowest bit that is set: a power of two, whose exponent frexp gives without rounding.
    _, trailing = np.frexp((whole & -whole).astype(np.float64))
    return np.where(whole == 0, ANY_GRID, exponent - 53.0 + trailing - 1.0)
