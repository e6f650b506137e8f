"""Legacy HDF5 files of every generation, written here byte by byte or by Keras 3, against models built by
hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from legacy_models import (
    assert_same,
    functional_by_hand,
    functional_config,
    functional_weights,
    mlp_by_hand,
    mlp_config,
    mlp_weights,
)

from strop.errors import ModelFileError
from strop.keras import SoftmaxDecode, SpikingBReLU, SpikingSigmoid
from strop.reader import load_model


def test_bare_list_config_of_original_whetstone(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    model = load_model(old_files.hdf5("Sequential", mlp_config(old_files), weights))
    assert [layer.name for layer in model.layers] == list(weights)
    assert_same(model, mlp_by_hand(weights), draw(50, 3))


def test_dict_config_of_keras_2_2_3_and_later(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    config = {"name": "net", "layers": mlp_config(old_files)}
    model = load_model(old_files.hdf5("Sequential", config, weights, version="2.2.4"))
    assert model.name == "net"
    assert_same(model, mlp_by_hand(weights), draw(50, 3))


def test_input_layer_tuples_and_dtype_policies_of_tf_keras(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    shape = old_files.tuple_record(None, 3)
    policy = {"class_name": "Policy", "config": {"name": "float32"}}
    layers = mlp_config(old_files, first={"batch_input_shape": shape, "dtype": policy})
    layers.insert(0, old_files.layer("InputLayer", "frames", batch_input_shape=shape, sparse=False, ragged=False))
    config = {"name": "net", "layers": layers, "build_input_shape": shape}
    model = load_model(old_files.hdf5("Sequential", config, {"frames": {}, **weights}, version="2.4.0"))
    assert model.inputs[0].name == "frames"
    assert_same(model, mlp_by_hand(weights), draw(50, 3))


def test_input_shape_that_only_the_model_states(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    config = {"name": "net", "layers": mlp_config(old_files, first={}), "build_input_shape": [None, 3]}
    assert_same(load_model(old_files.hdf5("Sequential", config, weights)), mlp_by_hand(weights), draw(50, 3))


def test_input_shape_that_nobody_states_is_refused(old_files: Any, draw: Any) -> None:
    path = old_files.hdf5("Sequential", mlp_config(old_files, first={}), mlp_weights(draw))
    with pytest.raises(ModelFileError, match="does not tell its input shape; give its first layer an input_shape"):
        load_model(path)


def test_functional_model_with_shared_layers_skips_and_a_nested_model(old_files: Any, draw: Any, rng: Any) -> None:
    weights = functional_weights(draw, rng)
    model = load_model(old_files.hdf5("Model", functional_config(old_files), weights))
    assert model.get_layer("inner").get_layer("inner_spikes").sharpness == 1.0
    assert model.get_layer("norm").axis in (3, -1)
    assert_same(model, functional_by_hand(weights), draw(20, 8, 8, 1))


def test_calls_of_nested_models_counted_from_zero(old_files: Any, draw: Any, rng: Any) -> None:
    weights = functional_weights(draw, rng)
    config = functional_config(old_files)
    flat = next(entry for entry in config["layers"] if entry["name"] == "flat")
    flat["inbound_nodes"] = [[["inner", 0, 0, {}]]]
    model = load_model(old_files.hdf5("Functional", config, weights))
    assert_same(model, functional_by_hand(weights), draw(20, 8, 8, 1))


def test_layers_listed_in_any_order(old_files: Any, draw: Any, rng: Any) -> None:
    weights = functional_weights(draw, rng)
    config = functional_config(old_files)
    config["layers"].reverse()
    assert_same(load_model(old_files.hdf5("Model", config, weights)), functional_by_hand(weights), draw(20, 8, 8, 1))


def test_nested_models_without_names_take_their_weights_in_order(old_files: Any, draw: Any) -> None:
    # Keras before 2.2.3 wrote nested Sequential models as nameless lists.
    nested = [
        {"class_name": "Sequential", "config": [old_files.dense("a", 4, batch_input_shape=[None, 4])]},
        {"class_name": "Sequential", "config": [old_files.dense("b", 4, batch_input_shape=[None, 4])]},
        old_files.dense("c", 2),
    ]
    arrays = {name: (draw(4, size), draw(size)) for name, size in (("a", 4), ("b", 4), ("c", 2))}
    weights = {
        group: {f"{name}/kernel:0": arrays[name][0], f"{name}/bias:0": arrays[name][1]}
        for group, name in (("sequential_7", "a"), ("sequential_8", "b"), ("c", "c"))
    }
    model = load_model(old_files.hdf5("Sequential", nested, weights))
    frames = draw(10, 4)
    expected = frames
    for kernel, bias in arrays.values():
        expected = expected @ kernel + bias
    np.testing.assert_allclose(np.asarray(model(frames)), expected, rtol=1e-4, atol=1e-5)


def test_wrappers_and_nested_models_with_slashes_in_their_names_get_their_weights(old_files: Any, draw: Any) -> None:
    wrapped = old_files.dense("inside", 4)
    first = old_files.layer("TimeDistributed", "block/steps", layer=wrapped, batch_input_shape=[None, 2, 3])
    inner = {"name": "block/rest", "layers": [old_files.dense("in/side", 3, batch_input_shape=[None, 2, 4])]}
    nested = {"class_name": "Sequential", "config": inner}
    arrays = {"block/steps": (draw(3, 4), draw(4)), "block/rest": (draw(4, 3), draw(3))}
    scopes = {"block/steps": "block/steps", "block/rest": "in/side"}
    weights = {
        name: {f"{scopes[name]}/kernel:0": kernel, f"{scopes[name]}/bias:0": bias}
        for name, (kernel, bias) in arrays.items()
    }
    model = load_model(old_files.hdf5("Sequential", [first, nested], weights))
    frames = draw(10, 2, 3)
    expected = frames
    for kernel, bias in arrays.values():
        expected = expected @ kernel + bias
    np.testing.assert_allclose(np.asarray(model(frames)), expected, rtol=1e-4, atol=1e-5)


def test_frozen_layers_of_nested_models_get_their_own_weights(old_files: Any, draw: Any) -> None:
    # Keras 2 lists the weights of frozen layers last: a reader that goes by order swaps them.
    inner = {
        "name": "inner",
        "layers": [
            old_files.dense("first", 3, batch_input_shape=[None, 3], trainable=False),
            old_files.dense("second", 3),
        ],
    }
    arrays = {name: draw(3, 3) for name in ("second", "first")}
    biases = {name: draw(3) for name in arrays}
    stored = {
        f"{name}/{kind}:0": values[name] for name in arrays for kind, values in (("kernel", arrays), ("bias", biases))
    }
    config = [{"class_name": "Sequential", "config": inner}, old_files.dense("last", 2)]
    last = {"last/kernel:0": draw(3, 2), "last/bias:0": draw(2)}
    model = load_model(old_files.hdf5("Sequential", config, {"inner": stored, "last": last}))
    for name in arrays:
        np.testing.assert_array_equal(model.get_layer("inner").get_layer(name).kernel, arrays[name])
        np.testing.assert_array_equal(model.get_layer("inner").get_layer(name).bias, biases[name])


def test_weights_under_renamed_scopes_are_found_by_name_and_shape(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    weights["dense_2"] = {f"scope_9/{name.split('/')[1]}": value for name, value in weights["dense_2"].items()}
    renamed = old_files.hdf5("Sequential", mlp_config(old_files), weights)
    assert_same(load_model(renamed), mlp_by_hand(weights), draw(50, 3))


@pytest.mark.parametrize("name", ["sharpness:0", "Variable:0", "spiking_b_relu_1/Variable_3:0"])
def test_stored_sharpness_wins_over_the_config(old_files: Any, draw: Any, name: str) -> None:
    weights = mlp_weights(draw)
    weights["spiking_b_relu_1"] = {name: 0.75}
    model = load_model(old_files.hdf5("Sequential", mlp_config(old_files), weights))
    assert model.get_layer("spiking_b_relu_1").sharpness == 0.75
    assert model.get_layer("spiking__sigmoid_1").sharpness == 1.0


@pytest.mark.parametrize(
    "activation",
    [
        {"class_name": "Spiking_BRelu", "config": {"name": "act", "sharpness": 1.0, "dtype": "float32"}},
        {
            "module": "whetstone",
            "class_name": "Custom>Spiking_BRelu",
            "config": {"name": "act", "sharpness": 1.0},
        },
    ],
)
def test_spiking_layer_as_an_activation_argument(old_files: Any, draw: Any, activation: Any) -> None:
    config = [old_files.dense("d", 4, batch_input_shape=[None, 3], activation=activation)]
    kernel, bias = draw(3, 4), draw(4)
    model = load_model(old_files.hdf5("Sequential", config, {"d": {"d/kernel:0": kernel, "d/bias:0": bias}}))
    assert model.layers[0].activation.sharpness == 1.0
    frames = draw(40, 3)
    np.testing.assert_array_equal(np.asarray(model(frames)), frames @ kernel + bias >= 0.5)


def test_spiking_activation_given_by_name_needs_a_stored_sharpness(old_files: Any, draw: Any) -> None:
    config = [old_files.dense("d", 4, batch_input_shape=[None, 3], activation="Spiking_BRelu")]
    weights = {"d/kernel:0": draw(3, 4), "d/bias:0": draw(4)}
    with pytest.raises(ModelFileError, match="neither the config nor the weights tell the sharpness"):
        load_model(old_files.hdf5("Sequential", config, {"d": weights}))
    weights["d/sharpness:0"] = np.float32(0.5)
    model = load_model(old_files.hdf5("Sequential", config, {"d": weights}))
    assert model.layers[0].activation.sharpness == 0.5


def test_long_lists_of_names_are_split_over_attributes(old_files: Any, draw: Any) -> None:
    def split(file: h5py.File) -> None:
        group = file["model_weights"]
        names = group.attrs["layer_names"]
        del group.attrs["layer_names"]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:2], names[2:]

    weights = mlp_weights(draw)
    path = old_files.hdf5("Sequential", mlp_config(old_files), weights, edit=split)
    assert_same(load_model(path), mlp_by_hand(weights), draw(50, 3))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_hdf5_files_of_keras_3_itself(tmp_path: Path, draw: Any) -> None:
    layers = keras.layers
    frames = keras.Input((6,))
    x = layers.Dense(4, activation=SpikingBReLU(1.0), name="d")(frames)
    x = layers.BatchNormalization(name="norm")(x)
    nested = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dropout(0.2), SpikingSigmoid(1.0)])
    y = nested(x)
    z = layers.Add()([x, y]) + y  # the operation as well as the layer
    model = keras.Model(frames, SoftmaxDecode(np.eye(4))(z))
    for weight in model.weights:
        if weight.name not in ("sharpness", "moving_variance"):
            weight.assign(draw(*weight.shape))
    path = tmp_path / "keras3.h5"
    model.save(path)
    assert_same(load_model(path), model, draw(40, 6))
