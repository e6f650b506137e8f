"""`read_tree`: asks the process that opens HDF5 files (`child`), and makes arrays of what it answers.

The process is started for the first file and kept for the next ones; it forks for each. What comes out of it is
believed no more than a file would be: every length is checked against what the file may need.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from strop.errors import ModelFileError
from strop.graph.files.hdf5.answers import DamagedHDF5Error, TreeBuilder, fill, read_description, read_exactly
from strop.graph.files.hdf5.tree import Group, Value
from strop.graph.search_path import search_path

_START = b"\x89HDF\r\n\x1a\n"
_SCRIPT = Path(__file__).with_name("child.py")
# What arrays may take when they are unpacked: this, or so many times the size of the file.
_ROOM, _FACTOR = 256 << 20, 200
# Seconds of the CPU in the other process, which end loops; seconds to wait for it, many, because machines are busy; and
# more of both for so many bytes per second.
_CPU, _PATIENCE, _BYTES_PER_SECOND = 2, 60, 5_000_000
_START_PATIENCE = 60
# Names of arrays that are worth naming as too large; the others are named as a whole.
Check = Callable[[str, tuple[int, ...], int], None]


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is HDF5 by its signature, which may stand behind a user block of 512, 1024, ... bytes."""
    try:
        with open(path, "rb") as file:
            size, place = os.fstat(file.fileno()).st_size, 0
            while place + len(_START) <= size:
                file.seek(place)
                if file.read(len(_START)) == _START:
                    return True
                place = max(512, 2 * place)
    except OSError:
        pass
    return False


def read_tree(
    path: str | os.PathLike[str], member: str | None = None, *, leave_out: tuple[str, ...] = (), source: str = ""
) -> Group:
    """Return the content of an HDF5 file.

    >>> read_tree("net.h5", leave_out=("optimizer_weights",)).attributes["keras_version"]

    Parameters
    ----------
    path : path
    member : str, optional
        Name of the HDF5 file in a zip file, where `path` is that.
    leave_out : tuple of str
        Names of groups at the root that are not read.
    source : str
        What the user calls the file, for messages; by default its path.

    Raises
    ------
    DamagedHDF5Error
        If the HDF5 library reports an error, crashes, or takes too long or too much memory.
    ModelFileError
        If the file holds links, virtual or external datasets, foreign filters, attributes or nestings beyond all
        measure, or a compression bomb.
    CapacityError
        If its arrays would take more memory than is free.
    """
    source = source or str(path)
    return _asked(path, source, {"member": member, "leave_out": list(leave_out), "root_only": False})


def read_root_attributes(path: str | os.PathLike[str]) -> dict[str, Value]:
    """Return the attributes of an HDF5 file's root, and read nothing else; raises as `read_tree` does."""
    return _asked(path, str(path), {"member": None, "leave_out": [], "root_only": True}).attributes


