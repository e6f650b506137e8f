"""Comparison of decoded outputs: Keras's outputs against the read-outs of its last spikes, within float32.

Where a read-out's logits are known up to an error, its answers are known up to an interval, and the float32 functions
that Keras evaluates (exponentials, quotients) add a few roundings of their own. An answer outside its interval is a
fault. Classes are compared by argmax: two answers whose intervals overlap may win either way, which is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import ELEMENTWISE_KINDS, Graph, Readout
from strop.graph.rounding.formats import FLOAT32
from strop.running.decode import (
    FUNCTIONS,
    RISING,
    answered_classes,
    class_scores,
    classes_of,
    readout_logits,
)
from strop.running.oracle import BoolArray, FloatArray
from strop.verification.bounds import Bound
from strop.verification.judge import Judgement

# Roundings of an exponential, a logarithm or a rational approximation in float32, besides that of its argument: up to
# eight units in the last place (Eigen's float functions, as TensorFlow 2.21 has them, stay within seven).
_FUNCTION_ROUNDINGS = 16
# An error of such a part of the largest value leaves too little of an output.
_LEAST_KNOWN = 1e-2
# Kinds of read-outs whose values do not gather at an end; and so many frames tell how far they lie apart.
_UNBOUNDED = ("linear", "relu")
_ENOUGH_FRAMES = 8
# Elementwise functions of Keras that add or divide before they cut off: their rounding is that of their argument.
_HARD = ("hard_sigmoid", "hard_tanh", "relu", "relu6", "softsign")


@dataclass(frozen=True)
class AnswerVerdict:
    """Verdict of the comparison of one output.

    Attributes
    ----------
    faults : bool array, shape (n, *shape)
        Values that float32 cannot explain.
    ties : bool array, shape (n,)
        Frames in which another class wins, by less than float32 can tell.
    hopeless : bool array, shape (n,)
        Frames in which nothing could be a fault.
    undecided : bool array, shape (n, *shape)
        What rounding may decide, whether or not it differs: class numbers where another class may win; values whose
        error may be a hundredth of the largest one, or more than all frames differ by.
    difference : float
        The largest difference of values.
    """

    faults: BoolArray
    ties: BoolArray
    hopeless: BoolArray
    undecided: BoolArray
    difference: float

    @property
    def faulty(self) -> BoolArray:
        """Frames with a fault, shape (n,)."""
        return any_in_frame(self.faults)


def any_in_frame(values: BoolArray) -> BoolArray:
    """Return in which frames any of `values`, shape (n, ...), holds."""
    found: BoolArray = np.any(values.reshape(len(values), -1), axis=1)
    return found


def joined(parts: Sequence[AnswerVerdict], order: npt.NDArray[np.int64]) -> AnswerVerdict:
    """Return verdicts on parts of a chunk as one; row k of it is row `order[k]` of the parts one behind the other."""
    faults, ties, hopeless, undecided = (
        np.concatenate([getattr(part, kind) for part in parts])[order]
        for kind in ("faults", "ties", "hopeless", "undecided")
    )
    return AnswerVerdict(faults, ties, hopeless, undecided, max(part.difference for part in parts))


def compare_answers(
    graph: Graph,
    judgement: Judgement,
    bound: Bound,
    outputs: list[npt.NDArray[Any]],
    decoded: list[npt.NDArray[Any]],
) -> dict[str, AnswerVerdict]:
    """Compare the outputs that a model gave with the read-outs of its own last spikes, in the order of the outputs.

    Parameters
    ----------
    outputs : list of arrays, shape (n, ...)
        The model's own outputs.
    decoded : list of arrays, shape (n, ...)
        `strop.running.decode.decode` of the spikes in `judgement.known`; these must lie in the intervals, too.
    """
    readouts = {readout.name: readout for readout in graph.readouts}
    verdicts: dict[str, AnswerVerdict] = {}
    for place, (name, values, ours) in enumerate(zip(graph.outputs, outputs, decoded, strict=True)):
        readout = readouts.get(name)
        if readout is None:
            verdict = _compare_spikes(judgement, name, values, ours)
        elif readout.kind == "winner":
            verdict = _compare_winner(judgement, readout, values, ours)
        else:
            # Where float32 overflows, nothing is known: an infinite error is no slip of the computation.
            with np.errstate(invalid="ignore", over="ignore"):
                verdict = _compare_values(judgement, readout, bound, values, ours)
        verdicts[name if name not in verdicts else f"{name}#{place + 1}"] = verdict
    return verdicts


def _compare_spikes(
    judgement: Judgement, name: str, values: npt.NDArray[Any], decoded: npt.NDArray[Any]
) -> AnswerVerdict:
    spikes, none = np.asarray(judgement.known[name]), np.zeros(len(values), bool)
    values = _shaped(values, spikes.shape)
    open_ = judgement.doubt.get(name, np.zeros(spikes.shape, bool))
    faults = ((values != spikes) & ~open_) | (_shaped(decoded, spikes.shape) != spikes)
    difference = float(np.abs(values - spikes.astype(np.float64)).max(initial=0.0))
    return AnswerVerdict(faults, none, ~any_in_frame(~open_), open_, difference)


def _compare_winner(
    judgement: Judgement, readout: Readout, values: npt.NDArray[Any], decoded: npt.NDArray[Any]
) -> AnswerVerdict:
    """The winner is a spike, and Keras gives values: only the winning class can be compared."""
    winner = readout_logits(readout, judgement.known).argmax(axis=-1)
    chosen = answered_classes(readout, values)
    frames, open_ = np.arange(len(values)), np.zeros(len(values), bool)
    for doubt in judgement.doubt.values():
        open_ |= any_in_frame(doubt)
    # One class wins, and one alone: two spikes would have the argmax of the right one.
    wins = decoded.reshape(len(values), -1).sum(axis=1)
    crowded = ~open_ & (wins != 1) if not readout.argmax and decoded[0].size > 1 else np.zeros(len(values), bool)
    if not readout.argmax:
        # Keras's softmax may round two different logits to one probability, or the other way round.
        rows = values.reshape(len(values), -1).astype(np.float64)
        rows = np.concatenate([1.0 - rows, rows], axis=1) if rows.shape[1] == 1 else rows
        best, ours = rows[frames, chosen], rows[frames, winner]
        argument = -np.log(np.maximum(np.abs(best), 2.0**FLOAT32.least))
        open_ |= (chosen != winner) & (best - ours <= 2.0 * _function_error(rows.shape[-1], best, argument))
    differ = winner != chosen
    faults = np.zeros((len(values), 1), bool)
    faults[:, 0] = (differ & ~open_) | (answered_classes(readout, decoded) != winner) | crowded
    return AnswerVerdict(faults, differ & open_, open_, open_[:, None], 0.0)


def _compare_values(
    judgement: Judgement, readout: Readout, bound: Bound, values: npt.NDArray[Any], decoded: npt.NDArray[Any]
) -> AnswerVerdict:
    logits = readout_logits(readout, judgement.known)
    error = bound.error(readout.name, judgement.known)
    for source, operator in zip(readout.sources, readout.operators, strict=True):
        if source in judgement.doubt and judgement.doubt[source].any():
            error = error + operator.absolute().apply(judgement.doubt[source])
    middle, radius = answer_range(readout, logits, np.broadcast_to(error, logits.shape))
    if readout.argmax:
        scores = _score_range(readout, logits, error, middle, radius)
        return _compare_class_numbers(middle, radius, scores, values, decoded)
    values = _shaped(values, middle.shape).astype(np.float64)
    # Written so that a NaN is a fault.
    verdict_on = np.abs(values - middle)
    faults = ~(verdict_on <= radius) | ~(np.abs(_shaped(decoded, middle.shape) - middle) <= radius)
    ties, hopeless = np.zeros(len(values), bool), any_in_frame(~np.isfinite(radius))
    if classes_of(readout) is not None:
        ours = class_scores(readout, logits).argmax(axis=-1)
        ties = (answered_classes(readout, values) != ours) & ~any_in_frame(faults)
    undecided = _lost_in_rounding(middle, radius, flat=readout.kind not in _UNBOUNDED)
    return AnswerVerdict(faults, ties, hopeless, undecided, float(verdict_on.max(initial=0.0)))


def _score_range(
    readout: Readout, logits: FloatArray, error: FloatArray, middle: FloatArray, radius: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the least and the largest score of each class of an argmax, classes along the last axis."""
    if readout.after is not None:
        return middle - radius, middle + radius
    rising = RISING.get(readout.kind, (-np.inf, np.inf))
    return np.clip(logits - error, *rising), np.clip(logits + error, *rising)


