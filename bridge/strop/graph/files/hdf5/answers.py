"""What the process that opens HDF5 files answers, made a tree of arrays: descriptions in JSON, then bytes.

All of it is checked: types, shapes, and lengths against what the file may need.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from strop.errors import ModelFileError
from strop.graph.capacity import require_memory
from strop.graph.files.hdf5.tree import Array, Group, Value

_LONGEST_DESCRIPTION = 1 << 29
_LONGEST_REASON = 300
_NUMBERS = re.compile(r"[<>|=]?[biufcV]\d{1,2}")


class DamagedHDF5Error(ModelFileError):
    """HDF5 cannot read the file; `reason` says why, without the file's name."""

    def __init__(self, source: str, reason: str) -> None:
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
        super().__init__(f"{source} is damaged or cut short: {reason}; save or copy it again")
        self.reason = reason


class TreeBuilder:
    """Makes a tree of a description, and of the bytes of the arrays that follow it, in its order."""

    def __init__(self, answers: IO[bytes], source: str, most: int) -> None:
        self.answers, self.source, self.left = answers, source, most
        self.waiting: list[Callable[[], None]] = []

    def group(self, name: str, described: dict[str, Any]) -> Group:
        made = self._group(name, described)
        for fetch in self.waiting:
            fetch()
        return made

    def _group(self, name: str, described: dict[str, Any]) -> Group:
        group = Group(name, _attributes(described))
        for key, child in described["children"].items():
            path = f"{name.rstrip('/')}/{key}"
            if "children" in child:
                group.children[key] = self._group(path, child)
            elif "dtype" in child:
                self._numbers(group, key, path, child)
            else:
                values = np.zeros(0) if "empty" in child else np.asarray(_texts(child))
                group.children[key] = Array(path, values, _attributes(child))
        return group

    def _numbers(self, group: Group, key: str, path: str, described: dict[str, Any]) -> None:
        if not _NUMBERS.fullmatch(described["dtype"]):
            raise DamagedHDF5Error(self.source, f"{path} is of the type {described['dtype']!r}")
        kind, shape = np.dtype(described["dtype"]), tuple(int(n) for n in described["shape"])
        size = math.prod(shape) * kind.itemsize
        self.left -= size
        if min(shape, default=0) < 0 or self.left < 0:
            raise DamagedHDF5Error(self.source, f"{path} has the shape {shape}")
        require_memory(f"reading {path.lstrip('/')} of shape {shape} from {self.source}", size)
        filters = tuple(described["filters"])
        group.children[key] = Array(path, np.zeros(0), {}, filters)  # its place in the order

        def fetch() -> None:
            if read_exactly(self.answers, 1) != b"+":
                raise DamagedHDF5Error(self.source, f"{path}: {read_description(self.answers).get('damaged')}")
            values: npt.NDArray[Any] = np.empty(shape, kind)
            fill(self.answers, values)
            # Nobody else holds it: who takes it need not copy what cannot be changed.
            values.flags.writeable = False
            group.children[key] = Array(path, values, _attributes(described), filters)

        self.waiting.append(fetch)


def _attributes(described: dict[str, Any]) -> dict[str, Value]:
    return {name: _value(value) for name, value in described["attributes"].items()}


def _value(described: dict[str, Any]) -> Value:
    """Return an attribute: a str, a number, an array of either; None for what is neither."""
    if "text" in described:
        texts = _texts(described)
        if texts.shape == ():
            return texts.item().decode("utf-8", "replace")
        return texts
    if "numbers" in described and _NUMBERS.fullmatch(described["dtype"]):
        numbers = [float.fromhex(n) if isinstance(n, str) else n for n in described["numbers"]]
        array = np.array(numbers, dtype=described["dtype"]).reshape(described["shape"])
        return array[()]
    return None


def _texts(described: dict[str, Any]) -> npt.NDArray[Any]:
    texts = [text.encode("latin-1") for text in described["text"]]
    array = np.array(texts, dtype="S") if described["fixed"] and texts else np.empty(len(texts), dtype=object)
    if array.dtype.kind == "O":
        array[:] = texts
    return array.reshape(described["shape"])


def read_description(answers: IO[bytes]) -> dict[str, Any]:
    """Read a description; EOFError if it does not come, or is longer than any."""
    length = int.from_bytes(read_exactly(answers, 8), "little")
    if length > _LONGEST_DESCRIPTION:
        raise EOFError
    described: dict[str, Any] = json.loads(read_exactly(answers, length))
    return described


def read_exactly(answers: IO[bytes], count: int) -> bytes:
    """Read so many bytes, or raise EOFError."""
    data = answers.read(count)
    if len(data) < count:
        raise EOFError
    return data


def fill(answers: IO[bytes], values: npt.NDArray[Any]) -> None:
    """Fill an array with the bytes that come, or raise EOFError."""
    if not values.size:
        return
    room = memoryview(values.reshape(-1).view(np.uint8).data)
    while room:
        count = answers.readinto(room)  # type: ignore[attr-defined]  # a BufferedReader has it
        if not count:
            raise EOFError
        room = room[count:]
