"""Zip files from anywhere: `.keras` and `.npz`. What a file declares is checked before any of it is unpacked."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, StropError
from strop.graph.capacity import as_size, require_memory

# What a zip file may unpack to: this, or so many times its own size.
_ROOM, _FACTOR = 256 << 20, 200
_MOST_MEMBERS = 10_000
_FORMAT: Any = np.lib.format  # its functions have no types


class RefusedArchiveError(Exception):
    """A zip file holds what no model or data file needs; the message says what, without the file's name."""


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse zip bombs, names that lead out of the file, and members that are there twice.

    Parameters
    ----------
    archive : ZipFile
    size : int
        Bytes of the file.

    Raises
    ------
    RefusedArchiveError
    """
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise RefusedArchiveError(f"it holds {len(members):,} files")
    names = [member.filename for member in members]
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name[:2]:
            raise RefusedArchiveError(f"{name!r} in it would be written outside of it")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusedArchiveError(f"it holds {twice!r} twice")
    if sum(member.compress_size for member in members) > size:
        raise RefusedArchiveError("the files in it overlap, as those of a zip bomb do")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_ROOM, _FACTOR * size):
        raise RefusedArchiveError(f"its {as_size(size)} would unpack to {as_size(unpacked)}, as those of a zip bomb do")


class Npz:
    """The arrays of an open `.npz` file: `files`, and each by its name, read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, path: str) -> None:
        self._archive, self._path = archive, path
        self._members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        self.files = list(self._members)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        info = self._archive.getinfo(self._members[name])
        with self._archive.open(info) as stream:
            kind, size = _declared(stream)
        if kind.hasobject:
            raise DataError(
                f"data file {self._path}: {name!r} holds pickled objects, which are never opened; save plain numbers"
            )
        if size > info.file_size:
            raise DataError(
                f"data file {self._path} is damaged: {name!r} declares {size:,} bytes and holds {info.file_size:,}"
            )
        require_memory(f"reading {name!r} from {self._path}", size)
        with self._archive.open(info) as stream:
            values: npt.NDArray[Any] = _FORMAT.read_array(stream, allow_pickle=False)
        return values


def _declared(stream: Any) -> tuple[np.dtype[Any], int]:
    """Return the dtype of an array in a `.npy` file, and the bytes that its shape needs."""
    version = _FORMAT.read_magic(stream)
    read = _FORMAT.read_array_header_1_0 if version == (1, 0) else _FORMAT.read_array_header_2_0
    shape, _, kind = read(stream)
    return kind, math.prod(int(length) for length in shape) * kind.itemsize


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Npz]:
    """Open an `.npz` file; nothing in it is unpickled.

    Raises
    ------
    DataError
        If it is no `.npz` file, damaged, holds pickled objects, or unpacks to far more than it should; also while its
        arrays are read.
    CapacityError
        If an array would take more memory than is free.
    """
    try:
        with open(path, "rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise DataError(f"data file {path} holds a single array; save it with numpy.savez(path, x=..., y=...)")
            size = os.fstat(file.fileno()).st_size
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                check_archive(archive, size)
                yield Npz(archive, str(path))
    except RefusedArchiveError as error:
        raise DataError(f"data file {path} is refused: {error}") from error
    except StropError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize, struct, NumPy: each has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data file {path} cannot be read as .npz: {reason}") from error
