"""Hypotheses about weights: those of a projection, channel, source, kernel or synapse missing, reversed or scaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log2

import numpy as np

from strop.graph import Composed, Convolution, Input, Operator, Scale
from strop.graph.operators import stages_of
from strop.verification.explanation.case import Case, Floats, Guess
from strop.verification.explanation.hypotheses.arrangements import node_of
from strop.verification.explanation.hypotheses.order import row_of
from strop.verification.explanation.intervals import Cut, between, factor_cut, number
from strop.verification.explanation.places import channels_of, has_channels, index_of, neuron_text, place_text
from strop.verification.explanation.synapses import incoming_weights

_MOST_GROUPS, _MOST_TAPS, _MOST_CANDIDATES = 256, 512, 48
# More faulty neurons than this do not have one wrong weight each; nor where those leave more than this share.
_MOST_SINGLE, _MOST_LEFT = 12, 0.05


def projections(case: Case) -> Iterator[Guess]:
    """A whole projection is missing, has the other sign, or is scaled by a factor."""
    for place, part in enumerate(case.parts):
        if case.simple:
            guess, source = scaled(case, part, case.arrow(place), 1.0), case.projections[place].source
            of_frames = guess.kind == "weights" and node_of(case.graph, source) is not None
            also = f", or the frames of {source} are scaled so" if of_frames else ""
            yield replace(guess, sentence=guess.sentence + also)
            continue
        for factor, words in ((0.0, "is missing"), (-1.0, "has the other sign")):
            predicted = case.respond(case.potential + (factor - 1.0) * part)
            yield case.guess("projection", f"{case.arrow(place)} {words}", 3.0, predicted)


def signed_weights(case: Case) -> Iterator[Guess]:
    """All negative, or all positive, weights of a projection are missing, have the other sign, or are scaled."""
    if not case.simple:
        return
    for place, (p, part) in enumerate(zip(case.projections, case.parts, strict=True)):
        size = case.flat(p.operator.absolute().apply(case.sent[p.source]))
        for sign, words in ((-1.0, "negative (inhibitory)"), (1.0, "positive (excitatory)")):
            # Rounding of the difference must not make weights where there are none.
            own = np.where(np.abs(part + sign * size) > 1e-12 * size, (part + sign * size) / 2.0, 0.0)
            if own.any() and (own != part).any():
                yield scaled(case, own, f"the sum of the {words} weights of {case.arrow(place)}", 3.0)


def signal_groups(case: Case) -> Iterator[Guess]:
    """One channel, or one bit plane, of a source is missing, has the other sign, or is scaled."""
    if not case.simple:
        return
    for p in case.projections:
        for words, members, groups in _groups(case, p.source):
            signal = case.sent[p.source] * members
            few = case.few
            part = case.flat(p.operator.apply(signal[few]))
            if factor_of(case, part, few).left < 0.6 * case.faults(few):
                yield scaled(
                    case, case.flat(p.operator.apply(signal)), f"{words} in {p.source} -> {p.target}", log2(groups)
                )


def _groups(case: Case, source: str) -> Iterator[tuple[str, np.ndarray, int]]:
    shape = case.graph.signal_shape(source)
    node = node_of(case.graph, source)
    if node is not None and node.encoding == "bitplane":
        yield from _planes(node)
    if has_channels(shape) and 1 < shape[-1] <= _MOST_GROUPS:
        for channel in range(shape[-1]):
            yield f"channel {channel} of {source}", np.arange(shape[-1]) == channel, shape[-1]


def _planes(node: Input) -> Iterator[tuple[str, np.ndarray, int]]:
    of = np.broadcast_to(np.arange(node.bits), (*node.shape, node.bits)).reshape(node.signal_shape)
    for bit in range(node.bits):
        yield f"bit plane {bit} of {node.name}", of == bit, node.bits


def single_sources(case: Case) -> Iterator[Guess]:
    """All weights from one neuron of a source are missing, have the other sign, or are scaled.

    Only frames in which it fires can be faulty; the neurons of which that holds are tried, the rarest first.
    """
    if not case.simple:
        return
    for p in case.projections:
        signal = case.flat(case.sent[p.source])
        active = signal != 0
        share = active[case.bad_rows].mean(axis=0)
        candidates = np.flatnonzero(share >= 0.97)
        candidates = candidates[np.argsort(active[:, candidates].sum(axis=0), kind="stable")][:_MOST_CANDIDATES]
        shape = case.graph.signal_shape(p.source)
        for neuron in candidates:
            weights = row_of(p.operator, int(neuron))
            few = case.few
            if factor_of(case, np.outer(signal[few, neuron], weights), few).left < 0.6 * case.faults(few):
                words = (
                    f"{neuron_text(int(neuron), shape)} of {p.source}, its row of weights in {p.source} -> {p.target},"
                )
                part = np.outer(signal[:, neuron], weights).astype(np.float64)
                yield scaled(case, part, words, log2(signal.shape[1]))


def factor_of(case: Case, part: Floats, rows: np.ndarray) -> Cut:
    """Return the factor that a part of the potentials must have, in some rows."""
    counted = case.counted[rows]
    limits = case.threshold - (case.potential[rows] - part)
    return factor_cut(part[counted], limits[counted], case.observed[rows][counted])


def scaled(case: Case, part: Floats, words: str, bits: float) -> Guess:
    """Return the guess that a part of the potentials has a factor: 0 it is missing, -1 it has the other sign."""
    found = factor_of(case, part, np.arange(case.frames))
    many = words.startswith(("neuron", "channel", "bit", "the sum", "the kernel's"))
    kind = "weights" if many else "projection"
    if found.low <= 0.0 <= found.high:
        return case.counted_guess(kind, f"{words} is missing: it adds nothing", bits + 3.0, found.left)
    if found.low <= -1.0 <= found.high:
        return case.counted_guess(kind, f"{words} has the other sign", bits + 3.0, found.left)
    sentence = f"{words} is scaled: its weights count {between(found.low, found.high)} times"
    width = max(found.high - found.low, 1e-9)
    precision = log2(4.0 * max(abs(found.middle), 1.0) / width) if np.isfinite(width) else 1.0
    return case.counted_guess("weights", sentence, bits + 4.0 + float(np.clip(precision, 1.0, 10.0)), found.left)


# Single weights -------------------------------------------------------------------------------------------------------


def single_synapses(case: Case) -> Iterator[Guess]:
    """Each faulty neuron has one wrong weight: it errs only where that source fires, and one change explains it."""
    if not case.simple or len(case.bad_neurons) > _MOST_SINGLE:
        return
    signals = np.concatenate([case.flat(case.sent[p.source]).astype(np.float64) for p in case.projections], axis=1)
    found = [_synapse_of(case, int(neuron), signals) for neuron in case.bad_neurons]
    left, bits = sum(own.left for own in found), sum(own.bits for own in found)
    if len(found) == 1:
        yield case.counted_guess("weight", found[0].sentence, bits, left)
    if len(found) == 1 or left > _MOST_LEFT * case.faults():
        return
    shown = "; ".join(own.sentence for own in found[:2])
    more = f"; and {len(found) - 2} more" if len(found) > 2 else ""
    yield case.counted_guess("weight", f"{len(found)} single weights are wrong: {shown}{more}", bits, left)


def _synapse_of(case: Case, neuron: int, signals: Floats) -> Guess:
    """Return the guess of one wrong weight for one faulty neuron; its `left` counts this neuron alone."""
    counted = case.counted[:, neuron]
    below = (case.threshold - case.potential)[counted, neuron]
    fired, bad, sent = case.observed[counted, neuron], case.bad[counted, neuron], signals[counted]
    active = sent != 0.0
    elsewhere = (bad[:, None] & ~active).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        need = np.where(active, below[:, None] / sent, np.nan)
    up = fired[:, None] == (sent > 0.0)
    low = np.where(active & up, need, -np.inf).max(axis=0)
    high = np.where(active & ~up, need, np.inf).min(axis=0)
    fits = (low < high) & (elsewhere == 0)
    rare, others = _activity_nearby(below, bad, active)
    weights = _weights_into(case, neuron)
    order = np.lexsort((rare, weights == 0.0, elsewhere, ~fits))
    best = int(order[0])
    left = 0
    if not fits[best]:
        cut = factor_cut(sent[:, best], below, fired)
        low[best], high[best], left = cut.low, cut.high, cut.left
    surprise = min(int(bad.sum()), 2 * others) * -log2(max(rare[best], 1e-9)) - log2(len(rare))
    bits = log2(case.observed.shape[1]) + log2(len(rare)) + 7.0 - float(np.clip(surprise, 0.0, 12.0))
    sentence = _of_synapse(case, neuron, best, float(weights[best]), Cut(float(low[best]), float(high[best]), left))
    return Guess("weight", sentence, max(bits, 4.0), left, int(bad.sum()))


def _activity_nearby(below: Floats, bad: np.ndarray, active: np.ndarray) -> tuple[Floats, int]:
    """Return how often each source fires where the potential is about that of the faults, and nothing is wrong.

    Second, in how many frames that was seen.

    Potentials near a threshold come with certain sources: only among such frames it says something that a source fires
    in all faulty ones.
    """
    low, high = float(below[bad].min()), float(below[bad].max())
    others = np.flatnonzero(~bad)
    distance = np.maximum(low - below[others], below[others] - high)
    nearest = others[np.argsort(distance, kind="stable")[: max(20, 2 * int(bad.sum()))]]
    return (active[nearest].sum(axis=0) + 1.0) / (len(nearest) + 2.0), len(nearest)


def neuron_projections(case: Case) -> Iterator[Guess]:
    """All weights of a projection into one neuron are missing, have the other sign, or are scaled."""
    if not case.simple or len(case.bad_neurons) != 1:
        return
    neuron = int(case.bad_neurons[0])
    for place, part in enumerate(case.parts):
        single = np.zeros(part.shape)
        single[:, neuron] = part[:, neuron]
        words = f"{neuron_text(neuron, case.shape)}, its column of weights in {case.arrow(place)},"
        yield scaled(case, single, words, log2(case.observed.shape[1]) + 2.0)


def _weights_into(case: Case, neuron: int) -> Floats:
    """Return the weights into a neuron from the values of all its sources, one projection behind the other."""
    parts = []
    for p in case.projections:
        own = np.zeros(p.operator.size_in)
        found = incoming_weights(p.operator, neuron)
        if found is not None:
            own[found[0]] = found[1]
        parts.append(own)
    return np.concatenate(parts)


def _of_synapse(case: Case, neuron: int, place: int, weight: float, change: Cut) -> str:
    for p in case.projections:
        if place < p.operator.size_in:
            break
        place -= p.operator.size_in
    source = f"{p.source}{place_text(index_of(place, case.graph.signal_shape(p.source)))}"
    target = f"{p.target}{place_text(index_of(neuron, case.shape))}"
    what = f"the weight of the synapse {source} -> {target}"
    if change.low <= -weight <= change.high:
        return f"{what} is missing (it should be {number(weight)})"
    if change.low <= -2.0 * weight <= change.high:
        return f"{what} has the other sign (it should be {number(weight)})"
    return f"{what} is {between(weight + change.low, weight + change.high)} in place of {number(weight)}"


def kernel_taps(case: Case) -> Iterator[Guess]:
    """One weight of a convolution's kernel is wrong: at every position of one channel, and where its input fires."""
    if not case.simple or not has_channels(case.shape):
        return
    channels = np.unique(channels_of(case.shape)[case.bad_neurons])
    if len(channels) != 1:
        return
    channel = int(channels[0])
    own = np.flatnonzero(channels_of(case.shape) == channel)
    for place, p in enumerate(case.projections):
        stages = list(stages_of(p.operator))
        scales: list[Operator] = []
        while len(stages) > 1 and isinstance(stages[-1], Scale):  # of a normalisation behind a pool
            scales.insert(0, stages.pop())
        last = stages[-1]
        if not isinstance(last, Convolution) or last.kernel[..., 0].size > _MOST_TAPS:
            continue
        signal = case.sent[p.source]
        for stage in stages[:-1]:
            signal = stage.apply(signal)
        yield from _taps(case, last, scales, signal, channel, own, place)


