"""SavedModel folders of tf.keras: layer configs from the metadata, weights from the checkpoint, no code
run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.keras import SoftmaxDecode, SpikingBReLU
from strop.reader import load_model

KEY = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
SIGNS = 2 * np.array(KEY, dtype=np.float32).T - 1
LAYER, MODEL, SEQUENTIAL = "_tf_keras_layer", "_tf_keras_network", "_tf_keras_sequential"
Node = tuple[str, str, dict[str, Any]]


def node(path: str, entry: Mapping[str, Any], identifier: str = LAYER) -> Node:
    metadata = {"name": entry["config"]["name"], "class_name": entry["class_name"], "config": entry["config"]}
    return path, identifier, metadata


def network(files: Any, draw: Any, sharpness: float = 1.0) -> tuple[list[Node], dict[str, Any]]:
    """A small network as a fork of Whetstone on tf.keras wrote it: sharpness and key are variables too."""
    entries = [
        files.layer("InputLayer", "image", batch_input_shape=files.tuple_record(None, 6, 6, 1), dtype="float32"),
        files.layer("Conv2D", "conv", filters=2, kernel_size=files.tuple_record(3, 3), padding="same", groups=1),
        files.layer("BatchNormalization", "norm", axis=[3], epsilon=0.01, scale=False),
        files.layer("Spiking_BRelu", "spikes", sharpness=sharpness),
        files.layer("Flatten", "flat", data_format="channels_last"),
        files.dense("out", 3),
        files.layer("Spiking_BRelu", "out_spikes", sharpness=sharpness),
        files.layer("Softmax_Decode", "decode", key=KEY),
    ]
    config = {"name": "net", "layers": entries}
    paths = [
        "layer_with_weights-0",
        "layer_with_weights-1",
        "layer_with_weights-2",
        "layer-3",
        "layer_with_weights-3",
        "layer_with_weights-4",
        "layer_with_weights-5",
    ]
    nodes = [node("root", {"class_name": "Sequential", "config": config}, SEQUENTIAL)]
    nodes += [node(f"root.{path}", entry) for path, entry in zip(paths, entries[1:], strict=True)]
    nodes.append(("root.keras_api.metrics.0", "_tf_keras_metric", {"class_name": "Mean", "name": "loss"}))
    variables = {
        "layer_with_weights-0.kernel": draw(3, 3, 1, 2),
        "layer_with_weights-0.bias": draw(2),
        "layer_with_weights-1.beta": draw(2),
        "layer_with_weights-1.moving_mean": draw(2),
        "layer_with_weights-1.moving_variance": np.array([0.5, 2.0], dtype=np.float32),
        "layer_with_weights-2.sharpness": np.float32(1.0),
        "layer_with_weights-3.kernel": draw(72, 3),
        "layer_with_weights-3.bias": draw(3),
        "layer_with_weights-4.sharpness": np.float32(1.0),
        "layer_with_weights-5._rescaled_key": SIGNS,
        "optimizer.iter": np.int64(3),
        "keras_api.metrics.0.total": np.float32(1.0),
    }
    return nodes, variables


def by_hand(variables: Mapping[str, Any]) -> Any:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, padding="same"),
            layers.BatchNormalization(epsilon=0.01, scale=False),
            SpikingBReLU(1.0),
            layers.Flatten(),
            layers.Dense(3),
            SpikingBReLU(1.0),
            SoftmaxDecode(KEY),
        ]
    )
    for number, index in ((0, 0), (1, 1), (3, 4)):
        prefix = f"layer_with_weights-{number}."
        model.layers[index].set_weights([v for name, v in variables.items() if name.startswith(prefix)])
    return model


def assert_same(model: Any, expected: Any, frames: Any) -> None:
    reference = np.asarray(expected(frames))
    assert len(np.unique(reference)) > 2, "a constant output would show nothing"
    np.testing.assert_allclose(np.asarray(model(frames)), reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("old", [False, True], ids=["keras_metadata.pb", "saved_model.pb"])
def test_sequential_model_with_batch_norm_and_spiking_variables(old_files: Any, draw: Any, old: bool) -> None:
    nodes, variables = network(old_files, draw)
    model = load_model(old_files.saved_model(nodes, variables, old=old))
    assert model.inputs[0].name == "image"
    assert_same(model, by_hand(variables), draw(60, 6, 6, 1))


def test_sharpness_of_the_checkpoint_wins_over_the_config(old_files: Any, draw: Any) -> None:
    nodes, variables = network(old_files, draw, sharpness=0.25)
    variables["layer_with_weights-2.sharpness"] = np.float32(0.5)
    del variables["layer_with_weights-4.sharpness"]
    model = load_model(old_files.saved_model(nodes, variables))
    assert model.get_layer("spikes").sharpness == 0.5
    assert model.get_layer("out_spikes").sharpness == 0.25


def test_key_that_differs_between_config_and_checkpoint_is_refused(old_files: Any, draw: Any) -> None:
    nodes, variables = network(old_files, draw)
    variables["layer_with_weights-5._rescaled_key"] = -SIGNS
    with pytest.raises(ModelFileError, match="'rescaled_key' of layer 'decode' differs from the key"):
        load_model(old_files.saved_model(nodes, variables))


def test_functional_model_with_nested_and_shared_layers(old_files: Any, draw: Any) -> None:
    inner = {
        "name": "inner",
        "layers": [
            old_files.layer("InputLayer", "inner_in", [], batch_input_shape=[None, 3]),
            old_files.dense("same_name", 3, ["inner_in"]),
            old_files.layer("Spiking_Sigmoid", "act", ["same_name"], sharpness=1.0),
        ],
        "input_layers": [["inner_in", 0, 0]],
        "output_layers": [["act", 0, 0]],
    }
    nested = {"class_name": "Functional", "config": inner, "name": "inner"}
    twice = [[["same_name", 0, 0, {}]], [["inner", 1, 0, {}]]]
    config = {
        "name": "net",
        "layers": [
            old_files.layer("InputLayer", "frames", [], batch_input_shape=[None, 4]),
            old_files.dense("same_name", 3, ["frames"]),
            {**nested, "inbound_nodes": twice},
            old_files.layer("Add", "sum", [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]]),
            old_files.dense("out", 3, ["sum"]),
        ],
        "input_layers": [["frames", 0, 0]],
        "output_layers": [["out", 0, 0]],
    }
    outer = {entry["name"]: entry for entry in config["layers"]}
    nodes = [
        node("root", {"class_name": "Functional", "config": config}, MODEL),
        node("root.layer-0", outer["frames"], "_tf_keras_input_layer"),
        node("root.layer_with_weights-0", outer["same_name"]),
        node("root.layer_with_weights-1", outer["inner"], MODEL),
        node("root.layer-3", outer["sum"]),
        node("root.layer_with_weights-2", outer["out"]),
        node("root.layer_with_weights-1.layer_with_weights-0", inner["layers"][1]),
        node("root.layer_with_weights-1.layer-2", inner["layers"][2]),
    ]
    first, second, last = ((draw(size, 3), draw(3)) for size in (4, 3, 3))
    variables = {
        "layer_with_weights-0.kernel": first[0],
        "layer_with_weights-0.bias": first[1],
        "layer_with_weights-1.layer_with_weights-0.kernel": second[0],
        "layer_with_weights-1.layer_with_weights-0.bias": second[1],
        "layer_with_weights-2.kernel": last[0],
        "layer_with_weights-2.bias": last[1],
    }
    model = load_model(old_files.saved_model(nodes, variables))

    def inner_by_hand(x: Any) -> Any:
        return (x @ second[0] + second[1] >= 0).astype(np.float32)

    frames = draw(30, 4)
    once = inner_by_hand(frames @ first[0] + first[1])
    expected = (once + inner_by_hand(once)) @ last[0] + last[1]
    assert len(np.unique(once)) == 2
    np.testing.assert_allclose(np.asarray(model(frames)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v.pop("layer_with_weights-3.bias"),
            r"layer 'out' needs the weight 'bias' of shape \(3,\)",
        ),
        (
            lambda v: v.update({"layer_with_weights-3.bias": np.ones(4, np.float32)}),
            r"weight 'bias' of layer 'out' is stored with shape \(4,\), but the layer needs \(3,\)",
        ),
        (
            lambda v: v.update({"layer_with_weights-3.gain": np.ones(3, np.float32)}),
            r"layer 'out' has no place for the stored weight 'out/gain' of shape \(3,\)",
        ),
        (
            lambda v: v.update({"layer_with_weights-9.kernel": np.ones(3, np.float32)}),
            "the checkpoint holds 'layer_with_weights-9/kernel.*', which belongs to no layer",
        ),
        (
            lambda v: v.update({"layer_with_weights-3.bias": np.array([0, np.nan, 0], np.float32)}),
            r"weight 'bias' of 'out', shape \(3,\), holds 1 of 3 values that are not finite",
        ),
        (
            lambda v: v.update({"layer_with_weights-2.sharpness": np.float32(2.0)}),
            r"sharpness of 'spikes' is 2\.0",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(old_files: Any, draw: Any, change: Any, message: str) -> None:
    nodes, variables = network(old_files, draw)
    change(variables)
    folder = old_files.saved_model(nodes, variables)
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


def test_own_layers_are_refused_by_name(old_files: Any, draw: Any) -> None:
    nodes, variables = network(old_files, draw)
    nodes[0][2]["config"]["layers"][4]["class_name"] = "MyFlatten"
    with pytest.raises(UnsupportedLayerError, match="layer 'flat' is of class 'MyFlatten'"):
        load_model(old_files.saved_model(nodes, variables))


def test_lambda_layer_is_refused(old_files: Any, draw: Any) -> None:
    nodes, variables = network(old_files, draw)
    nodes[0][2]["config"]["layers"].insert(5, old_files.layer("Lambda", "trap", function=["4wEAAAA=", None, None]))
    with pytest.raises(UnsupportedLayerError, match="layer 'trap' is a Lambda"):
        load_model(old_files.saved_model(nodes, variables))


def test_subclassed_model_is_refused(old_files: Any, draw: Any) -> None:
    _, variables = network(old_files, draw)
    folder = old_files.saved_model([("root", MODEL, {"name": "net", "class_name": "MyNet"})], variables)
    with pytest.raises(UnsupportedLayerError, match="model of class 'MyNet' does not tell"):
        load_model(folder)


def test_missing_weights_folder_is_refused(old_files: Any, draw: Any) -> None:
    folder = old_files.saved_model(*network(old_files, draw))
    for file in (folder / "variables").iterdir():
        file.unlink()
    with pytest.raises(ModelFileError, match=r"the weights under .*variables are missing or damaged.*a whole folder"):
        load_model(folder)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_cut_off_checkpoint_is_refused(old_files: Any, draw: Any, part: str) -> None:
    folder = old_files.saved_model(*network(old_files, draw))
    file = folder / "variables" / f"variables.{part}"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=r"(missing or damaged|damaged or cut short)"):
        load_model(folder)


@pytest.mark.parametrize("cut", [1, 40, 1000])
def test_cut_off_metadata_is_refused(old_files: Any, draw: Any, cut: int) -> None:
    folder = old_files.saved_model(*network(old_files, draw))
    file = folder / "keras_metadata.pb"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(ModelFileError, match=r"keras_metadata\.pb is damaged or cut short"):
        load_model(folder)


def test_export_of_keras_3_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(np.ones(3, np.float32))
    tf.saved_model.save(module, str(tmp_path / "export"))
    with pytest.raises(ModelFileError, match=r"without Keras layers.*model\.export\(\).*model\.save\('name\.keras'\)"):
        load_model(tmp_path / "export")


def test_file_inside_the_folder_points_to_the_folder(old_files: Any, draw: Any) -> None:
    folder = old_files.saved_model(*network(old_files, draw))
    with pytest.raises(ModelFileError, match=r"keras_metadata\.pb is one file of a SavedModel; pass the folder"):
        load_model(folder / "keras_metadata.pb")


def test_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(ModelFileError, match="is a folder, but no SavedModel"):
        load_model(tmp_path)
