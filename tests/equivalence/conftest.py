"""One body of tests, every backend: `pytest tests/equivalence --backend brian2 --backend nengo`."""

from __future__ import annotations

import pytest

from strop.running.registry import available_backends, backend_names, runnable


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # A module that names its own backends parametrises itself.
    if "backend" in metafunc.fixturenames and not hasattr(metafunc.module, "BACKENDS"):
        chosen = metafunc.config.getoption("--backend")
        unknown = set(chosen) - set(backend_names())
        if unknown:
            raise pytest.UsageError(f"no such backend: {', '.join(sorted(unknown))}")
        # A backend that was asked for by name and cannot be used must fail, not vanish.
        names = chosen or [name for name in available_backends() if runnable(name)]
        metafunc.parametrize("backend", names)
