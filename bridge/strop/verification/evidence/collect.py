"""`Collector`: gathers evidence while a verification runs, from values that it computes anyway."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strop.costs.activity import Activity
from strop.graph import Graph
from strop.running.decode import class_scores, classes, decides, readout_logits
from strop.running.oracle import BoolArray, FloatArray, Signals
from strop.verification.bounds import undecided
from strop.verification.evidence.records import Difference, Evidence, FrameEvidence, Margins
from strop.verification.evidence.views import BUDGET, View, views

# How many frames are chosen for each reason, the most telling first: the budget cuts the list from its end.
_QUOTAS = {"first": 4, "fault": 6, "misclassified": 6, "tie": 4, "class": 20}
_MOST_MARKS = 200
_MOST_SCORES = 12
# Bounds need a second pass over the weights: so many frames of a chunk, and of all, are enough to see them.
_SAMPLED_OF_CHUNK, _SAMPLED = 32, 256
_EXPONENTS = 2048


class _Differing(Protocol):
    """A verdict of `strop.verification.judge` on a population."""

    @property
    def faults(self) -> BoolArray: ...
    @property
    def ties(self) -> BoolArray: ...


class Collector:
    """Gathers evidence while a verification runs: `begin` a chunk, note its comparisons, `end` it.

    Parameters
    ----------
    graph : Graph
    bound : callable
        `bound(population, signals)` gives the float32 bound, shape `(n, *shape)`.
    with_keras : bool
        See `Evidence`.
    """

    def __init__(self, graph: Graph, bound: Callable[[str, Signals], FloatArray], with_keras: bool) -> None:
        self.graph, self.bound, self.with_keras = graph, bound, with_keras
        self.inputs, self.populations, self.left_out = views(graph)
        self.margins = {name: Margins(name) for name in graph.population_names}
        self.counts = {name: np.zeros(_EXPONENTS, np.int64) for name in graph.population_names}
        self.bounds = {name: np.zeros(_EXPONENTS, np.int64) for name in graph.population_names}
        self.medians: dict[str, list[float]] = {name: [] for name in graph.population_names}
        self.quota_left = dict(_QUOTAS)
        self.classes_seen: set[int] = set()
        self.frames: list[FrameEvidence] = []
        self.sampled_frames = self.start = 0
        self.rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.near: dict[str, FloatArray] = {}
        self.chosen: dict[int, list[str]] = {}
        self.decided: dict[str, npt.NDArray[np.int64]] = {}
        self.differing: dict[int, dict[str, Difference]] = {}

    def expect(self, frames: int) -> None:
        """Choose which rows of the coming chunk the bounds are computed for."""
        room = min(_SAMPLED_OF_CHUNK, _SAMPLED - self.sampled_frames, frames)
        self.rows = np.linspace(0, frames - 1, room).astype(np.int64) if room > 0 else np.zeros(0, np.int64)
        self.sampled_frames += len(self.rows)

    def watch(self, name: str, potentials: FloatArray) -> None:
        """Count the margins of a population; `strop.running.oracle.evaluate` calls this with its potentials."""
        margin = np.abs(potentials - self.graph.population(name).threshold)
        if len(self.rows):
            self.near[name] = margin[self.rows]
        margins = self.margins[name]
        smallest = float(margin.min())
        if smallest == 0.0:
            zero = margin == 0.0
            margins.exact += int(np.count_nonzero(zero))
            margin = margin[~zero]
            smallest = float(margin.min(initial=np.inf))
        margins.smallest = min(margins.smallest, smallest)
        self.counts[name] += _octaves(margin)

    def begin(self, signals: Signals, oracle: Mapping[str, BoolArray], truth: npt.NDArray[np.int64] | None) -> None:
        """Sample the bounds of a chunk, and choose frames by their place, their class and the oracle's decision."""
        self._sample_bounds(signals, oracle)
        count = len(next(iter(oracle.values())))
        answers = classes(self.graph, oracle)
        if answers is not None:
            self.decided["oracle"] = answers
        for row in range(min(count, self.quota_left["first"])):
            self._choose(row, "first")
        kinds = truth if truth is not None else answers
        if kinds is not None:
            for kind, row in zip(*np.unique(kinds, return_index=True), strict=True):
                if int(kind) not in self.classes_seen and self._choose(int(row), "class"):
                    self.classes_seen.add(int(kind))
        if truth is not None and answers is not None:
            for row in np.flatnonzero(answers != truth)[: _QUOTAS["misclassified"]]:
                self._choose(int(row), "misclassified")

    def differ(self, comparison: str, rows: npt.NDArray[np.int64], verdicts: Mapping[str, _Differing]) -> None:
        """Note where a comparison differs: `rows` of the chunk, and the verdicts on them."""
        faults, ties = (
            {name: getattr(verdict, kind).reshape(len(rows), -1) for name, verdict in verdicts.items()}
            for kind in ("faults", "ties")
        )
        faulty = sum((values.sum(axis=1) for values in faults.values()), start=np.zeros(len(rows), np.int64))
        tied = sum((values.sum(axis=1) for values in ties.values()), start=np.zeros(len(rows), np.int64))
        for kind, found in (("fault", faulty), ("tie", tied)):
            for row in rows[found > 0][: _QUOTAS[kind]]:
                self._choose(int(row), kind)
        for place, row in enumerate(rows):
            own = Difference(int(faulty[place]), int(tied[place]))
            if int(row) in self.chosen:
                for name in verdicts:
                    wrong = np.flatnonzero(faults[name][place])[:_MOST_MARKS]
                    doubtful = np.flatnonzero(ties[name][place])[:_MOST_MARKS]
                    if len(wrong) or len(doubtful):
                        own.marks[name] = (wrong, doubtful)
            self.differing.setdefault(int(row), {})[comparison] = own

    def decide(self, comparison: str, answers: npt.NDArray[np.int64] | None) -> None:
        """Note which classes a comparison decided for in this chunk, shape `(n,)`."""
        if answers is not None:
            self.decided[comparison] = answers

    def end(
        self,
        frames: Mapping[str, npt.NDArray[np.float32]],
        oracle: Mapping[str, BoolArray],
        truth: npt.NDArray[np.int64] | None,
    ) -> None:
        """Keep the chosen frames of a chunk, and drop the rest."""
        for row in sorted(self.chosen):
            self.frames.append(self._keep(row, frames, oracle, truth))
        self.start += len(next(iter(oracle.values())))
        self.chosen, self.decided, self.differing, self.near = {}, {}, {}, {}

    def finish(self, activity: Activity | None = None) -> Evidence:
        """Return the evidence, cut to the budget, with `activity`."""
        for name, margins in self.margins.items():
            margins.octaves = _as_dict(self.counts[name])
            margins.bound_octaves = _as_dict(self.bounds[name])
            margins.bound_median = float(np.median(self.medians[name])) if self.medians[name] else 0.0
        room = BUDGET
        kept: list[FrameEvidence] = []
        for frame in sorted(self.frames, key=_importance):
            room -= sum(map(len, frame.spikes.values())) + sum(len(data) for data, *_ in frame.inputs.values())
            if room < 0 and kept:
                break
            kept.append(frame)
        left_out = list(self.left_out)
        if len(kept) < len(self.frames):
            left_out.append(f"Of {len(self.frames)} chosen frames, {len(kept)} are shown.")
        kept.sort(key=lambda frame: frame.index)
        margins_in_order = list(self.margins.values())
        return Evidence(
            self.graph, margins_in_order, self.inputs, self.populations, kept, left_out, activity, self.with_keras
        )

    def _choose(self, row: int, reason: str) -> bool:
        """Choose a row for a reason while there is room; return whether it is chosen."""
        if reason in self.chosen.get(row, ()):
            return True
        if self.quota_left[reason] == 0:
            return False
        self.quota_left[reason] -= 1
        self.chosen.setdefault(row, []).append(reason)
        return True

    def _sample_bounds(self, signals: Signals, oracle: Mapping[str, BoolArray]) -> None:
        if not len(self.rows):
            return
        some = {name: values[self.rows] for name, values in (*signals.items(), *oracle.items())}
        for name, near in self.near.items():
            bound = np.broadcast_to(self.bound(name, some), near.shape)
            margins = self.margins[name]
            self.bounds[name] += _octaves(bound[bound > 0])
            # Bounds of 0 belong to exact sums, and are left out of the median.
            self.medians[name].append(float(np.median(bound[bound > 0])) if (bound > 0).any() else 0.0)
            margins.bound_max = max(margins.bound_max, float(bound.max()))
            margins.sampled += near.size
            margins.within += int(np.count_nonzero(undecided(near, bound)))

    def _keep(
        self,
        row: int,
        frames: Mapping[str, npt.NDArray[np.float32]],
        oracle: Mapping[str, BoolArray],
        truth: npt.NDArray[np.int64] | None,
    ) -> FrameEvidence:
        return FrameEvidence(
            index=self.start + row,
            reasons=tuple(self.chosen[row]),
            label=None if truth is None else int(truth[row]),
            decisions={comparison: int(answers[row]) for comparison, answers in self.decided.items()},
            inputs={view.name: _image(view, frames[view.name][row]) for view in self.inputs},
            spikes={view.name: _packed(view.of(oracle[view.name][row])) for view in self.populations},
            counts={name: int(np.count_nonzero(values[row])) for name, values in oracle.items()},
            scores=self._scores(row, oracle, truth),
            differences=self.differing.get(row, {}),
        )

    def _scores(
        self, row: int, oracle: Mapping[str, BoolArray], truth: npt.NDArray[np.int64] | None
    ) -> list[tuple[int, float]]:
        if not decides(self.graph):
            return []
        readout = next(r for r in self.graph.readouts if r.name == self.graph.outputs[0])
        sent = {name: oracle[name][row : row + 1] for name in readout.sources}
        values = class_scores(readout, readout_logits(readout, sent))[0]
        # argmax takes the lower index among equals: a stable sort does, too.
        best = [int(place) for place in np.argsort(-values, kind="stable")[:_MOST_SCORES]]
        if truth is not None and int(truth[row]) not in best and 0 <= int(truth[row]) < len(values):
            best[-1] = int(truth[row])
        return [(place, float(values[place])) for place in best]


