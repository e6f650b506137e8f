"""`ReadoutSignal`, the signal behind a softmax, sigmoid or other read-out function: no sum of spikes any more.

What a model does with these values is computed off the simulator: index maps and sums are kept as `Readout.after`,
everything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import ELEMENTWISE_KINDS, Operator, Scale, Select, Sparse, compose
from strop.lowering.refusal import Refusal
from strop.lowering.signal import ZERO, FloatArray, Shape, Signal, flat_index, rearrange

IntArray = npt.NDArray[np.int64]

# Functions whose float32 values are equal for logits that are not: an argmax behind them would be a matter of rounding.
_SATURATING = ("sigmoid", "tanh", "log_sigmoid", "softplus", "softsign")


@dataclass(frozen=True, eq=False)
class ReadoutSignal(Signal):
    """`after(function(logits))`, or the argmax of that.

    Attributes
    ----------
    shape : tuple of int
        Shape behind `after` and the argmax.
    logits : Signal
        In Keras's order of axes.
    kind : str
        Of the read-out function, see `strop.graph.Readout`.
    after : Operator or None
    argmax : bool
    refusal : Refusal
        Raised if something follows that takes spikes.
    record : mapping
        What the model records of the read-out that it was made from (`strop.keras.graph_parts.record_of`).
    """

    logits: Signal | None = None
    kind: str = "linear"
    after: Operator | None = None
    argmax: bool = False
    refusal: Refusal | None = None
    record: Mapping[str, Any] | None = None

    @property
    def summed(self) -> Signal:
        """The logits."""
        assert self.logits is not None
        return self.logits

    def linear(self, operator: Operator) -> Signal:
        """Return the signal behind a linear map of its values."""
        self._refuse_class_numbers()
        return replace(self, shape=operator.shape_out, after=compose(self.after, operator), record=None)

    def select(self, operator: Select) -> Signal:
        """Return the signal behind an index map; a map that moves groups of logits as wholes acts on the logits."""
        if operator.shape_in == operator.shape_out and operator.is_reshape:
            return self
        self._refuse_class_numbers()
        if self.after is None and _keeps_groups(operator, 1 if self.kind in ELEMENTWISE_KINDS else self.shape[-1]):
            return replace(self, shape=operator.shape_out, logits=self.summed.select(operator), record=None)
        return self.linear(operator)

    def scaled(self, scale: FloatArray, shift: FloatArray = ZERO, *sizes: Any, **named: Any) -> Signal:
        """Return `scale * self`; a shift is refused."""
        return self.biased(shift).linear(Scale(self.shape, scale))

    def biased(self, bias: FloatArray) -> Signal:
        """Return the signal itself; a bias is refused."""
        if bias.any():
            raise Refusal("it adds a constant to the values of the read-out", "add it to what the model predicts")
        return self

    def chosen(self, axis: int) -> ReadoutSignal:
        """Return the argmax along an axis of a frame."""
        self._refuse_class_numbers()
        if self.kind in _SATURATING:
            raise Refusal(
                f"it takes the argmax of a {self.kind}, whose float32 values are equal for large values that are not",
                f"take the argmax of what goes into the {self.kind}",
            )
        moved = rearrange(self, lambda index: np.moveaxis(index, axis, -1))
        assert isinstance(moved, ReadoutSignal)
        return replace(moved, shape=moved.shape[:-1], argmax=True, record=None)

    def _refuse_class_numbers(self) -> None:
        if self.argmax:
            raise Refusal("it follows an argmax", "make the argmax the last layer")


def _keeps_groups(operator: Select, size: int) -> bool:
    """Whether an index map moves runs of `size` values along the last axis as wholes."""
    index = operator.index
    if (index < 0).any() or (size > 1 and index.shape[-1:] != (size,)):
        return False
    runs = index.reshape(-1, size)
    return bool((runs[:, 0] % size == 0).all() and (np.diff(runs, axis=1) == 1).all())


def as_readout(kind: str, signal: Signal, axis: int = -1, refusal: Refusal | None = None) -> ReadoutSignal:
    """Return a read-out function of a signal, over an axis of frames in Keras's order (batch axis not counted).

    Parameters
    ----------
    refusal : Refusal, optional
        Raised where something follows that takes spikes.
    """
    signal = signal.in_keras_order()
    if isinstance(signal, ReadoutSignal):
        raise Refusal("it follows the decoder", "make the decoder or softmax the last layer")
    if signal.pooled is not None:
        raise Refusal("its input was max-pooled before any activation", "put the activation before the pooling")
    alone = kind in ELEMENTWISE_KINDS
    logits = signal if alone else rearrange(signal, lambda index: np.moveaxis(index, axis, -1))
    # A function of spikes is no longer known to have two values.
    found = ReadoutSignal(logits.shape, (), logits=replace(logits, levels=None), kind=kind, refusal=refusal)
    back = found if alone else rearrange(found, lambda index: np.moveaxis(index, -1, axis))
    assert isinstance(back, ReadoutSignal)
    return back


# Several at once ------------------------------------------------------------------------------------------------------


def only_readouts(signals: Sequence[Signal]) -> list[ReadoutSignal]:
    """Return the signals if all of them are read-outs of one kind, none if none is; refuse a mixture."""
    found = [signal for signal in signals if isinstance(signal, ReadoutSignal)]
    if not found:
        return []
    if len(found) < len(signals):
        raise Refusal(
            "it joins the values of a read-out with values that are none", "give the model an output for each of them"
        )
    if any(one.argmax for one in found):
        raise Refusal("it follows an argmax", "make the argmax the last layer")
    kinds = {"softmax" if one.kind == "key" else one.kind for one in found}
    if len(kinds) > 1 or len({_group(one) for one in found}) > 1:
        raise Refusal(
            f"it joins read-outs of different kinds or sizes ({', '.join(sorted(one.kind for one in found))})",
            "give the model an output for each of them",
        )
    return found


def _group(one: ReadoutSignal) -> int:
    """Return how many logits share one function."""
    return 1 if one.kind in ELEMENTWISE_KINDS or one.kind == "linear" else one.summed.shape[-1]


def joined_readouts(
    signals: Sequence[ReadoutSignal], shape: Shape, places: Sequence[IntArray], join: Callable[..., Signal]
) -> ReadoutSignal:
    """Return several read-outs as one: value j of the k-th is added to place `places[k].flat[j]` of a frame of `shape`.

    Parameters
    ----------
    join : callable
        `strop.lowering.layers.merging.joined`: signals one behind the other.
    """
    first, size = signals[0], _group(signals[0])
    rows = [rearrange(one.summed, lambda index: index.reshape(-1, size)) for one in signals]
    ends = np.cumsum([row.shape[0] for row in rows])
    logits = join(rows, 0, ends)
    pre, post, weight = [], [], []
    for one, end, row, place in zip(signals, ends, rows, places, strict=True):
        inner = one.after or Select(one.shape, flat_index(one.shape))
        source, target, factor = inner.to_coo()
        pre.append(source + (int(end) - row.shape[0]) * size)
        post.append(place.reshape(-1)[target])
        weight.append(factor)
    after = Sparse(logits.shape, shape, np.concatenate(pre), np.concatenate(post), np.concatenate(weight))
    kind = first.kind if all(one.kind == first.kind != "key" for one in signals) else "softmax"
    moved = _as_select(after)
    whole = replace(first, shape=logits.shape, logits=replace(logits, levels=None), after=None, kind=kind, record=None)
    result = whole.linear(after) if moved is None else whole.select(moved)
    assert isinstance(result, ReadoutSignal)
    return result


def _as_select(operator: Sparse) -> Select | None:
    """Return the index map that a matrix is, or None if it is none."""
    if (operator.weight != 1.0).any() or len(np.unique(operator.post)) < len(operator.post):
        return None
    index = np.full(math.prod(operator.shape_out), -1, dtype=np.int64)
    index[operator.post] = operator.pre
    return Select(operator.shape_in, index.reshape(operator.shape_out))


def after_map(one: ReadoutSignal) -> Operator | None:
    """Return the map behind the function as `Select` or `Sparse`, or None if there is none; a recorded one as it is."""
    if one.after is None or isinstance(one.after, (Select, Sparse)) or one.record is not None:
        return one.after
    pre, post, weight = one.after.to_coo()
    return Sparse(one.after.shape_in, one.after.shape_out, pre, post, weight)
