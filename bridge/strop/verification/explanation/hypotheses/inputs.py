"""Hypotheses about frames that enter the network otherwise: inverted, in another range, binarised, in few levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log2

import numpy as np

from strop.graph import Projection
from strop.verification.explanation.case import Array, Case, Guess
from strop.verification.explanation.hypotheses.arrangements import node_of
from strop.verification.explanation.intervals import between, factor_cut

_MOST_BITS = 7


def other_frames(case: Case) -> Iterator[Guess]:
    """The frames of an input are inverted, lie in another range, are binarised, or have few levels."""
    for place, p, greatest in _inputs(case):
        for words, bits, change in _changes(255.0 if greatest > 1.0 else 1.0):
            sentence = f"the frames of {p.source} {words}"
            guess = case.try_potentials("input", sentence, bits, case.other_signal(place, change))
            if guess is not None:
                yield guess


def _inputs(case: Case) -> Iterator[tuple[int, Projection, float]]:
    """Yield projections from inputs whose frames arrive as values: place, projection, and the largest value."""
    for place, p in enumerate(case.projections):
        node = node_of(case.graph, p.source)
        if node is not None and node.encoding != "bitplane":
            yield place, p, float(np.abs(case.sent[p.source]).max(initial=0.0))


def _changes(top: float) -> Iterator[tuple[str, float, Callable[[Array], Array]]]:
    yield f"are inverted ({top:g} - x)", 4.0, lambda x: top - x
    yield f"lie between {-top:g} and {top:g} (2 x - {top:g})", 5.0, lambda x: 2.0 * x - top
    yield f"are taken for values between {-top:g} and {top:g} ((x + {top:g}) / 2)", 5.0, lambda x: (x + top) / 2.0
    yield "are binarised at the half", 4.0, lambda x: np.where(x >= top / 2.0, top, 0.0)
    yield "are rounded down to whole numbers", 5.0, np.floor
    for bits in range(2, _MOST_BITS + 1):
        steps = 2.0**bits - 1.0
        words = f"are rounded to {bits} bits"
        yield words, 5.0 + bits, lambda x, steps=steps: np.round(x / top * steps) / steps * top  # type: ignore[misc]
        words = f"are cut down to {bits} bits"
        yield words, 5.0 + bits, lambda x, bits=bits: np.floor(x / top * 2.0**bits) / 2.0**bits * top  # type: ignore[misc]


def limited_frames(case: Case) -> Iterator[Guess]:
    """Large values of an input are cut off, or small ones are zero."""
    for place, p, top in _inputs(case):
        for limit in top * np.linspace(0.05, 0.95, 19):
            for words, change in (
                ("are cut off at about", lambda x, limit=limit: np.minimum(x, limit)),
                ("are zero below about", lambda x, limit=limit: np.where(x < limit, 0.0, x)),
            ):
                sentence = f"the frames of {p.source} {words} {limit:.3g}"
                guess = case.try_potentials("input", sentence, 9.0, case.other_signal(place, change))
                if guess is not None:
                    yield guess


def shifted_frames(case: Case) -> Iterator[Guess]:
    """The same is added to every value of an input."""
    if not case.simple:
        return
    for p in case.projections:
        node = node_of(case.graph, p.source)
        if node is None or node.encoding not in ("host", "current"):
            continue
        felt = case.flat(p.operator.apply(np.ones((1, *p.operator.shape_in))))
        below = case.threshold - case.potential
        found = factor_cut(
            np.broadcast_to(felt, below.shape)[case.counted], below[case.counted], case.observed[case.counted]
        )
        width = max(found.high - found.low, 1e-9)
        precision = log2(4.0 / width) if np.isfinite(width) else 1.0
        sentence = f"to every value of {p.source} is added {between(found.low, found.high)}"
        yield case.counted_guess("input", sentence, 5.0 + float(np.clip(precision, 1.0, 10.0)), found.left)


HYPOTHESES = (other_frames, shifted_frames)
SEARCHES = (limited_frames,)
