"""`prove_for`: whether a backend's spikes are proved equal to the graph's for all inputs, beside what was compared.

A verification counts differences on frames. Where a graph is in whole numbers that fit the arithmetic that a backend
states (`Backend.arithmetic`), more is known: see `strop.quantization.certify` for the theorem. Proofs take the
backend's word for its arithmetic; a difference on any frame refutes that, and fails the verification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from strop.errors import StropError
from strop.graph import Graph
from strop.quantization.certificate import Certificate
from strop.quantization.certify import certify_to_first_gap
from strop.running.arithmetic import FLOAT64, Arithmetic
from strop.running.backend import Backend


@dataclass(frozen=True)
class Proof:
    """Whether one backend's spikes are proved equal to the graph's for all inputs.

    Attributes
    ----------
    certificate : Certificate or None
        Where it holds, that of every population; else up to the first that is not proved. None where nothing was tried.
    reason : str
        Why it is not proved; empty where it is.
    source : str
        Where the backend's arithmetic is known from.
    """

    certificate: Certificate | None
    reason: str
    source: str = ""

    @property
    def holds(self) -> bool:
        """Whether every population is proved."""
        return not self.reason and self.certificate is not None and self.certificate.holds

    def stands(self, differing: int) -> bool:
        """Whether it holds and none of the spikes that were compared, `differing` of them, says otherwise."""
        return self.holds and not differing

    def problems(self, name: str, differing: int) -> list[str]:
        """Return what is wrong where spikes differ, `differing` of them, that were proved equal; a clause each."""
        if not self.holds or not differing:
            return []
        return [
            f"{name}: all spikes are proved equal in the arithmetic that it states, and {differing:,} differ: its "
            "arithmetic is another, or spikes were lost or came at another time"
        ]

    def to_dict(self, differing: int) -> dict[str, Any]:
        """Return the JSON form, `differing` spikes having been found to differ."""
        return {
            "proved": self.stands(differing),
            "refuted": self.holds and not self.stands(differing),
            "reason": self.reason,
            "source": self.source,
        }


def prove_for(graph: Graph, backends: Mapping[str, Backend]) -> dict[str, Proof]:
    """Return for each backend, by name, whether its spikes are proved; equal arithmetics are proved once."""
    known: dict[Arithmetic, Proof] = {}
    found = {}
    for name, backend in backends.items():
        if not backend.states_arithmetic:
            found[name] = Proof(None, "it states no arithmetic of its own (Backend.arithmetic)")
        elif backend.unproved:
            found[name] = Proof(None, backend.unproved)
        else:
            found[name] = _known(graph, backend.arithmetic, known)
            if found[name].holds and backend.arithmetic.digits is None:
                # Whole numbers may be larger than the oracle's, which differences are counted from.
                oracle = _known(graph, FLOAT64, known)
                if not oracle.holds:
                    found[name] = Proof(None, f"the oracle's sums are rounded: {oracle.reason}")
    return found


def _known(graph: Graph, arithmetic: Arithmetic, known: dict[Arithmetic, Proof]) -> Proof:
    own = replace(arithmetic, name="")
    if own not in known:
        known[own] = _prove(graph, arithmetic)
    return replace(known[own], source=arithmetic.source)


def _prove(graph: Graph, arithmetic: Arithmetic) -> Proof:
    if all(name in graph.host_populations for name in graph.population_names):
        return Proof(None, "the host evaluates all populations")
    try:
        certificate = certify_to_first_gap(graph, arithmetic)
    except StropError as error:
        return Proof(None, str(error))
    gap = next((row for row in certificate.populations if row.reasons), None)
    return Proof(
        certificate, "" if gap is None else f"{gap.name}, neuron {gap.reasons[0].neuron}: {gap.reasons[0].what}"
    )


# What a proof is about, for tables and pages.
STATEMENT = (
    "Every spike is the graph's, whatever the input: in whole numbers no sum is rounded, and none is taken for another "
    "side of its threshold. Read-outs are not part of the proof."
)


def unproved(proofs: Mapping[str, Proof | None]) -> dict[str, list[str]]:
    """Return the reasons why something is not proved, each with the names of the backends that it holds for."""
    found: dict[str, list[str]] = {}
    for name, proof in proofs.items():
        if proof is not None and proof.reason:
            found.setdefault(proof.reason, []).append(name)
    return found
