"""Elementwise functions: a two-valued signal stays two-valued; at the end of a model they are read-outs.

`f(l + d s)` takes the values `f(l)` and `f(l + d)`, whatever `f` is: a change of variable, which costs no neuron. Keras
itself computes the two values, in float32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from strop.graph import ELEMENTWISE_KINDS
from strop.keras.walk import operation_classes
from strop.lowering.context import Context, Observation, bits
from strop.lowering.readout_signal import ReadoutSignal, as_readout
from strop.lowering.refusal import Refusal
from strop.lowering.rules import handles, handles_operation
from strop.lowering.signal import FloatArray, Signal, total

# Takes a batch of frames in Keras's order of axes, float32, and gives one.
Function = Callable[[Any], Any]

SHARPEN = (
    "convert and sharpen the trained model with `strop sharpen MODEL.keras --data D.npz --out S.keras` (or "
    "strop.keras.from_relu), or train with strop.keras.SpikingBReLU or SpikingSigmoid instead"
)
NO_THRESHOLD = ("its values are not two, so it is no threshold", SHARPEN)
# Each value of these depends on one value that enters, and on nothing else.
_ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
    *("log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign"),
    *("sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold"),
)
_OPERATIONS = (
    *_ACTIVATIONS,
    *(
        "abs",
        "absolute",
        "arctan",
        "ceil",
        "clip",
        "cos",
        "cosh",
        "erf",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "floor_divide",
    ),
    *("fmod", "log", "log10", "log1p", "log2", "logical_not", "mod", "power", "reciprocal", "round", "rsqrt", "sign"),
    *("sin", "sinh", "sqrt", "square", "tan", "trunc"),
)


def elementwise_function(activation: Any) -> str:
    """Return the name of a function of Keras's own that acts on each value alone, "" for any other function."""
    for names, module in ((_ACTIVATIONS, keras.activations), (_OPERATIONS, keras.ops)):
        for name in names:
            if activation is not None and activation is getattr(module, name, None):
                return name
    return ""


# Two-valued signals ---------------------------------------------------------------------------------------------------


def recoded(context: Context, signal: Signal, function: Function) -> Signal:
    """Return an elementwise function of a two-valued signal: two-valued, its values computed by Keras in float32.

    Raises
    ------
    Refusal
        If a value is not finite; or if a rounded value of the input lies where the function jumps.
    """
    levels = signal.levels
    assert levels is not None
    before = [np.broadcast_to(values, signal.shape) for values in (levels.shift, levels.shift + levels.scale)]
    after = _computed(signal, function, before)
    off = np.zeros(())
    if not all(_exact(values) for values in after):
        # The same value can differ by its place in a frame: TensorFlow's vectors have another sigmoid than its rest.
        off = 2.0**-21 * np.maximum(np.abs(after[0]), np.abs(after[1]))
    if not all(_exact(values) for values in before):
        blur = 2.0**-16 * (np.abs(before[0]) + np.abs(before[1]) + 2.0**-20)
        reach = 1e-3 * np.abs(after[1] - after[0]) + 1e-4 * (np.abs(after[0]) + np.abs(after[1]))
        for sign in (-1.0, 1.0):
            moved = _computed(signal, function, [values + sign * blur for values in before])
            # Keras's own inputs lie within `blur` of these; its outputs may differ by as much as these do.
            off = np.maximum(off, np.maximum(*(np.abs(a - b) for a, b in zip(moved, after, strict=True))))
            if any((np.abs(a - b) > reach).any() for a, b in zip(moved, after, strict=True)):
                raise Refusal(
                    "it is steep, or jumps, where a value of its input lies, and that value is rounded",
                    "apply it to the outputs of a spiking activation themselves",
                )
    low, high = _compact(after[0]), _compact(after[1])
    spikes = bits(levels.terms, signal.shape, signal.channels_first)
    scale, shift = np.asarray(high - low), np.asarray(low)
    if scale.all() and len(levels.terms) == 1 and levels.terms[0].operator is None:
        source = levels.terms[0].source
        context.observations.append(Observation(context.visit, source, signal.channels_first, (scale, shift)))
    plain = bool((scale == 1.0).all()) and not shift.any() and not off.any()
    return spikes if plain else spikes.recoded(scale, shift, off)


def _computed(signal: Signal, function: Function, values: list[FloatArray]) -> list[FloatArray]:
    """Return Keras's outputs of `function` for frames in the order of `signal.shape`, in the same order."""
    frames = np.stack(values).astype(np.float32)
    if signal.channels_first:
        frames = np.moveaxis(frames, -1, 1)
    try:
        outputs = np.asarray(keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(frames))))
    except Exception as error:
        raise Refusal(f"Keras cannot apply it to two frames at once ({type(error).__name__})") from error
    if outputs.shape != frames.shape:
        raise Refusal("it gives frames of another shape than it takes", "apply it to each value alone")
    if not np.isfinite(outputs).all():
        raise Refusal("it gives values that are not finite (NaN or infinity)")
    found = outputs.astype(np.float64)
    return list(np.moveaxis(found, 1, -1) if signal.channels_first else found)


