"""Binarised networks of the real Larq and the real QKeras, against what those computed (see `data/make_*.py`)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import strop
from strop.errors import StropError, UnsupportedLayerError
from strop.reader import load_model

DATA = Path(__file__).parent / "data"
SPIKES = {
    "sequential": ("signs", "bits", "hidden"),
    "functional": (),
    "network": ("signs", "ones", "one_bit", "halves", "automatic", "row_bits", "threshold"),
}
ARCHIVES = {"sequential": "larq_models.zip", "functional": "larq_models.zip", "network": "qkeras_models.zip"}
POPULATIONS = {"sequential": 8, "functional": 4, "network": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised_models")
    for archive in ("larq_models.zip", "qkeras_models.zip"):
        with zipfile.ZipFile(DATA / archive) as files:
            files.extractall(folder)
    return folder


def oracle(folder: Path, name: str) -> tuple[Any, dict[str, Any]]:
    found = dict(np.load(folder / f"{name}.npz"))
    return found.pop("frames"), found


@pytest.mark.parametrize("suffix", [".h5", ".keras", ""], ids=["h5", "keras", "saved_model"])
@pytest.mark.parametrize("name", SPIKES)
def test_every_layer_computes_what_the_package_computed(folder: Path, name: str, suffix: str) -> None:
    model = load_model(folder / f"{name}{suffix}")
    frames, expected = oracle(folder, name)
    names = {layer.name for layer in model.layers}
    ends = [f"{layer}_activation" if f"{layer}_activation" in names else layer for layer in expected]
    inside = keras.Model(model.inputs, [model.get_layer(end).output for end in ends])
    for layer, found in zip(expected, inside([frames]), strict=True):
        np.testing.assert_allclose(np.asarray(found), expected[layer], rtol=0, atol=1e-6, err_msg=layer)
        if layer in SPIKES[name]:
            values = np.unique(expected[layer])
            assert len(values) == 2, f"{layer}: silent or saturated layers would show nothing"
            np.testing.assert_array_equal(np.asarray(found), expected[layer], err_msg=layer)


@pytest.mark.parametrize("name", SPIKES)
def test_networks_of_larq_and_qkeras_are_verified(folder: Path, name: str) -> None:
    model = load_model(folder / f"{name}.h5")
    report = strop.verify(model, oracle(folder, name)[0], backends=("reference",))
    assert report.passed, str(report)
    assert report.to_dict()["graph"]["populations"] == POPULATIONS[name]


def test_kernels_are_the_quantised_ones(folder: Path) -> None:
    model = load_model(folder / "sequential.h5")
    assert sorted(np.unique(model.get_layer("first").kernel)) == [-1.0, 1.0]
    assert sorted(np.unique(model.get_layer("depthwise").kernel)) == [-1.0, 0.0, 1.0]
    magnitudes = np.abs(model.get_layer("separable").pointwise_kernel)
    assert len(np.unique(magnitudes)) == 6  # the means of its six channels
    assert len(np.unique(model.get_layer("hidden").kernel)) == 4  # two bits


def test_an_input_quantiser_with_more_values_is_refused(folder: Path) -> None:
    with pytest.raises(
        UnsupportedLayerError, match=r"'not_two_valued'.*Larq's MagnitudeAwareSign, which multiplies with"
    ):
        load_model(folder / "refused.h5")


def dense(**options: Any) -> dict[str, Any]:
    return {"units": 2, "activation": "linear", "use_bias": False, **options}


def convolution(**options: Any) -> dict[str, Any]:
    return {"filters": 2, "kernel_size": [3], "padding": "same", "use_bias": False, **options}


@pytest.mark.parametrize(
    ("class_name", "options", "message"),
    [
        ("QuantDense", dense(input_quantizer="dorefa_quantizer"), "Larq's DoReFa, which gives as many values as its"),
        (
            "QuantDense",
            dense(input_quantizer={"class_name": "SteTern", "config": {}}),
            "SteTern, which gives three val",
        ),
        ("QuantDense", dense(input_quantizer="my_sign"), "input quantiser 'my_sign', which is none of Larq's"),
        ("QuantDense", dense(kernel_quantizer="my_sign"), "kernel_quantizer 'my_sign' is none of Larq's"),
        ("Dense", dense(activation="magnitude_aware_sign"), "MagnitudeAwareSign, which multiplies"),
        ("SteTern", {"clip_value": 1.0}, "SteTern, which gives three values"),
        ("QuantConv1D", convolution(pad_values=1.0), r"pads with pad_values=1\.0"),
        ("QuantConv1D", convolution(pad_values=0.3, input_quantizer="ste_sign"), r"pads with pad_values=0\.3"),
        ("QuantLocallyConnected1D", {}, "of class 'QuantLocallyConnected1D', which is neither"),
        ("QDense", dense(activation="quantized_relu(2)"), "quantises by 'quantized_relu', which strop does not read"),
        ("QDense", dense(activation="ternary(alpha=1)"), "activation 'ternary' of QKeras .* no threshold"),
        ("QDense", dense(activation="binary(alpha='auto')"), "no threshold with two fixed values"),
        ("QDense", dense(activation="quantized_bits(2,0,1)"), "no threshold with two fixed values"),
        ("QActivation", {"activation": "binary(use_stochastic_rounding=True)"}, "at random"),
        ("QActivation", {"activation": "binary(twist=1)"}, "with twist, which strop does not read"),
        ("QActivation", {"activation": "__import__('os').system('true')"}, "which is no quantiser of QKeras"),
        ("QActivation", {"activation": "binary(alpha=open('x'))"}, "which is no quantiser of QKeras"),
        ("QDense", dense(kernel_quantizer="binary(alpha=[1,2])"), r"scales by alpha=\[1, 2\]"),
        ("QBatchNormalization", {}, "a layer of QKeras that strop does not read"),
    ],
)
def test_quantisers_that_cannot_be_carried_are_refused(
    old_files: Any, class_name: str, options: dict[str, Any], message: str
) -> None:
    config = [old_files.layer(class_name, "own", batch_input_shape=[None, 5, 3], **options)]
    shape = (3, 3, 2) if "Conv" in class_name else (3, 2)
    path = old_files.hdf5("Sequential", config, {"own": {"own/kernel:0": np.ones(shape)}})
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        load_model(path)
    assert "layer 'own'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("quantiser", "expected"),
    [
        ("ste_sign", [[1, -1], [1, 1], [-1, 1]]),
        ("ste_heaviside", [[1, 0], [0, 1], [0, 1]]),
        ({"class_name": "SteTern", "config": {"threshold_value": 0.5}}, [[0, -1], [0, 1], [-1, 1]]),
        ({"class_name": "NoOp", "config": {"precision": 1}}, [[0.25, -0.5], [0, 0.75], [-1, 1]]),
        ({"class_name": "DoReFa", "config": {"k_bit": 1, "mode": "activations"}}, [[0, 0], [0, 1], [0, 1]]),
        ({"class_name": "DoReFa", "config": {"k_bit": 1, "mode": "weights"}}, [[1, -1], [-1, 1], [-1, 1]]),
    ],
)
def test_kernel_quantisers_of_larq(old_files: Any, quantiser: Any, expected: Any) -> None:
    latent = np.array([[0.25, -0.5], [0, 0.75], [-1, 1]])
    config = [old_files.layer("QuantDense", "own", batch_input_shape=[None, 3], **dense(kernel_quantizer=quantiser))]
    model = load_model(old_files.hdf5("Sequential", config, {"own": {"own/kernel:0": latent}}))
    np.testing.assert_array_equal(model.get_layer("own").kernel, expected)


def test_a_layer_of_the_users_own_comes_before_one_of_larq(old_files: Any) -> None:
    class QuantDense(keras.layers.Dense):
        def __init__(self, *args: Any, kernel_quantizer: Any = None, **options: Any) -> None:
            super().__init__(*args, **options)

    config = [old_files.layer("QuantDense", "own", batch_input_shape=[None, 3], **dense(kernel_quantizer="ste_sign"))]
    path = old_files.hdf5("Sequential", config, {"own": {"own/kernel:0": np.full((3, 2), 0.5)}})
    model = load_model(path, {"QuantDense": QuantDense})
    assert type(model.get_layer("own")) is QuantDense
    assert np.all(np.asarray(model.get_layer("own").kernel) == 0.5)


def test_padding_with_ones_is_what_larq_pads_with(old_files: Any) -> None:
    options = convolution(kernel_size=[2], pad_values=1.0, input_quantizer="ste_sign", strides=[1])
    config = [old_files.layer("QuantConv1D", "own", batch_input_shape=[None, 4, 1], **options)]
    kernel = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    model = load_model(old_files.hdf5("Sequential", config, {"own": {"own/kernel:0": kernel}}))
    frame = np.array([[[-0.5], [0.0], [-2.0], [-1.0]]], np.float32)
    np.testing.assert_array_equal(np.asarray(model(frame))[0], [[-1, 1], [1, -1], [-1, -1], [-1, 1]])


def test_errors_are_of_the_one_family(folder: Path) -> None:
    with pytest.raises(StropError):
        load_model(folder / "refused.h5")