def _asked(path: str | os.PathLike[str], source: str, request: dict[str, Any]) -> Group:
    path = Path(path).absolute()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelFileError(f"{source} cannot be read: {error.strerror or error}") from error
    most = max(_ROOM, _FACTOR * size)
    # The attributes of the root take no longer where there is much else.
    share, extra = (2, 0) if request["root_only"] else (1, size // _BYTES_PER_SECOND)
    request |= {"path": str(path), "most": most, "seconds": _CPU // share + extra}
    with _PROCESS.exchange(request, _PATIENCE / share + extra, source) as answers:
        described = read_description(answers)
        whole = "children" in described
        found = TreeBuilder(answers, source, most).group("/", described) if whole else Group("/")
    if "damaged" in described:
        raise DamagedHDF5Error(source, str(described["damaged"]))
    if "refused" in described:
        raise ModelFileError(f"{source}: {described['refused']}; strop reads no such file: save the model again")
    return found


def ask_for_table(path: Path, source: str) -> dict[str, dict[str, Any]]:
    """Return what lies at the root of an HDF5 file: `dtype` and `shape` of each dataset, or why it is `refused`.

    Raises
    ------
    ModelFileError
        As `read_tree` does.
    """
    with _PROCESS.exchange(_data_request(path) | {"table": True}, _patience(path), source) as answers:
        described = read_description(answers)
    _refuse(described, source)
    table: dict[str, dict[str, Any]] = described["table"]
    return table


def ask_for_rows(
    path: Path, source: str, name: str, start: int, stop: int, kind: np.dtype[Any], row: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Return rows of a dataset at the root of an HDF5 file, which must be of a type and shape.

    Raises
    ------
    ModelFileError
        As `read_tree` does.
    """
    request = _data_request(path) | {"rows": [name, start, stop]}
    with _PROCESS.exchange(request, _patience(path), source) as answers:
        described = read_description(answers)
        values: npt.NDArray[Any] = np.empty((stop - start, *row), kind)
        if "dtype" in described:
            if described["dtype"] != kind.str or tuple(described["shape"]) != values.shape:
                raise DamagedHDF5Error(source, f"{name} gives {described['dtype']} {described['shape']}")
            fill(answers, values)
    _refuse(described, source)
    return values


def _data_request(path: Path) -> dict[str, Any]:
    # Whatever way the values are packed, no part of them takes longer than all of the file.
    seconds = 10 + path.stat().st_size // _BYTES_PER_SECOND
    return {"path": str(path), "member": None, "leave_out": [], "root_only": False, "most": 0, "seconds": seconds}


def _patience(path: Path) -> float:
    return _PATIENCE + path.stat().st_size / _BYTES_PER_SECOND


def _refuse(described: dict[str, Any], source: str) -> None:
    if "damaged" in described:
        raise DamagedHDF5Error(source, str(described["damaged"]))
    if "refused" in described:
        raise ModelFileError(str(described["refused"]))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its fork that reads a file."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()


def _killed_after(seconds: float, process: subprocess.Popen[bytes], late: threading.Event) -> threading.Timer:
    """Start a timer that kills a process, and sets `late` before."""

    def kill() -> None:
        late.set()
        _kill(process)

    watch = threading.Timer(seconds, kill)
    watch.daemon = True
    watch.start()
    return watch


class _Process:
    """The other process, started when it is needed; one file at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def exchange(self, request: dict[str, Any], patience: float, source: str) -> Iterator[IO[bytes]]:
        """Send a request and give the stream of its answer; end the process where that is not read to its end."""
        with self.lock:
            process = self._running(source)
            assert process.stdin is not None
            assert process.stdout is not None
            late, well = threading.Event(), False
            watch = _killed_after(patience, process, late)
            try:
                text = json.dumps(request).encode()
                process.stdin.write(len(text).to_bytes(8, "little") + text)
                process.stdin.flush()
                yield process.stdout
                well = True
            except (EOFError, BrokenPipeError) as error:
                raise DamagedHDF5Error(source, self._reason(late.is_set(), patience)) from error
            finally:
                watch.cancel()
                if not well or not hasattr(os, "fork"):
                    self.end()

    def _running(self, source: str) -> subprocess.Popen[bytes]:
        if self.process is not None and self.process.poll() is None:
            return self.process
        self.end()
        if not sys.executable:
            raise ModelFileError(f"{source} is read by a Python of its own, and sys.executable does not say which")
        flags = ["-S", "-E", "-P", str(_SCRIPT)]  # fast: the folders to import from are given
        places = json.dumps(search_path())
        # No thread may run in what forks; no plug-in libraries of HDF5's.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, *flags, places],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # an interrupt of the terminal is for the one who reads
            )
        except OSError as error:
            raise ModelFileError(f"{source} is read by a Python of its own, which does not start: {error}") from error
        # It is slow to start where the machine is busy; that is no fault of the file.
        watch = _killed_after(_START_PATIENCE, self.process, threading.Event())
        try:
            assert self.process.stdout is not None
            read_exactly(self.process.stdout, 1)
        except EOFError as error:
            self.end()
            raise ModelFileError(
                f"{source} is read by a Python of its own ({sys.executable}), which cannot import h5py"
            ) from error
        finally:
            watch.cancel()
        return self.process

    def _reason(self, late: bool, patience: float) -> str:
        process = self.process
        code = None if process is None else self._code(process)
        if late:
            return f"the HDF5 library is not done with it after {patience:g} s"
        if code is not None and code > 128:
            with suppress(ValueError):
                name = signal.Signals(code - 128).name
                if name in ("SIGXCPU", "SIGKILL"):
                    return f"the HDF5 library took too long or too much memory for it ({name})"
                return f"it crashes the HDF5 library ({name})"
        return f"the process that reads it ended (exit code {code})"

    @staticmethod
    def _code(process: subprocess.Popen[bytes]) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(5)
        return None

    def end(self) -> None:
        """End the other process, if there is one."""
        process, self.process = self.process, None
        if process is None:
            return
        _kill(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.wait()

    def forget(self) -> None:
        """Leave the process to the one that started it: a fork of the user's must not write into its pipe."""
        if self.process is not None:
            self.process.returncode = 0  # not ours to wait for
        self.__init__()  # type: ignore[misc]  # the lock, too, may be held by a thread that is not here


_PROCESS = _Process()
atexit.register(_PROCESS.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PROCESS.forget)
