"""Streams of frames: datasets, loaders and iterators, element by element, each checked as it comes."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Graph
from strop.running.frame_forms import as_array, by_input, fits, is_array, is_lazy, kind_of

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Element:
    """What a stream gave at once: a frame or a batch of them.

    Attributes
    ----------
    frames : dict of input name to array, frames first
    labels : array, or mapping or list of them, one row per frame; or None
    weighted : bool
        Whether weights of the samples came with it.
    """

    frames: dict[str, Array]
    labels: Any
    weighted: bool

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(next(iter(self.frames.values())))


def is_stream(frames: Any) -> bool:
    """Whether frames come one after the other, or batch by batch."""
    if is_array(frames) or is_lazy(frames) or isinstance(frames, (Mapping, tuple, list, set, frozenset)):
        return False
    return hasattr(frames, "__iter__") or (hasattr(frames, "__getitem__") and hasattr(frames, "__len__"))


def _given(stream: Any) -> Iterator[Any]:
    """Yield what a stream gives; refuse one that gives more or less than it says."""
    promised, count = _promised(stream), 0
    for given in _read(stream):
        count += 1
        if promised is not None and count > promised:
            break
        yield given
    if promised is not None and count != promised:
        gave = "more" if count > promised else f"{count:,}, so frames are missing"
        raise DataError(f"the {kind_of(stream)} says that it has {promised:,} elements, and gave {gave}")


def _promised(stream: Any) -> int | None:
    """Return how many elements a stream says it has, or None."""
    if isinstance(stream, Iterator):  # may have been read in part
        return None
    try:
        count = int(stream.cardinality()) if hasattr(stream, "cardinality") else len(stream)
    except Exception:  # loaders of PyTorch and others have a length that raises what they like
        return None
    return count if count >= 0 else None  # of tf.data, -2: unknown


def _read(stream: Any) -> Iterator[Any]:
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


def elements(graph: Graph, stream: Any, keys: Mapping[str, str] | None) -> Iterator[Element]:
    """Read a stream, and yield what it gives as frames and labels.

    Raises
    ------
    DataError
        If an element is no frames, or unlike those before it, or the stream ends before it should; names the element.
    """
    first: Element | None = None
    for number, given in enumerate(_given(stream)):
        where = f"element {number} of the {kind_of(stream)}"
        x, y, weights = _parts(graph, given, keys)
        frames, single = _batch(graph, x, keys, where)
        labels = None if y is None else _rows(y, single)
        element = Element(frames, labels, weights is not None)
        first = first or element
        _check_like(graph, element, first, where)
        yield element


def _check_like(graph: Graph, element: Element, first: Element, where: str) -> None:
    """Refuse an element that is unlike the first one: of another shape, or with labels where that has none."""
    if (element.labels is None) != (first.labels is None):
        raise DataError(f"{where} {'has no' if element.labels is None else 'has'} labels, unlike those before it")
    counts = {name: len(array) for name, array in element.frames.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"{where}: the inputs have different numbers of frames: {counts}")
    for node in graph.inputs:
        ours, before = element.frames[node.name], first.frames[node.name]
        if ours.shape[1:] != before.shape[1:]:
            raise DataError(
                f"frames for input {node.name!r} differ from element to element: {where} has the shape "
                f"{ours.shape[1:]} for a frame, those before it {before.shape[1:]}"
            )
        if not node.whole_numbers and (ours.dtype == np.uint8) != (before.dtype == np.uint8):
            raise DataError(
                f"frames for input {node.name!r} differ from element to element: {where} holds {ours.dtype}, those "
                f"before it {before.dtype}, and uint8 alone is divided by 255"
            )
    if element.labels is not None:
        _check_labels(element.labels, first.labels, element.count, where)


def _check_labels(labels: Any, before: Any, count: int, where: str) -> None:
    if isinstance(before, Mapping) or isinstance(labels, Mapping):
        same = isinstance(before, Mapping) and isinstance(labels, Mapping) and before.keys() == labels.keys()
        pairs = [(labels[key], before[key]) for key in before] if same else []
    elif isinstance(before, list) or isinstance(labels, list):
        same = isinstance(before, list) and isinstance(labels, list) and len(before) == len(labels)
        pairs = list(zip(labels, before, strict=True)) if same else []
    elif labels.shape[1:] != before.shape[1:] or not labels.shape:
        shapes = ", ".join(map(str, sorted({labels.shape[1:], before.shape[1:]})))
        raise DataError(f"labels differ from element to element: shapes {shapes} ({where})")
    elif len(labels) != count:
        raise DataError(f"{where} holds {count} frames and {len(labels)} labels")
    else:
        return
    if not same:
        raise DataError(f"labels differ from element to element: give the same outputs in each ({where})")
    for own, other in pairs:
        _check_labels(own, other, count, where)


def _parts(graph: Graph, element: Any, keys: Mapping[str, str] | None) -> tuple[Any, Any, Any]:
    """Split an element into frames, labels and weights as Keras does: `x`, `(x,)`, `(x, y)` or `(x, y, weights)`."""
    if not isinstance(element, (tuple, list)) or not 1 <= len(element) <= 3:
        return element, None, None
    several = len(graph.inputs) > 1 and len(element) == len(graph.inputs)
    if several and not isinstance(element[0], (tuple, list, Mapping)):
        return element, None, None
    if not _are_frames(graph, element[0], keys):
        # Where neither is frames, what is wrong is said of the first part of a pair.
        pair = isinstance(element, tuple) and len(element) > 1 and is_array(element[0])
        if not pair or _are_frames(graph, element, keys):
            return element, None, None
    # A frame, or a batch, may be a list itself: a list is a pair only if it is no frames as a whole.
    elif isinstance(element, list) and _are_frames(graph, element, keys):
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
    try:
        arrays = by_input(graph, x, keys)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    shapes = [(node, tuple(arrays[node.name].shape)) for node in graph.inputs]
    exact = all(shape == node.shape for node, shape in shapes)
    batch = all(len(shape) > 0 and fits(node, shape[1:]) for node, shape in shapes)
    if exact or (not batch and all(fits(node, shape) for node, shape in shapes)):
        return {name: as_array(array, where)[None] for name, array in arrays.items()}, True
    if not batch:
        node, shape = next((node, shape) for node, shape in shapes if not (shape and fits(node, shape[1:])))
        raise DataError(
            f"{where} has the shape {shape}: neither a frame of input {node.name!r}, {node.shape}, nor a batch of them"
        )
    return {name: as_array(array, where) for name, array in arrays.items()}, False


def _rows(labels: Any, single: bool) -> Any:
    """Return an element's labels with one row per frame; several outputs stay a mapping or a list."""
    if isinstance(labels, Mapping):
        return {key: _rows(part, single) for key, part in labels.items()}
    if isinstance(labels, (tuple, list)) and any(np.ndim(part) > 0 or part is None for part in labels):
        return [_rows(part, single) for part in labels]
    array = as_array(labels, "labels")
    return array[None] if single else array


