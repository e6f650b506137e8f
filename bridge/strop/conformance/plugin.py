"""The pytest plugin that comes with strop: golden cases for backends (`--strop-backend`) and for readers of NIR
(`--nir-reader`).

It is loaded in every pytest run where strop is installed, so it imports nothing of strop before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NAMES: pytest.StashKey[list[str]] = pytest.StashKey()
# Fixtures whose values depend on the backend, and the method that returns these by name.
_AROUND = {"variation": "variations", "surrounding": "surroundings"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("strop", "strop's conformance suite (pytest --pyargs strop.conformance)")
    group.addoption(
        "--nir-reader",
        metavar="MODULE:FUNCTION",
        help="function that runs a NIR file, to test on the golden files (pytest --pyargs strop.conformance.nir)",
    )
    group.addoption(
        "--nir-profile",
        default="threshold",
        metavar="NAME",
        help="form of those files: threshold, lif, snntorch, norse or sinabs. [threshold]",
    )
    group.addoption(
        "--strop-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="backend to test on the golden cases; may be given several times, or as a,b. "
        "By default every backend that can be used here",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a backend that is unknown, not installed or broken before any test is collected."""
    names = [name for option in config.getoption("--strop-backend") for name in option.split(",") if name]
    if names:
        from strop.errors import BackendError
        from strop.running.registry import get_backend

        for name in names:
            try:
                get_backend(name)
            except BackendError as error:
                raise pytest.UsageError(f"--strop-backend {name}: {error}") from None
    config.stash[_NAMES] = list(dict.fromkeys(names))


def pytest_report_header(config: pytest.Config) -> Sequence[str]:
    """Show the backends under test."""
    if not config.stash[_NAMES]:
        return []
    from strop.running.registry import get_backend

    return [f"strop backends: {', '.join(f'{n} ({get_backend(n).version()})' for n in config.stash[_NAMES])}"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the golden NIR files alone where no reader is named."""
    if collection_path.name == "test_nir_reader.py" and not config.getoption("--nir-reader"):
        return True
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of the suite on each backend, and with each golden case if it has that fixture."""
    if not metafunc.module.__name__.startswith("strop.conformance."):
        return
    if "backend_name" in metafunc.fixturenames:
        from strop.running.registry import available_backends

        names: list[str] = metafunc.config.stash[_NAMES] or available_backends()
        around = next((fixture for fixture in _AROUND if fixture in metafunc.fixturenames), None)
        if around is None:
            metafunc.parametrize("backend_name", names, scope="module")
        else:
            metafunc.parametrize(("backend_name", around), list(_offered(names, _AROUND[around])), scope="module")
    if "golden_name" in metafunc.fixturenames:
        from strop.conformance.golden import golden_names

        metafunc.parametrize("golden_name", golden_names())
    if "nir_reader" in metafunc.fixturenames:
        _with_nir_cases(metafunc)


def _with_nir_cases(metafunc: pytest.Metafunc) -> None:
    """Run a test on each golden NIR file of the form that is asked for."""
    from strop.conformance.nir.cases import case_names, profiles

    named, profile = (metafunc.config.getoption(option) for option in ("--nir-reader", "--nir-profile"))
    if profile not in profiles():
        raise pytest.UsageError(f"--nir-profile {profile}: must be one of {', '.join(profiles())}")
    reader = _function(named)
    cases = [pytest.param(reader, profile, name, id=f"{profile}-{name}") for name in case_names(profile)]
    metafunc.parametrize(("nir_reader", "nir_profile", "nir_case"), cases)


def _function(named: str) -> Any:
    """Return the function that `MODULE:FUNCTION` names."""
    from importlib import import_module

    module, _, function = named.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"--nir-reader {named}: give MODULE:FUNCTION ({error})") from None


def _offered(names: Sequence[str], method: str) -> Iterator[Any]:
    """Yield each backend's variations or surroundings; a backend that states none is skipped, visibly."""
    from strop.running.registry import get_backend

    for name in names:
        stated = getattr(get_backend(name), method)()
        for what, value in stated.items():
            yield pytest.param(name, value, id=f"{name}-{what.replace(' ', '_')}")
        if not stated:
            reason = pytest.mark.skip(reason=f"{name} states no {method}()")
            yield pytest.param(name, None, id=f"{name}-none", marks=reason)
