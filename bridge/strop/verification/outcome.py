"""Outcome of a verification: results per layer, output and backend, the verdict, and their JSON form.

Words: a *fault* is a difference that rounding cannot explain; a *tie* is one that float32 cannot decide, because the
exact potential lies closer to its threshold than the sum may be rounded. A comparison is *undecided* where that is so,
whether or not it differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from strop.verification.counts import ALWAYS_ALLOWED, MOST_TIES
from strop.verification.counts import LayerReport as LayerReport
from strop.verification.counts import OutputReport as OutputReport

if TYPE_CHECKING:
    from strop.verification.evidence import Evidence
    from strop.verification.explanation.explained import Explanation
    from strop.verification.proof import Proof


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
    outputs : list of OutputReport
    accuracies : dict of output name to float or None
        Of every output, if any has labels; `accuracy` is that of the first.
    explanation : Explanation or None
        Why it has faults, if it has any.
    """

    accuracy: float | None = None
    seconds: float = 0.0
    layers: list[LayerReport] = field(default_factory=list)
    outputs: list[OutputReport] = field(default_factory=list)
    accuracies: dict[str, float | None] = field(default_factory=dict)
    explanation: Explanation | None = field(default=None, repr=False)

    @property
    def faults(self) -> int:
        """Differing spikes, and output values, that rounding cannot explain."""
        return sum(layer.faults for layer in self.layers) + sum(output.faults for output in self.outputs)

    @property
    def ties(self) -> int:
        """Differing spikes, and classes, that float32 cannot decide."""
        return sum(layer.ties for layer in self.layers) + sum(output.ties for output in self.outputs)

    @property
    def passed(self) -> bool:
        """Whether there is no fault, and no layer has more ties than rounding leaves."""
        return not self.problems()

    def problems(self) -> list[str]:
        """Return why this comparison fails, a clause each."""
        found = _layer_problems("Keras", self.layers)
        for output in self.outputs:
            if output.faults:
                found.append(
                    f"Keras's output {output.name!r} differs from the read-out's in {output.faults:,} of "
                    f"{output.values:,} values, by up to {output.largest_difference:.3g}"
                )
            if output.ties > max(ALWAYS_ALLOWED, MOST_TIES * output.frames):
                found.append(
                    f"Keras's output {output.name!r} lets another class win in {output.ties:,} of {output.frames:,} "
                    f"frames, which rounding could explain, but not so often"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "passed": self.passed,
            "accuracy": self.accuracy,
            "accuracies": self.accuracies,
            "ties": self.ties,
            "faults": self.faults,
            "seconds": self.seconds,
            "layers": [layer.to_dict() for layer in self.layers],
            "outputs": [output.to_dict() for output in self.outputs],
            "explanation": self.explanation and self.explanation.to_dict(),
        }


@dataclass
class BackendReport:
    """One simulator against the oracle, on the whole network.

    Attributes
    ----------
    version : str
    frames_with_faults : int
    decoded_equal : bool
        Whether it answered every frame as the oracle did: the same classes, or the same values.
    accuracy : float or None
    build_seconds, run_seconds : float
    frames : int
    layers : list of LayerReport
    unexplained : int
        Frames that were answered otherwise than by the oracle, or decided otherwise than by Keras, without a tie.
    unproved : list of str
        Layers in which no spike is beyond doubt, so that no comparison could be shown to find a wrong one.
    accuracies : dict of output name to float or None
        Of every output, if any has labels; `accuracy` is that of the first.
    explanation : Explanation or None
        Why it has faults, if it has any.
    proof : Proof or None
        Whether its spikes are proved equal to the graph's for all inputs.
    """

    version: str
    frames_with_faults: int = 0
    decoded_equal: bool = True
    accuracy: float | None = None
    build_seconds: float = 0.0
    run_seconds: float = 0.0
    frames: int = 0
    layers: list[LayerReport] = field(default_factory=list)
    unexplained: int = 0
    unproved: list[str] = field(default_factory=list)
    accuracies: dict[str, float | None] = field(default_factory=dict)
    explanation: Explanation | None = field(default=None, repr=False)
    proof: Proof | None = None

    @property
    def faults(self) -> int:
        """Differing spikes that rounding cannot explain."""
        return sum(layer.faults for layer in self.layers)

    @property
    def ties(self) -> int:
        """Differing spikes within the float64 bound."""
        return sum(layer.ties for layer in self.layers)

    @property
    def passed(self) -> bool:
        """Whether there is no fault, and every answer is accounted for."""
        return not self.problems("it")

    def problems(self, name: str) -> list[str]:
        """Return why this comparison fails, a clause each."""
        found = _layer_problems(name, self.layers)
        if self.unexplained and not self.faults:
            found.append(f"{name} answers {self.unexplained:,} frames otherwise, and no tie explains it")
        return found if self.proof is None else found + self.proof.problems(name, self.faults + self.ties)

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
            "unexplained": self.unexplained,
            "accuracy": self.accuracy,
            "accuracies": self.accuracies,
            "build_seconds": self.build_seconds,
            "run_seconds": self.run_seconds,
            "frames_per_second": self.frames_per_second,
            "version": self.version,
            "proof": None if self.proof is None else self.proof.to_dict(self.faults + self.ties),
            "layers": [layer.to_dict() for layer in self.layers],
            "explanation": self.explanation and self.explanation.to_dict(),
        }


