"""Suppresses the start-up messages of Keras and TensorFlow on the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# Whether all of it is shown: `strop -v COMMAND`.
shown = False


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back output to file descriptor 2, also that of native libraries, unless `shown` is set.

    With the environment variable `STROP_DEBUG` it is shown if the block fails.
    """
    if shown:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            if failed and os.environ.get("STROP_DEBUG"):
                held.seek(0)
                os.write(2, held.read())


def import_keras_quietly() -> None:
    """Import Keras and TensorFlow without TensorFlow's start-up messages (its C++ logs ignore Python's streams)."""
    if not shown:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from strop.errors import BackendMissingError

    try:
        with quiet_stderr():
            import_module("strop.keras")
    except ImportError as error:
        raise BackendMissingError(str(error)) from error
