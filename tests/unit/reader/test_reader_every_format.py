"""Every row of docs/model-files.md: written by the real Keras 3 and the real Keras 2, read back, and verified."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import file_models
import keras
import numpy as np
import pytest
from file_models import Library

import strop
from strop.errors import UnsupportedLayerError
from strop.keras import SpikingBReLU, declare_threshold
from strop.reader.coverage import FORMATS, NOT_IN_KERAS_2, NOT_WRITTEN_AS_H5, layer_rows

KERAS_3, KERAS_2 = FORMATS[:2], FORMATS[2:]
SUFFIXES = {
    "Keras 3 .keras": ".keras",
    "Keras 3 .h5": ".h5",
    "Keras 2 .h5": ".h5",
    "Keras 2 .keras": ".keras",
    "Keras 2 SavedModel": "",
}
# Merging layers, the softmax, which ends a model, and what one format cannot hold are in models of their own.
APART = {*file_models.MERGED, "Softmax", *NOT_WRITTEN_AS_H5}
LAYERS = [row.name for row in layer_rows() if row.name not in APART]


@cache
def keras_2() -> Any:
    """Import tf_keras, which takes seconds and is found where `--keras-2` says."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # its SpectralNormalization reaches it through `tf.keras`
    return pytest.importorskip("tf_keras", reason="Keras 2 (tf_keras) is not installed: see tox -e legacy")


def library(number: int) -> Library:
    if number == 3:
        return Library(keras, keras.ops, lambda: SpikingBReLU(1.0), 3)
    return Library(keras_2(), __import__("tensorflow"), _spiking_layer_of_keras_2(), 2)


@cache
def _spiking_layer_of_keras_2() -> Callable[[], Any]:
    """Return Whetstone's layer as its ports to tf.keras have it."""
    tf_keras = keras_2()

    @tf_keras.saving.register_keras_serializable(package="whetstone")
    class Spiking_BRelu(tf_keras.layers.Layer):
        def __init__(self, sharpness: float = 1.0, **options: Any) -> None:
            super().__init__(**options)
            self.sharpness = sharpness

        def call(self, x: Any) -> Any:
            return tf_keras.backend.cast(tf_keras.backend.greater_equal(x, 0.5), "float32")

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "sharpness": self.sharpness}

    return lambda: Spiking_BRelu(1.0)


@pytest.fixture(autouse=True)
def fresh_names() -> Iterator[None]:
    keras.utils.clear_session(free_memory=False)  # names alone; collecting garbage takes longer than a test
    yield
    keras.utils.clear_session(free_memory=False)  # names alone; collecting garbage takes longer than a test


def write(model: Any, file_format: str, folder: Path) -> Path:
    path = folder / f"model{SUFFIXES[file_format]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the format is an old one
        if file_format == "Keras 2 SavedModel":
            model.save(path, save_format="tf")
        else:
            model.save(path)
    return path


def answers(model: Any, frames: list[Any]) -> list[Any]:
    """What a model of either Keras gives, its outputs flat in the order of their names."""
    inputs: Any = frames[0] if len(frames) == 1 else frames
    if len(frames) > 1 and isinstance(model.input, dict):
        inputs = keras.tree.pack_sequence_as(model.input, frames)
    return [np.asarray(output) for output in keras.tree.flatten(model(inputs, training=False))]


def with_random_weights(model: Any) -> tuple[list[Any], list[Any]]:
    """Randomise a model; return frames on which no output is constant, and what it gives for them."""
    constant: list[int] = []
    for attempt in range(30):
        rng = np.random.default_rng(attempt)
        # Of dozens of outputs one is constant more often than not; mostly it is enough to draw its own layer again.
        readouts = file_models.readouts(model) if attempt % 6 else []
        file_models.randomise(model, rng, [readouts[number] for number in constant] if readouts else ())
        if not readouts:
            frames = file_models.frames_for(model, rng)
        expected = answers(model, frames)
        constant = [number for number, output in enumerate(expected) if len(np.unique(output)) == 1]
        if not constant:
            return frames, expected
    pytest.fail(f"outputs {constant} are constant, which would show nothing")


def prove_read(model: Any, formats: tuple[str, ...], folder: Path, **options: Any) -> Any:
    """Write a model in each format and read it: the same answers, and no fault in its verification."""
    frames, expected = with_random_weights(model)
    for file_format in formats:
        read = strop.load_model(write(model, file_format, folder), **options)
        for mine, theirs in zip(answers(read, frames), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=file_format)
    report = strop.verify(read, frames[0] if len(frames) == 1 else frames, backends=("reference",))
    assert report.passed, str(report)
    return read


def groups(number: int) -> dict[tuple[int, ...], dict[str, Any]]:
    """Layers by the shape of the frames that they are shown; Keras 2 without those that it does not have."""
    found: dict[tuple[int, ...], dict[str, Any]] = {}
    for name in LAYERS:
        if (number == 2 and name in NOT_IN_KERAS_2) or (number == 3 and not hasattr(keras.layers, name)):
            continue
        shape, make = file_models.branch(name)
        found.setdefault(shape, {})[name] = make
    return found


SHAPES = [file_models.VECTOR, file_models.SEQUENCE, file_models.IMAGE, file_models.VOLUME]
VERSIONS = pytest.mark.parametrize(("number", "formats"), [(3, KERAS_3), (2, KERAS_2)], ids=["keras3", "keras2"])


