"""Operations of `keras.ops` in functional models: `ops.reshape(x, ...)`, `x[:, 1:]`, `1 - x`, `x >= 0.5` and their kin.

Operations that only move values are run by Keras itself, on frames that hold the indices of their places.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from strop.graph import Select
from strop.keras.walk import operation_classes
from strop.lowering.context import Context
from strop.lowering.layers.activation import softmax
from strop.lowering.layers.elementwise import recoded
from strop.lowering.layers.merging import added, combined, merged, subtracted
from strop.lowering.layers.pooling import reduced
from strop.lowering.readout_signal import ReadoutSignal, as_readout
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles_operation
from strop.lowering.signal import ONE, ZERO, FloatArray, Signal

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def _name(operation: Any) -> str:
    return type(operation).__name__


# Moving ---------------------------------------------------------------------------------------------------------------


MOVING = (
    *("broadcast_to", "concatenate", "expand_dims", "flip", "get_item", "moveaxis", "pad", "repeat", "reshape"),
    *("roll", "squeeze", "stack", "stop_gradient", "swapaxes", "take", "tile", "transpose"),
)


@handles_operation(*operation_classes(*MOVING), moves=True)
def _moved(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    signals: list[Signal] = []
    starts: list[int] = []

    def numbered(value: Any) -> Any:
        if not isinstance(value, Signal):
            return value
        signal = value.in_keras_order()
        if not any(signal is known for known in signals):
            starts.append(starts[-1] + math.prod(signals[-1].shape) if signals else 1)
            signals.append(signal)
        return signal

    arguments = keras.tree.map_structure(numbered, (args, kwargs))
    span = starts[-1] + math.prod(signals[-1].shape)
    by_identity = {id(signal): start for signal, start in zip(signals, starts, strict=True)}

    def run(offset: int) -> Any:
        """Return what becomes of two frames that hold the numbers of their places, from an offset on."""

        def places(value: Any) -> Any:
            if not isinstance(value, Signal):
                return value
            first = offset + by_identity[id(value)] + np.arange(math.prod(value.shape)).reshape(value.shape)
            return keras.ops.convert_to_tensor(np.stack([first, first + span]).astype(np.float64))

        given, named = keras.tree.map_structure(places, arguments)
        return np.asarray(keras.ops.convert_to_numpy(operation(*given, **named)))

    try:
        moved, again = run(0), run(2 * span)
    except Exception as error:
        raise Refusal(f"Keras cannot apply it to two frames at once ({type(error).__name__})") from error
    if not np.isfinite(moved).all():
        raise Refusal("its constant is not finite")
    constant = again == moved
    if len(moved) != 2 or not np.where(constant, moved[1] == moved[0], moved[1] - moved[0] == span).all():
        raise Refusal("it moves values from one frame of a batch to another", "leave the batch axis alone")
    constant = constant[0]
    constants = np.where(constant, moved[0], 0.0).astype(np.float32).astype(np.float64)
    moved = moved.astype(np.int64)
    placed = []
    for start, signal in zip(starts, signals, strict=True):
        own = ~constant & (moved[0] >= start) & (moved[0] < start + math.prod(signal.shape))
        placed.append(signal.select(Select(signal.shape, np.where(own, moved[0] - start, -1))))
    whole = placed[0] if len(placed) == 1 else merged(placed)
    return whole.scaled(ONE, constants) if constants.any() else whole


# Arithmetic -----------------------------------------------------------------------------------------------------------


def _constant(value: Any, signal: Signal) -> FloatArray:
    """Return a constant of a functional model as an array that broadcasts against frames in Keras's order."""
    array = np.asarray(keras.ops.convert_to_numpy(value))
    # Keras takes Python numbers, and tensors by default, in float32.
    array = array.astype(np.float64 if isinstance(value, (np.ndarray, np.float64)) else np.float32)
    if array.ndim == len(signal.shape) + 1 and len(array) == 1:
        array = array[0]
    try:
        fits = np.broadcast_shapes(array.shape, signal.shape) == signal.shape and array.ndim <= len(signal.shape)
    except ValueError:
        fits = False
    if not fits:
        raise Refusal(f"its constant of shape {array.shape} does not fit frames of shape {signal.shape}")
    if not np.isfinite(array).all():
        raise Refusal("its constant is not finite")
    return array.astype(np.float64)


def _pair(operation: Any, args: Args, kwargs: Kwargs) -> tuple[Any, Any]:
    if len(args) != 2 or kwargs:
        raise Refusal("it is called with arguments that strop cannot carry over")
    return args[0], args[1]