def _another_may_win(low: FloatArray, high: FloatArray) -> BoolArray:
    """Return where the score of another class may be as large as the winner's; classes lie along the last axis."""
    winner = (low + high).argmax(axis=-1)[..., None]
    least, most = np.take_along_axis(low, winner, -1), np.take_along_axis(high, winner, -1)
    # Scores that are exact and equal are decided: the lower class wins.
    rivals = (np.arange(low.shape[-1]) != winner) & (high >= least) & ((high > low) | (most > least))
    found: BoolArray = rivals.any(axis=-1)
    return found


def _lost_in_rounding(middle: FloatArray, radius: FloatArray, *, flat: bool) -> BoolArray:
    """Return which values of an output are hardly known, shape (n, *shape); `flat`: they may all lie at one end."""
    lost: BoolArray = ~(radius <= _LEAST_KNOWN * np.abs(middle).max(initial=0.0) + _FLUSHED)
    apart = np.ptp(middle, axis=0).max(initial=0.0)
    if len(middle) >= _ENOUGH_FRAMES and apart > 0.0 and not flat:
        lost = lost | (radius > apart)
    return lost


def _compare_class_numbers(
    middle: FloatArray,
    radius: FloatArray,
    scores: tuple[FloatArray, FloatArray],
    values: npt.NDArray[Any],
    decoded: npt.NDArray[Any],
) -> AnswerVerdict:
    """The argmax of values: another one is a tie where the two intervals overlap."""
    ours = middle.argmax(axis=-1)
    numbers = _shaped(values, ours.shape)
    # A number that is no class is a fault, as a class that is certainly another one.
    valid = (numbers >= 0) & (numbers < middle.shape[-1])
    theirs = np.where(valid, numbers, 0).astype(np.int64)[..., None]
    ahead = np.take_along_axis(middle - radius, ours[..., None], -1)
    behind = np.take_along_axis(middle + radius, theirs, -1)
    differ = numbers != ours
    faults = (differ & ~(valid & (behind >= ahead)[..., 0])) | (_shaped(decoded, ours.shape) != ours)
    ties = any_in_frame(differ & ~faults)
    difference = float(np.abs(numbers.astype(np.float64) - ours).max(initial=0.0))
    undecided = _another_may_win(*scores) | (differ & ~faults)
    return AnswerVerdict(faults, ties, np.zeros(len(values), bool), undecided, difference)


