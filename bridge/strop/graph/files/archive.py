"""Zip files from anywhere: `.keras` and `.npz`. What a file declares is checked before any of it is unpacked."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, StropError
from strop.graph.capacity import as_size, require_memory

# What a zip file may unpack to: this, or so many times its own size.
_ROOM, _FACTOR = 256 << 20, 200
_MOST_MEMBERS = 10_000
# Arrays from so many bytes on are memory-mapped where the file lets us.
_MAPPED = 16 << 20
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

    def mapped(self, name: str) -> npt.NDArray[Any]:
        """Return an array, memory-mapped where it is large and not compressed; its checksum is compared before."""
        info = self._archive.getinfo(self._members[name])
        if info.compress_type != zipfile.ZIP_STORED or info.file_size < _MAPPED:
            return self[name]
        with self._archive.open(info) as stream:
            while stream.read(1 << 20):
                pass  # zipfile raises at the end
        with open(self._path, "rb") as file:
            file.seek(info.header_offset + 26)  # of the lengths of name and extra field, before the member
            lengths = file.read(4)
            file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), os.SEEK_CUR)
            begin = file.tell()
            shape, fortran, kind = _header(file)
            place = file.tell()
        size = math.prod(int(length) for length in shape) * kind.itemsize
        if kind.hasobject or place - begin + size > info.file_size:
            return self[name]  # says what is wrong
        order: Literal["C", "F"] = "F" if fortran else "C"
        return np.memmap(self._path, kind, "r", place, shape, order)


def open_npy(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Return the array of an `.npy` file, memory-mapped; nothing in it is unpickled.

    Raises
    ------
    DataError
        If the file is damaged, or holds pickled objects.
    """
    try:
        with open(path, "rb") as file:
            shape, _, kind = _header(file)
            place, size = file.tell(), os.fstat(file.fileno()).st_size
        wanted = place + math.prod(int(length) for length in shape) * kind.itemsize
        if kind.hasobject:
            raise DataError(f"data file {path} holds pickled objects, which are never opened; save plain numbers")
        if wanted != size:
            raise DataError(
                f"data file {path} is damaged or cut short: {kind} {shape} takes {wanted:,} bytes, and it has {size:,}"
            )
        if wanted == place:  # nothing to map
            return np.empty(shape, kind)
        values: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # NumPy, tokenize, struct: each has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data file {path} cannot be read as .npy: {reason}") from error
    return values


def is_npy(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an `.npy` file, by its first bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except OSError:
        return False


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order (whether Fortran's) and dtype of an array in a `.npy` file."""
    version = _FORMAT.read_magic(stream)
    read = _FORMAT.read_array_header_1_0 if version == (1, 0) else _FORMAT.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(stream)
    return header


def _declared(stream: Any) -> tuple[np.dtype[Any], int]:
    """Return the dtype of an array in a `.npy` file, and the bytes that its shape needs."""
    shape, _, kind = _header(stream)
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
