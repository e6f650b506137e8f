"""Equality, hashes and digests of graphs: `Content`, the base class of nodes, operators and graphs.

A graph is frozen, so one SHA-256 digest stands for its content. Equality, hashes, copies and pickles follow from the
digest. strop itself never unpickles anything; graphs can be pickled for the user's own `multiprocessing`.
"""

from __future__ import annotations

import hashlib
import math
import numbers
from dataclasses import MISSING, Field, fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError


class Content:
    """A frozen dataclass that is equal to another one iff all their fields are, whatever process they are in.

    >>> Graph.load(path) == Graph.load(path)
    True
    >>> graph.digest == Graph.load(path).digest
    True

    A subclass is declared with `@dataclass(frozen=True, eq=False)`. Values that it computes from its fields later
    (depths, counts) are neither compared nor pickled; they are computed again.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal.

        It is the same in every process and on every machine, for arrays in C or Fortran order, and for a threshold
        that is kept once or once for each neuron. Fields that have their default value do not enter, so that a field
        that is added to a class later leaves the digests of older graphs alone.
        """
        kind = type(self)
        if "__dataclass_fields__" not in vars(kind):
            raise GraphError(
                f"the content of a {kind.__name__} is not known: declare it with @dataclass(frozen=True, eq=False)"
            )
        content = hashlib.sha256(kind.__name__.encode())
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.init and not _is_default(value, entry):
                content.update(b"\0" + entry.name.encode() + b"=")
                _feed(content, value, f"{kind.__name__}.{entry.name}")
        return content.hexdigest()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Content) or type(self) is not type(other):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    # Immutable, so a copy is the object itself.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields alone; the class checks them again, and freezes its arrays, where it is unpickled."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.init}
        # A threshold that is kept once stays so.
        spread = {name: v.shape for name, v in values.items() if isinstance(v, np.ndarray) and 0 in v.strides}
        return _make, (type(self), values | {name: _kept_once(values[name]) for name in spread}, spread)


def _make(kind: type[Content], values: dict[str, Any], spread: dict[str, tuple[int, ...]]) -> Content:
    return kind(**values | {name: np.broadcast_to(values[name], shape) for name, shape in spread.items()})


def _kept_once(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array with extent 1 along the axes along which it was broadcast."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def _is_default(value: Any, entry: Field[Any]) -> bool:
    return entry.default is not MISSING and not isinstance(value, np.ndarray) and bool(value == entry.default)


def _feed(content: hashlib._Hash, value: Any, where: str) -> None:
    """Add a value to a digest: its kind, its extent, and its content, so that no two different ones look alike."""
    match value:
        case Content():
            content.update(f"<{value.digest}>".encode())
        case np.ndarray():
            content.update(f"[{value.dtype.kind}{value.dtype.itemsize}{value.shape}:".encode())
            content.update(_bytes_of(value))
        case tuple() | list():
            content.update(f"({len(value)}:".encode())
            for place, part in enumerate(value):
                _feed(content, part, f"{where}[{place}]")
        case numbers.Real() | np.bool_():
            content.update(f"{_number(value)};".encode())
        case None | str():
            content.update(f"{value!r};".encode())
        case _:
            raise GraphError(f"{where}: the content of a {type(value).__name__} is not known; use tuples and arrays")


def _number(value: Any) -> str:
    """Return a number exactly; a whole one is the same as an int, as a float, and as a truth value."""
    real = float(value)
    return str(int(value)) if math.isfinite(real) and real == int(value) else real.hex()


def _bytes_of(array: npt.NDArray[Any]) -> Any:
    # -0.0 is equal to 0.0, so it must look like it.
    values = array + 0.0 if array.dtype.kind == "f" else array
    return np.ascontiguousarray(values, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