def joined_rows(parts: list[Any]) -> Any:
    """Return the labels of several elements, which `elements` has found alike, as those of one."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: joined_rows([part[key] for part in parts]) for key in first}
    if isinstance(first, list):
        return [joined_rows([part[number] for part in parts]) for number in range(len(first))]
    return first if len(parts) == 1 else np.concatenate(parts)


def _some_rows(labels: Any, start: int, stop: int, change: Callable[[Array], Array] = np.asarray) -> Any:
    if isinstance(labels, Mapping):
        return {key: _some_rows(part, start, stop, change) for key, part in labels.items()}
    if isinstance(labels, list):
        return [_some_rows(part, start, stop, change) for part in labels]
    return change(labels[start:stop])


class Buffer:
    """Elements of a stream that wait to be cut into chunks of another size."""

    def __init__(self) -> None:
        self._elements: deque[Element] = deque()
        self._taken = 0  # frames of the first element that are gone
        self.count = 0

    def add(self, element: Element) -> None:
        """Put an element behind the others."""
        if element.count:
            self._elements.append(element)
            self.count += element.count

    def settle(self) -> None:
        """Copy what is left of the last element, before the next one is asked for.

        A loader may fill the same array anew, and of a large element a small rest shall not hold the whole.
        """
        if self._elements:
            element = self._elements.pop()
            start = 0 if self._elements else self._taken
            frames = {name: array[start:].copy() for name, array in element.frames.items()}
            labels = None if element.labels is None else _some_rows(element.labels, start, element.count, np.copy)
            self._elements.append(Element(frames, labels, element.weighted))
            self._taken -= start

    def take(self, count: int) -> tuple[dict[str, Array], Any]:
        """Remove the first `count` frames; return them, a new array per input, and their labels or None."""
        frames: list[dict[str, Array]] = []
        labels: list[Any] = []
        self.count -= count
        while count:
            element = self._elements[0]
            start, stop = self._taken, min(self._taken + count, element.count)
            frames.append({name: array[start:stop] for name, array in element.frames.items()})
            if element.labels is not None:
                labels.append(_some_rows(element.labels, start, stop))
            count -= stop - start
            self._taken = stop
            if stop == element.count:
                self._elements.popleft()
                self._taken = 0
        joined = {name: np.concatenate([part[name] for part in frames]) for name in frames[0]}
        return joined, joined_rows(labels) if labels else None