@handles_operation(
    *operation_classes("add", "subtract", "multiply", "divide", "true_divide", "maximum", "minimum"),
    behind_readouts=True,
)
def _arithmetic(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    kind = _name(operation)
    x, y = _pair(operation, args, kwargs)
    if isinstance(x, Signal) and isinstance(y, Signal):
        if len(x.shape) != len(y.shape):
            raise Refusal("its inputs differ in their number of axes, so that the batch axis would take part")
        if kind in ("Divide", "TrueDivide"):
            raise Refusal("a quotient of two signals is no sum of spikes")
        if kind in ("Add", "Subtract"):
            return added([x, y]) if kind == "Add" else subtracted(x, y)
        return combined(context, kind, [x, y])
    signal = (x if isinstance(x, Signal) else y).in_keras_order()
    c = _constant(y if isinstance(x, Signal) else x, signal)
    if kind == "Add":
        return signal.scaled(ONE, c)
    if kind == "Subtract":
        return signal.scaled(ONE, -c) if isinstance(x, Signal) else signal.scaled(-ONE, c)
    if kind == "Multiply":
        return signal.scaled(c)
    if kind in ("Divide", "TrueDivide") and isinstance(x, Signal) and c.all():
        return signal.scaled(1.0 / c)
    if signal.levels is not None:
        return recoded(
            context, signal, lambda frames: operation(frames, y) if isinstance(x, Signal) else operation(x, frames)
        )
    raise Refusal(f"{kind} with this constant is neither a factor nor a shift", "use a spiking activation")


@handles_operation(*operation_classes("negative"), behind_readouts=True)
def _negative(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    signal: Signal = args[0]
    return signal.scaled(-ONE)


@handles_operation(*operation_classes("sum", "mean", "max"), behind_readouts=True)
def _reduced(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    signal, axes = args[0], operation.axis
    rank = len(signal.shape) + 1
    axes = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    counted = tuple(axis % rank - 1 for axis in axes)
    none_left = len(counted) == rank - 1 and not operation.keepdims
    if -1 in counted or none_left or getattr(operation, "initial", None) is not None:
        raise Refusal("it runs over the batch axis, leaves no axis, or starts at a constant", "name the axes")
    if isinstance(signal, ReadoutSignal) and _name(operation) == "Max":
        raise Refusal("it takes the largest value of a read-out", "take it of what the model predicts")
    return reduced(context, _name(operation), signal, counted, operation.keepdims)


# Thresholds -----------------------------------------------------------------------------------------------------------


def _step(context: Context, signal: Signal, at: Any, *, strict: bool, low: float = 0.0, high: float = 1.0) -> Signal:
    """Return `high` where `signal >= at` (`> at` if strict), and `low` elsewhere."""
    threshold = _constant(at, signal)
    if threshold.size != 1:
        raise Refusal("it compares with an array of values", "compare with one number")
    number = float(threshold.reshape(()))
    return context.spiking(signal, float(np.nextafter(number, np.inf)) if strict else number, low, high)


@handles_operation(*operation_classes("greater_equal", "greater", "less", "less_equal"))
def _compared(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    """`x < t` is the negation of `x >= t`, and `x <= t` that of `x > t`."""
    x, y = _pair(operation, args, kwargs)
    kind = _name(operation)
    if isinstance(x, Signal) and isinstance(y, Signal):
        signal, at = subtracted(x, y), 0.0
    elif isinstance(x, Signal):
        signal, at = x, y
    else:
        signal, at = y, x
        kind = {"Greater": "Less", "Less": "Greater", "GreaterEqual": "LessEqual", "LessEqual": "GreaterEqual"}[kind]
    strict = kind in ("Greater", "LessEqual")
    low, high = (0.0, 1.0) if kind in ("Greater", "GreaterEqual") else (1.0, 0.0)
    return _step(context, signal, at, strict=strict, low=low, high=high)


@handles_operation(*operation_classes("heaviside"))
def _heaviside(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    x, at_zero = _pair(operation, args, kwargs)
    if not isinstance(x, Signal) or isinstance(at_zero, Signal) or np.ndim(at_zero) or float(at_zero) not in (0.0, 1.0):
        raise Refusal("its value at zero is neither 0 nor 1", "use keras.ops.heaviside(x, 1.0)")
    return _step(context, x, 0.0, strict=float(at_zero) == 0.0)


@handles_operation(*operation_classes("where"))
def _where(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    """Two constants chosen by spikes: `b + (a - b) s`."""
    if len(args) != 3 or kwargs or any(isinstance(value, Signal) for value in args[1:]):
        raise Refusal("it chooses between signals", "choose between two constants")
    condition: Signal = args[0].in_keras_order()
    if condition.levels is None:
        raise Refusal("its condition is no comparison with a number")
    a, b = (_constant(value, condition) for value in args[1:])
    return condition.scaled(a - b, b, np.abs(b)) if (a - b).any() else condition.scaled(ZERO, b)


@handles_operation(*operation_classes("cast"), behind_readouts=True, casts=True)
def _cast(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    signal: Signal = args[0]
    whole = isinstance(signal, ReadoutSignal) and signal.argmax and operation.dtype in ("int32", "int64")
    if operation.dtype not in ("float32", "float64") and not whole:
        raise Refusal(f"it casts to {operation.dtype}", "cast to float32")
    return signal


@handles_operation(*operation_classes("softmax", "log_softmax"))
def _softmax(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    return softmax("softmax" if _name(operation) == "Softmax" else "log_softmax", args[0], operation.axis)


@handles_operation(*operation_classes("argmax"), behind_readouts=True)
def _argmax(operation: Any, context: Context, args: Args, kwargs: Kwargs) -> Signal:
    signal: Signal = args[0].in_keras_order()
    rank = len(signal.shape) + 1
    if operation.axis is None or operation.axis % rank == 0 or operation.keepdims:
        raise Refusal("it runs over the batch axis or keeps the axis", "name one axis of a frame, and let it go")
    found = signal if isinstance(signal, ReadoutSignal) else as_readout("linear", signal)
    return found.chosen(operation.axis % rank - 1)
