"""Population decoding: from the spikes of the last layer to class probabilities, by a fixed {0, 1} key.

Each class owns a set of neurons (its row of the key). The decoder compares the spikes with every row and
takes the softmax of the agreement; it has nothing to train. The lowering turns it into the graph's readout.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from strop.errors import DataError


def key_generator(
    num_classes: int,
    width: int,
    overlapping: bool = True,
    seed: int | np.random.Generator | None = None,
    *,
    sparsity: float | None = None,
) -> NDArray[np.float32]:
    """Draw a random key that tells which of `width` neurons stand for which class.

    >>> key = key_generator(num_classes=10, width=100, seed=0)
    >>> key.shape, int(key.sum(axis=1).max())
    ((10, 100), 10)

    Every class gets at least one neuron that no other class has, so no two classes can be confused by the
    key.

    Parameters
    ----------
    num_classes : int, >= 1
    width : int, >= num_classes
        Neurons in the layer to decode.
    overlapping : bool
        Whether a neuron may stand for several classes.
    seed : int, numpy.random.Generator or None
        None draws another key each time.
    sparsity : float in (0, 1], optional
        Fraction of ones in each row; ``round(sparsity * width)`` neurons stand for a class. By default
        ``width // num_classes``.

    Returns
    -------
    array, shape (num_classes, width), float32, of zeros and ones

    Raises
    ------
    DataError
        If `width` cannot give every class a neuron of its own, or cannot hold the ones that `sparsity` asks
        for.
    """
    num_classes, width = _count("num_classes", num_classes), _count("width", width)
    if not isinstance(overlapping, bool | np.bool_):
        raise DataError(f"overlapping must be True or False, got {overlapping!r}; sparsity is a keyword")
    if width < num_classes:
        raise DataError(
            f"width {width} cannot give each of {num_classes} classes a neuron of its own; "
            f"use a width of at least {num_classes}"
        )
    ones = width // num_classes if sparsity is None else _ones_per_class(sparsity, width)
    rng = np.random.default_rng(seed)
    neurons = rng.permutation(width)
    key = np.zeros((num_classes, width), dtype=np.float32)
    if overlapping:
        own, shared = neurons[:num_classes], neurons[num_classes:]
        if ones - 1 > shared.size:
            raise DataError(
                f"with {ones} ones in each row, width {width} cannot give each of {num_classes} classes "
                f"a neuron of its own; use a sparsity of at most {(shared.size + 1) / width:.4g}"
            )
        key[np.arange(num_classes), own] = 1
        for row in key:
            row[rng.choice(shared, size=ones - 1, replace=False)] = 1
    else:
        if ones * num_classes > width:
            raise DataError(
                f"{num_classes} classes of {ones} neurons do not fit into width {width} without overlap; "
                f"use a sparsity of at most {(width // num_classes) / width:.4g}"
            )
        for row, own in zip(key, neurons[: ones * num_classes].reshape(num_classes, ones), strict=True):
            row[own] = 1
    return key


@keras.saving.register_keras_serializable(package="strop")
class SoftmaxDecode(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Decode spikes into class probabilities: ``softmax((2 x - 1) . (2 key^T - 1) / temperature)``.

    >>> decode = SoftmaxDecode(key=[[1, 1, 0, 0], [0, 0, 1, 1]])
    >>> [round(float(p), 4) for p in decode(np.array([[1.0, 1.0, 0.0, 0.0]], "float32"))[0]]
    [0.9997, 0.0003]

    The key is part of the layer's config; it is no weight and is never trained.

    Parameters
    ----------
    key : array, shape (num_classes, width), of zeros and ones
        Also nested lists, or the ``{"type": "ndarray", "value": [...]}`` that the original Whetstone wrote to
        files.
    size : tuple (num_classes, width), optional
        In place of `key`: draw a random key of this size (see `key_generator`).
    temperature : float, a power of two
        Divides what the softmax is taken of; the classes stay the same. At 1, as in the original, a class is certain
        as soon as a handful of neurons agree with it more than with the next, and training stops
        there: a temperature of about a twelfth of the width keeps asking for the rest of the code. Only powers
        of two divide without rounding, so that scores that tie go on tying.
    **kwargs
        `name`, `dtype` as for every Keras layer.

    Raises
    ------
    DataError
        If the key is not a matrix of zeros and ones, if a class has no neuron, if the input has another width, or if
        the temperature is no power of two.
    """

    def __init__(
        self,
        key: ArrayLike | Mapping[str, Any] | None = None,
        size: tuple[int, int] | None = None,
        *,
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = _power_of_two(temperature, self.name)
        if (key is None) == (size is None):
            raise DataError(f"SoftmaxDecode {self.name!r} needs either a key or a size (num_classes, width)")
        if key is not None:
            self._key = _checked_key(key, self.name)
        else:
            num_classes, width = _size_pair(size, self.name)
            self._key = key_generator(num_classes, width)
        self._key.flags.writeable = False

    @property
    def key(self) -> NDArray[np.float32]:
        """The key, shape (num_classes, width), float32 zeros and ones, read-only."""
        return self._key

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Check that the input is as wide as the key."""
        if input_shape[-1] is not None and input_shape[-1] != self._key.shape[1]:
            raise DataError(
                f"SoftmaxDecode {self.name!r} has a key for {self._key.shape[1]} neurons, "
                f"but its input of shape {tuple(input_shape)} has {input_shape[-1]}"
            )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return class probabilities.

        Parameters
        ----------
        inputs : tensor, shape (..., width)

        Returns
        -------
        tensor, shape (..., num_classes)
        """
        x = ops.convert_to_tensor(inputs, dtype=self.compute_dtype)
        signs = ops.convert_to_tensor(2 * self._key.T - 1, dtype=self.compute_dtype)
        # softmax comes last so that Keras's cross-entropy finds its logits and stays stable
        return ops.softmax(ops.matmul(2 * x - 1, signs) / self.temperature, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return `input_shape` with the neurons replaced by the classes."""
        return (*input_shape[:-1], self._key.shape[0])

    def get_config(self) -> dict[str, Any]:
        """Return a JSON-able config; the key is in it as nested lists of 0 and 1."""
        config = {**super().get_config(), "key": self._key.astype(int).tolist()}
        return config if self.temperature == 1.0 else {**config, "temperature": self.temperature}


def _power_of_two(temperature: Any, name: str) -> float:
    try:
        value = float(temperature)
    except (TypeError, ValueError) as error:
        raise DataError(f"temperature of SoftmaxDecode {name!r} must be a number, got {temperature!r}") from error
    # float32 is the least that Keras may compute in, and its range is far wider than any use.
    if not 2.0**-20 <= value <= 2.0**20 or math.frexp(value)[0] != 0.5:
        raise DataError(
            f"temperature of SoftmaxDecode {name!r} must be a power of two such as 8 or 16, got {temperature!r}"
        )
    return value


def _checked_key(key: ArrayLike | Mapping[str, Any], name: str) -> NDArray[np.float32]:
    if isinstance(key, Mapping):
        if "value" not in key:
            raise DataError(f"key of SoftmaxDecode {name!r} is a dict without the entry 'value'")
        key = key["value"]
    try:
        array = np.array(key, dtype=np.float32)  # a copy: the caller's array stays writeable
    except (TypeError, ValueError) as error:
        raise DataError(f"key of SoftmaxDecode {name!r} is not a matrix of numbers: {error}") from error
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"key of SoftmaxDecode {name!r} must have shape (num_classes, width), got {array.shape}")
    if not np.isin(array, (0.0, 1.0)).all():
        raise DataError(f"key of SoftmaxDecode {name!r} must hold only 0 and 1")
    silent = np.flatnonzero(array.sum(axis=1) == 0)
    if silent.size:
        raise DataError(f"key of SoftmaxDecode {name!r} gives no neuron to class {silent[0]}")
    return array


def _size_pair(size: Any, name: str) -> tuple[int, int]:
    try:
        num_classes, width = size
    except (TypeError, ValueError) as error:
        raise DataError(f"size of SoftmaxDecode {name!r} must be (num_classes, width), got {size!r}") from error
    return num_classes, width


def _count(what: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError as error:
        raise DataError(f"{what} must be a whole number, got {value!r}") from error
    if count < 1:
        raise DataError(f"{what} must be at least 1, got {count}")
    return count


def _ones_per_class(sparsity: float, width: int) -> int:
    if not 0.0 < sparsity <= 1.0:
        raise DataError(f"sparsity must lie in (0, 1], got {sparsity!r}")
    ones = round(sparsity * width)
    if ones < 1:
        raise DataError(
            f"sparsity {sparsity!r} of width {width} leaves every class without a neuron; use at least {1 / width:.4g}"
        )
    return ones
