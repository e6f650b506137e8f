"""What cannot be carried over exactly is refused: the layer named, the reason given, and what to do instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

keras = pytest.importorskip("keras")

import strop  # noqa: E402
from strop.errors import GraphError, ModelFileError, NotSharpenedError, StropError, UnsupportedLayerError  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU, SpikingSigmoid, key_generator  # noqa: E402

L = keras.layers


def spike(**options: object) -> keras.layers.Layer:
    return SpikingBReLU(1.0, **options)


def stack(*layers: keras.layers.Layer, shape: tuple[int | None, ...] = (8, 8, 2)) -> keras.Model:
    return keras.Sequential([L.Input(shape), *layers])


class Doubling(keras.layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    return model


def called_in_training() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, spike()(L.Dropout(0.5, name="drop")(L.Dense(3)(x), training=True)))


def padded_with_infinity() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, spike()(keras.ops.pad(L.Dense(4)(x), ((0, 0), (1, 1)), constant_values=float("inf"))))


def input_to_output() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, L.Concatenate()([spike()(L.Dense(3)(x)), x]))


def spatial_normalisation() -> keras.Model:
    return stack(
        L.Conv2D(2, 3),
        L.MaxPooling2D(2, 1),
        L.Flatten(),
        L.BatchNormalization(),
        spike(name="act"),
        shape=(6, 6, 1),
    )


def randomised(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if not variable.path.endswith("sharpness"):
            variable.assign(np.abs(rng.normal(size=variable.shape)) + 0.1)
    return model


REFUSED: dict[str, tuple[Callable[[], keras.Model], list[str]]] = {
    "no handler": (
        lambda: stack(L.LayerNormalization(name="norm")),
        ["'norm'", "LayerNormalization", "statistic", "BatchNormalization"],
    ),
    "relu layer": (lambda: stack(L.ReLU(name="r"), L.Flatten(), L.Dense(2, name="late")), ["'r'", "ReLU"]),
    "relu argument": (
        lambda: stack(L.Conv2D(2, 3, activation="relu", name="c"), L.Flatten(), L.Dense(2, name="late")),
        ["'c'", "'relu'", "SpikingBReLU"],
    ),
    "relu without spikes": (
        lambda: stack(L.Conv2D(2, 3, activation="relu", name="c")),
        ["'c'", "'relu'", "SpikingBReLU"],
    ),
    "leaky relu of sums": (
        lambda: stack(L.Conv2D(2, 3), L.LeakyReLU(name="l")),
        ["'l'", "values are not two", "SpikingBReLU"],
    ),
    "recurrent": (lambda: stack(L.LSTM(3, name="lstm"), shape=(4, 2)), ["'lstm'", "LSTM"]),
    "subclass with its own call": (
        lambda: stack(Doubling(3, name="d"), shape=(4,)),
        ["'d'", "Doubling", "call()"],
    ),
    "subclassed model": (subclassed, ["subclassed", "functional"]),
    "interpolation": (
        lambda: stack(L.Conv2D(2, 3), spike(), L.UpSampling2D(2, interpolation="bilinear", name="up")),
        ["'up'", "bilinear", "nearest"],
    ),
    "max pool then linear": (
        lambda: stack(L.Conv2D(2, 3), L.MaxPooling2D(2), L.Conv2D(2, 2, name="after"), spike()),
        ["'after'", "max-pooled", "activation"],
    ),
    "max pool at the end": (
        lambda: stack(L.Conv2D(2, 3), spike(), L.Conv2D(2, 1), L.MaxPooling2D(2, name="p")),
        ["'p'", "max pool"],
    ),
    "padding a pooled value": (
        lambda: stack(L.Conv2D(2, 3), L.MaxPooling2D(2), L.ZeroPadding2D(1, name="pad"), spike()),
        ["'pad'", "pads"],
    ),
    "spatial normalisation of overlapping maxima": (
        lambda: randomised(spatial_normalisation()),
        ["'act'", "differs from place to place", "per channel"],
    ),
    "training=True": (called_in_training, ["'drop'", "training=True"]),
    "constants": (padded_with_infinity, ["'pad", "not finite"]),
    "after the decoder": (
        lambda: stack(
            L.Flatten(),
            L.Dense(20),
            spike(),
            SoftmaxDecode(key_generator(4, 20, seed=0)),
            L.Dense(3, name="late"),
        ),
        ["'late'", "decoder"],
    ),
    "softmax over two axes": (
        lambda: stack(L.Conv2D(2, 3), spike(), L.Softmax(axis=(1, 2), name="s")),
        ["'s'", "axes (1, 2)", "one axis"],
    ),
    "no spikes at all": (lambda: stack(L.Flatten(), L.Dense(3, name="out")), ["'out'", "spiking activation"]),
    "input to output": (input_to_output, ["input", "without a spiking activation"]),
    "open extents": (lambda: stack(L.Conv2D(2, 3), spike(), shape=(None, None, 1)), ["left open", "fixed"]),
    "mixed precision": (
        lambda: stack(L.Conv2D(2, 3, dtype="mixed_bfloat16", name="half"), spike()),
        ["'half'", "bfloat16", "float32"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_layer_reason_and_way_out(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(UnsupportedLayerError) as caught:
        strop.lower(make())
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 0.999])
def test_layers_that_are_not_fully_sharpened_are_refused(sharpness: float) -> None:
    model = stack(L.Conv2D(2, 3), SpikingSigmoid(sharpness, name="soft"))
    with pytest.raises(NotSharpenedError, match=r"'soft'.*set_sharpness"):
        strop.lower(model)


def test_half_sharpened_activation_arguments_are_refused_too() -> None:
    with pytest.raises(NotSharpenedError, match="0.25"):
        strop.lower(stack(L.Conv2D(2, 3, activation=SpikingBReLU(0.25))))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    model = stack(L.Conv2D(2, 3, name="sick"), spike())
    model.layers[0].kernel.assign(np.full(model.layers[0].kernel.shape, value))
    with pytest.raises(ModelFileError, match=r"sick/kernel.*not finite"):
        strop.lower(model)


def test_a_model_that_was_never_built_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="never built"):
        strop.lower(keras.Sequential([L.Dense(3), spike()]))


def test_what_is_no_keras_model_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="takes a Keras 3 model, got int"):
        strop.lower(3)
    with pytest.raises(ModelFileError, match=r"model\.keras does not exist"):
        strop.lower("model.keras")


def test_unknown_encodings_are_refused() -> None:
    with pytest.raises(GraphError, match="encoding"):
        strop.lower(stack(L.Conv2D(2, 3), spike()), encoding="rate")


def test_every_refusal_is_a_strop_error() -> None:
    assert issubclass(UnsupportedLayerError, StropError)
    assert issubclass(NotSharpenedError, StropError)
