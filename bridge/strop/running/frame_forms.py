"""The forms in which users have frames: arrays, lists and dicts of them, pairs with labels.

What is sliced when it is asked for (an HDF5 dataset, a Zarr or Dask array) stays as it is here, so that nobody reads
more of it than is needed; see `is_lazy`.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import DataError, did_you_mean
from strop.graph import Graph, Input

Array = npt.NDArray[Any]

# All that `strop.running.frames.frames_and_labels` takes: arrays and what turns into one, sequences and mappings of
# them, streams of batches.
Frames = Any

FORMS = (
    "give an array (n, ...) or what NumPy makes one of; a list or dict of arrays for several inputs; a pair (x, y); a "
    "tf.data.Dataset, a keras.utils.PyDataset, or an iterator of frames, of batches or of (x, y)"
)
WEIGHTS_UNUSED = "weights of the samples are not used: every frame counts once"


def as_array(value: Any, where: str) -> Array:
    """Return a tensor of any framework, a table or nested lists as an array; nothing is cast.

    Raises
    ------
    DataError
        If NumPy makes none of it, or some of its values are masked.
    """
    try:
        if hasattr(value, "detach"):  # PyTorch: may need a gradient, or lie on another device
            value = value.detach()
            value = (value.cpu() if hasattr(value, "cpu") else value).numpy()
        if hasattr(value, "toarray"):  # a sparse matrix
            value = value.toarray()
        array = np.asarray(value)
    except Exception as error:  # whatever the framework raises
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where} cannot be made an array of ({kind_of(value)}): {reason}; {FORMS}") from error
    if array.dtype == object and array.ndim == 0:
        raise DataError(f"{where} cannot be made an array of ({kind_of(value)}); {FORMS}")
    if np.ma.is_masked(value):
        raise DataError(f"{where} hold masked values: fill them first, with numpy.ma.filled(x, value)")
    return array


def is_lazy(value: Any) -> bool:
    """Whether a value is no array in memory, but gives parts of one: `value[start:stop]`, with `shape` and `dtype`.

    Datasets of h5py and arrays of Zarr, Dask and xarray are; those of frameworks lie in memory (they have
    ``__dlpack__``), and tables of pandas are sliced in another way.
    """
    if isinstance(value, np.ndarray) or any(hasattr(value, name) for name in ("__dlpack__", "detach", "iloc")):
        return False
    try:
        ready = isinstance(getattr(value, "dtype", None), np.dtype) and isinstance(getattr(value, "shape", None), tuple)
    except Exception:  # a dataset of a file that is closed
        return False
    return ready and hasattr(value, "__getitem__") and not (hasattr(value, "toarray") or isinstance(value, np.generic))


def is_mapped(array: Array) -> bool:
    """Whether the values of an array lie in a memory-mapped file."""
    base: Any = array
    while base is not None and not isinstance(base, (np.memmap, mmap.mmap)):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base is not None


def as_sliceable(value: Any, where: str, node: Input | None = None) -> Any:
    """Return what is lazy as it is, everything else as an array.

    Parameters
    ----------
    node : Input, optional
        A list of lazy arrays is read only if each is one frame for this input.

    Raises
    ------
    DataError
        As `as_array`; or if the length of a lazy array is not known, or a list holds lazy arrays that are no frames.
    """
    if is_lazy(value):
        if value.shape and not isinstance(value.shape[0], (int, np.integer)):  # Dask: NaN
            raise DataError(
                f"{where} do not say how many they are ({kind_of(value)} of shape {value.shape}): find that out first, "
                "with compute_chunk_sizes() of a Dask array"
            )
        return value
    if isinstance(value, (tuple, list)) and any(is_lazy(part) for part in value):
        part = next(part for part in value if is_lazy(part))
        if node is None or not all(fits(node, np.shape(part)) for part in value):
            raise DataError(f"{where} are a {kind_of(value)} of {len(value)} arrays ({kind_of(part)}): {FORMS}")
    return as_array(value, where)


def fits(node: Input, shape: tuple[int, ...]) -> bool:
    """Whether one frame of `shape` is a frame for an input: the same, flat, or without a last axis of one channel."""
    size = int(np.prod(node.shape, dtype=np.int64))
    one_channel = node.shape[-1] == 1 and shape == node.shape[:-1]
    return shape in (node.shape, (size,)) or one_channel or node.shape == (int(np.prod(shape, dtype=np.int64)),)


def kind_of(value: Any) -> str:
    """Return what to call a value in messages: module and name of its type."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def is_array(value: Any) -> bool:
    """Whether a value is an array of some framework, or a number: no sequence, and no stream."""
    ready = any(hasattr(value, name) for name in ("__array__", "detach", "toarray"))
    return ready or isinstance(value, (int, float, complex, memoryview))


