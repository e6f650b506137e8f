"""Frames and labels chunk by chunk, so that neither need fit in memory: `frame_source`.

What is decided where:

* Shapes, types and numbers of frames: at once, before anything runs; of a stream, by a look at its first element, and
  of every later one as it comes.
* Values (finite, in range): at once for arrays in memory; chunk by chunk for what is memory-mapped, lazy or a stream.
* Labels: likewise (`strop.running.label_source`).
* Scaling: by type, so it is the same for every chunk. The range that a note names is that of all chunks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Graph
from strop.running.encode import FrameDict, check_form, common_count, frames_of_input, ready_frames, values_matter
from strop.running.frame_forms import WEIGHTS_UNUSED, Frames, by_input, is_mapped, kind_of, split_pair
from strop.running.frame_notes import Seen
from strop.running.frame_streams import Buffer, Element, elements, is_stream
from strop.running.frames import LABELS_UNUSED, nothing_given, refuse_what_is_no_data
from strop.running.label_source import LabelSource
from strop.running.labels import Truths, labels_by_output
from strop.running.lazy_rows import LazyRows

Array = npt.NDArray[Any]
# Frames in memory whose values are looked at together, before anything runs.
_LOOK = 1000


@dataclass(frozen=True, eq=False)
class Chunk:
    """Successive frames, as arrays in memory; it can be pickled.

    Attributes
    ----------
    number : int
        From 0; all chunks but the last have the same `count`.
    start : int
        Place of its first frame among all.
    count : int
        Number of frames.
    frames : dict of input name to float32 array, shape (count, *input.shape)
        Ready for `strop.running.encode.encode`.
    own : dict of input name to array, frames first
        The same frames as the user has them, neither scaled nor cast: for Keras.
    truths : tuple of int64 array, shape (count,), or None, one per output; or None
        Labels (`strop.running.labels`).
    """

    number: int
    start: int
    count: int
    frames: FrameDict
    own: dict[str, Array]
    truths: Truths | None


class FrameSource(ABC):
    """Frames and labels of a user, given out in chunks.

    Attributes
    ----------
    count : int or None
        Number of frames; None as long as a stream has not come to its end.
    given : int
        Frames that were given out so far.
    """

    _labels: LabelSource

    def __init__(self, graph: Graph, count: int | None) -> None:
        self.graph, self.count, self.given = graph, count, 0
        self._seen = Seen(graph)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yield all frames in order, `size` at a time; what is in a chunk does not depend on the batches of a stream.

        Raises
        ------
        DataError
            If frames or labels do not fit, or there are more or fewer frames than the source says; names which.
        """
        self.given = 0
        for number, (own, truths) in enumerate(self._parts(size)):
            start, count = self.given, len(next(iter(own.values())))
            which = "" if self._checked else f" ({start:,} to {start + count - 1:,})"
            frames = ready_frames(self.graph, own, which)
            self._seen.add(own)
            self.given += count
            yield Chunk(number, start, count, frames, own, truths)
        if self.count is not None and self.given != self.count:
            raise DataError(f"there are said to be {self.count:,} frames, and {self.given:,} came")
        self.count = self.given

    def chunk_with(self, frame: int, size: int) -> Chunk:
        """Return the chunk of `chunks(size)` that holds a frame.

        Raises
        ------
        DataError
            If there is no such frame.
        """
        for chunk in self.chunks(size):
            if chunk.start <= frame < chunk.start + chunk.count:
                return chunk
        raise self._no_frame(frame)

    def _no_frame(self, frame: int) -> DataError:
        return DataError(
            f"there is no frame {frame}: the data hold {self.count:,} frames, 0 to {(self.count or 0) - 1:,}"
        )

    def require_labels(self, count: int) -> None:
        """Raise a `DataError` if labels were given, and not as many as frames."""
        self._labels.require(count)

    @property
    def frame_notes(self) -> list[str]:
        """How the frames were scaled, one sentence per input; complete after the last chunk."""
        return self._seen.notes()

    @property
    def notes(self) -> list[str]:
        """All that was done with frames and labels, in plain sentences; complete after the last chunk."""
        return [*self.frame_notes, *self._notes()]

    # Whether all values were looked at before the first chunk.
    _checked = False

    @abstractmethod
    def _parts(self, size: int) -> Iterator[tuple[dict[str, Array], Truths | None]]:
        """Yield frames, as the user has them, and labels of each chunk."""

    @abstractmethod
    def _notes(self) -> list[str]:
        """Return what was done besides scaling."""


