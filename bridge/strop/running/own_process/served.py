"""What runs in the other process: `main`, which builds a network and runs it as it is told.

Commands come by standard input, and answers go by standard output, as these were when the process began. From then on
simulators read nothing, and what they print goes to standard error.
"""

from __future__ import annotations

import atexit
import os
import shutil
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

from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.backend import Runner, spikes_from
from strop.running.own_process.messages import GREETING, Arrays, key_of, pair_of, receive, send


class _Served:
    """The network of this process, and what can be done with it."""

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
            return {"number": header["number"]}, self._spikes(arrays)
        if header["do"] == "weights":
            return {}, {key_of(pair): values for pair, values in self.runner.weights().items()}
        if header["do"] == "reset":
            self.runner.reset()
        elif header["do"] == "set_weights":
            self.runner.set_weights({pair_of(key): values for key, values in arrays.items()})
        elif header["do"] == "close":
            self.runner.close()
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

    def _spikes(self, signals: Arrays) -> dict[str, npt.NDArray[np.bool_]]:
        """Return what the backend gives; what cannot be sent is refused here, all else where it is compared."""
        assert self.runner is not None
        assert self.graph is not None
        found = spikes_from(self.runner, signals, self.name, self.graph.population_names)
        unknown = [name for name in found if name not in self.graph.population_names]
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise BackendError(f"{self.name} gave spikes of {named}, which the graph does not have")
        for name, values in found.items():
            if values.dtype.hasobject:
                raise BackendError(f"{self.name} gave {values.dtype} for the spikes of {name!r}, which are bool")
        return found


def _told(error: Exception) -> dict[str, Any]:
    """Return the header that tells of an error."""
    said = {"error": str(error), "kind": type(error).__name__, "strop": isinstance(error, StropError)}
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename
        said["system"] = [error.errno, error.strerror, os.fsdecode(name) if isinstance(name, str | bytes) else None]
    return {**said, "trace": traceback.format_exc()}


def serve(name: str, commands: IO[bytes], answers: IO[bytes]) -> bool:
    """Greet, and execute commands until one says to close; return whether one did, or the other process is gone."""
    served = _Served(name)
    try:
        answers.write(GREETING)
        answers.flush()
        with suppress(Exception):  # `prepare` says what is wrong
            from strop.running.registry import get_backend

            get_backend(name).load()
        while True:
            header, arrays = receive(commands)
            begin = time.perf_counter()
            try:
                answer, found = served.do(header, arrays)
            except Exception as error:
                send(answers, _told(error), {})
            else:
                send(answers, {**answer, "seconds": time.perf_counter() - begin}, found)
            if header["do"] == "close":
                return True
    except (EOFError, BrokenPipeError):
        return False


def main() -> None:
    """Serve; arguments: the backend's name, the other process, and a folder to remove if that one is gone."""
    name, parent, scratch = sys.argv[1:]
    # 0 to 2 may be closed, and must not become one of the two streams.
    while (nothing := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(nothing, 0)
    os.dup2(2, 1)

    def let_go() -> None:
        for stream in (commands, answers):
            os.dup2(nothing, stream.fileno())

    if hasattr(os, "register_at_fork"):
        # A fork that outlives this process would keep the streams open, and the other process waiting.
        os.register_at_fork(after_in_child=let_go)
    code = 1
    try:
        if serve(name, commands, answers):
            code = 0
        elif scratch and os.getppid() != int(parent):
            shutil.rmtree(scratch, ignore_errors=True)
    except BaseException:
        traceback.print_exc()
    # What simulators do while Python takes itself apart lasts, and is of no use.
    with suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
