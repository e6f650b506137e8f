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


def decides(graph: Graph) -> bool:
    """Whether the graph's first output is a decision between classes: a vector of two or more values per frame."""
    readout = next((r for r in graph.readouts if r.name == graph.outputs[0]), None)
    return readout is not None and readout.kind != "spikes" and len(readout.shape) == 1 and readout.shape[0] > 1


def classes(graph: Graph, spikes: SpikeDict) -> npt.NDArray[np.int64] | None:
    """Return the winning class of each frame, shape `(n,)`; ties go to the lower index. None if nothing is decided."""
    if not decides(graph):
        return None
    readout = next(r for r in graph.readouts if r.name == graph.outputs[0])
    winners: npt.NDArray[np.int64] = readout_logits(readout, spikes).argmax(axis=-1)
    return winners
