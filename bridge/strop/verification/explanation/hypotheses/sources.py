"""Hypotheses about what a projection takes: another population's spikes, exchanged channels, missing sources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from math import log2

import numpy as np

from strop.graph import Projection
from strop.verification.explanation.case import Case, Floats, Guess, Rows
from strop.verification.explanation.hypotheses.arrangements import node_of
from strop.verification.explanation.hypotheses.order import row_of
from strop.verification.explanation.places import describe, has_channels, neuron_text

# Single sources that are tried.
_MOST_CANDIDATES = 128
# Populations that are tried in a source's place.
_MOST_OTHERS = 16
# Synapses that trying all pairs of channels may take, all frames together, and values that are kept of it.
_MOST_SYNAPSES, _MOST_KEPT, _MOST_CHANNELS = 400_000_000, 20_000_000, 64
# Values that one look at all sources may take.
_MOST_VALUES = 50_000_000
_SWEEPS = 4


def other_source(case: Case) -> Iterator[Guess]:
    """A projection takes the spikes of another population of the same shape: a skip from the wrong layer."""
    known = {**case.sample.signals, **case.sample.observed}
    for place, p in enumerate(case.projections):
        shape = case.graph.signal_shape(p.source)
        others = [
            name
            for name, values in known.items()
            if name not in (p.source, case.core, case.name) and values.shape[1:] == shape
        ]
        for name in others[:_MOST_OTHERS]:
            sentence = f"{case.arrow(place)} takes the spikes of {name} in place of {p.source}"

            def changed(rows: Rows, place: int = place, p: Projection = p, name: str = name) -> Floats:
                part = case.flat(p.operator.apply(known[name][rows]))
                result: Floats = case.potential[rows] - case.parts[place][rows] + part
                return result

            guess = case.try_potentials("projection", sentence, 4.0 + log2(1 + len(others)), changed)
            if guess is not None:
                yield guess


def exchanged_channels(case: Case) -> Iterator[Guess]:
    """Channels of a source are exchanged, or permuted anyhow: the kernel's incoming channels stand in another order.

    Pairs are exchanged as long as that explains more, on a few frames.
    """
    for place, p in enumerate(case.projections):
        shape = case.graph.signal_shape(p.source)
        node = node_of(case.graph, p.source)
        if not has_channels(shape) or not 1 < shape[-1] <= _MOST_CHANNELS or (node and node.encoding == "bitplane"):
            continue
        order = _channel_order(case, place, p, shape[-1])
        moved = np.flatnonzero(order != np.arange(shape[-1]))
        if not len(moved):
            continue
        how = f"channels {moved[0]} and {moved[1]} of {p.source} are exchanged"
        if len(moved) > 2:
            how = f"the channels of {p.source} are permuted ({len(moved)} of {shape[-1]})"
        sentence = f"{how} in {case.arrow(place)}"
        bits = 4.0 + len(moved) * log2(shape[-1])
        change = partial(np.take, indices=order, axis=-1)
        guess = case.try_potentials("order", sentence, bits, case.other_signal(place, change))
        if guess is not None:
            yield guess


def _channel_order(case: Case, place: int, p: Projection, channels: int) -> Rows:
    """Return which channel of the source each channel of the kernel seems to get."""
    size = channels**2 * p.operator.size_out
    rows = case.few[: min(_MOST_SYNAPSES // (size * p.operator.terms), _MOST_KEPT // size)]
    order = np.arange(channels)
    if len(rows) < 4 or not case.faults(rows):
        return order
    signal = case.sent[p.source][rows]
    # felt[c, d]: what the kernel's channel c makes of the source's channel d.
    felt = np.empty((channels, channels, len(rows), case.layer.size))
    for c in range(channels):
        for d in range(channels):
            single = np.zeros(signal.shape)
            single[..., c] = signal[..., d]
            felt[c, d] = case.flat(p.operator.apply(single))
    total = case.potential[rows]
    left = case.faults(rows)
    for _ in range(_SWEEPS):
        before = left
        for a, b in combinations(range(channels), 2):
            x, y = order[a], order[b]
            tried = total - felt[a, x] - felt[b, y] + felt[a, y] + felt[b, x]
            now = case.left(case.respond(tried), rows)
            if now < left:
                total, left = tried, now
                order[[a, b]] = y, x
        if left == before:
            break
    return order


def missing_sources(case: Case) -> Iterator[Guess]:
    """Several sources of a projection add nothing: all from some place on, every second one, any of them.

    Sources are left out one by one, as long as that explains more.
    """
    if not case.simple:
        return
    for place, p in enumerate(case.projections):
        signal = case.flat(case.sent[p.source]).astype(np.float64)
        if signal.shape[1] ** 2 > _MOST_VALUES or signal.size * case.layer.size > _MOST_VALUES:
            continue
        weights = np.stack([row_of(p.operator, source) for source in range(signal.shape[1])])
        used, total, left = np.ones(len(weights), dtype=bool), case.potential, case.faults()
        for _ in range(_SWEEPS):
            before = left
            for source in range(len(weights)):
                step = np.outer(signal[:, source], weights[source])
                tried = total - step if used[source] else total + step
                now = case.left(case.respond(tried))
                if now < left:
                    total, left = tried, now
                    used[source] = not used[source]
            if left == before:
                break
        missing = np.flatnonzero(~used)
        if len(missing) > 1:
            missing = _in_a_row(case, signal, weights, missing, left)
            where, bits = describe(missing, case.graph.signal_shape(p.source))
            sentence = f"{where} of {p.source} add nothing in {case.arrow(place)}: their rows of weights are missing"
            yield case.counted_guess("weights", sentence, bits + 4.0, left)


def _in_a_row(case: Case, signal: Floats, weights: Floats, missing: Rows, left: int) -> Rows:
    """Return a run of sources in place of single ones, where that explains as much: some may never have mattered."""
    size = len(weights)
    for run in (np.arange(missing[0], missing[-1] + 1), np.arange(missing[0], size), np.arange(missing[-1] + 1)):
        total = case.potential - signal[:, run] @ weights[run]
        if len(run) < size and case.left(case.respond(total)) <= left:
            missing = run
    return missing


def stuck_source(case: Case) -> Iterator[Guess]:
    """One value of a source has its greatest value in every frame: a dead pixel that is white, a neuron that is stuck.

    Only frames in which it has not can be faulty; the sources of which that holds are tried.
    """
    if not case.simple:
        return
    for p in case.projections:
        signal = case.flat(case.sent[p.source]).astype(np.float64)
        missing = signal.max(initial=0.0) - signal
        share = (missing[case.bad_rows] > 0.0).mean(axis=0)
        candidates = np.flatnonzero((share >= 0.97) & (missing > 0.0).any(axis=0))
        order = np.argsort((missing > 0.0).sum(axis=0)[candidates], kind="stable")
        for source in candidates[order][:_MOST_CANDIDATES]:
            weights = row_of(p.operator, int(source))
            place = neuron_text(int(source), case.graph.signal_shape(p.source))
            sentence = f"{place} of {p.source} is taken as {signal.max():g} in every frame in {p.source} -> {p.target}"

            def changed(rows: Rows, step: Floats = missing[:, source], weights: Floats = weights) -> Floats:
                result: Floats = case.potential[rows] + np.outer(step[rows], weights)
                return result

            guess = case.try_potentials("stuck", sentence, 4.0 + log2(signal.shape[1]), changed)
            if guess is not None:
                yield guess


HYPOTHESES = (other_source,)
SEARCHES = (exchanged_channels, missing_sources, stuck_source)
