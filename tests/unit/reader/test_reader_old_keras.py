"""Files that old versions of Keras wrote, against what those computed (see `data/make_old_models.py`)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from strop.keras import get_sharpness
from strop.reader import load_model

ARCHIVE = Path(__file__).parent / "data" / "old_models.zip"
SPIKING = ["spikes", "depth_spikes", "sum", "out_spikes"]
FILES = [
    "keras_2_2_4.h5",
    "tf_2_3_4.h5",
    "tf_2_3_4",  # SavedModel with the layer configs in saved_model.pb
    "tf_2_13_1.h5",
    "tf_2_13_1",  # SavedModel with the layer configs in keras_metadata.pb
    "tf_2_13_1.keras",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old_models")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


def computed(model: Any, names: list[str], frames: Any) -> dict[str, np.ndarray]:
    inside = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return dict(zip(names, map(np.asarray, inside(frames)), strict=True))


@pytest.mark.parametrize("name", FILES)
def test_every_layer_computes_what_the_old_keras_computed(folder: Path, name: str) -> None:
    model = load_model(folder / name)
    oracle = dict(np.load(folder / f"{name.split('.')[0]}.npz"))
    frames = oracle.pop("frames")
    found = computed(model, list(oracle), frames)
    for layer in SPIKING:
        assert 0.05 < oracle[layer].mean() < 0.95, "silent or saturated layers would show nothing"
        np.testing.assert_array_equal(found[layer], oracle[layer], err_msg=layer)
    for layer, values in oracle.items():
        np.testing.assert_allclose(found[layer], values, rtol=0, atol=1e-5, err_msg=layer)


@pytest.mark.parametrize("name", FILES)
def test_every_spiking_layer_of_an_old_file_is_sharp(folder: Path, name: str) -> None:
    sharpness = get_sharpness(load_model(folder / name))
    assert sharpness == dict.fromkeys(["spikes", "depth_spikes", "shared_spikes", "inner_spikes", "out_spikes"], 1.0)
