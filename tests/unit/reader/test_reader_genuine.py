"""Model files of other people and of the original Whetstone package, against what their own Keras
computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.keras import SoftmaxDecode, SpikingBReLU
from strop.reader import load_model

SPIKING = {1: "L01_spiking_b_relu_1", 3: "L03_spiking_b_relu_2", 5: "L05_spiking_b_relu_3"}


def outputs(model: Any, frames: Any) -> list[np.ndarray]:
    """What every layer computes, fed by the one before."""
    values, found = frames, []
    for layer in model.layers:
        values = layer(values)
        found.append(np.asarray(values))
    return found


def mnist(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    path = shared / "data" / "mnist.npz"
    if not path.exists():
        pytest.skip(f"MNIST is not at {path}")
    with np.load(path) as data:
        return (data["x_test"] / 255).astype(np.float32), data["y_test"]


def accuracy(model: Any, frames: np.ndarray, labels: np.ndarray) -> float:
    frames = frames.reshape(-1, *model.input_shape[1:])
    batches = (frames[start : start + 1000] for start in range(0, len(frames), 1000))
    classes = np.concatenate([np.asarray(model(batch)).argmax(axis=1) for batch in batches])
    return float((classes == labels).mean())


@pytest.fixture(scope="module")
def original() -> Any:
    """The original Whetstone's network and its oracle, once for the module."""
    cache: dict[str, Any] = {}

    def load(shared: Path) -> tuple[Any, Any]:
        if not cache:
            cache["model"] = load_model(shared / "models" / "original_whetstone_mlp.h5")
            cache["oracle"] = dict(np.load(shared / "models" / "original_whetstone_mlp_oracle.npz"))
        return cache["model"], cache["oracle"]

    return load


def test_original_whetstone_file_keeps_its_layers_and_sharpness(shared: Path, original: Any) -> None:
    model, oracle = original(shared)
    classes = ["Dense", "SpikingBReLU"] * 3 + ["SoftmaxDecode"]
    assert [type(layer).__name__ for layer in model.layers] == classes
    assert [layer.name for layer in model.layers] == list(oracle["layer_names"])
    assert model.input_shape == (None, 784)
    assert [layer.sharpness for layer in model.layers if isinstance(layer, SpikingBReLU)] == [1.0, 1.0, 1.0]
    np.testing.assert_array_equal(model.layers[-1].key, oracle["key"])


def test_original_whetstone_network_spikes_as_the_old_keras_computed(shared: Path, original: Any) -> None:
    model, oracle = original(shared)
    found = outputs(model, oracle["x"])
    for index, name in SPIKING.items():
        spikes, expected = found[index], oracle[name]
        assert 0.01 < expected.mean() < 0.99, "a test on silent layers would show nothing"
        # float32 sums of this length may differ by this much between two orders of summation
        margin = np.abs(oracle[f"pre_{name}"] - 0.5)
        undecided = (spikes != expected) & (margin <= 1e-5)
        wrong = (spikes != expected) & ~undecided
        assert wrong.sum() == 0
        assert undecided.sum() <= 2
    np.testing.assert_allclose(found[6], oracle["softmax"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[6].argmax(axis=1), oracle["pred"])


def test_original_whetstone_network_classifies_mnist(shared: Path, original: Any) -> None:
    model, _ = original(shared)
    assert accuracy(model, *mnist(shared)) == pytest.approx(0.9635, abs=5e-5)


def test_saved_model_of_a_whetstone_fork_keeps_structure_and_accuracy(shared: Path) -> None:
    model = load_model(shared / "models" / "doryta-ffsnn-mnist")
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "SpikingBReLU"] * 3 + ["SoftmaxDecode"]
    assert [layer.units for layer in model.layers[::2][:3]] == [256, 64, 100]
    assert [layer.sharpness for layer in model.layers if isinstance(layer, SpikingBReLU)] == [1.0] * 3
    assert accuracy(model, *mnist(shared)) == pytest.approx(0.9644, abs=5e-5)


def test_saved_model_of_a_sharpened_lenet_keeps_structure_and_accuracy(shared: Path) -> None:
    model = load_model(shared / "models" / "doryta-lenet-mnist-6-16")
    assert [type(layer).__name__ for layer in model.layers] == [
        *["Conv2D", "SpikingBReLU", "MaxPooling2D"] * 2,
        "Flatten",
        *["Dense", "SpikingBReLU"] * 3,
        "SoftmaxDecode",
    ]
    assert model.input_shape == (None, 28, 28, 1)
    first, second = model.layers[0], model.layers[3]
    assert (first.kernel.shape, first.padding) == ((5, 5, 1, 6), "same")
    assert (second.kernel.shape, second.padding) == ((5, 5, 6, 16), "valid")
    assert [layer.sharpness for layer in model.layers if isinstance(layer, SpikingBReLU)] == [1.0] * 5
    decoder = model.layers[-1]
    assert isinstance(decoder, SoftmaxDecode)
    assert decoder.key.shape == (10, 100)
    assert accuracy(model, *mnist(shared)) == pytest.approx(0.9711, abs=5e-5)
