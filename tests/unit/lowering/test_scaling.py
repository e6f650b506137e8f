"""Which models take whole numbers themselves: what stands first in them, behind all that only moves values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402
from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.keras import Heaviside, SpikingBReLU  # noqa: E402
from strop.lowering import driver  # noqa: E402

L = keras.layers
SHAPE = (6, 6, 1)


def adapted(mean: float, variance: float) -> keras.layers.Layer:
    return L.Normalization(axis=None, mean=mean, variance=variance)


def model_of(
    first: Any, shape: tuple[int, ...] = SHAPE, dtype: str = "float32", name: str | None = None
) -> keras.Model:
    """A network that begins with a function of its input, random but for that."""
    inputs = keras.Input(shape, dtype=dtype, name=name)
    x = L.Flatten()(first(inputs))
    x = SpikingBReLU(1.0)(L.Dense(20, name="hidden")(x))
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(x))
    for layer in model.layers:
        if isinstance(layer, L.Dense):
            kernel = np.random.default_rng(layer.units).normal(0, 0.5, layer.kernel.shape)
            # About half of the units fire, however large the frames are.
            layer.set_weights([kernel - kernel.mean(axis=0), np.full(layer.units, 0.5)])
    return model


def batch_norm(mean: float, variance: float) -> Any:
    def first(x: Any) -> Any:
        layer = L.BatchNormalization()
        y = layer(x)
        layer.set_weights([np.full(1, v, np.float32) for v in (1.0, 0.0, mean, variance)])
        return y

    return first


SCALED = {
    "rescaling": (L.Rescaling(1 / 255), "Rescaling"),
    "normalization": (adapted(128.0, 5000.0), "Normalization"),
    "quotient": (lambda x: x / 255.0, "TrueDivide"),
    "product": (lambda x: x * 0.01, "Multiply"),
    "difference": (lambda x: (x - 128.0) / 64.0, "Subtract"),
    "reshaped": (lambda x: L.Rescaling(1 / 255)(L.Reshape((36,))(x)), "Rescaling"),
    "flattened, dropped": (lambda x: L.Rescaling(1 / 255)(L.Dropout(0.5)(L.Flatten()(x))), "Rescaling"),
    "padded": (lambda x: L.Rescaling(1 / 255)(L.ZeroPadding2D(1)(x)), "Rescaling"),
    "permuted": (lambda x: L.Rescaling(1 / 255)(L.Permute((2, 1, 3))(L.Identity()(x))), "Rescaling"),
    "augmented": (lambda x: L.Rescaling(1 / 255)(L.RandomRotation(0.1)(L.GaussianNoise(0.1)(x))), "Rescaling"),
    "cast": (lambda x: ops.cast(x, "float32") / 255.0, "TrueDivide"),
    "moved": (lambda x: L.Rescaling(1 / 255)(ops.transpose(x, (0, 2, 1, 3))[:, 1:]), "Rescaling"),
    "pooled": (lambda x: L.Rescaling(1 / 255)(L.AveragePooling2D(2)(x)), "Rescaling"),
    "linear": (lambda x: L.Rescaling(1 / 255)(L.Activation("linear")(x)), "Rescaling"),
    "nested": (lambda x: keras.Sequential([L.Input(SHAPE), L.Flatten(), L.Rescaling(1 / 255)])(x), "Rescaling"),
    "by rows": (lambda x: L.TimeDistributed(L.Rescaling(1 / 255))(x), "Rescaling"),
    "statistics of whole numbers": (batch_norm(120.0, 4000.0), "BatchNormalization"),
    "compared with 127": (lambda x: ops.cast(x > 127.0, "float32"), "Greater"),
    "stepped at 128": (Heaviside(128.0), "Heaviside"),
    "stepped at 128, as activation": (L.Activation(Heaviside(128.0)), "Activation"),
    "on one of two ways": (lambda x: L.Concatenate()([L.Rescaling(1 / 255)(x), L.Permute((2, 1, 3))(x)]), "Rescaling"),
}
PLAIN = {
    "dense": lambda x: x,
    "convolution first": lambda x: L.Rescaling(1 / 255)(L.Conv2D(2, 3, use_bias=False)(x)),
    "statistics of frames to 1": batch_norm(0.4, 0.1),
    "compared with a half": lambda x: ops.cast(x > 0.5, "float32"),
    "moved": lambda x: L.Reshape((4, 9))(x),
    "stepped at a half": Heaviside(0.5),
}


@pytest.mark.parametrize("first", SCALED)
def test_models_that_scale_their_frames_are_known(first: str) -> None:
    function, by = SCALED[first]
    node = strop.lower(model_of(function)).inputs[0]
    assert (node.scaled_by, node.whole_numbers) == (by, True)


@pytest.mark.parametrize("first", PLAIN)
def test_models_that_do_not_are_known_too(first: str) -> None:
    node = strop.lower(model_of(PLAIN[first])).inputs[0]
    assert (node.scaled_by, node.whole_numbers) == ("", False)


@pytest.mark.parametrize("first", [*SCALED, *PLAIN])
def test_keras_is_what_predict_gives_on_the_users_own_frames(first: str) -> None:
    """But for uint8 frames of models that do not scale them, which are divided by 255."""
    model = model_of(SCALED[first][0] if first in SCALED else PLAIN[first])
    rng = np.random.default_rng(1)
    whole = rng.integers(0, 256, (50, *SHAPE)) * rng.integers(0, 2, (50, *SHAPE))
    for dtype in ("uint8", "int64", ">f4"):
        frames = whole.astype(dtype)
        shown = frames.astype(np.float32) / 255 if dtype == "uint8" and first in PLAIN else frames.astype(np.float32)
        # In one batch: Keras would compile the last one, which is shorter, by itself.
        labels = model.predict(shown, batch_size=50, verbose=0).argmax(axis=-1)
        assert len(set(labels)) > 1
        report = strop.verify(model, frames, labels, backends=["reference"])
        assert report.passed, str(report)
        assert report.keras is not None
        assert report.keras.accuracy == 1.0
        assert report.backends["reference"].accuracy > 0.9


def test_each_of_several_inputs_is_known_by_itself() -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    joined = L.Concatenate()([L.Rescaling(1 / 255)(left), right])
    model = keras.Model([left, right], SpikingBReLU(1.0)(L.Dense(8)(joined)))
    randomise(model, np.random.default_rng(0))
    graph = strop.lower(model)
    assert [node.scaled_by for node in graph.inputs] == ["Rescaling", ""]
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (30, size)).astype(np.uint8) for size in (4, 3)]
    report = strop.verify(model, frames, backends=["reference"])
    assert report.passed
    assert report.notes == [
        "input 'left': uint8 frames used as they are: the model begins with Rescaling",
        "input 'right': uint8 frames divided by 255",
    ]


def test_two_inputs_that_are_added_and_then_scaled_are_both_scaled() -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    model = keras.Model([left, right], SpikingBReLU(1.0)(L.Dense(8)((left + right) / 510.0)))
    assert [node.scaled_by for node in strop.lower(model).inputs] == ["TrueDivide", "TrueDivide"]


def test_operations_with_several_outputs_are_walked_past() -> None:
    inputs = keras.Input((4,))
    a, b = ops.split(inputs, 2, axis=-1)
    from strop.lowering.scaling import scaled_inputs

    model = keras.Model(inputs, L.Dense(2)(L.Concatenate()([a, L.Rescaling(0.5)(b)])))
    assert scaled_inputs(model) == {}


@pytest.mark.parametrize("first", ["rescaling", "quotient", "difference"])
def test_bit_planes_of_whole_numbers_are_those_numbers(first: str) -> None:
    model = model_of(SCALED[first][0])
    node = strop.lower(model, "bitplane").inputs[0]
    assert (node.bits, node.step) == (8, 1.0)
    frames = np.random.default_rng(1).integers(0, 256, (50, *SHAPE)).astype(np.uint8)
    report = strop.verify(model, frames, backends=["reference"], encoding="bitplane")
    assert report.passed, str(report)
    assert report.keras is not None
    assert 0 < report.keras.layers[0].spikes < 50 * 20
    assert strop.lower(model, "bitplane", step=0.5).inputs[0].step == 0.5
    with pytest.raises(
        strop.StropError, match=rf"256 values from 0\.0 to 255\.0 \(whole.*begins with {SCALED[first][1]}\)"
    ):
        strop.verify(model, frames / 255, backends=["reference"], encoding="bitplane")
    assert strop.verify(model, frames / 255, backends=["reference"], encoding="bitplane", step=1 / 255).passed


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_inputs_of_an_integer_type_take_whole_numbers(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_refuse_inputs_that_are_no_floats", lambda model: None, raising=False)
    model = model_of(lambda x: L.Rescaling(1 / 255)(x), dtype=dtype)
    node = strop.lower(model).inputs[0]
    assert (node.dtype, node.whole_numbers) == (dtype, True)
    frames = np.random.default_rng(1).integers(0, 256, (50, *SHAPE))
    labels = model.predict(frames, verbose=0).argmax(axis=-1)
    for given in (frames.astype(np.uint8), frames, frames.astype(np.float64)):
        report = strop.verify(model, given, labels, backends=["reference"])
        assert report.passed, str(report)
        assert report.keras.accuracy == 1.0
        assert f"the model's input takes {dtype}" in report.notes[0]
    with pytest.raises(
        strop.StropError, match=rf"hold [0-9.]+, and the model's input takes {dtype}: whole numbers from"
    ):
        strop.verify(model, frames + 0.5, backends=["reference"])
