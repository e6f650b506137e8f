"""Rounding bounds of a comparison: Keras's float32 rounding, a simulator's float64 rounding and resolution.

A bound limits the distance between a computed potential and the oracle's, for each neuron and frame. It is 0 where the
sums are exact (see `strop.graph.rounding`): there no difference is excused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from strop.graph import Graph
from strop.graph.rounding.evaluation import Evaluation, Operators, Stage
from strop.graph.rounding.formats import FLOAT32, FLOAT64, FloatFormat
from strop.graph.rounding.stages import as_summed, largest_signals
from strop.running.fidelity import compared
from strop.running.oracle import FLOAT64_UNIT, FloatArray, Signals, fan_in, gamma, magnitude, terms

NONE = np.zeros(())


class Bound(ABC):
    """How far computed potentials may be from the oracle's.

    Attributes
    ----------
    resolution : float
        `Backend.resolution`, which `blur` comes from; 0 where nothing is blurred.
    """

    resolution = 0.0

    @abstractmethod
    def error(self, name: str, signals: Signals) -> FloatArray:
        """Return the bound for a population's potentials (a read-out's logits), given the signals of its sources.

        Broadcasts to `(n, *shape)`.
        """

    def blur(self, name: str, signals: Signals) -> FloatArray:
        """Return the distance to its threshold within which a potential may be taken for equal to it."""
        return NONE


class RoundingBound(Bound):
    """The bound for recorded stages that are computed in an arithmetic (Keras's float32).

    Parameters
    ----------
    stages : mapping of population or read-out name to Stage
    """

    def __init__(self, graph: Graph, stages: Mapping[str, Stage], arithmetic: FloatFormat = FLOAT32) -> None:
        self.graph, self.stages, self.arithmetic = graph, dict(stages), arithmetic
        self._operators = Operators()

    def error(self, name: str, signals: Signals) -> FloatArray:
        return Evaluation(signals, self.arithmetic, self._operators).of(self.stages[name]).error

    def ceilings(self, signals: Signals) -> dict[str, FloatArray]:
        """Return a bound for each population that holds for all these frames, whichever neurons fire.

        Cheap, because one pseudo-frame with the largest values is computed: a potential that is further from its
        threshold than this needs no second look. Each broadcasts to `(1, *shape)`.
        """
        most, grids = largest_signals(self.graph, signals)
        return {
            name: Evaluation(most, self.arithmetic, self._operators, grids, ceiling=True).of(self.stages[name]).error
            for name in self.graph.population_names
        }


def graph_stages(graph: Graph) -> dict[str, Stage]:
    """Return the stages of every population as the graph states them: its own weights, summed."""
    return {name: as_summed(graph, name) for name in graph.population_names}


class SimulatorBound(Bound):
    """The bound for a simulator that sums the same float64 weights in another order, synapse by synapse.

    Parameters
    ----------
    resolution : float
        `Backend.resolution`; equal values always compare as equal.
    """

    def __init__(self, graph: Graph, resolution: float = 0.0) -> None:
        self.graph, self.resolution = graph, resolution
        self._exact = RoundingBound(graph, graph_stages(graph), FLOAT64)
        # Oracle (stage by stage) and simulator (expanded) may each be off; factors folded into weights round once more.
        self._roundings = {name: terms(graph, name) + fan_in(graph, name) + 4 for name in graph.population_names}

    def error(self, name: str, signals: Signals) -> FloatArray:
        population = self.graph.population(name)
        size = magnitude(self.graph, name, signals) + np.abs(population.bias)
        reach = 2.0 * gamma(self._roundings[name], FLOAT64_UNIT) * size
        return np.where(self._exact.error(name, signals) == 0.0, 0.0, reach)

    def blur(self, name: str, signals: Signals) -> FloatArray:
        # Populations that the host evaluates are exact.
        if not self.resolution or name in self.graph.host_populations:
            return NONE
        return self.resolution * compared(self.graph.population(name), magnitude(self.graph, name, signals))


def undecided(margin: FloatArray, error: FloatArray, blur: FloatArray = NONE) -> np.ndarray:
    """Return where a potential is so close to its threshold that either answer may be right.

    Parameters
    ----------
    margin : array
        `|a - threshold|`, in the oracle's arithmetic.
    error, blur : array
        See `Bound`. Where the error is 0 the potential is exact: equal to its threshold, it fires.
    """
    return ((error > 0.0) & (margin <= error + blur)) | ((margin > 0.0) & (margin <= blur))
