"""Frames in all the forms that users have: in memory, lazy, as streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import network

from strop.running.frame_source import Chunk, frame_source
from strop.verification.verify import verify

COUNT = 47


SIZE = 10


X = np.random.default_rng(3).integers(0, 256, (COUNT, 6)).astype(np.uint8)


Y = np.arange(COUNT) % 3


GRAPH = network()


TIMES = ("build_seconds", "run_seconds", "frames_per_second")


class Lazy:
    """An array that can be sliced alone, as those of h5py, Zarr and Dask; keeps what was asked for."""

    def __init__(self, values: np.ndarray, shape: tuple[int, ...] | None = None) -> None:
        self._values = values
        self.shape, self.dtype, self.ndim = shape or values.shape, values.dtype, values.ndim
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.asked.append((rows.start, rows.stop))
        return self._values[rows]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("all of it is read at once")


def memory_mapped(folder: Path, values: np.ndarray) -> np.ndarray:
    path = folder / f"{values.ndim}.npy"
    np.save(path, values)
    return np.load(path, mmap_mode="r")


def in_hdf5(folder: Path, values: np.ndarray) -> Any:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / f"{values.ndim}.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(7, *values.shape[1:]), compression="gzip")
    return h5py.File(folder / f"{values.ndim}.h5", "r")["x"]


def in_zarr(folder: Path, values: np.ndarray) -> Any:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        str(folder / f"{values.ndim}.zarr"), shape=values.shape, chunks=(7, *values.shape[1:]), dtype=values.dtype
    )
    array[:] = values
    return array


def in_dask(folder: Path, values: np.ndarray) -> Any:
    return pytest.importorskip("dask.array").from_array(values, chunks=(7, *values.shape[1:]))


def lazy(folder: Path, values: np.ndarray) -> Any:
    return Lazy(values)


def batches(*sizes: int, labelled: bool = True) -> Iterator[Any]:
    """The frames in batches of these sizes, the last of which is repeated."""
    start, number = 0, 0
    while start < COUNT:
        stop = min(COUNT, start + sizes[min(number, len(sizes) - 1)])
        yield (X[start:stop], Y[start:stop]) if labelled else X[start:stop]
        start, number = stop, number + 1


def assert_same(found: list[Chunk], wanted: list[Chunk]) -> None:
    assert [(c.number, c.start, c.count) for c in found] == [(c.number, c.start, c.count) for c in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        for name in theirs.frames:
            assert ours.frames[name].dtype == np.float32
            np.testing.assert_array_equal(ours.frames[name], theirs.frames[name])
            assert ours.own[name].dtype == theirs.own[name].dtype
            np.testing.assert_array_equal(ours.own[name], theirs.own[name])
        assert (ours.truths is None) == (theirs.truths is None)
        for a, b in zip(ours.truths or (), theirs.truths or (), strict=True):
            np.testing.assert_array_equal(a, b)


def wanted_chunks() -> list[Chunk]:
    return list(frame_source(GRAPH, X, Y).chunks(SIZE))


def report_of(frames: Any, labels: Any = None) -> dict[str, Any]:
    """The JSON of a verification without its times."""
    report = verify(GRAPH, frames, labels, backends=["reference"])
    found = report.to_dict()
    for key in TIMES:
        found["backends"]["reference"].pop(key)
    return found


class Loader:
    """Gives batches, and says how many."""

    def __init__(self, says: int, gives: int) -> None:
        self._says, self._gives = says, gives

    def __len__(self) -> int:
        return self._says

    def __iter__(self) -> Iterator[Any]:
        return (X[10 * n : 10 * n + 10] for n in range(self._gives))
