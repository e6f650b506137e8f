"""Argmax as two layers of spikes (`decision="spikes"`): class i wins iff it beats every other, the lower of equals.

A layer of pairwise comparisons, then an AND for each class: the winner is a single spike, two steps after the last
layer, on any backend. For logits `z = W s + c` the neuron (i, j) of the first layer fires iff `z_i - z_j >= 0` for i <
j, and iff `z_i - z_j > 0` for i > j; a threshold neuron compares by `>=` only, so the strict comparison gets a
threshold between zero and the smallest positive difference that there can be.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strop.graph import Dense, Operator, Scale, Sparse, stages_of
from strop.graph.nodes import BINARY_KINDS
from strop.lowering.context import Context
from strop.lowering.readout_signal import ReadoutSignal
from strop.lowering.refusal import Refusal
from strop.lowering.signal import FloatArray, Signal, rearrange, total

# Weights on a coarser grid than this have differences that are all multiples of the grid's step.
_FINEST_GRID = 40


# Functions that rise everywhere: the largest value is that of the largest logit.
_KEEPS_ORDER = ("key", "softmax", "log_softmax", "linear", "sigmoid", "log_sigmoid", "tanh", "softplus", "softsign")


def winner_of(context: Context, path: str, shown: Signal) -> Signal | None:
    """Return the spikes of the winning class if `shown`, an output of the model, decides between classes; else None."""
    if not isinstance(shown, ReadoutSignal):
        # Spikes are what they are, and decide nothing; scaled ones do, as other values do.
        vector = len(shown.shape) == 1 and shown.shape[0] > 1 and not (shown.levels and shown.levels.plain)
        return decide(context, path, shown) if vector else None
    logits, size = shown.summed, int(np.prod(shown.shape))
    if shown.after is None and len(logits.shape) == 1 and logits.shape[0] > 1 and shown.kind in _KEEPS_ORDER:
        return decide(context, path, logits)
    if shown.after is None and size == 1 and shown.kind in BINARY_KINDS:
        # The probability of class 1 is above 0.5 iff z > 0: z wins against 0, and a tie goes to class 0.
        single = rearrange(logits, lambda index: index.reshape(1))
        return decide(context, path, single.linear(Dense(np.array([[0.0, 1.0]]))))
    several = shown.shape == () if shown.argmax else len(shown.shape) == 1 and size > 1
    if several or (size == 1 and shown.kind in BINARY_KINDS):
        raise Refusal(
            f"comparisons of sums do not decide what its {shown.kind} says: flat in parts, or several averaged",
            "decide off the simulator (decision='host')",
        )
    return None


def decide(context: Context, path: str, signal: Signal) -> Signal:
    """Add the comparisons and the winner for a vector of logits; return the winner's spikes.

    Parameters
    ----------
    context : Context
    path : str
        Name of the decoder; the populations are called `path/beats` and `path/winner`.
    signal : Signal
        The logits, shape (classes,), before or under a softmax, which does not change the winner.
    """
    classes = signal.shape[0]
    first, second = np.nonzero(~np.eye(classes, dtype=bool))  # the pairs (i, j), row by row
    pairs = np.arange(len(first))
    compare = np.zeros((classes, len(pairs)))
    compare[first, pairs], compare[second, pairs] = 1.0, -1.0
    logits = replace(signal, levels=None)
    threshold = np.where(first < second, 0.0, _least_difference(logits) / 2.0)
    beats = context.populate(f"{path}/beats", logits.linear(Dense(compare)), threshold)
    count = Dense((first[:, None] == np.arange(classes)).astype(np.float64))
    return context.populate(f"{path}/winner", total([beats.linear(count)]), np.asarray(classes - 1.5))


def _least_difference(signal: Signal) -> float:
    """Return a lower bound of the positive differences between logits.

    If all weights are multiples of 2^-k, so are all differences. Else any positive float64 is a bound that is at least
    as small as what its sums can resolve.
    """
    weights = [np.asarray(signal.offset, dtype=np.float64).reshape(-1)]
    for term in signal.terms:
        stages = list(stages_of(term.operator))
        if sum(_matrix(stage) is not None for stage in stages) != 1:
            return float(np.finfo(np.float64).tiny) * 2.0
        weights += [matrix.reshape(-1) for stage in stages if (matrix := _matrix(stage)) is not None]
    values = np.concatenate(weights)
    for k in range(_FINEST_GRID + 1):
        scaled = values * 2.0**k
        if (scaled == np.rint(scaled)).all():
            return float(2.0**-k)
    return float(np.finfo(np.float64).tiny) * 2.0


def _matrix(operator: Operator) -> FloatArray | None:
    """Return the weights of an operator that multiplies, None for one that only moves or adds."""
    if isinstance(operator, (Dense, Sparse)):
        return operator.weight
    if isinstance(operator, Scale):
        return operator.factor
    return getattr(operator, "kernel", None)
