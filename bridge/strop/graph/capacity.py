"""Memory limit: sizes are estimated before anything is allocated, and a `CapacityError` states the figure."""

from __future__ import annotations

import os

from strop.errors import CapacityError

# The limit in bytes, if the user sets one; by default 80 % of what is free.
ENVIRONMENT_VARIABLE = "STROP_MEMORY_LIMIT"
SHARE_OF_FREE = 0.8


def memory_limit() -> int:
    """Return how many bytes may be taken: `STROP_MEMORY_LIMIT` if set, else 80 % of what is free now."""
    setting = os.environ.get(ENVIRONMENT_VARIABLE)
    if setting:
        try:
            return int(float(setting))
        except ValueError:
            raise CapacityError(f"{ENVIRONMENT_VARIABLE} must be a number of bytes, got {setting!r}") from None
    import psutil

    return int(SHARE_OF_FREE * psutil.virtual_memory().available)


def as_size(size: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def require_memory(what: str, size: int, advice: str = "") -> None:
    """Raise `CapacityError` if `what` would need more than the limit.

    Parameters
    ----------
    what : str
        For the message: "expanding 'conv' -> 'pool' into 3,000,000 synapses".
    size : int
        Bytes that it would take.
    advice : str
        What to do instead.
    """
    limit = memory_limit()
    if size > limit:
        raise CapacityError(
            f"{what} needs about {as_size(size)}, the limit is {as_size(limit)} (80 % of the free memory, or "
            f"{ENVIRONMENT_VARIABLE}){'. ' + advice if advice else ''}"
        )
