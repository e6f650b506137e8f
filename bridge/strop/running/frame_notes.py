"""Notes on the user's frames, in plain sentences: how they were scaled, and what looks like a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph, Input


class Seen:
    """Types and ranges of the frames of each input, as far as the notes need them; added up chunk by chunk.

    >>> seen = Seen(graph)
    >>> seen.add({"x": np.zeros((3, 28, 28), np.uint8)})
    >>> seen.notes()
    ["input 'x': uint8 frames divided by 255"]
    """

    def __init__(self, graph: Graph) -> None:
        self._inputs = graph.inputs
        self._types: dict[str, np.dtype[Any]] = {}
        self._ranges: dict[str, tuple[float, float]] = {}

    def add(self, frames: Mapping[str, npt.NDArray[Any]]) -> None:
        """Look at a chunk, frames first, as the user has it."""
        for node in self._inputs:
            array = frames[node.name]
            before = self._types.get(node.name, array.dtype)
            self._types[node.name] = array.dtype if before == array.dtype else np.result_type(before, array.dtype)
            if _range_matters(node, array.dtype):
                least, most = float(array.min()), float(array.max())
                known = self._ranges.get(node.name, (least, most))
                self._ranges[node.name] = min(known[0], least), max(known[1], most)

    def notes(self) -> list[str]:
        """Return one sentence per input: how `strop.running.encode.as_frames` scaled its frames."""
        known = [(node, self._types[node.name], self._ranges.get(node.name)) for node in self._inputs]
        return [f"input {node.name!r}: {_scaling(node, kind, seen)}{_encoded(node)}" for node, kind, seen in known]


def frame_notes(graph: Graph, frames: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return one sentence per input: how `strop.running.encode.as_frames` scaled its frames.

    >>> frame_notes(graph, {"x": np.zeros((3, 28, 28), np.uint8)})
    ["input 'x': uint8 frames divided by 255"]

    Parameters
    ----------
    frames : mapping of input name to array
        As the user has them.
    """
    seen = Seen(graph)
    seen.add(frames)
    return seen.notes()


def _range_matters(node: Input, dtype: np.dtype[Any]) -> bool:
    return node.dtype == "float32" and dtype.name != "bool"


def _scaling(node: Input, dtype: np.dtype[Any], values: tuple[float, float] | None) -> str:
    kind = dtype.name
    if kind == "uint8" and not node.whole_numbers:
        return f"uint8 frames divided by 255{_doubt(values)}"
    if kind == "bool":
        return "bool frames used as 0 and 1"
    if node.dtype != "float32":
        return f"{kind} frames used as they are: the model's input takes {node.dtype}"
    least, most = values or (0.0, 0.0)
    plain = f"{kind} frames from {least:g} to {most:g} used as they are"
    if node.scaled_by:
        if least >= 0.0 and most <= 1.0 and dtype.kind == "f" and node.scaled_by == "Rescaling":
            return f"{plain}, though the model begins with Rescaling: multiply by 255 if it was trained on 0..255"
        return f"{kind} frames used as they are: the model begins with {node.scaled_by}"
    if least >= 0.0 and most > 1.0:
        advice = "divide by 255 first" if 128 <= most <= 255 else "bring them to that range first"
        return f"{plain}, though nothing in the model scales them: if the model was trained on 0..1, {advice}"
    return f"{kind} frames used as they are"


def _doubt(values: tuple[float, float] | None) -> str:
    """Return what speaks against dividing by 255: images of 8 bits have values in the upper half."""
    most = 255.0 if values is None else values[1]
    if most >= 128.0 or most == 0.0:
        return ""
    return f", though none is above {most:g}: if the model was trained on these numbers as they are, give float32"


def _encoded(node: Input) -> str:
    if node.encoding == "binary":
        return f"; then 1 where a value is at least {node.level:g}, else 0, for Keras too"
    return ""
