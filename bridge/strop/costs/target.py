"""What a target says of a graph: fidelity and mapping of a backend, and the proof or the price of its arithmetic."""

from __future__ import annotations

from typing import Any

from strop.errors import BackendError, BackendMissingError, QuantizationError
from strop.graph import Graph
from strop.quantization.certify import certify
from strop.quantization.quantize import quantize_report
from strop.quantization.targets import arithmetic_of
from strop.running.arithmetic import Arithmetic
from strop.running.encode import Frames
from strop.running.registry import backend_names, get_backend


def target_facts(graph: Graph, name: str, frames: Frames | None, copies: int | str | None = None) -> dict[str, Any]:
    """Return what a backend says of the graph, and what its arithmetic allows; of an arithmetic alone, the latter.

    Raises
    ------
    BackendError
        For `copies` of a network that the target does not map.
    """
    # Targets of `strop export` have shorter names.
    backend_name = {"spinnaker": "pynn-spinnaker"}.get(name, name)
    found: dict[str, Any] = {"name": name, "version": "", "problem": ""}
    try:
        arithmetic = arithmetic_of(name)
    except BackendMissingError:
        # A backend that is not installed, or no target at all: get_backend says which.
        arithmetic = get_backend(backend_name).arithmetic
    try:
        backend: Any = get_backend(backend_name)
    except BackendMissingError:
        found["problem"] = "" if backend_name not in backend_names() else f"{backend_name} is not installed"
        return {**found, "quantization": _quantization(graph, arithmetic, frames)}
    found["version"] = backend.version()
    try:
        backend.check(graph)
    except BackendError as error:
        found["problem"] = str(error)
    fidelity = getattr(backend, "fidelity", None)
    if fidelity is not None:
        found["fidelity"] = [list(row) for row in fidelity(graph)]
    mapping = getattr(backend, "inspect_mapping", None)
    if mapping is None and copies is not None:
        raise BackendError(f"{name} maps no network, so copies say nothing here; --copies is for --target spinnaker")
    if mapping is not None and not found["problem"]:
        found["mapping"] = mapping(graph, frames, **({} if copies is None else {"copies": copies}))
    return {**found, "quantization": _quantization(graph, arithmetic, frames)}


def _quantization(graph: Graph, arithmetic: Arithmetic, frames: Frames | None) -> dict[str, Any]:
    """Return whether the graph is proved for an arithmetic; where it is not, what quantising it would change."""
    certificate = certify(graph, arithmetic)
    found: dict[str, Any] = {"proved": certificate.holds}
    if certificate.holds:
        return found
    population = next(row for row in certificate.populations if row.reasons)
    found["reason"] = f"{population.name}, neuron {population.reasons[0].neuron}: {population.reasons[0].what}"
    try:
        result = quantize_report(graph, arithmetic, frames=frames)
    except QuantizationError as error:
        return {**found, "refused": str(error)}
    found["weight_bits"] = max((row.weight_bits for row in result.populations), default=0)
    found["sum_bits"] = max((row.sum_bits for row in result.populations), default=0)
    if frames is not None:
        found["spikes_changed"] = sum(row.changed or 0 for row in result.populations)
        found["compared"] = sum(row.compared for row in result.populations)
        found["decisions_changed"] = result.decisions
    return found
