"""Frames and labels on the command line: models that scale their frames, several inputs and outputs, bad labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, strop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that begins with Rescaling, one with two inputs and outputs, and data that they are right about."""
    keras = pytest.importorskip("keras", reason="the command line's model files need Keras")
    from strop.keras import SpikingBReLU
    from strop.lowering import lower

    layers = keras.layers
    path = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)

    def weighted(model: keras.Model) -> keras.Model:
        for layer in model.layers:
            if isinstance(layer, layers.Dense):
                kernel = rng.normal(0, 0.5, layer.kernel.shape)
                layer.set_weights([kernel - kernel.mean(axis=0), np.full(layer.units, 0.5)])
        return model

    inputs = keras.Input((12,), name="image")
    hidden = SpikingBReLU(1.0)(layers.Dense(20)(layers.Rescaling(1 / 255)(inputs)))
    model = weighted(keras.Model(inputs, layers.Dense(4, activation="softmax")(hidden)))
    model.save(path / "scaled.keras")
    lower(model).save(path / "scaled.strop")
    frames = rng.integers(0, 256, (30, 12)).astype(np.uint8)
    right = model.predict(frames, verbose=0).argmax(axis=-1)
    assert len(set(right)) > 1
    np.savez(path / "data.npz", x=frames, y=right)
    np.savez(path / "negative.npz", x=frames, y=np.where(np.arange(30) == 7, -1, right))
    np.savez(path / "too_large.npz", x=frames, y=np.where(np.arange(30) == 7, 4, right))
    np.savez(path / "soft.npz", x=frames, y=np.full((30, 4), 0.25))

    left, other = keras.Input((6,), name="left"), keras.Input((3,), name="right")
    joined = SpikingBReLU(1.0)(layers.Dense(20)(layers.Concatenate()([left, other])))
    outputs = [
        layers.Dense(units, activation="softmax", name=name)(joined) for units, name in ((4, "kind"), (3, "size"))
    ]
    two = weighted(keras.Model([left, other], outputs))
    two.save(path / "two.keras")
    x = [rng.random((30, 6)).astype(np.float32), rng.random((30, 3)).astype(np.float32)]
    kind, size = (answer.argmax(axis=-1) for answer in two.predict(x, verbose=0))
    by_name = {"x_left": x[0], "x_right": x[1], "y_kind": kind, "y_size": (size + 1) % 3}
    np.savez(path / "by_name.npz", **by_name)
    np.savez(path / "by_number.npz", x_1=x[0], x_2=x[1], y_1=kind, y_2=(size + 1) % 3)
    np.savez(path / "unequal.npz", x_1=x[0], x_2=x[1], y_1=kind[:3])
    np.savez(path / "unknown.npz", x_left=x[0], x_rigt=x[1])
    return path


def test_frames_of_a_model_that_scales_them_are_not_scaled_twice(folder: Path, tmp_path: Path) -> None:
    note = "input 'image': uint8 frames used as they are: the model begins with Rescaling"
    data = folder / "data.npz"
    for encoding in ("host", "bitplane"):
        result = strop(
            *("verify", folder / "scaled.keras", "--data", data, "--backends", "reference"),
            *("--encoding", encoding, "--json", tmp_path / "v.json"),
        )
        assert result.returncode == 0, result.stderr
        found = json.loads((tmp_path / "v.json").read_text())
        assert found["keras"]["accuracy"] == found["backends"]["reference"]["accuracy"] == 1.0
        assert found["notes"] == [note]
        assert note in result.stdout
    for model in ("scaled.keras", "scaled.strop"):
        result = strop("predict", folder / model, "--data", data, "--backend", "reference", "--out", tmp_path / "p.npz")
        assert result.returncode == 0, result.stderr
        assert note in result.stdout
        assert "accuracy 100.00 %" in result.stdout
        result = strop("inspect", folder / model, "--data", data, "--json", tmp_path / "i.json")
        assert result.returncode == 0, result.stderr
        assert json.loads((tmp_path / "i.json").read_text())["notes"] == [note]
        with np.load(tmp_path / "p.npz") as file:
            spikes = file["spikes/" + next(key for key in file.files if key.startswith("spikes/"))[7:]]
        assert json.loads((tmp_path / "i.json").read_text())["activity"]["spikes_per_frame"] == spikes.sum() / 30


@pytest.mark.parametrize("data", ["by_name.npz", "by_number.npz"])
def test_several_inputs_and_outputs_are_read_by_name_or_number(data: str, folder: Path, tmp_path: Path) -> None:
    result = strop(
        *("verify", folder / "two.keras", "--data", folder / data, "--backends", "reference"),
        *("--limit", 20, "--json", tmp_path / "v.json"),
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["frames"] == 20
    for who in (found["keras"], found["backends"]["reference"]):
        assert (who["accuracy"], who["accuracies"]) == (1.0, {"kind": 1.0, "size": 0.0})
    assert "accuracy of size" in result.stdout
    result = strop(
        *("predict", folder / "two.keras", "--data", folder / data, "--backend", "reference"),
        *("--out", tmp_path / "p.npz"),
    )
    assert "accuracy of kind 100.00 %; accuracy of size 0.00 %" in result.stdout


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        ("scaled.keras", "negative.npz", ["-1 at index 7 is not one of the 4 classes"]),
        ("scaled.keras", "too_large.npz", ["4 at index 7 is not one of the 4 classes, 0 to 3"]),
        ("scaled.keras", "soft.npz", ["row 0 is not one-hot"]),
        ("two.keras", "unequal.npz", ["30 frames but 3 labels"]),
        ("two.keras", "unknown.npz", ["'rigt'", "Did you mean 'right'?"]),
    ],
)
def test_data_that_does_not_fit_is_one_line(model: str, data: str, words: list[str], folder: Path) -> None:
    refused(strop("verify", folder / model, "--data", folder / data, "--backends", "reference"), 2, *words)


def test_an_unknown_backend_suggests_the_nearest(folder: Path) -> None:
    result = strop("verify", folder / "scaled.keras", "--data", folder / "data.npz", "--backends", "referenc")
    refused(result, 3, "there is no backend 'referenc'", "Did you mean 'reference'?")
