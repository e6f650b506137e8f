"""`strop sharpen`: a user's own network, from ReLU to a verified file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from command_line import refused, strop

keras = pytest.importorskip("keras", reason="the command line's model files need Keras")

from strop.cli import recipe_runs  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402
from strop.reader import load_model  # noqa: E402

L = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained ReLU network for the digits, and the digits in several files."""
    from strop.keras.recipes import load_digits

    path = tmp_path_factory.mktemp("sharpen")
    (x, y), _, (x_test, y_test) = load_digits()
    np.savez(path / "digits.npz", x=x, y=y)
    np.savez(path / "onehot.npz", x=x[:, :, :, 0], y=np.eye(10)[y])
    whole, whole_test = (np.round(255 * frames).astype(np.uint8) for frames in (x, x_test))
    np.savez(path / "keras.npz", x_train=whole, y_train=y, x_test=whole_test, y_test=y_test)
    np.savez(path / "unlabelled.npz", x=x)
    np.savez(path / "eleven.npz", x=x, y=np.where(np.arange(len(y)) == 7, 10, y))
    np.savez(path / "short.npz", x=x, y=y[:-1])
    np.savez(path / "small.npz", x=x[:, 1:], y=y)
    np.savez(path / "few.npz", x=x[:5], y=y[:5])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Flatten(),
            L.Dense(48, activation="relu", name="hidden"),
            L.Dropout(0.1),
            L.Dense(10, activation="softmax", name="classes"),
        ],
        name="mlp",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=10, batch_size=32, verbose=0)
    model.save(path / "mlp.keras")
    return path


def figures(text: str) -> dict[str, float]:
    """Return what the command printed of each step."""
    found = {}
    for name in ("before", "activations swapped", "sharpened"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        found[name] = float(line.removeprefix(f"  {name}").split()[0])
    return found


def test_the_whole_way(folder: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "s.keras", tmp_path / "report"
    result = strop(
        *("sharpen", folder / "mlp.keras", "--data", folder / "digits.npz", "--out", out),
        *("--epochs", 4, "--seed", 1, "--report", report),
    )
    assert result.returncode == 0, result.stderr
    assert "accuracy on 129 frames that were held out" in result.stdout
    found = figures(result.stdout)
    assert found["before"] > 90
    assert found["sharpened"] > 85
    assert (report / "training.html").is_file()
    assert (report / "report.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "s.keras"]
    again = strop("verify", out, "--data", folder / "digits.npz", "--backends", "reference", "--limit", 300)
    assert again.returncode == 0, again.stderr
    sharp = strop("sharpen", out, "--data", folder / "digits.npz", "--out", tmp_path / "t.keras")
    refused(sharp, 2, "is fully sharpened already")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "s.keras"]


def test_keras_keys_train_on_the_training_split_and_test_on_the_other(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.keras"
    result = strop(
        *("sharpen", folder / "mlp.keras", "--data", folder / "keras.npz", "--out", out),
        *("--epochs", 3, "--limit", 600, "--head", "nhot"),
    )
    assert result.returncode == 0, result.stderr
    assert "accuracy on 360 frames that were held out" in result.stdout
    assert figures(result.stdout)["before"] > 90  # uint8 was scaled
    assert strop("inspect", out).returncode == 0


def test_an_interrupted_run_with_one_hot_labels_goes_on(folder: Path, tmp_path: Path) -> None:
    from strop.keras.sharpening.checkpoint import TrainingCheckpoint

    out = tmp_path / "s.keras"
    # Frames without a channel axis, too.
    command = ("sharpen", folder / "mlp.keras", "--data", folder / "onehot.npz", "--out", out, "--limit", 400)
    write = TrainingCheckpoint.write

    def interrupted(self: Any, model: Any, epoch: int, *rest: Any) -> None:
        write(self, model, epoch, *rest)
        if epoch == 1:
            raise KeyboardInterrupt

    with mock.patch.object(TrainingCheckpoint, "write", interrupted):
        result = strop(*command, "--epochs", 4)
    assert result.returncode == 130
    assert "the same command goes on from there" in result.stderr
    assert not out.exists()
    training = tmp_path / "s.keras.training"
    assert json.loads((training / "state.json").read_text())["epoch"] == 1
    refused(strop(*command, "--epochs", 5), 2, "an interrupted training with another epochs", "delete it")
    result = strop(*command, "--epochs", 4)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("resuming mlp.keras")
    assert "4 epochs" in result.stdout
    assert "accuracy on 40 frames" in result.stdout
    assert out.is_file()
    assert not training.exists()


def test_an_autoencoder_is_its_own_target(folder: Path, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(4, 3, padding="same", activation="relu"),
            L.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    model.save(tmp_path / "auto.keras")
    command = ("sharpen", tmp_path / "auto.keras", "--data", folder / "unlabelled.npz", "--out", tmp_path / "s.keras")
    result = strop(*command, "--loss", "mse", "--epochs", 3, "--limit", 300)
    assert result.returncode == 0, result.stderr
    assert "mse on 30 frames that were held out" in result.stdout
    found = figures(result.stdout)
    assert found["sharpened"] < found["before"]  # it was never trained


def test_regression_needs_a_loss(folder: Path, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(16, activation="tanh"), L.Dense(1)])
    model.save(tmp_path / "sum.keras")
    x = np.load(folder / "digits.npz")["x"][:300]
    np.savez(tmp_path / "sums.npz", x=x, y=x.mean(axis=(1, 2, 3)) + 0.25)
    command = ("sharpen", tmp_path / "sum.keras", "--data", tmp_path / "sums.npz", "--out", tmp_path / "s.keras")
    refused(strop(*command), 2, "for regression give the loss")
    result = strop(*command, "--loss", "mse", "--epochs", 8)
    assert result.returncode == 0, result.stderr
    found = figures(result.stdout)
    assert found["sharpened"] < found["before"] / 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("missing.npz", ("does not exist",)),
        ("unlabelled.npz", ("there are no labels ('y')",)),
        ("eleven.npz", ("label 10 at index 7", "none of the 10 classes")),
        ("short.npz", ("1293 frames but 1292 labels",)),
        ("small.npz", ("have the shape (1293, 7, 8, 1)", "takes (n, 8, 8, 1)")),
        ("few.npz", ("5 frames are too few",)),
    ],
)
def test_bad_data_is_refused_and_nothing_left(folder: Path, tmp_path: Path, data: str, words: tuple[str, ...]) -> None:
    result = strop("sharpen", folder / "mlp.keras", "--data", folder / data, "--out", tmp_path / "s.keras")
    refused(result, 2, *words)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_refused(folder: Path, tmp_path: Path) -> None:
    digits = ("--data", folder / "digits.npz")
    model = folder / "mlp.keras"
    refused(strop("sharpen", model, *digits, "--out", tmp_path / "s.h5"), 2, "--out must end in .keras")
    refused(strop("sharpen", model, *digits, "--out", tmp_path / "no" / "s.keras"), 2, "does not exist")
    refused(strop("sharpen", model, *digits, "--out", model), 2, "is the model itself")
    refused(strop("sharpen", tmp_path / "m.keras", *digits, "--out", tmp_path / "s.keras"), 2, "does not exist")
    (tmp_path / "s.keras.training").mkdir()
    refused(strop("sharpen", model, *digits, "--out", tmp_path / "s.keras"), 2, "is in the way")
    refused(strop("sharpen", model, *digits, "--out", tmp_path / "t.keras", "--epochs", 1), 2, "epochs=1")


def test_layers_without_counterpart_and_what_lowering_refuses_end_before_training(folder: Path, tmp_path: Path) -> None:
    digits = ("--data", folder / "digits.npz", "--out", tmp_path / "s.keras")
    image = keras.Input((8, 8, 1))
    x = L.Conv2D(2, 3, activation="relu")(image)
    y = L.Conv2D(2, 1, activation="relu")(x)
    added = L.MaxPooling2D(2)(L.Add()([x, y]))
    model = keras.Model(image, L.Dense(10)(L.Flatten()(L.Add()([added, L.MaxPooling2D(2)(L.Conv2D(2, 1)(x))]))))
    model.save(tmp_path / "pooled.keras")
    result = strop("sharpen", tmp_path / "pooled.keras", *digits)
    refused(result, 2, "cannot be carried over")
    keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(4, activation="exponential"), L.Dense(10)]).save(
        tmp_path / "exp.keras"
    )
    refused(strop("sharpen", tmp_path / "exp.keras", *digits), 2, "'exponential' has no counterpart")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp.keras", "pooled.keras"]


