"""`Rows`: arrays in files whose rows are read when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt


class Rows(ABC):
    """An array of which `rows[start:stop]` is an array of NumPy's; see `strop.running.frame_forms.is_lazy`.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    @abstractmethod
    def __getitem__(self, rows: slice) -> Any:
        """Return some rows."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = np.asarray(self[:])
        return whole if dtype is None else whole.astype(dtype, copy=False)
