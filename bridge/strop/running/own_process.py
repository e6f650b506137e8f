"""`ProcessRunner`: runs a graph on a backend in a process of its own.

Used where the simulator in this process is occupied (PyNN), and by `strop.running.side_by_side` to keep more than one
core busy. The other process is a new Python, not a child that `multiprocessing` spawns: that would run the user's
script again, unless `if __name__ == "__main__"` guards it. Commands and arrays go through its standard input and
output, `.npz` behind a header in JSON; nothing is pickled.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import strop.errors
from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.backend import Pair, Runner, spikes_from

Arrays = Mapping[str, npt.NDArray[Any]]
# How long the other process may take to end when it is told to, in seconds.
_PATIENCE = 10.0


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

    Attributes
    ----------
    version : str
        Of the simulator in that process.
    seconds : float
        That it took to do what was asked for last, without the way there and back.
    """

    def __init__(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        self.name, self.version, self.seconds = name, "", 0.0
        # Number and signals of the chunk that is to be sent when the one under way is back.
        self._waiting: tuple[int, Arrays] | None = None
        self._under_way: int | None = None
        # Whether an answer is still to come.
        self._busy = False
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        self._process = subprocess.Popen(
            # Not `-m`: a module that its package has imported already makes Python warn.
            [sys.executable, "-c", f"from {__name__} import main; main()", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
            # An interrupt of the terminal is for the one who started it.
            start_new_session=True,
        )

    def prepare(self, graph: Graph, options: Mapping[str, Any]) -> None:
        """Build the graph there, with options that JSON can hold.

        Raises
        ------
        StropError
            What `Backend.prepare` raises; or if the process ended, or has read another graph than this one.
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
            raise BackendError(f"{self.name}: the process that runs the network has read another graph than was sent")
        self.version = header["version"]

    def expect(self, number: int, signals: Arrays) -> None:
        """Have a chunk run as soon as the one under way, if there is one, has been taken by `finish`."""
        if self._waiting is not None:
            raise BackendError(f"{self.name}: chunk {number} came before chunk {self._waiting[0]} was under way")
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
        BackendError
            If the process ended; or if the answer is to another chunk.
        """
        if self._under_way != number:
            raise BackendError(f"{self.name}: chunk {number} was not under way, but {self._under_way}")
        header, found = self._receive()
        self._under_way = None
        if header["number"] != number:
            raise BackendError(f"{self.name}: the answer to chunk {header['number']} came in place of {number}")
        self._begin()
        return found

    def run(self, signals: Arrays) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`."""
        self.expect(0, signals)
        return self.finish(0)

    def reset(self) -> None:
        """Go back to the start; see `strop.running.backend.Runner`."""
        self._ask({"do": "reset"})

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Read weights; see `strop.running.backend.Runner`."""
        return {_pair(key): values for key, values in self._ask({"do": "weights"})[1].items()}

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Write weights; see `strop.running.backend.Runner`."""
        self._ask({"do": "set_weights"}, {json.dumps(pair): np.asarray(values) for pair, values in weights.items()})

    def close(self) -> None:
        """End the process; at once, if it is in the middle of what nobody waits for any more."""
        self.begin_to_close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def begin_to_close(self) -> None:
        """Tell the process to end, and do not wait."""
        process = self._process
        if self._busy:
            process.kill()
        for stream in (process.stdin, process.stdout):
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
        self._busy = True
        try:
            send(self._process.stdin, header, arrays)
        except (OSError, ValueError) as error:  # ValueError: it has been closed
            raise self._lost() from error

    def _receive(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        assert self._process.stdout is not None
        try:
            header, found = receive(self._process.stdout)
        except (OSError, EOFError, ValueError) as error:
            raise self._lost() from error
        self._busy = False
        if "error" in header:
            self._under_way = None
            raise _error_of(header)
        self.seconds = header["seconds"]
        return header, found

    def _lost(self) -> BackendError:
        """Return the error to raise where the process does not answer any more."""
        self._under_way = None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        code = self._process.poll()
        killed = "; killed for want of memory, perhaps" if code == -9 else ""
        return BackendError(
            f"{self.name}: the process that runs the network ended in the middle (exit code {code}{killed})"
        )


def _error_of(header: Mapping[str, Any]) -> Exception:
    """Return the error that an answer tells of: strop's own as it was, any other with the trace of the process."""
    kind = getattr(strop.errors, header["kind"], None)
    if isinstance(kind, type) and issubclass(kind, StropError):
        return kind(header["error"])
    if header["strop"]:
        return BackendError(header["error"])
    error = RuntimeError(f"{header['kind']}: {header['error']}")
    error.add_note(f"in a process of its own:\n{header['trace']}")
    return error


def _pair(key: str) -> Pair:
    source, target = json.loads(key)
    return source, target


def send(stream: IO[bytes], header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a header and arrays."""
    body = io.BytesIO()
    np.savez(body, *arrays.values())
    with body.getbuffer() as view:
        head = json.dumps({**header, "arrays": list(arrays), "bytes": len(view)}).encode()
        stream.write(len(head).to_bytes(8, "little") + head)
        stream.write(view)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a header and arrays; `EOFError` where there are no more."""
    header = json.loads(_exactly(stream, int.from_bytes(_exactly(stream, 8), "little")))
    with np.load(io.BytesIO(_exactly(stream, header["bytes"])), allow_pickle=False) as found:
        return header, {name: found[f"arr_{n}"] for n, name in enumerate(header["arrays"])}


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other process has closed its stream")
    return data


# In the other process
# ---------------------------------------------------------------------------------------------------


class _Served:
    """The network of the other process, and what can be done with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.graph: Graph | None = None
        self.runner: Runner | None = None

    def do(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        """Execute a command; return the header and the arrays of the answer."""
        if header["do"] == "prepare":
            return self._prepare(header["options"], arrays["graph"]), {}
        assert self.runner is not None
        assert self.graph is not None
        if header["do"] == "run":
            found = spikes_from(self.runner, arrays, self.name, self.graph.population_names)
            return {"number": header["number"]}, found
        if header["do"] == "weights":
            return {}, {json.dumps(pair): values for pair, values in self.runner.weights().items()}
        if header["do"] == "reset":
            self.runner.reset()
        elif header["do"] == "set_weights":
            self.runner.set_weights({_pair(key): values for key, values in arrays.items()})
        else:
            raise BackendError(f"{self.name}: there is no command {header['do']!r}")
        return {}, {}

    def _prepare(self, options: Mapping[str, Any], content: npt.NDArray[np.uint8]) -> dict[str, Any]:
        from strop.running.registry import get_backend

        backend = get_backend(self.name)
        with tempfile.TemporaryDirectory(prefix="strop-") as folder:
            file = Path(folder) / "network.strop"
            file.write_bytes(content.tobytes())
            self.graph = Graph.load(file)
        self.runner = backend.prepare(self.graph, **options)
        return {"version": backend.version(), "digest": self.graph.digest}


def serve(name: str, commands: IO[bytes], answers: IO[bytes]) -> None:
    """Execute commands until the other process closes its stream."""
    served = _Served(name)
    with suppress(EOFError):
        while True:
            header, arrays = receive(commands)
            begin = time.perf_counter()
            try:
                answer, found = served.do(header, arrays)
            except Exception as error:
                kind, known = type(error).__name__, isinstance(error, StropError)
                said = {"error": str(error), "kind": kind, "strop": known, "trace": traceback.format_exc()}
                send(answers, said, {})
            else:
                send(answers, {**answer, "seconds": time.perf_counter() - begin}, found)
    if served.runner is not None:
        served.runner.close()


def main() -> None:
    """Serve on standard input and output; prints of simulators are redirected to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    name = sys.argv[1]
    with suppress(Exception):  # `prepare` says what is wrong
        from strop.running.registry import get_backend

        get_backend(name).load()
    serve(name, sys.stdin.buffer, answers)
    # What simulators do while Python takes itself apart lasts, and is of no use.
    with suppress(Exception):
        atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)
