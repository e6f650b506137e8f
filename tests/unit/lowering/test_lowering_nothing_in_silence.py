"""What would come out wrong without a word: found by hunting, and either carried over exactly now or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove, sequential  # noqa: E402
from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.errors import StropError, UnsupportedLayerError  # noqa: E402
from strop.keras import Heaviside, SpikingBReLU  # noqa: E402
from strop.lowering import layer_outputs  # noqa: E402

L = keras.layers
IMAGE = (6, 5, 2)


def spike(**options: Any) -> keras.layers.Layer:
    return SpikingBReLU(1.0, **options)


class OtherConvolution(L.Conv2D):
    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, 2 * kernel)


class RenamedConvolution(L.Conv2D):
    """Overrides what changes nothing: it is still its parent."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "comment": "none"}


REFUSED: dict[str, tuple[Callable[[], list[keras.layers.Layer]], str]] = {
    "a convolution with another product": (lambda: [OtherConvolution(3, 2, name="c"), spike()], r"'c'.*convolution_op"),
    "half precision inside a wrapper": (
        lambda: [L.TimeDistributed(L.Dense(4, dtype="mixed_bfloat16"), name="t"), spike()],
        "'t'.*bfloat16",
    ),
    "half precision of an argument": (
        lambda: [L.Dense(4, activation=spike(dtype="float16"), name="d")],
        "'d'.*float16",
    ),
    "half precision of a step": (lambda: [L.Dense(4, activation=Heaviside(0.1, dtype="float16"), name="d")], "float16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hidden_changes_are_refused(name: str) -> None:
    layers, message = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=message):
        strop.lower(sequential(IMAGE, *layers()))


def test_harmless_subclasses_are_their_parents() -> None:
    prove(sequential(IMAGE, RenamedConvolution(3, 2), spike()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_inputs_of_half_precision_are_refused(dtype: str) -> None:
    x = keras.Input((5,), dtype=dtype, name="frames")
    with pytest.raises(UnsupportedLayerError, match=f"'frames' takes {dtype}"):
        strop.lower(keras.Model(x, spike()(L.Dense(4)(L.Rescaling(1 / 255)(x)))))


def tuned(*layers: keras.layers.Layer) -> keras.Model:
    """A model with a low-rank update that is not zero."""
    model = sequential(IMAGE, *layers, spike())
    model.layers[0].enable_lora(2)
    randomise(model, np.random.default_rng(0))
    return model


@pytest.mark.parametrize(
    "layer", [lambda: L.Dense(5), lambda: L.Conv2D(5, 2), lambda: L.EinsumDense("abcd,de->abce", (None, None, 5))]
)
def test_low_rank_updates_are_merged_by_saving_or_refused(layer: Callable[[], Any], tmp_path: Path) -> None:
    model = tuned(layer())
    frames = np.random.default_rng(1).random((9, *IMAGE)).astype(np.float32)
    before = model.predict(frames, verbose=0)
    with pytest.raises(UnsupportedLayerError, match="low-rank update"):
        strop.lower(model)
    model.save(tmp_path / "m.keras")
    again = strop.load_model(tmp_path / "m.keras")
    assert strop.verify(again, frames, backends=("reference",)).passed
    spikes = strop.simulate(strop.lower(again), frames, "reference").output
    assert 0 < spikes.sum() < spikes.size
    np.testing.assert_array_equal(spikes, before >= 0.5)


@pytest.mark.parametrize("layer", [lambda: L.Dense(5), lambda: L.EinsumDense("abcd,de->abce", (None, None, 5))])
def test_quantised_layers_are_refused(layer: Callable[[], Any]) -> None:
    model = sequential(IMAGE, layer(), spike())
    model.layers[0].quantize("int8")
    with pytest.raises(UnsupportedLayerError, match=r"quantised by Keras \(int8\)"):
        strop.lower(model)


def test_softmax_under_time_distributed_is_a_softmax() -> None:
    """Its values once came out as logits: spikes were equal, so that nothing was noticed."""
    model = sequential((3, 5), L.Dense(9), spike(), L.TimeDistributed(L.Dense(4, activation="softmax")))
    prove(model)
    frames = np.random.default_rng(0).random((4, 3, 5)).astype(np.float32)
    result = strop.simulate(strop.lower(model), frames, "reference")
    np.testing.assert_allclose(result.output.sum(axis=-1), 1.0)


def test_time_distributed_twice_shows_every_slice() -> None:
    inner = L.TimeDistributed(L.Dense(6, activation=spike()))
    report = prove(sequential((3, 2, 5), L.TimeDistributed(inner), L.Flatten(), L.Dense(5), spike()))
    assert report.keras is not None
    assert len(report.keras.layers) == 3 * 2 + 1


def test_time_distributed_of_a_model() -> None:
    inner = keras.Sequential([L.Input((6, 5, 1)), L.Conv2D(3, 2), L.MaxPooling2D(2), spike(), L.Flatten(), L.Dense(5)])
    inner.add(spike())
    report = prove(sequential((3, 6, 5, 1), L.TimeDistributed(inner), L.Flatten(), L.Dense(4), spike()))
    assert report.keras is not None
    assert len(report.keras.layers) == 3 + 1, "the last spikes of each slice, and the layer behind"


def test_a_normalisation_without_shift_can_be_flattened() -> None:
    """Its shift is an array of zeros, which once kept the shape from before."""
    layers = [L.Conv1D(3, 2), spike(), L.BatchNormalization(center=False), L.Flatten(), L.Dense(4)]
    model = sequential((7, 2), *layers)
    model.layers[2].set_weights([np.float32([1, -2, 0.5]), np.zeros(3), np.ones(3)])
    assert strop.lower(model).readouts[0].shape == (4,)


def test_augmentation_vanishes_in_verification_too() -> None:
    """Keras writes down that these are called in training: the layers one by one must not be."""
    x = inputs = keras.Input(IMAGE)
    x = L.RandomBrightness(0.9, value_range=(0.0, 1.0))(L.RandomFlip()(L.RandomRotation(0.4)(x)))
    prove(keras.Model(inputs, spike()(L.Conv2D(4, 2)(x))))


@pytest.mark.parametrize("cls", [L.Maximum, L.Minimum, L.Multiply])
@pytest.mark.parametrize(
    "values", [[(-1.0, 1.0), (-1.0, 1.0)], [(-1.0, 1.0), (0.0, 1.0)], [(2.0, -0.5), (0.0, 1.0), (1.0, 3.0)]]
)
def test_merges_of_any_two_values(cls: type, values: list[tuple[float, float]]) -> None:
    x = keras.Input((5,))
    merged = cls()([Heaviside(0.1, *pair)(L.Dense(9)(x)) for pair in values])
    prove(keras.Model(x, spike()(L.Dense(6)(merged))))


def test_max_pool_of_a_maximum_of_signs() -> None:
    x = keras.Input((5, 4, 1))
    pair = [Heaviside(0.0, -1.0, 1.0)(L.Conv2D(3, 2, padding="same")(x)) for _ in range(2)]
    prove(keras.Model(x, spike()(L.Conv2D(4, 2)(L.MaxPooling2D(2, 1)(L.Maximum()(pair))))))


def test_concatenation_between_pools_and_their_activation() -> None:
    """Branches as in Inception: a pooled one of either sign of scale, one that was not pooled, then the activation."""
    x = keras.Input((6, 5, 1))
    pooled = L.BatchNormalization()(L.MaxPooling2D(3, 1, padding="same")(L.Conv2D(4, 2, padding="same")(x)))
    joined = L.Concatenate()([pooled, L.Conv2D(3, 1)(x), L.MaxPooling2D(2, 1, padding="same")(L.Conv2D(2, 1)(x))])
    y = spike()(L.BatchNormalization()(joined))
    prove(keras.Model(x, spike()(L.Conv2D(3, 2)(y))))


def test_merges_of_too_many_different_values_are_refused() -> None:
    x = keras.Input((5,))
    model = keras.Model(x, L.Multiply(name="gate")([Heaviside(0.1, -1.0, 1.0)(L.Dense(4)(x)) for _ in range(5)]))
    with pytest.raises(UnsupportedLayerError, match=r"'gate'.*at most 4"):
        strop.lower(model)


@pytest.mark.parametrize("size", range(1, 8))
def test_adaptive_windows_are_those_of_keras(size: int) -> None:
    """Seven places into 1 to 7: a signal that is one at a single place shows where it goes."""
    layer = L.AdaptiveAveragePooling1D(size)
    model = sequential((7, 1), Heaviside(0.5), layer)
    frames = np.eye(7, dtype=np.float32)[..., None]
    output = strop.simulate(strop.lower(model), frames, "reference").output
    try:
        expected = model.predict(frames, verbose=0)
    except Exception as error:
        pytest.skip(f"Keras itself cannot pool 7 places into {size}: {type(error).__name__}")
    assert expected.any()
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_what_keras_cannot_compute_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow 2.21 fails on some convolutions (one filter, one channel, 1x1, separable): no traceback of its own."""
    model = sequential((4,), L.Dense(3), spike())

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "Graph execution error:\n  File somewhere, line 1\ncould not create a primitive descriptor\n"
        )

    monkeypatch.setattr(layer_outputs.Walker, "__call__", fail)
    with pytest.raises(
        StropError, match=r"Keras itself fails .* RuntimeError: could not create a primitive descriptor$"
    ):
        strop.verify(model, np.ones((2, 4), np.float32), backends=["reference"])
