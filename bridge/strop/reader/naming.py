"""Error messages of the readers: foreign exceptions shortened to one line, and shapes as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 300
_ANSI_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_UNFINISHED = (":", ".call().")  # "Exception encountered when calling Add.call()."


def brief(error: BaseException) -> str:
    """Return the telling line of an exception, shortened: Keras's own messages run over whole screens."""
    message = _ANSI_STYLES.sub("", str(error))
    message = message.rpartition("Exception encountered: ")[2]  # what Keras wraps in a dump of the config
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and text.endswith(_UNFINISHED):
        text = f"{text} {lines[1]}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown_shape(shape: Sequence[int | None]) -> str:
    """Return a shape as it is written in Python: ``(784, 256)``."""
    return str(tuple(shape))
