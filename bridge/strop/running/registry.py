"""Registry of backends: the entry-point group `strop.backends`.

A backend is a class registered under its name; strop loads it when it is asked for, so that `import strop` stays light
and a broken plug-in breaks nothing but itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from strop.errors import BackendError, BackendMissingError, did_you_mean, install_advice
from strop.running.backend import Backend

GROUP = "strop.backends"


@dataclass(frozen=True)
class BackendStatus:
    """Status of one registered backend, as `strop backends` shows it.

    Attributes
    ----------
    name : str
    available : bool
    version : str
        Simulator and version, or the empty string.
    summary : str
    encodings : tuple of str
    problem : str
        Why it cannot be used and what to do, or the empty string.
    fidelity : str
        "exact in float64", or the stated margin; `strop inspect --target` says it for each population.
    """

    name: str
    available: bool
    version: str
    summary: str
    encodings: tuple[str, ...]
    problem: str
    fidelity: str = ""


def backend_names() -> list[str]:
    """Return the names of all registered backends, `reference` first."""
    return sorted({entry.name for entry in entry_points(group=GROUP)}, key=lambda name: (name != "reference", name))


def get_backend(name: str | Backend) -> Backend:
    """Return the backend registered as `name`, ready to use; one that is a `Backend` already is returned as it is.

    Raises
    ------
    BackendMissingError
        If no such backend is registered, its simulator is not installed, or its module does not import.
    """
    if isinstance(name, Backend):
        own: Any = getattr(name, "name", None)
        if not isinstance(own, str) or not own or own == "keras":
            raise BackendError(
                f"a backend has a name of its own, other than 'keras'; that of {type(name).__qualname__} is {own!r}"
            )
        return name
    if not isinstance(name, str):
        raise BackendError(
            f"a backend must be a name, or an instance of strop.running.backend.Backend; got {name!r}. "
            "`strop backends` shows what there is"
        )
    entries = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not entries:
        known = ", ".join(backend_names())
        raise BackendMissingError(
            f"there is no backend {name!r}; known are: {known}"
            + (did_you_mean(name, backend_names()) or install_advice(name))
        )
    distributions = {entry.value for entry in entries}
    if len(distributions) > 1:
        raise BackendError(f"the backend name {name!r} is registered twice: {', '.join(sorted(distributions))}")
    try:
        backend = entries[0].load()()
        backend.version()
    except ImportError as error:
        missing = f"the backend {name!r} cannot be used: {error}"
        raise BackendMissingError(missing + install_advice(name)) from error
    except Exception as error:
        raise BackendMissingError(f"the backend {name!r} is broken: {type(error).__name__}: {error}") from error
    if not isinstance(backend, Backend):
        raise BackendMissingError(
            f"the backend {name!r} is broken: {entries[0].value} is no strop.running.backend.Backend"
        )
    return backend


def named_backends(backends: str | Backend | Iterable[str | Backend] | None) -> list[str | Backend]:
    """Return the requested backends, each once; None: all that are installed and simulate.

    >>> named_backends("brian2"), named_backends("brian2,nengo")
    (['brian2'], ['brian2', 'nengo'])

    Raises
    ------
    BackendError
        If it is no name, no `Backend`, and no sequence of them.
    """
    if backends is None:
        return [name for name in available_backends() if runnable(name)]
    if isinstance(backends, str):
        named: list[Any] = [name.strip() for name in backends.split(",") if name.strip()]
        if not named:
            raise BackendError("backends name no backend: give a name, or None for all that are installed")
    elif isinstance(backends, Backend):
        named = [backends]
    else:
        try:
            named = list(backends)
        except TypeError:
            named = [backends]
    # `get_backend` refuses what is neither a name nor a backend, before it is hashed.
    found: dict[str, str | Backend] = {}
    for backend in named:
        name = backend if isinstance(backend, str) else get_backend(backend).name
        known = found.setdefault(name, backend)
        if known is not backend and not (isinstance(known, str) and isinstance(backend, str)):
            one, other = get_backend(known), get_backend(backend)
            if type(one) is not type(other) or vars(one) != vars(other):
                raise BackendError(
                    f"two backends are called {name!r}, and results go by their names: rename one of them"
                )
    return list(found.values())


def backend_status(name: str) -> BackendStatus:
    """Return the status of a registered backend; a broken one does not raise."""
    try:
        backend = get_backend(name)
    except BackendError as error:
        return BackendStatus(name, False, "", "", (), str(error))
    fidelity = f"exact in {backend.precision}"
    if type(backend).fidelity is not Backend.fidelity:
        fidelity = f"its margin depends on the network: strop inspect MODEL --target {name}"
    elif backend.resolution:
        fidelity = f"exact within {backend.resolution:.1g} of what is summed"
    return BackendStatus(name, True, backend.version(), backend.summary, backend.encodings, "", fidelity)


def runnable(name: str) -> bool:
    """Whether a backend simulates at all; some only read and write files."""
    return bool(getattr(get_backend(name), "runs", True))


def available_backends() -> list[str]:
    """Return the names of the backends that can be used here, `reference` first."""
    return [name for name in backend_names() if backend_status(name).available]