@VERSIONS
@pytest.mark.parametrize("shape", SHAPES, ids=["vectors", "sequences", "images", "volumes"])
def test_every_layer_is_read_from_every_format(
    shape: tuple[int, ...], number: int, formats: tuple[str, ...], tmp_path: Path
) -> None:
    makers = groups(number)[shape]
    model = file_models.branches(library(number), shape, makers)
    read = prove_read(model, formats, tmp_path)
    for name in makers:
        assert type(read.get_layer(f"the_{name.lower()}")) is getattr(keras.layers, name)


def test_every_layer_of_the_table_is_in_a_group() -> None:
    missing = {name for name in LAYERS if not hasattr(keras.layers, name)}
    grouped = {name for makers in groups(3).values() for name in makers}
    assert grouped | missing | APART == {row.name for row in layer_rows()}
    assert set(groups(3)) == set(SHAPES)


def apart(number: int) -> dict[str, Any]:
    names = sorted(NOT_WRITTEN_AS_H5 - NOT_IN_KERAS_2 if number == 2 else NOT_WRITTEN_AS_H5)
    return {name: file_models.branch(name)[1] for name in names}


@VERSIONS
def test_layers_that_keras_3_cannot_write_as_h5_are_read_from_the_other_formats(
    number: int, formats: tuple[str, ...], tmp_path: Path
) -> None:
    model = file_models.branches(library(number), file_models.IMAGE, apart(number))
    prove_read(model, tuple(name for name in formats if name != "Keras 3 .h5"), tmp_path)


@pytest.mark.parametrize("name", sorted(NOT_WRITTEN_AS_H5))
def test_keras_3_cannot_write_these_layers_as_h5_or_they_are_read(name: str, tmp_path: Path) -> None:
    model = file_models.branches(library(3), file_models.IMAGE, {name: apart(3)[name]})
    with contextlib.suppress(TypeError):
        write(model, "Keras 3 .h5", tmp_path)
        prove_read(model, ("Keras 3 .h5",), tmp_path)  # a version of Keras that can
        return
    with pytest.raises(TypeError, match="cannot pickle 'module' object"):
        write(model, "Keras 3 .h5", tmp_path)


@VERSIONS
@pytest.mark.parametrize("name", file_models.STRUCTURES)
def test_every_structure_is_read_from_every_format(
    name: str, number: int, formats: tuple[str, ...], tmp_path: Path
) -> None:
    prove_read(file_models.STRUCTURES[name](library(number)), formats, tmp_path)


@VERSIONS
@pytest.mark.parametrize("name", file_models.OPERATIONS)
def test_operations_are_read_from_every_format(
    name: str, number: int, formats: tuple[str, ...], tmp_path: Path
) -> None:
    prove_read(file_models.OPERATIONS[name](library(number)), formats, tmp_path)


@keras.saving.register_keras_serializable(package="every_format")
class OwnStep(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.where(x >= 0.25, 1.0, -1.0)


@keras.saving.register_keras_serializable(package="every_format")
def own_sign(x: Any) -> Any:
    return keras.ops.where(x >= 0, 1.0, -1.0)


declare_threshold(OwnStep, at=0.25, low=-1.0, high=1.0)
declare_threshold(own_sign, at=0.0, low=-1.0, high=1.0)


def of_keras_2() -> tuple[Any, Any, Any]:
    """Return the layer and the function as a user of Keras 2 has them, and one that is not registered."""
    import tensorflow as tf

    tf_keras = keras_2()

    class OwnStep(tf_keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.where(x >= 0.25, 1.0, -1.0)

    def own_sign(x: Any) -> Any:
        return tf.where(x >= 0, 1.0, -1.0)

    def unregistered_sign(x: Any) -> Any:
        return own_sign(x)

    register = tf_keras.saving.register_keras_serializable(package="every_format")
    return register(OwnStep), register(own_sign), unregistered_sign


def test_classes_and_functions_of_the_users_own_are_read_from_keras_2(tmp_path: Path) -> None:
    layers = keras_2().layers
    step, sign, unregistered = of_keras_2()
    model = keras_2().Sequential(
        [
            keras_2().Input(file_models.VECTOR),
            layers.Dense(8),
            step(name="step"),
            layers.Dense(8, activation=sign),
            layers.Dense(8),
            layers.Activation(unregistered),
            layers.Dense(3),
            library(2).spike(),
        ]
    )
    read = prove_read(model, KERAS_2, tmp_path, custom_objects={"unregistered_sign": own_sign})
    assert type(read.get_layer("step")) is OwnStep
    with pytest.raises(UnsupportedLayerError, match=r"activation 'unregistered_sign'.*custom_objects"):
        strop.load_model(tmp_path / "model.h5")


def test_causal_separable_convolutions_of_keras_2_are_padded_in_front(tmp_path: Path) -> None:
    layers = keras_2().layers
    frames = keras_2().Input(file_models.SEQUENCE)
    x = library(2).spike()(layers.SeparableConv1D(4, 3, padding="causal", dilation_rate=2, name="causal")(frames))
    x = library(2).spike()(layers.SeparableConv1D(3, 2, padding="causal", depth_multiplier=2)(x))
    read = prove_read(keras_2().Model(frames, x), KERAS_2, tmp_path)
    assert read.get_layer("causal_padding").padding == (4, 0)


def test_layers_that_keras_2_lacks_are_named_as_such() -> None:
    layers = keras_2().layers
    assert sorted(NOT_IN_KERAS_2) == sorted(row.name for row in layer_rows() if not hasattr(layers, row.name))
