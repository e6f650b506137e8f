"""Decoding: read-outs evaluated in float64 on the last spikes, and the classes that they decide for.

`readout_logits` gives the logits of a read-out, `respond` applies its function: every decoded output of strop goes
through these two. `class_scores` gives a score for each class: the largest wins, the lower of equals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Readout, Select
from strop.graph.nodes import BINARY_KINDS

FloatArray = npt.NDArray[np.float64]
SpikeDict = Mapping[str, npt.NDArray[np.bool_]]

# The interval of logits in which a function rises; it is flat outside, so that logits outside tie.
RISING: dict[str, tuple[float, float]] = {
    "hard_sigmoid": (-3.0, 3.0),
    "hard_tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
}


def readout_logits(readout: Readout, spikes: SpikeDict) -> FloatArray:
    """Return the logits of a read-out, before its function, shape `(n, *readout.logits_shape)`."""
    parts = (op.apply(spikes[source]) for source, op in zip(readout.sources, readout.operators, strict=True))
    logits: FloatArray = sum(parts, start=np.zeros(())) + readout.bias
    return logits


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis, safe for large logits."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def log_softmax(logits: FloatArray) -> FloatArray:
    """Logarithm of the softmax over the last axis."""
    below = logits - logits.max(axis=-1, keepdims=True)
    result: FloatArray = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return result


def sigmoid(logits: FloatArray) -> FloatArray:
    """`1 / (1 + exp(-z))`, without overflow."""
    small = np.exp(-np.abs(logits))
    result: FloatArray = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return result


def softplus(logits: FloatArray) -> FloatArray:
    """`log(1 + exp(z))`, without overflow."""
    result: FloatArray = np.maximum(logits, 0.0) + np.log1p(np.exp(-np.abs(logits)))
    return result


# As the Keras 3.15 activations of these names compute them (keras/src/activations/activations.py and
# keras/src/backend/tensorflow/nn.py), in float64.
FUNCTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "key": softmax,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "linear": lambda z: z,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda z: np.clip(z + 3.0, 0.0, 6.0) / 6.0,
    "log_sigmoid": lambda z: -softplus(-z),
    "tanh": np.tanh,
    "hard_tanh": lambda z: np.clip(z, -1.0, 1.0),
    "relu": lambda z: np.maximum(z, 0.0),
    "relu6": lambda z: np.clip(z, 0.0, 6.0),
    "softplus": softplus,
    "softsign": lambda z: z / (1.0 + np.abs(z)),
}


def respond(readout: Readout, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-out's output for logits of shape `(n, *readout.logits_shape)`: shape `(n, *readout.shape)`.

    Float64 values; bool for the kinds "spikes" and "winner"; int64 where the read-out takes the argmax.
    """
    if readout.kind in ("spikes", "winner"):
        fired = logits >= 0.5
        return fired.argmax(axis=-1) if readout.argmax else fired
    values = FUNCTIONS[readout.kind](np.asarray(logits, dtype=np.float64))
    if readout.after is not None:
        values = readout.after.apply(values)
    return values.argmax(axis=-1) if readout.argmax else values


def decode(graph: Graph, spikes: SpikeDict) -> list[npt.NDArray[Any]]:
    """Return the decoded outputs of a graph, in the order of `graph.outputs`.

    Spikes (bool) for a population; for a read-out the values of `respond`.
    """
    readouts = {readout.name: readout for readout in graph.readouts}
    return [
        respond(readouts[name], readout_logits(readouts[name], spikes)) if name in readouts else spikes[name]
        for name in graph.outputs
    ]


# Classes --------------------------------------------------------------------------------------------------------------


def readout_of(graph: Graph, output: str | None = None) -> Readout | None:
    """Return the read-out that is an output (the first, by default), or None where the output is spikes."""
    name = graph.outputs[0] if output is None else output
    return next((readout for readout in graph.readouts if readout.name == name), None)


