"""Outputs that are wrong although the spikes are right: what of the read-out would explain the difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Readout
from strop.running.decode import decode, readout_of, softmax
from strop.verification.explanation.clues import Sample
from strop.verification.explanation.intervals import number
from strop.verification.explanation.places import neuron_text
from strop.verification.explanation.records import Cause, OutputFaults

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
# Relative to the size of the logits: what float32 may leave of a difference, with a wide margin.
_TOLERANCE = 2e-4
_SOFTMAX = ("softmax", "key", "log_softmax")
# Frames with smaller probabilities are left out where so many others are there.
_LEAST_PROBABILITY, _ENOUGH = 1e-25, 8


def explain_outputs(
    graph: Graph, sample: Sample, known: Mapping[str, Array], faults: Mapping[str, int], comparison: str
) -> tuple[OutputFaults, ...]:
    """Return an explanation of every output that has faults.

    Parameters
    ----------
    known : mapping of population name to array, shape (n, *shape)
        The spikes that the read-outs read.
    faults : mapping of output name to int
        Frames in which it is wrong.
    """
    found = []
    for place, name in enumerate(graph.outputs):
        key = name if name in faults else f"{name}#{place + 1}"
        if not faults.get(key):
            continue
        readout = readout_of(graph, name)
        if readout is None or not sample.outputs:
            cause = Cause("read-out", f"the output {name!r} is not what its spikes say", 0.0)
            found.append(OutputFaults(name, int(sample.frames[0]), "its value differs", cause))
            continue
        found.append(_of_readout(graph, place, readout, known, sample, comparison))
    if not found and any(faults.values()):
        name = graph.outputs[0]
        sentence = (
            "its spikes are right, and yet its decision is another one: the read-out is at fault, not the network"
        )
        found.append(OutputFaults(name, int(sample.frames[0]), "another decision", Cause("read-out", sentence, 1.0)))
    return tuple(found)


def _of_readout(
    graph: Graph, place: int, readout: Readout, known: Mapping[str, Array], sample: Sample, comparison: str
) -> OutputFaults:
    theirs = sample.outputs[place]
    # As the verification decodes: where the decoding itself is wrong, it must be wrong here.
    ours = np.asarray(decode(graph, known)[place], dtype=np.float64)
    values = np.asarray(theirs, dtype=np.float64).reshape(len(theirs), -1)
    own = ours.reshape(len(ours), -1)
    shift = np.abs(values - own) if values.shape == own.shape else np.ones((len(values), 1))
    row = int(np.argmax(shift.max(axis=1) > _TOLERANCE * (1.0 + np.abs(own).max())))
    at = int(np.argmax(shift[row]))
    frame = int(sample.frames[row])
    first = f"frame {frame}, value {at} of {readout.name}: {comparison} gives {number(values[row, at])}"
    if values.shape == own.shape:
        first += f", the read-out {number(own[row, at])}"
    cause = Cause("read-out", f"the read-out {readout.name}: {_reason(readout, own, values, known)}", 1.0)
    return OutputFaults(readout.name, frame, first, cause)


def _reason(readout: Readout, own: Floats, values: Floats, known: Mapping[str, Array]) -> str:
    if not np.isfinite(values).all():
        return "its values are not finite (NaN or infinity)"
    if readout.argmax or readout.after is not None or values.shape != own.shape:
        return _exchanged_classes(own, values) or "its values differ"
    for reason in _functions(readout, own, values):
        return reason
    if readout.kind in ("softmax", "key"):  # of a probability that float32 rounds to nothing the logit is unknown
        told = (np.minimum(values, own) > _LEAST_PROBABILITY).all(axis=1)
        if np.count_nonzero(told) >= _ENOUGH:
            values, own, known = values[told], own[told], {name: spikes[told] for name, spikes in known.items()}
    theirs, ours = _as_logits(readout, values), _as_logits(readout, own)
    tolerance = _TOLERANCE * (1.0 + float(np.abs(ours).max(initial=0.0)))
    for reason in (
        *_permutation(theirs, ours, tolerance),
        *_offsets(readout, theirs, ours, tolerance),
        *_factors(readout, theirs, ours, tolerance),
        *_rows(readout, theirs, ours, known, tolerance),
    ):
        return reason
    classes = np.flatnonzero((np.abs(theirs - ours) > tolerance).any(axis=0))
    return f"weights or biases of {_classes(classes, own.shape[1])} differ in more than one place"


def _as_logits(readout: Readout, values: Floats) -> Floats:
    """Return logits, as far as the values tell them: those of a softmax up to a constant in each frame."""
    if readout.kind in ("softmax", "key"):
        logarithms: Floats = np.log(np.maximum(values, 1e-30))
        return logarithms
    if readout.kind == "sigmoid":
        inside = np.clip(values, 1e-7, 1.0 - 1e-7)
        result: Floats = np.log(inside / (1.0 - inside))
        return result
    return values


def _functions(readout: Readout, own: Floats, values: Floats) -> Iterator[str]:
    if own.shape[1] < 2:
        return
    for theirs, ours, words in ((values, own, "is missing in the graph"), (own, values, "is missing")):
        if not np.allclose(theirs, ours, atol=1e-3) and np.allclose(theirs, softmax(ours), atol=1e-5):
            yield f"its softmax {words}"


def _permutation(theirs: Floats, ours: Floats, tolerance: float) -> Iterator[str]:
    from scipy.optimize import linear_sum_assignment

    apart = np.abs(theirs[:, :, None] - ours[:, None, :]).max(axis=0)
    rows, columns = linear_sum_assignment(apart)
    moved = np.flatnonzero(rows != columns)
    if len(moved) and apart[rows, columns].max() <= tolerance:
        names = ", ".join(str(int(one)) for one in moved[:4])
        how = "exchanged" if len(moved) == 2 else "permuted"
        yield f"classes {names.replace(', ', ' and ') if len(moved) == 2 else names} are {how}"


def _offsets(readout: Readout, theirs: Floats, ours: Floats, tolerance: float) -> Iterator[str]:
    change = theirs - ours
    if readout.kind in _SOFTMAX:
        # Known up to a constant in each frame: most classes are taken as unchanged.
        change = change - np.median(change, axis=1, keepdims=True)
    amount = np.median(change, axis=0)
    if np.abs(change - amount).max() > tolerance:
        return
    classes = np.flatnonzero(np.abs(amount) > tolerance)
    if len(classes):
        shown = ", ".join(f"class {int(one)} by {number(float(amount[one]))}" for one in classes[:3])
        yield f"its bias is off: {shown}{' and so on' if len(classes) > 3 else ''}"


def _factors(readout: Readout, theirs: Floats, ours: Floats, tolerance: float) -> Iterator[str]:
    bias = np.asarray(readout.bias, dtype=np.float64).reshape(-1)
    for base, words in ((np.zeros(ours.shape[1]), "its values are"), (bias, "its weights are")):
        a, b = theirs - base, ours - base
        if readout.kind in _SOFTMAX:
            a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
        factor = float((a * b).sum() / max(float((b * b).sum()), 1e-30))
        if abs(factor - 1.0) > 1e-4 and np.abs(a - factor * b).max() <= 2.0 * tolerance:
            yield f"{words} scaled by {number(factor)} (a factor, or a temperature)"


def _rows(
    readout: Readout, theirs: Floats, ours: Floats, known: Mapping[str, Array], tolerance: float
) -> Iterator[str]:
    change = theirs - ours
    if readout.kind in _SOFTMAX:
        change = change - np.median(change, axis=1, keepdims=True)
    wrong: npt.NDArray[np.bool_] = np.any(np.abs(change) > tolerance, axis=1)
    if not wrong.any():
        return
    for source in readout.sources:
        spikes = known[source].reshape(len(change), -1).astype(bool)
        for neuron in np.flatnonzero((spikes == wrong[:, None]).all(axis=0)):
            amount = np.median(change[wrong], axis=0)
            classes = np.flatnonzero(np.abs(amount) > tolerance)
            name = neuron_text(int(neuron), known[source].shape[1:])
            yield f"the weights from {name} of {source} to {_classes(classes, len(amount))} are off"
            return


def _classes(classes: npt.NDArray[np.int64], number_of: int) -> str:
    if len(classes) == number_of:
        return "all classes"
    return f"class {int(classes[0])}" if len(classes) == 1 else f"{len(classes)} of {number_of} classes"


def _exchanged_classes(own: Floats, values: Floats) -> str:
    """Compare class numbers: whether one class stands for another throughout."""
    if values.shape[1] != 1 or own.shape[1] != 1:
        return ""
    ours, theirs = own[:, 0].astype(np.int64), values[:, 0].astype(np.int64)
    pairs = {(int(a), int(b)) for a, b in zip(ours, theirs, strict=True) if a != b}
    if not pairs:
        return ""
    one, other = min(pairs)
    return f"class {one} is answered as class {other} ({int((ours != theirs).sum())} of {len(ours)} frames)"
