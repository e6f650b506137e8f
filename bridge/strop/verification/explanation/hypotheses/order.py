"""Hypotheses about order: permuted neurons, sources in another order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import log2

import numpy as np

from strop.graph import Composed, Operator
from strop.graph.operators import stages_of
from strop.verification.explanation.case import Bools, Case, Floats, Guess, Rows
from strop.verification.explanation.hypotheses.arrangements import Arrangement, arrangements, node_of, planes, shapes_of
from strop.verification.explanation.places import has_channels, neuron_text

# Most neurons whose spikes are looked up among all others, and most sources of an unknown permutation.
_MOST_MATCHED, _MOST_SOURCES = 1024, 400
# Values of the arrays that a search may take.
_MOST_VALUES = 200_000_000
# A permutation explains all, or hardly less.
_MOST_LEFT = 0.05
# How often all pairs of a permutation are looked at.
_SWEEPS = 4
# Values that trying pairs of sources may take.
_MOST_TRIED = 1_000_000


def arranged_neurons(case: Case) -> Iterator[Guess]:
    """The layer's neurons stand in another order: axes exchanged, reversed, shifted by one."""
    for found in arrangements(case.shape):
        index = found.index.reshape(-1)
        predicted = np.where(index >= 0, case.expected[:, np.maximum(index, 0)], False)
        yield case.guess("order", f"its neurons are permuted: {found.words}", 6.0, predicted)


def exchanged_neurons(case: Case) -> Iterator[Guess]:
    """Faulty neurons have the spikes of other neurons: two of them exchanged, or any permutation.

    Tested by looking for every faulty neuron's spikes, over all frames, among those that the others should have; and
    once more with the weights alone permuted, biases and thresholds in their places.
    """
    neurons = case.bad_neurons
    if len(neurons) > _MOST_MATCHED or case.observed.shape[1] < 2:
        return
    seen, counted = case.observed[:, neurons], case.counted[:, neurons]
    hits, misses = (seen & counted).astype(np.float32), (~seen & counted).astype(np.float32)
    expected = case.expected.astype(np.float32)
    # Differences of each faulty neuron with every neuron's right spikes.
    differ = hits.T @ (1.0 - expected) + misses.T @ expected
    yield from _matched(case, neurons, differ, "neurons are permuted")
    if not case.simple or len(neurons) * case.observed.size * len(case.parts) > _MOST_VALUES:
        return
    for place, part in enumerate(case.parts):
        # What a neuron needs of this projection to fire, given the others; and which column of it would give that.
        need = (case.threshold - case.potential + part)[:, neurons]
        wrong = np.stack([_misses(part >= need[:, [k]], seen[:, [k]], counted[:, [k]]) for k in range(len(neurons))])
        yield from _matched(case, neurons, wrong, f"the columns of weights of {case.arrow(place)} are permuted")


def _misses(predicted: Bools, seen: Bools, counted: Bools) -> Rows:
    """Return how often each column is not what was seen."""
    result: Rows = np.count_nonzero((predicted != seen) & counted, axis=0)
    return result


def _matched(case: Case, neurons: Rows, differ: np.ndarray, words: str) -> Iterator[Guess]:
    """Yield the guess that every faulty neuron is another one; `differ` has a row for each, a column for any neuron."""
    from scipy.optimize import linear_sum_assignment

    among = differ[:, neurons]
    _, places = linear_sum_assignment(among)
    left = float(among[np.arange(len(neurons)), places].sum())
    partners = neurons[places]
    nearest = differ.argmin(axis=1)
    copies = float(differ[np.arange(len(neurons)), nearest].sum())
    if copies < 0.5 * left:
        left, partners = copies, nearest
    moved = np.flatnonzero(partners != neurons)
    if not len(moved) or left > _MOST_LEFT * case.faults():
        return
    bits = 4.0 + 2.0 * len(moved) * log2(case.observed.shape[1])
    pairs = [(int(neurons[k]), int(partners[k])) for k in moved]
    if len(pairs) == 2 and pairs[0] == pairs[1][::-1]:
        sentence = f"neurons {_two(case, *pairs[0])} are exchanged ({words})"
    elif (channels := _by_channel(case, pairs)) is not None:
        bits = 4.0 + 2.0 * len(channels) * log2(case.shape[-1])
        sentence = f"{words.replace('neurons', 'channels').replace('columns of weights', 'outgoing channels')}: "
        sentence += ", ".join(f"{a} has the spikes of {b}" for a, b in channels[:2])
        if len(channels) == 2 and channels[0] == channels[1][::-1]:
            sentence = f"channels {channels[0][0]} and {channels[0][1]} are exchanged ({words})"
        elif len(channels) > 2:
            sentence += f" and so on ({len(channels)} of {case.shape[-1]})"
    else:
        shown = ", ".join(f"{_one(case, a)} has the spikes of {_one(case, b)}" for a, b in pairs[:2])
        sentence = f"{words}: {len(pairs)} of them, {shown}{' and so on' if len(pairs) > 2 else ''}"
    yield case.counted_guess("order", sentence, bits, int(left))