def decides(graph: Graph, output: str | None = None) -> bool:
    """Whether an output (the first, by default) is a decision between classes.

    A vector of two or more values per frame; the argmax of one; or the single value of a sigmoid, which is
    the probability of class 1 against class 0.
    """
    return class_count(graph, output) is not None


def class_count(graph: Graph, output: str | None = None) -> int | None:
    """Return between how many classes an output decides (the first, by default), or None if it decides nothing."""
    readout = readout_of(graph, output)
    return None if readout is None else classes_of(readout)


def classes_of(readout: Readout) -> int | None:
    """Return between how many classes a read-out decides, or None if it decides nothing."""
    if readout.kind == "spikes":
        return None
    if readout.argmax:
        return readout.value_shape[-1] if readout.shape == () else None
    if is_binary(readout):
        return 2
    return readout.shape[0] if len(readout.shape) == 1 and readout.shape[0] > 1 else None


def is_binary(readout: Readout) -> bool:
    """Whether a read-out is the probability of class 1: the one value of a sigmoid, or a weighted mean of several."""
    if readout.kind not in BINARY_KINDS or readout.argmax or math.prod(readout.shape) != 1:
        return False
    ones = np.ones((1, *readout.logits_shape))
    return readout.after is None or bool(np.allclose(readout.after.apply(ones), 1.0, rtol=0.0, atol=1e-9))


def class_scores(readout: Readout, logits: FloatArray) -> FloatArray:
    """Return a score for each class, shape `(n, classes)`, of a read-out that decides (see `decides`).

    The class with the largest score wins, the lower of equals: as argmax decides, and as Keras's
    `BinaryAccuracy` decides with a probability, which must be greater than 0.5 for class 1 (keras 3.15,
    keras/src/metrics/accuracy_metrics.py). The scores are the logits themselves wherever the function keeps their
    order, so that no rounding of an exponential makes different scores equal.
    """
    ordered = keeps_order(readout)
    if not ordered:
        values = FUNCTIONS[readout.kind](logits)
    else:
        values = np.clip(logits, *RISING[readout.kind]) if readout.kind in RISING else logits
    values = (values if readout.after is None else readout.after.apply(values)).reshape(len(logits), -1)
    if is_binary(readout):
        return np.concatenate([np.full_like(values, 0.0 if ordered else 0.5), values], axis=1)
    return values


def keeps_order(readout: Readout) -> bool:
    """Whether the logits, in the order that `after` puts them in, are ordered as the outputs are."""
    alone = readout.logits_shape[-1:] == (math.prod(readout.logits_shape),)
    after = readout.after
    return after is None or (isinstance(after, Select) and alone and _keeps_all(after))


def _keeps_all(select: Select) -> bool:
    """Whether an index map only puts values in another order."""
    return np.array_equal(np.sort(select.index, axis=None), np.arange(select.size_in))


def classes(graph: Graph, spikes: SpikeDict, output: str | None = None) -> npt.NDArray[np.int64] | None:
    """Return the winning class of each frame, shape `(n,)`; ties go to the lower index. None if nothing is decided."""
    readout = readout_of(graph, output)
    if readout is None or classes_of(readout) is None:
        return None
    winners: npt.NDArray[np.int64] = class_scores(readout, readout_logits(readout, spikes)).argmax(axis=-1)
    return winners


def answered_classes(readout: Readout, answers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the classes that decoded outputs (Keras's, for example) stand for, for a read-out that decides; shape
    `(n,)`.

    Parameters
    ----------
    answers : array, shape (n, *shape)
        Class numbers, the values of each class, or the probability of class 1.
    """
    if readout.argmax:
        return answers.astype(np.int64)
    values = answers.reshape(len(answers), -1)
    chosen: npt.NDArray[Any] = values[:, 0] > 0.5 if values.shape[1] == 1 else values.argmax(axis=-1)
    return chosen.astype(np.int64)