def _layer_problems(name: str, layers: list[LayerReport]) -> list[str]:
    faulty = [f"{layer.name} ({layer.faults:,})" for layer in layers if layer.faults]
    found = [f"{name}: faults in {', '.join(faulty)}"] if faulty else []
    for layer in layers:
        if layer.has_too_many_ties:
            found.append(
                f"{name}: {layer.ties:,} of {layer.compared:,} comparisons in {layer.name} are ties "
                f"({100 * layer.tie_share:.2g} %, at most {100 * MOST_TIES:g} % may be): rounding decides there"
            )
    return found


@dataclass
class Outcome:
    """The result of a verification.

    Attributes
    ----------
    model : str
    frames : int
    keras : KerasReport or None
        None where a saved graph was verified, without a Keras model.
    backends : dict of backend name to BackendReport
    graph : dict
        populations, neurons, synapses, depth, synaptic_events_per_frame.
    strict : bool
        Whether a tie, or a reservation, fails the verification.
    silent, saturated : list of str
        Populations no neuron of which fired in any frame; all neurons of which fired in every frame.
    evidence : Evidence or None
        For `strop.display`, with `strop.verify(..., evidence=True)`.
    notes : list of str
        How frames and labels were scaled and used, in plain sentences.
    call : str
        Arguments of the command line that `strop explain` needs, too.
    """

    model: str
    frames: int
    keras: KerasReport | None
    backends: dict[str, BackendReport]
    graph: dict[str, Any]
    strict: bool = False
    silent: list[str] = field(default_factory=list)
    saturated: list[str] = field(default_factory=list)
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    notes: list[str] = field(default_factory=list)
    call: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing fails: no fault, hardly any tie; with `strict` also no tie and no reservation at all."""
        return not self.problems()

    @property
    def verdict(self) -> str:
        """One of "passed", "passed with reservations", "failed"."""
        if not self.passed:
            return "failed"
        return "passed with reservations" if self.reservations() else "passed"

    @property
    def proved(self) -> list[str]:
        """The backends whose spikes are proved equal to the graph's for all inputs, none of which differs."""
        return [name for name, own in self.backends.items() if own.proof and own.proof.stands(own.faults + own.ties)]

    def problems(self) -> list[str]:
        """Return why the verification fails, a clause each; nothing where it passes."""
        found = [] if self.keras is None else self.keras.problems()
        for name, backend in self.backends.items():
            found += backend.problems(name)
        if self.strict:
            for name, column in self._columns():
                if column.ties:
                    found.append(f"{name}: {column.ties:,} ties, and strict allows none")
            found += self.reservations()
        return found

    def reservations(self) -> list[str]:
        """Return the reservations of a pass, a clause each: layers in which nothing, or little, was compared."""
        found = []
        if self.silent:
            found.append(f"nothing was compared in {', '.join(self.silent)}: no neuron fired in any frame")
        if self.saturated:
            found.append(f"nothing was compared in {', '.join(self.saturated)}: every neuron fired in every frame")
        if self.keras is not None and not self.keras.layers:
            found.append("Keras shows the spikes of no layer: only its outputs were compared")
        for output in [] if self.keras is None else self.keras.outputs:
            if not output.is_mostly_decided:
                share = 100 * output.undecided / output.values
                found.append(f"Keras: rounding may decide {share:.3g} % of output {output.name!r} either way")
        for name, backend in self.backends.items():
            if backend.unproved:
                found.append(f"{name}: no spike of {', '.join(backend.unproved)} is beyond what it resolves")
        for name, column in self._columns():
            for layer in column.layers:
                if not layer.is_mostly_decided:
                    share = 100 * layer.undecided / layer.compared
                    found.append(
                        f"{name}: rounding may decide {share:.3g} % of the comparisons in {layer.name} either way"
                    )
        return found

    def explanations(self) -> list[Explanation]:
        """Return why comparisons have faults, in their order: Keras first; nothing where none has any."""
        return [column.explanation for _, column in self._columns() if column.explanation is not None]

    def _columns(self) -> list[tuple[str, KerasReport | BackendReport]]:
        keras: list[tuple[str, KerasReport | BackendReport]] = [] if self.keras is None else [("Keras", self.keras)]
        return [*keras, *self.backends.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (DESIGN section 5)."""
        return {
            "model": self.model,
            "frames": self.frames,
            "passed": self.passed,
            "verdict": self.verdict,
            "strict": self.strict,
            "problems": self.problems(),
            "reservations": self.reservations(),
            "notes": list(self.notes),
            "proved_for_all_inputs": self.proved,
            "keras": None if self.keras is None else self.keras.to_dict(),
            "backends": {name: backend.to_dict() for name, backend in self.backends.items()},
            "graph": self.graph,
        }
