"""Hypotheses about neurons that remember: potentials that are not cleared, or only in part, and pauses after spikes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from strop.verification.explanation.case import Bools, Case, Floats, Guess

# Shares of a potential that may be left after a step, and what a spike leaves of it.
_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_NOTHING, _EXCESS, _ALL = "nothing", "what is beyond the threshold", "all"
_MOST_PAUSE = 3


def refractory(case: Case) -> Iterator[Guess]:
    """Neurons that fired do not fire in the next frames.

    Tested on the frames whose predecessors were kept.
    """
    if not case.simple:
        return
    paused: Bools = np.zeros(case.observed.shape, dtype=bool)
    known: Bools = np.ones(case.frames, dtype=bool)
    for pause in range(1, _MOST_PAUSE + 1):
        before = case.earlier(pause)
        known &= before >= 0
        paused |= (before >= 0)[:, None] & case.observed[np.maximum(before, 0)]
        rows = np.flatnonzero(known)
        if not len(rows) or not case.faults(rows):
            return
        span = "the next" if pause == 1 else f"the next {pause}"
        sentence = f"neurons that fired in one frame do not fire in {span}: they are refractory for more than a step"
        yield case.guess("memory", sentence, 4.0 + pause, (case.expected & ~paused)[rows], rows)


def remembers(case: Case) -> Iterator[Guess]:
    """Potentials are not cleared: what is left of one frame is added to the next.

    It is known from the first spike on (which clears it), or from the first frame of a run. Tested on the frames and
    neurons for which it is known.
    """
    if case.simple:
        yield from _kept(case, case.potential - case.bias, 1.0, _NOTHING, 5.0)


def leaks(case: Case) -> Iterator[Guess]:
    """A share of the potential is left, or a spike clears it only in part; the bias among what is left, or not."""
    if not case.simple:
        return
    for drive in (case.potential - case.bias, case.potential)[: 2 if case.bias.any() else 1]:
        for share in _SHARES:
            for after in (_NOTHING, _EXCESS, _ALL):
                yield from _kept(case, drive, share, after, 9.0)


def _kept(case: Case, drive: Floats, share: float, after: str, bits: float) -> Iterator[Guess]:
    before, starts = case.earlier(1), case.sample.starts
    kept = np.full(case.potential.shape, np.nan)
    for row in range(case.frames):
        last = before[row]
        if starts[row]:
            kept[row] = 0.0
        elif last >= 0:
            left = kept[last] + drive[last]
            fired = {_NOTHING: 0.0, _EXCESS: left - case.threshold, _ALL: left}[after]
            kept[row] = share * np.where(case.observed[last], fired, left)
    known = ~np.isnan(kept)
    faults = int(np.count_nonzero(case.bad & known))
    if not faults:
        return
    predicted = case.potential + np.where(known, kept, 0.0) >= case.threshold
    left_over = int(np.count_nonzero((predicted != case.observed) & known & case.counted))
    part = "what" if share == 1.0 else f"about {100.0 * share:.0f} % of what"
    spike = "" if after == _NOTHING else f"; a spike leaves {after}"
    sentence = f"potentials are not cleared: {part} is left of one frame adds to the next{spike}"
    yield Guess("memory", sentence, bits, left_over, faults)


HYPOTHESES = (refractory, remembers)
# Many simulations of a layer, made only where nothing else explains the faults.
SEARCHES = (leaks,)