def _shaped(values: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return values of the expected shape; NaN, which compares as a fault, for values of another shape."""
    return values if values.shape == shape else np.full(shape, np.nan)


def answer_range(readout: Readout, logits: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the interval of Keras's values for logits known up to `error`, before any argmax: middle and radius.

    Parameters
    ----------
    logits, error : arrays, shape (n, *readout.logits_shape)

    Returns
    -------
    middle, radius : arrays, shape (n, *readout.value_shape)

    Raises
    ------
    TypeError
        If the read-out's kind has no bound.
    """
    low, high, slack = _function_range(readout.kind, logits - error, logits + error)
    middle, radius = (low + high) / 2.0, (high - low) / 2.0 + slack
    if readout.after is None:
        return middle, radius
    absolute = readout.after.absolute()
    moved = readout.after.apply(middle)
    # A mean of several: each product and each sum is rounded once more.
    rounded = FLOAT32.gamma(readout.after.terms + 2) * absolute.apply(np.abs(middle))
    return moved, absolute.apply(radius) + rounded * (readout.after.terms > 1)


def _function_range(kind: str, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the least and largest exact value of a function of logits between `low` and `high`, and its rounding."""
    size = np.maximum(np.abs(low), np.abs(high))
    if kind in ("linear", "spikes"):
        return low, high, np.zeros(low.shape)
    if kind in ("key", "softmax", "log_softmax"):
        return _softmax_range(low, high, logarithm=kind == "log_softmax")
    if kind in ELEMENTWISE_KINDS:
        # All of them rise.
        function = FUNCTIONS[kind]
        least, most = function(low), function(high)
        rounded = FLOAT32.gamma(_FUNCTION_ROUNDINGS) * np.maximum(np.abs(least), np.abs(most))
        if kind in _HARD:
            rounded = FLOAT32.gamma(4) * (size + 3.0) if kind != "relu" else np.zeros(low.shape)
        # An exponential of a large argument, and what lies below the least normal number.
        return least, most, rounded + 2.0 * FLOAT32.unit * size * np.maximum(np.abs(least), np.abs(most)) + _FLUSHED
    raise TypeError(f"no bound is known for read-outs of kind {kind!r}")


# Absolutely, what lies below the least normal number may be flushed to zero.
_FLUSHED = 2.0**FLOAT32.least


def _softmax_range(low: FloatArray, high: FloatArray, *, logarithm: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`p_i = e^l_i / sum_j e^l_j` is least where l_i is least and all others are largest, and the other way round."""
    top = high.max(axis=-1, keepdims=True)
    least, most = np.exp(low - top), np.exp(high - top)
    # Differences of rounded sums must not become negative.
    others_most = np.maximum(most.sum(axis=-1, keepdims=True) - most, 0.0)
    others_least = np.maximum(least.sum(axis=-1, keepdims=True) - least, 0.0)
    tiny = np.finfo(np.float64).tiny
    argument = np.maximum(top - low, 0.0)
    if logarithm:
        # log p_i = l_i - top - log(...), so that nothing is lost where p_i is small.
        l_low = (low - top) - np.log(np.maximum(least + others_most, tiny))
        l_high = (high - top) - np.log(np.maximum(most + others_least, tiny))
        slack = FLOAT32.gamma(low.shape[-1] + _FUNCTION_ROUNDINGS) * (1.0 + argument)
        return l_low, np.minimum(l_high, 0.0), slack
    p_low, p_high = least / np.maximum(least + others_most, tiny), most / np.maximum(most + others_least, tiny)
    return p_low, p_high, _function_error(low.shape[-1], p_high, argument)


def _function_error(classes: int, values: FloatArray, argument: FloatArray) -> FloatArray:
    """Return the float32 error of a softmax: the argument's rounding, the exponential, a sum and a quotient."""
    relative = FLOAT32.gamma(classes + _FUNCTION_ROUNDINGS) + 2.0 * FLOAT32.unit * np.abs(argument)
    slack: FloatArray = relative * np.abs(values) + _FLUSHED
    return slack


def differing_frames(
    graph: Graph, ours: list[npt.NDArray[Any]], theirs: list[npt.NDArray[Any]]
) -> npt.NDArray[np.bool_]:
    """Return in which frames two sets of decoded outputs differ: in a class, or, where nothing is decided, in a value.

    Parameters
    ----------
    ours, theirs : list of arrays
        From `strop.running.decode.decode`, one for each output of the graph.
    """
    readouts = {readout.name: readout for readout in graph.readouts}
    differ = np.zeros(len(ours[0]), dtype=bool)
    for name, a, b in zip(graph.outputs, ours, theirs, strict=True):
        if name in readouts and classes_of(readouts[name]) is not None:
            differ |= answered_classes(readouts[name], a) != answered_classes(readouts[name], b)
        else:
            differ |= any_in_frame(~np.isclose(a, b, rtol=1e-9, atol=1e-12))
    return differ
