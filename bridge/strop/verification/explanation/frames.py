"""One frame in full: what every layer did in it, and the neurons of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.running.oracle import BoolArray, potential
from strop.verification.bounds import Bound
from strop.verification.explanation.explained import Explanation
from strop.verification.explanation.places import index_of
from strop.verification.explanation.records import NeuronFault
from strop.verification.explanation.synapses import contributions
from strop.verification.judge import Judgement, judge

Array = npt.NDArray[Any]


class LayerFrame(NamedTuple):
    """One layer in one frame.

    Attributes
    ----------
    layer : str
    neurons : int
    spikes : int or None
        Observed; None for a layer whose spikes Keras does not show.
    expected : int
        Spikes of the oracle on the whole network.
    missing, extra, ties : int
        Faults and ties, given the observed spikes of the layer's sources.
    follows : int
        Spikes that differ from the oracle's on the whole network, as they must, given those sources.
    """

    layer: str
    neurons: int
    spikes: int | None
    expected: int
    missing: int = 0
    extra: int = 0
    ties: int = 0
    follows: int = 0


@dataclass(frozen=True)
class FrameFindings:
    """One frame in full.

    Attributes
    ----------
    comparison : str
        "Keras" or the backend.
    frame : int
    layers : tuple of LayerFrame
    layer : str
        The layer whose neurons are shown: the one asked for, or the first at fault, or the last.
    neurons : tuple of NeuronFault
        Its faulty neurons, those with the largest margins first; in a layer without faults, those closest to their
        thresholds (then `observed` is what it should be).
    faulty : bool
        Whether `neurons` are faults.
    explanation : Explanation or None
        Of all faults among the frames that were run together with this one.
    """

    comparison: str
    frame: int
    layers: tuple[LayerFrame, ...]
    layer: str
    neurons: tuple[NeuronFault, ...]
    faulty: bool
    explanation: Explanation | None

    @property
    def faults(self) -> int:
        """Faults in this frame."""
        return sum(own.missing + own.extra for own in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "comparison": self.comparison,
            "frame": self.frame,
            "faults": self.faults,
            "layers": [own._asdict() for own in self.layers],
            "layer": self.layer,
            "neurons": [own.to_dict() for own in self.neurons],
            "explanation": None if self.explanation is None else self.explanation.to_dict(),
        }


def layer_frames(
    graph: Graph,
    bound: Bound,
    signals: Mapping[str, Array],
    observed: Mapping[str, BoolArray],
    oracle: Mapping[str, BoolArray],
) -> tuple[list[LayerFrame], Judgement]:
    """Return what every layer did in one frame, and the verdicts on it; all arrays hold this one frame."""
    judged = judge(graph, signals, observed, bound)
    layers = []
    for population in graph.populations:
        name, expected = population.name, int(np.count_nonzero(oracle[population.name]))
        if name not in observed:
            layers.append(LayerFrame(name, population.size, None, expected))
            continue
        verdict, spikes = judged.verdicts[name], observed[name]
        extra = int(np.count_nonzero(verdict.faults & spikes))
        follows = (spikes != oracle[name]) & ~verdict.faults & ~verdict.ties
        layers.append(
            LayerFrame(
                *(name, population.size, int(np.count_nonzero(spikes)), expected),
                missing=int(np.count_nonzero(verdict.faults)) - extra,
                extra=extra,
                ties=int(np.count_nonzero(verdict.ties)),
                follows=int(np.count_nonzero(follows)),
            )
        )
    return layers, judged


def neurons_of(
    graph: Graph, bound: Bound, judged: Judgement, name: str, frame: int, most: int, synapses: int
) -> tuple[NeuronFault, ...]:
    """Return the faulty neurons of a layer, largest margin first; of one without faults, those nearest to a threshold.

    Parameters
    ----------
    judged : Judgement
        Of this one frame.
    most, synapses : int
        How many neurons, and contributions to each, to return.
    """
    population = graph.population(name)
    potentials = potential(graph, name, judged.known).reshape(-1)
    thresholds, biases = np.ravel(population.threshold), np.ravel(population.bias)
    reach = bound.error(name, judged.known) + bound.blur(name, judged.known)
    bounds = np.broadcast_to(reach, (1, *population.shape)).reshape(-1)
    margins = np.abs(potentials - thresholds)
    wrong = np.flatnonzero(judged.verdicts[name].faults) if name in judged.verdicts else np.zeros(0, np.int64)
    places = wrong[np.argsort(-margins[wrong], kind="stable")] if len(wrong) else np.argsort(margins, kind="stable")
    sent = {p.source: judged.known[p.source][0] for p in graph.incoming(name)}
    spikes = judged.known[name].reshape(-1)
    found = []
    for neuron in map(int, places[:most]):
        added, number = contributions(graph, name, neuron, sent, synapses)
        found.append(
            NeuronFault(
                *(frame, name, index_of(neuron, population.shape)),
                potential=float(potentials[neuron]),
                threshold=float(thresholds[neuron]),
                bound=float(bounds[neuron]),
                bias=float(biases[neuron]),
                observed=bool(spikes[neuron]),
                contributions=added,
                synapses=number,
            )
        )
    return tuple(found)
