"""Words for the readers' error messages: one line each, whatever Keras, HDF5 or TensorFlow had to say."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 300


def brief(error: BaseException) -> str:
    """Return the first telling line of an exception, shortened: Keras's own messages run over whole screens."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown_shape(shape: Sequence[int | None]) -> str:
    """Return a shape as it is written in Python: ``(784, 256)``."""
    return str(tuple(shape))
