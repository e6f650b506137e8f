"""The outcome of a verification: plain data, the JSON that outside checks read, and a table for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.evidence import Evidence


@dataclass
class LayerReport:
    """One population under one comparison.

    Attributes
    ----------
    name : str
    units : int
    spikes : int
        Spikes that were seen over all frames.
    faults, ties : int
        Differing units, frames counted singly, that rounding cannot and can explain.
    """

    name: str
    units: int
    spikes: int = 0
    faults: int = 0
    ties: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "units": self.units,
            "spikes": self.spikes,
            "faults": self.faults,
            "ties": self.ties,
        }


@dataclass
class KerasReport:
    """Keras against the oracle, each layer fed Keras's own previous spikes.

    Attributes
    ----------
    accuracy : float or None
        Of the model's own outputs, where labels were given.
    seconds : float
        Spent in Keras.
    layers : list of LayerReport
        The populations whose spikes Keras shows.
    accuracies : dict of output name to float or None
        Of every output, if any has labels; `accuracy` is that of the first.
    """

    accuracy: float | None = None
    seconds: float = 0.0
    layers: list[LayerReport] = field(default_factory=list)
    accuracies: dict[str, float | None] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """Differing units that rounding cannot explain."""
        return sum(layer.faults for layer in self.layers)

    @property
    def ties(self) -> int:
        """Differing units that float32 cannot decide."""
        return sum(layer.ties for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "accuracy": self.accuracy,
            "accuracies": self.accuracies,
            "ties": self.ties,
            "faults": self.faults,
            "seconds": self.seconds,
            "layers": [layer.to_dict() for layer in self.layers],
        }


@dataclass
class BackendReport:
    """One simulator against the oracle, on the whole network.

    Attributes
    ----------
    version : str
    frames_with_faults : int
    decoded_equal : bool
        Whether it decided every frame as the oracle did.
    accuracy : float or None
    build_seconds, run_seconds : float
    frames : int
    layers : list of LayerReport
    accuracies : dict of output name to float or None
        Of every output, if any has labels; `accuracy` is that of the first.
    """

    version: str
    frames_with_faults: int = 0
    decoded_equal: bool = True
    accuracy: float | None = None
    build_seconds: float = 0.0
    run_seconds: float = 0.0
    frames: int = 0
    layers: list[LayerReport] = field(default_factory=list)
    accuracies: dict[str, float | None] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """Differing units that rounding cannot explain."""
        return sum(layer.faults for layer in self.layers)

    @property
    def ties(self) -> int:
        """Differing units within the float64 bound."""
        return sum(layer.ties for layer in self.layers)

    @property
    def passed(self) -> bool:
        """Whether there is no fault."""
        return self.faults == 0

    @property
    def frames_per_second(self) -> float:
        """Frames by seconds of running, building not counted."""
        return self.frames / self.run_seconds if self.run_seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "passed": self.passed,
            "faults": self.faults,
            "ties": self.ties,
            "frames_with_faults": self.frames_with_faults,
            "decoded_equal": self.decoded_equal,
            "accuracy": self.accuracy,
            "accuracies": self.accuracies,
            "build_seconds": self.build_seconds,
            "run_seconds": self.run_seconds,
            "frames_per_second": self.frames_per_second,
            "version": self.version,
            "layers": [layer.to_dict() for layer in self.layers],
        }


@dataclass
class Report:
    """What a verification found.

    Attributes
    ----------
    model : str
    frames : int
    keras : KerasReport or None
        None where a saved graph was verified and there is no Keras model to ask.
    backends : dict of backend name to BackendReport
    graph : dict
        populations, neurons, synapses, depth, synaptic_events_per_frame.
    evidence : Evidence or None
        What `strop.page` shows beside the numbers, where `strop.verify` was asked for it.
    notes : list of str
        What was done with the frames and labels, in plain sentences.
    """

    model: str
    frames: int
    keras: KerasReport | None
    backends: dict[str, BackendReport]
    graph: dict[str, Any]
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no comparison found a fault."""
        keras_passed = self.keras is None or self.keras.faults == 0
        return keras_passed and all(backend.passed for backend in self.backends.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (DESIGN section 5)."""
        return {
            "model": self.model,
            "frames": self.frames,
            "passed": self.passed,
            "keras": None if self.keras is None else self.keras.to_dict(),
            "backends": {name: backend.to_dict() for name, backend in self.backends.items()},
            "graph": self.graph,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        from strop.tables import render_report

        return render_report(self)
