"""What is refused of `.strop` files, and what a failed write leaves behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from random_graphs import random_graph
from version_1_file import edit, write_version_1

from strop import Graph
from strop.errors import CapacityError, ModelFileError, StropError
from strop.graph import (
    Dense,
    Input,
    Population,
)
from strop.graph.files.read import is_graph_file


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.strop"
    write_version_1(path)
    return path


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.strop does not exist"):
        Graph.load(tmp_path / "nothing.strop")
    with pytest.raises(ModelFileError, match="is a folder"):
        Graph.load(tmp_path)


def test_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.strop").write_bytes(b"PK\x03\x04 not this")
    with pytest.raises(ModelFileError, match="is no HDF5 file"):
        Graph.load(tmp_path / "a.strop")
    assert not is_graph_file(tmp_path / "a.strop")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    random_graph(5).save(tmp_path / "whole.strop")
    whole = (tmp_path / "whole.strop").read_bytes()
    for length in {0, 4, 8, 100, *range(0, len(whole), max(1, len(whole) // 40))}:
        (tmp_path / "cut.strop").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            Graph.load(tmp_path / "cut.strop")


def test_flipped_bytes_give_a_graph_or_one_clear_error(tmp_path: Path) -> None:
    random_graph(7).save(tmp_path / "whole.strop")
    whole = bytearray((tmp_path / "whole.strop").read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(whole), 150):
        hurt = whole.copy()
        hurt[position] ^= int(rng.integers(1, 256))
        (tmp_path / "hurt.strop").write_bytes(hurt)
        try:
            assert isinstance(Graph.load(tmp_path / "hurt.strop"), Graph)
        except StropError:
            refused += 1
    assert refused > 10


def test_hdf5_of_another_kind_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file.attrs["keras_version"] = "2.1.2"
    with pytest.raises(ModelFileError, match=r"HDF5 of another kind; .*strop\.load_model"):
        Graph.load(tmp_path / "keras.h5")
    assert not is_graph_file(tmp_path / "keras.h5")


def test_newer_version_says_to_upgrade(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file.attrs["version"] = 4
    with pytest.raises(ModelFileError, match=r"version 4 .* up to version 3; upgrade strop"):
        Graph.load(saved)
    assert is_graph_file(saved)


def test_unknown_operator_is_named(saved: Path) -> None:
    edit(saved, lambda d: d["projections"][0]["operator"].update(type="Fourier"))
    with pytest.raises(ModelFileError, match="no operator 'Fourier'; known are Dense"):
        Graph.load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["populations"][0].update(shape=[3]), "the target has the shape"),
        (lambda d: d["populations"][0].update(shape=[2.5]), "must hold integers"),
        (lambda d: d["populations"][0].update(shape=[True]), "must hold integers"),
        (lambda d: d["populations"][0].pop("bias"), "'and' has no 'bias'"),
        (lambda d: d["projections"][0].update(delay=2), "the delay must be 1"),
        (lambda d: d["projections"][0].update(source="y"), "there is no node 'y'"),
        (lambda d: d["projections"][0]["operator"].update(weight="gone"), "no dataset 'arrays/gone'"),
        (lambda d: d["projections"][0]["operator"].update(weight="swap"), "must be float64, got int64"),
        (lambda d: d["projections"][0]["operator"].update(weight="th"), "must have shape"),
        (lambda d: d["inputs"][0].update(encoding="guess"), "encoding must be one of"),
        (lambda d: d["inputs"][0].update(level=float("nan")), "'graph' holds NaN"),
        (lambda d: d.update(outputs=["nobody"]), "outputs must name"),
        (lambda d: d.update(inputs=[1]), "must be a list of objects"),
        (lambda d: d["readouts"][0].update(kind="vote"), "kind of read-out"),
    ],
)
def test_document_that_makes_no_graph_is_refused_with_its_reason(saved: Path, change: Any, says: str) -> None:
    edit(saved, change)
    with pytest.raises(ModelFileError, match=says):
        Graph.load(saved)


def test_values_that_are_not_finite_are_refused(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file["arrays/w"][0, 0] = np.nan
    with pytest.raises(ModelFileError, match="not finite"):
        Graph.load(saved)


def test_links_out_of_the_file_are_refused(saved: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["w"] = np.ones((2, 2))
    (tmp_path / "raw").write_bytes(np.ones((2, 2)).tobytes())
    for put in (
        lambda folder: folder.__setitem__("w", h5py.ExternalLink(str(tmp_path / "secret.h5"), "w")),
        lambda folder: folder.__setitem__("w", h5py.SoftLink("/arrays/th")),
        lambda folder: folder.create_dataset(
            "w", (2, 2), "f8", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        ),
    ):
        with h5py.File(saved, "a") as file:
            del file["arrays/w"]
            put(file["arrays"])
        with pytest.raises(ModelFileError, match="arrays/w"):
            Graph.load(saved)


def test_array_that_declares_what_is_not_there_is_refused_before_it_is_read(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        del file["arrays/w"]
        file["arrays"].create_dataset("w", (1 << 24, 1 << 24), "f8", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(ModelFileError, match="arrays/w declares .* bytes of values and stores 0"):
        Graph.load(saved)


def test_array_larger_than_the_memory_is_refused_before_it_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "20")
    with pytest.raises(CapacityError, match="arrays/w"):
        Graph.load(saved)


def test_deeply_nested_document_is_refused(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        del file["graph"]
        file["graph"] = "[" * 200_000
    with pytest.raises(ModelFileError, match=r"net\.strop"):
        Graph.load(saved)


def test_failed_write_leaves_the_old_file_and_no_litter(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match=r"net\.strop cannot be written: .*No space left"):
        random_graph(1).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist; make it first"):
        random_graph(1).save(tmp_path / "no" / "net.strop")


def test_foreign_operator_cannot_be_saved(tmp_path: Path) -> None:
    class Mine(Dense):
        pass

    units = Population("units", (2,), 0.5, 0.0)
    graph = Graph.from_nodes((Input("x", (3,)),), (units,), [("x", "units", Mine(np.ones((3, 2))))], outputs=["units"])
    with pytest.raises(ModelFileError, match="cannot hold the operator Mine"):
        graph.save(tmp_path / "net.strop")
    assert os.listdir(tmp_path) == []
