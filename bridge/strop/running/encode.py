"""Host, bit-plane, binary and current input encodings: frames are checked, scaled and encoded (DESIGN section 6).

The frames that Keras gets are prepared by independent code: `strop.lowering.keras_frames`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Graph, Input
from strop.graph.planes import plane_weights
from strop.running.frame_notes import frame_notes
from strop.running.frames import Frames, fits, frames_and_labels

__all__ = ["FrameDict", "Frames", "SignalDict", "as_frames", "encode", "frame_notes", "plane_weights"]

FrameDict = dict[str, npt.NDArray[np.float32]]
SignalDict = dict[str, npt.NDArray[Any]]


def as_frames(graph: Graph, frames: Frames) -> FrameDict:
    """Return one float32 array of shape `(n, *input.shape)` per input of `graph`.

    Parameters
    ----------
    frames : array, or sequence or mapping of arrays, or a stream of them
        Frames first; one array for a graph with one input, else one per input, in the graph's order or by name. See
        `strop.running.frames.frames_and_labels` for all forms; labels that come with them are ignored.
        uint8 is divided by 255, unless the model takes whole numbers (`Input.whole_numbers`); every other type is used
        as it is, bool as 0 and 1. A frame may also be given flat, or without a last axis of one channel.

    Raises
    ------
    DataError
        If an array is missing, empty, of a wrong shape or dtype, not finite, or holds what the model's input or float32
        cannot hold, or the numbers of frames differ.
    """
    result = ready_frames(graph, frames_and_labels(graph, frames).frames)
    common_count(result)
    return result


def ready_frames(graph: Graph, own: Mapping[str, npt.NDArray[Any]], which: str = "") -> FrameDict:
    """Return the frames of every input, `which` of them they are for messages, as `as_frames` does."""
    return {node.name: frames_of_input(node, own[node.name], which) for node in graph.inputs}


def common_count(arrays: Mapping[str, Any]) -> int:
    """Return how many frames there are, or raise `DataError` if one input has more of them than another."""
    counts = {name: int(array.shape[0]) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"the inputs have different numbers of frames: {counts}")
    return next(iter(counts.values()))


def check_form(node: Input, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse frames of a shape or type that an input does not take; no value is looked at.

    Raises
    ------
    DataError
    """
    where = f"frames for input {node.name!r}"
    if not shape or shape[0] == 0:
        raise DataError(f"{where} are empty; give an array of shape (n, {_extents(node.shape)})")
    if not fits(node, shape[1:]):
        raise DataError(f"{where} have the shape {shape}, the network takes (n, {_extents(node.shape)})")
    # Not np.integer: NumPy counts lengths of time among those.
    if dtype.kind not in "iubf" and dtype.name != "bfloat16":
        raise DataError(f"{where} have dtype {dtype}; give whole numbers, bool or floats")


def values_matter(node: Input, dtype: np.dtype[Any]) -> bool:
    """Whether frames of a type can hold values that an input does not take, so that each must be looked at."""
    small = dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 2)
    scaled = dtype == np.uint8 and not node.whole_numbers
    return not scaled and not (small and node.dtype == "float32")


def frames_of_input(node: Input, array: npt.NDArray[Any], which: str = "") -> npt.NDArray[np.float32]:
    """Return the frames of one input, as `as_frames` does; `which` of them they are, for messages."""
    check_form(node, array.shape, array.dtype)
    where = f"frames for input {node.name!r}{which}"
    array = array.reshape(len(array), *node.shape)
    if array.dtype == np.uint8 and not node.whole_numbers:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype.kind in "iub":
        result = _of_integers(array, where)
    else:
        with np.errstate(over="ignore"):  # what is too large for float32 is refused below
            result = array.astype(np.float32, copy=False)
        if not np.isfinite(result).all():
            raise DataError(f"{where} hold values that are not finite in float32 (NaN, infinity, or beyond 3.4e38)")
    _refuse_what_the_input_cannot_hold(node, result, where)
    return result


def _of_integers(array: npt.NDArray[Any], where: str) -> npt.NDArray[np.float32]:
    """Return whole numbers as float32, which holds all of them up to 2^24 and only some beyond."""
    result = array.astype(np.float32)
    if array.dtype.itemsize > 2:
        # The absolute value of the most negative number overflows its type, but its bits are right.
        size = np.abs(array).astype(np.uint64)
        last = np.maximum(size & (~size + np.uint64(1)), np.uint64(1))
        wide = size // last >= np.uint64(1 << 24)
        if wide.any():
            value = int(array[wide].reshape(-1)[0])
            raise DataError(
                f"{where} hold {value}, which float32 does not: Keras would round it. Give numbers of at most 24 bits, "
                "or scale them first"
            )
    return result


def _refuse_what_the_input_cannot_hold(node: Input, frames: npt.NDArray[np.float32], where: str) -> None:
    """Refuse fractions, and numbers out of range, where the model's input takes integers: Keras would change them."""
    if node.dtype == "float32":
        return
    least, most = (0, 1) if node.dtype == "bool" else (int(np.iinfo(node.dtype).min), int(np.iinfo(node.dtype).max))
    # Not `<= most`: float32 rounds the largest numbers of the wide types up, to what they cannot hold.
    right = (frames == np.floor(frames)) & (frames >= least) & (frames < most + 1)
    if not right.all():
        value = float(frames[~right].reshape(-1)[0])
        raise DataError(
            f"{where} hold {value!r}, and the model's input takes {node.dtype}: whole numbers from {least} to {most}"
        )


def _extents(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def encode(graph: Graph, frames: FrameDict) -> SignalDict:
    """Return the signal of each input, shape `(n, *input.signal_shape)`: bool spikes or float64 values."""
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
    """Return the whole numbers that frames stand for, and where they do so within a few float32 roundings."""
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
    why = f" (whole numbers, as the model begins with {node.scaled_by})" if node.scaled_by and node.step == 1.0 else ""
    return f"none of the {full + 1} values from {first!r} to {last!r}{why}"
