"""`Collector`: the evidence of all chunks, in the order of the frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from strop.costs.activity import Activity
from strop.errors import StropError
from strop.graph import Graph
from strop.verification.evidence.gather import EXPONENTS, QUOTAS, Choice, ChunkEvidence, IntArray, Request
from strop.verification.evidence.records import Difference, Evidence, FrameEvidence, Margins
from strop.verification.evidence.views import BUDGET, views

# Bounds need a second pass over the weights: so many frames of a chunk, and of all, are enough to see them.
_SAMPLED_OF_CHUNK, _SAMPLED = 32, 256


class Collector:
    """Adds up the evidence of chunks, and chooses frames among those that each proposes.

    Parameters
    ----------
    graph : Graph
    with_keras : bool
        See `Evidence`.
    """

    def __init__(self, graph: Graph, with_keras: bool) -> None:
        self.graph, self.with_keras = graph, with_keras
        self.inputs, self.populations, self.left_out = views(graph)
        names = graph.population_names
        self.margins = {name: Margins(name) for name in names}
        self.counts = {name: np.zeros(EXPONENTS, np.int64) for name in names}
        self.bounds = {name: np.zeros(EXPONENTS, np.int64) for name in names}
        self.medians: dict[str, list[float]] = {name: [] for name in names}
        self.choice = Choice()
        self.frames: list[FrameEvidence] = []
        self.sampled_frames = self.start = 0

    def rows_to_sample(self, frames: int) -> int:
        """Return for how many rows of the chunk that is given out next, of so many frames, bounds are computed."""
        room = max(0, min(_SAMPLED_OF_CHUNK, _SAMPLED - self.sampled_frames, frames))
        self.sampled_frames += room
        return room

    def add(self, chunk: ChunkEvidence) -> None:
        """Add the next chunk.

        Raises
        ------
        StropError
            If it is another one, or lacks a frame that is to be kept.
        """
        if chunk.start != self.start:
            raise StropError(f"evidence of frame {self.start} is to come next, and this is of {chunk.start}")
        for name, counted in chunk.margins.items():
            counted.add_to(self.margins[name], self.counts[name], self.bounds[name], self.medians[name])
        self.choice = self.choice.another()
        marked: dict[str, set[int]] = {}
        for entry in chunk.log:
            if isinstance(entry, Request):
                self.choice.ask(entry.row, entry.reason, entry.kind)
            else:
                marked.setdefault(entry, set()).update(self.choice.chosen)
        for row in sorted(self.choice.chosen):
            if row not in chunk.frames:
                raise StropError(f"frame {chunk.start + row}, which is to be shown, was not kept")
            self.frames.append(_as_chosen(chunk.frames[row], self.choice.chosen[row], row, marked))
        self.start += chunk.count

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


def _as_chosen(frame: FrameEvidence, reasons: list[str], row: int, marked: Mapping[str, set[int]]) -> FrameEvidence:
    """Return a frame with the reasons it was chosen for, and the marks of comparisons that differed after that."""
    differences = {
        comparison: own if row in marked.get(comparison, ()) else Difference(own.faults, own.ties)
        for comparison, own in frame.differences.items()
    }
    return replace(frame, reasons=tuple(reasons), differences=differences)


def _as_dict(counts: IntArray) -> dict[int, int]:
    return {int(place) - 1023: int(counts[place]) for place in np.flatnonzero(counts)}


def _importance(frame: FrameEvidence) -> tuple[int, int]:
    order = list(QUOTAS)
    return min(order.index(reason) for reason in frame.reasons), frame.index
