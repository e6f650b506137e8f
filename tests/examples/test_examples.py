"""Every example runs as written, in a small size, and says at its end that all is equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_embed_in_brian2(tmp_path: Path) -> None:
    pytest.importorskip("brian2")
    pytest.importorskip("keras")
    pytest.importorskip("matplotlib")
    output = run("embed_in_brian2.py", "--frames", 25, "--raster", tmp_path / "raster.png")
    assert "spikes that differ from Keras: 0" in output
    assert "hidden layer: 0 spikes" not in output
    assert (tmp_path / "raster.png").stat().st_size > 5000
