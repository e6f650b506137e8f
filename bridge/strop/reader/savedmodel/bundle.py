"""Read a TensorFlow checkpoint along its object graph: which variable is which attribute of which layer.

The format is TensorFlow's `TrackableObjectGraph` (tensorflow/core/protobuf/trackable_object_graph.proto):
nodes with named children, where a variable is a node whose attribute `VARIABLE_VALUE` has the key of its
values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from strop.errors import ModelFileError
from strop.reader.naming import brief
from strop.reader.savedmodel import protobuf
from strop.reader.stored_weights import StoredWeight

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
# What belongs to training, or to Keras's own bookkeeping, and is no weight of a layer.
_NO_WEIGHTS = ("optimizer/", "keras_api/", "save_counter/", _OBJECT_GRAPH)
_NO_WEIGHTS_INSIDE = ("/.OPTIMIZER_SLOT/", "/_random_generator/", "/_rng/")


class _Node(NamedTuple):
    children: dict[str, int]
    key: str | None


class Checkpoint:
    """The checkpoint of a SavedModel.

    Parameters
    ----------
    prefix : Path
        Path of the checkpoint without ``.index`` and ``.data-...``.
    source : str
        The model, for the messages.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, or has no object graph.
    """

    root = 0
    """Number of the node of the root model."""

    def __init__(self, prefix: Path, source: str) -> None:
        import tensorflow as tf

        self._source = source
        try:
            self._reader: Any = tf.train.load_checkpoint(str(prefix))
            self._shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
        except Exception as error:  # TensorFlow translates its errors into those of many types
            raise ModelFileError(
                f"{source}: the weights under {prefix.parent} are missing or damaged: {brief(error)}; "
                "a SavedModel is copied as a whole folder"
            ) from error
        if _OBJECT_GRAPH not in self._shapes:
            raise ModelFileError(f"{source}: the checkpoint under {prefix.parent} was not written by tf.keras 2")
        try:
            graph = self._reader.get_tensor(_OBJECT_GRAPH)
            self._nodes = [_node(node) for node in protobuf.messages(graph, 1)]
        except Exception as error:
            raise ModelFileError(
                f"{source}: the weights under {prefix.parent} are damaged or cut short: {brief(error)}"
            ) from error
        if not self._nodes:
            raise ModelFileError(f"{source}: the object graph of the weights is empty")
        self._used: set[str] = set()

    def largest_size(self) -> int:
        """Return the number of values of the largest variable."""
        return max((math.prod(shape) for shape in self._shapes.values()), default=1)

    def node(self, path: Iterable[str]) -> int | None:
        """Return the number of the node that a path of attribute names leads to, or None."""
        number = self.root
        for name in path:
            children = self._nodes[number].children
            if name not in children:
                return None
            number = children[name]
        return number

    def children(self, number: int, prefixes: tuple[str, ...]) -> list[int]:
        """Return the children of a node whose attribute name starts with one of `prefixes`."""
        return [child for name, child in self._nodes[number].children.items() if name.startswith(prefixes)]

    def weights(
        self, number: int, path: tuple[str, ...], only: Collection[str] | None = None
    ) -> Iterator[StoredWeight]:
        """Yield the variables that are attributes of a layer, and those of the layer that is its activation.

        Parameters
        ----------
        number : int
            Node of the layer.
        path : tuple of str
            What their names start with.
        only : collection of str, optional
            Names of the variables to yield, for a wrapper: it has those of its layer as attributes as well.
        """
        seen: set[str] = set()
        for name, child in self._nodes[number].children.items():
            key = self._nodes[child].key
            if key is not None and key in self._shapes:
                if key in seen:  # two attributes for one variable: the first has its name
                    continue
                if only is not None and name not in only:
                    continue
                self._used.add(key)
                seen.add(key)
                yield StoredWeight("/".join((*path, name)), tuple(self._shapes[key]), self._read(key))
            elif name == "activation":
                yield from self.weights(child, (*path, name))

    def unused(self) -> list[str]:
        """Return the keys of values that are weights by their place, but that `weights` has not given out."""
        return [
            key
            for key in sorted(self._shapes)
            if key not in self._used
            and not key.startswith(_NO_WEIGHTS)
            and not any(part in key for part in _NO_WEIGHTS_INSIDE)
        ]

    def _read(self, key: str) -> Any:
        return lambda: self._reader.get_tensor(key)


def _node(message: memoryview) -> _Node:
    """Read a TrackableObject: children = 1 (node_id = 1, local_name = 2), attributes = 2 (name = 1, key = 3)."""
    children = {protobuf.text(child, 2): protobuf.integer(child, 1) for child in protobuf.messages(message, 1)}
    keys = [protobuf.text(value, 3) for value in protobuf.messages(message, 2) if protobuf.text(value, 1) == _VALUE]
    return _Node(children, keys[0] if keys else None)
