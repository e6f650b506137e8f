"""Notes on the user's frames, in plain sentences: how they were scaled, and what looks like a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from strop.graph import Graph, Input


def frame_notes(graph: Graph, frames: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return one sentence per input: how `strop.running.encode.as_frames` scaled its frames.

    >>> frame_notes(graph, {"x": np.zeros((3, 28, 28), np.uint8)})
    ["input 'x': uint8 frames divided by 255"]

    Parameters
    ----------
    frames : mapping of input name to array
        As the user has them.
    """
    return [f"input {node.name!r}: {_scaling(node, frames[node.name])}{_encoded(node)}" for node in graph.inputs]


def _scaling(node: Input, frames: npt.NDArray[Any]) -> str:
    kind = frames.dtype.name
    if kind == "uint8" and not node.whole_numbers:
        return "uint8 frames divided by 255"
    if kind == "bool":
        return "bool frames used as 0 and 1"
    least, most = float(frames.min()), float(frames.max())
    plain = f"{kind} frames from {least:g} to {most:g} used as they are"
    if node.dtype != "float32":
        return f"{kind} frames used as they are: the model's input takes {node.dtype}"
    if node.scaled_by:
        if least >= 0.0 and most <= 1.0 and frames.dtype.kind == "f" and node.scaled_by == "Rescaling":
            return f"{plain}, though the model begins with Rescaling: multiply by 255 if it was trained on 0..255"
        return f"{kind} frames used as they are: the model begins with {node.scaled_by}"
    if least >= 0.0 and most > 1.0:
        advice = "divide by 255 first" if 128 <= most <= 255 else "bring them to that range first"
        return f"{plain}, though nothing in the model scales them: if the model was trained on 0..1, {advice}"
    return f"{kind} frames used as they are"


def _encoded(node: Input) -> str:
    if node.encoding == "binary":
        return f"; then 1 where a value is at least {node.level:g}, else 0, for Keras too"
    return ""
