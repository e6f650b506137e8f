"""The labels of a user, a chunk at a time: `LabelSource`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from strop.errors import DataError
from strop.graph import Graph
from strop.running.frame_forms import as_array, as_sliceable, is_lazy
from strop.running.labels import Truths, labels_by_output, one_per_output, part_of


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
        self._graph, self._labels, self._keys = graph, labels, keys
        self.notes: list[str] = []
        self._truths: Truths | None = None
        self._lazy = _any_lazy(labels)
        self.count = _count(graph, labels) if count is None or self._lazy else count
        if self._lazy and count is not None:
            self.require(count)
        elif not self._lazy:
            self._truths, self.notes = labels_by_output(graph, labels, self.count or 0, keys)

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
        labels = _rows(self._labels, start, stop)
        truths, self.notes = labels_by_output(self._graph, labels, stop - start, self._keys, start)
        return truths

    def require(self, count: int) -> None:
        """Raise a `DataError` if there are not as many labels as frames."""
        if self._labels is not None and self.count != count:
            raise DataError(f"labels must be one per frame: {self.count:,} are given for {count:,} frames")


def _any_lazy(labels: Any) -> bool:
    if isinstance(labels, Mapping):
        return any(is_lazy(part) for part in labels.values())
    return is_lazy(labels) or (isinstance(labels, (tuple, list)) and any(is_lazy(part) for part in labels))


def _count(graph: Graph, labels: Any) -> int | None:
    """Return how many labels there are for each output; None where no output has any."""
    if isinstance(labels, Mapping):
        parts = list(labels.values())
    elif _any_lazy(labels) and isinstance(labels, (tuple, list)):
        parts = list(labels)
    else:
        parts = list(labels) if one_per_output(labels, len(graph.outputs), None) else [labels]
    counts = [(*np.shape(as_sliceable(part, "labels")), 0)[0] for part in parts if part is not None]
    if len(set(counts)) > 1:
        raise DataError(f"labels must be one per frame: the outputs have {', '.join(map(str, counts))}")
    return int(counts[0]) if counts else None


def _rows(labels: Any, start: int, stop: int) -> Any:
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        return {key: _rows(part, start, stop) for key, part in labels.items()}
    if isinstance(labels, (tuple, list)):  # one per output
        return [_rows(part, start, stop) for part in labels]
    part = labels[start:stop] if is_lazy(labels) else as_array(labels, "labels")[start:stop]
    return as_array(part, "labels")
