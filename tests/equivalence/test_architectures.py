"""Architectures as people build them, with odd shapes and random weights, on every backend under every encoding."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed in this environment")

from random_networks import random_frames, randomise  # noqa: E402

import strop  # noqa: E402
from strop.keras import (  # noqa: E402
    Heaviside,
    SoftmaxDecode,
    SpikingBReLU,
    SpikingSigmoid,
    declare_threshold,
    key_generator,
)
from strop.running.registry import get_backend  # noqa: E402

L = keras.layers
ops = keras.ops
ENCODINGS = ("host", "bitplane", "binary", "current")


class SteSign(L.Layer):
    """As larq.quantizers.SteSign, which needs Keras 2: -1 or +1, and +1 at zero."""

    def call(self, x: Any) -> Any:
        return ops.sign(ops.sign(x) + 0.1)


declare_threshold(SteSign, at=0.0, low=-1.0, high=1.0)


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


def sign() -> keras.layers.Layer:
    return Heaviside(0.0, -1.0, 1.0)


def normalised(x: Any, axis: int = -1) -> Any:
    """Batch normalisation; `randomise` gives half of its channels a negative scale."""
    return L.BatchNormalization(axis=axis)(x)


def residual() -> keras.Model:
    """Identity and projection shortcuts, one to three layers deep."""
    inputs = keras.Input((7, 9, 2))
    x = spike()(normalised(L.Conv2D(3, 3, padding="same", use_bias=False)(inputs)))
    y = spike()(normalised(L.Conv2D(3, 3, padding="same")(x)))
    x = spike()(L.Add()([normalised(L.Conv2D(3, 3, padding="same")(y)), x]))
    y = SpikingSigmoid(1.0)(L.Conv2D(4, 3, 2, "same")(x))
    for _ in range(2):
        y = spike()(L.Conv2D(4, 3, padding="same")(y))
    x = spike()(L.Conv2D(4, 3, padding="same")(y) + normalised(L.Conv2D(4, 1, 2)(x)))
    return keras.Model(inputs, L.Dense(4, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def u_net() -> keras.Model:
    """Skips by concatenation, once up by a transposed convolution and once by upsampling; spikes out."""
    inputs = keras.Input((8, 12, 1))
    first = spike()(L.Conv2D(2, 3, padding="same")(inputs))
    second = spike()(normalised(L.Conv2D(3, 3, padding="same")(L.MaxPooling2D(2)(first))))
    deep = spike()(L.Conv2D(4, 3, padding="same")(L.AveragePooling2D(2)(second)))
    up = L.Concatenate()([spike()(L.Conv2DTranspose(3, 3, 2, "same")(deep)), second])
    up = L.UpSampling2D(2)(spike()(L.Conv2D(2, 3, padding="same")(up)))
    return keras.Model(inputs, spike()(L.Conv2D(1, 1)(L.Concatenate()([up, first]))))


def autoencoder() -> keras.Model:
    """Dense and convolutional, nested, the code shared by two decoders."""
    inputs = keras.Input((5, 7, 1))
    inner = keras.Input((5, 7, 1))
    x = L.MaxPooling2D(2, padding="same")(spike()(L.Conv2D(3, 3, padding="same")(inner)))
    encoder = keras.Model(inner, spike()(L.Dense(9)(L.Flatten()(x))), name="encoder")
    code = encoder(inputs)
    dense = spike()(L.Dense(35)(spike()(L.Dense(12)(code))))
    x = L.Reshape((3, 4, 2))(spike()(L.Dense(24)(code)))
    x = spike()(L.Conv2DTranspose(2, 3, 2, "same")(x))
    deconvolved = spike()(L.Conv2D(1, 2)(L.Cropping2D(((0, 0), (0, 0)))(x)))
    return keras.Model(inputs, [L.Reshape((5, 7, 1))(dense), deconvolved])


def mobile() -> keras.Model:
    """Depthwise and pointwise convolutions with normalisations between, strided, separable at the end."""
    x = inputs = keras.Input((9, 7, 3))
    for filters, stride in ((4, 1), (5, 2)):
        x = spike()(normalised(L.DepthwiseConv2D(3, stride, "same", use_bias=False)(x)))
        x = spike()(normalised(L.Conv2D(filters, 1, use_bias=False)(x)))
    x = spike()(L.SeparableConv2D(6, 3, padding="same", depth_multiplier=2)(x))
    x = spike()(L.Dense(12)(L.GlobalAveragePooling2D()(x)))
    return keras.Model(inputs, SoftmaxDecode(key_generator(4, 12, seed=0))(x))


def temporal() -> keras.Model:
    """Causal, dilated, with residuals: the last step decides."""
    x = inputs = keras.Input((13, 3))
    for dilation in (1, 2, 4):
        y = spike()(L.Conv1D(4, 3, padding="causal", dilation_rate=dilation)(x))
        y = L.Conv1D(4, 3, padding="causal", dilation_rate=dilation)(L.SpatialDropout1D(0.2)(y))
        x = spike()(L.Add()([y, L.Conv1D(4, 1)(x)])) if dilation > 1 else spike()(y)
    return keras.Model(inputs, L.Dense(3)(x[:, -1]))


def volume() -> keras.Model:
    x = inputs = keras.Input((5, 4, 6, 1))
    x = spike()(normalised(L.MaxPooling3D(2, 1)(L.Conv3D(3, 2, padding="same")(x))))
    x = spike()(L.Conv3D(2, (2, 1, 3))(L.ZeroPadding3D(((1, 0), (0, 1), (0, 0)))(x)))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalMaxPooling3D()(x)))


def pools_between() -> keras.Model:
    """Pool, normalisation with scales of both signs, padding-free moves, activation: AND and OR in one layer."""
    x = inputs = keras.Input((9, 8, 1))
    x = L.MaxPooling2D(3, 2, padding="same")(L.Conv2D(6, 2)(x))
    x = SpikingSigmoid(1.0)(normalised(L.Dropout(0.5)(normalised(x))))
    x = L.Conv2D(5, 2)(x)
    x = sign()(normalised(L.Reshape((-1, 5))(L.Permute((2, 1, 3))(L.MaxPooling2D(2, 1)(x)))))
    return keras.Model(inputs, spike()(L.Dense(4)(L.Flatten()(x))))


def binarised() -> keras.Model:
    """In the manner of Larq: quantisers in front of the layers, kernels of -1 and +1, `same` padding, pools."""
    x = inputs = keras.Input((7, 6, 2))
    x = L.BatchNormalization(scale=False)(L.Conv2D(4, 3, padding="same", use_bias=False, name="quantised_1")(x))
    x = L.MaxPooling2D(2, 2)(SteSign()(x))
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="quantised_2")(x)
    x = SteSign()(L.BatchNormalization(scale=False)(x))
    x = L.ZeroPadding2D(1)(x)
    x = L.Flatten()(SteSign()(L.DepthwiseConv2D(3, use_bias=False, name="quantised_3")(x)))
    x = L.BatchNormalization(scale=False)(L.Dense(4, use_bias=False, name="quantised_4")(x))
    return keras.Model(inputs, L.Activation("softmax")(x))


def input_quantiser() -> keras.Model:
    """A quantiser before the first layer: the bits of the frames are a population of their own."""
    x = inputs = keras.Input((6, 5, 1))
    x = SteSign()(L.Rescaling(2.0, -1.0)(x))
    x = SteSign()(L.Conv2D(3, 3, padding="same")(x))
    return keras.Model(inputs, spike()(L.Dense(5)(L.Flatten()(x))))


def merges() -> keras.Model:
    """Every merge, of spikes and of signs, and of both."""
    inputs = keras.Input((4, 5, 1))
    a, b = (spike()(L.Conv2D(3, 2, padding="same")(inputs)) for _ in range(2))
    c, d = (sign()(L.Conv2D(3, 2, padding="same")(x)) for x in (inputs, a))
    merged = [L.Maximum()([a, b]), L.Minimum()([c, d]), L.Multiply()([a, b]), L.Multiply()([c, d])]
    merged += [L.Subtract()([a, d]), L.Average()([b, c, d]), L.Maximum()([a, d]), 1.0 - a]
    x = spike()(L.Conv2D(6, 2, padding="same")(L.Concatenate()(merged)))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))


def several() -> keras.Model:
    """Two inputs, two outputs, a shared layer, in dictionaries."""
    left, right = keras.Input((6,), name="left"), keras.Input((3, 4, 2), name="right")
    shared = L.Dense(7, activation=spike())
    a = shared(L.Normalization(mean=[0.5] * 6, variance=[0.1] * 6)(left))
    b = shared(L.Dense(6, activation=spike())(L.Flatten()(spike()(L.Conv2D(3, 2)(right)))))
    both = L.Concatenate()([a, b])
    decided = SoftmaxDecode(key_generator(3, 12, seed=0))(spike()(L.Dense(12)(both)))
    return keras.Model({"left": left, "right": right}, {"classes": decided, "spikes": spike()(L.Add()([a, b]))})


def channels_first() -> keras.Model:
    options: dict[str, Any] = {"data_format": "channels_first"}
    x = inputs = keras.Input((2, 8, 9))
    x = spike()(normalised(L.Conv2D(5, 3, padding="same", **options)(x), 1))
    y = spike()(L.DepthwiseConv2D(3, padding="same", **options)(L.MaxPooling2D(2, **options)(x)))
    y = L.Cropping2D(((0, 0), (0, 1)), **options)(spike()(L.Conv2DTranspose(3, 3, 2, "same", **options)(y)))
    y = L.ZeroPadding2D(((0, 0), (1, 1)), **options)(y)
    x = spike()(normalised(L.AveragePooling2D(2, **options)(L.Concatenate(axis=1)([x, y])), 1))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.Flatten(**options)(x)))


def transformed() -> keras.Model:
    """EinsumDense, TimeDistributed of a layer and of a model, operations of keras.ops."""
    x = inputs = keras.Input((3, 4, 5, 1))
    inner = keras.Sequential([L.Input((4, 5, 1)), L.Conv2D(2, 2), L.MaxPooling2D(2), spike(), L.Flatten()])
    x = L.TimeDistributed(L.Dense(5, activation=spike()))(L.TimeDistributed(inner)(x))
    x = spike()(L.EinsumDense("abc,bcd->abd", (3, 4), bias_axes="d")(x))
    signs = ops.where(L.Dense(3)(ops.reshape(x, (-1, 4, 3))) >= 0, 1.0, -1.0)
    x = ops.concatenate([ops.transpose(x, (0, 2, 1)), signs], axis=1)
    return keras.Model(inputs, spike()(L.Dense(3)(ops.mean(x, axis=1))))


MODELS: tuple[Callable[[], keras.Model], ...] = (
    residual,
    u_net,
    autoencoder,
    mobile,
    temporal,
    volume,
    pools_between,
    binarised,
    input_quantiser,
    merges,
    several,
    channels_first,
    transformed,
)


@cache
def weighted(make: Callable[[], keras.Model]) -> tuple[keras.Model, Any]:
    """The model with the first random weights under which something fires, and something does not, everywhere."""
    keras.utils.set_random_seed(0)
    model = make()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        randomise(model, rng)
        for layer in model.layers:
            if layer.name.startswith("quantised"):
                layer.kernel.assign(np.where(np.asarray(layer.kernel) >= 0, 1.0, -1.0))
        frames = random_frames(model, rng, 16)
        spikes = strop.simulate(strop.lower(model, "current"), frames, "reference").spikes.values()
        if all(0 < np.count_nonzero(fired) < fired.size for fired in spikes):
            return model, frames
    pytest.fail(f"{make.__name__}: nothing is proved by a network that is all silent or all firing")


def encodings_of(backend: str, model: int) -> tuple[str, ...]:
    """All encodings in a long run; else one: a model meets all over the backends, a backend all over the models."""
    known = [name for name in ENCODINGS if name in get_backend(backend).encodings]
    if int(os.environ.get("STROP_EXAMPLES", "0")) > 100:
        return tuple(known)
    others = ("reference", "brian2", "nengo", "pynn-nest")
    return (known[(model + (others.index(backend) if backend in others else 0)) % len(known)],)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_architectures_verify_without_a_fault(backend: str, make: Callable[[], keras.Model]) -> None:
    model, frames = weighted(make)
    for encoding in encodings_of(backend, MODELS.index(make)):
        # Also where the model scales its frames itself, whose planes are whole numbers unless it is said otherwise.
        planes = {"step": 1.0 / 255.0} if encoding == "bitplane" else {}
        report = strop.verify(model, frames, backends=[backend], encoding=encoding, **planes)
        assert report.passed, f"{encoding}: {report}"
        assert report.keras is not None
        assert len(report.keras.layers) >= 2
        assert all(layer.spikes > 0 for layer in report.backends[backend].layers) or encoding == "binary"
        assert report.backends[backend].decoded_equal


def test_read_outs_are_those_of_keras(backend: str) -> None:
    """The values of a read-out, not its winner alone."""
    for make in (residual, mobile, temporal, several):
        model, frames = weighted(make)
        result = strop.simulate(strop.lower(model, "current" if backend == "reference" else "host"), frames, backend)
        ours = result.output if isinstance(result.output, list) else [result.output]
        given = frames
        if isinstance(frames, list):  # Keras warns of another structure than that which the model was made with
            given = keras.tree.pack_sequence_as(model.input, frames)
        theirs = keras.tree.flatten(model.predict(given, verbose=0))
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, expected, atol=1e-5)
