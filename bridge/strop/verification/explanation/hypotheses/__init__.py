"""Hypotheses about a layer at fault, in the order in which they are tried; each says in its docstring what it tests.

A hypothesis is a function that takes a `Case` and yields `Guess`es: what would be wrong, and how many of the faults
that explains. `strop.verification.explanation.diagnose` takes the guess that says most with least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from strop.verification.explanation.case import Case, Guess
from strop.verification.explanation.hypotheses import (
    inputs,
    leftovers,
    levels,
    memory,
    order,
    rounding,
    silence,
    sources,
    timing,
    weights,
    windows,
)

Hypothesis = Callable[[Case], Iterator[Guess]]

HYPOTHESES: tuple[Hypothesis, ...] = (
    *levels.HYPOTHESES,
    *rounding.HYPOTHESES,
    *silence.HYPOTHESES,
    *timing.HYPOTHESES,
    *memory.HYPOTHESES,
    *weights.HYPOTHESES,
    *inputs.HYPOTHESES,
    *order.HYPOTHESES,
    *windows.HYPOTHESES,
    *sources.HYPOTHESES,
    *leftovers.HYPOTHESES,
)
# Tried only where none of these explains the faults.
SEARCHES: tuple[Hypothesis, ...] = (
    *inputs.SEARCHES,
    *windows.SEARCHES,
    *sources.SEARCHES,
    *order.SEARCHES,
    *rounding.SEARCHES,
    *memory.SEARCHES,
)
