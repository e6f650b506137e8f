"""Step activations that need no sharpening: `Heaviside`, and `declare_threshold` for steps of other packages.

The step may lie anywhere and have any two values, signs included. `Heaviside` is trained by a straight-through
gradient. `declare_threshold` declares another layer or function to be a step (Larq's `ste_sign`, a function of your
own), and the lowering then carries it over. The verification finds a wrong declaration: it compares the values that the
activation really gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from strop.errors import DataError

_Activation = TypeVar("_Activation", bound=Callable[..., Any])


@dataclass(frozen=True)
class Threshold:
    """An activation that gives `high` where its input is at least `at`, and `low` elsewhere."""

    at: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.at, self.low, self.high)):
            raise DataError(f"a threshold and its two values must be finite, got {self}")
        if self.low == self.high:
            raise DataError(f"a threshold needs two different values, got {self.low} twice")


_DECLARED: dict[Any, Threshold] = {}


def declare_threshold(activation: _Activation, at: float, low: float = 0.0, high: float = 1.0) -> _Activation:
    """Declare that an activation is a threshold, so that `strop.lower` carries it over.

    >>> def sign(x):
    ...     return keras.ops.where(x >= 0, 1.0, -1.0)
    >>> declare_threshold(sign, at=0.0, low=-1.0, high=1.0)

    Parameters
    ----------
    activation : function, or subclass of keras.layers.Layer
        What it computes in inference must be `where(x >= at, high, low)`.
    at, low, high : float

    Returns
    -------
    The activation itself.

    Raises
    ------
    DataError
        If the values are equal or not finite, or the activation was declared otherwise before.
    """
    threshold = Threshold(float(at), float(low), float(high))
    if not callable(activation):
        raise DataError(f"only functions and layer classes can be declared, got {activation!r}")
    if _DECLARED.setdefault(activation, threshold) != threshold:
        raise DataError(f"{activation!r} was declared as {_DECLARED[activation]} before, and now as {threshold}")
    return activation


def compared_threshold(activation: Any, dtype: str) -> Threshold | None:
    """Return the declared threshold with `at` as it is compared with: rounded to the type of the compared values.

    A float32 tensor is compared with the float32 nearest to 0.7, which is smaller than 0.7. A float64 next to a
    float32 is left as it is: it declares `x > t`.

    Parameters
    ----------
    activation : function or layer
    dtype : str
        Type in which a function's argument comes; a layer has one of its own.
    """
    found = declared_threshold(activation)
    if found is None or getattr(activation, "compute_dtype", dtype) != "float32":
        return found
    rounded = float(np.float32(found.at))
    strict = found.at in (np.nextafter(rounded, math.inf), np.nextafter(rounded, -math.inf))
    return found if strict and not isinstance(activation, Heaviside) else replace(found, at=rounded)


def declared_threshold(activation: Any) -> Threshold | None:
    """Return the threshold that was declared for a function or for the class of a layer, or None.

    A subclass with a `call` of its own is not what its parent was declared to be.
    """
    if isinstance(activation, Heaviside) and type(activation).call is Heaviside.call:
        return Threshold(activation.threshold, activation.low, activation.high)
    if isinstance(activation, keras.layers.Layer):
        cls: Any = type(activation)
        for base in cls.__mro__:
            if base in _DECLARED:
                return _DECLARED[base] if cls.call is base.call else None
        return None
    try:
        return _DECLARED.get(activation)
    except TypeError:  # not hashable, so it cannot have been declared
        return None


@keras.saving.register_keras_serializable(package="strop")
class Heaviside(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Step activation: `high` where `x >= threshold`, `low` elsewhere; trains by a straight-through gradient.

    >>> sign = Heaviside(threshold=0.0, low=-1.0, high=1.0)

    The gradient is that of a ramp of width one across the step (Bengio, Léonard, Courville, arXiv:1308.3432;
    Courbariaux et al., arXiv:1602.02830, section 1.3).

    Parameters
    ----------
    threshold, low, high : float
    """

    def __init__(self, threshold: float = 0.0, low: float = 0.0, high: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        checked = Threshold(float(threshold), float(low), float(high))
        self.threshold, self.low, self.high = checked.at, checked.low, checked.high
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Apply the step elementwise; shape and compute dtype stay as they are."""
        x = ops.convert_to_tensor(inputs)
        step = ops.cast(x >= self.threshold, x.dtype)
        ramp = ops.clip(x - self.threshold + 0.5, 0.0, 1.0)
        # In value the ramp cancels exactly (r - r is 0); in gradient the step does.
        through = ops.stop_gradient(step) + (ramp - ops.stop_gradient(ramp))
        return self.low + (self.high - self.low) * through

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return threshold and values."""
        return {**super().get_config(), "threshold": self.threshold, "low": self.low, "high": self.high}
