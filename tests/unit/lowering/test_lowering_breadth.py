"""The wider set of layers, each against Keras on random weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove, sequential  # noqa: E402

import strop  # noqa: E402
from strop.errors import UnsupportedLayerError  # noqa: E402
from strop.keras import SpikingBReLU, SpikingSigmoid  # noqa: E402

L = keras.layers
Layers = Callable[[], list[keras.layers.Layer]]


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


CASES: dict[str, tuple[tuple[int, ...], Layers]] = {
    "conv 1d causal, dilated": ((11, 2), lambda: [L.Conv1D(4, 3, padding="causal", dilation_rate=2), spike()]),
    "conv 1d causal, strided": ((11, 2), lambda: [L.Conv1D(4, 3, 2, padding="causal"), spike()]),
    "conv 1d same": ((11, 2), lambda: [L.Conv1D(4, 4, 3, padding="same"), spike(), L.Conv1D(3, 2), spike()]),
    "conv 3d": ((4, 5, 6, 2), lambda: [L.Conv3D(3, (2, 3, 2), padding="same"), spike(), L.Conv3D(2, 2, 2), spike()]),
    "depthwise 1d": ((9, 3), lambda: [L.DepthwiseConv1D(3, depth_multiplier=2), spike()]),
    "depthwise 2d": ((7, 6, 3), lambda: [L.DepthwiseConv2D(3, 2, "same", depth_multiplier=2), spike()]),
    "separable 1d": ((9, 3), lambda: [L.SeparableConv1D(4, 3, depth_multiplier=2), spike()]),
    "separable 2d": ((7, 6, 3), lambda: [L.SeparableConv2D(4, 3, padding="same"), SpikingSigmoid(1.0)]),
    "transposed 1d": ((5, 2), lambda: [L.Conv1DTranspose(3, 4, 3, "same"), spike()]),
    "transposed 2d valid": ((4, 5, 2), lambda: [L.Conv2DTranspose(3, (3, 2), (2, 3)), spike()]),
    "transposed 2d same": ((4, 5, 2), lambda: [L.Conv2DTranspose(3, 3, 2, "same"), spike(), L.Conv2D(2, 3), spike()]),
    "transposed 2d, stride beyond kernel": ((4, 3, 2), lambda: [L.Conv2DTranspose(3, 2, 3, "valid"), spike()]),
    "transposed 2d same, stride beyond kernel": ((4, 3, 2), lambda: [L.Conv2DTranspose(3, 2, 3, "same"), spike()]),
    "transposed 2d, output padding": (
        (4, 5, 2),
        lambda: [L.Conv2DTranspose(3, 3, 2, "same", output_padding=(0, 1)), spike()],
    ),
    "transposed 2d, dilated": ((4, 5, 2), lambda: [L.Conv2DTranspose(3, 3, 1, "valid", dilation_rate=2), spike()]),
    "transposed 3d": ((3, 2, 4, 2), lambda: [L.Conv3DTranspose(2, 2, 2), spike()]),
    "pools 1d": (
        (12, 2),
        lambda: [L.Conv1D(4, 3), spike(), L.MaxPooling1D(2), L.AveragePooling1D(2, 1), L.Conv1D(3, 2), spike()],
    ),
    "pools 3d": (
        (6, 6, 6, 1),
        lambda: [L.Conv3D(3, 2), L.MaxPooling3D(2), spike(), L.AveragePooling3D(2), L.Flatten(), L.Dense(5), spike()],
    ),
    "global pools 1d": ((8, 2), lambda: [L.Conv1D(6, 4), spike(), L.GlobalMaxPooling1D(), L.Dense(4), spike()]),
    "global pools 3d": (
        (4, 4, 4, 1),
        lambda: [L.Conv3D(6, 2), spike(), L.GlobalAveragePooling3D(), L.Dense(4), spike()],
    ),
    "moving 1d": (
        (6, 2),
        lambda: [
            L.Conv1D(3, 2),
            spike(),
            L.ZeroPadding1D((1, 2)),
            L.UpSampling1D(2),
            L.Cropping1D((0, 3)),
            L.Conv1D(3, 3),
            spike(),
        ],
    ),
    "moving 3d": (
        (3, 4, 3, 1),
        lambda: [
            L.Conv3D(2, 2),
            spike(),
            L.ZeroPadding3D(((1, 0), (0, 2), (1, 1))),
            L.UpSampling3D((1, 2, 2)),
            L.Cropping3D(((0, 1), (1, 0), (2, 1))),
            L.Conv3D(2, 2),
            spike(),
        ],
    ),
    "resizing": ((5, 4, 1), lambda: [L.Conv2D(3, 2), spike(), L.Resizing(8, 9, "nearest"), L.Conv2D(2, 3), spike()]),
    "repeat vector": ((5,), lambda: [L.Dense(6), spike(), L.RepeatVector(3), L.Conv1D(4, 2), spike()]),
    "einsum dense": ((4, 5), lambda: [L.EinsumDense("abc,cd->abd", (None, 7), bias_axes="d"), spike()]),
    "einsum over two axes": ((4, 5), lambda: [L.EinsumDense("abc,bcd->ad", (6,), bias_axes="d"), spike()]),
    "einsum with an ellipsis": ((2, 3, 4), lambda: [L.EinsumDense("...x,xy->...y", 5, bias_axes="y"), spike()]),
    "time distributed": (
        (3, 6, 5, 1),
        lambda: [
            L.TimeDistributed(L.Conv2D(3, 2, activation=spike())),
            L.TimeDistributed(L.MaxPooling2D(2)),
            L.TimeDistributed(L.BatchNormalization()),
            L.TimeDistributed(L.Flatten()),
            L.TimeDistributed(L.Dense(6)),
            L.TimeDistributed(SpikingSigmoid(1.0)),
            L.Flatten(),
            L.Dense(5),
            spike(),
        ],
    ),
    "rescaling": ((6, 5, 1), lambda: [L.Rescaling(2.0, -0.5), L.Conv2D(3, 2), spike()]),
    "normalization": (
        (6, 5, 2),
        lambda: [L.Normalization(mean=[0.3, 0.6], variance=[0.2, 0.05]), L.Conv2D(3, 3, padding="same"), spike()],
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("coarse", [False, True])
def test_layers_are_carried_over_exactly(name: str, coarse: bool) -> None:
    shape, layers = CASES[name]
    prove(sequential(shape, *layers()), coarse, coarse=coarse)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.DepthwiseConv2D(3, data_format="channels_first"), spike()],
        lambda: [L.SeparableConv2D(4, 3, data_format="channels_first"), spike()],
        lambda: [L.Conv2DTranspose(4, 3, 2, "same", data_format="channels_first"), spike()],
    ],
)
def test_channels_first_is_carried_over_exactly(layers: Layers) -> None:
    # Not as wide as there are filters: there Keras 3.15 on TensorFlow adds biases along the wrong axis.
    prove(sequential((3, 7, 9), *layers()))


@pytest.mark.parametrize("cls", [L.Average, L.Subtract, L.Maximum, L.Minimum, L.Multiply])
@pytest.mark.parametrize("coarse", [False, True])
def test_merges_of_spikes_are_carried_over_exactly(cls: type, coarse: bool) -> None:
    x = inputs = keras.Input((6, 6, 1))
    a = spike()(L.Conv2D(3, 3, padding="same")(x))
    b = spike()(L.Conv2D(3, 3, padding="same")(a))
    y = L.Conv2D(2, 2)(cls()([a, b]))
    prove(keras.Model(inputs, spike()(y)), 0, coarse=coarse)


@pytest.mark.parametrize(
    "layer",
    [
        lambda **options: L.Conv2D(4, 3, **options),
        lambda **options: L.Conv2D(4, 3, dilation_rate=2, **options),
        lambda **options: L.Conv2D(4, 3, groups=2, **options),
        lambda **options: L.DepthwiseConv2D(3, depth_multiplier=2, **options),
        lambda **options: L.SeparableConv2D(4, 3, **options),
        lambda **options: L.Conv2DTranspose(4, 3, **options),
    ],
)
def test_biases_that_keras_misplaces_are_refused(layer: Callable[..., keras.layers.Layer]) -> None:
    """Channels first, four channels, frames four wide: what Keras gets wrong is refused, the rest is equal."""
    for use_bias in (True, False):
        built = layer(data_format="channels_first", padding="same", use_bias=use_bias)
        model = sequential((2, 5, 4), built, spike())
        try:
            prove(model)
        except UnsupportedLayerError as refusal:
            if not use_bias or "adds its bias along the width" not in str(refusal):
                raise


def test_or_and_and_of_three_branches() -> None:
    for cls, least in ((L.Maximum, 0.5), (L.Multiply, 2.5)):
        x = keras.Input((5,))
        model = keras.Model(x, cls(name="gate")([spike()(L.Dense(40)(x)) for _ in range(3)]))
        prove(model)
        assert float(strop.lower(model).population("gate").threshold.max()) == least


@pytest.mark.parametrize("cls", [L.Maximum, L.Minimum, L.Multiply])
def test_merges_of_other_values_are_refused(cls: type) -> None:
    x = keras.Input((5,))
    model = keras.Model(x, spike()(cls(name="gate")([L.Dense(4)(x), L.Dense(4)(x)])))
    with pytest.raises(UnsupportedLayerError, match=r"'gate'.*not spikes"):
        strop.lower(model)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: L.Resizing(9, 8, "nearest", name="r"), "no whole factor"),
        (lambda: L.Resizing(8, 8, "bilinear", name="r"), "interpolates"),
        (lambda: L.Normalization(mean=[0.0, 0.0], variance=[1.0, 1.0], invert=True, name="r"), "inverts"),
    ],
)
def test_what_is_not_exact_is_refused(layer: Callable[[], keras.layers.Layer], message: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=rf"'r'.*{message}"):
        strop.lower(sequential((4, 4, 2), layer(), L.Conv2D(2, 2), spike()))


def test_frames_of_zeros_stay_silent_where_nothing_is_added() -> None:
    model = sequential((4, 3, 2), L.Conv2DTranspose(3, 2, 3, "same", use_bias=False), spike())
    result = strop.simulate(strop.lower(model), np.zeros((2, 4, 3, 2), np.float32), "reference")
    assert result.output.shape == (2, 12, 9, 3)
    assert not result.output.any()
