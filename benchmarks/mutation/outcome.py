"""What a user sees of one verification: its verdict, its counts, the spikes and answers of the graph."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

# Times and texts are no answers.
_NO_ANSWERS = ("seconds", "per_second", "version", "message", "text", "largest_difference")
# How many comparisons count as decided beyond doubt says how tight a bound is: shown apart from verdicts and counts.
_BOUNDS = ("undecided", "reservations", "verdict")


@dataclass(frozen=True)
class Case:
    """One small verification of the battery.

    Attributes
    ----------
    name : str
    kind : {"sound", "refused", "planted"}
        What is right: that it passes, that the model or its frames are refused, that it fails.
    model : Keras model, or callable that returns a Graph
    frames, labels : as `strop.verify` takes them
    options : dict
        Further arguments of `strop.verify`.
    plant : callable, optional
        Takes strop's modules as they are now, spoils something, and returns the backends to verify on.
    chunk : int, optional
        Frames of a chunk, where the borders of chunks matter.
    """

    name: str
    kind: str
    model: Any
    frames: Any
    labels: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    plant: Callable[[], list[Any]] | None = None
    chunk: int | None = None


def observe(case: Case) -> dict[str, Any]:
    """Run a case on strop as it is imported now; return its outcome as plain data."""
    import strop

    if case.chunk is not None:
        # The attribute strop.simulate is the function.
        sys.modules["strop.running.simulate"]._CHUNK_FRAMES = case.chunk  # type: ignore[attr-defined]
    try:
        model = case.model() if callable(case.model) and not hasattr(case.model, "layers") else case.model
        backends = case.plant() if case.plant is not None else ["reference"]
        report = strop.verify(model, case.frames, case.labels, backends=backends, **case.options)
        said = {"report": report.to_dict(), "passed": report.passed}
    except Exception as error:
        kind = "refused" if isinstance(error, strop.StropError) else "raised"
        return {"verdict": kind, "detail": f"{type(error).__name__}: {error}"[:300]}
    outcome = {"verdict": "passed" if report.passed else "failed", "counts": _answers_of(said)}
    if case.kind == "refused" and report.passed:
        outcome["true"] = _is_true(strop, model, case)
    if case.kind == "sound":
        try:
            outcome["answers"] = _simulated(strop, model, case)
        except Exception as error:
            return {"verdict": "raised", "detail": f"simulate: {type(error).__name__}: {error}"[:300]}
    return outcome


def _simulated(strop: Any, model: Any, case: Case) -> dict[str, Any]:
    graph = model
    if not isinstance(model, strop.Graph):
        lowering = {k: v for k, v in case.options.items() if k in ("encoding", "decision", "bits", "step", "offset")}
        graph = strop.lower(model, **lowering)
    result = strop.simulate(graph, case.frames, "reference")
    outputs = result.output if isinstance(result.output, list) else [result.output]
    return {
        "spikes": [_digest(spikes) for spikes in result.spikes.values()],
        "outputs": [_numbers(output) for output in outputs],
        "classes": None if result.classes is None else result.classes.tolist(),
        "graph": _weights(graph),
    }


def _is_true(strop: Any, model: Any, case: Case) -> bool:
    """Whether a model that should have been refused, and passed, answers as Keras does: the pass is right then."""
    try:
        ours = strop.simulate(strop.lower(model), case.frames, "reference").output
        theirs = keras.tree.flatten(model.predict_on_batch(case.frames))
    except Exception:
        return False
    pairs = zip(ours if isinstance(ours, list) else [ours], theirs, strict=True)
    return all(np.shape(a) == b.shape and np.allclose(a, b, atol=1e-3) for a, b in pairs)


def _digest(array: Any) -> str:
    array = np.ascontiguousarray(array)
    return f"{array.dtype}{array.shape}{hashlib.sha1(array.tobytes()).hexdigest()[:16]}"


def _numbers(array: Any) -> list[Any]:
    return [list(np.shape(array)), *np.round(np.asarray(array, dtype=np.float64), 9).reshape(-1).tolist()]


def _weights(graph: Any) -> list[Any]:
    """Return what every unit adds up for two frames of noise on each of its sources, thresholds and delays."""
    rng = np.random.default_rng(0)
    found: list[Any] = []
    for population in graph.populations:
        found.append(_numbers(population.threshold))
        found.append(_numbers(population.bias))
        for p in graph.incoming(population.name):
            noise = rng.random((2, *p.operator.shape_in))
            found.append([p.delay, *_numbers(p.operator.apply(noise))])
    return found


def _answers_of(value: Any) -> Any:
    """Return a report's dictionary without times and texts."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not any(word in str(k) for word in _NO_ANSWERS)}
        # Sentences: their number says enough.
        sentences = {k: len(v) for k, v in kept.items() if k in ("problems", "reservations", "notes")}
        return {k: _answers_of(v) for k, v in (kept | sentences).items()}
    if isinstance(value, (list, tuple)):
        return [_answers_of(v) for v in value]
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    return value


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what changed between two outcomes of one case: verdict, counts, spikes, outputs, classes, graph."""
    changed = [key for key in ("verdict", "counts") if not _same(before.get(key), after.get(key))]
    if "counts" in changed and _same(_but_bounds(before.get("counts")), _but_bounds(after.get("counts"))):
        changed = ["bounds"]
    if after["verdict"] == "passed" and after.get("true"):
        return ["refusal"]
    if "verdict" not in changed and _by_another_way(before, after):
        return ["network"]
    if before.get("answers") is not None and after.get("answers") is not None:
        changed += [key for key in before["answers"] if not _same(before["answers"][key], after["answers"][key])]
    return changed


def _but_bounds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _but_bounds(item) for key, item in value.items() if key not in _BOUNDS}
    return [_but_bounds(item) for item in value] if isinstance(value, list) else value


def _by_another_way(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the graph has other populations, or in another order, that answer the same; Keras shows no fewer."""
    if not before.get("answers") or not after.get("answers"):
        return False
    old, new = before["counts"]["report"], after["counts"]["report"]
    same = all(_same(before["answers"][key], after["answers"][key]) for key in ("outputs", "classes"))
    names = [[layer["name"] for layer in found["backends"]["reference"]["layers"]] for found in (old, new)]
    shapes = [[spikes.split(")")[0] for spikes in found["answers"]["spikes"]] for found in (before, after)]
    shown = [len((found.get("keras") or {}).get("layers", ())) for found in (old, new)]
    return same and shown[1] >= shown[0] and (names[0] != names[1] or shapes[0] != shapes[1])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True))
    return bool(a == b)


def where_counts_differ(before: Any, after: Any, path: str = "") -> str:
    """Return the first place at which two reports differ, for the list of survivors."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            if not _same(before.get(key), after.get(key)):
                return where_counts_differ(before.get(key), after.get(key), f"{path}.{key}")
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (a, b) in enumerate(zip(before, after, strict=True)):
            if not _same(a, b):
                return where_counts_differ(a, b, f"{path}[{index}]")
    return f"{path.lstrip('.')}: {before!r} -> {after!r}"[:200]


def caught(case: Case, before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Return how a verification noticed that something is wrong: "failed", "raised", or None if it did not.

    A case that is right to fail or to be refused notices only by an error that was not there before, or by failing
    where the model should have been refused.
    """
    if after["verdict"] == before["verdict"]:
        return None
    if after["verdict"] in ("failed", "raised"):
        # A spoilt comparison that fails is no news; one that fails in place of a refusal is.
        return str(after["verdict"])
    if after["verdict"] == "refused":
        return "refused"
    return None
