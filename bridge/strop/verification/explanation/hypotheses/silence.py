"""Hypotheses about neurons that never fire, always, or where they should not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from strop.verification.explanation.case import Bools, Case, Guess
from strop.verification.explanation.places import describe


def silent(case: Case) -> Iterator[Guess]:
    """The faulty neurons never fire: a dead population, a dead channel, a dead neuron."""
    yield from _constant(case, fired=False)


def stuck(case: Case) -> Iterator[Guess]:
    """The faulty neurons fire in every frame."""
    yield from _constant(case, fired=True)


def _constant(case: Case, *, fired: bool) -> Iterator[Guess]:
    constant: Bools = np.all(case.observed == fired, axis=0)
    chosen = np.flatnonzero(constant & case.bad.any(axis=0))
    if not len(chosen):
        return
    # Neurons that could not be told from such ones belong to them: a dead channel is dead as a whole.
    whole = constant.all()
    neurons = np.arange(case.observed.shape[1]) if whole else _rounded_up(case, constant, chosen)
    left = case.faults() - int(np.count_nonzero(case.bad[:, neurons]))
    where, bits = describe(neurons, case.shape)
    own = int(np.count_nonzero(case.bad[:, neurons]))
    if fired:
        verb = "fires" if len(neurons) == 1 else "fire"
        sentence = f"{where} {verb} in every frame: a threshold that is always reached, or a bias too large"
        yield case.counted_guess("stuck", sentence, bits + 1.5, left)
        return
    if whole:
        arrows = ", ".join(f"{p.source} -> {p.target}" for p in case.projections)
        number = f"none of its {case.observed.shape[1]:,} neurons fires in any frame"
        by_bias = bool((case.bias >= case.threshold).any()) and case.simple
        why = "" if by_bias else f": no input arrives ({arrows} missing?), or no threshold is within reach"
        sentence = f"the whole population is dead, {number}{why}"
    elif len(neurons) == 1:
        sentence = f"{where} never fires, where it should {own} times: it is dead"
    else:
        sentence = f"{where} never fire, where they should {own} times: they are dead"
    yield case.counted_guess("silent", sentence, bits + 1.5, left)


def _rounded_up(case: Case, constant: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the neurons with faults, or their whole channel where all of it is constant."""
    channels = case.shape[-1]
    if len(case.shape) > 1:
        own = np.unique(chosen % channels)
        members = np.flatnonzero(np.isin(np.arange(len(constant)) % channels, own))
        if constant[members].all():
            return members
    return chosen


def inverted(case: Case) -> Iterator[Guess]:
    """Neurons fire exactly where they should not: their spikes are read the wrong way round."""
    concerned = case.bad.sum(axis=0) > 0.9 * np.maximum(case.counted.sum(axis=0), 1)
    chosen = np.flatnonzero(concerned)
    if not len(chosen):
        return
    where, bits = describe(chosen, case.shape)
    verb = "fires exactly where it" if len(chosen) == 1 else "fire exactly where they"
    yield case.guess("inverted", f"{where} {verb} should not: inverted", bits + 6.0, case.expected ^ concerned)


HYPOTHESES = (silent, stuck, inverted)