def _by_channel(case: Case, pairs: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Return which channel has the spikes of which other one, where whole channels moved; else None."""
    if not has_channels(case.shape):
        return None
    count = case.shape[-1]
    if any(a // count != b // count for a, b in pairs):
        return None
    found = sorted({(a % count, b % count) for a, b in pairs})
    return found if len({a for a, _ in found}) == len(found) < len(pairs) else None


def _one(case: Case, neuron: int) -> str:
    return neuron_text(neuron, case.shape).removeprefix("neuron ")


def _two(case: Case, one: int, other: int) -> str:
    return f"{_one(case, one)} and {_one(case, other)}"


def arranged_sources(case: Case) -> Iterator[Guess]:
    """The values that a projection takes stand in another order: the order of flattening, mirrored, bit planes.

    Tested before each stage of the projection's operator, so that a flatten behind a pool is found too.
    """
    for place, p in enumerate(case.projections):
        stages = list(stages_of(p.operator))
        node = node_of(case.graph, p.source)
        for number, stage in enumerate(stages):
            options: list[Arrangement] = list(arrangements(stage.shape_in))
            if number == 0:
                options += _before_flattening(case, p.source)
                options = [*planes(node), *options] if node is not None else options
            for found in options:
                operator = Composed((*stages[:number], found.select(), *stages[number:]))
                sentence = f"{case.arrow(place)} takes the values of {p.source} in another order: {found.words}"
                guess = case.try_potentials("order", sentence, 7.0 + number, case.other_operator(place, operator))
                if guess is not None:
                    yield guess


def _before_flattening(case: Case, source: str) -> Iterator[Arrangement]:
    own = case.graph.signal_shape(source)
    for shape in shapes_of(case.graph, source)[1:]:
        for found in arrangements(shape):
            if (found.index >= 0).all():
                yield Arrangement(found.words, found.index.reshape(own))


def exchanged_projections(case: Case) -> Iterator[Guess]:
    """Two projections take each other's sources: branches of a concatenation, or of a sum, are exchanged."""
    for one, other in combinations(range(len(case.projections)), 2):
        p, q = case.projections[one], case.projections[other]
        if p.operator.shape_in != q.operator.shape_in:
            continue
        part = p.operator.apply(case.sent[q.source]) + q.operator.apply(case.sent[p.source])
        potential = case.potential - case.parts[one] - case.parts[other] + case.flat(part)
        sentence = f"{p.source} and {q.source} are exchanged among the sources of {p.target}"
        yield case.guess("order", sentence, 4.0, case.respond(potential))


def exchanged_sources(case: Case) -> Iterator[Guess]:
    """Two sources of a projection are exchanged: two rows of its weights.

    Only frames in which just one of the two fires can be faulty; pairs of which that holds are tried.
    """
    for place, p in enumerate(case.projections):
        signal = case.flat(case.sent[p.source]).astype(np.float32)
        size = signal.shape[1]
        if not 1 < size <= 4096:
            continue
        faulty, others = case.bad_rows, np.setdiff1d(np.arange(case.frames), case.bad_rows)
        apart = _apart(signal[faulty])
        candidates = np.argwhere(np.triu(apart >= 0.97 * len(faulty), 1))
        if not len(candidates):
            continue
        quiet = _apart(signal[others]) if len(others) else np.zeros_like(apart)
        room = int(np.clip(_MOST_TRIED // (len(case.few) * case.layer.size), 32, 1000))
        order = np.argsort(quiet[candidates[:, 0], candidates[:, 1]], kind="stable")[:room]
        for one, other in candidates[order]:
            difference = row_of(p.operator, int(one)) - row_of(p.operator, int(other))
            step = (signal[:, other] - signal[:, one]).astype(np.float64)
            shape = case.graph.signal_shape(p.source)
            names = " and ".join(neuron_text(int(n), shape).removeprefix("neuron ") for n in (one, other))
            sentence = f"neurons {names} of {p.source} are exchanged in {case.arrow(place)} (two rows of its weights)"
            guess = case.try_potentials("order", sentence, 3.0 + 2.0 * log2(size), _added(case, step, difference))
            if guess is not None:
                yield guess


def _added(case: Case, signal: Floats, weights: Floats):  # type: ignore[no-untyped-def]  # a closure for try_potentials
    return lambda rows: case.potential[rows] + signal[rows, None] * weights


def _apart(signal: np.ndarray) -> np.ndarray:
    """Return, for every two columns, in how many rows they differ as spikes."""
    fired = (signal != 0).astype(np.float32)
    both = fired.T @ (1.0 - fired)
    result: np.ndarray = both + both.T
    return result


def row_of(operator: Operator, neuron: int) -> Floats:
    """Return the weights from one value of the source to all neurons, shape (neurons,)."""
    one = np.zeros((1, operator.size_in))
    one[0, neuron] = 1.0
    return operator.apply(one.reshape(1, *operator.shape_in)).reshape(-1)


def permuted_sources(case: Case) -> Iterator[Guess]:
    """The sources of a projection are permuted, anyhow: its rows of weights stand in another order.

    The weights are estimated from sources and spikes (least squares), and their rows matched with the graph's.
    """
    from scipy.optimize import linear_sum_assignment

    signals = [case.flat(case.sent[p.source]).astype(np.float64) for p in case.projections]
    for place, p in enumerate(case.projections):
        signal, size = signals[place], signals[place].shape[1]
        if (
            not 2 < size <= _MOST_SOURCES
            or case.frames < size // 2
            or case.layer.size > _MOST_SOURCES
            or not case.simple
        ):
            continue
        own = np.stack([row_of(p.operator, n) for n in range(size)])
        seen = _estimated([signal, *signals[:place], *signals[place + 1 :]], case.observed)[:size]
        scale = np.abs(own).max(axis=0) / np.maximum(np.abs(seen).max(axis=0), 1e-9)
        seen = seen * scale
        similar = _unit(own) @ _unit(seen).T
        rows, columns = linear_sum_assignment(-similar)
        moved = int(np.count_nonzero(rows != columns))
        if moved < 3:
            continue
        # Row `rows[k]` of the graph's weights serves source `columns[k]`.
        source_of = np.empty(size, np.int64)
        source_of[rows] = columns
        first = case.respond(case.potential - case.parts[place] + signal[:, source_of] @ own)
        if case.left(first) > 0.9 * case.faults():
            continue
        source_of = _improved(case, place, signal, own, source_of)
        moved = int(np.count_nonzero(source_of != np.arange(size)))
        sentence = f"the sources of {case.arrow(place)} are permuted ({moved} of {size} rows of its weights)"
        predicted = case.respond(case.potential - case.parts[place] + signal[:, source_of] @ own)
        yield case.guess("order", sentence, 4.0 + moved * log2(size), predicted)


def _improved(case: Case, place: int, signal: Floats, own: Floats, source_of: np.ndarray) -> np.ndarray:
    """Return a permutation that explains more: pairs are exchanged as long as that helps."""
    if len(own) ** 2 * case.observed.size > _MOST_VALUES:
        return source_of
    source_of = source_of.copy()
    potential = case.potential - case.parts[place] + signal[:, source_of] @ own
    left = case.left(case.respond(potential))
    for _ in range(_SWEEPS):
        before = left
        for one, other in combinations(range(len(own)), 2):
            change = signal[:, source_of[other]] - signal[:, source_of[one]]
            tried = potential + np.outer(change, own[one] - own[other])
            now = case.left(case.respond(tried))
            if now < left:
                potential, left = tried, now
                source_of[[one, other]] = source_of[[other, one]]
        if left == before:
            break
    return source_of


def _estimated(signals: list[Floats], spikes: Bools) -> Floats:
    """Return weights from sources to neurons that explain the spikes best, up to a factor for each neuron."""
    signal = np.concatenate(signals, axis=1)
    centred, answers = signal - signal.mean(axis=0), spikes - spikes.mean(axis=0)
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += 1e-2 * max(float(np.trace(gram)) / len(gram), 1e-9)
    result: Floats = np.linalg.solve(gram, centred.T @ answers)
    return result


def _unit(values: Floats) -> Floats:
    result: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return result


HYPOTHESES = (
    arranged_neurons,
    exchanged_neurons,
    arranged_sources,
    exchanged_projections,
    exchanged_sources,
)
# Searches that take long, and are made only where nothing else explains the faults.
SEARCHES = (permuted_sources,)
