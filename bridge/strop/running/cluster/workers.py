"""The processes that take chunks: those that strop starts on this machine, and those of a user's scheduler.

strop's own are started as new Pythons, not by `multiprocessing`: that would run the user's script again in each,
unless `if __name__ == "__main__"` guards it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from strop.errors import ExtraMissingError, StropError
from strop.graph.capacity import ENVIRONMENT_VARIABLE, memory_limit
from strop.graph.search_path import search_path
from strop.graph.threads import THREAD_VARIABLES
from strop.running.scratch import scratch_folder

# Seconds: for a scheduler to answer, for workers to come, for a client to take its leave.
_CONNECT = 10
_ARRIVE = 300
_LEAVE = 10
# Processes for each core: more are a slip of the pen.
_MOST_FOR_A_CORE = 16
# Characters of a log that are shown.
_TAIL = 300

_LOCAL: weakref.WeakKeyDictionary[Any, list[subprocess.Popen[bytes]]] = weakref.WeakKeyDictionary()
_LOGS: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()


def imported() -> Any:
    """Return the module `distributed`.

    Raises
    ------
    ExtraMissingError
        If it is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise ExtraMissingError(
            f"workers and schedulers need Dask's distributed ({error}). Install it with: pip install 'strop[cluster]'"
        ) from error
    return distributed


# Messages that Dask keeps of each connection, frames and all (`recent_message_log` in distributed/batched.py of
# 2026.8): 1,000 by default.
_LOG_LENGTH = "distributed.admin.low-level-log-length"
_LOGGED = 10


def _short_log() -> Any:
    """Have connections that are made in this block keep few messages, or memory grows with the first 1,000 chunks."""
    import dask

    return dask.config.set({_LOG_LENGTH: _LOGGED})


class Silence:
    """Keeps Dask's log off standard error: what matters is raised."""

    def __enter__(self) -> None:
        imported()
        self._levels = [(handler, handler.level) for handler in logging.getLogger("distributed").handlers]
        for handler, _ in self._levels:
            handler.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *error: object) -> None:
        for handler, level in self._levels:
            handler.setLevel(level)


