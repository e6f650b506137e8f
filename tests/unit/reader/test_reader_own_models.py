"""Model classes of the user's own, with a `train_step` for instance: read as their base if they only call layers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import strop
from strop.errors import UnsupportedLayerError
from strop.keras import SpikingBReLU
from strop.reader import load_model

L = keras.layers
FRAMES = np.random.default_rng(4).integers(0, 9, (30, 5)).astype(np.float32) / 8


class OwnFunctional(keras.Model):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class OwnSequential(keras.Sequential):
    pass


class Turned(keras.Sequential):
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return super().call(1.0 - inputs, training=training)


class TurnedFunctional(keras.Model):
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return super().call(1.0 - inputs, training=training)


def chain(cls: Any) -> Any:
    return cls([keras.Input((5,)), L.Dense(7), SpikingBReLU(1.0), L.Dense(4), SpikingBReLU(1.0)])


def functional(cls: Any, inside: Any = None) -> Any:
    x = keras.Input((5,))
    y = SpikingBReLU(1.0)(L.Dense(4)(inside(x) if inside else SpikingBReLU(1.0)(L.Dense(7)(x))))
    return cls(x, y)


OWN = {cls.__name__: cls for cls in (OwnFunctional, OwnSequential, Turned, TurnedFunctional)}
MODELS = {
    "functional": lambda: functional(OwnFunctional),
    "Sequential": lambda: chain(OwnSequential),
    "nested": lambda: functional(keras.Model, chain(OwnSequential)),
}
OVERRIDING = {
    "functional": lambda: functional(TurnedFunctional),
    "Sequential": lambda: chain(Turned),
    "nested": lambda: functional(keras.Model, chain(Turned)),
}


def saved(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the format is an old one
        model.save(path)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", MODELS)
def test_classes_of_models_are_read_as_their_base_where_they_are_passed(name: str, suffix: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model = MODELS[name]()
    expected = np.asarray(model(FRAMES))
    assert len(np.unique(expected)) == 2
    read = load_model(saved(model, tmp_path / f"own{suffix}"), custom_objects=OWN)
    np.testing.assert_array_equal(np.asarray(read(FRAMES)), expected)
    assert strop.verify(read, FRAMES, backends="reference").passed


@pytest.mark.parametrize("name", ["functional", "Sequential"])
def test_a_class_of_models_that_was_not_passed_is_named_with_the_way_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"class of its own, 'Own.*custom_objects=\{'Own.*': ...\}"):
        load_model(saved(MODELS[name](), tmp_path / "own.h5"))


@pytest.mark.parametrize("name", OVERRIDING)
def test_models_that_do_more_than_call_their_layers_are_refused(name: str, tmp_path: Path) -> None:
    model = OVERRIDING[name]()
    with pytest.raises(UnsupportedLayerError, match=r"\(Turned.*overrides call\(\), so what it computes is not known"):
        strop.lower(model)
    with pytest.raises(UnsupportedLayerError, match=r"class 'Turned.*overrides call\(\), so what it computes is not k"):
        load_model(saved(model, tmp_path / "turned.h5"), custom_objects=OWN)
