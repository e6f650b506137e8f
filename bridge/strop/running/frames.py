"""Frames and labels in the forms that users have (arrays, lists, dicts, datasets, iterators), as one array per input.

All of them at once: `strop.running.frame_source` has them chunk by chunk. Nothing is scaled or cast here:
`strop.running.encode` and `strop.lowering.keras_frames` each do that on their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.errors import DataError
from strop.graph import Graph
from strop.graph.capacity import require_memory
from strop.running.frame_forms import (
    FORMS,
    WEIGHTS_UNUSED,
    Array,
    Frames,
    as_array,
    by_input,
    by_name,
    fits,
    kind_of,
    split_pair,
)
from strop.running.frame_streams import Element, elements, is_stream, joined_rows

__all__ = ["Frames", "FramesAndLabels", "as_array", "by_name", "fits", "frames_and_labels", "refuse_what_is_no_data"]

LABELS_UNUSED = "the labels that came with the frames are not used: others were given"


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
    refuse_what_is_no_data(frames)
    if is_stream(frames):
        return _gathered(graph, frames, labels, keys)
    notes: list[str] = []
    if labels is None:
        frames, labels = split_pair(graph, frames, keys, notes)
    parts = by_input(graph, frames, keys)
    arrays = {name: as_array(part, f"frames for input {name!r}") for name, part in parts.items()}
    return FramesAndLabels(arrays, labels, tuple(notes))


def refuse_what_is_no_data(frames: Any) -> None:
    """Raise a `DataError` for paths and for nothing at all."""
    if isinstance(frames, (str, bytes, os.PathLike)):
        raise DataError(f"frames are given as {frames!r}: read them first, for example with numpy.load(path)['x']")
    if frames is None:
        raise DataError(f"no frames are given: {FORMS}")


def _gathered(graph: Graph, stream: Any, labels: Any, keys: Mapping[str, str] | None) -> FramesAndLabels:
    """Read a stream to its end."""
    parts: list[Element] = []
    size = 0
    for element in elements(graph, stream, keys):
        parts.append(element)
        size += sum(array.nbytes for array in element.frames.values())
        # Joining the parts takes the same memory once more.
        require_memory(f"gathering frames from the {kind_of(stream)}", size, "Give fewer: take(number) of a dataset")
    if not parts:
        raise nothing_given(stream)
    notes = [WEIGHTS_UNUSED] if any(part.weighted for part in parts) else []
    frames = {name: np.concatenate([part.frames[name] for part in parts]) for name in parts[0].frames}
    if parts[0].labels is not None and labels is not None:
        notes.append(LABELS_UNUSED)
    elif parts[0].labels is not None:
        labels = joined_rows([part.labels for part in parts])
    return FramesAndLabels(frames, labels, tuple(notes))


def nothing_given(stream: Any) -> DataError:
    """Return the error for a stream without frames."""
    return DataError(f"the {kind_of(stream)} gave no frames; what has been read through once gives nothing again")
