"""What is refused of legacy HDF5 files: layers, weights and configs that cannot be rebuilt, links out of the file."""

from __future__ import annotations

import base64
import marshal
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from legacy_models import (
    KEY,
    assert_same,
    functional_config,
    functional_weights,
    mlp_by_hand,
    mlp_config,
    mlp_weights,
)

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader import load_model


def test_sharpness_that_nobody_tells_is_refused(old_files: Any, draw: Any) -> None:
    path = old_files.hdf5("Sequential", mlp_config(old_files, sharpness=None), mlp_weights(draw))
    with pytest.raises(ModelFileError, match="neither the config nor the weights tell the sharpness of 'spiking_b"):
        load_model(path)


@pytest.mark.parametrize("sharpness", [1.5, -0.25, "sharp", [1.0, 1.0]])
def test_impossible_sharpness_is_refused(old_files: Any, draw: Any, sharpness: Any) -> None:
    path = old_files.hdf5("Sequential", mlp_config(old_files, sharpness=sharpness), mlp_weights(draw))
    with pytest.raises(ModelFileError, match=r"'spiking_b_relu_1'.*sharpness"):
        load_model(path)


def test_impossible_stored_sharpness_is_refused(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw) | {"spiking_b_relu_1": {"sharpness:0": 1.5}}
    path = old_files.hdf5("Sequential", mlp_config(old_files), weights)
    with pytest.raises(ModelFileError, match=r"sharpness of 'spiking_b_relu_1' is 1\.5, not in \[0, 1\]"):
        load_model(path)


def test_stored_key_is_compared_with_the_config(old_files: Any, draw: Any) -> None:
    signs = 2 * np.array(KEY).T - 1
    weights = mlp_weights(draw) | {"softmax__decode_1": {"Variable:0": signs}}
    model = load_model(old_files.hdf5("Sequential", mlp_config(old_files), weights))
    np.testing.assert_array_equal(model.layers[-1].key, KEY)
    weights["softmax__decode_1"] = {"Variable:0": -signs}
    with pytest.raises(ModelFileError, match="'softmax__decode_1' differs from the key in the layer's config"):
        load_model(old_files.hdf5("Sequential", mlp_config(old_files), weights))


def test_decoder_without_a_key_is_refused_and_never_given_a_random_one(old_files: Any, draw: Any) -> None:
    config = mlp_config(old_files)
    config[-1] = old_files.layer("Softmax_Decode", "softmax__decode_1", size=[2, 5])
    with pytest.raises(ModelFileError, match="'softmax__decode_1' has no key"):
        load_model(old_files.hdf5("Sequential", config, mlp_weights(draw)))


def test_activation_of_unknown_name_is_refused(old_files: Any, draw: Any) -> None:
    config = [old_files.dense("d", 4, batch_input_shape=[None, 3], activation="my_step")]
    path = old_files.hdf5("Sequential", config, {"d": {"d/kernel:0": draw(3, 4), "d/bias:0": draw(4)}})
    with pytest.raises(UnsupportedLayerError, match="layer 'd' has an activation 'my_step'"):
        load_model(path)


def test_hard_sigmoid_is_refused_as_keras_3_means_another_function(old_files: Any, draw: Any) -> None:
    config = [old_files.dense("d", 4, batch_input_shape=[None, 3], activation="hard_sigmoid")]
    path = old_files.hdf5("Sequential", config, {"d": {"d/kernel:0": draw(3, 4), "d/bias:0": draw(4)}})
    with pytest.raises(UnsupportedLayerError, match="layer 'd' has an activation 'hard_sigmoid'"):
        load_model(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class_name": "MyLayer", "config": {"name": "own"}}, "layer 'own' is of class 'MyLayer'"),
        ({"class_name": "evil>Dense", "config": {"name": "own"}}, "layer 'own' is of class 'evil>Dense'"),
        (
            {"class_name": "TFOpLambda", "config": {"name": "own", "function": "math.add"}},
            "'own' is an operation on tensors, which no Sequential model can hold",
        ),
        ({"class_name": "LSTM", "config": {"name": "own", "units": 3}}, "'own' is of class 'LSTM', a built-in"),
        ({"class_name": "TFSMLayer", "config": {"name": "own", "filepath": "/tmp"}}, "'own' is a TFSMLayer"),
        ({"class_name": "Dropout", "config": {"name": "own", "rate": 0.5, "twist": 1}}, "'own' uses twist=1"),
        ({"class_name": "BatchNormalization", "config": {"name": "own", "axis": [1, 2]}}, r"axis=\[1, 2\]"),
        ({"class_name": "BatchNormalization", "config": {"name": "own", "renorm": True}}, "uses renorm=True"),
        (
            {"class_name": "Activation", "config": {"name": "own", "activation": "relu", "dtype": "int8"}},
            "'int8'",
        ),
    ],
)
def test_layers_that_cannot_be_rebuilt_are_refused_by_name(old_files: Any, draw: Any, entry: Any, message: str) -> None:
    config = mlp_config(old_files)
    config.insert(1, entry)
    with pytest.raises(UnsupportedLayerError, match=message):
        load_model(old_files.hdf5("Sequential", config, mlp_weights(draw)))


