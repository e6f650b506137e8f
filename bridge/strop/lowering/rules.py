"""The registry of layer handlers: one per layer family, found along the layer class's MRO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from strop.lowering.context import Context
from strop.lowering.refusal import Refusal
from strop.lowering.signal import Signal

# A handler takes the layer (or operation), the context, and the signals that the layer was called on.
Handler = Callable[..., Signal]
_F = TypeVar("_F", bound=Handler)

_HANDLERS: dict[Any, Handler] = {}


def handles(*classes: Any) -> Callable[[_F], _F]:
    """Register a function as the handler of Keras layer classes; registering a class twice is an error."""

    def register(handler: _F) -> _F:
        for cls in classes:
            if cls in _HANDLERS:
                raise ValueError(f"{cls.__name__} has a handler already: {_HANDLERS[cls].__name__}")
            _HANDLERS[cls] = handler
        return handler

    return register


def handler_for(operation: Any) -> Handler:
    """Return the handler of a layer, looked up along its class's MRO.

    A subclass with a `call` of its own computes something else than the class that it is derived from, so it is
    refused and not taken for its parent.

    Raises
    ------
    Refusal
        If there is none.
    """
    from strop.keras.thresholds import declared_threshold

    declared = declared_threshold(operation)
    if declared is not None:
        return lambda layer, context, signal: context.spiking(signal, declared.at, declared.low, declared.high)
    cls: Any = type(operation)
    for base in cls.__mro__:
        if base in _HANDLERS:
            if cls.call is not base.call:
                raise Refusal(
                    f"its class overrides call() of {base.__name__}, so what it computes is not known",
                    f"use {base.__name__} itself, or write a handler for {cls.__name__}",
                )
            return _HANDLERS[base]
    raise Refusal(
        "there is no exact spiking form of this layer in strop",
        "replace it by layers that strop carries (see the table of layers in the README)",
    )


def handled_classes() -> list[Any]:
    """Return all classes that have a handler."""
    return list(_HANDLERS)


def lower_call(operation: Any, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Lower one call of a layer: find its handler, check its arguments, follow its activation."""
    extra = {name: value for name, value in kwargs.items() if value is not None}
    if extra.pop("training", False):
        raise Refusal("it is called with training=True, so it behaves at random", "call it without training=True")
    handler = handler_for(operation)
    signals = args[0] if len(args) == 1 else args
    if extra or not args:
        raise Refusal(f"it is called with the arguments {', '.join(extra) or 'none'}, which strop cannot carry over")
    for signal in signals if isinstance(signals, (list, tuple)) else (signals,):
        if not isinstance(signal, Signal):
            raise Refusal("it is called on a constant, which strop cannot carry over", "use a layer with a bias")
        if signal.decoded is not None:
            raise Refusal("it follows the decoder", "make the decoder or softmax the last layer")
    return handler(operation, context, signals)
