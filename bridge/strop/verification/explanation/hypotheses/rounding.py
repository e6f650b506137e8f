"""Hypotheses about arithmetic: sums in float32, or with weights of a few bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from strop.running.oracle import gamma, magnitude, terms
from strop.verification.explanation.case import Case, Guess
from strop.verification.explanation.intervals import number

# Number formats by their unit roundoff. Of those with few bits each weight is taken as rounded once, the sums not.
_FLOAT32 = 2.0**-24
_COARSE = (("half precision (float16)", 2.0**-11), ("bfloat16, or 8 bits", 2.0**-8))


def float32_sums(case: Case) -> Iterator[Guess]:
    """Faults lie only where the margin is smaller than float32 can resolve: order of summation, or precision."""
    sizes = _sizes(case)
    if sizes is None:
        return
    margin, size = sizes
    bound = 4.0 * gamma(terms(case.graph, case.core) + 2, _FLOAT32) * size
    beyond = int(np.count_nonzero(margin > bound))
    sentence = (
        f"faults lie only where the potential is within float32 rounding of its threshold (margins up to "
        f"{number(float(margin.max()))}): sums in float32, or in another order"
    )
    yield case.counted_guess("rounding", sentence, 3.0, beyond)


def coarse_weights(case: Case) -> Iterator[Guess]:
    """Faults lie only where the margin is small against the sum: weights that are rounded to a few bits.

    Both kinds of fault must occur: a level that is off gives but one.
    """
    sizes = _sizes(case)
    spikes = case.observed[case.bad]
    if sizes is None or spikes.all() or not spikes.any():
        return
    margin, size = sizes
    for name, unit in _COARSE:
        beyond = int(np.count_nonzero(margin > 2.0 * unit * size))
        sentence = (
            f"faults lie only where the potential is close to its threshold (margins up to "
            f"{number(float(margin.max()))}): weights rounded to {name}"
        )
        yield case.counted_guess("rounding", sentence, 16.0, beyond)


def _sizes(case: Case) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the margins of all faults, and the sizes of what was summed there."""
    if not case.simple:
        return None
    rows = case.bad_rows
    own = {source: values[rows] for source, values in case.sent.items()}
    size = case.flat(magnitude(case.graph, case.core, own)) + np.abs(case.bias) + np.abs(case.threshold)
    bad = case.bad[rows]
    margin = np.abs(case.potential[rows] - case.threshold)[bad]
    if (margin == 0.0).all():
        return None
    return margin, np.broadcast_to(size, bad.shape)[bad]


HYPOTHESES = (float32_sums, coarse_weights)
