"""Families of random networks beyond plain images: sequences, volumes, vectors, several inputs, autoencoders, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from strop.keras import SoftmaxDecode, declare_threshold, key_generator

L = keras.layers
ops = keras.ops


def signs(x: Any) -> Any:
    """A sign as binarised networks have it: -1 or +1, with +1 at zero."""
    return ops.where(x >= 0, 1.0, -1.0)


declare_threshold(signs, at=0.0, low=-1.0, high=1.0)


def merged(draw: Any, first: Any, second: Any) -> Any:
    """Two signals of one shape, merged; both are two-valued."""
    merge = draw.pick(
        L.Add(),
        L.Subtract(),
        L.Average(),
        L.Maximum(),
        L.Minimum(),
        L.Multiply(),
        lambda pair: pair[0] + pair[1],
        lambda pair: pair[0] * pair[1],
        lambda pair: 1.0 - ops.maximum(*pair),
    )
    return merge([first, second])


def sequences(draw: Any) -> tuple[Any, Any]:
    """A temporal convolutional network: causal, dilated, with residual connections."""
    x = inputs = keras.Input((draw.pick(7, 9, 12), draw.pick(1, 2, 3)))
    if draw.chance(0.3):
        x = L.Rescaling(draw.pick(2.0, 0.7), draw.pick(-0.5, 0.0))(x)
    filters = draw.pick(2, 3)
    x = draw.activation()(L.Conv1D(filters, 2, padding="causal")(x))
    depth = draw.pick(1, 2, 3)
    for dilation in (1, 2, 4)[:depth]:
        y = L.Conv1D(filters, draw.pick(2, 3), padding="causal", dilation_rate=dilation, use_bias=draw.chance(0.7))(x)
        if draw.chance(0.5):
            y = draw.normalisation(y)
        y = draw.activation()(y)
        x = draw.activation()(L.Add()([L.Conv1D(filters, 1)(x), y])) if draw.chance(0.5) else merged(draw, x, y)
        # What a merge of other values than 0 and 1 gives has three values: no second merge takes it.
        if dilation < (1, 2, 4)[depth - 1] or draw.chance(0.4):
            x = draw.activation()(x)
    kind = draw.pick("separable", "depthwise", "transposed", "pool", "adaptive", "slice", "pad", "none")
    if kind == "separable":
        x = draw.activation()(L.SeparableConv1D(3, 2, padding=draw.pick("same", "valid"))(x))
    elif kind == "depthwise":
        x = draw.activation()(L.DepthwiseConv1D(2, draw.pick(1, 2), depth_multiplier=2)(x))
    elif kind == "transposed":
        x = draw.activation()(L.Conv1DTranspose(2, draw.pick(2, 3), draw.pick(1, 2, 3), draw.pick("same", "valid"))(x))
    elif kind == "pool":
        x = draw.pick(L.MaxPooling1D, L.AveragePooling1D)(2, draw.pick(1, 2), draw.pick("same", "valid"))(
            draw.activation()(L.Conv1D(3, 2)(x))
        )
    elif kind == "adaptive" and hasattr(L, "AdaptiveMaxPooling1D"):
        x = draw.activation()(L.AdaptiveMaxPooling1D(draw.pick(2, 3, 4))(L.Conv1D(3, 2, padding="same")(x)))
    elif kind == "slice":
        x = ops.concatenate([x[:, 1:], ops.flip(x, axis=1)], axis=1)
    elif kind == "pad":
        x = L.Cropping1D((1, 0))(L.UpSampling1D(2)(L.ZeroPadding1D((2, 1))(x)))
    return inputs, ending(draw, x)


def volumes(draw: Any) -> tuple[Any, Any]:
    """Three-dimensional convolutions and pools."""
    x = inputs = keras.Input((draw.pick(4, 5), draw.pick(3, 4), draw.pick(4, 6), draw.pick(1, 2)))
    x = L.Conv3D(draw.pick(2, 3), draw.pick(1, 2), padding=draw.pick("same", "valid"))(x)
    if draw.chance(0.5):
        x = draw.normalisation(x)
    before = draw.chance(0.5)
    x = x if before else draw.activation()(x)
    x = draw.pick(L.MaxPooling3D, L.AveragePooling3D)(2, draw.pick(1, 2), draw.pick("same", "valid"))(x)
    if draw.chance(0.5):
        x = draw.normalisation(x)
    x = draw.activation()(x) if before else x
    kind = draw.pick("transposed", "up", "pad", "none")
    if kind == "transposed":
        x = draw.activation()(L.Conv3DTranspose(2, 2, draw.pick(1, 2), draw.pick("same", "valid"))(x))
    elif kind == "up":
        x = L.Cropping3D(((1, 0), (0, 1), (0, 0)))(L.UpSampling3D((2, 2, 1))(x))
    elif kind == "pad":
        x = draw.activation()(L.Conv3D(2, 2)(L.ZeroPadding3D(1)(x)))
    return inputs, ending(draw, x)


def vectors(draw: Any) -> tuple[Any, Any]:
    """Dense layers of every kind, on vectors and on rows."""
    rows, width = draw.pick(2, 3, 4), draw.pick(3, 5, 6)
    x = inputs = keras.Input((rows, width))
    if draw.chance(0.3):
        x = L.Normalization(mean=[0.4] * width, variance=[0.3] * width)(x)
    x = draw.pick(
        lambda y: L.EinsumDense("abc,cd->abd", (rows, 7), bias_axes="d")(y),
        lambda y: L.EinsumDense("abc,bcd->abd", (rows, 5))(y),
        lambda y: L.Dense(6)(y),
        lambda y: L.TimeDistributed(L.Dense(5))(y),
        lambda y: L.Dense(6)(L.RepeatVector(rows)(L.Flatten()(y))),
    )(x)
    x = draw.activation()(x)
    if draw.chance(0.4):
        x = L.Permute((2, 1))(x)
    if draw.chance(0.4):
        x = draw.normalisation(x)
    dense = L.Dense(x.shape[-1])
    again = draw.activation()
    y = again(dense(x))
    if draw.chance(0.4):
        y = again(dense(y))  # the same layers once more
    x = draw.activation()(merged(draw, draw.activation()(x), y))
    return inputs, ending(draw, x)


def several(draw: Any) -> tuple[Any, Any]:
    """Two inputs of unequal depth, and two outputs."""
    a = keras.Input((draw.pick(3, 5), draw.pick(4, 6), draw.pick(1, 2)))
    b = keras.Input((draw.pick(4, 7),))
    x = draw.activation()(L.Conv2D(3, 2, padding=draw.pick("same", "valid"))(a))
    if draw.chance(0.5):
        x = draw.activation()(L.Conv2D(2, 2, padding="same")(x))
    x = draw.activation()(L.Dense(6)(L.Flatten()(x)))
    y = draw.activation()(L.Dense(6)(b))
    z = draw.activation()(L.Dense(5)(merged(draw, x, y)))
    joined = L.Concatenate()([x, y, z])
    return [a, b], [ending(draw, draw.activation()(L.Dense(9)(joined))), z]


def autoencoders(draw: Any) -> tuple[Any, Any]:
    """A U-shaped network on images whose extents are divisible by two, spikes out."""
    x = inputs = keras.Input((draw.pick(4, 6, 8), draw.pick(4, 6), draw.pick(1, 2)))
    skip = draw.activation()(L.Conv2D(draw.pick(2, 3), 3, padding="same")(x))
    down = draw.pick(
        lambda y: L.MaxPooling2D(2)(y),
        lambda y: L.AveragePooling2D(2)(y),
        lambda y: draw.activation()(L.Conv2D(3, 2, strides=2)(y)),
        lambda y: draw.activation()(draw.normalisation(L.MaxPooling2D(2)(L.DepthwiseConv2D(3, padding="same")(y)))),
    )(skip)
    y = draw.activation()(L.Conv2D(3, 3, padding="same")(down))
    up = draw.pick(
        lambda z: draw.activation()(L.Conv2DTranspose(2, draw.pick(2, 3), 2, "same")(z)),
        lambda z: L.UpSampling2D(2)(z),
        lambda z: L.Resizing(2 * z.shape[1], 2 * z.shape[2], "nearest")(z),
    )(y)
    joined = L.Concatenate()([up, skip]) if draw.chance(0.8) else up
    return inputs, draw.activation()(L.Conv2D(draw.pick(1, 2), draw.pick(1, 3), padding="same")(joined))


def distributed(draw: Any) -> tuple[Any, Any]:
    """The same small network on every frame of a short film."""
    steps, rows, columns = 3, draw.pick(4, 5), draw.pick(4, 6)
    x = inputs = keras.Input((steps, rows, columns, 1))
    if draw.chance(0.5):
        inner = keras.Sequential([L.Input((rows, columns, 1)), L.Conv2D(2, 2), draw.activation(), L.Flatten()])
        inner.add(L.Dense(4, activation=draw.activation()))
        x = L.TimeDistributed(inner)(x)
    else:
        x = L.TimeDistributed(L.Conv2D(2, 2, padding=draw.pick("same", "valid")))(x)
        x = L.TimeDistributed(draw.pick(L.MaxPooling2D, L.AveragePooling2D)(2))(x)
        x = L.TimeDistributed(L.Flatten())(draw.activation()(x))
    x = draw.activation()(L.TimeDistributed(L.Dense(5))(x))
    x = draw.activation()(L.Conv1D(4, 2, padding="causal")(x))
    return inputs, ending(draw, x)


def revalued(draw: Any, x: Any) -> Any:
    """A function of each value of a two-valued signal: other values, and no unit."""
    change = draw.pick(
        L.ReLU(),
        L.LeakyReLU(0.25),
        L.Activation("tanh"),
        L.PReLU(),
        lambda y: ops.abs(y - 0.25),
        lambda y: (ops.sign(y) + 1.0) / 2.0,
        lambda y: ops.clip(y, -0.5, 0.75),
        lambda y: ops.maximum(y, 0.5),
        lambda y: ops.sigmoid(y),
    )
    return change(x)


def ternary(draw: Any, x: Any) -> Any:
    """Signs with a zero, alone or summed."""
    x = L.Flatten()(x) if len(x.shape) > 2 else x
    signs_of = L.Dense(5, activation=ops.sign)(x)
    return signs_of if draw.chance(0.5) else signs_of + ops.sign(L.Dense(5)(x))


def padded(draw: Any, x: Any) -> Any:
    """A frame with a constant at the margins of its first axis."""
    margins = [(0, 0), (draw.pick(0, 1), 1), *[(0, 0)] * (len(x.shape) - 2)]
    return ops.pad(x, margins, constant_values=draw.pick(1.0, -0.5))


def read_out(draw: Any, x: Any) -> Any:
    """A read-out of one of the kinds, and what may follow it."""
    kind = draw.pick(
        *(
            "sigmoid",
            "sigmoid",
            "hard_sigmoid",
            "tanh",
            "relu",
            "softplus",
            "log_softmax",
            "argmax",
            "ensemble",
            "axis",
        ),
        *("softsign", "hard_tanh", "relu6", "log_sigmoid"),
    )
    if kind == "argmax":
        return ops.argmax(L.Dense(4, activation=draw.pick(None, "softmax"))(x), axis=-1)
    if kind == "ensemble":
        function = draw.pick("softmax", "sigmoid")
        units = draw.pick(1, 4) if function == "sigmoid" else 4
        heads = [L.Dense(units, activation=function)(x) for _ in range(draw.pick(2, 3))]
        return draw.pick(L.Average(), lambda all_: ops.mean(ops.stack(all_, axis=1), axis=1), L.Concatenate())(heads)
    if kind == "axis":
        return L.Softmax(axis=draw.pick(1, 2, -2))(L.Reshape((3, 4))(L.Dense(12)(x)))
    x = L.Dense(1 if kind == "sigmoid" else draw.pick(1, 3), activation=kind)(x)
    behind = draw.pick(None, None, L.Dropout(0.3), L.Flatten(), L.Reshape((-1, 1)), L.RepeatVector(2))
    return x if behind is None else behind(x)


def ending(draw: Any, x: Any) -> Any:
    """Spikes, or a read-out of one of the kinds."""
    kind = draw.pick("spikes", "moved", "dense", "softmax", "key", "average", "read-out", "read-out")
    if draw.chance(0.15):
        x = draw.activation()(L.Dense(6)(revalued(draw, draw.activation()(L.Dense(7)(padded(draw, x))))))
    elif draw.chance(0.15):
        x = draw.activation()(L.Dense(6)(ternary(draw, x)))
    if kind == "average" and len(x.shape) > 2:
        return ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))
    if kind in ("spikes", "average"):
        return draw.activation()(L.Dense(4)(x))
    x = L.Flatten()(x) if len(x.shape) > 2 else x
    if kind == "moved":
        return x
    if kind == "read-out":
        return read_out(draw, draw.activation()(L.Dense(9)(x)))
    if kind == "key":
        x = draw.activation()(L.Dense(12)(x))
        return SoftmaxDecode(key_generator(4, 12, seed=1))(x)
    return L.Dense(4, activation="softmax" if kind == "softmax" else None)(x)


def whole_numbers(draw: Any) -> tuple[Any, Any]:
    """Frames of uint8, cast by the first layer that calculates."""
    x = inputs = keras.Input((draw.pick(4, 5), draw.pick(4, 6), draw.pick(1, 2)), dtype="uint8")
    if draw.chance(0.3):
        x = L.ZeroPadding2D(1)(x)
    x = draw.pick(
        L.Rescaling(1 / 255),
        L.Rescaling(1 / 127.5, -1.0),
        L.BatchNormalization(),
        lambda y: ops.cast(y, "float32") / 255.0,
        lambda y: y / 255,
    )(x)
    x = draw.activation()(L.Conv2D(draw.pick(2, 3), 2)(x))
    return inputs, ending(draw, revalued(draw, x) if draw.chance(0.5) else x)


def beside_spikes(draw: Any) -> tuple[Any, Any]:
    """The input itself beside spikes, once or at two depths."""
    x = inputs = keras.Input((draw.pick(4, 5), draw.pick(4, 6), draw.pick(1, 2)))
    for _ in range(draw.pick(1, 2)):
        y = draw.activation()(L.Conv2D(draw.pick(2, 3), 3, padding="same")(x))
        x = L.Concatenate()([inputs, y])
        if draw.chance(0.5):
            x = L.Add()([L.Conv2D(3, 2, padding="same")(inputs), L.Conv2D(3, 2, padding="same")(y)])
            x = draw.activation()(x)
    x = draw.activation()(L.Conv2D(2, 2)(x))
    return inputs, ending(draw, draw.activation()(L.Conv2D(2, 2)(x)))


FAMILIES: tuple[Callable[[Any], tuple[Any, Any]], ...] = (
    sequences,
    volumes,
    vectors,
    several,
    autoencoders,
    distributed,
    whole_numbers,
    beside_spikes,
)
