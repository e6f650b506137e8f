"""Comparing decoded outputs: what a model answers must be what the read-out makes of the spikes, within float32.

Where a read-out's logits are known up to an error, its answers are known up to an interval, and the float32 functions
that Keras evaluates (exponentials, quotients) add a few roundings of their own. An answer outside its interval is a
fault. Classes are compared by argmax: two answers whose intervals overlap may win either way, which is a tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.bounds import Bound
from strop.decode import readout_logits
from strop.graph import Graph, Readout
from strop.judge import Judgement
from strop.reference import BoolArray, FloatArray
from strop.rounding import FLOAT32

# Roundings of an exponential or logarithm in float32, besides that of its argument: up to four units in the last place.
_FUNCTION_ROUNDINGS = 8


@dataclass(frozen=True)
class AnswerVerdict:
    """What the comparison of one output found.

    Attributes
    ----------
    faults : bool array, shape (n, *shape)
        Values that float32 cannot explain.
    ties : bool array, shape (n,)
        Frames in which another class wins, by less than float32 can tell.
    difference : float
        The largest difference of values.
    """

    faults: BoolArray
    ties: BoolArray
    difference: float


def compare_answers(
    graph: Graph, judgement: Judgement, bound: Bound, given: list[npt.NDArray[Any]]
) -> dict[str, AnswerVerdict]:
    """Compare the outputs that a model gave with the read-outs of its own last spikes, in the order of the outputs."""
    readouts = {readout.name: readout for readout in graph.readouts}
    verdicts: dict[str, AnswerVerdict] = {}
    for place, (name, values) in enumerate(zip(graph.outputs, given, strict=True)):
        readout = readouts.get(name)
        if readout is None:
            verdict = _compare_spikes(judgement, name, values)
        elif readout.kind == "winner":
            verdict = _compare_winner(judgement, readout, values)
        else:
            verdict = _compare_values(judgement, readout, bound, values)
        verdicts[name if name not in verdicts else f"{name}#{place + 1}"] = verdict
    return verdicts


def _compare_spikes(judgement: Judgement, name: str, values: npt.NDArray[Any]) -> AnswerVerdict:
    spikes = np.asarray(judgement.known[name])
    faults = _shaped(values, spikes.shape) != spikes
    if name in judgement.doubt:
        faults = faults & ~judgement.doubt[name]
    return AnswerVerdict(faults, np.zeros(len(spikes), bool), float(np.abs(values - spikes).max(initial=0.0)))


def _compare_winner(judgement: Judgement, readout: Readout, values: npt.NDArray[Any]) -> AnswerVerdict:
    """The winner is a spike, and Keras gives values: only who wins can be compared."""
    winner = readout_logits(readout, judgement.known).argmax(axis=-1)
    chosen = values.argmax(axis=-1)
    frames = np.arange(len(values))
    differ = winner != chosen
    # Keras's softmax may round two different logits to one probability, or the other way round.
    best, ours = values[frames, chosen].astype(np.float64), values[frames, winner].astype(np.float64)
    near = best - ours <= 2.0 * _function_error(values.shape[-1], best, -np.log(np.maximum(np.abs(best), 1e-30)))
    open_ = near | np.any([judgement.doubt[s].reshape(len(values), -1).any(axis=1) for s in judgement.doubt], axis=0)
    faults = np.zeros(values.shape, bool)
    faults[frames, winner] = differ & ~open_
    return AnswerVerdict(faults, differ & open_, 0.0)


def _compare_values(judgement: Judgement, readout: Readout, bound: Bound, values: npt.NDArray[Any]) -> AnswerVerdict:
    logits = readout_logits(readout, judgement.known)
    error = bound.error(readout.name, judgement.known)
    for source, operator in zip(readout.sources, readout.operators, strict=True):
        if source in judgement.doubt and judgement.doubt[source].any():
            error = error + operator.absolute().apply(judgement.doubt[source])
    low, high = answer_range(readout, logits, np.broadcast_to(error, logits.shape))
    values = _shaped(values, logits.shape).astype(np.float64)
    # Written so that a NaN is a fault.
    faults = ~((values >= low) & (values <= high))
    ties = np.zeros(len(values), bool)
    middle = (low + high) / 2.0
    if decides_by(readout):
        ties = (values.argmax(axis=-1) != logits.argmax(axis=-1)) & ~faults.any(axis=-1)
    return AnswerVerdict(faults, ties, float(np.abs(values - middle).max(initial=0.0)))


def decides_by(readout: Readout) -> bool:
    """Whether a read-out's answer is a decision between classes: a vector of two or more values per frame."""
    return readout.kind != "spikes" and len(readout.shape) == 1 and readout.shape[0] > 1


def _shaped(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return values of the shape that is expected; what has another shape is another answer altogether."""
    return values if values.shape == shape else np.full(shape, np.nan)


def answer_range(readout: Readout, logits: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the least and the largest value that Keras may give for logits that are known up to `error`.

    Raises
    ------
    TypeError
        If nothing is known of the read-out's kind.
    """
    if readout.kind in ("linear", "spikes"):
        return logits - error, logits + error
    if readout.kind in ("key", "softmax"):
        return _softmax_range(logits, error)
    raise TypeError(f"no bound is known for read-outs of kind {readout.kind!r}")


def _softmax_range(logits: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`p_i = e^l_i / sum_j e^l_j` is least where l_i is least and all others are largest, and the other way round."""
    low, high = logits - error, logits + error
    top = high.max(axis=-1, keepdims=True)
    least, most = np.exp(low - top), np.exp(high - top)
    others_most = most.sum(axis=-1, keepdims=True) - most
    others_least = least.sum(axis=-1, keepdims=True) - least
    # What is left of a difference of sums must not become negative.
    p_low = least / (least + np.maximum(others_most, 0.0))
    p_high = most / np.maximum(most + np.maximum(others_least, 0.0), np.finfo(np.float64).tiny)
    slack = _function_error(logits.shape[-1], p_high, top - logits)
    return p_low - slack, p_high + slack


def _function_error(classes: int, values: FloatArray, argument: FloatArray) -> FloatArray:
    """Return what float32 adds to a softmax: the argument's rounding, the exponential, a sum and a quotient.

    Absolutely, what lies below the least normal number may be flushed to zero.
    """
    relative = FLOAT32.gamma(classes + _FUNCTION_ROUNDINGS) + 2.0 * FLOAT32.unit * np.abs(argument)
    slack: FloatArray = relative * np.abs(values) + 2.0**FLOAT32.least
    return slack


def differing_frames(
    graph: Graph, ours: list[npt.NDArray[Any]], theirs: list[npt.NDArray[Any]]
) -> npt.NDArray[np.bool_]:
    """Return in which frames two sets of decoded outputs differ: in a class, or, where nothing is decided, in a value.

    Parameters
    ----------
    ours, theirs : list of arrays
        From `strop.decode.decode`, one for each output of the graph.
    """
    readouts = {readout.name: readout for readout in graph.readouts}
    differ = np.zeros(len(ours[0]), dtype=bool)
    for name, a, b in zip(graph.outputs, ours, theirs, strict=True):
        if name in readouts and decides_by(readouts[name]):
            differ |= a.argmax(axis=-1) != b.argmax(axis=-1)
        else:
            differ |= ~np.isclose(a, b, rtol=1e-9, atol=1e-12).reshape(len(a), -1).all(axis=1)
    return differ
