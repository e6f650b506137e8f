"""Thresholds with any two values (signs among them), and the decision as spikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove, sequential  # noqa: E402

import strop  # noqa: E402
from strop.errors import DataError, GraphError, StropError, UnsupportedLayerError  # noqa: E402
from strop.keras import Heaviside, SoftmaxDecode, SpikingBReLU, declare_threshold, key_generator  # noqa: E402

L = keras.layers


def sign(x):
    return keras.ops.where(x >= 0, 1.0, -1.0)


declare_threshold(sign, at=0.0, low=-1.0, high=1.0)


class Step(L.Layer):
    def call(self, x):
        return keras.ops.where(x >= 0.25, 3.0, 1.0)


declare_threshold(Step, 0.25, 1.0, 3.0)


class OtherStep(Step):
    def call(self, x):
        return keras.ops.where(x >= 0.75, 3.0, 1.0)


@pytest.mark.parametrize("activation", [sign, Heaviside(0.0, -1.0, 1.0), Heaviside(0.1, 0.0, 2.0), Step()])
@pytest.mark.parametrize("coarse", [False, True])
def test_two_valued_activations_under_same_padding(activation: object, coarse: bool) -> None:
    """The zeros of the padding stay zero: they are neither of the two values, so border biases differ."""
    layers = [
        L.Conv2D(4, 3, padding="same"),
        L.Activation(activation),
        L.Conv2D(3, 3, padding="same", activation=activation),
        L.Flatten(),
        L.Dense(6),
        SpikingBReLU(1.0),
    ]
    prove(sequential((6, 5, 2), *layers), 0, coarse=coarse)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (1.0, -1.0), (0.0, 3.0), (-0.5, -2.0)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_max_pools_of_two_valued_activations(low: float, high: float, padding: str) -> None:
    layers = [
        L.Conv2D(4, 3),
        Heaviside(0.2, low, high),
        L.MaxPooling2D(2, padding=padding),
        L.BatchNormalization(),
        L.Conv2D(3, 2, padding="same"),
        Heaviside(0.0, low, high),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dense(5),
        SpikingBReLU(1.0),
    ]
    prove(sequential((8, 8, 1), *layers), 1)


def test_a_max_pool_before_a_sign() -> None:
    layers = [L.Conv2D(4, 3), L.MaxPooling2D(2), L.BatchNormalization(), Heaviside(0.0, -1.0, 1.0), L.Conv2D(2, 2)]
    prove(sequential((8, 8, 1), *layers, SpikingBReLU(1.0)), 1)


def test_values_of_a_sign_as_output() -> None:
    model = sequential((5,), L.Dense(8), Heaviside(0.0, -1.0, 1.0))
    prove(model)
    result = strop.simulate(strop.lower(model), np.random.default_rng(0).random((9, 5)), "reference")
    assert set(np.unique(result.output)) == {-1.0, 1.0}


def test_subclasses_with_their_own_call_are_not_what_their_parent_was_declared() -> None:
    with pytest.raises(UnsupportedLayerError, match="OtherStep"):
        strop.lower(sequential((5,), L.Dense(8), OtherStep()))


def test_wrong_declarations_are_found() -> None:
    def ternary(x):
        return keras.ops.sign(keras.ops.round(x))

    def shifted(x):
        return keras.ops.where(x >= 0.3, 1.0, 0.0)

    rng = np.random.default_rng(0)
    frames = rng.random((50, 5)).astype(np.float32)
    declare_threshold(ternary, 0.0, -1.0, 1.0)
    model = sequential((5,), L.Dense(20), L.Activation(ternary))
    with pytest.raises(StropError, match="no spikes"):
        strop.verify(model, frames, backends=("reference",))
    declare_threshold(shifted, 0.0)
    report = strop.verify(sequential((5,), L.Dense(20), L.Activation(shifted)), frames, backends=("reference",))
    assert not report.passed
    assert report.keras is not None
    assert report.keras.faults > 0


@pytest.mark.parametrize("strict", [False, True])
def test_thresholds_are_those_that_float32_compares_with(strict: bool) -> None:
    """0.7 is less in float32, and a float32 tensor that holds it fires; the float64 next to 0.7f declares `x > 0.7`."""

    def at_least(x):
        return keras.ops.where(x > 0.7 if strict else x >= 0.7, 1.0, 0.0)

    nearest = float(np.float32(0.7))
    declare_threshold(at_least, np.nextafter(nearest, 1.0) if strict else 0.7)
    frames = np.float32([[0.6, 0.7, 0.8, nearest]] * 4)
    frames[1:] = frames[:1, ::-1]
    model = sequential((4,), L.Activation(at_least), L.Dense(3))
    report = strop.verify(model, frames, backends=("reference",))
    assert report.passed
    assert report.backends["reference"].layers[0].spikes == 4 * (1 if strict else 3)
    if not strict:
        assert strop.verify(sequential((4,), Heaviside(0.7), L.Dense(3)), frames, backends=("reference",)).passed
        wide = sequential((4,), Heaviside(0.7, dtype="float64"), L.Dense(3))
        (layer,) = strop.verify(wide, frames, backends=("reference",)).backends["reference"].layers
        assert layer.spikes == 4


@pytest.mark.parametrize("untrained", [True, False])
def test_whole_numbers_that_add_up_to_zero_meet_a_threshold_of_zero_behind_a_normalisation(untrained: bool) -> None:
    """Keras multiplies 0 by the factor; products of weights and factor that are rounded need not add up to 0."""
    rng = np.random.default_rng(5)
    model = sequential(
        (12,), L.Dense(24, use_bias=False), Heaviside(0.5), L.Dense(16, use_bias=False), L.BatchNormalization()
    )
    model = keras.Sequential([*model.layers, Heaviside(0.0), L.Dense(3)])
    for layer in model.layers:
        if isinstance(layer, L.Dense):
            layer.set_weights([rng.integers(-3, 4, w.shape) for w in layer.get_weights()])
    norm = model.layers[3]
    zeros, ones = np.zeros(16), np.ones(16)
    # Factor, shift, mean, variance; unlike sequential() leaves them, the shift and the mean are 0.
    norm.set_weights([ones, zeros, zeros, ones] if untrained else [rng.random(16) + 0.1, zeros, zeros, rng.random(16)])
    report = strop.verify(model, rng.integers(0, 2, (300, 12)).astype("float32"), backends=("reference",))
    assert report.keras is not None
    assert (report.keras.faults, report.keras.ties) == (0, 0)
    assert report.passed


def test_bad_declarations_are_refused() -> None:
    with pytest.raises(DataError, match="two different values"):
        Heaviside(0.0, 1.0, 1.0)
    with pytest.raises(DataError, match="finite"):
        declare_threshold(lambda x: x, float("nan"))
    with pytest.raises(DataError, match="declared as"):
        declare_threshold(sign, at=0.5)
    with pytest.raises(DataError, match="only functions"):
        declare_threshold("sign", at=0.5)  # type: ignore[type-var]


def test_heaviside_trains_and_saves(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = sequential((4,), L.Dense(16), Heaviside(0.0, -1.0, 1.0), L.Dense(2, activation="softmax"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    before = [np.array(w) for w in model.layers[0].get_weights()]
    history = model.fit(x, y, epochs=15, verbose=0).history
    assert history["accuracy"][-1] > history["accuracy"][0] + 0.1
    assert not np.array_equal(before[0], model.layers[0].get_weights()[0]), "no gradient came through the step"
    model.save(tmp_path / "m.keras")
    again = strop.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert strop.verify(again, x[:50], y[:50], backends=("reference",)).passed


def decoded(kind: str, classes: int = 5) -> keras.Model:
    hidden = [L.Dense(20), SpikingBReLU(1.0)]
    if kind == "key":
        return sequential((6,), *hidden, SoftmaxDecode(key_generator(classes, 20, seed=1)))
    return sequential((6,), *hidden, L.Dense(classes, activation=None if kind == "linear" else "softmax"))


@pytest.mark.parametrize("kind", ["key", "linear", "softmax"])
@pytest.mark.parametrize("coarse", [False, True])
def test_the_winner_is_one_spike_and_argmax_agrees(kind: str, coarse: bool) -> None:
    model = decoded(kind)
    prove(model, 3, coarse=coarse)
    graph = strop.lower(model, decision="spikes")
    assert graph.total_depth == strop.lower(model).total_depth + 2
    frames = np.random.default_rng(0).integers(0, 9, (200, 6)).astype(np.float32) / 8
    result = strop.simulate(graph, frames, "reference")
    winner = result.spikes[graph.population_names[-1]]
    np.testing.assert_array_equal(winner.sum(axis=1), 1)
    np.testing.assert_array_equal(winner.argmax(axis=1), model.predict(frames, verbose=0).argmax(axis=1))
    np.testing.assert_array_equal(result.classes, winner.argmax(axis=1))
    assert len(set(result.classes)) > 1
    labels = result.classes
    report = strop.verify(model, frames, labels, backends=("reference",), decision="spikes")
    assert report.passed
    assert report.backends["reference"].accuracy == report.keras.accuracy == 1.0


def test_ties_go_to_the_lower_index() -> None:
    model = sequential((3,), L.Dense(3), SpikingBReLU(1.0), L.Dense(3))
    model.layers[0].set_weights([np.eye(3), np.zeros(3)])
    model.layers[2].set_weights([np.eye(3), np.zeros(3)])
    frames = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1]], np.float32)
    result = strop.simulate(strop.lower(model, decision="spikes"), frames, "reference")
    assert result.classes.tolist() == [0, 1, 0, 2, 0]


def test_unknown_decisions_are_refused() -> None:
    with pytest.raises(GraphError, match="decision"):
        strop.lower(decoded("key"), decision="chip")


def test_a_tempered_decoder_gives_the_same_classes_ties_included() -> None:
    key = key_generator(5, 20, seed=1)
    model = sequential((6,), L.Dense(20), SpikingBReLU(1.0), SoftmaxDecode(key, temperature=8))
    prove(model, 4)
    spikes = np.random.default_rng(0).integers(0, 2, (400, 6)).astype(np.float32)
    graph = strop.lower(model)
    result = strop.simulate(graph, spikes, "reference")
    scores = (2.0 * result.spikes[graph.population_names[-1]] - 1) @ (2.0 * key.T - 1)
    ordered = np.sort(scores, axis=1)
    assert np.any(ordered[:, -1] == ordered[:, -2])  # some frames tie
    np.testing.assert_array_equal(result.classes, scores.argmax(axis=1))
    np.testing.assert_array_equal(result.classes, model.predict(spikes, verbose=0).argmax(axis=1))
