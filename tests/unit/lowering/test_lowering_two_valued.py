"""Elementwise functions of two-valued signals, signs with a zero, constants in paddings, inputs of whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove  # noqa: E402
from random_networks import random_frames, randomise  # noqa: E402

import strop  # noqa: E402
from strop.errors import StropError, UnsupportedLayerError  # noqa: E402
from strop.keras import Heaviside, SpikingBReLU  # noqa: E402

L = keras.layers
ops = keras.ops
Change = Callable[[Any], Any]


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


def signs(x: Any) -> Any:
    return Heaviside(0.0, -1.0, 1.0)(L.Conv2D(3, 2, padding="same")(x))


def spikes(x: Any) -> Any:
    return spike()(L.Conv2D(3, 2, padding="same")(x))


def channels_first(x: Any) -> Any:
    y = L.Conv2D(4, 2, data_format="channels_first", use_bias=False)(L.Permute((3, 1, 2))(x))
    return Heaviside(0.0, -1.0, 1.0)(y)


def normalised(x: Any) -> Any:
    return L.BatchNormalization()(spikes(x))


def model(change: Change) -> keras.Model:
    """The change, and a layer of spikes behind it."""
    inputs = keras.Input((6, 5, 2))
    return keras.Model(inputs, spike()(L.Dense(4)(L.Flatten()(change(inputs)))))


EXACT: dict[str, Change] = {
    "relu of signs": lambda x: L.ReLU()(signs(x)),
    "product of scaled channels": lambda x: L.Multiply()([L.BatchNormalization(center=False)(spikes(x)), spikes(x)]),
    "maximum of shifted channels": lambda x: L.Maximum()([normalised(x), spikes(x)]),
    "minimum of shifted channels": lambda x: L.Minimum()([spikes(x), normalised(x)]),
    "a max pool of one place": lambda x: L.MaxPooling2D(1, strides=2)(L.Conv2D(3, 2)(x)) - 0.25,
    "a max pool of one place, padded": lambda x: L.MaxPooling2D(1, strides=(2, 3), padding="same")(signs(x)),
    "relu, activation": lambda x: L.Activation("relu")(signs(x)),
    "relu, function": lambda x: keras.activations.relu(signs(x), negative_slope=0.5),
    "relu, operation": lambda x: ops.relu(signs(x)),
    "relu with parameters": lambda x: L.ReLU(max_value=0.75, negative_slope=0.1, threshold=0.2)(signs(x)),
    "leaky": lambda x: L.LeakyReLU(0.3)(signs(x)),
    "elu": lambda x: L.ELU()(signs(x)),
    "parametric": lambda x: L.PReLU()(signs(x)),
    "parametric, one slope for all": lambda x: L.PReLU(shared_axes=(1, 2))(signs(x)),
    "tanh of spikes": lambda x: L.Activation("tanh")(spikes(x)),
    "sigmoid of spikes": lambda x: ops.sigmoid(spikes(x)),
    "gelu": lambda x: L.Activation("gelu")(signs(x)),
    "abs of signs, shifted": lambda x: abs(signs(x) - 0.5),
    "half of sign plus one": lambda x: (ops.sign(signs(x)) + 1) / 2,
    "clip": lambda x: ops.clip(signs(x), 0.0, 1.0),
    "maximum with a number": lambda x: ops.maximum(signs(x), 0.25),
    "minimum with numbers": lambda x: ops.minimum(np.float32([0.5, -2.0, 3.0]), signs(x)),
    "square, root, power": lambda x: ops.power(ops.sqrt(ops.square(signs(x) * 1.5) + 1.0), 3),
    "exponential": lambda x: ops.exp(normalised(x)),
    "relu of normalised spikes": lambda x: ops.relu(normalised(x)),
    "round of normalised spikes": lambda x: ops.round(normalised(x)),
    "sign of spikes": lambda x: ops.sign(spikes(x)),
    "a number over spikes": lambda x: 1.0 / (spikes(x) + 1.0),
    "not": lambda x: ops.cast(ops.logical_not(L.Conv2D(3, 2)(x) >= 0.25), "float32"),
    "a max pool behind": lambda x: L.MaxPooling2D(2)(ops.relu(-signs(x))),
    "behind a padding": lambda x: ops.sigmoid(L.ZeroPadding2D(1)(signs(x))),
    "behind padded spikes": lambda x: ops.sigmoid(L.ZeroPadding2D(1)(spikes(x))),
    "constant": lambda x: L.Concatenate()([ops.relu(-spikes(x)), signs(x)]),
    "channels first": lambda x: L.MaxPooling2D(2, data_format="channels_first")(L.LeakyReLU()(channels_first(x))),
    "channels first, parametric": lambda x: L.PReLU(shared_axes=(2, 3))(channels_first(x)),
    "under TimeDistributed": lambda x: L.TimeDistributed(L.ReLU())(signs(x)),
    # Signs with a zero.
    "signs": lambda x: ops.sign(L.Conv2D(3, 2)(x)),
    "signs as an activation": lambda x: L.Conv2D(3, 2, activation=ops.sign)(x),
    "sum of signs": lambda x: ops.sign(L.Conv2D(3, 2)(x)) + ops.sign(L.Conv2D(3, 2)(x)),
    "signs, averaged": lambda x: L.AveragePooling2D(2)(L.Activation(ops.sign)(L.Conv2D(3, 2)(x))),
    # Constants.
    "padding with ones": lambda x: ops.pad(spikes(x), ((0, 0), (1, 1), (0, 2), (0, 0)), constant_values=1.0),
    "padding signs, then relu": lambda x: ops.relu(
        ops.pad(signs(x), ((0, 0), (1, 1), (0, 0), (0, 0)), constant_values=0.1)
    ),
    "padding sums": lambda x: ops.pad(
        L.Conv2D(2, 2)(spikes(x)), ((0, 0), (1, 0), (0, 0), (1, 0)), constant_values=-0.3
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_functions_of_two_values_are_carried_over_exactly(name: str) -> None:
    prove(model(EXACT[name]), coarse=name.startswith(("sign", "sum of signs", "half")))


def test_a_function_of_spikes_costs_no_unit() -> None:
    for name in ("relu of signs", "tanh of spikes", "clip", "abs of signs, shifted", "parametric"):
        assert len(strop.lower(model(EXACT[name])).populations) == 2, name


def test_relu_of_signs_is_the_bits_themselves() -> None:
    x = keras.Input((4,))
    graph = strop.lower(keras.Model(x, L.ReLU()(Heaviside(0.0, -1.0, 1.0, name="signs")(L.Dense(3)(x)))))
    assert graph.readouts == ()
    assert graph.outputs == ("signs",)


def test_values_are_those_that_keras_computes_in_float32() -> None:
    x = keras.Input((3,))
    graph = strop.lower(keras.Model(x, ops.tanh(spike()(L.Dense(3)(x)))))
    (readout,) = graph.readouts
    values = {
        float(v) for v in strop.simulate(graph, np.float32([[9, 9, 9], [-9, 0, 9]]), "reference").output.reshape(-1)
    }
    assert readout.kind == "linear"
    assert values <= {0.0, float(np.asarray(ops.tanh(np.float32(1.0))))}


def test_the_values_behind_a_function_are_held_against_keras() -> None:
    """Where somebody changes the function behind strop's back, the verification says so."""
    x = keras.Input((4,))
    slopes = L.PReLU()
    made = keras.Model(x, slopes(Heaviside(0.0, -1.0, 1.0)(L.Dense(6)(x))))
    randomise(made, np.random.default_rng(0))
    frames = random_frames(made, np.random.default_rng(1), 20)
    assert strop.verify(made, frames, backends=("reference",)).passed
    lowered = strop.lowering.trace(made)
    slopes.alpha.assign(np.asarray(slopes.alpha) + 0.5)
    from strop.lowering.probe import KerasProbe

    with pytest.raises(StropError, match="no spikes"):
        KerasProbe(made, lowered).run({lowered.graph.inputs[0].name: frames})


