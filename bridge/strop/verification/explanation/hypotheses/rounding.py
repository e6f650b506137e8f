"""Hypotheses about arithmetic: sums in float32, or with weights of a few bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from strop.graph import Composed, Convolution, Dense, Operator
from strop.graph.operators import stages_of
from strop.running.oracle import gamma, magnitude, terms
from strop.verification.explanation.case import Case, Floats, Guess
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


def few_bits(case: Case) -> Iterator[Guess]:
    """The weights of a projection are rounded to a few bits, with one step for all or one for each channel."""
    for place, p in enumerate(case.projections):
        for words, cost, change in _roundings():
            other = _changed(p.operator, change)
            if other is not None:
                sentence = f"the weights of {case.arrow(place)} are {words}"
                guess = case.try_potentials("rounding", sentence, cost, case.other_operator(place, other))
                if guess is not None:
                    yield guess


def _roundings() -> Iterator[tuple[str, float, Callable[..., Floats]]]:
    for bits in range(2, 8):
        for whole, words in ((True, "one step for all"), (False, "a step for each neuron or channel")):
            yield f"rounded to {bits} bits ({words})", 8.0, partial(_rounded, bits=bits, whole=whole)
    for bits in range(1, 11):
        for cut, words in ((np.round, "rounded"), (np.floor, "cut down")):
            yield f"{words} to steps of 1/{2**bits} (fixed point)", 9.0, partial(_fixed_point, bits=bits, cut=cut)


def limited_weights(case: Case) -> Iterator[Guess]:
    """Large weights of a projection are cut off at a limit, or small ones are missing."""
    for place, p in enumerate(case.projections):
        sizes = np.abs(_weights(p.operator))
        if not sizes.any():
            continue
        for change, words in ((_clipped, "cut off: none is larger than about"), (_pruned, "zero below about")):
            limits = np.quantile(sizes[sizes > 0.0], _SHARES)
            found: dict[float, Guess] = {}
            for _ in range(3):  # closer each time
                for limit in limits:
                    guess = _limited(case, place, change, float(limit), words)
                    if guess is not None:
                        found[float(limit)] = guess
                if not found:
                    break
                best = max(found, key=lambda limit: found[limit].explained)
                tried = sorted({*limits, best})
                at = tried.index(best)
                limits = np.linspace(tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)], 7)
            if found:
                yield max(found.values(), key=lambda guess: guess.explained)


_SHARES = np.linspace(0.05, 0.99, 10)


def _limited(case: Case, place: int, change: Callable[..., Floats], limit: float, words: str) -> Guess | None:
    p = case.projections[place]
    other = _changed(p.operator, partial(change, limit=limit))
    if other is None:
        return None
    sentence = f"the weights of {case.arrow(place)} are {words} {number(limit)}"
    return case.try_potentials("weights", sentence, 14.0, case.other_operator(place, other))


def _rounded(weights: Floats, bits: int, whole: bool) -> Floats:
    axes = None if whole else tuple(range(weights.ndim - 1))
    step = np.abs(weights).max(axis=axes, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.asarray(np.round(weights / np.where(step == 0.0, 1.0, step)) * step)


def _fixed_point(weights: Floats, bits: int, cut: Callable[[Floats], Floats]) -> Floats:
    return cut(weights * 2.0**bits) / 2.0**bits


def _clipped(weights: Floats, limit: float) -> Floats:
    return np.clip(weights, -limit, limit)


def _pruned(weights: Floats, limit: float) -> Floats:
    return np.where(np.abs(weights) < limit, 0.0, weights)


def _weights(operator: Operator) -> Floats:
    """Return the weights of an operator's last matrix or kernel; an empty array where it has none."""
    for stage in reversed(list(stages_of(operator))):
        if isinstance(stage, Dense | Convolution):
            return stage.weight if isinstance(stage, Dense) else stage.kernel
    return np.zeros(0)


def _changed(operator: Operator, change: Callable[[Floats], Floats]) -> Operator | None:
    """Return an operator with the weights of its last matrix or kernel changed; None where it has none."""
    stages = list(stages_of(operator))
    for number_, stage in reversed(list(enumerate(stages))):
        if isinstance(stage, Dense | Convolution):
            other = (
                Dense(change(stage.weight), stage.leading)
                if isinstance(stage, Dense)
                else stage.with_kernel(change(stage.kernel))
            )
            return Composed((*stages[:number_], other, *stages[number_ + 1 :]))
    return None


HYPOTHESES = (float32_sums, coarse_weights)
SEARCHES = (few_bits, limited_weights)