# Sequences and mappings -----------------------------------------------------------------------------------------------


def by_input(graph: Graph, frames: Any, keys: Mapping[str, str] | None) -> dict[str, Any]:
    """Return one array per input: of one array, of a mapping by name, or of a sequence in the graph's order.

    What is lazy stays so.
    """
    names = [node.name for node in graph.inputs]
    if isinstance(frames, Mapping):
        parts = by_name(names, frames, "frames", "inputs", keys)
        missing = [name for name, part in zip(names, parts, strict=True) if part is None]
        if missing:
            raise DataError(
                f"frames must be given for the inputs {', '.join(names)}; got {', '.join(map(str, frames))}"
            )
    elif len(names) == 1:
        parts = [frames]
    else:
        shape = tuple(getattr(frames, "shape", ()))
        try:
            # Of one array, row by row, no more is read than the inputs are.
            parts = [] if shape and shape[0] != len(names) else list(frames)
        except TypeError:
            parts = []
        if len(parts) != len(names):
            raise DataError(f"the network has {len(names)} inputs ({', '.join(names)}); give one array for each")
    return {
        node.name: as_sliceable(part, f"frames for input {node.name!r}", node)
        for node, part in zip(graph.inputs, parts, strict=True)
    }


def by_name(
    names: list[str], values: Mapping[Any, Any], what: str, nodes: str, keys: Mapping[str, str] | None = None
) -> list[Any]:
    """Return a mapping's value for each of `names`, None where it has none; numbers from "1" stand for names too.

    Raises
    ------
    DataError
        If a key is none of them, or two keys mean the same.
    """
    found: dict[str, Any] = {}
    numbers = {str(number): name for number, name in enumerate(names, 1)}
    for key, value in values.items():
        known = {**numbers, **(keys or {}), **{name: name for name in names}}
        name = known.get(str(key))
        if name is None:
            raise DataError(
                f"{what} are given for {key!r}, and the {nodes} are {', '.join(names)}{did_you_mean(key, known)}"
            )
        if name in found:
            raise DataError(f"{what} are given twice for {name!r}")
        found[name] = value
    return [found.get(name) for name in names]


def split_pair(graph: Graph, frames: Any, keys: Mapping[str, str] | None, notes: list[str]) -> tuple[Any, Any]:
    """Split `(x, y)` or `(x, y, weights)`; anything else is frames alone."""
    if not isinstance(frames, (tuple, list)) or len(frames) not in (2, 3):
        return frames, None
    count = _count(graph, frames[0], keys)
    if count is None or (isinstance(frames, list) and _count(graph, frames, keys) is not None):
        return frames, None
    if len(frames) == 2 and frames[1] is None:
        return frames[0], None
    if not _may_be_labels(frames[1], count) or (len(frames) == 3 and not _may_be_labels(frames[2], count)):
        if len(graph.inputs) == len(frames) or _count(graph, frames, keys) is not None:
            return frames, None
        shape = np.shape(frames[1]) if is_array(frames[1]) else f"({kind_of(frames[1])})"
        raise DataError(
            f"a pair is given, of which the first part holds {count} frames and the second, of shape {shape}, no label "
            "for each of them: give verify(model, x, y) with one label for each frame"
        )
    if len(frames) == 3:
        notes.append(WEIGHTS_UNUSED)
    return frames[0], frames[1]


def _count(graph: Graph, frames: Any, keys: Mapping[str, str] | None) -> int | None:
    """Return the number of frames, or None if these are no frames for all inputs."""
    try:
        arrays = by_input(graph, frames, keys)
    except DataError:
        return None
    shapes = [tuple(arrays[node.name].shape) for node in graph.inputs]
    right = all(shape and fits(node, shape[1:]) for node, shape in zip(graph.inputs, shapes, strict=True))
    return shapes[0][0] if right and len({shape[0] for shape in shapes}) == 1 else None


def _may_be_labels(labels: Any, count: int) -> bool:
    """Whether labels have a row for each frame, or are a mapping or sequence of such."""
    if isinstance(labels, Mapping):
        return all(part is None or _may_be_labels(part, count) for part in labels.values())
    try:
        shape = np.shape(as_sliceable(labels, "labels"))
    except DataError:
        shape = ()
    if shape and shape[0] == count:
        return True
    return isinstance(labels, (tuple, list)) and all(part is None or _may_be_labels(part, count) for part in labels)
