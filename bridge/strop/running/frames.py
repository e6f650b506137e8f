"""Frames and labels in the forms that users have (arrays, lists, dicts, datasets, iterators), as one array per input.

Nothing is scaled or cast here: `strop.running.encode` and `strop.lowering.keras_frames` each do that on their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, did_you_mean
from strop.graph import Graph, Input
from strop.graph.capacity import require_memory

Array = npt.NDArray[Any]

# All that `frames_and_labels` takes: arrays and what turns into one, sequences and mappings of them, streams of
# batches.
Frames = Any

_FORMS = (
    "give an array (n, ...) or what NumPy makes one of; a list or dict of arrays for several inputs; a pair (x, y); a "
    "tf.data.Dataset, a keras.utils.PyDataset, or an iterator of frames, of batches or of (x, y)"
)


@dataclass(frozen=True, eq=False)
class FramesAndLabels:
    """Frames and labels of a user.

    Attributes
    ----------
    frames : dict of input name to array, frames first
        As the user has them.
    labels : anything that `strop.running.labels.labels_by_output` takes, or None
    notes : tuple of str
        What was ignored, in plain sentences.
    """

    frames: dict[str, Array]
    labels: Any = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of frames of the first input."""
        return len(next(iter(self.frames.values())))


def frames_and_labels(
    graph: Graph, frames: Frames, labels: Any = None, keys: Mapping[str, str] | None = None
) -> FramesAndLabels:
    """Return the frames and labels of a user, in any of the forms that `strop.verify` takes.

    >>> frames_and_labels(graph, (x_test, y_test)).labels is y_test
    True

    Parameters
    ----------
    labels : optional
        If given, `frames` holds no labels.
    keys : mapping of str to input name, optional
        Keras's keys of the inputs, where they are not the layers' names.

    Raises
    ------
    DataError
        If it is none of these forms; the message lists them.
    """
    if isinstance(frames, (str, bytes, os.PathLike)):
        raise DataError(f"frames are given as {frames!r}: read them first, for example with numpy.load(path)['x']")
    if frames is None:
        raise DataError(f"no frames are given: {_FORMS}")
    if _is_stream(frames):
        return _gathered(graph, frames, labels, keys)
    notes: list[str] = []
    if labels is None:
        frames, labels = _pair(graph, frames, keys, notes)
    return FramesAndLabels(_by_input(graph, frames, keys), labels, tuple(notes))


def as_array(value: Any, where: str) -> Array:
    """Return a tensor of any framework, a table or nested lists as an array; nothing is cast.

    Raises
    ------
    DataError
        If NumPy makes none of it, or some of its values are masked.
    """
    try:
        if hasattr(value, "detach"):  # PyTorch: may need a gradient, or lie on another device
            value = value.detach()
            value = (value.cpu() if hasattr(value, "cpu") else value).numpy()
        if hasattr(value, "toarray"):  # a sparse matrix
            value = value.toarray()
        array = np.asarray(value)
    except Exception as error:  # whatever the framework raises
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where} cannot be made an array of ({_kind(value)}): {reason}; {_FORMS}") from error
    if array.dtype == object and array.ndim == 0:
        raise DataError(f"{where} cannot be made an array of ({_kind(value)}); {_FORMS}")
    if np.ma.is_masked(value):
        raise DataError(f"{where} hold masked values: fill them first, with numpy.ma.filled(x, value)")
    return array


def fits(node: Input, shape: tuple[int, ...]) -> bool:
    """Whether one frame of `shape` is a frame for an input: the same, flat, or without a last axis of one channel."""
    size = int(np.prod(node.shape, dtype=np.int64))
    one_channel = node.shape[-1] == 1 and shape == node.shape[:-1]
    return shape in (node.shape, (size,)) or one_channel or node.shape == (int(np.prod(shape, dtype=np.int64)),)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _is_array(value: Any) -> bool:
    ready = any(hasattr(value, name) for name in ("__array__", "detach", "toarray"))
    return ready or isinstance(value, (int, float, complex))


# Sequences and mappings -----------------------------------------------------------------------------------------------


def _by_input(graph: Graph, frames: Any, keys: Mapping[str, str] | None) -> dict[str, Array]:
    """Return one array per input: of one array, of a mapping by name, or of a sequence in the graph's order."""
    names = [node.name for node in graph.inputs]
    if isinstance(frames, Mapping):
        parts = by_name(names, frames, "frames", "inputs", keys)
        missing = [name for name, part in zip(names, parts, strict=True) if part is None]
        if missing:
            raise DataError(
                f"frames must be given for the inputs {', '.join(names)}; got {', '.join(map(str, frames))}"
            )
    elif len(names) == 1:
        parts = [frames]
    else:
        try:
            parts = list(frames)
        except TypeError:
            parts = []
        if len(parts) != len(names):
            raise DataError(f"the network has {len(names)} inputs ({', '.join(names)}); give one array for each")
    return {name: as_array(part, f"frames for input {name!r}") for name, part in zip(names, parts, strict=True)}


