"""Hypotheses about time: spikes that are a frame late or early, frames in another order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from strop.verification.explanation.case import Case, Guess
from strop.verification.explanation.places import describe

# Shifts that are tried, in frames.
_STEPS = (1, -1, 2, -2, 3, -3)


def _frames(steps: int) -> str:
    return f"{abs(steps)} frame{'s' if abs(steps) > 1 else ''} {'late' if steps > 0 else 'early'}"


def shifted_layer(case: Case) -> Iterator[Guess]:
    """The layer answers to another frame: its spikes in frame n are those of frame n - k.

    Tested on the frames whose neighbour in time was kept. All projections a step late, a recording that starts a step
    early, and an input that lags look like this.
    """
    for steps in _STEPS:
        before = case.earlier(steps)
        rows = np.flatnonzero(before >= 0)
        if not case.faults(rows):
            continue
        text = (
            f"its spikes are {_frames(steps)}: those of frame n come in frame n{'+' if steps > 0 else '-'}{abs(steps)}"
        )
        arrows = ", ".join(f"{p.source} -> {p.target}" for p in case.projections)
        sentence = f"{text} (a delay of {arrows}, or of its recording, is off by {abs(steps)})"
        yield case.guess("delay", sentence, 3.0 + abs(steps), case.expected[before[rows]], rows)


def shifted_projection(case: Case) -> Iterator[Guess]:
    """One projection of several is late or early, while the others are in time.

    Tested on the frames whose neighbour in time was kept.
    """
    if len(case.projections) < 2:
        return
    for place, part in enumerate(case.parts):
        for steps in _STEPS:
            before = case.earlier(steps)
            rows = np.flatnonzero(before >= 0)
            if not case.faults(rows):
                continue
            predicted = case.respond(case.potential[rows] - part[rows] + part[before[rows]])
            delay = case.projections[place].delay
            sentence = f"{case.arrow(place)} arrives {_frames(steps)} (delay {delay + steps} rather than {delay})"
            yield case.guess("delay", sentence, 5.0 + abs(steps), predicted, rows)


def shifted_neurons(case: Case) -> Iterator[Guess]:
    """Some neurons, or a channel, answer to another frame, while the others are in time.

    Tested on the frames whose neighbour in time was kept.
    """
    for steps in _STEPS[:4]:
        before = case.earlier(steps)
        rows = np.flatnonzero(before >= 0)
        if not case.faults(rows):
            continue
        moved, counted = case.expected[before[rows]], case.counted[rows]
        left = np.count_nonzero((moved != case.observed[rows]) & counted, axis=0)
        late = left < 0.3 * case.bad[rows].sum(axis=0)
        if not late.any():
            continue
        where, bits = describe(np.flatnonzero(late), case.shape)
        sentence = f"the spikes of {where} are {_frames(steps)}: their delay, or their recording, is off"
        predicted = np.where(late, moved, case.expected[rows])
        yield case.guess("delay", sentence, bits + 4.0 + abs(steps), predicted, rows)


def other_frames(case: Case) -> Iterator[Guess]:
    """Frames were mixed up: every faulty frame has exactly the spikes that belong to another frame.

    Tested where those spikes are not all silent.
    """
    patterns: dict[bytes, int] = {}
    for row in range(case.frames):
        patterns.setdefault(case.expected[row].tobytes(), row)
    found: dict[int, int] = {}
    left = 0
    for row in case.bad_rows:
        other = patterns.get(case.observed[row].tobytes())
        if other is None or not case.observed[row].any():
            left += int(np.count_nonzero(case.bad[row]))
        else:
            found[int(row)] = other
    # A single wrong spike makes a pattern that some other frame may well have.
    if not found or np.count_nonzero(case.bad[list(found)]) < 2 * len(found):
        return
    numbers = case.sample.frames
    pairs = [f"frame {numbers[row]} has the spikes of frame {numbers[other]}" for row, other in list(found.items())[:2]]
    whole = (
        "one frame's spikes stand for all"
        if len(set(found.values())) == 1 and len(found) > 2
        else "frames are mixed up"
    )
    sentence = f"{whole}: {', '.join(pairs)}{' and so on' if len(found) > 2 else ''}"
    bits = 4.0 + len(found) * np.log2(case.frames)
    yield case.counted_guess("order", sentence, float(bits), left)


def lost_inputs(case: Case) -> Iterator[Guess]:
    """In some frames the layer fires by its biases alone: nothing reached it."""
    alone = case.respond(np.broadcast_to(case.bias, (1, len(case.bias))))
    as_alone = ~((case.observed != alone) & case.counted).any(axis=1)
    rows = np.flatnonzero(as_alone & case.bad.any(axis=1))
    if not len(rows) or not (case.observed.any(axis=1) & ~as_alone).any():
        return
    shown = ", ".join(map(str, case.sample.frames[rows][:3])) + (" ..." if len(rows) > 3 else "")
    sentence = f"no input arrives in {len(rows)} of {case.frames} frames looked at (frame {shown}): biases act alone"
    left = case.faults() - int(np.count_nonzero(case.bad[rows]))
    yield case.counted_guess("lost spikes", sentence, 3.5 + len(rows) * float(np.log2(case.frames)), left)


def lost_frames(case: Case) -> Iterator[Guess]:
    """In some frames the whole layer is silent, in the others nothing is wrong."""
    silent = ~case.observed.any(axis=1) & case.bad.any(axis=1)
    others = case.observed.any(axis=1)
    if not silent.any() or not others.any():
        return
    rows = np.flatnonzero(silent)
    numbers = case.sample.frames[rows]
    shown = ", ".join(map(str, numbers[:3])) + (" ..." if len(rows) > 3 else "")
    sentence = (
        f"no neuron fires in {len(rows)} of {case.frames} frames looked at (frame {shown}): these frames are lost"
    )
    left = case.faults() - int(np.count_nonzero(case.bad[rows]))
    yield case.counted_guess("lost spikes", sentence, 3.0 + len(rows) * float(np.log2(case.frames)), left)


HYPOTHESES = (shifted_layer, shifted_projection, shifted_neurons, other_frames, lost_inputs, lost_frames)
