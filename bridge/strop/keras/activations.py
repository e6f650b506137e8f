"""Spiking activations: layers that a sharpener turns, step by step, from smooth functions into thresholds.

They are what the lowering looks for in a Keras model: `layer.threshold` is the threshold of the population
that a fully sharpened layer becomes. Only `keras.ops` is used, so they train on any Keras 3 backend.

The method: Severa, Vineyard, Dellana, Verzi, Aimone, "Training deep neural networks for binary communication
with the Whetstone method", Nature Machine Intelligence 1, 86-94 (2019), arXiv:1810.11521.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from strop.errors import DataError

# The knees (roots of the third derivative) of 1 / (1 + exp(-k x)) lie at x = ±ln(2 + √3) / k; this factor
# puts them a quarter of the width away from the threshold.
_KNEE = 4.0 * math.log(2.0 + math.sqrt(3.0))
# Keeps the slope of the sigmoid finite just below full sharpness; the original uses the same figure, and
# networks that it left half sharpened must mean the same here.
_MINIMAL_WIDTH = 0.001
SIGMOID_SLOPE = _KNEE / (1.0 + _MINIMAL_WIDTH)
"""A `SpikingSigmoid` at sharpness 0 is ``sigmoid(SIGMOID_SLOPE * x)``."""


def checked_sharpness(value: Any, owner: str) -> float:
    """Return `value` as a float in [0, 1]; anything else is a `DataError` that names `owner`."""
    return checked_fraction(value, "sharpness", owner)


def checked_fraction(value: Any, what: str, owner: str) -> float:
    """Return `value` as a float in [0, 1]; anything else is a `DataError` that says `what` of `owner` it should be."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} of {owner} must be a number in [0, 1], got {value!r}") from error
    if not 0.0 <= number <= 1.0:  # also refuses NaN
        raise DataError(f"{what} of {owner} must lie in [0, 1], got {number!r}")
    return number


