"""The command line as users call it, in this process or in one of its own, and what a refusal must look like."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from unittest import mock

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def strop(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, where Keras and the simulators are imported but once."""
    from strop.cli import main

    words = [str(argument) for argument in arguments]
    out, error = io.StringIO(), io.StringIO()
    level = logging.root.level
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            logging.root.setLevel(level)
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())


def strop_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "strop", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**ENVIRONMENT, **environment},
        check=False,
    )


def refused(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert the exit code, and one line on standard error that holds `words`, and no traceback."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("strop: ")
    for word in words:
        assert word in lines[0], lines[0]
