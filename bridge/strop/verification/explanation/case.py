"""`Case`: one layer at fault, with all that a hypothesis needs: its potentials, what was observed, and its sources.

Arrays are flat: frames by neurons. Where Keras shows a pool but not the layer that it pools, hypotheses about that
layer (the case's `core`) are judged by what the pool then gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log2
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Operator, Population, Projection
from strop.running.oracle import fires, potential
from strop.verification.explanation.clues import Sample

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
# A first look at a hypothesis takes at most so many frames, and values of the wider of the layer and its sources.
_FEW_FRAMES, _FEW_VALUES = 48, 300_000
# And so many synapses, all frames together.
_FEW_SYNAPSES = 40_000_000


@dataclass(frozen=True)
class Guess:
    """What a hypothesis says of a case.

    Attributes
    ----------
    kind, sentence : str
        See `records.Cause`.
    bits : float
        How much there is to say: a guess that names one of a thousand neurons says more than one that names the layer.
    left, faults : int
        Differences that it leaves or makes, and those without it, among the frames on which it was tried.
    """

    kind: str
    sentence: str
    bits: float
    left: int
    faults: int

    @property
    def explained(self) -> float:
        """Share of the faults that it explains."""
        return 1.0 - self.left / self.faults if self.faults else 0.0


class Case:
    """One layer at fault.

    Parameters
    ----------
    graph : Graph
    name : str
        The population whose spikes are faulty.
    core : str
        The population that hypotheses are about: `name`, or the one that it pools.
    sent : mapping of node name to array, shape (n, *signal_shape)
        What the sources of both sent.
    observed : bool array, shape (n, *shape)
    undecided : bool array, shape (n, *shape)
        Where rounding may decide either way.
    sample : Sample
        For the frames' numbers and neighbours.
    comparison : str
    """

    def __init__(
        self,
        graph: Graph,
        name: str,
        core: str,
        sent: dict[str, Array],
        observed: Bools,
        undecided: Bools,
        sample: Sample,
        comparison: str,
    ) -> None:
        self.graph, self.name, self.core, self.sent, self.sample = graph, name, core, sent, sample
        self.comparison = comparison
        count = len(observed)
        self.observed: Bools = observed.reshape(count, -1)
        self.counted: Bools = ~np.broadcast_to(undecided, observed.shape).reshape(count, -1)
        self.potential = self.flat(potential(graph, core, sent))
        self.expected = self.respond(self.potential)
        self.bad: Bools = (self.expected != self.observed) & self.counted

    # The layer ------------------------------------------------------------------------------------------------------

    @property
    def layer(self) -> Population:
        """The population that hypotheses are about."""
        return self.graph.population(self.core)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the observed population."""
        return self.graph.population(self.name).shape

    @property
    def simple(self) -> bool:
        """Whether the layer that hypotheses are about is itself observed."""
        return self.core == self.name

    @cached_property
    def bias(self) -> Floats:
        """Biases of the core, shape (neurons,)."""
        return np.ascontiguousarray(self.layer.bias).reshape(-1)

    @cached_property
    def threshold(self) -> Floats:
        """Thresholds of the core, shape (neurons,)."""
        return np.ascontiguousarray(self.layer.threshold).reshape(-1)

    @property
    def projections(self) -> tuple[Projection, ...]:
        """What ends at the core."""
        return self.graph.incoming(self.core)

    @cached_property
    def parts(self) -> list[Floats]:
        """What each projection adds to the potentials, shape (n, neurons) each."""
        return [self.flat(p.operator.apply(self.sent[p.source])) for p in self.projections]

    @cached_property
    def margin(self) -> Floats | None:
        """Potential less threshold, shape (n, observed neurons); of a pool, the one that decides; None if none does."""
        core = self.potential - self.threshold
        if self.simple:
            return core
        (pool,) = self.graph.incoming(self.name)
        population = self.graph.population(self.name)
        pre, post, weight = pool.operator.to_coo()
        if not len(post) or (weight <= 0.0).any():
            return None
        order = np.argsort(post, kind="stable")
        pre, post, weight = pre[order], post[order], weight[order]
        starts = np.flatnonzero(np.r_[True, post[1:] != post[:-1]])
        if len(starts) != population.size:
            return None
        need = (np.asarray(population.threshold) - population.bias).reshape(-1)
        least, whole = np.minimum.reduceat(weight, starts), np.add.reduceat(weight, starts)
        any_, all_ = need <= least, need > whole - least
        if not (any_ | all_).all():
            return None
        values = core[:, pre]
        return np.where(any_, np.maximum.reduceat(values, starts, axis=1), np.minimum.reduceat(values, starts, axis=1))

    # Frames ---------------------------------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.observed)

    @cached_property
    def bad_rows(self) -> Rows:
        """Frames with a fault."""
        return np.flatnonzero(self.bad.any(axis=1))

    @cached_property
    def bad_neurons(self) -> Rows:
        """Neurons with a fault, flat."""
        return np.flatnonzero(self.bad.any(axis=0))

    @cached_property
    def few(self) -> Rows:
        """Some frames for a first look: faulty ones, and as many others."""
        wide = max([self.layer.size, *(p.operator.size_in for p in self.projections)])
        synapses = sum(p.operator.terms * p.operator.size_out for p in self.projections)
        room = int(np.clip(min(_FEW_VALUES // wide, _FEW_SYNAPSES // synapses), 6, _FEW_FRAMES))
        faulty = self.bad_rows[
            np.linspace(0, len(self.bad_rows) - 1, min(room // 2 + 1, len(self.bad_rows))).astype(int)
        ]
        others = np.setdiff1d(np.arange(self.frames), self.bad_rows)
        if len(others):
            others = others[np.linspace(0, len(others) - 1, min(max(room - len(faulty), 0), len(others))).astype(int)]
        return np.sort(np.concatenate([faulty, others]))

    def earlier(self, steps: int) -> Rows:
        """Return the row of the frame that ran `steps` before each frame; -1 where it is not known."""
        frames, chunks = self.sample.frames, self.sample.chunks
        places = np.searchsorted(frames, frames - steps)
        places = np.minimum(places, len(frames) - 1)
        known = (frames[places] == frames - steps) & (chunks[places] == chunks)
        return np.where(known, places, -1)

    # Trying -----------------------------------------------------------------------------------------------------------

    @staticmethod
    def flat(values: Array) -> Array:
        """Return values of frames as a matrix, frames by neurons."""
        return values.reshape(len(values), -1)

    def respond(self, potentials: Floats) -> Bools:
        """Return the spikes that the observed population gives for potentials of the core."""
        spikes = fires(self.layer, potentials.reshape(-1, *self.layer.shape))
        if not self.simple:
            after = potential(self.graph, self.name, {self.core: spikes})
            spikes = fires(self.graph.population(self.name), after)
        return self.flat(spikes)

    def left(self, predicted: Bools, rows: Rows | None = None) -> int:
        """Return how many observed spikes differ from those predicted, for all frames or some."""
        if rows is None:
            return int(np.count_nonzero((predicted != self.observed) & self.counted))
        return int(np.count_nonzero((predicted != self.observed[rows]) & self.counted[rows]))

    def faults(self, rows: Rows | None = None) -> int:
        """Return how many observed spikes differ, in all frames or some."""
        return int(np.count_nonzero(self.bad if rows is None else self.bad[rows]))

    def guess(self, kind: str, sentence: str, bits: float, predicted: Bools, rows: Rows | None = None) -> Guess:
        """Return the guess that the spikes are those predicted."""
        return Guess(kind, sentence, bits, self.left(predicted, rows), self.faults(rows))

    def counted_guess(self, kind: str, sentence: str, bits: float, left: int) -> Guess:
        """Return a guess that leaves so many differences in all frames."""
        return Guess(kind, sentence, bits, left, self.faults())

    def try_potentials(self, kind: str, sentence: str, bits: float, changed: Callable[[Rows], Floats]) -> Guess | None:
        """Try other potentials of the core on a few frames, then on all; None where they do not help.

        Parameters
        ----------
        changed : callable
            Returns the potentials in the given rows, shape (rows, neurons).
        """
        few = self.few
        first = self.guess(kind, sentence, bits, self.respond(changed(few)), few)
        if first.explained < 0.4 or len(few) == self.frames:
            return first if first.explained > 0.0 else None
        return self.guess(kind, sentence, bits, self.respond(changed(np.arange(self.frames))))

    def other_operator(self, place: int, operator: Operator) -> Callable[[Rows], Floats]:
        """Return potentials with another operator in one projection."""
        source = self.projections[place].source

        def changed(rows: Rows) -> Floats:
            part = self.flat(operator.apply(self.sent[source][rows]))
            result: Floats = self.potential[rows] - self.parts[place][rows] + part
            return result

        return changed

    def other_signal(self, place: int, change: Callable[[Array], Array]) -> Callable[[Rows], Floats]:
        """Return potentials with another signal, `change(signal)`, into one projection."""
        p = self.projections[place]

        def changed(rows: Rows) -> Floats:
            part = self.flat(p.operator.apply(change(self.sent[p.source][rows])))
            result: Floats = self.potential[rows] - self.parts[place][rows] + part
            return result

        return changed

    @property
    def bits_of_one(self) -> float:
        """Bits that name one neuron in one frame: what an unexplained fault costs."""
        return log2(max(2, self.observed.size))

    def arrow(self, place: int) -> str:
        """Return a projection in words: "projection a -> b"."""
        p = self.projections[place]
        return f"projection {p.source} -> {p.target}"