class SpikingActivation(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Base of the spiking activations: a smooth function at sharpness 0, a threshold at sharpness 1.

    The sharpness is a scalar, non-trainable float32 weight named ``sharpness``. It is there as soon as the
    layer is, built or not, and it is saved both as a weight and in the config.

    Parameters
    ----------
    sharpness : float, in [0, 1]
        0 leaves the activation smooth, 1 makes it the threshold ``x >= threshold``.
    surrogate_width : float, in [0, 1]
        Least width, in units of the input, of the slope whose gradient training uses. The layer's
        outputs do not change, only its gradient: with 0, as in the original, a threshold passes no gradient, and the
        layers below it stop learning; with 1 the gradient stays that of sharpness 0 throughout.
    **kwargs
        `name`, `dtype`, `trainable` as for every Keras layer.

    Raises
    ------
    DataError
        If the sharpness or the surrogate width is not a number in [0, 1].
    """

    threshold: ClassVar[float]
    """A fully sharpened layer spikes iff its input is at least this."""

    _default_name: ClassVar[str] = "spiking_activation"

    observer: Callable[[Any], None] | None
    """Called with the layer's outputs while `neuron_report` counts spikes; None otherwise."""

    def __init__(self, sharpness: float = 0.0, *, surrogate_width: float = 0.0, **kwargs: Any) -> None:
        if kwargs.get("name") is None:
            # Keras would make "spiking_b_re_lu" of the class name, and users read these names in every table.
            count = keras.backend.get_uid(self._default_name)
            kwargs["name"] = self._default_name if count == 1 else f"{self._default_name}_{count - 1}"
        super().__init__(**kwargs)
        self.supports_masking = True
        self.observer = None
        self.surrogate_width = checked_fraction(surrogate_width, "surrogate_width", f"layer {self.name!r}")
        self._sharpness = self.add_weight(
            name="sharpness",
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(checked_sharpness(sharpness, f"layer {self.name!r}")),
            trainable=False,
            autocast=False,  # float16 cannot hold 1 - 2**-12, and would round it to fully sharpened
        )

    @property
    def sharpness(self) -> float:
        """The sharpness now, in [0, 1]; assigning to it checks the range. Stored in float32."""
        # By the shortest decimal that names this float32: 0.3 shall not read as 0.30000001192092896.
        return float(str(np.float32(float(self._sharpness.value))))

    @sharpness.setter
    def sharpness(self, value: float) -> None:
        self._sharpness.assign(checked_sharpness(value, f"layer {self.name!r}"))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the activation elementwise.

        Parameters
        ----------
        inputs : tensor, any shape, float16, bfloat16, float32 or float64
        training : bool, optional
            Whether the surrogate gradient is wanted; the values are the same.

        Returns
        -------
        tensor, same shape, the layer's compute dtype
            In [0, 1]; in {0, 1} at full sharpness.
        """
        x = ops.convert_to_tensor(inputs)
        dtype = keras.backend.standardize_dtype(x.dtype)
        if dtype not in ("float32", "float64"):
            # A slope of 1 / (1 - sharpness) overflows half precision. Comparisons are exact either way.
            dtype = "float32"
        x = ops.cast(x, dtype)
        sharpness = ops.cast(self._sharpness, dtype)
        sharp = sharpness >= 1.0
        # Both branches of a `where` are differentiated: the one not taken must be finite too, 0 * inf is NaN.
        width = ops.where(sharp, ops.ones_like(sharpness), 1.0 - sharpness)
        step = ops.cast(x >= ops.cast(self.threshold, dtype), dtype)
        value = ops.where(sharp, step, self._smooth(x, sharpness, width))
        if training and self.surrogate_width > 0.0:
            blunt = ops.minimum(sharpness, 1.0 - self.surrogate_width)
            slope = self._smooth(x, blunt, 1.0 - blunt)
            # In this order the sum is `value` to the last bit: the bracket is exactly zero.
            value = ops.stop_gradient(value) + (slope - ops.stop_gradient(slope))
        value = ops.cast(value, self.compute_dtype)
        if self.observer is not None:
            self.observer(value)
        return value

    def _smooth(self, x: Any, sharpness: Any, width: Any) -> Any:
        """Return the activation below full sharpness; `width` is 1 - sharpness, and never 0."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `input_shape`: the activation is elementwise."""
        return input_shape

    def load_own_variables(self, store: Any) -> None:
        """Take the sharpness from a file of weights; a file without it leaves what the config said."""
        # Keras writes an activation that two layers share only once, and the original Whetstone wrote none at all.
        if len(store.keys()) > 0:
            super().load_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        """Return the config with the sharpness as it is now, so that clones and saved models keep it."""
        config = {**super().get_config(), "sharpness": self.sharpness}
        return {**config, "surrogate_width": self.surrogate_width} if self.surrogate_width else config


@keras.saving.register_keras_serializable(package="strop")
class SpikingBReLU(SpikingActivation):
    """Bounded rectified linear unit that sharpens to ``x >= 0.5``.

    >>> layer = SpikingBReLU()                    # clip(x, 0, 1)
    >>> layer.sharpness = 1.0                     # x >= 0.5
    >>> [float(y) for y in layer(np.array([0.25, 0.5, 0.75], "float32"))]
    [0.0, 1.0, 1.0]

    In between it is the line through (0.5, 0.5) that rises from 0 to 1 over a width of ``1 - sharpness``.
    Works as a layer of its own and as the `activation=` of another.

    Parameters
    ----------
    sharpness : float, in [0, 1]
    surrogate_width : float, in [0, 1]
        As in `SpikingActivation`.
    **kwargs
        `name`, `dtype`, `trainable` as for every Keras layer.

    Raises
    ------
    DataError
        If the sharpness or the surrogate width is not a number in [0, 1].
    """

    threshold: ClassVar[float] = 0.5
    _default_name: ClassVar[str] = "spiking_brelu"

    def _smooth(self, x: Any, sharpness: Any, width: Any) -> Any:
        # (x - 0.5) / width + 0.5, written so that it is exactly x at sharpness 0 and exactly 0.5 at x = 0.5.
        # The ramp lies inside [0, 1], so clipping first changes nothing but keeps steep slopes times large
        # inputs finite.
        x = ops.clip(x, 0.0, 1.0)
        return ops.clip(x + (x - 0.5) * (sharpness / width), 0.0, 1.0)


@keras.saving.register_keras_serializable(package="strop")
class SpikingSigmoid(SpikingActivation):
    """Sigmoid that sharpens to ``x >= 0``.

    >>> layer = SpikingSigmoid(sharpness=1.0)
    >>> [float(y) for y in layer(np.array([-1.0, 0.0, 1.0], "float32"))]
    [0.0, 1.0, 1.0]

    Below full sharpness it is ``1 / (1 + exp(-k x))`` with
    ``k = 4 ln(2 + sqrt 3) / (1 - sharpness + 0.001)`` of the original. Works as a layer of its own and as the
    `activation=` of another.

    Parameters
    ----------
    sharpness : float, in [0, 1]
    surrogate_width : float, in [0, 1]
        As in `SpikingActivation`.
    **kwargs
        `name`, `dtype`, `trainable` as for every Keras layer.

    Raises
    ------
    DataError
        If the sharpness or the surrogate width is not a number in [0, 1].
    """

    threshold: ClassVar[float] = 0.0
    _default_name: ClassVar[str] = "spiking_sigmoid"

    def _smooth(self, x: Any, sharpness: Any, width: Any) -> Any:
        return ops.sigmoid(x * (_KNEE / (width + _MINIMAL_WIDTH)))
