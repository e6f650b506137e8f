"""`quiet_brian2`: holds back a note of Brian2 that PyNN causes, and no user of strop can act on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_brian2() -> Iterator[None]:
    """Hold back Brian2's note that PyNN let it choose the integrator (it chooses the exact one)."""
    logger = logging.getLogger("brian2.stateupdaters.base")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
