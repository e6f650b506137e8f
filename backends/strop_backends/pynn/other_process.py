"""`RemoteRunner`: runs a network in a process of its own, where the user occupies the simulator in this process.

The other process is a new Python, not a child that `multiprocessing` spawns: that would run the user's script again,
unless `if __name__ == "__main__"` guards it. Commands and arrays go through its standard input and
output, `.npz` behind a header in JSON; nothing is pickled.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import strop.errors
from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.backend import Pair, Runner

Arrays = Mapping[str, npt.NDArray[Any]]
# How long the other process may take to end when it is told to, in seconds.
_PATIENCE = 10.0


class RemoteRunner(Runner):
    """Runs a graph on a backend in another process.

    Parameters
    ----------
    graph : Graph
    name : str
        The backend's name.
    options : mapping
        For `prepare` in the other process; values that JSON can hold.
    """

    def __init__(self, graph: Graph, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "network.strop"
                graph.save(file)
                self._ask({"do": "prepare", "graph": str(file), "backend": name, "options": dict(options)})
        except BaseException:
            self.close()
            raise

    def _ask(self, header: dict[str, Any], arrays: Arrays | None = None) -> dict[str, npt.NDArray[Any]]:
        """Send a command, and return the arrays of the answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            send(process.stdin, header, arrays or {})
            answer, found = receive(process.stdout)
        except (OSError, EOFError) as error:
            code = process.poll()
            raise BackendError(
                f"{self.name}: the process that runs the network ended in the middle (exit code {code})"
            ) from error
        if "error" in answer:
            kind = getattr(strop.errors, answer["kind"], BackendError)
            raise kind(answer["error"])
        return found

    def run(self, signals: Arrays) -> dict[str, npt.NDArray[np.bool_]]:
        """Stream one chunk; see `strop.running.backend.Runner`."""
        return self._ask({"do": "run"}, signals)

    def reset(self) -> None:
        """Go back to the start; see `strop.running.backend.Runner`."""
        self._ask({"do": "reset"})

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Read weights; see `strop.running.backend.Runner`."""
        return {_pair(key): values for key, values in self._ask({"do": "weights"}).items()}

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Write weights; see `strop.running.backend.Runner`."""
        self._ask({"do": "set_weights"}, {json.dumps(pair): np.asarray(values) for pair, values in weights.items()})

    def close(self) -> None:
        """End the process."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _pair(key: str) -> Pair:
    source, target = json.loads(key)
    return source, target


def send(stream: IO[bytes], header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a header and arrays."""
    body = io.BytesIO()
    np.savez(body, *arrays.values())
    head = json.dumps({**header, "arrays": list(arrays), "bytes": len(body.getvalue())}).encode()
    stream.write(len(head).to_bytes(8, "little") + head + body.getvalue())
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


def serve(commands: IO[bytes], answers: IO[bytes]) -> None:
    """Execute commands until the other process closes its stream."""
    from strop.running.registry import get_backend

    runner: Runner | None = None
    with suppress(EOFError):
        while True:
            header, arrays = receive(commands)
            found: Arrays = {}
            try:
                if runner is None:
                    graph = Graph.load(header["graph"])
                    runner = get_backend(header["backend"]).prepare(graph, **header["options"])
                elif header["do"] == "run":
                    found = runner.run(arrays)
                elif header["do"] == "reset":
                    runner.reset()
                elif header["do"] == "weights":
                    found = {json.dumps(pair): values for pair, values in runner.weights().items()}
                elif header["do"] == "set_weights":
                    runner.set_weights({_pair(key): values for key, values in arrays.items()})
            except StropError as error:
                send(answers, {"error": str(error), "kind": type(error).__name__}, {})
            else:
                send(answers, {}, found)
    if runner is not None:
        runner.close()


def main() -> None:
    """Serve on standard input and output; prints of simulators are redirected to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
