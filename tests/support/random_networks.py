"""Random sharpened Keras networks and frames for them: what the property tests and the nightly run draw from.

A network is drawn from a `numpy.random.Generator`, so that hypothesis needs to shrink one seed only, and a failing
network is rebuilt from the number in the message.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from random_families import FAMILIES, merged, read_out, revalued, signs

from strop.keras import Heaviside, SoftmaxDecode, SpikingBReLU, SpikingSigmoid, key_generator
from strop.lowering.scaling import scaled_inputs

L = keras.layers


def randomise(model: keras.Model, rng: np.random.Generator, *, coarse: bool = False) -> None:
    """Give every weight a random value; `coarse` ones are multiples of 1/8, so that thresholds are hit exactly."""
    for variable in model.weights:
        if variable.path.endswith("sharpness") or "seed" in variable.path:
            continue
        values = rng.normal(0.0, 0.6, variable.shape)
        if "variance" in variable.path:
            values = np.abs(values) + 0.05
        if coarse:
            values = np.round(values * 8) / 8
        variable.assign(values.astype(np.float32))


def random_frames(
    model: keras.Model, rng: np.random.Generator, count: int = 12, *, levels: int = 255, encoding: str = "host"
) -> Any:
    """Return float32 frames in [0, 1] that are multiples of 1/levels, one array or one per input.

    An input of whole numbers gets whole numbers up to `levels`, as float32 too; under `bitplane` also one that the
    model scales itself.
    """
    arrays = []
    scaled = scaled_inputs(model) if encoding == "bitplane" else {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        numbers = rng.integers(0, levels + 1, shape).astype(np.float32)
        whole = "int" in str(tensor.dtype) or tensor._keras_history.operation.name in scaled
        arrays.append(numbers if whole else numbers / np.float32(levels))
    return arrays[0] if len(arrays) == 1 else arrays


class _Draw:
    """Draws layers one behind the other, on a tensor of whatever shape has come about."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.data_format = "channels_first" if rng.random() < 0.2 else "channels_last"

    def channels_last(self) -> _Draw:
        self.data_format = "channels_last"
        return self

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def spatial(self, x: Any) -> tuple[int, int]:
        return tuple(x.shape[2:4]) if self.data_format == "channels_first" else tuple(x.shape[1:3])

    def channels(self, x: Any) -> int:
        return int(x.shape[1] if self.data_format == "channels_first" else x.shape[-1])

    def activation(self) -> keras.layers.Layer:
        if self.chance(0.15):
            return Heaviside(self.pick(0.0, 0.25), *self.pick((-1.0, 1.0), (0.0, 1.0), (1.0, -1.0)))
        if self.chance(0.1):
            return L.Activation(signs)
        return self.pick(SpikingBReLU, SpikingSigmoid)(sharpness=1.0)

    def normalisation(self, x: Any) -> Any:
        axis = 1 if self.data_format == "channels_first" and len(x.shape) == 4 else -1
        return L.BatchNormalization(
            axis=axis, epsilon=self.pick(1e-3, 0.1), scale=self.chance(0.7), center=self.chance(0.7)
        )(x)

    def convolution(self, x: Any, filters: int | None = None) -> Any:
        rows, columns = self.spatial(x)
        padding = self.pick("same", "valid")
        size = (min(rows, self.pick(1, 2, 3)), min(columns, self.pick(1, 2, 3, 4)))
        strides, dilation = (1, 1), (1, 1)
        if self.chance(0.3):
            strides = (self.pick(1, 2), self.pick(1, 2, 3))
            strides = (max(strides),) * 2  # TensorFlow on CPUs takes equal strides only where channels are grouped
        elif self.chance(0.25) and padding == "same":
            dilation = (2, 2)
        groups = self.pick(*(g for g in (1, 2, 3) if self.channels(x) % g == 0)) if self.chance(0.3) else 1
        if dilation != (1, 1):
            groups = 1
        filters = groups * self.pick(1, 2, 3) if filters is None else filters
        use_bias = self.chance(0.7)
        if filters % groups:
            groups = 1
        layer = L.Conv2D(
            filters,
            size,
            strides,
            padding,
            self.data_format,
            dilation,
            groups,
            use_bias=use_bias,
            activation=self.activation() if self.chance(0.15) else None,
        )
        return layer(x)

    def pool(self, x: Any, cls: type) -> Any:
        rows, columns = self.spatial(x)
        size = (min(rows, self.pick(1, 2, 3)), min(columns, self.pick(2, 3)))
        strides = self.pick(None, 1, 2)
        return cls(size, strides, self.pick("same", "valid"), self.data_format)(x)

    def other_linear(self, x: Any) -> Any:
        """One of the rarer convolutions."""
        rows, columns = self.spatial(x)
        size = (min(rows, self.pick(1, 2, 3)), min(columns, self.pick(1, 2, 3)))
        padding = self.pick("same", "valid")
        kind = self.pick("depthwise", "separable", "transposed")
        if kind == "depthwise":
            return L.DepthwiseConv2D(size, 1, padding, self.pick(1, 2), self.data_format)(x)
        if kind == "separable":
            return L.SeparableConv2D(self.pick(1, 2, 3), size, 1, padding, self.data_format)(x)
        strides = self.pick(1, 2) if rows * columns < 50 else 1
        return L.Conv2DTranspose(self.pick(1, 2), size, strides, padding, data_format=self.data_format)(x)

    def move(self, x: Any) -> Any:
        """A layer that only moves spikes about."""
        kind = self.pick("pad", "crop", "up", "drop", "identity")
        rows, columns = self.spatial(x)
        if kind == "pad":
            pads = self.rng.integers(0, 3, 4).tolist()
            return L.ZeroPadding2D(((pads[0], pads[1]), (pads[2], pads[3])), self.data_format)(x)
        if kind == "crop" and rows > 3 and columns > 3:
            return L.Cropping2D(((1, 0), (0, 2)), self.data_format)(x)
        if kind == "up" and rows * columns < 60:
            return L.UpSampling2D(self.pick((1, 2), (2, 1), (2, 3)), self.data_format)(x)
        return self.pick(L.Dropout(0.4), L.GaussianNoise(0.3), L.SpatialDropout2D(0.2), L.Identity())(x)

    def block(self, x: Any) -> Any:
        """Convolution, pools and normalisation around one activation, in every order that can be carried."""
        before = self.chance(0.3)
        # Channels first, Keras adds the biases of these along the wrong axis where a frame is as wide as it is deep.
        rare = self.chance(0.25) and self.data_format == "channels_last"
        x = self.other_linear(x) if rare else self.convolution(x)
        if self.chance(0.4):
            x = self.normalisation(x)
        if before:
            x = self.pool(x, L.MaxPooling2D)
            if self.chance(0.5):
                x = self.normalisation(x)
        elif self.chance(0.15):
            x = self.pool(x, L.AveragePooling2D)
        x = self.activation()(x)
        if self.chance(0.25):
            x = self.normalisation(x)
        if self.chance(0.4):
            x = self.pool(x, self.pick(L.MaxPooling2D, L.MaxPooling2D, L.AveragePooling2D))
        if self.chance(0.4):
            x = self.move(x)
        return x

    def joined(self, x: Any) -> Any:
        """Two branches of unequal depth that meet again, or a residual connection."""
        if self.chance(0.5):
            y = L.Conv2D(self.channels(x), 3, padding="same", data_format=self.data_format)(x)
            y = self.activation()(y)
            if self.chance(0.3):
                return self.activation()(merged(self, self.activation()(x), y))
            if self.chance(0.5):
                y = L.Conv2D(self.channels(x), 1, padding="same", data_format=self.data_format)(y)
            merge = self.pick(L.Add(), L.Subtract(), L.Average(), lambda pair: pair[0] + pair[1])
            return self.activation()(merge([x, y]))
        filters = self.pick(1, 2)
        y = self.activation()(L.Conv2D(filters, 3, padding="same", data_format=self.data_format)(x))
        if self.chance(0.5):
            y = self.activation()(L.Conv2D(filters, 3, padding="same", data_format=self.data_format)(y))
        return L.Concatenate(axis=1 if self.data_format == "channels_first" else -1)([x, y])


