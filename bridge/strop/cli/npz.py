"""Frames and labels from `.npz` files, for the option `--data` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph.files.archive import open_npz

Array = npt.NDArray[Any]
# Frames or labels of an `.npz` file: one array, or several by the names or numbers of inputs or outputs.
Data = Array | dict[str, Array]
Pair = tuple[Data, Data | None]


def read_data(path: str | Path, limit: int | None = None) -> tuple[Data, Data | None]:
    """Return `(frames, labels)` from an `.npz` file; labels are None if it holds none.

    Parameters
    ----------
    path : path
        Holds `x` (frames first) and optionally `y`; for several inputs or outputs `x_NAME` and `y_NAME`, or `x_1`,
        `x_2` and `y_1`, `y_2`, which are returned by the name behind the underscore. Or Keras's own MNIST keys,
        where `x_test` and `y_test` are used.
    limit : int, optional
        Only the first so many frames.

    Raises
    ------
    DataError
        If the file is missing, damaged, not an `.npz`, holds pickled objects, or lacks frames.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"data file {path} does not exist")
    with open_npz(path) as file:
        names = set(file.files)
        mnist = "x_test" in names and "x" not in names
        frames, labels = (_read(file, key, mnist) for key in "xy")
    if frames is None:
        raise DataError(f"data file {path} lacks the array 'x' (frames); it holds: {', '.join(sorted(names))}")
    counts = {_length(array) for array in _arrays(frames)}
    if 0 in counts:
        raise DataError(f"data file {path} holds no frames")
    for array in _arrays(labels):
        if len(counts) == 1 and _length(array) not in counts:
            raise DataError(f"data file {path} holds {max(counts)} frames but {_length(array)} labels")
    return _first(frames, limit), None if labels is None else _first(labels, limit)


def read_training_data(path: str | Path, limit: int | None = None) -> tuple[Data, Data | None, Pair | None]:
    """Return `(frames, labels, test)` from an `.npz` file to train with; `test` is a pair of those, or None.

    Parameters
    ----------
    path : path
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
    if "x" in names or "x_train" not in names:
        frames, labels = read_data(path, limit)
        return frames, labels, None
    frames, labels = _split(path, "train")
    test = _split(path, "test") if "x_test" in names else None
    return _first(frames, limit), None if labels is None else _first(labels, limit), test


def _names(path: Path) -> set[str]:
    try:
        with open_npz(path) as file:
            return set(file.files)
    except DataError:
        return set()  # `read_data` says what is wrong


def _split(path: Path, which: str) -> tuple[Array, Array | None]:
    with open_npz(path) as file:
        frames = file[f"x_{which}"]
        labels = file[f"y_{which}"] if f"y_{which}" in file.files else None
    if _length(frames) == 0:
        raise DataError(f"data file {path} holds no frames in 'x_{which}'")
    if labels is not None and _length(labels) != len(frames):
        raise DataError(f"data file {path} holds {len(frames)} frames but {_length(labels)} labels ('y_{which}')")
    return frames, labels


def _read(file: Any, key: str, mnist: bool) -> Data | None:
    """Return the arrays of a file under `x` or `y`, or under names that begin with `x_` or `y_`."""
    if key in file.files:
        return np.asarray(file[key])
    several = {name[2:]: np.asarray(file[name]) for name in file.files if name.startswith(f"{key}_")}
    if mnist:
        return several.get("test")
    return several or None


def _arrays(data: Data | None) -> list[Array]:
    return [] if data is None else list(data.values()) if isinstance(data, dict) else [data]


def _length(array: Array) -> int:
    return len(array) if array.ndim else 0


def _first(data: Data, limit: int | None) -> Data:
    return {name: array[:limit] for name, array in data.items()} if isinstance(data, dict) else data[:limit]
