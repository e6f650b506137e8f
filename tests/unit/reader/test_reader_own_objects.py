"""Classes and functions of the user's own: found in Keras's registry or in `custom_objects`, never in the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import strop
from strop.errors import DataError, ModelFileError, StropError, UnsupportedLayerError
from strop.keras import Heaviside, SoftmaxDecode, SpikingBReLU, declare_threshold
from strop.reader import load_model


class OwnSign(keras.layers.Layer):
    """A threshold whose class nobody registered."""

    def call(self, x: Any) -> Any:
        return keras.ops.where(x >= 0, 1.0, -1.0)


@keras.saving.register_keras_serializable(package="own")
class RegisteredStep(keras.layers.Layer):
    """A registered threshold with an option and a weight that takes no part."""

    def __init__(self, low: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.low = low

    def build(self, shape: Any) -> None:
        self.seen = self.add_weight(shape=(3,), name="seen", trainable=False)

    def call(self, x: Any) -> Any:
        return keras.ops.where(x >= 0.5, 1.0, self.low)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low}


def own_step(x: Any) -> Any:
    return keras.ops.where(x >= 0.25, 1.0, 0.0)


@keras.saving.register_keras_serializable(package="own")
def registered_sign(x: Any) -> Any:
    return keras.ops.where(x >= 0, 1.0, -1.0)


declare_threshold(OwnSign, at=0.0, low=-1.0, high=1.0)
declare_threshold(RegisteredStep, at=0.5, low=-2.0, high=1.0)
declare_threshold(own_step, at=0.25)
declare_threshold(registered_sign, at=0.0, low=-1.0, high=1.0)

PASSED = {"OwnSign": OwnSign, "own_step": own_step}


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    keras.utils.clear_session(free_memory=False)  # names alone; collecting garbage takes longer than a test


def network() -> keras.Model:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8),
            OwnSign(name="own_sign"),
            layers.Dense(8),
            RegisteredStep(-2.0, name="registered_step"),
            layers.Dense(8, activation=own_step),
            layers.Dense(8),
            layers.Activation(registered_sign),
            layers.Dense(8),
            Heaviside(0.125, -1.0, 3.0, name="heaviside"),
            layers.Dense(8),
            SpikingBReLU(1.0, name="spikes"),
            SoftmaxDecode(np.eye(4, 8), name="decoder"),
        ]
    )
    rng = np.random.default_rng(4)
    for variable in model.weights:
        if variable.name == "sharpness":
            continue
        variable.assign(np.round(rng.normal(0, 0.6, variable.shape) * 8) / 8)
    return model


def saved(model: keras.Model, folder: Path, suffix: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder / f"model{suffix}")
    return folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_own_classes_and_functions_are_read_and_verified(tmp_path: Path, suffix: str) -> None:
    model = network()
    frames = np.random.default_rng(1).integers(0, 9, (50, 6)).astype(np.float32) / 8
    read = load_model(saved(model, tmp_path, suffix), custom_objects=PASSED)
    np.testing.assert_array_equal(np.asarray(read(frames)), np.asarray(model(frames)))
    assert type(read.get_layer("own_sign")) is OwnSign
    assert read.get_layer("registered_step").low == -2.0
    np.testing.assert_array_equal(read.get_layer("registered_step").seen, model.get_layer("registered_step").seen)
    assert (read.get_layer("heaviside").threshold, read.get_layer("heaviside").high) == (0.125, 3.0)
    report = strop.verify(read, frames, backends=("reference",))
    assert report.passed, str(report)
    assert report.keras is not None
    assert len(report.keras.layers) == 6


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_registered_scope_does_as_well(tmp_path: Path, suffix: str) -> None:
    with keras.saving.custom_object_scope(PASSED):
        assert load_model(saved(network(), tmp_path, suffix)).get_layer("own_sign").name == "own_sign"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("OwnSign", r"(layer 'own_sign' is of class 'OwnSign', which is neither|uses the class 'OwnSign').*custom_obj"),
        ("own_step", r"(activation|function) 'own_step'.*custom_objects"),
    ],
)
def test_what_was_not_passed_is_refused_with_the_way_out(
    tmp_path: Path, suffix: str, missing: str, message: str
) -> None:
    path = saved(network(), tmp_path, suffix)
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        load_model(path, {name: value for name, value in PASSED.items() if name != missing})
    assert "\n" not in str(caught.value)


def test_what_was_passed_comes_before_a_built_in_layer_of_the_name(tmp_path: Path) -> None:
    class Mine(keras.layers.Dense):
        pass

    path = saved(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), tmp_path, ".h5")
    assert type(load_model(path).layers[0]) is keras.layers.Dense
    assert type(load_model(path, {"Dense": Mine}).layers[0]) is Mine


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", ["own>RegisteredStep", "RegisteredStep"])
def test_a_class_registered_elsewhere_is_passed_by_either_name(
    tmp_path: Path, suffix: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(network(), tmp_path, suffix)
    monkeypatch.delitem(keras.saving.get_custom_objects(), "own>RegisteredStep")
    with pytest.raises(UnsupportedLayerError, match="RegisteredStep"):
        load_model(path, PASSED)
    read = load_model(path, {**PASSED, name: RegisteredStep})
    assert type(read.get_layer("registered_step")) is RegisteredStep


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([OwnSign], "custom_objects is a dictionary"),
        ({"OwnSign": 3}, "maps names to classes or functions"),
        ({OwnSign: OwnSign}, "maps names to classes or functions"),
    ],
)
def test_custom_objects_of_another_kind_are_refused(tmp_path: Path, wrong: Any, message: str) -> None:
    path = saved(network(), tmp_path, ".h5")
    with pytest.raises(DataError, match=message):
        load_model(path, wrong)


@pytest.mark.parametrize("suffix", [".h5"])
def test_a_class_that_is_no_layer_of_keras_3_is_refused(tmp_path: Path, suffix: str) -> None:
    class NoLayer:
        pass

    path = saved(network(), tmp_path, suffix)
    with pytest.raises(UnsupportedLayerError, match=r"'OwnSign'.*is no layer of Keras 3"):
        load_model(path, {**PASSED, "OwnSign": NoLayer})


class Wrapping(keras.layers.Layer):
    """Makes a layer from what its config holds, as wrappers do."""

    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__(**options)
        self.layer = keras.layers.deserialize(layer) if isinstance(layer, dict) else layer

    def call(self, x: Any) -> Any:
        return self.layer(x)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"module": "keras.layers", "class_name": "Lambda", "config": {"name": "trap"}}, "is a Lambda"),
        ({"module": "os", "class_name": "system", "config": {"name": "trap"}}, "the class 'system' of the module 'os'"),
    ],
)
def test_what_an_own_layer_would_deserialise_is_checked_first(tmp_path: Path, inner: Any, message: str) -> None:
    path = saved(keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]), tmp_path, ".h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        entry = {"class_name": "Wrapping", "config": {"name": "own", "layer": inner}}
        config["config"]["layers"].append(entry)
        file.attrs["model_config"] = json.dumps(config)
        file["model_weights"].create_group("own").attrs["weight_names"] = np.array([], dtype="S")
    with pytest.raises(UnsupportedLayerError, match=message):
        load_model(path, {"Wrapping": Wrapping})


def test_a_from_config_that_fails_is_one_error_that_names_the_layer(tmp_path: Path) -> None:
    class Demanding(OwnSign):
        def __init__(self, wanted: float, **options: Any) -> None:
            super().__init__(**options)

    path = saved(network(), tmp_path, ".h5")
    with pytest.raises(ModelFileError, match=r"layer 'own_sign': Demanding\.from_config does not take") as caught:
        load_model(path, {**PASSED, "OwnSign": Demanding})
    assert isinstance(caught.value, StropError)


def test_heaviside_and_declared_steps_load_from_h5_as_from_keras(tmp_path: Path) -> None:
    """In a process that has imported nothing of strop's training code."""
    code = (
        "import sys, numpy, strop\n"
        "graphs = [strop.lower(strop.load_model(path)) for path in sys.argv[1:]]\n"
        "print(*(graph.neurons for graph in graphs), graphs[0].digest == graphs[1].digest)\n"
    )
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5),
            Heaviside(0.25, -1.0, 2.0),
            keras.layers.Dense(3, activation=Heaviside(0.5)),
        ]
    )
    paths = [tmp_path / "net.h5", tmp_path / "net.keras"]
    for path in paths:
        model.save(path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [sys.executable, "-c", code, *map(str, paths)]
    run = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert run.stdout.split() == ["8", "8", "True"], run.stderr[-2000:]


def test_heaviside_without_a_package_names_strop_s_own(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), Heaviside(0.25, -1.0, 2.0)])
    model.save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "a") as file:
        config = file.attrs["model_config"].replace("strop>Heaviside", "Heaviside")
        file.attrs["model_config"] = config
    with pytest.raises(UnsupportedLayerError, match="strop's own is 'strop>Heaviside'"):
        load_model(tmp_path / "net.h5")
    opened = load_model(tmp_path / "net.h5", {"Heaviside": Heaviside})
    frames = np.linspace(-1, 1, 12).reshape(3, 4)
    np.testing.assert_array_equal(opened.predict(frames, verbose=0), model.predict(frames, verbose=0))
