"""Networks whose way from Keras to the verdict tests spoil, and whether a verification notices it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest
from random_networks import random_frames, randomise

import strop
from strop.errors import StropError
from strop.keras import Heaviside, SoftmaxDecode, SpikingBReLU, SpikingSigmoid, key_generator

L = keras.layers
verify_module = import_module("strop.verification.verify")  # the attribute strop.verify is the function

CHUNK, FRAMES = 5, 13
Spikes = dict[str, Any]
Spoil = Callable[[pytest.MonkeyPatch], Any]


# Networks -------------------------------------------------------------------------------------------------------------


def vectors() -> keras.Model:
    """Skips of one and two steps more; a key at the end."""
    x = keras.Input((6,))
    a = SpikingBReLU(1.0, name="a")(L.Dense(8)(x))
    b = SpikingSigmoid(1.0, name="b")(L.Dense(8)(a))
    c = SpikingBReLU(1.0, name="c")(L.Dense(7)(L.Concatenate()([a, b])))
    d = SpikingSigmoid(1.0, name="d")(L.Dense(12)(L.Concatenate()([c, a])))
    return keras.Model(x, SoftmaxDecode(key_generator(4, 12, seed=1))(d))


def images() -> keras.Model:
    """Even kernels under `same` padding, normalisations of either sign before and behind pools, flattened."""
    x = inputs = keras.Input((6, 8, 2))
    x = SpikingSigmoid(1.0)(L.BatchNormalization(epsilon=0.3)(L.Conv2D(4, 2, padding="same")(x)))
    x = SpikingBReLU(1.0)(L.BatchNormalization()(L.MaxPooling2D(2)(L.Conv2D(4, 3, padding="same")(x))))
    x = SpikingBReLU(1.0)(L.Dense(9)(L.Flatten()(x)))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(x))


def operations_of_keras() -> keras.Model:
    """Comparisons that sums meet exactly, and merges of spikes."""
    x = keras.Input((6,))
    y = L.Dense(8)(x)
    strict = keras.ops.cast(y > 0.25, "float32")
    merged = [L.Multiply()([strict, Heaviside(0.0)(L.Dense(8)(x))]), L.Maximum()([strict, Heaviside(0.5)(y)])]
    z = SpikingBReLU(1.0)(L.Dense(7)(L.Concatenate()([*merged, Heaviside(0.0, -1.0, 1.0)(y)])))
    return keras.Model(x, L.Dense(3)(z))


def _weighted(make: Callable[[], keras.Model]) -> tuple[keras.Model, Any]:
    keras.utils.set_random_seed(0)
    model = make()
    randomise(model, np.random.default_rng(2), coarse=True)
    return model, random_frames(model, np.random.default_rng(3), FRAMES, levels=4)


@pytest.fixture(scope="module", name="networks")
def weighted_networks() -> dict[str, tuple[keras.Model, Any]]:
    return {make.__name__: _weighted(make) for make in (vectors, images, operations_of_keras)}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "chunk_size", lambda graph: CHUNK)


def noticed(model: Any, frames: Any, backend: Any = "reference", **options: Any) -> bool:
    """Whether a verification says that something is wrong: it fails, or ends in an error."""
    labels = np.arange(FRAMES) % 3
    try:
        return not strop.verify(model, frames, labels, backends=[backend], **options).passed
    except StropError:
        return True
