"""The registry of layer handlers: one per layer family, found along the layer class's MRO."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import keras

from strop.lowering.context import Context
from strop.lowering.readout_signal import ReadoutSignal
from strop.lowering.refusal import Refusal
from strop.lowering.signal import Signal

# A handler takes the layer (or operation), the context, and the signals that the layer was called on.
Handler = Callable[..., Signal]
_F = TypeVar("_F", bound=Handler)

_HANDLERS: dict[Any, Handler] = {}
_OPERATIONS: dict[Any, Handler] = {}
_REFUSED: dict[Any, tuple[str, str]] = {}
_BEHIND_READOUTS: set[Any] = set()
_MOVES: set[Any] = set()
_CASTS: set[Any] = set()

# What a subclass may override without changing what the layer computes in inference.
_HARMLESS = frozenset(
    (
        *("_smooth", "build", "build_from_config", "compute_mask", "compute_output_shape", "compute_output_spec"),
        *("count_params", "enable_lora", "from_config", "get_build_config", "get_config", "load_own_variables"),
        *("quantize", "save_own_variables", "threshold"),
    )
)


def handles(
    *classes: Any, behind_readouts: bool = False, moves: bool = False, casts: bool = False
) -> Callable[[_F], _F]:
    """Register a function as the handler of Keras layer classes; registering a class twice is an error.

    Parameters
    ----------
    behind_readouts : bool
        Whether it takes the values of read-outs too (`strop.lowering.readout_signal`), and averages them.
    moves : bool
        Whether it only moves values, of whatever dtype, those of read-outs too.
    casts : bool
        Whether it casts whole numbers to float32 before it calculates.
    """

    def register(handler: _F) -> _F:
        for cls in classes:
            if cls in _HANDLERS:
                raise ValueError(f"{cls.__name__} has a handler already: {_HANDLERS[cls].__name__}")
            _HANDLERS[cls] = handler
        _note(classes, behind_readouts, moves, casts)
        return handler

    return register


def _note(classes: Sequence[Any], behind_readouts: bool, moves: bool, casts: bool) -> None:
    for wanted, known in ((behind_readouts or moves, _BEHIND_READOUTS), (moves, _MOVES), (casts, _CASTS)):
        if wanted:
            known.update(classes)


def refuses(cls: Any, reason: str, advice: str) -> None:
    """Register a Keras layer class that is refused whatever its arguments, with what its `Refusal` says."""
    _REFUSED[cls] = (reason, advice)


def handles_operation(
    *classes: Any, behind_readouts: bool = False, moves: bool = False, casts: bool = False
) -> Callable[[_F], _F]:
    """Register a function as the handler of operations of `keras.ops`: it takes all arguments of the call."""

    def register(handler: _F) -> _F:
        _OPERATIONS.update((cls, handler) for cls in classes)
        _note(classes, behind_readouts, moves, casts)
        return handler

    return register


def handler_for(operation: Any) -> Handler:
    """Return the handler of a layer, looked up along its class's MRO.

    A subclass with a `call` of its own computes something else than the class that it is derived from, so it is
    refused and not taken for its parent. The same goes for everything else that its `call` may use.

    Raises
    ------
    Refusal
        If there is none, or Keras evaluates the layer in less than float32.
    """
    from strop.keras.thresholds import compared_threshold

    cls: Any = type(operation)
    for base in cls.__mro__:
        if base in _HANDLERS:
            break
        if base in _REFUSED:
            raise Refusal(*_REFUSED[base])
    _refuse_low_precision(operation)
    declared = compared_threshold(operation, "float32")
    if declared is not None:
        return lambda layer, context, signal: context.spiking(signal, declared.at, declared.low, declared.high)
    for base in cls.__mro__:
        if base in _HANDLERS:
            overridden = _overridden(cls, base)
            if overridden:
                raise Refusal(
                    f"its class overrides {overridden} of {base.__name__}, so what it computes is not known",
                    f"use {base.__name__} itself",
                )
            return _HANDLERS[base]
    raise Refusal(
        "there is no exact spiking form of this layer in strop",
        "replace it by layers that strop carries (see the table in docs/layers.md)",
    )


def _overridden(cls: Any, base: Any) -> str:
    """Return the first member of its base that a subclass overrides and that may change its outputs, or ""."""
    if cls.call is not base.call:
        return "call()"
    for owner in cls.__mro__[: cls.__mro__.index(base)]:
        for name, value in vars(owner).items():
            if name in _HARMLESS or (name.startswith("__") and name != "__call__"):
                continue
            if hasattr(base, name) and (callable(value) or isinstance(value, property)):
                return f"{name}()" if callable(value) else name
    return ""


def _refuse_low_precision(operation: Any) -> None:
    compute = getattr(operation, "compute_dtype", "float32")
    if compute not in ("float32", "float64"):
        raise Refusal(
            f"Keras evaluates it in {compute}, whose rounding decides spikes differently from step to step",
            "set its dtype policy to 'float32' and check the model's accuracy before lowering",
        )


def handled_classes() -> list[Any]:
    """Return all classes that have a handler."""
    return list(_HANDLERS)


def lower_call(operation: Any, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Lower one call of a layer: find its handler, check its arguments, follow its activation."""
    if type(operation) in _OPERATIONS:
        for signal in keras.tree.flatten((args, kwargs)):
            _refuse_decoded(operation, signal)
        result = _typed(operation, (args, kwargs), _OPERATIONS[type(operation)](operation, context, args, kwargs))
        return _with_width(result, operation, ())
    handler = handler_for(operation)
    extra = {name: value for name, value in kwargs.items() if value is not None}
    # Augmentation layers default to training=True, and Keras records that; `predict` passes False.
    if extra.pop("training", False) and not _trains_by_default(operation):
        raise Refusal("it is called with training=True, so it behaves at random", "call it without training=True")
    signals = args[0] if len(args) == 1 else args
    if extra or not args:
        raise Refusal(f"it is called with the arguments {', '.join(extra) or 'none'}, which strop cannot carry over")
    for signal in signals if isinstance(signals, (list, tuple)) else (signals,):
        if not isinstance(signal, Signal):
            raise Refusal("it is called on a constant, which strop cannot carry over", "use a layer with a bias")
        _refuse_decoded(operation, signal)
    result = _typed(operation, (args, kwargs), handler(operation, context, signals))
    return _with_width(result, operation, signals)