def test_lambda_layer_with_code_is_refused_without_running_it(old_files: Any, draw: Any, tmp_path: Path) -> None:
    witness = tmp_path / "code_ran"
    code = compile(f"lambda x: __import__('os').mkdir({str(witness)!r})", "<evil>", "eval").co_consts[0]
    text = base64.b64encode(marshal.dumps(code)).decode()
    function = [text, None, None]
    lambda_layer = old_files.layer("Lambda", "trap", function=function, function_type="lambda", arguments={})
    config = mlp_config(old_files)
    config.insert(1, lambda_layer)
    with pytest.raises(UnsupportedLayerError, match=r"layer 'trap' is a Lambda.*replace it by built-in Keras layers"):
        load_model(old_files.hdf5("Sequential", config, mlp_weights(draw)))
    config = [old_files.dense("d", 4, batch_input_shape=[None, 3], activation=function)]
    with pytest.raises(UnsupportedLayerError, match="layer 'd' has an activation of an unknown kind"):
        load_model(old_files.hdf5("Sequential", config, {"d": {}}))
    assert not witness.exists()
    types.FunctionType(marshal.loads(base64.b64decode(text)), {})(1)
    assert witness.exists(), "the trap must be live, or its silence shows nothing"


def test_mirrored_kernels_of_theano_are_refused_but_not_its_dense_layers(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    dense = old_files.hdf5("Sequential", mlp_config(old_files), weights, backend="theano")
    assert_same(load_model(dense), mlp_by_hand(weights), draw(50, 3))
    config = [old_files.layer("Conv1D", "c", filters=2, kernel_size=[2], batch_input_shape=[None, 4, 1])]
    stored = {"c": {"c/kernel:0": draw(2, 1, 2), "c/bias:0": draw(2)}}
    with pytest.raises(UnsupportedLayerError, match="'c' was trained on theano, whose convolution kernels are mirr"):
        load_model(old_files.hdf5("Sequential", config, stored, backend="theano"))


def drop(name: str) -> Callable[[dict[str, dict[str, Any]]], None]:
    def change(weights: dict[str, dict[str, Any]]) -> None:
        layer = name.split("/")[0]
        del weights[layer][name]

    return change


def put(layer: str, name: str, values: Any) -> Callable[[dict[str, dict[str, Any]]], None]:
    return lambda weights: weights.setdefault(layer, {}).__setitem__(name, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("dense_2/bias:0"),
            r"layer 'dense_2' needs the weight 'bias' of shape \(5,\), which the file does not",
        ),
        (
            put("dense_2", "dense_2/kernel:0", np.ones((4, 6))),
            r"weight 'kernel' of layer 'dense_2' is stored with shape \(4, 6\), but the layer needs \(4, 5\)",
        ),
        (
            put("dense_2", "dense_2/gain:0", np.ones(5)),
            r"layer 'dense_2' has no place for .*gain:0' of shape \(5,\)",
        ),
        (
            put("dense_9", "dense_9/kernel:0", np.ones(5)),
            "1 weights for a layer 'dense_9', which is not in the mod",
        ),
        (
            put("dense_1", "dense_1/bias:0", [0, np.nan, 0, np.inf]),
            r"'bias' of 'dense_1', shape \(4,\), holds 2 of 4",
        ),
        (
            put("dense_1", "dense_1/bias:0", np.float32(1.0)),
            r"stored with shape \(\), but the layer needs \(4,\)",
        ),
        (
            put("spiking_b_relu_1", "leak:0", np.ones(4)),
            "layer 'spiking_b_relu_1' has no place for .*'leak:0'",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(old_files: Any, draw: Any, change: Any, message: str) -> None:
    weights = mlp_weights(draw)
    change(weights)
    path = old_files.hdf5("Sequential", mlp_config(old_files), weights)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_layer_without_a_group_is_refused(old_files: Any, draw: Any) -> None:
    weights = mlp_weights(draw)
    del weights["dense_2"]
    with pytest.raises(ModelFileError, match="layer 'dense_2' needs a weight 'kernel'"):
        load_model(old_files.hdf5("Sequential", mlp_config(old_files), weights))


def test_float64_weights_that_float32_cannot_hold_are_refused(old_files: Any, draw: Any) -> None:
    def widen(file: h5py.File) -> None:
        group = file["model_weights/dense_1/dense_1"]
        del group["bias:0"]
        group["bias:0"] = np.full(4, 0.1, dtype=np.float64)

    path = old_files.hdf5("Sequential", mlp_config(old_files), mlp_weights(draw), edit=widen)
    with pytest.raises(ModelFileError, match="'bias' of layer 'dense_1' is stored as float64 with values that float32"):
        load_model(path)


def test_config_that_asks_for_absurd_sizes_is_refused_before_memory_is_taken(old_files: Any, draw: Any) -> None:
    config = [old_files.dense("d", 10**12, batch_input_shape=[None, 3])]
    path = old_files.hdf5("Sequential", config, {"d": {"d/kernel:0": draw(3, 4), "d/bias:0": draw(4)}})
    with pytest.raises(ModelFileError, match=r"'d' needs a weight 'kernel' of shape \(3, 10{12}\), but the largest"):
        load_model(path)


def test_limit_on_sizes_ends_with_the_reading(old_files: Any, draw: Any) -> None:
    model = load_model(old_files.hdf5("Sequential", mlp_config(old_files), mlp_weights(draw)))
    model.layers[0].enable_lora(100)
    assert tuple(model.layers[0].lora_kernel_a.shape) == (3, 100)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda layers: layers[2].update(inbound_nodes=[[["nowhere", 0, 0, {}]]]),
            "'norm' takes an input that no",
        ),
        (lambda layers: layers[2].update(inbound_nodes=[]), "'norm' is not connected to anything"),
        (
            lambda layers: layers[2].update(inbound_nodes=[[["conv", 0, 0, {"training": True}]]]),
            "training=True",
        ),
        (
            lambda layers: layers[2].update(inbound_nodes=[[["conv", 0, 0, {"mask": ["pool", 0, 0]}]]]),
            "mask=",
        ),
        (
            lambda layers: layers[2].update(inbound_nodes=[[["_CONSTANT_VALUE", -1, 2.0, {}]]]),
            "'norm' is called with",
        ),
        (lambda layers: layers[0]["config"].update(sparse=True), "'image' takes sparse tensors"),
        (lambda layers: layers[0]["config"].update(ragged=True), "'image' takes ragged tensors"),
        (
            lambda layers: layers[0]["config"].update(batch_input_shape=[None, -8]),
            "'image' has no valid shape",
        ),
        (lambda layers: layers[0]["config"].update(batch_input_shape=[None, 8]), "layer 'conv' does not fit"),
        (lambda layers: layers.append(layers[3]), "two layers are called 'spikes'"),
        (lambda layers: layers.append(7), "layer entry is damaged: expected a record, found int"),
        (lambda layers: layers.append({"config": {"name": "x"}}), "layer 'x' has no class name"),
        (lambda layers: layers[1].update(config=None), "'conv': config is damaged"),
        (lambda layers: layers[1]["config"].update(filters="many"), r"'conv' \(Conv2D\) cannot be rebuilt"),
    ],
)
def test_damaged_functional_configs_are_refused(old_files: Any, draw: Any, rng: Any, edit: Any, message: str) -> None:
    config = functional_config(old_files)
    edit(config["layers"])
    with pytest.raises((ModelFileError, UnsupportedLayerError), match=message):
        load_model(old_files.hdf5("Model", config, functional_weights(draw, rng)))


def test_output_that_does_not_exist_is_refused(old_files: Any, draw: Any, rng: Any) -> None:
    config = functional_config(old_files) | {"output_layers": [["out", 1, 0]]}
    with pytest.raises(ModelFileError, match="'net' has an input or output that no layer provides"):
        load_model(old_files.hdf5("Model", config, functional_weights(draw, rng)))


def test_subclassed_model_is_refused(old_files: Any) -> None:
    with pytest.raises(UnsupportedLayerError, match="model of class 'MyNet' does not tell how its layers are conn"):
        load_model(old_files.hdf5("MyNet", {"name": "net"}, {}))


def test_links_out_of_the_file_are_not_followed(old_files: Any, draw: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["values"] = draw(4)

    def link(file: h5py.File) -> None:
        group = file["model_weights/dense_1/dense_1"]
        del group["bias:0"]
        group["bias:0"] = h5py.ExternalLink("other.h5", "/values")

    path = old_files.hdf5("Sequential", mlp_config(old_files), mlp_weights(draw), edit=link)
    with pytest.raises(ModelFileError, match="dense_1/bias:0 is a link"):
        load_model(path)
