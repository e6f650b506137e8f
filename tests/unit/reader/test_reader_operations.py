"""Operations on tensors: Keras 2's, function by function against TensorFlow itself, and Keras 3's; the rest refused."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader import load_model
from strop.reader.stored_operations import TRANSLATED

X = (np.random.default_rng(2).integers(-8, 9, (5, 4, 6)) / 8).astype(np.float32)
Y = (np.random.default_rng(3).integers(-8, 9, (5, 4, 6)) / 8).astype(np.float32)
TENSOR = "the second input"
SLICES = [{"start": None, "stop": None, "step": None}, {"start": 1, "stop": 4, "step": 2}]

UNARY: tuple[str, ...] = (
    *("abs", "exp", "identity", "math.abs", "math.exp", "math.negative", "math.round", "math.sigmoid", "math.sign"),
    *("math.sqrt", "math.square", "math.tanh", "negative", "nn.log_softmax", "nn.relu", "nn.sigmoid", "nn.softmax"),
    *("nn.tanh", "round", "sign", "sqrt", "square", "tanh"),
)
BINARY: tuple[str, ...] = (
    *("__operators__.add", "add", "compat.v1.div", "divide", "equal", "greater", "greater_equal", "less"),
    *("less_equal", "math.add", "math.divide", "math.equal", "math.greater", "math.greater_equal", "math.less"),
    *("math.less_equal", "math.maximum", "math.minimum", "math.multiply", "math.not_equal", "math.subtract"),
    *("math.truediv", "maximum", "minimum", "multiply", "not_equal", "subtract", "truediv"),
)
REDUCTIONS = tuple(f"{home}reduce_{name}" for home in ("", "math.") for name in ("max", "mean", "min", "sum"))
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in UNARY),
    *((name, {"y": TENSOR}) for name in BINARY),
    *((name, {"y": 0.3}) for name in BINARY),
    *((name, {"axis": [1, 2], "keepdims": False}) for name in REDUCTIONS),
    *((name, {"axis": -1, "keepdims": True}) for name in REDUCTIONS),
    ("argmax", {"axis": 2, "output_type": "int64"}),
    ("broadcast_to", {"shape": [5, 4, 6]}),
    ("cast", {"dtype": "float64"}),
    ("clip_by_value", {"clip_value_min": -0.25, "clip_value_max": 0.5}),
    ("compat.v1.pad", {"paddings": [[0, 0], [1, 0], [0, 2]], "mode": "CONSTANT", "constant_values": 0.5}),
    ("compat.v1.squeeze", {"axis": None, "squeeze_dims": None}),
    ("compat.v1.transpose", {"perm": [0, 2, 1], "conjugate": False}),
    ("concat", {"axis": 1}),
    ("expand_dims", {"axis": 2}),
    ("math.argmax", {"axis": 1}),
    ("nn.softmax", {"axis": 1}),
    ("pad", {"paddings": [[0, 0], [0, 1], [2, 2]], "mode": "REFLECT"}),
    ("pad", {"paddings": [[0, 0], [0, 1], [2, 2]], "mode": "SYMMETRIC"}),
    ("pad", {"paddings": [[0, 0], [0, 1], [2, 2]]}),
    ("repeat", {"repeats": 2, "axis": 1}),
    ("reshape", {"shape": [-1, 12, 2]}),
    ("reverse", {"axis": [1, 2]}),
    ("roll", {"shift": 3, "axis": 2}),
    ("squeeze", {}),
    ("stack", {"axis": 2}),
    ("tile", {"multiples": [1, 2, 3]}),
    ("transpose", {"perm": [0, 2, 1]}),
]


def of_tensorflow(function: str) -> Any:
    """Return the function as Keras 2 finds it."""
    import tensorflow as tf

    return functools.reduce(getattr, function.split("."), tf)


def file_of(old_files: Any, operations: list[tuple[str, str, Any]]) -> Path:
    """A functional model of Keras 2 on two inputs, x and y, and operations: (name, function, node) each."""
    layers = [old_files.layer("InputLayer", name, [], batch_input_shape=[None, 4, 6], dtype="float32") for name in "xy"]
    for name, function, node in operations:
        kind = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
        layers.append(old_files.layer(kind, name, [], dtype="float32", function=function))
        layers[-1]["inbound_nodes"] = [node]
    last = operations[-1][0]
    config = {
        "name": "net",
        "layers": layers,
        "input_layers": [["x", 0, 0], ["y", 0, 0]],
        "output_layers": [[last, 0, 0]],
    }
    names = {layer["name"]: {} for layer in layers}
    path: Path = old_files.hdf5("Functional", config, names, version="2.13.1")
    return path


def file_with(old_files: Any, function: str, options: dict[str, Any], inbound: Any = None) -> Path:
    """A functional model of Keras 2 on two inputs that applies one function to the first."""
    options = {name: ["y", 0, 0] if value is TENSOR else value for name, value in options.items()}
    node = inbound or ["x", 0, 0, {**options, "name": None}]
    if function in ("concat", "stack"):
        node = [[name, 0, 0, options] for name in "xy"]
    return file_of(old_files, [(f"tf.{function}", function, node)])


@pytest.mark.parametrize(("function", "options"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_operations_of_keras_2_compute_what_tensorflow_computes(
    old_files: Any, function: str, options: dict[str, Any]
) -> None:
    model = load_model(file_with(old_files, function, options))
    arguments = {name: Y if value is TENSOR else value for name, value in options.items() if name != "squeeze_dims"}
    if function == "squeeze":  # no axis of these frames has length 1
        expected: Any = X
    else:
        import tensorflow as tf

        first = [X, Y] if function in ("concat", "stack") else tf.constant(X)
        expected = np.asarray(of_tensorflow(function)(first, **arguments))
    found = np.asarray(model([X, Y]))
    assert found.shape == expected.shape
    if function not in ("argmax", "math.argmax"):  # whole numbers of different width
        assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert [operation.name for operation in model.operations][-1] == f"tf.{function}"


def test_every_translated_function_is_tested_against_tensorflow() -> None:
    tested = {function for function, _ in CASES}
    others = {"__operators__.getitem", "where", "math.logical_and", "math.logical_not", "math.logical_or"}
    assert tested | others == set(TRANSLATED)
    for function in TRANSLATED:
        assert callable(of_tensorflow(function))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (SLICES, X[:, 1:4:2]),
        ([{"class_name": "__ellipsis__"}, 2], X[..., 2]),
        ([{"class_name": "__ellipsis__"}, None, SLICES[1]], X[..., None, 1:4:2]),
        ([SLICES[0], -1], X[:, -1]),
    ],
)
def test_slices_of_keras_2(old_files: Any, key: Any, expected: Any) -> None:
    model = load_model(file_with(old_files, "__operators__.getitem", {"slice_spec": key}))
    np.testing.assert_array_equal(np.asarray(model([X, Y])), expected)


def test_constants_in_front_of_an_operation(old_files: Any) -> None:
    inbound = ["_CONSTANT_VALUE", -1, 1.0, {"y": ["x", 0, 0], "name": None}]
    model = load_model(file_with(old_files, "math.subtract", {}, inbound))
    np.testing.assert_array_equal(np.asarray(model([X, Y])), 1 - X)


def test_lists_of_fractions_are_float32_as_in_tensorflow(old_files: Any) -> None:
    constant = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    model = load_model(file_with(old_files, "math.multiply", {"y": constant}))
    found = np.asarray(model([X, Y]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, X * np.asarray(constant, dtype=np.float32))


def test_where_and_logic_on_comparisons(old_files: Any) -> None:
    operations = [
        ("over", "math.greater_equal", ["x", 0, 0, {"y": 0.25, "name": None}]),
        ("under", "math.less", ["y", 0, 0, {"y": 0.0, "name": None}]),
        ("both", "math.logical_and", ["over", 0, 0, {"y": ["under", 0, 0], "name": None}]),
        ("not_under", "math.logical_not", ["under", 0, 0, {"name": None}]),
        ("either", "math.logical_or", ["both", 0, 0, {"y": ["not_under", 0, 0], "name": None}]),
        ("chosen", "where", ["either", 0, 0, {"x": 1.0, "y": ["y", 0, 0], "name": None}]),
    ]
    found = np.asarray(load_model(file_of(old_files, operations))([X, Y]))
    expected = np.where(((X >= 0.25) & (Y < 0)) | ~(Y < 0), np.float32(1.0), Y)
    assert 0.05 < np.mean(expected == Y) < 0.95
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (
            "linalg.matmul",
            {"b": TENSOR},
            r"applies tf\.linalg\.matmul, an operation of TensorFlow that strop does not tr",
        ),
        ("py_function", {"func": "os.system"}, r"applies tf\.py_function"),
        ("os.system", {}, r"applies tf\.os\.system"),
        ("math.add", {"y": 1.0, "twist": 2}, r"tf\.math\.add\) is called with twist=2"),
        ("transpose", {"perm": [0, 2, 1], "conjugate": True}, "is called with conjugate=True"),
        ("pad", {"paddings": [[0, 0], [0, 0], [1, 1]], "mode": "WRAP"}, "pads in a way that strop does not translate"),
        ("__operators__.getitem", {"slice_spec": [TENSOR]}, "takes the places"),
        ("__operators__.getitem", {}, "is called without a slice"),
    ],
)
def test_other_operations_of_tensorflow_are_refused_by_name(
    old_files: Any, function: str, options: dict[str, Any], message: str
) -> None:
    if options.get("slice_spec") == [TENSOR]:
        options = {"slice_spec": [["y", 0, 0]]}
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        load_model(file_with(old_files, function, options))
    assert f"layer 'tf.{function}'" in str(caught.value)


def test_operations_that_do_not_fit_their_tensors_are_refused(old_files: Any) -> None:
    with pytest.raises(ModelFileError, match=r"layer 'tf\.transpose' does not fit together"):
        load_model(file_with(old_files, "transpose", {"perm": [0, 2, 1, 3]}))


# Keras 3 --------------------------------------------------------------------------------------------------------------


def keras_3_file(folder: Path, edit: Any = None) -> Path:
    import h5py

    frames = keras.Input((6,), name="frames")
    path = folder / "keras3.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.Model(frames, keras.layers.Dense(2, name="out")(frames + 1.0)).save(path)
    if edit is not None:
        with h5py.File(path, "r+") as file:
            config = str(file.attrs["model_config"])
            assert edit(config) != config, "the edit changes nothing"
            file.attrs["model_config"] = edit(config)
    return path


def test_an_operation_with_a_constant_is_read(tmp_path: Path) -> None:
    model = load_model(keras_3_file(tmp_path))
    frames = np.ones((1, 6), np.float32)
    kernel, bias = model.get_layer("out").get_weights()
    np.testing.assert_allclose(np.asarray(model(frames)), 2 * frames @ kernel + bias, rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"class_name": "Add"', '"class_name": "Summon"', r"layer 'add\w*' is of class 'Summon'"),
        ('"class_name": "Add", "config": {', '"class_name": "Add", "config": {"twist": 3, ', "cannot be rebuilt"),
        (
            '"class_name": "Add", "config": {',
            '"class_name": "Add", "config": {"twist": {"class_name": "Lambda"}, ',
            "has options that strop does not read",
        ),
        ("1.0]", '{"class_name": "__bytes__", "config": {"value": "x"}}]', "with a value of the kind '__bytes__'"),
        ("1.0]", '{"class_name": "__tensor__", "config": {"value": "x", "dtype": "float32"}}]', "a damaged array"),
        ("1.0]", '{"class_name": "__tensor__", "config": {"value": "x", "dtype": "str"}}]', "which are no numbers"),
    ],
)
def test_operations_that_are_not_known_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises((UnsupportedLayerError, ModelFileError), match=message):
        load_model(keras_3_file(tmp_path, lambda config: config.replace(old, new, 1)))
