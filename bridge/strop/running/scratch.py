"""`scratch_folder`: a folder for files of other processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strop.graph.files.drafts import LOCK, forget_draft, note_draft


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder for files of other processes; it is removed afterwards, whatever ends this one."""
    with LOCK:
        folder = Path(tempfile.mkdtemp(prefix=f"strop-of-{os.getpid()}-"))
        note_draft(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        forget_draft(folder)
