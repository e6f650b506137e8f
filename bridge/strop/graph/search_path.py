"""`search_path`: where a new Python is to look for modules, to find those that this one finds."""

from __future__ import annotations

import os
import sys


def search_path() -> list[str]:
    """Return `sys.path`, with the current folder by its name, if it is there."""
    found = [part for part in sys.path if isinstance(part, str)]
    if "" not in found:
        return found
    try:
        here = os.getcwd()
    except OSError:  # it has been removed
        return [part for part in found if part]
    return [part or here for part in found]
