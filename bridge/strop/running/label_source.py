"""The labels of a user, a chunk at a time: `LabelSource`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from strop.errors import DataError
from strop.graph import Graph
from strop.running.frame_forms import as_sliceable, is_lazy, is_mapped
from strop.running.labels import Truths, labels_by_output, one_per_output, part_of
from strop.running.lazy_rows import LazyRows


class LabelSource:
    """Labels that were given beside frames: those in memory are checked at once, lazy ones chunk by chunk.

    Parameters
    ----------
    graph : Graph
    labels : as `strop.running.labels.labels_by_output` takes them, each of them an array or lazy; or None
    count : int or None
        Number of frames, where it is known.
    keys : mapping of str to output name, optional

    Attributes
    ----------
    notes : list of str
        What is done with the labels; known after the first chunk.

    Raises
    ------
    DataError
        See `strop.running.labels.as_labels`.
    """

    def __init__(self, graph: Graph, labels: Any, count: int | None, keys: Mapping[str, str] | None) -> None:
        self._graph, self._keys = graph, keys
        self.notes: list[str] = []
        self._truths: Truths | None = None
        parts = _parts(graph, labels, count)
        self._lazy = any(_is_lazy(part) for part in parts)
        if self._lazy or count is None:
            counts = {int(part.shape[0]) if part.shape else 0 for part in parts}
            if len(counts) > 1:
                raise DataError(f"labels must be one per frame: the outputs have {', '.join(map(str, sorted(counts)))}")
            self.count = counts.pop() if counts else count
        else:
            self.count = count
        self._labels = _each(labels, _rows) if self._lazy else labels
        if not self._lazy:
            self._truths, self.notes = labels_by_output(graph, labels, self.count or 0, keys)
        elif count is not None:
            self.require(count)

    def part(self, start: int, stop: int) -> Truths | None:
        """Return the class numbers of some frames, per output.

        Raises
        ------
        DataError
            If they are no class numbers, or there are no labels for these frames.
        """
        if self._labels is None:
            return None
        if self.count is not None and stop > self.count:
            raise DataError(f"labels must be one per frame: {self.count:,} are given, and there are more frames")
        if not self._lazy:
            return part_of(self._truths, start, stop)
        labels = _each(self._labels, lambda part: part.rows(start, stop))
        truths, self.notes = labels_by_output(self._graph, labels, stop - start, self._keys, start)
        return truths

    def require(self, count: int) -> None:
        """Raise a `DataError` if there are not as many labels as frames."""
        if self._labels is not None and self.count != count:
            raise DataError(f"labels must be one per frame: {self.count:,} are given for {count:,} frames")


def _is_lazy(labels: Any) -> bool:
    return is_lazy(labels) or (isinstance(labels, np.ndarray) and is_mapped(labels))


def _parts(graph: Graph, labels: Any, count: int | None) -> list[Any]:
    """Return the labels of each output that has some, each of them an array or lazy."""
    if isinstance(labels, Mapping):
        parts = list(labels.values())
    else:
        parts = list(labels) if one_per_output(labels, len(graph.outputs), count) else [labels]
    return [as_sliceable(part, "labels") for part in parts if part is not None]


def _rows(labels: Any) -> LazyRows:
    return LazyRows(as_sliceable(labels, "labels"), "labels")


def _each(labels: Any, change: Callable[[Any], Any]) -> Any:
    """Return lazy labels, those of each output by themselves where there are several, changed."""
    if isinstance(labels, Mapping):
        return {key: None if part is None else change(part) for key, part in labels.items()}
    if isinstance(labels, (tuple, list)):
        return [None if part is None else change(part) for part in labels]
    return change(labels)
