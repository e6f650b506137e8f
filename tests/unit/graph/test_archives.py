"""Zip files: bombs, names that lead out of the file, and damaged arrays are refused before they are unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop.errors import CapacityError, DataError
from strop.graph.files import archive
from strop.graph.files.archive import open_npz


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npz(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def refusal(path: Path, name: str = "x") -> str:
    with pytest.raises(DataError) as caught, open_npz(path) as file:
        file[name]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_arrays_are_read_by_name(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", ("x.npy", npy(np.arange(6.0).reshape(2, 3))), ("y.npy", npy([1, 2])))
    with open_npz(path) as file:
        assert file.files == ["x", "y"]
        assert file["x"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert file["y"].dtype == np.int64


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "bomb.npz", ("x.npy", npy(np.zeros(1 << 20))))
    with open_npz(path) as file:
        assert file["x"].size == 1 << 20
    monkeypatch.setattr(archive, "_ROOM", 1 << 20)
    assert "would unpack to 8.4 MB, as those of a zip bomb do" in refusal(path)


def test_overlapping_members(tmp_path: Path) -> None:
    data = bytearray(npz(tmp_path / "o.npz", ("x.npy", npy(np.random.default_rng(0).random(100)))).read_bytes())
    place = data.index(b"PK\x01\x02") + 20
    data[place : place + 4] = (1 << 20).to_bytes(4, "little")
    (tmp_path / "o.npz").write_bytes(data)
    assert "overlap" in refusal(tmp_path / "o.npz")


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "a/../../x.npy", "c:x.npy", "..\\x.npy"])
def test_names_that_lead_out_of_the_file(tmp_path: Path, name: str) -> None:
    assert "would be written outside of it" in refusal(npz(tmp_path / "p.npz", (name, npy(1))))


def test_members_that_are_there_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = npz(tmp_path / "t.npz", ("x.npy", npy(1)), ("x.npy", npy(2)))
    assert "holds 'x.npy' twice" in refusal(path)


def test_shapes_that_are_not_there_pickles_and_broken_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = npy(np.zeros(3))
    large = good.replace(b"(3,), }" + b" " * 12, b"(3000000000000,), }")
    assert large != good
    assert "declares 24,000,000,000,000 bytes" in refusal(npz(tmp_path / "a.npz", ("x.npy", large)))
    objects = npy(np.array([{}], dtype=object))
    assert "pickled objects" in refusal(npz(tmp_path / "b.npz", ("x.npy", objects)))
    for broken in (good.replace(b"{", b"(", 1), b"", good[:20], good.replace(b"<f8", b"<q9"), b"\x93NUMPY\x09\x00"):
        assert "cannot be read as .npz" in refusal(npz(tmp_path / "c.npz", ("x.npy", broken)))
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "10")
    with pytest.raises(CapacityError, match="reading 'x'"), open_npz(npz(tmp_path / "d.npz", ("x.npy", good))) as file:
        file["x"]


def test_what_is_no_zip_file(tmp_path: Path) -> None:
    np.save(tmp_path / "single.npy", np.zeros(3))
    assert "holds a single array" in refusal(tmp_path / "single.npy")
    (tmp_path / "text").write_text("x")
    assert "cannot be read as .npz" in refusal(tmp_path / "text")
