"""Hypotheses about thresholds and biases: the comparator, one level for a layer, for a channel, for a neuron."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

import numpy as np

from strop.graph import Operator, structure
from strop.verification.explanation.case import Bools, Case, Floats, Guess
from strop.verification.explanation.intervals import Cut, best_cut, between, limits_by_column, number
from strop.verification.explanation.places import channels_of, describe, has_channels, neuron_text

# A potential so many units in the last place below its threshold was made to be: `>` is written as such a threshold.
_STEPS_BELOW = 8.0
# Weights of larger projections are not looked at, to see whether they are all 1.
_MOST_COUNTED = 2_000_000


def comparator(case: Case) -> Iterator[Guess]:
    """Faults lie only where a potential is equal to its threshold: `>` for `>=`, or the other way round."""
    if case.margin is None:
        return
    margins, spikes = case.margin[case.bad], case.observed[case.bad]
    equal = case.margin == 0.0
    if (margins == 0.0).all() and not spikes.any():
        left = int(np.count_nonzero(equal & case.observed & case.counted))
        sentence = "the comparator is > and not >=: potentials that are equal to their threshold do not fire"
        yield case.counted_guess("comparator", sentence, 2.0, left)
    if not case.simple or not spikes.all():
        return
    step = _STEPS_BELOW * np.spacing(np.maximum(np.abs(case.threshold), 2.0**-60))
    just_below = (case.margin < 0.0) & (case.margin >= -step)
    if just_below[case.bad].all():
        left = int(np.count_nonzero(just_below & ~case.observed & case.counted))
        sentence = "the comparator is >= and not >: potentials that are equal to their limit fire"
        yield case.counted_guess("comparator", sentence, 2.0, left)


def no_biases(case: Case) -> Iterator[Guess]:
    """Biases are missing, negated, or counted twice, in the whole layer."""
    if not case.bias.any():
        return
    for factor, words in ((0.0, "are missing"), (-1.0, "have the other sign"), (2.0, "are counted twice")):
        predicted = case.respond(case.potential + (factor - 1.0) * case.bias)
        yield case.guess("bias", f"the biases {words}", 3.0, predicted)


def one_level(case: Case) -> Iterator[Guess]:
    """All neurons fire as if all their thresholds were higher (or lower) by one amount."""
    if case.margin is None:
        return
    cut = best_cut(case.margin[case.counted], case.observed[case.counted])
    if cut.holds(0.0):
        return
    yield case.counted_guess("threshold", f"{_of_all(case, cut)}", 2.0 + _precision(case, cut), cut.left)


def one_threshold(case: Case) -> Iterator[Guess]:
    """All neurons have the same threshold, where the graph has several."""
    if not case.simple or np.ptp(case.threshold) == 0.0:
        return
    cut = best_cut(case.potential[case.counted], case.observed[case.counted])
    sentence = f"every threshold is {cut.text()}, though the graph has one for each neuron"
    yield case.counted_guess("threshold", sentence, 3.0 + _precision(case, cut), cut.left)


def other_count(case: Case) -> Iterator[Guess]:
    """A layer that counts spikes (a pool, a merge) fires at another count: AND for OR, or the other way round."""
    if not case.simple:
        return
    weights = [p.operator.to_coo()[2] for p in case.projections if p.operator.synapse_count <= _MOST_COUNTED]
    if len(weights) < len(case.projections) or any((own != 1.0).any() for own in weights):
        return
    counts, most = case.potential - case.bias, sum(_ones(p.operator) for p in case.projections)
    channels = channels_of(case.shape)
    own = np.unique(channels[case.bad_neurons])
    mixed = has_channels(case.shape) and len(own) < case.shape[-1]
    concerned = np.isin(channels, own) if mixed else np.ones(len(channels), dtype=bool)
    who = f"channels {', '.join(map(str, own[:4]))}{' ...' if len(own) > 4 else ''}" if mixed else "its neurons"
    bits = 2.0 + (len(own) * log2(case.shape[-1]) if mixed else 0.0)
    for words, spikes in (
        ("all of their sources do (AND), not where any does (OR)", counts >= most),
        ("any of their sources does (OR), not where all do (AND)", counts >= 1.0),
    ):
        predicted = np.where(concerned, spikes, case.expected)
        yield case.guess("threshold", f"{who} fire where {words}", bits, predicted)


def _ones(operator: Operator) -> Floats:
    return structure(operator).apply(np.ones((1, *operator.shape_in))).reshape(-1)


def level_of_channel(case: Case) -> Iterator[Guess]:
    """The neurons of one channel (or of a few) fire as if one bias of that channel were off.

    A channel may also fire where its potentials are low: then its weights, or the scale of its normalisation, have the
    other sign.
    """
    if case.margin is None or not has_channels(case.shape):
        return
    channels = channels_of(case.shape)
    cuts: dict[int, Cut] = {}
    turned: list[int] = []
    for channel in np.unique(channels[case.bad_neurons]):
        cuts[int(channel)] = cut = _cut_of(case, channels == channel)
        other = _cut_of(case, channels == channel, sign=-1.0) if cut.left else cut
        if other.left < 0.5 * cut.left:
            cuts[int(channel)] = other
            turned.append(int(channel))
    left = sum(cut.left for cut in cuts.values())
    bits = sum(log2(case.shape[-1]) + 2.0 + _precision(case, cut) for cut in cuts.values())
    if not turned:
        yield case.counted_guess("bias", _of_channels(case, cuts), bits, left)
        return
    names = ", ".join(map(str, turned[:4])) + (" ..." if len(turned) > 4 else "")
    sentence = (
        f"channel{'s' if len(turned) > 1 else ''} {names} of {case.shape[-1]} fire where their potential is low: their "
        f"weights, or the scale of their normalisation, have the other sign"
    )
    yield case.counted_guess("weights", sentence, bits + len(turned), left)


def level_of_neurons(case: Case) -> Iterator[Guess]:
    """Single neurons fire as if their own thresholds (or biases) were off; one neuron, or several."""
    if case.margin is None:
        return
    neurons = case.bad_neurons
    low, high = limits_by_column(case.margin[:, neurons], case.observed[:, neurons], case.counted[:, neurons])
    holds = low < high
    if not holds.any():
        return
    left = int(np.count_nonzero(case.bad[:, neurons[~holds]]))
    chosen = neurons[holds]
    where, _ = describe(chosen, case.shape)
    each = log2(case.observed.shape[1]) + 6.0
    if len(chosen) == 1:
        found = Cut(float(low[holds][0]), float(high[holds][0]), 0)
        neuron = int(chosen[0])
        sentence = _of_neuron(case, neuron, found)
        yield case.counted_guess("threshold", sentence, each, left)
        return
    up = int(np.count_nonzero(low[holds] >= 0.0))
    if case.simple and not case.bias.any():
        sentence = f"{where} fire by another level, each its own: they have biases, and the graph has none there"
        yield case.counted_guess("bias", sentence, each * len(chosen), left)
        return
    ways = "too high" if up == len(chosen) else "too low" if up == 0 else "off, some up and some down"
    sentence = f"{where} fire by another level, each its own: their thresholds are {ways} (or their biases are off)"
    yield case.counted_guess("bias" if up not in (0, len(chosen)) else "threshold", sentence, each * len(chosen), left)


def reversed_sign(case: Case) -> Iterator[Guess]:
    """Single neurons, or channels, fire where their potential is low: all their weights have the other sign."""
    if not case.simple:
        return
    drive = case.potential - case.bias
    units = channels_of(case.shape) if has_channels(case.shape) else np.arange(case.observed.shape[1])
    concerned = np.unique(units[case.bad_neurons])
    if len(concerned) == len(np.unique(units)) > 1:
        return  # the whole layer: a projection with the other sign
    chosen = np.isin(units, concerned)
    predicted = case.expected.copy()
    predicted[:, chosen] = (case.bias - drive >= case.threshold)[:, chosen]
    where, bits = describe(np.flatnonzero(chosen), case.shape)
    yield case.guess("weights", f"all weights into {where} have the other sign", bits + 4.0, predicted)


# In words -------------------------------------------------------------------------------------------------------------


def _cut_of(case: Case, chosen: Bools, sign: float = 1.0) -> Cut:
    assert case.margin is not None
    counted = case.counted[:, chosen]
    return best_cut(sign * case.margin[:, chosen][counted], case.observed[:, chosen][counted])


def _precision(case: Case, cut: Cut) -> float:
    """Return the bits that say how far a level is off: few where a wide interval explains all."""
    assert case.margin is not None
    if not np.isfinite([cut.low, cut.high]).all():
        return 2.0
    spread = float(np.std(case.margin)) or 1.0
    return float(np.clip(log2(4.0 * spread / max(cut.high - cut.low, 1e-300)), 1.0, 12.0))


def _moved(values: Floats, cut: Cut) -> str:
    """Return what a threshold is where all neurons have the same, or by how much it is off."""
    if len(values) and np.ptp(values) == 0.0:
        return (
            f"{between(float(values[0]) + cut.low, float(values[0]) + cut.high)} in place of {number(float(values[0]))}"
        )
    amount = between(*((cut.low, cut.high) if cut.middle > 0 else (-cut.high, -cut.low)))
    return f"{'higher' if cut.middle > 0 else 'lower'}, {amount}"


def _or_bias(cut: Cut) -> str:
    return f"bias is {'lower' if cut.middle > 0 else 'higher'} by as much"


def _of_all(case: Case, cut: Cut) -> str:
    what = "the threshold of every neuron" if case.observed.shape[1] > 1 else "the threshold"
    return f"{what} is {_moved(case.threshold, cut)} (or every {_or_bias(cut)})"


def _of_channels(case: Case, cuts: dict[int, Cut]) -> str:
    if len(cuts) == 1:
        ((channel, cut),) = cuts.items()
        return f"the bias of channel {channel} is off by {_off(cut)} (or its threshold, or its scale)"
    shown = ", ".join(f"{channel} by {_off(cut)}" for channel, cut in list(cuts.items())[:2])
    more = f" and {len(cuts) - 2} more" if len(cuts) > 2 else ""
    if case.simple and not case.bias.any():
        return (
            f"{len(cuts)} of {case.shape[-1]} channels have biases, and the graph has none there: channel {shown}{more}"
        )
    of = f"{len(cuts)} of {case.shape[-1]} channels" if len(cuts) < case.shape[-1] else f"all {len(cuts)} channels"
    return f"the biases (or scales) of {of} are off, each by its own amount: channel {shown}{more}"


def _off(cut: Cut) -> str:
    """Return how far a bias is off; a threshold that is higher is a bias that is lower."""
    return between(-cut.high, -cut.low)


def _of_neuron(case: Case, neuron: int, cut: Cut) -> str:
    own = case.threshold[neuron : neuron + 1] if case.simple else np.zeros(0)
    return f"the threshold of {neuron_text(neuron, case.shape)} alone is {_moved(own, cut)} (or its {_or_bias(cut)})"


HYPOTHESES = (
    comparator,
    no_biases,
    other_count,
    one_level,
    one_threshold,
    level_of_channel,
    level_of_neurons,
    reversed_sign,
)
