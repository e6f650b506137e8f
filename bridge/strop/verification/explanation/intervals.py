"""Where a threshold must lie for what was observed: cuts through values of which some fired and others did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """Values fire from some limit on, which lies in `(low, high]`.

    Attributes
    ----------
    low, high : float
        May be infinite: nothing below fired otherwise, or nothing above.
    left : int
        Values that this limit does not explain.
    """

    low: float
    high: float
    left: int

    def holds(self, value: float) -> bool:
        """Whether the limit may be this value."""
        return self.low < value <= self.high

    @property
    def middle(self) -> float:
        """A value of the interval; of one that is open on a side, its other end."""
        if np.isinf(self.low) and np.isinf(self.high):
            return 0.0
        if np.isinf(self.low) or np.isinf(self.high):
            return self.high if np.isinf(self.low) else self.low
        return (self.low + self.high) / 2.0

    def text(self) -> str:
        """Return the interval in words: "between 0.5 and 0.75", "above 3"."""
        return between(self.low, self.high)


def between(low: float, high: float) -> str:
    """Return an interval in words."""
    if np.isinf(low) and np.isinf(high):
        return "any"
    if np.isinf(high):
        return f"above {number(low)}"
    if np.isinf(low):
        return f"at most {number(high)}"
    for digits in (3, 5, 8):
        first, last = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if first != last:
            return f"between {first} and {last}"
    return f"about {low:.8g}"


def number(value: float) -> str:
    """Return a number with four digits: 0.25, -1.734, 3e-05."""
    return f"{value:.4g}"


def best_cut(values: npt.NDArray[Any], fired: Bools) -> Cut:
    """Return the limit from which on values fire, such that it leaves the fewest unexplained.

    Parameters
    ----------
    values : float array, shape (k,)
    fired : bool array, shape (k,)
    """
    order = np.argsort(values, kind="stable")
    ordered, hit = values[order], fired[order]
    below = np.concatenate([[0], np.cumsum(hit)])  # fired though below the limit, if it stands before place k
    above = int(np.count_nonzero(~hit)) - np.concatenate([[0], np.cumsum(~hit)])
    wrong = below + above
    possible = np.ones(len(wrong), dtype=bool)
    possible[1:-1] = ordered[1:] > ordered[:-1]
    wrong = np.where(possible, wrong, len(values) + 1)
    place = int(np.argmin(wrong))
    low = -np.inf if place == 0 else float(ordered[place - 1])
    high = np.inf if place == len(ordered) else float(ordered[place])
    return Cut(low, high, int(wrong[place]))


def factor_cut(terms: Floats, limits: Floats, fired: Bools) -> Cut:
    """Return the factor c, in `[-high, -low)`, with which `c * terms >= limits` says best what fired.

    The result's interval is that of c itself, both ends included where they are finite.

    Parameters
    ----------
    terms, limits : float arrays, shape (k,)
    fired : bool array, shape (k,)
    """
    moved = terms != 0.0
    constant = int(np.count_nonzero((limits[~moved] <= 0.0) != fired[~moved]))
    terms, limits, fired = terms[moved], limits[moved], fired[moved]
    if not len(terms):
        return Cut(-np.inf, np.inf, constant)
    # c t >= l: with t > 0, c >= l / t; with t < 0, c <= l / t, which is "not" of c > l / t.
    quotients, up = limits / terms, terms > 0.0
    # It fires iff quotient <= c (up); so -quotient >= -c.
    found = best_cut(-quotients, fired == up)
    return Cut(-found.high, -found.low, found.left + constant)


def limits_by_column(values: Floats, fired: Bools, counted: Bools) -> tuple[Floats, Floats]:
    """Return, for each column, the largest value that did not fire and the smallest that did.

    Where the first is below the second, some limit between them explains the whole column.

    Parameters
    ----------
    values, fired, counted : arrays, shape (n, m)
        `counted` are those that rounding cannot decide otherwise.
    """
    low = np.where(counted & ~fired, values, -np.inf).max(axis=0)
    high = np.where(counted & fired, values, np.inf).min(axis=0)
    return low, high
