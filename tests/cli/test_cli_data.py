"""`--data` and `--labels`: every kind of file gives the same verdict, and what is wrong with one is one clear line."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refused, strop
from labelled import network

from strop.cli.data_files import read_data, read_training_data
from strop.errors import DataError
from strop.graph.files import archive
from strop.running.frame_forms import is_lazy, is_mapped

COUNT = 40
X = np.random.default_rng(3).integers(0, 256, (COUNT, 6)).astype(np.uint8)
Y = np.arange(COUNT) % 3


def write_hdf5(path: Path, **arrays: Any) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            packed = {"chunks": (7, *values.shape[1:]), "compression": "gzip"} if values.ndim else {}
            file.create_dataset(name, data=values, **packed)
    return path


def write_zarr(path: Path, version: int = 3, **arrays: Any) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, values in arrays.items():
        chunks = (7, *values.shape[1:])
        group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype)[:] = values
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    network().save(path / "g.strop")
    np.savez(path / "d.npz", x=X, y=Y)
    np.save(path / "x.npy", X)
    np.save(path / "y.npy", Y)
    return path


def verdict(folder: Path, tmp_path: Path, *words: object) -> dict[str, Any]:
    found = tmp_path / "found.json"
    result = strop("verify", folder / "g.strop", "--backends", "reference", "--json", found, *words)
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(found.read_text())
    report.pop("call", None)
    for key in ("build_seconds", "run_seconds", "frames_per_second"):
        report["backends"]["reference"].pop(key)
    return report


# Every kind of file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [(), ("--limit", 23)])
def test_every_kind_of_file_gives_the_same_verdict(limit: tuple[object, ...], folder: Path, tmp_path: Path) -> None:
    wanted = verdict(folder, tmp_path, "--data", folder / "d.npz", *limit)
    assert wanted["frames"] == (23 if limit else COUNT)
    assert wanted["backends"]["reference"]["accuracy"] > 0
    files = {
        "hdf5": write_hdf5(tmp_path / "d.h5", x=X, y=Y, notes=np.zeros(())),
        "zarr 3": write_zarr(tmp_path / "three.zarr", x=X, y=Y),
        "zarr 2": write_zarr(tmp_path / "two.zarr", 2, x_1=X, y_1=Y),
        "mnist's keys": write_hdf5(tmp_path / "m.hdf5", x_test=X, y_test=Y, x_train=X[:9], y_train=Y[:9]),
    }
    for kind, path in files.items():
        assert verdict(folder, tmp_path, "--data", path, *limit) == wanted, kind
        labelled = ("--data", folder / "x.npy", "--labels", path)
        assert verdict(folder, tmp_path, *labelled, *limit) == wanted, kind
    for labels in (folder / "y.npy", folder / "d.npz", write_hdf5(tmp_path / "one.h5", classes=Y)):
        assert verdict(folder, tmp_path, "--data", folder / "x.npy", "--labels", labels, *limit) == wanted
    alone = verdict(folder, tmp_path, "--data", folder / "x.npy", *limit)
    assert alone["backends"]["reference"]["accuracy"] is None


def test_labels_that_are_given_go_before_those_in_the_file(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", Y * 0)
    ours = verdict(folder, tmp_path, "--data", folder / "d.npz", "--labels", tmp_path / "zeros.npy")
    theirs = verdict(folder, tmp_path, "--data", folder / "x.npy", "--labels", tmp_path / "zeros.npy")
    assert ours == theirs != verdict(folder, tmp_path, "--data", folder / "d.npz")


@pytest.mark.parametrize("kind", ["x.npy", "d.h5", "d.zarr"])
def test_the_other_commands_take_them(kind: str, folder: Path, tmp_path: Path) -> None:
    if kind == "d.h5":
        data = write_hdf5(tmp_path / kind, x=X)
    else:
        data = write_zarr(tmp_path / kind, x=X) if kind == "d.zarr" else folder / kind
    graph, labels = folder / "g.strop", ("--labels", folder / "y.npy")
    for number, (path, more) in enumerate([(folder / "d.npz", ()), (data, labels)]):
        out = tmp_path / f"{number}.npz"
        result = strop("predict", graph, "--backend", "reference", "--data", path, "--out", out, *more)
        assert result.returncode == 0, result.stderr
        assert "accuracy" in result.stdout
        result = strop("inspect", graph, "--data", path, "--json", tmp_path / f"{number}.json")
        assert result.returncode == 0, result.stderr
        result = strop("explain", graph, "--data", path, "--backend", "reference", "--frame", 33)
        assert result.returncode == 0, result.stderr
        out = tmp_path / f"{number}.strop"
        result = strop("quantize", graph, "--target", "int8", "--data", path, "--out", out, *more)
        assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "0.npz") as ours, np.load(tmp_path / "1.npz") as theirs:
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert json.loads((tmp_path / "0.json").read_text()) == json.loads((tmp_path / "1.json").read_text())


def test_frames_stay_where_they_are(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, labels = read_data(folder / "x.npy", None, folder / "y.npy")
    assert is_mapped(frames)
    assert is_mapped(labels)
    assert is_mapped(read_data(folder / "x.npy", 20)[0])
    for path in (write_hdf5(tmp_path / "d.h5", x=X, y=Y), write_zarr(tmp_path / "d.zarr", x=X, y=Y)):
        for limit in (None, 20):
            frames, labels = read_data(path, limit)
            assert is_lazy(frames)
            assert is_lazy(labels)
            assert frames.shape == (limit or COUNT, 6)
            np.testing.assert_array_equal(frames[15:40], X[15:limit])
            np.testing.assert_array_equal(np.asarray(labels), Y[:limit])
    assert not is_mapped(read_data(folder / "d.npz")[0])
    monkeypatch.setattr(archive, "_MAPPED", 64)
    frames, labels = read_data(folder / "d.npz")
    assert is_mapped(frames)
    np.testing.assert_array_equal(frames, X)
    np.testing.assert_array_equal(labels, Y)
    np.savez_compressed(tmp_path / "packed.npz", x=X, y=Y)
    assert not is_mapped(read_data(tmp_path / "packed.npz")[0])


def test_training_data_of_other_files(folder: Path, tmp_path: Path) -> None:
    keys = {"x_train": X[:30], "y_train": Y[:30], "x_test": X[30:], "y_test": Y[30:]}
    frames, labels, test = read_training_data(write_hdf5(tmp_path / "m.h5", **keys), 25)
    np.testing.assert_array_equal(np.asarray(frames), X[:25])
    np.testing.assert_array_equal(np.asarray(labels), Y[:25])
    assert test is not None
    np.testing.assert_array_equal(np.asarray(test[0]), X[30:])
    frames, labels, test = read_training_data(folder / "x.npy", None, folder / "y.npy")
    np.testing.assert_array_equal(frames, X)
    np.testing.assert_array_equal(labels, Y)
    assert test is None


# What is wrong --------------------------------------------------------------------------------------------------------


def said(folder: Path, code: int, *words: object) -> str:
    result = strop("verify", folder / "g.strop", "--backends", "reference", *words)
    refused(result, code)
    return result.stderr


def test_files_that_hold_no_data_are_refused(folder: Path, tmp_path: Path) -> None:
    def said_of(path: Path, labels: Path | None = None) -> str:
        return said(folder, 2, "--data", path, *(() if labels is None else ("--labels", labels)))

    data = folder / "x.npy"
    assert "does not exist" in said_of(tmp_path / "none.h5")
    assert "does not exist" in said_of(data, tmp_path / "none.npy")
    assert "is a folder, and none of Zarr" in said_of(tmp_path)
    np.save(tmp_path / "short.npy", Y[:9])
    assert "holds 40 frames, and" in said_of(data, tmp_path / "short.npy")
    np.savez(tmp_path / "z.npz", z=Y, a=Y)
    assert "lacks the array 'y'; it holds: a, z" in said_of(data, tmp_path / "z.npz")
    assert "lacks the array 'x' (frames); it holds: w" in said_of(write_hdf5(tmp_path / "w.h5", w=X))
    assert "lacks the array 'x' (frames); it holds: w" in said_of(write_zarr(tmp_path / "w.zarr", w=X))
    assert "holds no frames" in said_of(_empty(tmp_path))
    np.save(tmp_path / "o.npy", np.array([None]), allow_pickle=True)
    assert "holds pickled objects, which are never opened" in said_of(tmp_path / "o.npy")
    content = data.read_bytes()
    for name, changed, message in (
        ("cut.npy", content[:-5], "is damaged or cut short: uint8 (40, 6) takes 368 bytes, and it has 363"),
        ("long.npy", content + b"12", "is damaged or cut short"),
        ("head.npy", content[:20], "cannot be read as .npy"),
        ("shape.npy", content.replace(b"(40, 6)", b"(-4, 6)"), "is damaged or cut short"),
    ):
        (tmp_path / name).write_bytes(changed)
        assert message in said_of(tmp_path / name), name


def _empty(folder: Path) -> Path:
    np.save(folder / "empty.npy", X[:0])
    return folder / "empty.npy"


def test_hdf5_that_is_damaged_or_leads_elsewhere(folder: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    good = write_hdf5(tmp_path / "good.h5", x=X, y=Y)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(good.read_bytes()[:-600])
    assert "cannot be read as HDF5" in said(folder, 2, "--data", cut)
    with h5py.File(good) as file:
        start = file["x"].id.get_chunk_info(4).byte_offset
    content = bytearray(good.read_bytes())
    content[start + 5 : start + 25] = bytes(20)
    (tmp_path / "bad.h5").write_bytes(content)
    assert "cannot be read as HDF5: Can't synchronously read data" in said(folder, 2, "--data", tmp_path / "bad.h5")
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(good), "/x")
    assert "x is a link" in said(folder, 2, "--data", tmp_path / "links.h5")
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("x", (COUNT, 6), "u1", external=[("/etc/passwd", 0, 240)])
    assert "the values of x lie in another file" in said(folder, 2, "--data", tmp_path / "external.h5")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["x"] = ["a", "b"]
    assert "which is no number and no text" in said(folder, 2, "--data", tmp_path / "text.h5")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("x", (1 << 40, 6), "u1", chunks=(1000, 6))
    assert "declares 6,597,069,766,656 bytes of values and stores 0" in said(folder, 2, "--data", tmp_path / "bomb.h5")


DAMAGED = sorted((Path(__file__).parents[1] / "data" / "damaged").glob("*.h5"))


@pytest.mark.parametrize("path", DAMAGED, ids=lambda path: path.stem)
def test_hdf5_that_crashes_the_library(path: Path, folder: Path) -> None:
    pytest.importorskip("h5py")
    said(folder, 2, "--data", path)


def test_zarr_that_is_damaged_or_could_run_code(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_zarr(tmp_path / "good.zarr", x=X)
    bad = tmp_path / "bad.zarr"
    shutil.copytree(good, bad)
    piece = next(path for path in sorted(bad.rglob("*")) if path.is_file() and path.parent.name == "0")
    piece.write_bytes(b"nonsense")
    assert "cannot be read" in said(folder, 2, "--data", bad)
    described = json.loads((good / "x" / "zarr.json").read_text())
    for codec in ("numcodecs.pickle", "somebody's"):
        described["codecs"].append({"name": codec, "configuration": {}})
        (bad / "x" / "zarr.json").write_text(json.dumps(described))
        assert "strop" in said(folder, 2, "--data", bad)
    old = write_zarr(tmp_path / "old.zarr", 2, x=X)
    header = json.loads((old / "x" / ".zarray").read_text())
    for filters in ([{"id": "pickle", "protocol": 5}], [{"id": "json2"}]):
        (old / "x" / ".zarray").write_text(json.dumps({**header, "filters": filters}))
        assert "strop" in said(folder, 2, "--data", old)
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert "Install it with: pip install 'strop[zarr]'" in said(folder, 2, "--data", good)


def test_large_members_of_an_npz_are_checked_before_they_are_mapped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MAPPED", 64)
    content = bytearray((folder / "d.npz").read_bytes())
    place = content.index(X[20].tobytes())
    content[place] ^= 1
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        read_data(tmp_path / "d.npz")
    with zipfile.ZipFile(folder / "d.npz") as file:
        member = file.read("x.npy")
    with zipfile.ZipFile(tmp_path / "long.npz", "w") as file:
        file.writestr("x.npy", member.replace(b"(40, 6)", b"(99, 6)"))
    with pytest.raises(DataError, match="is damaged: 'x' declares 594 bytes and holds 368"):
        read_data(tmp_path / "long.npz")


def test_labels_without_frames_are_refused(folder: Path, tmp_path: Path) -> None:
    words = ("quantize", folder / "g.strop", "--target", "int8", "--out", tmp_path / "q.strop")
    result = strop(*words, "--labels", folder / "y.npy")
    refused(result, 2, "the frames they belong to are missing; give --data too")
    assert not (tmp_path / "q.strop").exists()
