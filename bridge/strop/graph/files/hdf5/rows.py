"""Large HDF5 files of frames: datasets whose rows are read when they are asked for, by the process that opens files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, ModelFileError
from strop.graph.capacity import require_memory
from strop.graph.files.hdf5.answers import DamagedHDF5Error
from strop.graph.files.hdf5.process import ask_for_rows, ask_for_table
from strop.graph.files.rows import Rows

_NUMBERS = re.compile(r"[<>|=]?[biufc]\d{1,2}")


class HDF5Rows(Rows):
    """A dataset of an HDF5 file."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(shape, dtype)
        self._path, self._name = path, name

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        """Return some rows; the file is opened for them, so that many at a time are faster than few.

        Raises
        ------
        DataError
            If the file is damaged.
        """
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError("rows are read in order")
        stop = max(start, stop)
        size = self.dtype.itemsize * math.prod(self.shape[1:]) * (stop - start)
        require_memory(f"reading {self._name!r} from {self._path}", size)
        with _as_data_error(self._path):
            return ask_for_rows(self._path, str(self._path), self._name, start, stop, self.dtype, self.shape[1:])


class HDF5Table:
    """The datasets at the root of an HDF5 file: `files`, and each by its name."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        with _as_data_error(self._path):
            self._table = ask_for_table(self._path, str(self._path))
        self.files = list(self._table)

    def __getitem__(self, name: str) -> HDF5Rows:
        """Return a dataset.

        Raises
        ------
        DataError
            If its rows cannot be read; says why.
        """
        described = self._table[name]
        kind = str(described.get("dtype"))
        if not _NUMBERS.fullmatch(kind):
            reason = described.get("refused", f"{name} is of the type {kind}")
            raise DataError(f"data file {self._path}: {reason}")
        return HDF5Rows(self._path, name, tuple(int(extent) for extent in described["shape"]), np.dtype(kind))


@contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except DamagedHDF5Error as error:
        raise DataError(f"data file {path} cannot be read as HDF5: {error.reason}") from error
    except ModelFileError as error:
        raise DataError(f"data file {path}: {error}") from error
