"""`from_relu`: before sharpening the new network computes what the old one did, and everything can be sharpened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="strop.keras trains with Keras")

from relu_networks import EXACT, random_relu_network, randomise  # noqa: E402

from strop.errors import DataError, UnsupportedLayerError  # noqa: E402
from strop.keras import (  # noqa: E402
    SoftmaxDecode,
    SpikingBReLU,
    SpikingSigmoid,
    from_relu,
    get_sharpness,
    set_sharpness,
    spiking_layers,
)
from strop.keras.copies import copied  # noqa: E402

L = keras.layers
ALIKE = {"rtol": 1e-4, "atol": 2e-5}


def answers(model: Any, frames: Any) -> np.ndarray[Any, Any]:
    return np.asarray(keras.ops.convert_to_numpy(model(frames, training=False)))


def frames_of(*shape: int, count: int = 40) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).random((count, *shape)).astype(np.float32)


def sequential(shape: tuple[int, ...], *layers: Any, seed: int = 0) -> Any:
    model = keras.Sequential([keras.Input(shape), *layers])
    randomise(model, np.random.default_rng(seed))
    return model


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_compute_the_same_where_nothing_is_cut_off(seed: int, normalise: bool) -> None:
    model, frames = random_relu_network(seed)
    before = [np.array(value) for value in model.get_weights()]
    ready = from_relu(model, frames, percentile=100, normalise=normalise)
    assert len(spiking_layers(ready)) >= 1
    assert set(get_sharpness(ready).values()) == {0.0}
    expected = answers(model, frames)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(answers(ready, frames), expected, **ALIKE)
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, old)


@pytest.mark.parametrize("activation", EXACT)
def test_each_activation_has_the_counterpart_that_the_table_says(activation: str) -> None:
    model = sequential((5,), L.Dense(7, activation=activation), L.Dense(2))
    frames = 4 * frames_of(5)
    ready = from_relu(model, frames, percentile=100)
    kind = SpikingSigmoid if activation in ("sigmoid", "tanh") else SpikingBReLU
    assert [type(layer) for layer in spiking_layers(ready)] == [kind]
    np.testing.assert_allclose(answers(ready, frames), answers(model, frames), **ALIKE)


def test_the_ramp_covers_the_percentile_of_what_is_above_zero() -> None:
    model = sequential((1,), L.Dense(1, activation="relu", use_bias=False), L.Dense(1, use_bias=False))
    model.set_weights([np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)])
    frames = np.linspace(-1.0, 1.0, 2001, dtype=np.float32)[:, None]
    outputs = answers(from_relu(model, frames, percentile=90), frames)
    np.testing.assert_allclose(outputs, np.clip(frames, 0.0, 0.9), atol=1e-3)


@pytest.mark.parametrize(
    "activation",
    [L.LeakyReLU(0.2), L.PReLU(), L.ELU(), L.Activation("gelu"), L.Activation("silu"), L.Activation("mish")],
    ids=lambda layer: layer.name,
)
def test_what_is_like_relu_becomes_the_ramp_of_relu(activation: Any) -> None:
    model = sequential((5,), L.Dense(9), activation, L.Dense(2))
    frames = frames_of(5)
    ready = from_relu(model, frames)
    (layer,) = spiking_layers(ready)
    assert isinstance(layer, SpikingBReLU)
    hidden = answers(keras.Model(ready.inputs[0], layer.output), frames)
    assert hidden.min() == 0.0
    assert hidden.max() == 1.0


def test_a_residual_network_with_batch_normalisation_lowers_and_spikes_as_keras_says() -> None:
    from strop.verification.verify import verify

    image = keras.Input((6, 6, 2))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", use_bias=False)(image)))
    y = L.Conv2D(4, 3, padding="same", activation="relu")(x)
    y = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(y))
    x = L.ReLU()(L.Add()([x, y]))
    model = keras.Model(image, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    randomise(model, np.random.default_rng(0))
    frames = frames_of(6, 6, 2)
    ready = from_relu(model, frames)
    set_sharpness(ready, 1.0)
    report = verify(ready, frames, backends=["reference"])
    assert report.passed
    rates = [layer["spikes"] for layer in report.to_dict()["backends"]["reference"]["layers"]]
    assert len(rates) == 3
    assert min(rates) > 0


def test_max_pools_come_before_the_activations_in_front_of_them() -> None:
    layers = [L.Conv2D(3, 3, activation="relu", name="conv"), L.MaxPooling2D(2, name="pool"), L.Flatten(), L.Dense(2)]
    model = sequential((8, 8, 1), *layers)
    ready = from_relu(model, frames_of(8, 8, 1), percentile=100)
    assert [layer.name for layer in ready.layers[1:5]] == ["conv", "pool", "conv_norm", "conv_spikes"]
    np.testing.assert_allclose(answers(ready, frames_of(8, 8, 1)), answers(model, frames_of(8, 8, 1)), **ALIKE)


def test_layers_keep_their_names_and_are_all_trainable_in_float32() -> None:
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    frozen = L.Dense(4, activation="relu", trainable=False, dtype=policy, name="first")
    model = sequential(
        (3,), frozen, L.Dropout(0.5, name="drop"), L.Dense(2, kernel_constraint="unit_norm", name="last")
    )
    ready = from_relu(model, frames_of(3))
    names = [layer.name for layer in ready.layers[1:]]
    assert names == ["first", "first_norm", "first_spikes", "drop", "last"]
    assert all(layer.trainable and layer.compute_dtype == "float32" for layer in ready.layers)
    assert ready.get_layer("drop").rate == 0.5
    assert ready.get_layer("last").kernel_constraint is None


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ((6, 2), lambda: L.SpatialDropout1D(0.3)),
        ((6, 6, 2), lambda: L.SpatialDropout2D(0.3)),
        ((4, 4, 4, 2), lambda: L.SpatialDropout3D(0.3)),
        ((6, 6, 2), lambda: L.GaussianDropout(0.3)),
        ((6, 6, 2), lambda: L.AlphaDropout(0.3)),
        ((6, 6, 2), lambda: L.ActivityRegularization(0.1)),
        ((6, 6, 2), lambda: L.PReLU()),
        ((6, 6, 2), lambda: L.UpSampling2D(2)),
        ((6, 6, 2), lambda: L.Permute((2, 1, 3))),
    ],
)
def test_layers_with_arguments_of_their_own_are_taken_over(shape: tuple[int, ...], layer: Any) -> None:
    own = layer()
    pool = getattr(L, f"MaxPooling{len(shape) - 1}D")(2)
    model = sequential(shape, L.Dense(3, activation="relu"), own, pool, L.Flatten(), L.Dense(2))
    ready = from_relu(model, frames_of(*shape), percentile=100)
    found = [other for other in ready.layers if other.name.startswith(own.name)]
    assert found
    assert all(other.trainable for other in found)
    if not isinstance(own, L.PReLU):  # its negative part is cut off
        np.testing.assert_allclose(answers(ready, frames_of(*shape)), answers(model, frames_of(*shape)), **ALIKE)


def test_an_adapted_normalization_keeps_what_it_saw() -> None:
    frames = np.random.default_rng(0).normal(3.0, 2.0, (50, 6)).astype(np.float32)
    seen = L.Normalization(name="seen")
    seen.adapt(frames)
    model = keras.Sequential([keras.Input((6,)), seen, L.Dense(12, activation="relu"), L.Dense(1)])
    ready = from_relu(model, frames, percentile=100)
    np.testing.assert_allclose(answers(ready, frames), answers(model, frames), **ALIKE)
    again = copied(keras.Sequential([model, L.Dense(3)]))
    np.testing.assert_array_equal(answers(again.layers[0], frames), answers(model, frames))


def test_a_maximum_with_zero_is_a_relu() -> None:
    image = keras.Input((5,))
    x = keras.ops.maximum(L.Dense(7)(image), 0.0)
    x = keras.ops.maximum(0, L.Dense(6)(x))
    model = keras.Model(image, L.Dense(2)(x))
    randomise(model, np.random.default_rng(0))
    ready = from_relu(model, frames_of(5), percentile=100)
    assert [type(layer) for layer in spiking_layers(ready)] == [SpikingBReLU] * 2
    np.testing.assert_allclose(answers(ready, frames_of(5)), answers(model, frames_of(5)), **ALIKE)


def test_a_shared_layer_stays_shared() -> None:
    shared = L.Dense(4, activation="relu", name="shared")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([a, b], L.Dense(2, name="last")(L.Concatenate()([shared(shared(a)), shared(b)])))
    randomise(model, np.random.default_rng(0))
    frames = [frames_of(4), 3 * frames_of(4)]
    ready = from_relu(model, frames, percentile=100)
    assert [layer.name for layer in ready.layers if "Dense" in type(layer).__name__] == ["shared", "last"]
    np.testing.assert_allclose(answers(ready, frames), answers(model, frames), **ALIKE)
    by_name = from_relu(model, {"a": frames[0], "b": frames[1]}, percentile=100)
    np.testing.assert_array_equal(answers(by_name, frames), answers(ready, frames))


def test_dict_structures_of_inputs_and_outputs_stay() -> None:
    image = keras.Input((3,), name="image")
    hidden = L.Dense(5, activation="relu", name="hidden")(image)
    model = keras.Model({"image": image}, {"seen": hidden, "class": L.Dense(2, name="class")(hidden)})
    frames = {"image": frames_of(3)}
    ready = from_relu(model, frames, percentile=100)
    found, expected = ready(frames), model(frames)
    assert set(found) == {"seen", "class"}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, **ALIKE)


def test_uint8_frames_are_scaled_unless_the_model_scales_them() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (30, 4), dtype=np.uint8)
    body = (L.Dense(6, activation="relu"), L.Dense(2))
    plain, scaling = sequential((4,), *body), sequential((4,), L.Rescaling(1 / 255), *body)
    floats = whole.astype(np.float32)
    np.testing.assert_allclose(
        answers(from_relu(plain, whole, percentile=100), floats / 255), answers(plain, floats / 255), **ALIKE
    )
    np.testing.assert_allclose(
        answers(from_relu(scaling, whole, percentile=100), floats), answers(scaling, floats), **ALIKE
    )


def test_an_unbuilt_model_is_built_from_the_frames() -> None:
    model = keras.Sequential([L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    assert from_relu(model, frames_of(5, 5, 1)).output_shape == (None, 2)
    with pytest.raises(DataError, match="cannot be built for frames of the shape"):
        from_relu(keras.Sequential([L.Conv2D(2, 3, activation="relu")]), frames_of(5))


def test_an_nhot_head_decides_at_once_as_the_softmax_did() -> None:
    rng = np.random.default_rng(2)
    model = sequential((4,), L.Dense(4, activation="relu"), L.Dense(4, activation="softmax"))
    model.set_weights([np.eye(4), np.zeros(4), 9 * np.eye(4), np.full(4, 3.0)])
    frames = (np.eye(4)[rng.integers(0, 4, 400)] + rng.normal(0.0, 0.2, (400, 4))).astype(np.float32)
    ready = from_relu(model, frames, "nhot", percentile=100, seed=5)
    decode = ready.layers[-1]
    assert isinstance(decode, SoftmaxDecode)
    assert decode.key.shape == (4, 80)
    assert decode.temperature == 8.0
    set_sharpness(ready, {ready.layers[-2].name: 1.0})
    same = answers(ready, frames).argmax(axis=1) == answers(model, frames).argmax(axis=1)
    assert same.mean() > 0.95
    wider = from_relu(
        sequential((4,), L.Dense(9, activation="relu"), L.Dense(3), L.Softmax()), frames, "nhot", width=33
    )
    assert wider.layers[-1].key.shape == (3, 33)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((L.Dense(3, activation="exponential", name="up"), L.Dense(2)), "'up'.*'exponential' has no counterpart"),
        ((L.Dense(3, activation="softmax", name="mid"), L.Dense(2)), "'mid'.*'softmax' has no counterpart"),
        ((L.Dense(3), L.Softmax(name="mid"), L.Dense(2)), r"'mid' \(Softmax\): .*'softmax' has no counterpart"),
        ((L.Dense(3, activation=lambda x: x * x, name="odd"), L.Dense(2)), "'odd'.*'<lambda>' has no counterpart"),
        ((L.Reshape((2, 2)), L.LSTM(3, name="memory"), L.Dense(2)), r"'memory' \(LSTM\): strop knows no"),
        ((L.LayerNormalization(name="norm"), L.Dense(2)), r"'norm' \(LayerNormalization\): strop knows no"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(layers: Any, words: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=words):
        from_relu(sequential((4,), *layers), frames_of(4))


def test_models_without_anything_to_convert_are_refused() -> None:
    with pytest.raises(DataError, match="it is linear up to its output"):
        from_relu(sequential((4,), L.Dense(2, activation="softmax")), frames_of(4))
    with pytest.raises(DataError, match="spikes can be sharpened as they are"):
        from_relu(sequential((4,), L.Dense(2), SpikingBReLU(name="spikes"), L.Dense(2)), frames_of(4))
    with pytest.raises(UnsupportedLayerError, match="takes a Keras model, got str"):
        from_relu("model.keras", frames_of(4))

    class Own(keras.Model):  # type: ignore[misc]  # Keras ships no types
        def __init__(self) -> None:
            super().__init__(name="own")
            self.inner = L.Dense(3, activation="relu")

        def call(self, x: Any) -> Any:
            return self.inner(x)

    called = Own()
    called(frames_of(4))
    for model in (Own(), called):
        with pytest.raises(UnsupportedLayerError, match=r"'own' \(Own\) is a subclassed model"):
            from_relu(model, frames_of(4))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (frames_of(5), r"have the shape \(40, 5\), the model takes \(n, \(4,\)\)"),
        (np.zeros((0, 4)), r"have the shape \(0, 4\)"),
        (np.full((3, 4), np.nan), "not finite"),
        (np.full((3, 4), "a"), "have dtype"),
        ({"other": frames_of(4)}, "frames lack the input"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames: Any, words: str) -> None:
    model = sequential((4,), L.Dense(3, activation="relu"), L.Dense(2))
    with pytest.raises(DataError, match=words):
        from_relu(model, frames)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head": "soft"}, "head must be 'linear' or 'nhot'"),
        ({"percentile": 0}, "percentile must be a number above 0"),
        ({"surrogate_width": 2}, "surrogate_width of from_relu"),
        ({"head": "nhot"}, "Dense layer of two classes or more"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, words: str) -> None:
    model = sequential((4,), L.Dense(3, activation="relu"), L.Dense(1))
    with pytest.raises((DataError, UnsupportedLayerError), match=words):
        from_relu(model, frames_of(4), **options)
