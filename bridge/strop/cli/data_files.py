"""Frames and labels from files, for the options `--data` and `--labels` of the command line.

`.npz`, `.npy`, HDF5 and folders of Zarr; which of them a file is, its content says. What need not be read at once is
not: arrays come memory-mapped, or lazy (`strop.running.frame_forms.is_lazy`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from strop.errors import DataError
from strop.graph.files.archive import Npz, is_npy, open_npy, open_npz
from strop.graph.files.hdf5 import HDF5Table, is_hdf5
from strop.graph.files.rows import Rows
from strop.graph.files.zarr_folder import ZarrFolder, is_zarr

# An array of NumPy's, or a lazy one.
Array = Any
# Frames or labels of a file: one array, or several by the names or numbers of inputs or outputs.
Data = Array | dict[str, Array]
Pair = tuple[Data, Data | None]


class _File(Protocol):
    """A file with arrays: their names, and each by its name."""

    files: list[str]

    def __getitem__(self, name: str) -> Array: ...


def read_data(path: str | Path, limit: int | None = None, labels: str | Path | None = None) -> Pair:
    """Return `(frames, labels)` from a file; labels are None if it holds none.

    Parameters
    ----------
    path : path
        An `.npz` or HDF5 file, or a folder of Zarr, holds `x` (frames first) and optionally `y`; for several inputs or
        outputs `x_NAME` and `y_NAME`, or `x_1`, `x_2` and `y_1`, `y_2`, which are returned by the name behind the
        underscore. Or Keras's own MNIST keys, where `x_test` and `y_test` are used. An `.npy` file, or a folder of Zarr
        with a single array, holds the frames of one input.
    limit : int, optional
        Only the first so many frames.
    labels : path, optional
        A file with the labels: as `y` or `y_NAME`, or its single array. Those beside the frames are not used then.

    Raises
    ------
    DataError
        If a file is missing, damaged, none of these, holds pickled objects, or lacks frames or labels.
    ExtraMissingError
        If zarr is needed and not installed.
    """
    path = Path(path)
    with _opened(path) as file:
        names = set(file.files)
        mnist = "x_test" in names and "x" not in names
        frames = _read(file, "x", mnist)
        own = _read(file, "y", mnist) if labels is None else _read_labels(Path(labels))
    if frames is None:
        raise DataError(f"data file {path} lacks the array 'x' (frames); it holds: {', '.join(sorted(names))}")
    counts = {_length(array) for array in _arrays(frames)}
    if 0 in counts:
        raise DataError(f"data file {path} holds no frames")
    for array in _arrays(own):
        if len(counts) == 1 and _length(array) not in counts:
            if labels is not None:
                raise DataError(f"{path} holds {max(counts)} frames, and {labels} {_length(array)} labels")
            raise DataError(f"data file {path} holds {max(counts)} frames but {_length(array)} labels")
    return _first(frames, limit), None if own is None else _first(own, limit)


def read_optional_data(path: Path | None, limit: int | None, labels: Path | None) -> tuple[Data | None, Data | None]:
    """Return `(frames, labels)` as `read_data` does; of no file, neither."""
    if path is not None:
        return read_data(path, limit, labels)
    if labels is not None:
        raise DataError(f"--labels {labels}: the frames they belong to are missing; give --data too")
    return None, None


def read_training_data(
    path: str | Path, limit: int | None = None, labels: str | Path | None = None
) -> tuple[Data, Data | None, Pair | None]:
    """Return `(frames, labels, test)` from a file to train with; `test` is a pair of those, or None.

    Parameters
    ----------
    path, labels : path
        As in `read_data`; but of Keras's own MNIST keys, `x_train` and `y_train` are frames and labels, `x_test` and
        `y_test` the test.
    limit : int, optional
        Only the first so many frames to train with.

    Raises
    ------
    DataError
        As `read_data`.
    """
    path = Path(path)
    names = _names(path)
    if labels is not None or "x" in names or "x_train" not in names:
        frames, own = read_data(path, limit, labels)
        return frames, own, None
    frames, own = _split(path, "train")
    test = _split(path, "test") if "x_test" in names else None
    return _first(frames, limit), None if own is None else _first(own, limit), test


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    if path.is_dir():
        if not is_zarr(path):
            raise DataError(f"data {path} is a folder, and none of Zarr: it holds neither zarr.json nor .zgroup")
        yield ZarrFolder(path)
    elif not path.is_file():
        raise DataError(f"data file {path} does not exist")
    elif is_npy(path):
        yield _Single(open_npy(path))
    elif is_hdf5(path):
        yield HDF5Table(path)
    else:
        with open_npz(path) as file:
            yield _Mapped(file)


class _Single:
    """A file with one array, which is called `x`."""

    def __init__(self, array: Array) -> None:
        self.files, self._array = ["x"], array

    def __getitem__(self, name: str) -> Array:
        return self._array


class _Mapped:
    """An `.npz` file whose large arrays are memory-mapped where they are not compressed."""

    def __init__(self, file: Npz) -> None:
        self.files, self._file = file.files, file

    def __getitem__(self, name: str) -> Array:
        return self._file.mapped(name)


def _read_labels(path: Path) -> Data:
    with _opened(path) as file:
        names = file.files
        found = file[names[0]] if len(names) == 1 else _read(file, "y", "y_test" in names and "y" not in names)
    if found is None:
        raise DataError(f"labels file {path} lacks the array 'y'; it holds: {', '.join(sorted(names))}")
    return found


def _names(path: Path) -> set[str]:
    try:
        with _opened(path) as file:
            return set(file.files)
    except DataError:
        return set()  # `read_data` says what is wrong


def _split(path: Path, which: str) -> Pair:
    with _opened(path) as file:
        frames = file[f"x_{which}"]
        labels = file[f"y_{which}"] if f"y_{which}" in file.files else None
    if _length(frames) == 0:
        raise DataError(f"data file {path} holds no frames in 'x_{which}'")
    if labels is not None and _length(labels) != len(frames):
        raise DataError(f"data file {path} holds {len(frames)} frames but {_length(labels)} labels ('y_{which}')")
    return frames, labels


def _read(file: _File, key: str, mnist: bool) -> Data | None:
    """Return the arrays of a file under `x` or `y`, or under names that begin with `x_` or `y_`."""
    if key in file.files:
        return file[key]
    if mnist:
        return file[f"{key}_test"] if f"{key}_test" in file.files else None
    return {name[2:]: file[name] for name in file.files if name.startswith(f"{key}_")} or None


def _arrays(data: Data | None) -> list[Array]:
    return [] if data is None else list(data.values()) if isinstance(data, dict) else [data]


def _length(array: Array) -> int:
    return len(array) if array.ndim else 0


def _first(data: Data, limit: int | None) -> Data:
    if isinstance(data, dict):
        return {name: _first(array, limit) for name, array in data.items()}
    if limit is None or isinstance(data, np.ndarray):
        return data[:limit] if limit is not None else data
    return FirstRows(data, limit)


class FirstRows(Rows):
    """The first rows of a lazy array, lazy too."""

    def __init__(self, values: Array, limit: int) -> None:
        super().__init__((min(limit, len(values)), *values.shape[1:]), values.dtype)
        self._values = values

    def __getitem__(self, rows: slice) -> Array:
        """Return some rows, as the lazy array does."""
        start, stop, step = rows.indices(len(self))
        return self._values[start:stop:step]
