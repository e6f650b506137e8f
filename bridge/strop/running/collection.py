"""`quick_collection`: keeps Python's garbage collector from looking at what was there before, for a while."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python 3.12 begins with some 375 objects frozen; whoever calls `gc.freeze()` freezes all that there are.
_FROZEN_BY_PYTHON = 1_000


@contextmanager
def quick_collection() -> Iterator[None]:
    """Exclude existing objects from garbage collection within a `with` block.

    For simulators that collect each time they run: with TensorFlow's objects in memory that takes half a second, as
    long as a thousand frames.
    """
    if gc.get_freeze_count() > _FROZEN_BY_PYTHON:  # the user froze objects already
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
