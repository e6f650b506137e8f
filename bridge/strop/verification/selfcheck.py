"""Self-check of a verification: faults are planted in copies of the compared values, and must be found.

A broken comparison (an inverted mask, a last frame left out, totals that are not added up) would pass everything. So
each verification first shows, on its own first chunk, that it finds a wrong spike in every layer
and a wrong value in every output, the first and the last frame among them, and that its verdict is then "failed".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import StropError
from strop.graph import Graph
from strop.running.oracle import BoolArray, Signals, potential
from strop.verification.bounds import Bound
from strop.verification.comparison import Comparison, Found
from strop.verification.outcome import OutputReport
from strop.verification.outputs import AnswerVerdict

# A planted fault lies so many bounds away from the threshold.
_SAFETY = 4.0
# How many frames are tried for a neuron whose spike is beyond doubt.
_TRIED = 8
# More classes than any read-out has.
_NO_CLASS = 2.0**40
# More than float32 holds.
_BEYOND_ROUNDING = 2.0**200


def plant_spikes(
    graph: Graph,
    bound: Bound,
    observed: Mapping[str, BoolArray],
    oracle: Mapping[str, BoolArray],
    signals: Signals,
) -> tuple[dict[str, BoolArray], dict[str, npt.NDArray[np.int64]]]:
    """Return copies of observed spikes with one wrong spike in every layer, and the frame that it is in.

    A spike is flipped where the potential is far enough from its threshold that nothing excuses the other answer. The
    frames are taken from both ends of the chunk in turn; a layer in which all is in doubt is left as it is.
    """
    frames = len(next(iter(oracle.values())))
    ends = [n // 2 if n % 2 == 0 else frames - 1 - n // 2 for n in range(min(frames, _TRIED))]
    rows = np.asarray(list(dict.fromkeys(ends)))
    known: dict[str, npt.NDArray[Any]] = {name: values[rows] for name, values in (*signals.items(), *oracle.items())}
    known |= {name: values[rows] for name, values in observed.items()}
    planted = dict(observed)
    places: dict[str, npt.NDArray[np.int64]] = {}
    doubt: dict[str, BoolArray] = {}
    for population in graph.populations:
        # Computed here, not by the code under test, from the spikes of earlier layers with their planted faults.
        name, a = population.name, potential(graph, population.name, known)
        blur = bound.blur(name, known)
        if np.any(blur > 2.0 * bound.resolution * _size(graph, name, known)):
            raise StropError(
                f"the comparison is broken: in layer {name!r} it excuses more than a resolution of "
                f"{bound.resolution:.1e} may. Do not trust the verdicts of this installation, and please report it"
            )
        reach = _SAFETY * (bound.error(name, known) + blur)
        for p in graph.incoming(name):
            if p.source in doubt and doubt[p.source].any():
                reach = reach + p.operator.absolute().apply(doubt[p.source])
        margin, fired = np.abs(a - population.threshold), a >= population.threshold
        # Where nothing is rounded, a potential equal to its threshold certainly fires.
        beyond = (margin > reach) | (reach == 0.0)
        if name not in observed:
            known[name], doubt[name] = fired, ~beyond
            continue
        certain = beyond & (fired == known[name])
        order = np.roll(np.arange(len(rows)), -len(places))
        place = next((int(row) for row in order if certain[row].any()), None)
        if place is None:
            continue
        neuron = np.unravel_index(int(certain[place].argmax()), certain[place].shape)
        planted[name] = observed[name].copy()
        planted[name][(rows[place], *neuron)] ^= True
        known[name] = planted[name][rows]
        places[name] = rows[place]
    return planted, places


def _size(graph: Graph, name: str, signals: Signals) -> npt.NDArray[np.float64]:
    """Return at least what a neuron compares: all that it adds up, its bias, and its threshold or 1."""
    population = graph.population(name)
    sums = [p.operator.absolute().apply(np.abs(signals[p.source] * 1.0)) for p in graph.incoming(name)]
    size: npt.NDArray[np.float64] = sum(sums, np.abs(population.bias) + np.abs(population.threshold) + 1.0)
    return size


def check_spikes(
    graph: Graph,
    comparison_name: str,
    bound: Bound,
    observed: Mapping[str, BoolArray],
    oracle: Mapping[str, BoolArray],
    signals: Signals,
    near: BoolArray | None = None,
) -> Comparison:
    """Compare planted spikes; return the comparison, whose layers have faults but for those in its `unproved`.

    Raises
    ------
    StropError
        If a planted fault is not found.
    """
    planted, places = plant_spikes(graph, bound, observed, oracle, signals)
    comparison = Comparison(graph, comparison_name, bound)
    found: Found = comparison.compare(planted, oracle, signals, near)
    for name, row in places.items():
        if comparison.layers[name].faults == 0 or not found.faulty[row]:
            raise blind(comparison_name, f"a spike that was flipped in layer {name!r}, frame {int(row)}")
    comparison.unproved = [name for name in comparison.layers if name not in places]
    return comparison


def check_outputs(
    compare: Callable[[list[npt.NDArray[Any]]], Mapping[str, AnswerVerdict]], outputs: list[npt.NDArray[Any]]
) -> dict[str, OutputReport]:
    """Compare outputs with a wrong value in the first, then in the last frame of each; return the reports.

    Raises
    ------
    StropError
        If one of them is not found, and the frame is not one in which nothing can be told.
    """
    reports: dict[str, OutputReport] = {}
    honest = compare(outputs)
    for frame in (0, -1):
        for name, verdict in compare([_disturbed(values, frame) for values in outputs]).items():
            # A value that is wrong already may become right by the disturbance.
            if verdict.hopeless[frame] or honest[name].faulty[frame]:
                continue
            for size in () if verdict.faulty[frame] else (_NO_CLASS, _BEYOND_ROUNDING):
                # The planted class may win as well as Keras's: a number that is no class may not. And rounding may
                # excuse more than the largest value (then the output is a reservation).
                verdict = compare([_disturbed(values, frame, size) for values in outputs])[name]
                if verdict.faulty[frame]:
                    break
            report = reports.setdefault(name, OutputReport(name))
            before = report.faults, report.frames_with_faults
            report.add(verdict.faults, verdict.ties, verdict.difference)
            if not verdict.faulty[frame] or report.faults <= before[0] or report.frames_with_faults <= before[1]:
                raise blind("Keras", f"a wrong value in output {name!r}")
    return reports


def _disturbed(values: npt.NDArray[Any], frame: int, least_size: float = 1.0) -> npt.NDArray[np.float64]:
    """Return a copy in which another place of one frame is the largest, by far, or a single value is far off."""
    copy = np.array(values, dtype=np.float64)
    row = copy.reshape(len(copy), -1)[frame]
    size = least_size + float(np.abs(row).max())
    least, largest = int(row.argmin()), int(row.argmax())
    # Where all values are equal the least is the largest, and has won already.
    place = least if least != largest else (largest + 1) % row.size
    row[place] = -size if row.size == 1 and row[0] > 0.5 else row.max() + size
    return copy


def blind(comparison: str, what: str) -> StropError:
    """Return the error of a comparison that misses what was planted."""
    return StropError(
        f"the comparison with {comparison} is broken: it missed {what}, which was planted to test it. Do not trust the "
        "verdicts of this installation, and please report it"
    )
