"""Random ordinary networks, with ReLU and its kin: what `from_relu` is tested on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

L = keras.layers

# Those whose counterpart, before sharpening, is the same within the ramp.
EXACT = ("relu", "relu6", "sigmoid", "hard_sigmoid", "tanh", "hard_tanh")


def randomise(model: Any, rng: np.random.Generator) -> None:
    """Give every weight a random value, variances positive ones."""
    for variable in model.weights:
        if "seed" not in variable.path:
            values = rng.normal(0.0, 0.4, variable.shape)
            variable.assign(np.abs(values) + 0.05 if "variance" in variable.path else values)


def _activated(rng: np.random.Generator, make: Any, x: Any) -> Any:
    """Apply a layer with an activation: as an argument, as a layer, as an operation; with and without normalisation."""
    name = str(rng.choice(EXACT))
    way = int(rng.integers(4))
    bias = bool(rng.random() < 0.7)
    if way == 0:
        return make(activation=name, use_bias=bias)(x)
    x = make(use_bias=bias)(x)
    if rng.random() < 0.5:
        x = L.BatchNormalization(scale=bool(rng.random() < 0.7), center=bool(rng.random() < 0.7))(x)
    if way == 1:
        return L.Activation(name)(x)
    if way == 2 and hasattr(keras.ops, name):
        return getattr(keras.ops, name)(x)
    return L.ReLU(max_value=float(rng.choice([1.0, 6.0])))(x)


def _block(rng: np.random.Generator, x: Any) -> Any:
    filters = int(rng.integers(2, 5))
    kind = int(rng.integers(8))
    if kind < 3:
        return _activated(rng, lambda **options: L.Conv2D(filters, 3, padding="same", **options), x)
    if kind == 3:
        return _activated(rng, lambda **options: L.DepthwiseConv2D(3, padding="same", **options), x)
    if kind == 4:
        return _activated(rng, lambda **options: L.SeparableConv2D(filters, 3, padding="same", **options), x)
    if kind == 5:  # residual
        channels = x.shape[-1]
        y = _activated(rng, lambda **options: L.Conv2D(channels, 3, padding="same", **options), x)
        y = L.Conv2D(channels, 1)(y) if rng.random() < 0.5 else y
        merged = L.Add()([x, y]) if rng.random() < 0.5 else x + y
        return L.ReLU()(merged) if rng.random() < 0.5 else merged
    if kind == 6:  # a nested model, perhaps called twice
        channels = x.shape[-1]
        inner = keras.Input(x.shape[1:])
        out = _activated(rng, lambda **options: L.Conv2D(channels, 3, padding="same", **options), inner)
        nested = keras.Model(inner, out)
        return nested(nested(x)) if rng.random() < 0.5 else L.Concatenate()([x, nested(x)])
    moving = (
        L.Dropout(0.3),
        L.ZeroPadding2D(1),
        L.AveragePooling2D(2, padding="same"),
        L.MaxPooling2D(2, padding="same"),
        L.BatchNormalization(),
        L.GaussianNoise(0.1),
    )
    return moving[int(rng.integers(len(moving)))](x)


def random_relu_network(seed: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return a network with random weights and frames for it, shape (24, 6, 6, 2)."""
    rng = np.random.default_rng(seed)
    x = image = keras.Input((6, 6, 2))
    for _ in range(int(rng.integers(2, 6))):
        x = _block(rng, x)
    x = L.Flatten()(x) if rng.random() < 0.5 else L.GlobalAveragePooling2D()(x)
    x = _activated(rng, lambda **options: L.Dense(6, **options), x)
    ending = (None, "softmax", "sigmoid", "relu")[int(rng.integers(4))]
    model = keras.Model(image, L.Dense(3, activation=ending)(x))
    randomise(model, rng)
    return model, rng.random((24, 6, 6, 2)).astype(np.float32)
