"""`ProcessRunner`: runs a graph on a backend in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import strop.errors
from strop.errors import ProcessError, StropError
from strop.graph import Graph
from strop.graph.search_path import search_path
from strop.running.backend import Pair, Runner
from strop.running.own_process.messages import Arrays, key_of, pair_of, receive, send, skip_to_greeting

# How long the other process may take to end when it is told to, in seconds.
_PATIENCE = 10.0
# How long one may take to end that does not answer any more.
_LAST_WORDS = 1.0
_COMMAND = "from strop.running.own_process.served import main; main()"
# What reading raises where there is no answer, or none that can be read.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, MemoryError, OverflowError, zipfile.BadZipFile)


class ProcessRunner(Runner):
    """Runs a graph on a backend in another process, which starts at once and imports the simulator.

    >>> runner = ProcessRunner("brian2")
    >>> runner.prepare(graph, {})
    >>> spikes = runner.run(signals)

    Parameters
    ----------
    name : str
        The registered name of the backend.
    environment : mapping, optional
        Variables that the other process has beside those of this one.
    scratch : path, optional
        A folder that it removes where this process is gone all of a sudden.

    Attributes
    ----------
    version : str
        Of the simulator in that process.
    seconds : float
        That it took to do what was asked for last, without the way there and back.
    """

    def __init__(self, name: str, environment: Mapping[str, str] | None = None, scratch: Path | None = None) -> None:
        self.name, self.version, self.seconds = name, "", 0.0
        # Number and signals of the chunk that is to be sent when the one under way is back.
        self._waiting: tuple[int, Arrays] | None = None
        self._under_way: int | None = None
        self._runs = 0
        # Whether it has greeted, is to answer, has been told to end, and has ended.
        self._greeted = self._busy = self._closing = self._ended = False
        self._process = subprocess.Popen(
            # Not `-m`: a module that its package has imported already makes Python warn. Without -P modules would be
            # looked for in the current folder first.
            [sys.executable, "-P", "-c", _COMMAND, name, str(os.getpid()), str(scratch or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path()), **(environment or {})},
            # An interrupt of the terminal is for the one who started it.
            start_new_session=True,
        )

    def prepare(self, graph: Graph, options: Mapping[str, Any]) -> None:
        """Build the graph there, with options that JSON can hold.

        Raises
        ------
        StropError
            What `Backend.prepare` raises.
        ProcessError
            If the process ended, or has read another graph than this one.
        """
        self.begin_to_prepare(graph, options)
        self.prepared(graph)

    def begin_to_prepare(self, graph: Graph, options: Mapping[str, Any]) -> None:
        """Send the graph, and do not wait until it is built: `prepared` does."""
        with tempfile.TemporaryDirectory(prefix="strop-") as folder:
            file = Path(folder) / "network.strop"
            graph.save(file)
            content = np.frombuffer(file.read_bytes(), np.uint8)
        self._send({"do": "prepare", "options": dict(options)}, {"graph": content})

    def prepared(self, graph: Graph) -> None:
        """Wait until the graph is built."""
        header, _ = self._receive()
        if header["digest"] != graph.digest:
            raise ProcessError(f"{self.name}: the process that runs the network has read another graph than was sent")
        self.version = header["version"]

    def expect(self, number: int, signals: Arrays) -> None:
        """Have a chunk run as soon as the one under way, if there is one, has been taken by `finish`."""
        if self._waiting is not None:
            raise ProcessError(f"{self.name}: chunk {number} came before chunk {self._waiting[0]} was under way")
        self._waiting = number, signals
        if self._under_way is None:
            self._begin()

    def _begin(self) -> None:
        if self._waiting is not None:
            self._under_way, signals = self._waiting
            self._waiting = None
            self._send({"do": "run", "number": self._under_way}, signals)

    def finish(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """Return the spikes of the chunk under way, and begin the one that was announced.

        Raises
        ------
        ProcessError
            If the process ended; or if the answer is to another chunk.
        """
        if self._under_way != number:
            raise ProcessError(f"{self.name}: chunk {number} was not under way, but {self._under_way}")
        header, found = self._receive()
        self._under_way = None
        if header["number"] != number:
            raise ProcessError(f"{self.name}: the answer to chunk {header['number']} came in place of {number}")
        self._begin()
        return found

    def run(self, signals: Arrays) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`."""
        number, self._runs = self._runs, self._runs + 1
        self.expect(number, signals)
        return self.finish(number)

    def reset(self) -> None:
        """Go back to the start; see `strop.running.backend.Runner`."""
        self._ask({"do": "reset"})

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Read weights; see `strop.running.backend.Runner`."""
        return {pair_of(key): values for key, values in self._ask({"do": "weights"})[1].items()}

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Write weights; see `strop.running.backend.Runner`."""
        self._ask({"do": "set_weights"}, {key_of(pair): np.asarray(values) for pair, values in weights.items()})

    # The end
    # -----------------------------------------------------------------------------------------------

    def begin_to_close(self) -> None:
        """Tell the process to end, and do not wait; at once, where it has built nothing, or nobody waits any more."""
        if self._closing:
            return
        self._closing = True
        if self._busy or not self.version:
            self._kill()
        else:
            with suppress(ProcessError):
                self._send({"do": "close"}, {})

    def close(self) -> None:
        """End the process.

        Raises
        ------
        StropError
            What the backend's own `close` raises there, where it was not in the middle of anything.
        """
        self.begin_to_close()
        if self._ended:
            return
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill()
            return
        try:
            self._receive()
        finally:
            self._end()

    def _kill(self) -> None:
        """End the process and what it has started, whatever they do; there are no answers from then on."""
        with suppress(OSError):
            # It leads a group of its own.
            os.killpg(self._process.pid, signal.SIGKILL) if hasattr(os, "killpg") else self._process.kill()
        self._process.wait()
        self._end()

    def _end(self) -> None:
        self._closing = self._ended = True
        self._busy = False
        self._under_way = self._waiting = None
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    # The way there and back
    # -----------------------------------------------------------------------------------------------

    def _ask(self, header: dict[str, Any], arrays: Arrays | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Send a command, and return the header and arrays of the answer."""
        self._send(header, arrays or {})
        return self._receive()

    def _send(self, header: dict[str, Any], arrays: Arrays) -> None:
        assert self._process.stdin is not None
        if self._ended:
            raise ProcessError(f"{self.name}: the process that ran the network has been ended")
        self._busy = True
        try:
            send(self._process.stdin, header, arrays)
        except OSError as error:
            raise self._lost() from error
        except BaseException:
            self._kill()
            raise

    def _receive(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        assert self._process.stdout is not None
        try:
            if not self._greeted:
                skip_to_greeting(self._process.stdout)
                self._greeted = True
            header, found = receive(self._process.stdout)
        except _UNREADABLE as error:
            raise self._lost() from error
        except BaseException:
            # What is still to come would be taken for the answer to what is asked next.
            self._kill()
            raise
        self._busy = False
        if "error" in header:
            self._under_way = None
            raise _error_of(header)
        self.seconds = header["seconds"]
        return header, found

    def _lost(self) -> ProcessError:
        """Return the error to raise where the process does not answer any more."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS)
        code = self._process.poll()
        self._kill()
        if code is None:
            return ProcessError(f"{self.name}: the process that runs the network gave an answer that cannot be read")
        killed = "; killed for want of memory, perhaps" if code == -9 else ""
        return ProcessError(
            f"{self.name}: the process that runs the network ended in the middle (exit code {code}{killed})"
        )


def _error_of(header: Mapping[str, Any]) -> Exception:
    """Return the error that an answer tells of: strop's own and the system's as they were, others with their trace."""
    kind = getattr(strop.errors, header["kind"], None)
    if header["strop"]:
        known = isinstance(kind, type) and issubclass(kind, StropError)
        return (kind if known else strop.errors.BackendError)(header["error"])  # type: ignore[misc]
    if "system" in header:
        error: Exception = OSError(*header["system"][:2], header["system"][2])
        # That of a pipe means, on the command line, that the reader of our output went away.
        if not isinstance(error, ConnectionError):
            return error
    error = RuntimeError(f"{header['kind']}: {header['error']}")
    error.add_note(f"in a process of its own:\n{header['trace']}")
    return error
