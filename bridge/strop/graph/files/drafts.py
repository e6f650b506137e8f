"""Drafts: files and folders that are being written, and are removed if the command line is interrupted.

They are noted here by whoever writes them; the thread of `strop.cli.signals` removes them.
"""

from __future__ import annotations

import threading
from pathlib import Path

# Whoever makes or renames a draft holds it, and so does the thread that removes them, to the end.
LOCK = threading.RLock()
_DRAFTS: set[Path] = set()


def note_draft(path: Path) -> None:
    """Have a file or folder removed if the command line is interrupted."""
    with LOCK:
        _DRAFTS.add(path)


def forget_draft(path: Path) -> None:
    """Leave a file or folder where it is from now on."""
    with LOCK:
        _DRAFTS.discard(path)


def drafts() -> list[Path]:
    """Return what is being written now; for whoever holds `LOCK`."""
    return list(_DRAFTS)
