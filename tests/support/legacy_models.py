"""Models as old versions of Keras wrote them: configs, weights, and the same models built by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from strop.keras import SoftmaxDecode, SpikingBReLU, SpikingSigmoid

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
