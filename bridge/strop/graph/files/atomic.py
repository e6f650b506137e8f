"""Files that are written whole or not at all: to a temporary name beside them, then renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError


def write_npz(path: str | Path, **arrays: npt.NDArray[Any]) -> None:
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
