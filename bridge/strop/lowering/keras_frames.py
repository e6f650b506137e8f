"""Frames for Keras, made from the user's own arrays by code that shares nothing with `strop.running.encode`.

Keras must see what `model.predict` would see: if both sides took the same prepared array, an error in its preparation
would be on both sides, and no verification could find it. The one convention is that uint8
is divided by 255 where the model does not take whole numbers (`strop.graph.Input.whole_numbers`); and under the
encodings `binary` and `bitplane` Keras sees what the spikes stand for, unless the model encodes its frames itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Graph, Input
from strop.reader.naming import brief

Array = npt.NDArray[Any]


def keras_frames(
    graph: Graph,
    frames: Mapping[str, Array],
    encoded: Collection[str] = frozenset(),
    wide: Collection[str] = frozenset(),
) -> dict[str, Array]:
    """Return the frames for Keras, one array of shape `(n, *input.shape)` per input, in the model's input dtype.

    Parameters
    ----------
    frames : mapping of input name to array
        As the user has them, checked by `strop.running.encode.as_frames`.
    encoded : collection of str
        Inputs that the model encodes itself (`Lowering.encoded`).
    wide : collection of str
        Inputs that the model takes in float64 (`KerasProbe.wide`).

    Raises
    ------
    DataError
        If float32, in which frames enter the graph, would round what the model takes in float64.
    """
    for node in graph.inputs:
        if node.name in wide and node.encoding in ("host", "current"):
            _refuse_what_is_rounded(node, frames[node.name])
    return {node.name: _for_keras(node, frames[node.name], node.name in encoded) for node in graph.inputs}


def _for_keras(node: Input, frames: Array, as_they_are: bool) -> Array:
    values = frames.reshape((-1, *node.shape)).astype("float32")
    if frames.dtype == "uint8" and not node.whole_numbers:
        values /= np.float32(255)
    if as_they_are:
        return values.astype(node.dtype)
    if node.encoding == "binary":
        values = np.where(values < node.level, 0, 1)
    elif node.encoding == "bitplane":
        most = 2**node.bits - 1
        numbers = values.astype("float64") - node.offset
        numbers = numbers * most if node.step is None else numbers / node.step
        numbers = numbers.round().clip(0, most)
        values = (numbers / most if node.step is None else numbers * node.step) + node.offset
    return values.astype(node.dtype)


def _refuse_what_is_rounded(node: Input, frames: Array) -> None:
    whole = frames.astype("float64")
    rounded = whole != whole.astype("float32")
    if rounded.any():
        raise DataError(
            f"frames for input {node.name!r} hold {float(whole[rounded][0])!r}, which float32 does not, and the model "
            "takes float64: frames enter a graph in float32. Give x.astype('float32')"
        )


def build_for(model: Any, frames: Any) -> None:
    """Build a Sequential model that has no input shape yet, for frames of the user's; else leave it as it is.

    Parameters
    ----------
    model : keras.Model
    frames : array, shape (n, *input_shape), or a pair, list or dict whose first element is one; or None
    """
    import keras

    if frames is None or model.built or not isinstance(model, keras.Sequential):
        return
    shape = _shape(frames)
    if len(shape) > 1:
        try:
            model.build((None, *(int(length) for length in shape[1:])))
        except Exception as error:
            raise DataError(
                f"model {model.name!r} is not built yet, and cannot be built for frames of shape {shape[1:]}: "
                f"{brief(error)}"
            ) from error


def _shape(frames: Any) -> tuple[int, ...]:
    """Return the shape of frames for one input, in any form but a stream; () for what has none."""
    if isinstance(frames, Mapping):
        return _shape(next(iter(frames.values()), None))
    if not isinstance(frames, (tuple, list)):
        return tuple(getattr(frames, "shape", ()))
    if not any(hasattr(part, "shape") or isinstance(part, Mapping) for part in frames):
        try:
            return np.shape(frames)  # numbers
        except ValueError:  # a pair of lists
            pass
    parts = [_shape(part) for part in frames]
    if len(parts) > 1 and parts.count(parts[0]) == len(parts):
        return (len(parts), *parts[0])  # frame by frame
    # Of one input, or of a pair with labels.
    return parts[0] if parts and len(parts) <= 3 else ()
