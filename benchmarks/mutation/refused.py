"""Models and frames that must be refused: where a mutant takes them, the verification must fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from outcome import Case
from random_networks import randomise

from strop.keras import Heaviside, SpikingBReLU, SpikingSigmoid

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "unit" / "lowering"))
import test_lowering_nothing_in_silence as silent
import test_lowering_refusals as refusals

L = keras.layers
ops = keras.ops


def _spike() -> Any:
    return SpikingBReLU(1.0)


def _functional(shape: tuple[int, ...], *layers: Any) -> keras.Model:
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def _models() -> Iterator[tuple[str, Any]]:
    for name, (make, _) in refusals.REFUSED.items():
        yield name, make
    for name, (layers, _) in silent.REFUSED.items():
        yield name, lambda layers=layers: silent.sequential(silent.IMAGE, *layers())
    yield "half sharpened", lambda: _functional((6,), L.Dense(5), SpikingSigmoid(1.0), L.Dense(4), SpikingBReLU(0.5))
    yield "sharpened by half, as an argument", lambda: _functional((6,), L.Dense(5, activation=SpikingBReLU(0.25)))
    yield "a low-rank update", lambda: silent.tuned(L.Dense(5))
    yield "softmax in the middle", lambda: _functional((6,), L.Dense(5), _spike(), L.Softmax(), L.Dense(3), _spike())
    yield "softmax of values", lambda: _functional((6,), L.Dense(5), L.Softmax(), L.Dense(3), _spike())
    yield "maximum of values", lambda: _merge(L.Maximum)
    yield "product of values", lambda: _merge(L.Multiply)
    yield "quotient of spikes", _quotient
    yield "rolled over frames", lambda: _functional((4,), L.Dense(4), _spike(), lambda x: ops.roll(x, 1, axis=0))
    yield "sum over frames", lambda: _functional((4,), L.Dense(4), _spike(), lambda x: x - ops.sum(x, 0, keepdims=True))
    yield "compared with an array", lambda: _functional((4,), L.Dense(3), lambda x: x >= np.float32([0.1, 0.2, 0.3]))
    yield "half a step at zero", lambda: _functional((4,), L.Dense(3), lambda x: ops.heaviside(x, np.float32(0.5)))
    yield "chosen between signals", lambda: _functional((4,), L.Dense(4), lambda x: ops.where(x >= 0, x, 0.5 * x))
    yield (
        "cast to whole numbers",
        lambda: _functional((4,), L.Dense(4), lambda x: ops.cast(ops.cast(x, "int32"), "float32")),
    )
    yield (
        "resized by no whole factor",
        lambda: _functional((4, 4, 1), L.Conv2D(2, 1), _spike(), L.Resizing(6, 6, "nearest")),
    )
    yield "resized bilinearly", lambda: _functional((4, 4, 1), L.Conv2D(2, 1), _spike(), L.Resizing(8, 8))
    yield "cropped to more", lambda: _functional((4, 4, 1), L.Conv2D(2, 1), _spike(), L.CenterCrop(6, 6))
    yield (
        "inverted normalisation",
        lambda: _functional(
            (4,), L.Normalization(mean=[1.0] * 4, variance=[2.0] * 4, invert=True), L.Dense(3), _spike()
        ),
    )
    yield (
        "normalised maxima pooled again",
        lambda: _functional(
            *((8, 8, 1), L.Conv2D(2, 2), L.MaxPooling2D(2), L.BatchNormalization(), L.MaxPooling2D(2), _spike())
        ),
    )
    yield "sum with maxima", _sum_with_maxima
    yield "softmax of maxima", lambda: _functional((6, 6, 1), L.Conv2D(2, 2), L.MaxPooling2D(2), L.Softmax())
    yield (
        "spikes scaled by place, pooled",
        lambda: _functional(
            *(
                (6, 6, 1),
                L.Conv2D(2, 3),
                _spike(),
                L.Reshape((32,)),
                L.BatchNormalization(),
                L.Reshape((4, 4, 2)),
                L.MaxPooling2D(2),
            )
        ),
    )
    yield "too many products", lambda: _many_products()
    yield "a nested model in training", _nested_in_training
    yield "softmax over two axes", lambda: _functional((4, 3), L.Dense(3), _spike(), L.Softmax(axis=(1, 2)))
    yield (
        "softmax of ops over two axes",
        lambda: _functional((4, 3), L.Dense(3), _spike(), lambda x: ops.softmax(x, (1, 2))),
    )
    yield (
        "as wide as deep, channels first",
        lambda: _functional((2, 4, 4), L.Conv2D(3, 2, data_format="channels_first"), _spike()),
    )
    yield (
        "normalised over two axes",
        lambda: _functional((4, 3), L.Dense(3), L.BatchNormalization(axis=[1, 2]), _spike()),
    )
    yield (
        "an infinite constant",
        lambda: _functional((4,), L.Dense(4), _spike(), lambda x: x * np.float32([1.0, np.inf, 1.0, 1.0])),
    )
    yield (
        "a constant of another shape",
        lambda: _functional((4, 4), L.Dense(4), lambda x: x + np.ones((3, 4, 4, 4), np.float32)[0], _spike()),
    )
    yield "spikes summed over axes of frames", _other_ranks
    yield "a scalar per frame", _scalar
    yield "whole numbers as frames", lambda: keras.Model(x := keras.Input((5,), dtype="int16"), _spike()(L.Dense(4)(x)))
    yield "a layer on a constant", _on_a_constant
    yield (
        "chosen by values",
        lambda: _functional((4,), L.Dense(4), lambda x: ops.where(x, 1.0, 2.0), L.Dense(3), _spike()),
    )


def _merge(cls: Any) -> keras.Model:
    x = keras.Input((5,))
    return keras.Model(x, _spike()(cls()([L.Dense(4)(x), _spike()(L.Dense(4)(x))])))


def _quotient() -> keras.Model:
    x = keras.Input((5,))
    a, b = _spike()(L.Dense(4)(x)), Heaviside(0.0, 1.0, 2.0)(L.Dense(4)(x))
    return keras.Model(x, _spike()(L.Dense(3)(a / b)))


def _sum_with_maxima() -> keras.Model:
    x = keras.Input((6, 6, 1))
    return keras.Model(x, _spike()(L.Add()([L.MaxPooling2D(2)(L.Conv2D(2, 1)(x)), L.Conv2D(2, 2, 2)(x)])))


def _many_products() -> keras.Model:
    x = keras.Input((5,))
    return keras.Model(x, L.Multiply()([Heaviside(0.1, -1.0, 1.0)(L.Dense(4)(x)) for _ in range(5)]))


def _nested_in_training() -> keras.Model:
    x = keras.Input((5,))
    inner = keras.Sequential([L.Input((5,)), L.Dense(4), _spike(), L.Dropout(0.5)])
    return keras.Model(x, _spike()(L.Dense(3)(inner(x, training=True))))


def _other_ranks() -> keras.Model:
    x = keras.Input((5,))
    a = _spike()(L.Dense(4)(x))
    return keras.Model(x, _spike()(L.Dense(3)(L.Reshape((1, 4))(a) + a)))


def _scalar() -> keras.Model:
    x = keras.Input(())
    return keras.Model(x, _spike()(L.Dense(3)(L.Reshape((1,))(x))))


def _on_a_constant() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, L.Add()([_spike()(L.Dense(4)(x)), np.ones((1, 4), np.float32)]))


def _sound() -> keras.Model:
    model = _functional((6,), L.Dense(5), _spike(), L.Dense(3))
    randomise(model, np.random.default_rng(3), coarse=True)
    return model


def _two_inputs() -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], _spike()(L.Dense(4)(L.Concatenate()([a, b]))))
    randomise(model, np.random.default_rng(3), coarse=True)
    return model


def _frames(model: Any, count: int = 12) -> Any:
    rng = np.random.default_rng(6)
    shapes = [(count, *(n or 6 for n in tensor.shape[1:])) for tensor in model.inputs]
    arrays = [(rng.integers(0, 9, shape) / 8).astype(np.float32) for shape in shapes]
    return arrays[0] if len(arrays) == 1 else arrays


def cases() -> list[Case]:
    """Return the cases whose right answer is an error of one line."""
    found = []
    for name, make in dict(_models()).items():
        try:
            model = make()
        except Exception as error:  # what this version of Keras cannot make
            print(f"not in the battery: {name}: {type(error).__name__}: {str(error)[:100]}")
            continue
        if model.built and "finite" not in name and name != "subclassed model":
            sharpness = [float(layer.sharpness) for layer in model._flatten_layers() if hasattr(layer, "sharpness")]
            randomise(model, np.random.default_rng(5), coarse=False)
            assert sharpness == [
                float(layer.sharpness) for layer in model._flatten_layers() if hasattr(layer, "sharpness")
            ]
        frames = np.zeros((4, 4), np.float32) if name == "subclassed model" else _frames(model)
        found.append(Case(f"refused: {name}", "refused", model, frames))
    sick = _sound()
    sick.layers[1].kernel.assign(np.full((6, 5), np.nan))
    found.append(Case("refused: weights that are no numbers", "refused", sick, _frames(sick)))
    model = _sound()
    good = _frames(model)
    bad: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "frames of another shape": (good[:, :5], None, {}),
        "no frames": (good[:0], None, {}),
        "frames that are no numbers": (np.where(good == 0, np.nan, good), None, {}),
        "frames of words": (good.astype(str), None, {}),
        "too wide frames": (np.tile(good, 2), None, {}),
        "labels of another number": (good, np.zeros(11, int), {}),
        "labels of three axes": (good, np.zeros((12, 2, 2), int), {}),
        "an unknown encoding": (good, None, {"encoding": "rate"}),
        "an unknown decision": (good, None, {"decision": "dice"}),
        "bits without planes": (good, None, {"bits": 4}),
        "values between the planes": (good * np.float32(0.3), None, {"encoding": "bitplane"}),
        "values between planes with a step": (good, None, {"encoding": "bitplane", "bits": 4, "step": 0.3}),
        "bits of no input": (good, None, {"encoding": "bitplane", "bits": {"nobody": 3}}),
        "bits that are no number": (good, None, {"encoding": "bitplane", "bits": "8"}),
        "bits that are no whole number": (good, None, {"encoding": "bitplane", "bits": 7.5}),
    }
    for name, (frames, labels, options) in bad.items():
        found.append(Case(f"refused: {name}", "refused", model, frames, labels, options))
    two = _two_inputs()
    a, b = _frames(two)
    for name, given in {
        "one array for two inputs": a,
        "one array in a list for two inputs": [a],
        "inputs of different numbers": [a, b[:7]],
        "an input missing": {"a": a},
        "an input of another name": {"a": a, "c": b},
    }.items():
        found.append(Case(f"refused: {name}", "refused", two, given))
    found.append(Case("refused: a word for a model", "refused", "model.keras", good))
    return found
