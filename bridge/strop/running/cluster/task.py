"""What runs on a worker: `take_chunk`, on what `Preparation` has brought there.

A worker builds what a job needs when it gets the first chunk of it, and keeps it for the next. All chunks of a process
are taken by one thread, one after the other: a simulator need not know about threads.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed import WorkerPlugin

from strop.errors import StropError
from strop.running.jobs import Session

_JOBS: dict[str, Preparation] = {}
_SESSIONS: dict[str, Session] = {}
_THREADS: list[ThreadPoolExecutor] = []


@dataclass(frozen=True)
class Failed:
    """A chunk could not be taken, and it would be no use to try again."""

    error: Exception


class Preparation(WorkerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Brings a job to every worker, also to those that come later, and releases what they built for it.

    Parameters
    ----------
    run : str
        Names the job.
    job : bytes
        The pickled job.
    here : dict
        `versions()` of the process that it comes from.
    """

    def __init__(self, run: str, job: bytes, here: dict[str, str]) -> None:
        self.run, self.job, self.here = run, job, here
        self.name = f"strop-{run}"

    def setup(self, worker: Any) -> None:
        """Keep the job; nothing is built before there is a chunk."""
        _JOBS[self.run] = self

    def teardown(self, worker: Any) -> None:
        """Have what was built released, when no chunk is being taken."""
        _JOBS.pop(self.run, None)
        _thread().submit(_close, self.run)


class Imports(WorkerPlugin):  # type: ignore[misc]  # distributed ships no types
    """Has modules imported that a job will need, while its model is still being opened."""

    name = "strop-imports"

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)

    def setup(self, worker: Any) -> None:
        """Begin, and do not wait."""
        _thread().submit(_import, self.modules)


def _import(modules: Sequence[str]) -> None:
    with _signals_left_alone():
        for name in modules:
            with suppress(Exception):  # if it is needed, the job says what is wrong
                import_module(name)


def take_chunk(run: str, chunk: Any, wanted: Any) -> Any:
    """Return what comes of a chunk, or `Failed`.

    Raises
    ------
    OSError, MemoryError
        Then it may be taken again, here or elsewhere.
    """
    return _thread().submit(_take, run, chunk, wanted).result()


def _thread() -> ThreadPoolExecutor:
    if not _THREADS:
        _THREADS.append(ThreadPoolExecutor(1, "strop"))
    return _THREADS[0]


@contextmanager
def _signals_left_alone() -> Iterator[None]:
    """Ignore handlers of signals that are set in this thread.

    Brian2 sets one when it is imported, and when it runs; Python lets the main thread alone do so, and raises
    `ValueError` elsewhere. The main thread of a worker is Dask's.
    """
    honest = signal.signal

    def set_in_main_thread(number: int, handler: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return honest(number, handler)
        return signal.getsignal(number)

    signal.signal = set_in_main_thread  # type: ignore[assignment]  # typeshed's has narrower arguments
    try:
        yield
    finally:
        signal.signal = honest


def _take(run: str, chunk: Any, wanted: Any) -> Any:
    with _signals_left_alone():
        return _taken(run, chunk, wanted)


def _taken(run: str, chunk: Any, wanted: Any) -> Any:
    try:
        if run not in _SESSIONS:
            _refuse_other_versions(_JOBS[run].here)
            _SESSIONS[run] = pickle.loads(_JOBS[run].job).start()
        return _SESSIONS[run].take(chunk, wanted)
    except (OSError, MemoryError) as error:
        _close(run)
        if isinstance(error, StropError):
            return Failed(_sendable(error))
        raise
    except Exception as error:
        _close(run)
        return Failed(_sendable(error))


def _close(run: str) -> None:
    session = _SESSIONS.pop(run, None)
    if session is not None:
        with suppress(Exception):  # after an error it may be in any state
            session.close()


def versions() -> dict[str, str]:
    """Return the versions that must be the same where chunks are taken; those of simulators are compared later."""
    found = {"Python": ".".join(map(str, sys.version_info[:2]))}
    for name in ("strop", "numpy", "keras"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _refuse_other_versions(here: dict[str, str]) -> None:
    own = versions()
    for name, wanted in here.items():
        if own.get(name) != wanted:
            present = own.get(name, "not at all")
            raise StropError(
                f"a worker on {socket.gethostname()} has {name} {present}, and where the frames come from it is "
                f"{wanted}: give both the same environment"
            )


def _sendable(error: Exception) -> Exception:
    """Return an error that the caller can unpickle, which says where it comes from."""
    if not isinstance(error, StropError):
        import traceback

        error.add_note(f"in a worker, process {os.getpid()}:\n{''.join(traceback.format_exception(error))}")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ in ("strop.errors", "builtins"))
    if issubclass(kind, StropError):
        return kind(str(error))
    return StropError(f"a worker failed: {type(error).__name__}: {error}")
