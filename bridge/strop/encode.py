"""From the user's frames to what enters a graph: checks, scaling, and the four input encodings (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Dense, Graph, Input

Frames = npt.NDArray[Any] | Sequence[npt.NDArray[Any]] | Mapping[str, npt.NDArray[Any]]
FrameDict = dict[str, npt.NDArray[np.float32]]
SignalDict = dict[str, npt.NDArray[Any]]


def as_frames(graph: Graph, frames: Frames) -> FrameDict:
    """Return one float32 array of shape `(n, *input.shape)` per input of `graph`.

    Parameters
    ----------
    frames : array, or sequence or mapping of arrays
        Frames first; one array for a graph with one input, else one per input, in the graph's order or by name.
        uint8 is divided by 255, bool becomes 0 and 1, floats are used as they are. A frame may also be given flat,
        or without a last axis of one channel.

    Raises
    ------
    DataError
        If an array is missing, empty, of a wrong shape or dtype, not finite, or the numbers of frames differ.
    """
    names = [node.name for node in graph.inputs]
    if isinstance(frames, Mapping):
        missing = [name for name in names if name not in frames]
        if missing or len(frames) != len(names):
            raise DataError(f"frames must be given for the inputs {', '.join(names)}; got {', '.join(frames)}")
        arrays = [np.asarray(frames[name]) for name in names]
    elif len(names) > 1:
        if len(frames) != len(names):
            raise DataError(f"the network has {len(names)} inputs ({', '.join(names)}); give one array for each")
        arrays = [np.asarray(array) for array in frames]
    else:
        arrays = [np.asarray(frames)]
    result = {node.name: _as_float32(node, array) for node, array in zip(graph.inputs, arrays, strict=True)}
    counts = {name: len(array) for name, array in result.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"the inputs have different numbers of frames: {counts}")
    return result


def _as_float32(node: Input, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    where = f"frames for input {node.name!r}"
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"{where} are empty; give an array of shape (n, {', '.join(map(str, node.shape))})")
    size = int(np.prod(node.shape, dtype=np.int64))
    same = array.shape[1:] == node.shape
    flat = array.shape[1:] == (size,)
    one_channel = node.shape[-1] == 1 and array.shape[1:] == node.shape[:-1]
    flattened = node.shape == (int(np.prod(array.shape[1:], dtype=np.int64)),)
    if not (same or flat or one_channel or flattened):
        raise DataError(f"{where} have the shape {array.shape}, the network takes (n, {_extents(node.shape)})")
    array = array.reshape(len(array), *node.shape)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{where} have dtype {array.dtype}; give uint8 (scaled by 1/255), bool or floats")
    result = array.astype(np.float32, copy=False)
    if not np.isfinite(result).all():
        raise DataError(f"{where} hold values that are not finite (NaN or infinity)")
    return result


def _extents(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def keras_frames(graph: Graph, frames: FrameDict) -> FrameDict:
    """Return the frames that Keras must see for a fair comparison.

    Under `binary` they are binarised; under `bitplane` they are the float32 nearest to what the planes stand for.
    """
    return {node.name: _keras_frame(node, frames[node.name]) for node in graph.inputs}


def _keras_frame(node: Input, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if node.encoding == "binary":
        return (frames >= node.level).astype(np.float32)
    if node.encoding == "bitplane":
        return node.plane_values(_plane_numbers(node, frames)[0]).astype(np.float32)
    return frames


def encode(graph: Graph, frames: FrameDict) -> SignalDict:
    """Return what leaves each input, shape `(n, *input.signal_shape)`: bool spikes or float64 values."""
    return {node.name: _encode(node, frames[node.name]) for node in graph.inputs}


def _encode(node: Input, frames: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    if node.encoding == "binary":
        return frames >= node.level
    if node.encoding == "bitplane":
        return _bit_planes(node, frames)
    return frames.astype(np.float64)


def _bit_planes(node: Input, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    levels, fits = _plane_numbers(node, frames)
    if not fits.all():
        value = float(frames[~fits].reshape(-1)[0])
        raise DataError(
            f"frames for input {node.name!r} hold {value!r}, which is {_grid(node)}: the bitplane encoding carries "
            f"whole numbers of {node.bits} bits. Say what your frames hold (bits, step and offset of strop.lower, "
            "--bits, --step and --offset of the command line), quantise them, or use another encoding"
        )
    planes = (levels[..., None] >> np.arange(node.bits)) & 1
    return planes.reshape(len(frames), *node.signal_shape).astype(np.bool_)


def _plane_numbers(node: Input, frames: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the whole numbers that frames stand for, and where they do: up to a few float32 roundings."""
    full = (1 << node.bits) - 1
    step = 1.0 / full if node.step is None else node.step
    levels = np.clip(np.rint((frames.astype(np.float64) - node.offset) / step), 0, full)
    values = node.plane_values(levels)
    # `x / 127.5 - 1` or `x * (1 / 255)` in float32 is off by a rounding or two of what was added up; where that
    # comes near the distance of two values, only the float32 nearest to one stands for it.
    rounded = np.minimum(2.0**-22 * (abs(node.offset) + levels * step), step / 4)
    return levels.astype(np.int64), (values.astype(np.float32) == frames) | (np.abs(frames - values) <= rounded)


def _grid(node: Input) -> str:
    full = (1 << node.bits) - 1
    if node.step is None and node.offset == 0.0:
        return f"no multiple of 1/{full} from 0 to 1"
    first, last = (float(value) for value in node.plane_values(np.array([0, full])))
    return f"none of the {full + 1} values from {first!r} to {last!r}"


def plane_weights(shape: tuple[int, ...], bits: int, step: float | None = None) -> Dense:
    """Return the operator that turns bit planes back into values: plane k of a channel weighs `step * 2^k`.

    Parameters
    ----------
    step : float, optional
        By default `1 / (2^bits - 1)`.
    """
    numbers = 2.0 ** np.arange(bits)
    weights = (numbers / ((1 << bits) - 1) if step is None else numbers * step)[:, None]
    return Dense(np.kron(np.eye(shape[-1]), weights).astype(np.float64), shape[:-1])
