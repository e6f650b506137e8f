"""Reading frames and labels from `.npz` files, and writing predictions, for the command line."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError

Array = npt.NDArray[Any]


def read_data(path: str | Path, limit: int | None = None) -> tuple[Array, Array | None]:
    """Return `(frames, labels)` from an `.npz` file; labels are None if it holds none.

    Parameters
    ----------
    path : path
        Holds `x` (frames first) and optionally `y`; or Keras's own MNIST keys, where `x_test` and `y_test` are used.
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
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"data file {path} holds a single array; save it with numpy.savez(path, x=..., y=...)")
            names = set(file.files)
            keys = ("x_test", "y_test") if "x_test" in names and "x" not in names else ("x", "y")
            if keys[0] not in names:
                raise DataError(f"data file {path} lacks the array 'x' (frames); it holds: {', '.join(sorted(names))}")
            frames = np.asarray(file[keys[0]])
            labels = np.asarray(file[keys[1]]) if keys[1] in names else None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"data file {path} cannot be read as .npz: {error}") from error
    if limit is not None:
        frames, labels = frames[:limit], None if labels is None else labels[:limit]
    if frames.ndim == 0 or len(frames) == 0:
        raise DataError(f"data file {path} holds no frames")
    if labels is not None and len(labels) != len(frames):
        raise DataError(f"data file {path} holds {len(frames)} frames but {len(labels)} labels")
    return frames, labels


def write_npz(path: str | Path, **arrays: Array) -> None:
    """Write arrays to a compressed `.npz` file, whole or not at all."""
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own flag


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class write_atomically:
    """Give a temporary path beside `path`; rename it when the block ends well, remove it when it does not."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        if not self.path.parent.is_dir():
            raise DataError(f"cannot write {self.path}: the folder {self.path.parent} does not exist")
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=self.path.suffix)
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.temporary.unlink(missing_ok=True)
            return
        # mkstemp makes private files; what the user asked for gets the permissions that any new file has.
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o666 & ~mask)
        os.replace(self.temporary, self.path)