def frame_source(
    graph: Graph,
    frames: Frames | FrameSource,
    labels: Any = None,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
) -> FrameSource:
    """Return the frames and labels of a user as a source of chunks.

    >>> for chunk in frame_source(graph, np.load("frames.npy", mmap_mode="r")).chunks(1000):
    ...     signals = encode(graph, chunk.frames)

    Parameters
    ----------
    frames : array, or anything that `strop.verify` takes
        Arrays in memory; what is sliced when it is asked for: memory-mapped arrays, datasets of h5py, arrays of Zarr
        and Dask; lists and dicts of them for several inputs; pairs (x, y); streams of frames or batches, which are read
        once.
    labels : optional
        If given, `frames` holds no labels; lazy too, if they are.
    inputs, outputs : mapping of str to name, optional
        Keras's keys of the inputs and outputs, where they are not the layers' names.

    Raises
    ------
    DataError
        If it is none of these forms, or does not fit the graph.
    """
    if isinstance(frames, FrameSource):
        return frames
    refuse_what_is_no_data(frames)
    if is_stream(frames):
        return _StreamSource(graph, frames, labels, inputs, outputs)
    notes: list[str] = []
    if labels is None:
        frames, labels = split_pair(graph, frames, inputs, notes)
    return _ArraySource(graph, by_input(graph, frames, inputs), labels, outputs, notes)


class _ArraySource(FrameSource):
    """Arrays, or what gives parts of one when it is sliced."""

    def __init__(
        self, graph: Graph, arrays: dict[str, Any], labels: Any, keys: Mapping[str, str] | None, notes: list[str]
    ) -> None:
        for node in graph.inputs:
            check_form(node, tuple(arrays[node.name].shape), arrays[node.name].dtype)
        count = common_count(arrays)
        super().__init__(graph, count)
        self._arrays, self._about = arrays, notes
        self._lazy = {
            name: LazyRows(array, f"frames for input {name!r}")
            for name, array in arrays.items()
            if not isinstance(array, np.ndarray) or is_mapped(array)
        }
        self._checked = not self._lazy
        for node in graph.inputs:
            if node.name not in self._lazy and values_matter(node, arrays[node.name].dtype):
                for start in range(0, count, _LOOK):
                    frames_of_input(node, arrays[node.name][start : start + _LOOK])
        self._labels = LabelSource(graph, labels, count, keys)

    def chunk_with(self, frame: int, size: int) -> Chunk:
        assert self.count is not None
        if not 0 <= frame < self.count:
            raise self._no_frame(frame)
        start = frame // size * size
        own, truths = self._part(start, min(start + size, self.count))
        return Chunk(start // size, start, len(next(iter(own.values()))), ready_frames(self.graph, own), own, truths)

    def _parts(self, size: int) -> Iterator[tuple[dict[str, Array], Truths | None]]:
        assert self.count is not None
        for start in range(0, self.count, size):
            yield self._part(start, min(start + size, self.count))

    def _part(self, start: int, stop: int) -> tuple[dict[str, Array], Truths | None]:
        own = {name: self._slice(name, start, stop) for name in self._arrays}
        return own, self._labels.part(start, stop)

    def _slice(self, name: str, start: int, stop: int) -> Array:
        if name in self._lazy:
            return self._lazy[name].rows(start, stop)
        part: Array = self._arrays[name][start:stop]
        return part

    def _notes(self) -> list[str]:
        return [*self._about, *self._labels.notes]


class _StreamSource(FrameSource):
    """A stream, of which no more is held than a chunk and an element."""

    def __init__(
        self,
        graph: Graph,
        stream: Any,
        labels: Any,
        inputs: Mapping[str, str] | None,
        outputs: Mapping[str, str] | None,
    ) -> None:
        super().__init__(graph, None)
        self._stream, self._outputs, self._weighted = stream, outputs, False
        self._given_labels = labels is not None
        self._labels = LabelSource(graph, labels, None, outputs)
        self._elements: Iterator[Element] | None = elements(graph, stream, inputs)
        first = list(islice(self._elements, 1))
        if not first:
            raise nothing_given(stream)
        self._labelled = first[0].labels is not None
        self._about_labels: list[str] = []
        for node in graph.inputs:
            array = first[0].frames[node.name]
            check_form(node, (max(1, len(array)), *array.shape[1:]), array.dtype)
        self._elements = chain(first, self._elements)

    def _parts(self, size: int) -> Iterator[tuple[dict[str, Array], Truths | None]]:
        left, self._elements = self._elements, None
        if left is None:
            raise DataError(f"the {kind_of(self._stream)} has been read already: a stream is read once")
        buffer, start = Buffer(), 0
        for element in left:
            self._weighted |= element.weighted
            buffer.add(element)
            while buffer.count >= size:
                yield self._part(buffer, start, start + size)
                start += size
            buffer.settle()
        if buffer.count:
            stop = start + buffer.count
            yield self._part(buffer, start, stop)
            start = stop
        if start == 0:
            raise nothing_given(self._stream)
        if self._given_labels:
            self._labels.require(start)

    def _part(self, buffer: Buffer, start: int, stop: int) -> tuple[dict[str, Array], Truths | None]:
        own, labels = buffer.take(stop - start)
        if self._given_labels:
            return own, self._labels.part(start, stop)
        truths, self._about_labels = labels_by_output(self.graph, labels, stop - start, self._outputs, start)
        return own, truths

    def _notes(self) -> list[str]:
        notes = [WEIGHTS_UNUSED] if self._weighted else []
        if self._given_labels:
            return [*notes, *([LABELS_UNUSED] if self._labelled else []), *self._labels.notes]
        return [*notes, *self._about_labels]
