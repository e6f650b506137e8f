"""What can be said where nothing explains the faults: single spikes, spikes lost at random, noise, other weights."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

import numpy as np

from strop.verification.explanation.case import Bools, Case, Guess
from strop.verification.explanation.places import describe, neuron_text

# Up to so many faults are called by name.
_FEW = 4
# Of more than this share something is left, not lost; and so many faults show whether they have a rule.
_MOST_LOST, _ENOUGH = 0.6, 20


def single_spikes(case: Case) -> Iterator[Guess]:
    """Every fault by itself: this neuron in this frame. Explains all, at the price of naming each."""
    places = np.argwhere(case.bad)
    if len(places) > _FEW:
        return
    names = [
        f"{neuron_text(int(neuron), case.shape)} in frame {int(case.sample.frames[row])}" for row, neuron in places
    ]
    what = "a single spike is" if len(places) == 1 else f"{len(places)} spikes are"
    sentence = f"{what} flipped: {', '.join(names)}; nothing else differs, and no rule is to be seen"
    yield case.counted_guess("isolated", sentence, 1.0 + len(places) * case.bits_of_one, 0)


def lost_spikes(case: Case) -> Iterator[Guess]:
    """Spikes are lost (or added) here and there, in one direction only and without a rule."""
    spikes = case.observed[case.bad]
    if len(spikes) <= _FEW or len(case.bad_neurons) < 3 or (spikes.any() and not spikes.all()):
        return
    extra = bool(spikes.all())
    possible = int(np.count_nonzero((~case.expected if extra else case.expected) & case.counted))
    share = len(spikes) / possible
    if share > _MOST_LOST or _near_thresholds(case, ~case.expected if extra else case.expected):
        return
    entropy = -(share * log2(share) + (1 - share) * log2(1 - share))
    where, _ = describe(case.bad_neurons, case.shape)
    if extra:
        sentence = f"spikes are added without a rule, {100 * share:.2g} % of the silent places, in {where}"
    else:
        sentence = f"spikes are lost without a rule: {100 * share:.2g} % of this layer's, in {where}; none is too many"
    yield case.counted_guess("lost spikes", sentence, 3.0 + possible * entropy, 0)


def _near_thresholds(case: Case, possible: Bools) -> bool:
    """Whether faults have smaller margins than other spikes, or larger ones: then there is a rule, known or not."""
    margin = np.abs(case.margin if case.margin is not None else np.zeros(case.bad.shape))
    bad, others = margin[case.bad], margin[possible & case.counted & ~case.bad]
    if len(bad) < _ENOUGH or len(others) < _ENOUGH:
        return False
    others = np.sort(others)
    # The share of pairs in which the fault has the larger margin (the statistic of Mann and Whitney).
    share = (np.searchsorted(others, bad, "left") + np.searchsorted(others, bad, "right")).mean() / (2.0 * len(others))
    return bool(abs(share - 0.5) > 0.2)


def noise(case: Case) -> bool:
    """Whether frames with the same input gave different spikes: then no change of weights explains them."""
    sent = np.concatenate([case.flat(case.sent[p.source]).astype(np.float64) for p in case.projections], axis=1)
    seen: dict[bytes, bytes] = {}
    for row in range(case.frames):
        answer = (case.observed[row] & case.counted[row]).tobytes()
        if seen.setdefault(sent[row].tobytes(), answer) != answer:
            return True
    return False


def unexplained(case: Case) -> Guess:
    """Return what is left to say: noise, or weights that differ in many places."""
    where, _ = describe(case.bad_neurons, case.shape)
    arrows = ", ".join(f"{p.source} -> {p.target}" for p in case.projections)
    if noise(case):
        sentence = f"no rule is to be seen in {where}; the same input gave different spikes: noise, or a memory"
        return case.counted_guess("unknown", sentence, 0.0, case.faults())
    sentence = (
        f"the weights of {arrows} into {where} differ in more than one place, or its sums are noisy, or a rule that is "
        "not known"
    )
    return case.counted_guess("weights", sentence, 0.0, case.faults())


HYPOTHESES = (single_spikes, lost_spikes)
