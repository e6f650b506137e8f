"""What Brian2 says on a user's terminal: nothing of its own about a `StropError`, and of NumPy where nobody asked."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from graphs import skip_network

import strop
from strop.errors import BackendError
from strop.running.registry import get_backend


@pytest.mark.parametrize("order", ["import brian2, strop", "import strop, brian2"])
@pytest.mark.parametrize("error", ["strop.StropError('mine')", "ValueError('foreign')"])
def test_an_uncaught_error_of_strops_is_no_unexpected_error_of_brian2s(order: str, error: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-W", "ignore", "-c", f"{order}\nraise {error}"]
    run = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 1
    assert error.partition("(")[0].rpartition(".")[2] in run.stderr.splitlines()[-1]
    assert ("unexpected error" in run.stderr) is ("ValueError" in error)


def test_numpy_is_mentioned_where_nobody_asked_for_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import brian2
    from brian2.codegen.runtime.numpy_rt import NumpyCodeObject

    from strop_backends.brian2 import rows

    graph, frames = skip_network(np.random.default_rng(0)), np.ones((2, 6), np.float32)
    said = []
    monkeypatch.setattr("strop_backends.brian2.run.logger.warning", lambda text, *_: said.append(text))
    strop.simulate(graph, frames, "brian2", target="numpy")
    assert said == []
    # As where there is no compiler.
    monkeypatch.setattr(rows, "auto_target", lambda: NumpyCodeObject)
    monkeypatch.setitem(brian2.prefs, "codegen.target", "auto")
    strop.simulate(graph, frames, "brian2")
    assert len(said) == 1
    assert "runs on NumPy" in said[0]


def test_it_is_first_imported_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "brian2")
    with ThreadPoolExecutor(1) as pool, pytest.raises(BackendError, match="brian2 sets a signal handler"):
        pool.submit(get_backend("brian2").prepare, skip_network(np.random.default_rng(0))).result()