def _octaves(values: FloatArray) -> npt.NDArray[np.int64]:
    """Return how many of `values`, all >= 0, have each binary exponent; place 1023 holds [1, 2)."""
    # The exponent's bits as they lie in memory: many times cheaper than a logarithm.
    exponents = np.ascontiguousarray(values).reshape(-1).view(np.int64) >> 52
    return np.bincount(exponents, minlength=_EXPONENTS).astype(np.int64, copy=False)


def _as_dict(counts: npt.NDArray[np.int64]) -> dict[int, int]:
    return {int(place) - 1023: int(counts[place]) for place in np.flatnonzero(counts)}


def _importance(frame: FrameEvidence) -> tuple[int, int]:
    order = list(_QUOTAS)
    return min(order.index(reason) for reason in frame.reasons), frame.index


def _packed(spikes: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.packbits(spikes.reshape(-1).astype(bool)).tobytes()).decode("ascii")


def _image(view: View, frame: npt.NDArray[np.float32]) -> tuple[str, float, float]:
    values = view.of(frame).astype(np.float64)
    lowest, highest = min(0.0, float(values.min())), max(float(values.max()), float(values.min()) + 1e-12)
    grey = np.rint((values - lowest) / (highest - lowest) * 255).astype(np.uint8)
    return base64.b64encode(grey.tobytes()).decode("ascii"), lowest, highest
