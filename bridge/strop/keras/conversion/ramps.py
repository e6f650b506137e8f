"""Which bounded activation takes the place of which: ReLU and its kin become ramps, sigmoid and tanh sigmoids.

Each counterpart is ``low + (high - low) * spikes((x - start) / width)``, where `spikes` is a `SpikingBReLU` or a
`SpikingSigmoid` at sharpness 0. Where `width` is left open, it is measured on frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from strop.errors import UnsupportedLayerError
from strop.keras.activations import SIGMOID_SLOPE, SpikingActivation, SpikingBReLU, SpikingSigmoid
from strop.keras.thresholds import declared_threshold
from strop.keras.walk import operation_classes

L = keras.layers

# keras.activations.selu: scale.
_SELU = 1.0507009873554805


@dataclass(frozen=True)
class Ramp:
    """The bounded activation that takes the place of another one; see the module."""

    layer: Callable[..., SpikingActivation] = SpikingBReLU
    start: float = 0.0
    """The input at which the ramp leaves `low`; of a sigmoid, its middle."""
    width: float | None = None
    """What inputs are divided by; None: as wide as the activations reach."""
    low: float = 0.0
    high: float = 1.0
    """Least and greatest value; where `width` is None, `high` is the slope instead."""
    limit: float | None = None
    """The greatest value of the activation itself."""

    def measured(self, reach: float) -> Ramp:
        """Return the ramp for activations that reach up to `reach`; one with a width of its own stays as it is."""
        if self.width is not None:
            return self
        reach = reach if self.limit is None else min(reach, self.limit)
        return replace(self, width=reach / self.high, high=reach)


_RAMP = Ramp()
_SIGMOID = Ramp(SpikingSigmoid, width=SIGMOID_SLOPE)
_TANH = Ramp(SpikingSigmoid, width=SIGMOID_SLOPE / 2.0, low=-1.0)

# By the names of keras.activations, which are those of keras.ops as well.
_RAMPS: dict[str, Ramp] = {
    **dict.fromkeys(("relu", "leaky_relu", "elu", "celu", "gelu", "silu", "hard_silu", "mish"), _RAMP),
    **dict.fromkeys(("softplus", "squareplus", "sparse_plus"), _RAMP),
    "relu6": Ramp(limit=6.0),
    "selu": Ramp(high=_SELU),
    "sigmoid": _SIGMOID,
    "hard_sigmoid": Ramp(start=-3.0, width=6.0),
    "sparse_sigmoid": Ramp(start=-1.0, width=2.0),
    "tanh": _TANH,
    "softsign": _TANH,
    "hard_tanh": Ramp(start=-1.0, width=2.0, low=-1.0),
}
_WITHOUT = (
    *("exponential", "glu", "hard_shrink", "log_sigmoid", "log_softmax", "softmax", "soft_shrink", "sparsemax"),
    *("tanh_shrink", "threshold"),
)
_FUNCTIONS = {
    getattr(keras.activations, name): name for name in (*_RAMPS, *_WITHOUT) if hasattr(keras.activations, name)
}
_OPERATIONS = {
    **{cls: name for name in (*_RAMPS, *_WITHOUT) for cls in operation_classes(name)},
    # ops.clip has no fixed bounds, and these have no counterpart either.
    **{cls: name for name in ("abs", "clip", "exp", "sign", "sqrt", "square") for cls in operation_classes(name)},
}
_LAYERS = {L.LeakyReLU: "leaky_relu", L.PReLU: "leaky_relu", L.ELU: "elu", L.Softmax: "softmax"}


def is_linear(activation: Any) -> bool:
    """Whether an `activation=` leaves its values as they are."""
    if isinstance(activation, L.Activation):
        return is_linear(activation.activation)
    return activation is None or activation is keras.activations.linear or type(activation) is L.Identity


def is_threshold(activation: Any) -> bool:
    """Whether an activation is two-valued, or will be, as it is: strop's own, or a declared threshold."""
    if isinstance(activation, L.Activation):
        return is_threshold(activation.activation)
    return isinstance(activation, SpikingActivation) or declared_threshold(activation) is not None


def is_softmax(activation: Any) -> bool:
    """Whether an activation is a softmax over the last axis."""
    if isinstance(activation, L.Activation):
        return is_softmax(activation.activation)
    if type(activation) is L.Softmax:
        return bool(activation.axis == -1)
    return activation is keras.activations.softmax


def activation_name(activation: Any) -> str:
    """Return the name of an activation (function, layer or operation), "" where it is none that strop knows."""
    if isinstance(activation, L.Activation):
        return activation_name(activation.activation) or str(getattr(activation.activation, "__name__", "a function"))
    if isinstance(activation, L.ReLU):
        return "relu"
    if isinstance(activation, L.Layer):
        return _LAYERS.get(type(activation), "")
    if isinstance(activation, keras.Operation):
        return _OPERATIONS.get(type(activation), "")
    try:
        return _FUNCTIONS.get(activation, "")
    except TypeError:  # not hashable
        return ""


def ramp_of(activation: Any, where: str) -> Ramp:
    """Return the counterpart of an activation in the middle of a network.

    Raises
    ------
    UnsupportedLayerError
        If it has none; the message begins with `where`.
    """
    name = activation_name(activation)
    if name not in _RAMPS:
        name = name or str(getattr(activation, "__name__", type(activation).__name__))
        raise UnsupportedLayerError(
            f"{where}: the activation {name!r} has no counterpart that sharpens to a threshold: replace it by 'relu', "
            "'sigmoid' or 'tanh', and train the model again"
        )
    if isinstance(activation, L.ReLU) and activation.max_value is not None:
        return Ramp(limit=float(activation.max_value))
    return _RAMPS[name]
