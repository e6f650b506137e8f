"""Saving and loading: sharpness, thresholds and keys survive, with no custom object named; old names open."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as kl

import strop.keras as sk


def network():
    i = keras.Input((8, 8, 1))
    x = kl.Conv2D(4, 3, activation=sk.SpikingBReLU(0.3, name="conv_act"))(i)
    x = kl.BatchNormalization()(x)
    x = sk.SpikingBReLU(1.0, name="sharp")(x)
    x = kl.Dense(6)(kl.Flatten()(x))
    inner = keras.Sequential([keras.Input((6,)), sk.SpikingSigmoid(0.7, name="nested")], name="inner")
    x = kl.Dense(20, activation=sk.SpikingBReLU(name="dense_act"))(inner(x))
    return keras.Model(i, sk.SoftmaxDecode(sk.key_generator(10, 20, seed=1), name="decode")(x))


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = network()
    sk.set_sharpness(model, {"dense_act": 0.45})  # not what the constructor was given
    frames = np.random.default_rng(0).random((16, 8, 8, 1), np.float32)
    return model, frames, model.predict(frames, verbose=0)


SHARPNESS = {"conv_act": 0.3, "sharp": 1.0, "nested": 0.7, "dense_act": 0.45}


def test_saved_model_loads_with_nothing_named_and_predicts_the_same(trained, tmp_path):
    model, frames, expected = trained
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert sk.get_sharpness(loaded) == SHARPNESS
    np.testing.assert_array_equal(loaded.get_layer("decode").key, model.get_layer("decode").key)
    np.testing.assert_array_equal(loaded.predict(frames, verbose=0), expected)


def test_fresh_process_needs_only_the_import(trained, tmp_path):
    model, frames, expected = trained
    model.save(tmp_path / "net.keras")
    np.savez(tmp_path / "case.npz", frames=frames, expected=expected)
    code = (
        "import sys, keras, numpy as np, strop.keras as sk; folder = sys.argv[1];"
        "case = np.load(folder + '/case.npz'); model = keras.saving.load_model(folder + '/net.keras');"
        "np.testing.assert_array_equal(model.predict(case['frames'], verbose=0), case['expected']);"
        "print(sk.get_sharpness(model))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(SHARPNESS)


def test_clone_keeps_sharpness_and_weights_files_carry_it(trained, tmp_path):
    model, frames, expected = trained
    clone = keras.models.clone_model(model)
    assert sk.get_sharpness(clone) == SHARPNESS
    model.save_weights(tmp_path / "net.weights.h5")
    sk.set_sharpness(clone, 0.0)
    clone.load_weights(tmp_path / "net.weights.h5")
    assert sk.get_sharpness(clone) == SHARPNESS
    np.testing.assert_array_equal(clone.predict(frames, verbose=0), expected)


def test_one_activation_shared_by_two_layers_loads_again(tmp_path):
    act = sk.SpikingBReLU(0.25)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, activation=act), kl.Dense(5, activation=act)])
    act.sharpness = 0.75
    model.save(tmp_path / "shared.keras")
    loaded = keras.saving.load_model(tmp_path / "shared.keras")
    assert set(sk.get_sharpness(loaded).values()) == {0.75}
    x = np.random.default_rng(0).random((9, 4), np.float32)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_json_of_a_model_opens_as_the_same_architecture(trained):
    model, _, _ = trained
    again = keras.models.model_from_json(model.to_json())
    assert sk.get_sharpness(again) == SHARPNESS
    assert again.get_layer("decode").get_config() == model.get_layer("decode").get_config()


def test_training_goes_on_after_loading(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), kl.Dense(8, activation=sk.SpikingBReLU()), kl.Dense(1)])
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).random((32, 4), np.float32), np.ones((32, 1), np.float32)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[sk.SimpleSharpener(0, steps=4)])
    assert list(sk.get_sharpness(model).values()) == [0.75]
    model.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    history = loaded.fit(x, y, epochs=9, initial_epoch=3, verbose=0, callbacks=[sk.SimpleSharpener(0, steps=4)])
    assert history.epoch == [3, 4]
    assert history.history["sharpness"] == [0.75, 1.0]


@pytest.mark.parametrize("wrapper", [{}, {"module": "whetstone.layers", "registered_name": "NAME"}])
@pytest.mark.parametrize("name", ["Spiking_BRelu", "Spiking_Sigmoid"])
def test_old_activation_names_open_as_ours(name, wrapper):
    config = {"class_name": name, "config": {"name": "old", "trainable": True, "sharpness": 1.0}}
    config |= {key: value.replace("NAME", name) for key, value in wrapper.items()}
    layer = keras.layers.deserialize(config)
    assert type(layer) is sk.LEGACY_OBJECTS[name] is getattr(sk, name)
    assert layer.sharpness == 1.0
    assert layer.name == "old"


def test_old_decoder_with_its_dict_of_a_key_opens_as_ours():
    key = {"type": "ndarray", "value": [[1, 0, 1], [0, 1, 1]]}
    config = {"class_name": "Softmax_Decode", "config": {"name": "old", "trainable": True, "key": key}}
    layer = keras.layers.deserialize(config)
    assert type(layer) is sk.SoftmaxDecode is sk.Softmax_Decode
    np.testing.assert_array_equal(layer.key, np.float32(key["value"]))


def test_models_that_we_write_name_our_classes(trained):
    text = trained[0].to_json()
    assert "strop>SpikingBReLU" in text
    assert "Spiking_BRelu" not in text