@contextmanager
def local_workers(count: int, imports: Sequence[str] = ()) -> Iterator[Any]:
    """Start processes on this machine, and yield a `distributed.Client` that uses them; they end with the block.

    >>> with local_workers(2) as client:
    ...     strop.verify(model, frames, client=client)

    Each takes one chunk at a time, and does its sums in one thread. One that dies is started anew.

    Parameters
    ----------
    count : int
    imports : sequence of str
        Modules that each imports when it starts, because it will need them.

    Raises
    ------
    StropError
        If `count` is no positive whole number, or far more than there are cores.
    ExtraMissingError
        If Dask's `distributed` is not installed.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise StropError(f"workers must be a whole number of processes, 1 or more; got {count!r}")
    cores = os.cpu_count() or 1
    if count > _MOST_FOR_A_CORE * max(cores, 4):
        raise StropError(f"{count:,} workers are more than this machine can bear, which has {cores} cores")
    distributed = imported()
    with ExitStack() as stack:
        stack.enter_context(Silence())
        stack.enter_context(_short_log())
        folder = stack.enter_context(scratch_folder())
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=0,
                host="127.0.0.1",
                # Without an address it takes port 8787, and warns where that is taken.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL + 1,
            )
        )
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, processes)
        for number in range(count):
            processes.append(_start(cluster.scheduler_address, folder, number, count))
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        _LOCAL[client], _LOGS[client] = processes, folder
        if imports:
            from strop.running.cluster.task import Imports

            client.register_plugin(Imports(imports))
        yield client


def _start(address: str, folder: Path, number: int, count: int) -> subprocess.Popen[bytes]:
    """Start a process with Dask's nanny in it, which starts the worker proper, and starts it anew if it dies."""
    command = [sys.executable, "-m", "dask", "worker", address, "--name", f"strop-{number}", "--no-dashboard"]
    command += ["--nworkers", "1", "--nthreads", "1", "--local-directory", str(folder), "--death-timeout", "60"]
    command += ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    # Dask would pause or kill a worker beyond a share of the memory, and write results to the disk before: strop
    # estimates memory itself.
    command += ["--memory-limit", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path())}
    environment[ENVIRONMENT_VARIABLE] = str(memory_limit() // count)
    # One thread each, but for Keras: how many threads it has decides in which order it sums.
    for name in THREAD_VARIABLES:
        environment[name] = "1"
    environment["DASK_" + _LOG_LENGTH.replace(".", "__").replace("-", "_").upper()] = str(_LOGGED)
    # What simulators leave lying about goes with the folder.
    environment["TMPDIR"] = str(folder)
    if "keras" in sys.modules:
        environment["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
    with open(folder / f"worker-{number}.log", "ab") as log:
        # In a session of their own: an interrupt of the terminal is for the one who started them.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End the processes and their children at once: what they had built is released, and their files are scratch."""
    import psutil

    family: list[Any] = []
    for process in processes:
        with suppress(psutil.Error):
            family += psutil.Process(process.pid).children(recursive=True)
    for member in (*processes, *family):
        with suppress(psutil.Error, OSError):
            member.kill()
    for process in processes:
        process.wait()


@contextmanager
def client_of(given: Any) -> Iterator[Any]:
    """Yield a client that has workers: the one given, or one for the address of a scheduler.

    Raises
    ------
    StropError
        If it is neither; if there is no scheduler, or no worker comes.
    """
    distributed = imported()
    with ExitStack() as stack:
        if isinstance(given, str):
            client = stack.enter_context(_connected(given))
        elif isinstance(given, distributed.Client) and not given.asynchronous:
            client = given
        else:
            raise StropError(
                "client must be a distributed.Client, or the address of a scheduler such as tcp://host:8786; got "
                f"{given!r}"
            )
        if client.status != "running":
            raise StropError(f"the client of {address_of(client)} is not connected any more ({client.status})")
        if client not in _LOCAL:
            _wait_for_workers(client)
        yield client


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    distributed = imported()
    try:
        with _short_log():
            client = distributed.Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, distributed.TimeoutError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StropError(
            f"no scheduler answers at {address!r}: start one with `dask scheduler`, and give the address that it "
            f"prints, such as tcp://host:8786 ({reason})"
        ) from error
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(_LEAVE)


def _wait_for_workers(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=_ARRIVE)
    except (OSError, TimeoutError) as error:
        raise StropError(
            f"no worker has come to the scheduler at {address_of(client)} within {_ARRIVE} s: start some with "
            "`dask worker ADDRESS --nthreads 1`"
        ) from error


def address_of(client: Any) -> str:
    """Return the address of a client's scheduler, for messages."""
    return str(getattr(client.scheduler, "address", None) or "an unknown address")


class Present:
    """The workers of a client, counted while a job runs."""

    def __init__(self, client: Any) -> None:
        self.client, self.processes = client, _LOCAL.get(client)
        self._seen = time.monotonic()

    def count(self) -> int:
        """Return how many there are, or shall be.

        Raises
        ------
        StropError
            If all processes that strop started have ended, or the scheduler has had no worker for long.
        """
        if self.processes is not None:
            return self._local(self.processes)
        found = len(self.client.nthreads())
        now = time.monotonic()
        if found:
            self._seen = now
        elif now - self._seen > _ARRIVE:
            raise StropError(f"the scheduler at {address_of(self.client)} has lost all its workers, {_ARRIVE} s ago")
        return found

    def _local(self, processes: list[subprocess.Popen[bytes]]) -> int:
        ended = [number for number, process in enumerate(processes) if process.poll() is not None]
        if len(ended) == len(processes):
            said = (_LOGS[self.client] / f"worker-{ended[0]}.log").read_text(errors="replace").strip()
            raise StropError(
                f"all worker processes have ended: {' '.join(said[-_TAIL:].split()) or 'they said nothing'}"
            )
        return len(processes) - len(ended)
