"""What PyNN's simulators say again and again, and no user of strop can act on, held back."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_nest() -> Iterator[None]:
    """Hold back what PyNN 0.13 makes NEST 3.10 warn of at every call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Provided for backward compatibility only")
        warnings.filterwarnings("ignore", message=r"\s*(Get|Set)Status\(\) is deprecated")
        warnings.filterwarnings(
            "ignore", message=r"Cannot find nest-config|Problem running cmake|Unable to (compile|install)"
        )
        yield


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