def _with_width(result: Any, layer: Any, signals: Any) -> Any:
    """Return the result of a layer, marked as computed in float64 or not."""
    if not isinstance(result, Signal) or result.computed is None:
        return result
    before = signals if isinstance(signals, (list, tuple)) else (signals,)
    wide = getattr(layer, "compute_dtype", "float32") == "float64" and all(signal.wide for signal in before)
    return replace(result, wide=wide)


def _typed(operation: Any, arguments: Any, result: Any) -> Any:
    """Return the result of a call, marked as whole numbers where Keras has not cast them; refuse arithmetic with them.

    Keras casts no integers of itself (keras 3.15, keras/src/dtype_policies/dtype_policy.py, `_should_cast`), and with
    uint8 even `x - 128` wraps round.
    """
    signals = [value for value in keras.tree.flatten(arguments) if isinstance(value, Signal)]
    if not any(signal.integer for signal in signals):
        return result
    bases = type(operation).__mro__
    if any(base in _CASTS for base in bases) or _is_float_arithmetic(operation, arguments):
        return replace(result, integer=False)
    if any(base in _MOVES for base in bases):
        return replace(result, integer=all(signal.integer for signal in signals))
    raise Refusal(
        "it calculates with the whole numbers of an input that is no float, as Keras does without a cast",
        "put keras.layers.Rescaling(1.0) or keras.ops.cast(x, 'float32') in front of it",
    )


def _is_float_arithmetic(operation: Any, arguments: Any) -> bool:
    """Whether it is arithmetic of a signal and a constant that Keras does in floats."""
    kind = type(operation).__name__
    if kind in ("Divide", "TrueDivide"):
        return True
    constants = [value for value in keras.tree.flatten(arguments) if not isinstance(value, Signal)]
    floats = [isinstance(c, float) or "float32" in str(getattr(c, "dtype", "")) for c in constants]
    return kind in ("Add", "Subtract", "Multiply") and len(constants) == 1 and all(floats)


def _trains_by_default(layer: Any) -> bool:
    training = inspect.signature(layer.call).parameters.get("training")
    return training is not None and training.default is True


def _refuse_decoded(operation: Any, signal: Any) -> None:
    """Refuse layers behind a read-out, except those that do nothing in inference, move its values or average them."""
    if not isinstance(signal, ReadoutSignal) or any(base in _BEHIND_READOUTS for base in type(operation).__mro__):
        return
    raise signal.refusal or Refusal(
        "it follows the decoder",
        "make the decoder or softmax the last layer, or let layers that move or average its values alone follow",
    )
