"""What an HDF5 file holds, as plain objects: `Group` and `Array`; and as a new HDF5 file of the same content."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

# What an attribute holds: a text, a number, or an array of either.
Value = Any


@dataclass(frozen=True, eq=False)
class Array:
    """A dataset: numbers, or texts as bytes.

    Attributes
    ----------
    name : str
        Its path in the file, with a slash before it.
    values : array
        Numbers; or `bytes`, as an array of objects (texts of any length) or of the dtype ``S``.
    attributes : dict
    filters : tuple of str
        How the file packs it: ``"gzip"``, ``"shuffle"``.
    """

    name: str
    values: npt.NDArray[Any]
    attributes: dict[str, Value] = field(default_factory=dict)
    filters: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def is_text(self) -> bool:
        """Whether it holds texts."""
        return self.values.dtype.kind in "OS"

    @property
    def text(self) -> str | None:
        """The text, where it is a single one; what is no UTF-8 in it is replaced."""
        return self.values.item().decode("utf-8", "replace") if self.is_text and self.shape == () else None


@dataclass(frozen=True, eq=False)
class Group:
    """A group: attributes, and groups and arrays by their names."""

    name: str
    attributes: dict[str, Value] = field(default_factory=dict)
    children: dict[str, Group | Array] = field(default_factory=dict)

    def find(self, path: str) -> Group | Array | None:
        """Return what lies at a path below this group, as ``"layers/dense/vars/0"``, or None."""
        node: Group | Array | None = self
        for part in path.split("/"):
            node = node.children.get(part) if isinstance(node, Group) else None
        return node

    def walk(self) -> Iterator[tuple[str, Group | Array]]:
        """Yield everything below this group, with its path from here."""
        for name, node in self.children.items():
            yield name, node
            if isinstance(node, Group):
                yield from ((f"{name}/{path}", inner) for path, inner in node.walk())


def as_hdf5(group: Group) -> io.BytesIO:
    """Return a new HDF5 file with the content of `group`, in memory."""
    import h5py

    def fill(target: Any, source: Group) -> None:
        _set_attributes(target, source.attributes)
        for name, node in source.children.items():
            if isinstance(node, Group):
                fill(target.create_group(name), node)
                continue
            kind = {"dtype": h5py.string_dtype()} if node.dtype.kind == "O" else {}
            _set_attributes(target.create_dataset(name, data=node.values, **kind), node.attributes)

    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        fill(file, group)
    made.seek(0)
    return made


def _set_attributes(target: Any, attributes: dict[str, Value]) -> None:
    import h5py

    for name, value in attributes.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "O":
            target.attrs.create(name, value, dtype=h5py.string_dtype())
        elif value is not None:
            target.attrs[name] = value