def by_name(
    names: list[str], values: Mapping[Any, Any], what: str, nodes: str, keys: Mapping[str, str] | None = None
) -> list[Any]:
    """Return a mapping's value for each of `names`, None where it has none; numbers from "1" stand for names too.

    Raises
    ------
    DataError
        If a key is none of them, or two keys mean the same.
    """
    found: dict[str, Any] = {}
    numbers = {str(number): name for number, name in enumerate(names, 1)}
    for key, value in values.items():
        known = {**numbers, **(keys or {}), **{name: name for name in names}}
        name = known.get(str(key))
        if name is None:
            raise DataError(
                f"{what} are given for {key!r}, and the {nodes} are {', '.join(names)}{did_you_mean(key, known)}"
            )
        if name in found:
            raise DataError(f"{what} are given twice for {name!r}")
        found[name] = value
    return [found.get(name) for name in names]


def _pair(graph: Graph, frames: Any, keys: Mapping[str, str] | None, notes: list[str]) -> tuple[Any, Any]:
    """Split `(x, y)` or `(x, y, weights)`; anything else is frames alone."""
    if not isinstance(frames, (tuple, list)) or len(frames) not in (2, 3):
        return frames, None
    count = _count(graph, frames[0], keys)
    if count is None or (isinstance(frames, list) and _count(graph, frames, keys) is not None):
        return frames, None
    if not _may_be_labels(frames[1], count) or (len(frames) == 3 and not _may_be_labels(frames[2], count)):
        if len(graph.inputs) == len(frames) or _count(graph, frames, keys) is not None:
            return frames, None
        shape = np.shape(frames[1]) if _is_array(frames[1]) else f"({_kind(frames[1])})"
        raise DataError(
            f"a pair is given, of which the first part holds {count} frames and the second, of shape {shape}, no label "
            "for each of them: give verify(model, x, y) with one label for each frame"
        )
    if len(frames) == 3:
        notes.append("weights of the samples are not used: every frame counts once")
    return frames[0], frames[1]


def _count(graph: Graph, frames: Any, keys: Mapping[str, str] | None) -> int | None:
    """Return the number of frames, or None if these are no frames for all inputs."""
    try:
        arrays = _by_input(graph, frames, keys)
    except DataError:
        return None
    shapes = [arrays[node.name].shape for node in graph.inputs]
    right = all(shape and fits(node, shape[1:]) for node, shape in zip(graph.inputs, shapes, strict=True))
    return shapes[0][0] if right and len({shape[0] for shape in shapes}) == 1 else None


def _may_be_labels(labels: Any, count: int) -> bool:
    """Whether labels have a row for each frame, or are a mapping or sequence of such."""
    if isinstance(labels, Mapping):
        return all(part is None or _may_be_labels(part, count) for part in labels.values())
    try:
        shape = np.shape(as_array(labels, "labels"))
    except DataError:
        shape = ()
    if shape and shape[0] == count:
        return True
    return isinstance(labels, (tuple, list)) and all(part is None or _may_be_labels(part, count) for part in labels)


# Streams --------------------------------------------------------------------------------------------------------------


def _is_stream(frames: Any) -> bool:
    """Whether frames come one after the other, or batch by batch."""
    if _is_array(frames) or isinstance(frames, (Mapping, tuple, list, set, frozenset)):
        return False
    return hasattr(frames, "__iter__") or (hasattr(frames, "__getitem__") and hasattr(frames, "__len__"))


def _elements(stream: Any) -> Iterator[Any]:
    keras = sys.modules.get("keras")
    if hasattr(stream, "as_numpy_iterator"):
        count = getattr(stream, "cardinality", lambda: 0)()
        if int(count) == -1:  # tf.data.INFINITE_CARDINALITY
            raise DataError("the dataset repeats without end: say how much of it, with dataset.take(number)")
        yield from stream.as_numpy_iterator()
    elif keras is not None and isinstance(stream, keras.utils.PyDataset):
        if stream.num_batches is None:
            raise DataError("the dataset has no end (its num_batches is None): give a number of batches")
        yield from (stream[number] for number in range(stream.num_batches))
    elif hasattr(stream, "__iter__"):
        yield from stream
    else:
        yield from (stream[number] for number in range(len(stream)))


