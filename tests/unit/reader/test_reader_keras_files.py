"""`.keras` files: those of Keras 3, zipped or as folders, and those that tf.keras wrote under the same
name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.keras import SoftmaxDecode, SpikingBReLU, SpikingSigmoid
from strop.reader import load_model

KEY = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


@pytest.fixture
def model(draw: Callable[..., Any]) -> Any:
    layers = keras.layers
    frames = keras.Input((6,), name="frames")
    x = layers.Dense(4, activation=SpikingBReLU(0.75), name="first")(frames)
    x = layers.BatchNormalization(name="norm")(x)
    nested = [
        keras.Input((4,)),
        layers.Dense(3, name="second"),
        layers.Dropout(0.5),
        SpikingSigmoid(0.25, name="s"),
    ]
    model = keras.Model(frames, SoftmaxDecode(KEY, name="decode")(keras.Sequential(nested, name="nested")(x)))
    for weight in model.weights:
        if weight.name not in ("sharpness", "moving_variance"):
            weight.assign(draw(*weight.shape))
    return model


@pytest.fixture
def saved(model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    model.save(path)
    return path


def assert_same(found: Any, expected: Any, frames: Any) -> None:
    reference = np.asarray(expected(frames))
    assert len(np.unique(reference)) > 2, "a constant output would show nothing"
    np.testing.assert_array_equal(np.asarray(found(frames)), reference)


def test_keras_file_opens_with_its_sharpness(saved: Path, model: Any, draw: Any) -> None:
    found = load_model(saved)
    assert found.get_layer("first").activation.sharpness == 0.75
    assert not found.compiled
    assert_same(found, model, draw(50, 6))


def test_path_may_be_a_string(saved: Path, model: Any, draw: Any) -> None:
    assert_same(load_model(str(saved)), model, draw(50, 6))


@pytest.mark.parametrize("name", ["model.bin", "model", "model.h5"])
def test_content_counts_and_not_the_extension(saved: Path, model: Any, draw: Any, name: str) -> None:
    assert_same(load_model(saved.rename(saved.with_name(name))), model, draw(50, 6))


def test_unzipped_keras_folder(model: Any, tmp_path: Path, draw: Any) -> None:
    model.save(tmp_path / "folder", zipped=False)
    assert_same(load_model(tmp_path / "folder"), model, draw(50, 6))


def test_trained_model_with_optimizer_state(model: Any, tmp_path: Path, draw: Any) -> None:
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(draw(8, 6), np.arange(8) % 2, epochs=1, verbose=0)
    model.save(tmp_path / "trained.keras")
    found = load_model(tmp_path / "trained.keras")
    assert not found.compiled
    assert_same(found, model, draw(50, 6))


def test_old_whetstone_names_in_a_keras_file(saved: Path, old_files: Any, model: Any, draw: Any) -> None:
    def rename(config: str) -> str:
        config = config.replace('"module": "strop.keras.activations"', '"module": "whetstone.layers"')
        config = config.replace('"strop>SpikingBReLU"', '"Custom>Spiking_BRelu"')
        return config.replace('"class_name": "SpikingBReLU"', '"class_name": "Spiking_BRelu"')

    assert_same(load_model(old_files.edited_zip(saved, config=rename)), model, draw(50, 6))


def test_lambda_layer_is_refused_without_running_it(tmp_path: Path) -> None:
    witness = tmp_path / "code_ran"
    place = str(witness)
    trap = keras.layers.Lambda(lambda x: __import__("os").mkdir(place) or x, name="trap", output_shape=(3,))
    keras.Sequential([keras.Input((3,)), trap]).save(tmp_path / "trap.keras")
    with pytest.raises(UnsupportedLayerError, match=r"layer 'trap' is a Lambda.*replace it by built-in Keras layers"):
        load_model(tmp_path / "trap.keras")
    assert not witness.exists()
    keras.saving.load_model(tmp_path / "trap.keras", safe_mode=False)(np.zeros((1, 3), np.float32))
    assert witness.exists(), "the trap must be live, or its silence shows nothing"


def test_unregistered_class_is_refused_by_layer(tmp_path: Path) -> None:
    class Doubler(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 2 * x

    keras.Sequential([keras.Input((3,)), Doubler(name="twice")]).save(tmp_path / "own.keras")
    with pytest.raises(UnsupportedLayerError, match="layer 'twice' is or uses the class 'Doubler' of the module"):
        load_model(tmp_path / "own.keras")


def test_registered_class_of_the_user_is_his_own_responsibility(tmp_path: Path, draw: Any) -> None:
    @keras.saving.register_keras_serializable(package="reader_tests")
    class Tripler(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 3 * x

    own = keras.Sequential([keras.Input((3,)), Tripler(name="thrice")])
    own.save(tmp_path / "own.keras")
    assert_same(load_model(tmp_path / "own.keras"), own, draw(5, 3))


def at_dense(old: str, new: str) -> Callable[[str], str]:
    return lambda config: config.replace(old, new, 1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            at_dense('"keras.layers", "class_name": "BatchNormalization"', '"os", "class_name": "system"'),
            "layer 'norm' is or uses the class 'system' of the module 'os'",
        ),
        (
            at_dense('"class_name": "BatchNormalization"', '"class_name": "Batch"'),
            "layer 'norm' .* class 'Batch'",
        ),
        (
            at_dense('"class_name": "BatchNormalization"', '"class_name": "TFSMLayer"'),
            "layer 'norm' is a TFSMLayer",
        ),
        (
            at_dense('"class_name": "BatchNormalization"', '"class_name": "Lambda"'),
            "layer 'norm' is a Lambda",
        ),
        (
            at_dense('"activation": "linear"', '"activation": "my_step"'),
            "layer 'second' uses the function 'my_step'",
        ),
        (
            at_dense(
                '"activation": "linear"',
                '"activation": {"module": "builtins", "class_name": "function", "config": "my_step"}',
            ),
            "layer 'second' uses the function 'my_step'",
        ),
        (
            at_dense('"activation": "linear"', '"activation": {"class_name": "__lambda__", "config": {}}'),
            "layer 'second' is a Lambda",
        ),
    ],
)
def test_foreign_classes_and_functions_are_refused_by_layer(
    saved: Path, old_files: Any, edit: Any, message: str
) -> None:
    with pytest.raises(UnsupportedLayerError, match=message):
        load_model(old_files.edited_zip(saved, config=edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda h5: h5["layers/dense/vars/0"].__setitem__((0, 0), np.nan),
            "weight 'kernel' of 'first/kernel', shape",
        ),
        (
            lambda h5: h5["layers/dense/activation/vars/0"].__setitem__((), 7.0),
            r"sharpness of .* is 7\.0, not in",
        ),
        (lambda h5: h5["layers/dense/vars"].__delitem__("1"), "'first' expected 2 variables, but received 1"),
        (lambda h5: h5["layers"].__delitem__("dense"), "'first' expected 2 variables, but received 0"),
        (
            lambda h5: h5["layers/sequential"].__delitem__("layers"),
            "'second' expected 2 variables, but received 0",
        ),
        (
            lambda h5: h5["layers/dense/activation/vars"].__delitem__("0"),
            r"no values for the weight '.*/sharpness' of shape \(\)",
        ),
        (
            lambda h5: h5.create_dataset("layers/extra/vars/0", data=np.ones(3)),
            r"no layer has a place for the stored weight layers/extra/vars/0 \(3,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(saved: Path, old_files: Any, edit: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        load_model(old_files.edited_zip(saved, weights=edit))


def test_file_without_its_weights_is_refused(saved: Path, old_files: Any) -> None:
    with pytest.raises(ModelFileError, match=r"model\.weights\.h5"):
        load_model(old_files.edited_zip(saved, drop="model.weights.h5"))


def test_layer_sizes_that_differ_from_the_weights_are_refused(saved: Path, old_files: Any) -> None:
    with pytest.raises(ModelFileError, match="Keras cannot load it"):
        load_model(old_files.edited_zip(saved, config=at_dense('"units": 3', '"units": 5')))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"'])
def test_damaged_config_is_refused(saved: Path, old_files: Any, text: str) -> None:
    with pytest.raises(ModelFileError, match=r"config\.json in it is (damaged|no record)"):
        load_model(old_files.edited_zip(saved, config=lambda _: text))


def tf_keras_config(files: Any) -> dict[str, Any]:
    inner = {"name": "inner", "layers": [files.dense("c", 3, batch_input_shape=[None, 3])]}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": "net",
            "layers": [
                files.layer("InputLayer", "frames", batch_input_shape=[None, 3], dtype="float32", sparse=False),
                files.dense("a", 3),
                files.layer("Spiking_BRelu", "s1", sharpness=0.25),
                files.dense("b", 3),
                files.layer("Custom>Spiking_BRelu", "s2", sharpness=1.0),
                {"module": "keras", "class_name": "Sequential", "config": inner, "registered_name": None},
                files.layer("Softmax_Decode", "decode", key=KEY),
            ],
        },
        "registered_name": None,
    }


@pytest.mark.parametrize(
    ("top", "second"), [("layers", "_1"), ("_layer_checkpoint_dependencies", "_2")], ids=["2.15", "2.13"]
)
def test_keras_files_of_tf_keras(old_files: Any, draw: Any, top: str, second: str) -> None:
    arrays = {name: (draw(3, 3), draw(3)) for name in "abc"}
    places = {"a": f"{top}/dense", "b": f"{top}/dense{second}", "c": f"{top}/sequential/{top}/dense"}
    datasets = {f"{places[name]}/vars/{i}": arrays[name][i] for name in "abc" for i in (0, 1)}
    datasets |= {f"{top}/spiking_b_relu/vars/0": 1.0, f"{top}/spiking_b_relu{second}/vars/0": 1.0}
    datasets |= {f"{top}/softmax__decode/vars/0": 2 * np.array(KEY).T - 1, "optimizer/vars/0": draw(5)}
    model = load_model(old_files.tf_keras_zip(tf_keras_config(old_files), datasets))
    assert [model.get_layer(name).sharpness for name in ("s1", "s2")] == [
        1.0,
        1.0,
    ]  # as stored, not as configured
    frames = draw(40, 3)
    spikes = frames
    for name in "ab":
        spikes = (spikes @ arrays[name][0] + arrays[name][1] >= 0.5).astype(np.float32)
    logits = (2 * (spikes @ arrays["c"][0] + arrays["c"][1]) - 1) @ (2 * np.array(KEY).T - 1)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(model(frames)), expected, rtol=0, atol=1e-5)


def test_keras_file_of_tf_keras_with_a_missing_weight_is_refused(old_files: Any, draw: Any) -> None:
    datasets = {f"layers/dense{n}/vars/{i}": draw(*[3] * (2 - i)) for n in ("", "_1") for i in (0, 1)}
    path = old_files.tf_keras_zip(tf_keras_config(old_files), datasets)
    with pytest.raises(ModelFileError, match=r"layer 'inner/c' needs the weight 'kernel' of shape \(3, 3\)"):
        load_model(path)


def test_functional_keras_file_of_tf_keras_names_a_module_that_is_not_imported(old_files: Any, draw: Any) -> None:
    config = {
        "module": "keras.src.engine.functional",
        "class_name": "Functional",
        "config": {
            "name": "net",
            "layers": [
                old_files.layer("InputLayer", "frames", [], batch_input_shape=[None, 3]),
                old_files.dense("a", 2, ["frames"]),
            ],
            "input_layers": [["frames", 0, 0]],
            "output_layers": [["a", 0, 0]],
        },
    }
    kernel, bias = draw(3, 2), draw(2)
    path = old_files.tf_keras_zip(config, {"layers/dense/vars/0": kernel, "layers/dense/vars/1": bias})
    frames = draw(10, 3)
    np.testing.assert_allclose(np.asarray(load_model(path)(frames)), frames @ kernel + bias, rtol=0, atol=1e-5)
    assert json.dumps(config).count("keras.src.engine") == 1
