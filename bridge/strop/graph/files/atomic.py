"""Files that are written whole or not at all: to a temporary name beside them, then renamed.

What fails names the file that the user asked for, never the temporary one.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, StropError
from strop.graph.files.drafts import LOCK, forget_draft, note_draft

# Libraries put the number into their text, as HDF5 does, or nothing but the words.
_ERRNO = re.compile(r"errno = (\d+)")
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


def write_npz(path: str | Path, **arrays: npt.NDArray[Any]) -> None:
    """Write arrays to a compressed `.npz` file, whole or not at all."""
    with write_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own flag


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes | memoryview, kind: type[StropError] = DataError) -> None:
    """Write bytes to a file, whole or not at all."""
    with write_atomically(path, kind) as temporary:
        temporary.write_bytes(content)


def check_writable(path: str | Path, kind: type[StropError] = DataError) -> Path:
    """Return a path at which a file can be written, or raise `kind`; for before the work, not after."""
    path = Path(path)
    if path.is_dir():
        raise kind(f"{path} cannot be written: it is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise kind(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise kind(f"{path} cannot be written: no permission to write into the folder {path.parent}")
    return path


@contextmanager
def naming(path: str | Path, kind: type[StropError] = DataError) -> Iterator[None]:
    """Turn what fails while `path` is written into one line that names it: no room, no permission, a quota."""
    try:
        yield
    except StropError:
        raise
    except Exception as error:
        reason = why_not_written(error)
        if reason is None:
            raise
        raise kind(f"{path} cannot be written: {reason}; nothing was written") from error


def why_not_written(error: BaseException) -> str | None:
    """Return the system's reason for a failed write, or None if the error is of another kind."""
    text = str(error)
    found = _ERRNO.search(text)
    number = int(found[1]) if found else getattr(error, "errno", None)
    if isinstance(number, int) and isinstance(error, OSError | RuntimeError):
        return os.strerror(number)
    named = next((words for words in _FULL if words in text), None)
    return named or (" ".join(text.split()) or type(error).__name__ if isinstance(error, OSError) else None)


class write_atomically:
    """Give a temporary path beside `path`; rename it when the block ends well, remove it when it does not.

    Raises `DataError`, or the `kind` that is given, where the file cannot be written.
    """

    def __init__(self, path: str | Path, kind: type[StropError] = DataError) -> None:
        self.path, self.kind = Path(path), kind

    def __enter__(self) -> Path:
        check_writable(self.path, self.kind)
        with naming(self.path, self.kind), LOCK:
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=self.path.suffix)
            os.close(handle)
            self.temporary = Path(name)
            note_draft(self.temporary)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        try:
            with naming(self.path, self.kind):
                if error is not None and isinstance(error, Exception):
                    raise error
                if error is None:
                    self._put_in_place()
        finally:
            with LOCK:
                self.temporary.unlink(missing_ok=True)
                forget_draft(self.temporary)

    def _put_in_place(self) -> None:
        flush_to_disk(self.temporary)
        # mkstemp makes private files; what the user asked for gets the permissions that any new file has.
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o666 & ~mask)
        with LOCK:
            os.replace(self.temporary, self.path)
        flush_to_disk(self.path.parent)


def flush_to_disk(path: str | Path) -> None:
    """Ask the system to keep a file, or the entries of a folder, through a loss of power."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders; the rename is then as safe as it gets
        return
    try:
        os.fsync(handle)
    except OSError:  # some file systems cannot, for folders
        if not Path(path).is_dir():
            raise
    finally:
        os.close(handle)
