"""`Gathering`: evidence of one chunk, from values that its verification computes anyway.

Chunks may be verified side by side, in several processes. So each yields a `ChunkEvidence` by itself, with all frames
that may be kept of it, and `Collector.add` chooses among them, chunk by chunk in the order of the frames.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.running.decode import class_scores, classes, decides, readout_logits
from strop.running.oracle import BoolArray, FloatArray, Signals
from strop.verification.bounds import undecided
from strop.verification.evidence.records import Difference, FrameEvidence, Margins
from strop.verification.evidence.views import View, views

IntArray = npt.NDArray[np.int64]
# How many frames are chosen for each reason, the most telling first: the budget cuts the list from its end.
QUOTAS = {"first": 4, "fault": 6, "misclassified": 6, "tie": 4, "class": 20}
EXPONENTS = 2048
_MOST_MARKS = 200
_MOST_SCORES = 12


class _Differing(Protocol):
    """A verdict of `strop.verification.judge` on a population."""

    @property
    def faults(self) -> BoolArray: ...
    @property
    def ties(self) -> BoolArray: ...


@dataclass
class Choice:
    """Frames of a chunk that are chosen, with the reasons; and how many more may be chosen for each reason.

    Attributes
    ----------
    quota_left : dict of reason to int
        They never grow, and the classes seen never become fewer: whoever chooses later chooses among what is chosen
        now.
    classes_seen : set of int
    chosen : dict of row to list of reasons
    """

    quota_left: dict[str, int] = field(default_factory=lambda: dict(QUOTAS))
    classes_seen: set[int] = field(default_factory=set)
    chosen: dict[int, list[str]] = field(default_factory=dict)

    def another(self) -> Choice:
        """Return a choice from another chunk, as many frames being left for each reason."""
        return Choice(dict(self.quota_left), set(self.classes_seen))

    def ask(self, row: int, reason: str, kind: int | None = None) -> None:
        """Choose a row for a reason while there is room; for "class" if its class, `kind`, was not seen yet."""
        if kind is not None:
            if kind not in self.classes_seen and self._choose(row, reason):
                self.classes_seen.add(kind)
        else:
            self._choose(row, reason)

    def _choose(self, row: int, reason: str) -> bool:
        if reason in self.chosen.get(row, ()):
            return True
        if self.quota_left[reason] == 0:
            return False
        self.quota_left[reason] -= 1
        self.chosen.setdefault(row, []).append(reason)
        return True


@dataclass(frozen=True)
class Request:
    """A row asks to be chosen (see `Choice.ask`)."""

    row: int
    reason: str
    kind: int | None = None


@dataclass
class Counted:
    """Margins and bounds of one population in one chunk."""

    exact: int = 0
    smallest: float = float("inf")
    octaves: IntArray = field(default_factory=lambda: np.zeros(EXPONENTS, np.int64))
    bound_octaves: IntArray = field(default_factory=lambda: np.zeros(EXPONENTS, np.int64))
    bound_medians: list[float] = field(default_factory=list)
    bound_max: float = 0.0
    sampled: int = 0
    within: int = 0

    def add_to(self, margins: Margins, octaves: IntArray, bound_octaves: IntArray, medians: list[float]) -> None:
        """Add this chunk to the totals of all."""
        margins.exact += self.exact
        margins.smallest = min(margins.smallest, self.smallest)
        margins.bound_max = max(margins.bound_max, self.bound_max)
        margins.sampled += self.sampled
        margins.within += self.within
        octaves += self.octaves
        bound_octaves += self.bound_octaves
        medians += self.bound_medians


@dataclass
class ChunkEvidence:
    """Evidence of one chunk.

    Attributes
    ----------
    start, count : int
        Its first frame, and how many it has.
    margins : dict of population name to Counted
    log : list of Request or str
        Requests of rows to be chosen, and the name of a comparison when it has told where it differs: marks are kept of
        the rows that are chosen by then.
    frames : dict of row to FrameEvidence
        All that may be chosen.
    """

    start: int
    count: int
    margins: dict[str, Counted]
    log: list[Request | str] = field(default_factory=list)
    frames: dict[int, FrameEvidence] = field(default_factory=dict)


class Gathering:
    """Gathers the evidence of one chunk: `watch`, `begin`, note its comparisons, `end`.

    Parameters
    ----------
    graph : Graph
    bound : callable
        `bound(population, signals)` gives the float32 bound, shape `(n, *shape)`.
    choice : Choice
        What may still be chosen.
    start, count : int
        The first frame of the chunk, and how many it has.
    sampled : int
        For how many rows the bounds are computed.
    """

    def __init__(
        self,
        graph: Graph,
        bound: Callable[[str, Signals], FloatArray],
        choice: Choice,
        start: int,
        count: int,
        sampled: int,
    ) -> None:
        self.graph, self.bound = graph, bound
        self.inputs, self.populations, _ = views(graph)
        self.choice = choice
        self.evidence = ChunkEvidence(start, count, {name: Counted() for name in graph.population_names})
        self.rows = np.linspace(0, count - 1, sampled).astype(np.int64) if sampled else np.zeros(0, np.int64)
        self.near: dict[str, FloatArray] = {}
        self.decided: dict[str, IntArray] = {}
        self.differing: dict[int, dict[str, Difference]] = {}

    def watch(self, name: str, potentials: FloatArray) -> None:
        """Count the margins of a population; `strop.running.oracle.evaluate` calls this with its potentials."""
        margin = np.abs(potentials - self.graph.population(name).threshold)
        if len(self.rows):
            self.near[name] = margin[self.rows]
        counted = self.evidence.margins[name]
        smallest = float(margin.min())
        if smallest == 0.0:
            zero = margin == 0.0
            counted.exact += int(np.count_nonzero(zero))
            margin = margin[~zero]
            smallest = float(margin.min(initial=np.inf))
        counted.smallest = min(counted.smallest, smallest)
        counted.octaves += octaves_of(margin)

    def begin(self, signals: Signals, oracle: Mapping[str, BoolArray], truth: IntArray | None) -> None:
        """Sample the bounds, and ask for frames by their place, their class and the oracle's decision."""
        self._sample_bounds(signals, oracle)
        answers = classes(self.graph, oracle)
        if answers is not None:
            self.decided["oracle"] = answers
        for row in range(min(self.evidence.count, QUOTAS["first"])):
            self._ask(row, "first")
        kinds = truth if truth is not None else answers
        if kinds is not None:
            for kind, row in zip(*np.unique(kinds, return_index=True), strict=True):
                self._ask(int(row), "class", int(kind))
        if truth is not None and answers is not None:
            for row in np.flatnonzero(answers != truth)[: QUOTAS["misclassified"]]:
                self._ask(int(row), "misclassified")

    def differ(self, comparison: str, rows: IntArray, verdicts: Mapping[str, _Differing]) -> None:
        """Note where a comparison differs: `rows` of the chunk, and the verdicts on them."""
        faults, ties = (
            {name: getattr(verdict, kind).reshape(len(rows), -1) for name, verdict in verdicts.items()}
            for kind in ("faults", "ties")
        )
        faulty = sum((values.sum(axis=1) for values in faults.values()), start=np.zeros(len(rows), np.int64))
        tied = sum((values.sum(axis=1) for values in ties.values()), start=np.zeros(len(rows), np.int64))
        for kind, found in (("fault", faulty), ("tie", tied)):
            for row in rows[found > 0][: QUOTAS[kind]]:
                self._ask(int(row), kind)
        for place, row in enumerate(rows):
            own = Difference(int(faulty[place]), int(tied[place]))
            if int(row) in self.choice.chosen:
                for name in verdicts:
                    wrong = np.flatnonzero(faults[name][place])[:_MOST_MARKS]
                    doubtful = np.flatnonzero(ties[name][place])[:_MOST_MARKS]
                    if len(wrong) or len(doubtful):
                        own.marks[name] = (wrong, doubtful)
            self.differing.setdefault(int(row), {})[comparison] = own
        self.evidence.log.append(comparison)

    def decide(self, comparison: str, answers: IntArray | None) -> None:
        """Note which classes a comparison decided for in this chunk, shape `(n,)`."""
        if answers is not None:
            self.decided[comparison] = answers

    def end(
        self, frames: Mapping[str, npt.NDArray[np.float32]], oracle: Mapping[str, BoolArray], truth: IntArray | None
    ) -> ChunkEvidence:
        """Return the evidence, with the frames that may be chosen."""
        for row in sorted(self.choice.chosen):
            self.evidence.frames[row] = self._keep(row, frames, oracle, truth)
        return self.evidence

    def _ask(self, row: int, reason: str, kind: int | None = None) -> None:
        self.evidence.log.append(Request(row, reason, kind))
        self.choice.ask(row, reason, kind)

    def _sample_bounds(self, signals: Signals, oracle: Mapping[str, BoolArray]) -> None:
        if not len(self.rows):
            return
        some = {name: values[self.rows] for name, values in (*signals.items(), *oracle.items())}
        for name, near in self.near.items():
            bound = np.broadcast_to(self.bound(name, some), near.shape)
            counted = self.evidence.margins[name]
            counted.bound_octaves += octaves_of(bound[bound > 0])
            # Bounds of 0 belong to exact sums, and are left out of the median.
            counted.bound_medians.append(float(np.median(bound[bound > 0])) if (bound > 0).any() else 0.0)
            counted.bound_max = max(counted.bound_max, float(bound.max()))
            counted.sampled += near.size
            counted.within += int(np.count_nonzero(undecided(near, bound)))

    def _keep(
        self,
        row: int,
        frames: Mapping[str, npt.NDArray[np.float32]],
        oracle: Mapping[str, BoolArray],
        truth: IntArray | None,
    ) -> FrameEvidence:
        return FrameEvidence(
            index=self.evidence.start + row,
            reasons=tuple(self.choice.chosen[row]),
            label=None if truth is None else int(truth[row]),
            decisions={comparison: int(answers[row]) for comparison, answers in self.decided.items()},
            inputs={view.name: _image(view, frames[view.name][row]) for view in self.inputs},
            spikes={view.name: _packed(view.of(oracle[view.name][row])) for view in self.populations},
            counts={name: int(np.count_nonzero(values[row])) for name, values in oracle.items()},
            scores=self._scores(row, oracle, truth),
            differences=self.differing.get(row, {}),
        )

    def _scores(self, row: int, oracle: Mapping[str, BoolArray], truth: IntArray | None) -> list[tuple[int, float]]:
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


def octaves_of(values: FloatArray) -> IntArray:
    """Return how many of `values`, all >= 0, have each binary exponent; place 1023 holds [1, 2)."""
    # The exponent's bits as they lie in memory: many times cheaper than a logarithm.
    exponents = np.ascontiguousarray(values).reshape(-1).view(np.int64) >> 52
    return np.bincount(exponents, minlength=EXPONENTS).astype(np.int64, copy=False)


def _packed(spikes: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.packbits(spikes.reshape(-1).astype(bool)).tobytes()).decode("ascii")


def _image(view: View, frame: npt.NDArray[np.float32]) -> tuple[str, float, float]:
    values = view.of(frame).astype(np.float64)
    lowest, highest = min(0.0, float(values.min())), max(float(values.max()), float(values.min()) + 1e-12)
    grey = np.rint((values - lowest) / (highest - lowest) * 255).astype(np.uint8)
    return base64.b64encode(grey.tobytes()).decode("ascii"), lowest, highest
