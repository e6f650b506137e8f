"""From the last spikes to answers: read-outs evaluated in float64, and the classes that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Readout

SpikeDict = Mapping[str, npt.NDArray[np.bool_]]


def readout_logits(readout: Readout, spikes: SpikeDict) -> npt.NDArray[np.float64]:
    """Return the read-out's values before any softmax, shape `(n, *readout.shape)`."""
    parts = (op.apply(spikes[source]) for source, op in zip(readout.sources, readout.operators, strict=True))
    logits: npt.NDArray[np.float64] = sum(parts, start=np.zeros(())) + readout.bias
    return logits


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Softmax over the last axis, safe for large logits."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result


def decode(graph: Graph, spikes: SpikeDict) -> list[npt.NDArray[Any]]:
    """Return what each output of the graph says, in the order of `graph.outputs`.

    Spikes (bool) for a population or a read-out of kind "spikes"; probabilities or values (float64) otherwise.
    """
    readouts = {readout.name: readout for readout in graph.readouts}
    answers: list[npt.NDArray[Any]] = []
    for name in graph.outputs:
        if name not in readouts:
            answers.append(spikes[name])
            continue
        logits = readout_logits(readouts[name], spikes)
        kind = readouts[name].kind
        if kind in ("spikes", "winner"):
            answers.append(logits >= 0.5)
        else:
            answers.append(logits if kind == "linear" else softmax(logits))
    return answers


def class_count(graph: Graph, output: str | None = None) -> int | None:
    """Return between how many classes an output decides (the first, by default), or None if it decides nothing."""
    name = graph.outputs[0] if output is None else output
    readout = next((r for r in graph.readouts if r.name == name), None)
    if readout is None or readout.kind == "spikes" or len(readout.shape) != 1 or readout.shape[0] < 2:
        return None
    return int(readout.shape[0])


def decides(graph: Graph, output: str | None = None) -> bool:
    """Whether an output (the first, by default) is a decision between classes: two or more values per frame."""
    return class_count(graph, output) is not None


def classes(graph: Graph, spikes: SpikeDict, output: str | None = None) -> npt.NDArray[np.int64] | None:
    """Return the winning class of each frame, shape `(n,)`; ties go to the lower index. None if nothing is decided."""
    if not decides(graph, output):
        return None
    name = graph.outputs[0] if output is None else output
    readout = next(r for r in graph.readouts if r.name == name)
    winners: npt.NDArray[np.int64] = readout_logits(readout, spikes).argmax(axis=-1)
    return winners
