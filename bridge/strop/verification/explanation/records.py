"""Records of an explanation: the first faulty neuron, the faults of a layer, their likely cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Place = tuple[int, ...]


@dataclass(frozen=True)
class Contribution:
    """What one synapse, of a source that is not silent, adds to a potential.

    Attributes
    ----------
    source : str
        The node that it comes from.
    neuron : tuple of int
        Index of the neuron (or value) in that node.
    weight, signal : float
        The contribution is their product; a spike is a signal of 1.
    """

    source: str
    neuron: Place
    weight: float
    signal: float

    @property
    def value(self) -> float:
        """Weight times signal."""
        return self.weight * self.signal

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"source": self.source, "neuron": list(self.neuron), "weight": self.weight, "signal": self.signal}


@dataclass(frozen=True)
class NeuronFault:
    """One faulty spike.

    Attributes
    ----------
    frame : int
        Among all frames that were verified.
    layer : str
    neuron : tuple of int
        Index in the population.
    potential, threshold, bound : float
        The oracle's potential, given the observed spikes of the sources, and how far rounding may have moved it.
    bias : float
    observed : bool
        Whether there was a spike; the oracle says the opposite.
    contributions : tuple of Contribution
        The largest, by size.
    synapses : int
        How many contribute.
    """

    frame: int
    layer: str
    neuron: Place
    potential: float
    threshold: float
    bound: float
    bias: float
    observed: bool
    contributions: tuple[Contribution, ...] = ()
    synapses: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "frame": self.frame,
            "layer": self.layer,
            "neuron": list(self.neuron),
            "potential": self.potential,
            "threshold": self.threshold,
            "bound": self.bound,
            "bias": self.bias,
            "observed": self.observed,
            "fault": "too many" if self.observed else "missing",
            "contributions": [own.to_dict() for own in self.contributions],
            "synapses": self.synapses,
        }


@dataclass(frozen=True)
class Cause:
    """A guess at why a layer (or an output) is at fault.

    Attributes
    ----------
    kind : str
        One word for it: "threshold", "comparator", "bias", "weight", "weights", "order", "projection", "delay",
        "silent", "stuck", "inverted", "rounding", "memory", "input", "lost spikes", "isolated", "read-out", "unknown".
    sentence : str
    explained : float
        Share of the sampled faults that it explains, 0 to 1; faults that it would cause are taken off.
    """

    kind: str
    sentence: str
    explained: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"kind": self.kind, "sentence": self.sentence, "explained": self.explained}


@dataclass(frozen=True)
class LayerFaults:
    """The faults that arise in one layer: its own, given the spikes that its sources sent.

    Attributes
    ----------
    layer : str
    neurons : int
        Neurons of the layer.
    faults, missing, extra : int
        Over all frames: faulty spikes, those missing, and those too many.
    faulty_neurons, faulty_frames : int
    where : str
        Which neurons are concerned, in words.
    first : NeuronFault or None
    cause : Cause
    record_only : bool
        Whether the layers behind it got the right spikes: then its spikes were recorded wrongly, not sent wrongly.
    """

    layer: str
    neurons: int
    faults: int
    missing: int
    extra: int
    faulty_neurons: int
    faulty_frames: int
    where: str
    first: NeuronFault | None
    cause: Cause
    record_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "layer": self.layer,
            "neurons": self.neurons,
            "faults": self.faults,
            "missing": self.missing,
            "extra": self.extra,
            "faulty_neurons": self.faulty_neurons,
            "faulty_frames": self.faulty_frames,
            "where": self.where,
            "first": None if self.first is None else self.first.to_dict(),
            "cause": self.cause.to_dict(),
            "record_only": self.record_only,
        }


@dataclass(frozen=True)
class OutputFaults:
    """Faults of an output although the spikes that it reads are right.

    Attributes
    ----------
    output : str
    frame : int
        The first faulty one.
    sentence : str
        What differs there.
    cause : Cause
    """

    output: str
    frame: int
    sentence: str
    cause: Cause

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"output": self.output, "frame": self.frame, "first": self.sentence, "cause": self.cause.to_dict()}


@dataclass(frozen=True)
class Findings:
    """What was found of one comparison that failed; `explained.Explanation` says it in words.

    Attributes
    ----------
    comparison : str
        "Keras" or the backend.
    frames : int
        That were verified.
    faulty_frames : int
    layers : tuple of LayerFaults
        The layers in which faults arise, in the graph's order.
    outputs : tuple of OutputFaults
    followers : tuple of str
        Layers whose spikes differ from the oracle's as they must, given the wrong spikes of `layers`.
    echoes : tuple of str
        Layers that count as faulty only because a layer before them was recorded wrongly.
    """

    comparison: str
    frames: int
    faulty_frames: int
    layers: tuple[LayerFaults, ...] = ()
    outputs: tuple[OutputFaults, ...] = ()
    followers: tuple[str, ...] = ()
    echoes: tuple[str, ...] = field(default=())

    @property
    def culprit(self) -> LayerFaults | None:
        """The first layer at fault."""
        return self.layers[0] if self.layers else None

    @property
    def first_frame(self) -> int | None:
        """The first frame with a fault."""
        frames = [own.first.frame for own in self.layers if own.first is not None]
        frames += [own.frame for own in self.outputs]
        return min(frames, default=None)

    @property
    def headline(self) -> str:
        """Comparison, layer and likely cause, in one clause."""
        found = self.culprit
        if found is not None:
            return f"{self.comparison}, layer {found.layer}: {found.cause.kind}"
        return f"{self.comparison}, output {self.outputs[0].output}: {self.outputs[0].cause.kind}"
