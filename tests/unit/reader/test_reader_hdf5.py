"""Legacy HDF5 files of every generation, written here byte by byte or by Keras 3, against models built by
hand."""

from __future__ import annotations

import base64
import marshal
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.keras import SoftmaxDecode, SpikingBReLU, SpikingSigmoid
from strop.reader import load_model

KEY = [[1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0, 1.0]]


def mlp_config(files: Any, *, sharpness: Any = 1.0, first: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """A perceptron as the original Whetstone wrote it: a bare list, the key as a record of an array."""
    return [
        files.dense("dense_1", 4, **({"batch_input_shape": [None, 3], "dtype": "float32"} if first is None else first)),
        files.layer("Spiking_BRelu", "spiking_b_relu_1", sharpness=sharpness),
        files.dense("dense_2", 5),
        files.layer("Spiking_Sigmoid", "spiking__sigmoid_1", sharpness=sharpness),
        files.layer("Softmax_Decode", "softmax__decode_1", key={"type": "ndarray", "value": KEY}),
    ]


def mlp_weights(draw: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    return {
        "dense_1": {"dense_1/kernel:0": draw(3, 4), "dense_1/bias:0": draw(4)},
        "spiking_b_relu_1": {},
        "dense_2": {"dense_2/kernel:0": draw(4, 5), "dense_2/bias:0": draw(5)},
        "spiking__sigmoid_1": {},
        "softmax__decode_1": {},
    }


def mlp_by_hand(weights: dict[str, dict[str, Any]]) -> Any:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="dense_1"),
            SpikingBReLU(1.0),
            keras.layers.Dense(5, name="dense_2"),
            SpikingSigmoid(1.0),
            SoftmaxDecode(KEY),
        ]
    )
    for name in ("dense_1", "dense_2"):
        model.get_layer(name).set_weights(list(weights[name].values()))
    return model


def assert_same(model: Any, expected: Any, frames: Any) -> None:
    reference = np.asarray(expected(frames))
    assert len(np.unique(reference)) > 2, "a constant output would show nothing"
    np.testing.assert_allclose(np.asarray(model(frames)), reference, rtol=0, atol=1e-6)


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


def functional_config(files: Any) -> dict[str, Any]:
    """Shared layers, a skip connection, batch normalisation by axis list, and a nested model counted from 1."""

    def call(*names: tuple[str, int]) -> list[list[Any]]:
        return [[name, number, 0, {}] for name, number in names]

    inner = {
        "name": "inner",
        "layers": [
            files.layer("InputLayer", "inner_in", [], batch_input_shape=[None, 4, 4, 4], dtype="float32"),
            files.layer(
                "DepthwiseConv2D",
                "dw",
                ["inner_in"],
                kernel_size=[2, 2],
                strides=[2, 2],
                groups=1,
                depthwise_initializer={"class_name": "GlorotUniform", "config": {"seed": None}},
            ),
            files.layer("Spiking_Sigmoid", "inner_spikes", ["dw"], sharpness=1.0),
        ],
        "input_layers": [["inner_in", 0, 0]],
        "output_layers": [["inner_spikes", 0, 0]],
    }
    return {
        "name": "net",
        "layers": [
            files.layer("InputLayer", "image", [], batch_input_shape=[None, 8, 8, 1], dtype="float32", sparse=False),
            files.layer(
                "Conv2D",
                "conv",
                ["image"],
                filters=2,
                kernel_size=files.tuple_record(3, 3),
                padding="same",
                strides=[1, 1],
                data_format="channels_last",
                dilation_rate=[1, 1],
                activation="linear",
                use_bias=False,
                kernel_initializer={"class_name": "OwnInitializer", "config": {}},
            ),
            files.layer(
                "BatchNormalization",
                "norm",
                ["conv"],
                axis=[3],
                momentum=0.99,
                epsilon=0.001,
                center=True,
                scale=True,
                renorm=False,
                fused=None,
                virtual_batch_size=None,
                gamma_initializer={"class_name": "Ones", "config": {}},
            ),
            files.layer("Spiking_BRelu", "spikes", ["norm"], sharpness={"type": "ndarray", "value": 1.0}),
            files.layer("MaxPooling2D", "pool", ["spikes"], pool_size=[2, 2], strides=[2, 2], padding="valid"),
            files.dense("shared", 2, [call(("pool", 0)), call(("shared_spikes", 0))]),
            files.layer("Spiking_BRelu", "shared_spikes", [call(("shared", 0)), call(("shared", 1))], sharpness=1.0),
            files.layer("Add", "sum", [call(("shared_spikes", 0), ("shared_spikes", 1))]),
            files.layer("Concatenate", "join", [call(("sum", 0), ("pool", 0))], axis=-1),
            {"class_name": "Model", "config": inner, "name": "inner", "inbound_nodes": [call(("join", 0))]},
            files.layer("Flatten", "flat", [call(("inner", 1))], data_format="channels_last"),
            files.layer("LeakyReLU", "leak", ["flat"], alpha={"type": "ndarray", "value": 0.25}),
            files.dense("out", 3, ["leak"]),
        ],
        "input_layers": [["image", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }


def functional_weights(draw: Any, rng: Any) -> dict[str, dict[str, Any]]:
    norm = {
        "gamma": draw(2),
        "beta": draw(2),
        "moving_mean": draw(2),
        "moving_variance": rng.uniform(0.5, 2, 2),
    }
    return {
        "image": {},
        "conv": {"conv/kernel:0": draw(3, 3, 1, 2)},
        "norm": {f"norm/{name}:0": values.astype(np.float32) for name, values in norm.items()},
        "spikes": {},
        "pool": {},
        "shared": {"shared/kernel:0": draw(2, 2), "shared/bias:0": draw(2)},
        "shared_spikes": {},
        "sum": {},
        "join": {},
        "inner": {"dw/depthwise_kernel:0": draw(2, 2, 4, 1), "dw/bias:0": draw(4)},
        "flat": {},
        "leak": {},
        "out": {"out/kernel:0": draw(16, 3), "out/bias:0": draw(3)},
    }


def functional_by_hand(weights: dict[str, dict[str, Any]]) -> Any:
    layers = keras.layers
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    pool = layers.MaxPooling2D(2)(SpikingBReLU(1.0)(x))
    shared, spikes = layers.Dense(2, name="shared"), SpikingBReLU(1.0)
    once = spikes(shared(pool))
    twice = spikes(shared(once))
    x = layers.Concatenate()([layers.Add()([once, twice]), pool])
    x = SpikingSigmoid(1.0)(layers.DepthwiseConv2D(2, strides=2, name="inner")(x))
    x = layers.Dense(3, name="out")(layers.LeakyReLU(0.25)(layers.Flatten()(x)))
    model = keras.Model(image, x)
    for name, arrays in weights.items():
        if arrays:
            model.get_layer(name).set_weights(list(arrays.values()))
    return model


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