def test_the_refusal_of_relu_names_the_command(folder: Path) -> None:
    result = strop("verify", folder / "mlp.keras", "--data", folder / "digits.npz", "--backends", "reference")
    refused(result, 2, "'relu' is not a threshold", "strop sharpen MODEL.keras --data D.npz --out S.keras")


def test_weights_of_few_bits(folder: Path, tmp_path: Path) -> None:
    command = ("sharpen", folder / "mlp.keras", "--data", folder / "digits.npz", "--out", tmp_path / "s.keras")
    result = strop(*command, "--weight-bits", 2, "--epochs", 2, "--limit", 300)
    assert result.returncode == 0, result.stderr
    kernel = keras.models.load_model(tmp_path / "s.keras").get_layer("hidden").kernel
    values = np.asarray(keras.ops.convert_to_numpy(kernel))
    assert max(len(np.unique(column)) for column in values.T) <= 3


def test_saved_models_hold_no_state_of_the_optimiser(tmp_path: Path) -> None:
    """Adam's moments take twice the room of the network, and Keras 3.15 compiles what `clone_model` copies."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(30), SpikingBReLU(1.0), L.Dense(3)])
    model.compile("adam", "mse")
    model.fit(np.zeros((8, 4)), np.zeros((8, 3)), verbose=0)
    recipe_runs.save_model(model, tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        names: list[str] = []
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            weights.visit(names.append)
    assert any("dense" in name for name in names)
    assert not [name for name in names if "optimizer" in name]
    loaded = load_model(tmp_path / "net.keras")
    x = np.random.default_rng(0).random((5, 4))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert model.optimizer is not None
