"""Files that are no models: each gets one clear error that names the file and says what is wrong."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from strop.errors import BackendMissingError, ModelFileError, UnsupportedLayerError
from strop.reader import load_model


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    path = tmp_path / "good.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    return path


@pytest.fixture
def h5_file(old_files: Any, draw: Any) -> Path:
    config = [old_files.dense("d", 2, batch_input_shape=[None, 3])]
    path: Path = old_files.hdf5("Sequential", config, {"d": {"d/kernel:0": draw(3, 2), "d/bias:0": draw(2)}})
    assert load_model(path).count_params() == 8
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 700
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist; expected a .keras file" in refusal(tmp_path / "nothing.h5")


def test_missing_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing" / "model.keras")


@pytest.mark.parametrize("name", ["empty.keras", "empty.h5", "empty"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    assert "is empty" in refusal(path)


@pytest.mark.parametrize("name", ["noise.keras", "noise.h5", "noise.pb"])
def test_random_bytes(tmp_path: Path, rng: Any, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00" + rng.bytes(5000))
    assert "is not a model file: it starts with" in refusal(path)


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_text("To be, or not to be")
    assert "is not a model file: it starts with b'To be" in refusal(path)


def test_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert "Git LFS pointer" in refusal(path)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.99])
def test_truncated_zip(keras_file: Path, part: float) -> None:
    data = keras_file.read_bytes()
    keras_file.write_bytes(data[: int(len(data) * part)])
    assert "is a zip file, but damaged or cut short" in refusal(keras_file)


def test_zip_with_a_flipped_bit_in_its_weights(keras_file: Path) -> None:
    data = bytearray(keras_file.read_bytes())
    with zipfile.ZipFile(keras_file) as archive:
        start = archive.getinfo("model.weights.h5").header_offset
    data[start + 2000] ^= 1
    keras_file.write_bytes(data)
    assert "model.weights.h5 in it fails its checksum" in refusal(keras_file)


@pytest.mark.parametrize("name", ["archive.zip", "archive.keras"])
def test_zip_that_is_no_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no model")
    assert "is a zip file, but no Keras model" in refusal(path)


def test_empty_zip(tmp_path: Path) -> None:
    path = tmp_path / "empty.keras"
    zipfile.ZipFile(path, "w").close()
    assert "is a zip file, but no Keras model" in refusal(path)


def test_npz_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "frames.npz", x=np.zeros(3))
    assert "is a zip file, but no Keras model" in refusal(tmp_path / "frames.npz")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_truncated_hdf5(h5_file: Path, part: float) -> None:
    data = h5_file.read_bytes()
    h5_file.write_bytes(data[: int(len(data) * part)])
    assert "is an HDF5 file, but damaged or cut short" in refusal(h5_file)


def test_hdf5_that_is_no_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["values"] = np.arange(3)
    assert "holds no Keras model (no attribute 'model_config')" in refusal(tmp_path / "data.h5")


def test_weights_of_keras_3_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    assert "holds weights only" in refusal(path)


def test_weights_of_keras_2_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense_1"]
        file.create_group("dense_1")
    assert "holds weights only" in refusal(tmp_path / "weights.h5")


def test_saved_strop_graph_points_to_its_own_loader(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.strop", "w") as file:
        file.attrs["format"] = "strop-graph"
    assert "is a saved strop graph, not a Keras model; open it with strop.Graph.load" in refusal(tmp_path / "net.strop")


def test_keras_1_file(h5_file: Path) -> None:
    with h5py.File(h5_file, "r+") as file:
        file.attrs["keras_version"] = b"1.2.2"
    assert "was written by Keras 1.2.2; open it with Keras 2 and save it again" in refusal(h5_file)


@pytest.mark.parametrize("config", ["", "{", "[]", "null", "7", "\xff"])
def test_damaged_model_config(h5_file: Path, config: str) -> None:
    with h5py.File(h5_file, "r+") as file:
        file.attrs["model_config"] = config
    assert "the model config in it is" in refusal(h5_file)


@pytest.mark.parametrize("config", ['{"class_name": "Sequential"}', '{"class_name": "Sequential", "config": []}'])
def test_sequential_model_without_layers(h5_file: Path, config: str) -> None:
    with h5py.File(h5_file, "r+") as file:
        file.attrs["model_config"] = config
    assert "Sequential" in refusal(h5_file) or "damaged" in refusal(h5_file)


def test_config_nested_deeper_than_any_model(h5_file: Path) -> None:
    with h5py.File(h5_file, "r+") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": None}).replace(
            "null", '[{"class_name": "Sequential", "config": ' * 400 + "[]" + "}]" * 400
        )
    refusal(h5_file)


@pytest.mark.parametrize("missing", ["model_weights", "model_weights/d", "model_weights/d/d/kernel:0"])
def test_model_config_without_its_weights(h5_file: Path, missing: str) -> None:
    with h5py.File(h5_file, "r+") as file:
        del file[missing]
    assert "is missing" in refusal(h5_file)


def test_weights_without_their_names(h5_file: Path) -> None:
    with h5py.File(h5_file, "r+") as file:
        del file["model_weights/d"].attrs["weight_names"]
    assert "has no attribute 'weight_names'" in refusal(h5_file)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads it all")
def test_unreadable_file(h5_file: Path) -> None:
    h5_file.chmod(0)
    assert "cannot be read" in refusal(h5_file)


def test_original_error_is_chained(keras_file: Path) -> None:
    keras_file.write_bytes(keras_file.read_bytes()[:200])
    with pytest.raises(ModelFileError) as caught:
        load_model(keras_file)
    assert isinstance(caught.value.__cause__, zipfile.BadZipFile)


JUNK: list[Any] = [None, True, -1, 2.5, "", "junk", [], {}, [[]], {"class_name": "Dense"}, [["d", 0, 0]], 10**30]


def damaged(value: Any, rng: Any) -> Any:
    """A copy of a JSON value with one randomly chosen part of it replaced by junk or left out."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.2:
        return JUNK[rng.integers(len(JUNK))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    chosen = keys[rng.integers(len(keys))]
    copy: Any = value.copy()
    if rng.random() < 0.1:
        del copy[chosen]
    else:
        copy[chosen] = damaged(value[chosen], rng)
    return copy


def test_any_damage_to_a_config_ends_in_a_model_or_one_clear_error(h5_file: Path, rng: Any) -> None:
    with h5py.File(h5_file, "r") as file:
        config = json.loads(file.attrs["model_config"])
    refused = 0
    for _ in range(150):
        with h5py.File(h5_file, "r+") as file:
            file.attrs["model_config"] = json.dumps(damaged(config, rng))
        try:
            load_model(h5_file)
        except (ModelFileError, UnsupportedLayerError):
            refused += 1
    assert 50 < refused < 150


def test_missing_keras_names_the_extra(h5_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_keras(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "keras":
            raise ModuleNotFoundError("No module named 'keras'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "strop.keras")  # as in a process that has not read a model yet
    monkeypatch.setattr(builtins, "__import__", without_keras)
    with pytest.raises(BackendMissingError, match=r"pip install 'strop\[keras\]'") as caught:
        load_model(h5_file)
    assert caught.value.exit_code == 3


def test_bad_files_are_told_without_loading_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from strop.reader import load_model; from strop.errors import ModelFileError\n"
        "try: load_model(sys.argv[1])\n"
        "except ModelFileError: print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "missing.h5")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout.strip() == "[]"