def random_network(seed: int, *, coarse: bool = False) -> keras.Model:
    """Return a random sharpened network of a few layers, functional, on small odd frames.

    Half of them are plain image networks, the others come from `random_families`.
    """
    rng = np.random.default_rng(seed)
    draw = _Draw(rng)
    inputs, outputs = _image_network(draw, seed) if draw.chance(0.5) else draw.pick(*FAMILIES)(draw.channels_last())
    model = keras.Model(inputs, outputs)
    randomise(model, rng, coarse=coarse)
    return model


def _image_network(draw: _Draw, seed: int) -> tuple[Any, Any]:
    rng = draw.rng
    shape = (int(rng.integers(5, 10)), int(rng.integers(4, 11)), int(rng.integers(1, 4)))
    if draw.data_format == "channels_first":
        shape = (shape[2], shape[0], shape[1])
    x = inputs = keras.Input(shape)
    x = draw.block(x)
    x = draw.activation()(draw.convolution(x))
    for _ in range(int(rng.integers(0, 2))):
        x = draw.block(x)
    if draw.chance(0.5):
        x = draw.activation()(draw.convolution(x))
        x = draw.joined(x)
    if draw.chance(0.2):
        inner_in = keras.Input(x.shape[1:])
        inner = keras.Model(inner_in, draw.block(inner_in))
        x = draw.activation()(draw.convolution(inner(x)))
    ending = draw.pick("flatten", "permute", "global_max", "global_average", "spikes")
    if ending == "spikes":
        outputs = draw.activation()(draw.convolution(x))
    else:
        if ending == "flatten":
            x = L.Flatten(data_format=draw.pick("channels_first", "channels_last"))(x)
        elif ending == "permute":
            x = L.Reshape((-1,))(L.Permute((2, 3, 1))(x))
        elif ending == "global_max":
            x = L.GlobalMaxPooling2D(draw.data_format)(draw.activation()(x))
        else:
            x = L.GlobalAveragePooling2D(draw.data_format)(x)
        if draw.chance(0.5):
            x = draw.activation()(L.Dense(int(rng.integers(3, 12)), use_bias=draw.chance(0.7))(x))
            if draw.chance(0.4):
                x = draw.normalisation(x)
        x = L.Dense(12, activation=draw.activation())(x)
        decoder = draw.pick("key", "softmax", "linear", "read-out")
        if decoder == "read-out":
            outputs = read_out(draw, revalued(draw, x) if draw.chance(0.3) else x)
        elif decoder == "key":
            outputs = SoftmaxDecode(key_generator(4, 12, seed=seed))(x)
        else:
            outputs = L.Dense(4, activation=None if decoder == "linear" else "softmax")(x)
    return inputs, outputs
