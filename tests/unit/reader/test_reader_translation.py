"""The pieces of the readers on their own: the allow-list, plain values out of configs, and protocol
buffers."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop.errors import UnsupportedLayerError
from strop.reader import classes, config
from strop.reader.config import NOTHING_KNOWN
from strop.reader.naming import brief
from strop.reader.not_carried import REASONS
from strop.reader.savedmodel import protobuf


@pytest.mark.parametrize("name", classes.BUILT_IN)
def test_every_layer_of_the_allow_list_is_one_of_keras(name: str) -> None:
    if not hasattr(keras.layers, name):
        pytest.skip(f"Keras {keras.__version__} has no {name} yet")
    found = classes.layer_class(name, "here", NOTHING_KNOWN)
    assert issubclass(found, keras.layers.Layer)
    assert found.__name__ == name


@pytest.mark.parametrize("name", ["Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"])
def test_layers_that_run_foreign_code_are_not_on_the_allow_list(name: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"here is a {name}"):
        classes.layer_class(name, "here", NOTHING_KNOWN)


@pytest.mark.parametrize("name", ["Model", "os", "own>Dense", "Custom>LSTM"])
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"here is of class '{name}', which is neither one of Keras's"):
        classes.layer_class(name, "here", NOTHING_KNOWN)


@pytest.mark.parametrize("name", sorted(set(REASONS) & set(dir(keras.layers)) - set(classes.BUILT_IN)))
def test_built_in_layers_that_are_refused_are_called_so_with_the_reason(name: str) -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        classes.layer_class(name, "here", NOTHING_KNOWN)
    if name not in classes._FOREIGN_CODE:
        reason, advice = REASONS[name]
        expected = f"here is of class {name!r}, a built-in Keras layer that strop refuses: {reason}; {advice}"
        assert str(caught.value) == expected


def test_layers_that_keras_3_lost_and_operations_of_old_tensorflow_are_named_as_such() -> None:
    with pytest.raises(UnsupportedLayerError, match="a layer of Keras 2 that Keras 3 no longer has"):
        classes.layer_class("LocallyConnected2D", "here", NOTHING_KNOWN)
    with pytest.raises(UnsupportedLayerError, match=r"an operation as TensorFlow before 2\.4 wrote it"):
        classes.layer_class("TensorFlowOpLayer", "here", NOTHING_KNOWN)


@pytest.mark.parametrize("name", config._ACTIVATIONS.split())
def test_every_activation_of_the_allow_list_is_one_of_keras(name: str) -> None:
    if name == "sparse_sigmoid" and not hasattr(keras.activations, name):
        pytest.skip(f"Keras {keras.__version__} has no {name} yet")
    layer = config.layer_from_config("Activation", {"name": "a", "activation": name}, "here")
    assert layer.activation is getattr(keras.activations, name, keras.activations.get(name))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"class_name": "__tuple__", "items": [None, 28, 28]}, (None, 28, 28)),
        ({"class_name": "TensorShape", "items": [None, 3]}, (None, 3)),
        ({"type": "ndarray", "value": [[1.0, 0.0]]}, [[1.0, 0.0]]),
        ({"class_name": "__numpy__", "config": {"value": 0.5, "dtype": "float32"}}, 0.5),
        ([[{"class_name": "__tuple__", "items": [1, 0]}]], [[(1, 0)]]),
        ({"a": [1, "b", None]}, {"a": [1, "b", None]}),
    ],
)
def test_containers_are_unwrapped(written: Any, expected: Any) -> None:
    assert config.plain(written) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ({"class_name": "Policy", "config": {"name": "mixed_float16"}}, "mixed_float16"),
        ({"class_name": "PolicyV1", "config": {"name": "_infer"}}, "float32"),
        ({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}, "float32"),
    ],
)
def test_dtype_policies_of_all_versions(written: Any, expected: str) -> None:
    assert config.dtype_name(written, "here") == expected


def test_renamed_and_dropped_options() -> None:
    leaky = config.layer_from_config("LeakyReLU", {"name": "a", "alpha": 0.25}, "here")
    assert leaky.negative_slope == 0.25
    norm = config.layer_from_config(
        "BatchNormalizationV1",
        {"name": "n", "axis": [3], "epsilon": 1e-5, "fused": True, "renorm": False},
        "here",
    )
    assert (type(norm).__name__, norm.axis, norm.epsilon) == ("BatchNormalization", 3, 1e-5)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(st.lists(st.tuples(st.integers(1, 2**20), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300)))))
def test_wire_format_round_trip(written: list[tuple[int, int | bytes]]) -> None:
    message = b""
    for number, value in written:
        if isinstance(value, int):
            message += varint(number << 3) + varint(value)
        else:
            message += varint(number << 3 | 2) + varint(len(value)) + value
    read = [(n, v if isinstance(v, int) else bytes(v)) for n, v in protobuf.fields(message)]
    assert read == written


@given(st.binary(max_size=200))
def test_wire_format_of_noise_is_read_or_refused(noise: bytes) -> None:
    found: list[tuple[int, int | memoryview]] = []
    with contextlib.suppress(ValueError):
        found.extend(protobuf.fields(noise))
    assert sum(len(value) for _, value in found if not isinstance(value, int)) <= len(noise)


@pytest.mark.parametrize("message", [b"\x0a\x05abc", b"\x0a", b"\x80", b"\x0b", b"\x0d\x00", b"\x08" + b"\xff" * 11])
def test_wire_format_that_is_cut_short_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"(cut short|ends inside|unknown wire type|more than ten bytes)"):
        list(protobuf.fields(message))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("one line", "one line"),
        ("\n\n  first\nsecond", "first"),
        ("dump\nException encountered: the reason\nmore", "the reason"),
        (
            "A total of 1 objects could not be loaded, for instance:\nLayer 'd' got none",
            "A total of 1 objects could not be loaded, for instance: Layer 'd' got none",
        ),
        (
            "Exception encountered when calling Add.call().\n\n\x1b[1mNo.\x1b[0m",
            "Exception encountered when calling Add.call(). No.",
        ),
        ("", "ValueError"),
    ],
)
def test_long_messages_of_keras_are_cut_to_the_point(message: str, expected: str) -> None:
    assert brief(ValueError(message)) == expected
    assert len(brief(ValueError("x" * 1000))) < 310
