"""The command line in a process of its own, as users call it, and what a refusal must look like."""

from __future__ import annotations

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def strop(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
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
