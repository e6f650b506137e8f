"""Counting spikes and synaptic events: for every spike, the synapses that it travels over.

`strop.verify` and `strop inspect` both count here. Counts are whole numbers over all frames, so nothing is rounded
before they are divided by the number of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import StropError
from strop.graph import Graph, Operator, Projection, fan_out
from strop.running.cluster import run_job
from strop.running.encode import Frames, encode
from strop.running.frame_source import Chunk, FrameSource, frame_source
from strop.running.jobs import Job, Session, frames_of
from strop.running.oracle import evaluate
from strop.running.progress import Progress
from strop.running.simulate import chunk_size

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Spike counts over some frames, apart from their graph.

    Attributes
    ----------
    frames : int
    spikes : dict of name to array of whole numbers, shape `graph.signal_shape(name)`
    """

    frames: int
    spikes: dict[str, npt.NDArray[Any]]


class Activity:
    """Spike counts of every neuron of a graph, over some frames.

    Attributes
    ----------
    graph : Graph
    frames : int
        Number of frames counted.
    spikes : dict of name to int64 array, shape `graph.signal_shape(name)`
        For every population and every input that sends spikes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.frames = 0
        names = [node.name for node in graph.inputs if node.spiking] + list(graph.population_names)
        self.spikes: dict[str, IntArray] = {name: np.zeros(graph.signal_shape(name), np.int64) for name in names}

    def add(self, spikes: Mapping[str, npt.NDArray[Any]], signals: Mapping[str, npt.NDArray[Any]]) -> None:
        """Count a chunk of frames.

        Parameters
        ----------
        spikes : mapping of population to bool array, shape (n, *shape)
        signals : mapping of input to array, shape (n, *signal_shape)
            The encoded frames, from `strop.running.encode.encode`.
        """
        for name, counts in self.spikes.items():
            counts += np.asarray(spikes[name] if name in spikes else signals[name]).sum(axis=0, dtype=np.int64)
        self.frames += len(next(iter(spikes.values())))

    def counts(self) -> Counts:
        """Return what was counted, without the graph: small enough to be sent, for `merge`."""
        # No count is larger than the number of frames.
        kind = np.min_scalar_type(self.frames)
        return Counts(self.frames, {name: counts.astype(kind) for name, counts in self.spikes.items()})

    def merge(self, other: Counts) -> None:
        """Add what was counted over other frames of the same graph."""
        for name, counts in self.spikes.items():
            counts += other.spikes[name]
        self.frames += other.frames

    def spikes_per_frame(self, name: str) -> float:
        """Spikes that a population, or an input, sends per frame."""
        return self._per_frame(int(self.spikes[name].sum()))

    def firing_rate(self, name: str) -> float:
        """Spikes per neuron and frame, in [0, 1]."""
        return self.spikes_per_frame(name) / self.spikes[name].size

    def events(self, source: str, operator: Operator) -> int:
        """Return how many synapses of an operator the spikes of `source` travelled over, all frames together."""
        return int((self.spikes[source] * fan_out(operator)).sum())

    def events_at(self, population: str) -> float:
        """Synaptic events per frame that arrive at a population, over synapses; analogue input is not counted."""
        return self._per_frame(sum(self._of(p) for p in self.graph.incoming(population)))

    def events_from(self, name: str) -> float:
        """Synaptic events per frame that the spikes of a population, or of an input, cause."""
        return self._per_frame(sum(self._of(p) for p in self.graph.projections if p.source == name))

    def events_per_frame(self) -> float:
        """All synaptic events per frame."""
        return self._per_frame(sum(self._of(p) for p in self.graph.projections))

    def readout_events_per_frame(self) -> float:
        """Additions per frame that a host needs for the read-outs if it adds up the weights of the spikes alone."""
        return self._per_frame(
            sum(
                self.events(source, operator)
                for readout in self.graph.readouts
                if readout.kind not in ("spikes", "winner")
                for source, operator in zip(readout.sources, readout.operators, strict=True)
            )
        )

    def _of(self, projection: Projection) -> int:
        """Events of one projection; none where the source sends values, or the host evaluates what it feeds."""
        if projection.source not in self.spikes or projection.target in self.graph.host_populations:
            return 0
        return self.events(projection.source, projection.operator)

    def _per_frame(self, count: int) -> float:
        return count / self.frames if self.frames else 0.0


@dataclass
class CountingJob(Job):
    """Counting spikes of the oracle."""

    graph: Graph

    def start(self) -> Session:
        return _Counting(self.graph)


@dataclass(frozen=True)
class _Counting(Session):
    graph: Graph

    def take(self, chunk: Chunk, wanted: None) -> Counts:
        activity = Activity(self.graph)
        signals = encode(self.graph, frames_of(self.graph, chunk))
        activity.add(evaluate(self.graph, signals), signals)
        return activity.counts()


def count_activity(
    graph: Graph, frames: Frames | FrameSource, workers: int | None = None, client: Any = None
) -> Activity:
    """Run `frames` through the oracle and count; a chunk at a time, so that memory does not grow with their number.

    Parameters
    ----------
    workers, client : optional
        See `strop.verify`.

    Raises
    ------
    DataError
        If the frames do not fit (see `strop.running.encode.as_frames`).
    StropError
        If frames are lost on workers.
    """
    source = frame_source(graph, frames)
    activity = Activity(graph)
    results = run_job(CountingJob(graph), source.chunks(chunk_size(graph)), lambda chunk: None, workers, client)
    with Progress("counting spikes", source.count) as progress, closing(results):
        for counts in results:
            activity.merge(counts)
            progress.advance(counts.frames)
    if activity.frames != source.given:
        raise StropError(f"{activity.frames} of {source.given} frames were counted: chunks were lost, or came twice")
    return activity
