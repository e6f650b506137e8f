"""Rows of lazy arrays, read in blocks: `LazyRows`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, StropError
from strop.running.frame_forms import as_array, kind_of

Array = npt.NDArray[Any]
# What is stored in pieces is unpacked piece by piece: blocks of so many bytes unpack few of them twice.
_BLOCK = 16 << 20


class LazyRows:
    """A lazy array, of which one block is held at a time.

    Parameters
    ----------
    values : lazy array, frames first
        See `strop.running.frame_forms.is_lazy`; or a memory-mapped array.
    where : str
        What to call it in messages.
    """

    def __init__(self, values: Any, where: str) -> None:
        self._values, self._where = values, where
        self.shape, self.dtype = tuple(int(extent) for extent in values.shape), values.dtype
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        # A map is read page by page anyway.
        self._ahead = 0 if isinstance(values, np.ndarray) else _BLOCK // max(1, row)
        self._start, self._block = 0, np.empty((0, *self.shape[1:]), self.dtype)

    def rows(self, start: int, stop: int) -> Array:
        """Return some rows as a new array.

        Raises
        ------
        DataError
            If the array gives other rows than its shape and type say.
        """
        if not self._start <= start <= stop <= self._start + len(self._block):
            # Where these rows follow those before them, those behind them will be asked for next.
            follows = self._start <= start <= self._start + len(self._block)
            end = min(max(stop, start + self._ahead if follows else stop), self.shape[0])
            self._block = np.empty((0, *self.shape[1:]), self.dtype)  # no second block beside it
            self._block, self._start = self._read(start, end), start
        return self._block[start - self._start : stop - self._start].copy()

    def _read(self, start: int, stop: int) -> Array:
        where = f"{self._where} ({start:,} to {stop - 1:,})"
        try:
            given = self._values[start:stop]
        except StropError:
            raise
        except Exception as error:  # of h5py, Zarr, Dask, or the file system
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"{where} cannot be read from the {kind_of(self._values)}: {reason}") from error
        part = as_array(given, where)
        wanted = (stop - start, *self.shape[1:])
        if part.shape != wanted or part.dtype != self.dtype:
            raise DataError(
                f"{where} came as {part.dtype} {part.shape}; the {kind_of(self._values)}, {self.dtype} {self.shape}, "
                f"should give {wanted}"
            )
        return part
