"""What a quantisation made of a graph, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strop.graph import Graph
from strop.running.arithmetic import Arithmetic


@dataclass(frozen=True)
class QuantizedPopulation:
    """What became of one population.

    Attributes
    ----------
    name : str
    neurons : int
    exact : bool
        Whether its weights were whole numbers that fit, so that nothing was rounded.
    weight_bits, sum_bits : int
        Bits of the heaviest weight and of the largest possible sum, without sign.
    headroom : float
        The target's largest sum by the largest that is possible.
    scale : tuple of float
        Smallest and largest factor that weights were multiplied by before they were rounded.
    changed : int or None
        Spikes and silences that differ on the frames, each layer fed by the quantised ones before it.
    compared : int
        Neurons times frames.
    """

    name: str
    neurons: int
    exact: bool
    weight_bits: int
    sum_bits: int
    headroom: float
    scale: tuple[float, float]
    changed: int | None = None
    compared: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "neurons": self.neurons,
            "exact": self.exact,
            "weight_bits": self.weight_bits,
            "sum_bits": self.sum_bits,
            "headroom": self.headroom,
            "scale": list(self.scale),
            "changed": self.changed,
            "compared": self.compared,
        }


@dataclass(frozen=True)
class Quantization:
    """A quantised graph, and what quantising it changed.

    Attributes
    ----------
    graph : Graph
    arithmetic : Arithmetic
    populations : tuple of QuantizedPopulation
    frames : int
    decisions : int or None
        Frames that are decided differently; None without frames or decision.
    accuracy : tuple of float or None
        Before and after, where there are labels.
    """

    graph: Graph
    arithmetic: Arithmetic
    populations: tuple[QuantizedPopulation, ...]
    frames: int = 0
    decisions: int | None = None
    accuracy: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "target": self.arithmetic.to_dict(),
            "populations": [population.to_dict() for population in self.populations],
            "frames": self.frames,
            "decisions_changed": self.decisions,
            "accuracy": None if self.accuracy is None else list(self.accuracy),
        }
