"""Telling ties from faults: observed spikes compared with the oracle's, layer by layer.

Every population is evaluated on the observed spikes of its sources, so that an error is counted in the layer that made
it and not again in the layers behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.running.oracle import BoolArray, FloatArray, Signals, potential
from strop.verification.bounds import Bound, undecided


@dataclass(frozen=True)
class Verdict:
    """Verdict of a comparison on one population, shapes `(n, *shape)`.

    Attributes
    ----------
    faults : bool array
        Spikes that differ although the potential is further from its threshold than rounding can explain.
    ties : bool array
        Spikes that differ where either answer may be right.
    undecided : bool array
        Where either answer may be right, whether or not it differs.
    """

    faults: BoolArray
    ties: BoolArray
    undecided: BoolArray


@dataclass(frozen=True)
class Judgement:
    """Verdicts of a comparison on some frames.

    Attributes
    ----------
    verdicts : dict of population name to Verdict
        Of the observed populations.
    known : dict of node name to array
        Signals of every node: observed spikes, and the oracle's where none were observed.
    doubt : dict of population name to bool array
        Of the populations that were not observed: where either answer may be right.
    """

    verdicts: dict[str, Verdict]
    known: dict[str, npt.NDArray[Any]]
    doubt: dict[str, BoolArray]


def judge(graph: Graph, signals: Signals, observed: Mapping[str, BoolArray], bound: Bound) -> Judgement:
    """Compare observed spikes with the oracle's, every population fed the observed spikes of its sources.

    A population that was not observed is evaluated; where its own spikes are undecided, both are possible, and that
    doubt is carried to the populations behind it.

    Parameters
    ----------
    signals : mapping of input name to array, shape (n, *signal_shape)
    observed : mapping of population name to bool array, shape (n, *shape)
    bound : Bound
    """
    known: dict[str, npt.NDArray[Any]] = dict(signals)
    doubt: dict[str, BoolArray] = {}
    verdicts: dict[str, Verdict] = {}
    for population in graph.populations:
        name = population.name
        a = potential(graph, name, known)
        error = bound.error(name, known) + doubted(graph, name, doubt)
        fired = a >= population.threshold
        open_ = undecided(np.abs(a - population.threshold), error, bound.blur(name, known))
        if name in observed:
            differ = fired != observed[name]
            verdicts[name] = Verdict(differ & ~open_, differ & open_, open_)
            known[name] = observed[name]
        else:
            known[name], doubt[name] = fired, open_
    return Judgement(verdicts, known, doubt)


def doubted(graph: Graph, name: str, doubt: Mapping[str, BoolArray]) -> FloatArray:
    """Return by how much spikes in doubt can change the potentials of a population, shape `(n, *shape)`."""
    result: FloatArray = np.zeros(())
    for projection in graph.incoming(name):
        if projection.source in doubt and doubt[projection.source].any():
            result = result + projection.operator.absolute().apply(doubt[projection.source])
    return result