def test_signs_are_zero_at_zero() -> None:
    x = keras.Input((3,))
    graph = strop.lower(keras.Model(x, ops.sign(x * 2.0 - 1.0)))
    found = strop.simulate(graph, np.float32([[0.25, 0.5, 0.75]]), "reference")
    assert found.output.tolist() == [[-1.0, 0.0, 1.0]]
    assert len(graph.populations) == 2


def test_both_populations_of_a_sign_are_compared_with_keras() -> None:
    report = prove(model(EXACT["signs"]), coarse=True)
    assert report.keras is not None
    names = [layer.name for layer in report.keras.layers]
    assert [name.rpartition("/")[2] for name in names[:2]] == ["positive", "not_negative"]


REFUSED: dict[str, tuple[Change, str]] = {
    "not finite": (lambda x: ops.log(spikes(x)), "not finite"),
    "a jump at a rounded value": (lambda x: ops.floor(spikes(x) * 0.1 * 10.0), "jumps"),
    "abs of sums": (lambda x: ops.abs(L.Conv2D(3, 2)(x)), "no exact spiking form of Abs"),
    "clip of sums": (lambda x: ops.clip(L.Conv2D(3, 2)(x), 0, 1), "no exact spiking form of Clip"),
    "power of two signals": (lambda x: ops.power(spikes(x), spikes(x)), "several signals"),
    "sign of a maximum": (lambda x: ops.sign(L.MaxPooling2D(2)(L.Conv2D(3, 2)(x))), "max-pooled"),
    "padding a maximum": (
        lambda x: ops.pad(L.MaxPooling2D(2)(L.Conv2D(3, 2)(x)), ((0, 0), (1, 1), (0, 0), (0, 0)), constant_values=1),
        "pads values",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_that_are_not_exact_are_refused(name: str) -> None:
    change, message = REFUSED[name]
    inputs = keras.Input((6, 5, 2))
    with pytest.raises(UnsupportedLayerError, match=message):
        strop.lower(keras.Model(inputs, L.Dense(2)(change(inputs))))


# Inputs of whole numbers ----------------------------------------------------------------------------------------------

CASTS: dict[str, Change] = {
    "rescaling": lambda x: L.Rescaling(1 / 255, -0.5)(x),
    "normalization": lambda x: L.Normalization(mean=[100.0, 90.0], variance=[400.0, 900.0])(x),
    "cast": lambda x: ops.cast(x, "float32") / 64.0,
    "division": lambda x: x / 255,
    "a float": lambda x: x * 0.01 - 1.0,
    "batch normalisation": lambda x: L.BatchNormalization()(x),
    "moved before": lambda x: L.Rescaling(1 / 255)(L.ZeroPadding2D(1)(L.Permute((2, 1, 3))(x))[:, 1:]),
    "augmented before": lambda x: L.Rescaling(1 / 255)(L.Dropout(0.5)(L.RandomFlip()(x))),
    "dense": lambda x: L.Rescaling(0.01)(L.Dense(3)(x)),
    "joined before": lambda x: L.Rescaling(1 / 255)(L.Concatenate()([x, x])),
}


@pytest.mark.parametrize("encoding", ["host", "bitplane", "current"])
@pytest.mark.parametrize("name", CASTS)
def test_inputs_of_whole_numbers_are_cast_where_keras_casts_them(name: str, encoding: str) -> None:
    x = keras.Input((5, 4, 2), dtype="uint8")
    made = keras.Model(x, spike()(L.Dense(3)(L.Flatten()(spike()(L.Conv2D(3, 2)(CASTS[name](x)))))))
    for seed in range(20):
        randomise(made, np.random.default_rng(seed))
        frames = np.random.default_rng(1).integers(0, 256, (40, 5, 4, 2)).astype(np.float32)
        graph = strop.lower(made, encoding)
        fired = strop.simulate(graph, frames, "reference")
        if all(0 < np.count_nonzero(s) < s.size for s in fired.spikes.values()):
            break
    else:
        pytest.fail("nothing is proved by a network that is all silent or all firing")
    report = strop.verify(made, frames, backends=("reference",), encoding=encoding)
    assert report.passed, str(report)
    np.testing.assert_array_equal(fired.output, made.predict(frames.astype(np.uint8), verbose=0) >= 0.5)


@pytest.mark.parametrize(("dtype", "highest"), [("bool", 1), ("int32", 300), ("uint16", 60000)])
def test_other_whole_dtypes(dtype: str, highest: int) -> None:
    x = keras.Input((6,), dtype=dtype)
    made = keras.Model(x, spike()(L.Dense(9)(L.Rescaling(1.0 / highest)(x))))
    randomise(made, np.random.default_rng(0))
    frames = np.random.default_rng(1).integers(0, highest + 1, (40, 6)).astype(np.float32)
    fired = strop.simulate(strop.lower(made), frames, "reference").output
    assert 0 < np.count_nonzero(fired) < fired.size
    np.testing.assert_array_equal(fired, made.predict(frames.astype(dtype), verbose=0) >= 0.5)
    assert strop.verify(made, frames, backends=("reference",)).passed


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x - 128,
        lambda x: x * 2,
        lambda x: L.Add()([x, x]),
        lambda x: L.MaxPooling2D(2)(x),
        lambda x: ops.cast(x, "int32") * 2,
        lambda x: ops.cast(x > 100, "float32"),
    ],
)
def test_arithmetic_with_whole_numbers_is_refused(change: Change) -> None:
    """With uint8, Keras's `x - 128` wraps round."""
    x = keras.Input((6, 4, 2), dtype="uint8")
    with pytest.raises(UnsupportedLayerError, match="whole numbers|casts to int32"):
        strop.lower(keras.Model(x, spike()(L.Dense(3)(L.Rescaling(1.0)(change(x))))))


def test_a_value_that_keras_rounds_by_its_place_is_no_fault() -> None:
    # TensorFlow's vectors have another sigmoid(1) than what is left of a frame behind them.
    inputs = keras.Input((18,))
    spikes = strop.keras.SpikingBReLU(sharpness=1.0)(inputs)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(spikes))
    report = strop.verify(model, np.random.default_rng(0).random((12, 18)).astype(np.float32), backends=["reference"])
    assert report.keras is not None
    assert report.keras.faults == 0
    assert all(output.faults == 0 for output in report.keras.outputs)
    assert not any("values" in problem for problem in report.problems())