def _exact(values: FloatArray) -> bool:
    """Whether float32 arithmetic gives just these values: multiples of 2^-10 that are not large."""
    grid = values * 1024.0
    return bool((grid == np.rint(grid)).all() and (np.abs(values) < 4096.0).all())


def _compact(values: FloatArray) -> FloatArray:
    """Return a single number, or one for each channel, where all others are repetitions."""
    first = values.reshape(-1)[0]
    if (values == first).all():
        return np.asarray(first)
    channels = values.reshape(-1, values.shape[-1])[0]
    return channels if (values == channels).all() else values


# Signs ----------------------------------------------------------------------------------------------------------------


def ternary(context: Context, signal: Signal) -> Signal:
    """Return the sign of an affine signal, 0 at 0, as two populations: `[x > 0] + [x >= 0] - 1`."""
    if signal.pooled is not None:
        raise Refusal("its input was max-pooled before any activation", "take the sign before the pooling")
    path = context.path
    above = context.populate(f"{path}/positive", signal, np.nextafter(np.zeros(()), np.inf))
    least = context.populate(f"{path}/not_negative", signal, np.zeros(()))
    for part, shift in ((above, 0.0), (least, -1.0)):
        context.observations.append(
            Observation(
                context.visit,
                part.terms[0].source,
                signal.channels_first,
                (np.ones(()), np.asarray(shift)),
                values=(-1.0 - shift, -shift, 1.0 - shift),
            )
        )
    return total([above, least]).biased(np.asarray(-1.0))


# Layers and operations ------------------------------------------------------------------------------------------------


def applied(context: Context, signal: Signal, function: Function, name: str, refusal: Refusal) -> Signal:
    """Return an elementwise function of any signal.

    Parameters
    ----------
    name : str
        Of the Keras activation that it is, "" where it has parameters that are not the usual ones.
    refusal : Refusal
        Raised where the signal is not two-valued and the function neither a sign nor a read-out.
    """
    if signal.levels is not None:
        return recoded(context, signal, function)
    if name == "sign":
        return ternary(context, signal)
    if name in ELEMENTWISE_KINDS and not isinstance(signal, ReadoutSignal):
        return as_readout(name, signal, refusal=refusal)
    raise refusal


@handles(keras.layers.ReLU)
def _relu(layer: Any, context: Context, signal: Signal) -> Signal:
    return applied(context, signal, layer, _relu_name(layer), refusal_of(layer, context))


def _relu_name(relu: Any) -> str:
    """Return the kind of read-out that a rectifier with parameters is, or ""."""
    if relu.negative_slope or relu.threshold:
        return ""
    return {None: "relu", 6.0: "relu6"}.get(relu.max_value, "")


@handles(keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.PReLU)
def _other_rectifiers(layer: Any, context: Context, signal: Signal) -> Signal:
    return applied(context, signal, layer, "", refusal_of(layer, context))


def refusal_of(layer: Any, context: Context) -> Refusal:
    """Return the refusal of a layer whose values are not two, raised there or by a layer behind it."""
    return Refusal(*NO_THRESHOLD, where=f"layer {context.path!r} ({type(layer).__name__})")


_RECTIFIER = getattr(sys.modules[keras.activations.relu.__module__], "ReLU", None)


@handles_operation(*operation_classes(*_OPERATIONS), *([] if _RECTIFIER is None else [_RECTIFIER]))
def _elementwise(operation: Any, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signal:
    signals = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, Signal)]
    if len(signals) != 1:
        raise Refusal("it is applied to several signals at once, which is no sum of spikes", "use a spiking activation")
    signal = signals[0]
    # Constants lie in Keras's order.
    signal = signal if len(args) == 1 and not kwargs else signal.in_keras_order()
    cls = type(operation)
    name = _relu_name(operation) if cls is _RECTIFIER else _NAMES.get(cls, "")
    refusal = refusal_of(operation, context)
    refusal.reason = f"there is no exact spiking form of {cls.__name__} for values that are not two"

    def function(frames: Any) -> Any:
        filled = keras.tree.map_structure(lambda value: frames if isinstance(value, Signal) else value, (args, kwargs))
        return operation(*filled[0], **filled[1])

    return applied(context, signal, function, name, refusal)


_NAMES = {cls: name for name in (*ELEMENTWISE_KINDS, "sign") for cls in operation_classes(name)}