def _taps(
    case: Case,
    last: Convolution,
    scales: list[Operator],
    signal: np.ndarray,
    channel: int,
    own: np.ndarray,
    place: int,
) -> Iterator[Guess]:
    few = case.few
    for tap in np.ndindex(*last.kernel.shape[:-1]):
        kernel = np.zeros(last.kernel.shape)
        kernel[(*tap, channel)] = 1.0
        single = Composed((last.with_kernel(kernel), *scales))
        cut = _change(case, case.flat(single.apply(signal[few]))[:, own], own, few)
        if cut.left > 0.5 * case.faults(few):
            continue
        rows = np.arange(case.frames)
        cut = _change(case, case.flat(single.apply(signal))[:, own], own, rows)
        weight = float(last.kernel[(*tap, channel)])
        what = f"the kernel weight {place_text((*tap, channel))} of {case.arrow(place)}"
        sentence = f"{what} is {between(weight + cut.low, weight + cut.high)} in place of {number(weight)}"
        if cut.low <= -weight <= cut.high:
            sentence = f"{what} is missing (it should be {number(weight)})"
        elif cut.low <= -2.0 * weight <= cut.high:
            sentence = f"{what} has the other sign (it should be {number(weight)})"
        yield case.counted_guess("weight", sentence, log2(last.kernel.size) + 8.0, cut.left)


def _change(case: Case, felt: Floats, own: np.ndarray, rows: np.ndarray) -> Cut:
    """Return by how much the weight of an input, felt by the neurons `own`, must differ."""
    counted = case.counted[np.ix_(rows, own)]
    below = (case.threshold - case.potential)[np.ix_(rows, own)]
    return factor_cut(felt[counted], below[counted], case.observed[np.ix_(rows, own)][counted])


HYPOTHESES = (
    projections,
    signed_weights,
    neuron_projections,
    signal_groups,
    single_sources,
    single_synapses,
    kernel_taps,
)