def _gathered(graph: Graph, stream: Any, labels: Any, keys: Mapping[str, str] | None) -> FramesAndLabels:
    """Read a stream to its end."""
    parts: list[dict[str, Array]] = []
    truths: list[Any] = []
    notes: list[str] = []
    size = 0
    for number, element in enumerate(_elements(stream)):
        where = f"element {number} of the {_kind(stream)}"
        x, y, weights = _parts(graph, element, keys)
        part, single = _batch(graph, x, keys, where)
        parts.append(part)
        if y is not None:
            truths.append(_rows(y, single))
        if len(truths) not in (0, len(parts)):
            raise DataError(f"{where} {'has no' if y is None else 'has'} labels, unlike those before it")
        if weights is not None and not notes:
            notes.append("weights of the samples are not used: every frame counts once")
        size += sum(array.nbytes for array in part.values())
        # Joining the parts takes the same memory once more.
        require_memory(f"gathering frames from the {_kind(stream)}", size, "Give fewer: take(number) of a dataset")
    if not parts:
        raise DataError(f"the {_kind(stream)} gave no frames; what has been read through once gives nothing again")
    frames = {name: _joined([part[name] for part in parts], f"frames for input {name!r}") for name in parts[0]}
    if truths and labels is not None:
        notes.append("the labels that came with the frames are not used: others were given")
    elif truths:
        labels = _joined_tree(truths)
    return FramesAndLabels(frames, labels, tuple(notes))


def _parts(graph: Graph, element: Any, keys: Mapping[str, str] | None) -> tuple[Any, Any, Any]:
    """Split an element into frames, labels and weights as Keras does: `x`, `(x,)`, `(x, y)` or `(x, y, weights)`."""
    if not isinstance(element, (tuple, list)) or not 1 <= len(element) <= 3:
        return element, None, None
    several = len(graph.inputs) > 1 and len(element) == len(graph.inputs)
    if several and not isinstance(element[0], (tuple, list, Mapping)):
        return element, None, None
    # A frame, or a batch, may be a list itself: a list is a pair only if it is no frames as a whole.
    if not _are_frames(graph, element[0], keys) or (isinstance(element, list) and _are_frames(graph, element, keys)):
        return element, None, None
    x, y, weights = (*element, None, None)[:3]
    return x, y, weights


def _are_frames(graph: Graph, x: Any, keys: Mapping[str, str] | None) -> bool:
    try:
        _batch(graph, x, keys, "")
    except DataError:
        return False
    return True


def _batch(graph: Graph, x: Any, keys: Mapping[str, str] | None, where: str) -> tuple[dict[str, Array], bool]:
    """Return an element's frames with frames first, and whether it was a single frame."""
    arrays = _by_input(graph, x, keys)
    shapes = [(node, arrays[node.name].shape) for node in graph.inputs]
    exact = all(shape == node.shape for node, shape in shapes)
    batch = all(len(shape) > 0 and fits(node, shape[1:]) for node, shape in shapes)
    if exact or (not batch and all(fits(node, shape) for node, shape in shapes)):
        return {name: array[None] for name, array in arrays.items()}, True
    if not batch:
        node, shape = next((node, shape) for node, shape in shapes if not (shape and fits(node, shape[1:])))
        raise DataError(
            f"{where} has the shape {shape}: neither a frame of input {node.name!r}, {node.shape}, nor a batch of them"
        )
    return arrays, False


def _rows(labels: Any, single: bool) -> Any:
    """Return an element's labels with one row per frame; several outputs stay a mapping or a list."""
    if isinstance(labels, Mapping):
        return {key: _rows(part, single) for key, part in labels.items()}
    if isinstance(labels, (tuple, list)) and any(np.ndim(part) > 0 or part is None for part in labels):
        return [_rows(part, single) for part in labels]
    array = as_array(labels, "labels")
    return array[None] if single else array


def _joined_tree(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping) and all(isinstance(part, Mapping) and part.keys() == first.keys() for part in parts):
        return {key: _joined_tree([part[key] for part in parts]) for key in first}
    if isinstance(first, list) and all(isinstance(part, list) and len(part) == len(first) for part in parts):
        return [_joined_tree([part[number] for part in parts]) for number in range(len(first))]
    if not all(isinstance(part, np.ndarray) for part in parts):
        raise DataError("labels differ from element to element: give the same outputs in each")
    return _joined(parts, "labels")


def _joined(parts: list[Array], where: str) -> Array:
    try:
        return np.concatenate(parts)
    except ValueError as error:
        shapes = sorted({array.shape[1:] for array in parts})
        raise DataError(f"{where} differ from element to element: shapes {', '.join(map(str, shapes))}") from error
