"""Frames and labels in the forms in which users give them: pairs, batches, lazy arrays; and a job that is sent."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from outcome import Case
from planted import COUNT, skips, weighted
from random_networks import random_frames, randomise

from strop.keras import SpikingBReLU

L = keras.layers
CHUNK = 6


class Batches:
    """A stream of batches, of any extents, that can be read again."""

    def __init__(self, sizes: tuple[int, ...], *arrays: Any, single: bool = False) -> None:
        self.sizes, self.arrays, self.single = sizes, arrays, single

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Any]:
        start = 0
        for size in self.sizes:
            rows = start if self.single else slice(start, start + size)
            parts = tuple(keras.tree.map_structure(lambda a, rows=rows: a[rows], array) for array in self.arrays)
            yield parts[0] if len(parts) == 1 else parts
            start += size


class Fetched(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Keras's own kind of dataset."""

    def __init__(self, frames: Any, labels: Any, size: int) -> None:
        super().__init__()
        self.frames, self.labels, self.size = frames, labels, size

    def __len__(self) -> int:
        return -(-len(self.frames) // self.size)

    def __getitem__(self, number: int) -> Any:
        rows = slice(number * self.size, (number + 1) * self.size)
        return self.frames[rows], self.labels[rows], np.ones(len(self.labels[rows]))


class Lazy:
    """An array that can be sliced alone."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, rows: slice) -> Any:
        return self._values[rows]


def _two_of_each() -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = SpikingBReLU(1.0)(L.Dense(6)(L.Concatenate()([a, b])))
    return keras.Model({"a": a, "b": b}, {"kind": L.Dense(3, name="kind")(x), "size": L.Dense(2, name="size")(x)})


def sent() -> list[Any]:
    """Have the verification pickle its job, and its chunks, as it does for other processes."""
    verify = importlib.import_module("strop.verification.verify")
    here = importlib.import_module("strop.running.jobs").run_here

    def run_job(job: Any, chunks: Any, wanted: Any, *_: Any) -> Any:
        again = pickle.loads(pickle.dumps(job))
        yield from here(again, (pickle.loads(pickle.dumps(job.packed(chunk))) for chunk in chunks), wanted)

    verify.run_job = run_job  # type: ignore[attr-defined]
    return ["reference"]


def cases() -> list[Case]:
    """Return the cases; all of them are right to pass."""
    model, frames = weighted(skips)
    labels = np.arange(COUNT) % 3
    one_hot = np.eye(3, dtype=np.float32)[labels]
    given: dict[str, tuple[Any, Any]] = {
        "a pair": ((frames, labels), None),
        "a list for the frames": (list(frames), labels),
        "batches": (Batches((4, 1, 5, 3), frames), None),
        "batches with labels": (Batches((5, 5, 3), frames, labels), None),
        "batches, labels apart": (Batches((2, 9, 2), frames), one_hot),
        "one frame at a time": (Batches((1,) * COUNT, frames, labels, single=True), None),
        "a dataset of Keras": (Fetched(frames, one_hot, 4), None),
        "lazy": (Lazy(frames), Lazy(labels)),
        "bytes, lazy": (Lazy((frames * 255).astype(np.uint8)), labels),
        "a dictionary for one input": ({model.layers[0].name: frames}, labels.astype(float)),
    }
    found = [Case(f"given: {name}", "sound", model, x, y, chunk=CHUNK) for name, (x, y) in given.items()]
    two = _two_of_each()
    randomise(two, np.random.default_rng(7), coarse=True)
    a, b = random_frames(two, np.random.default_rng(8), COUNT, levels=8)
    kinds = {"kind": labels, "size": np.arange(COUNT) % 2}
    for name, (x, y) in {
        "dictionaries": ({"b": b, "a": a}, kinds),
        "dictionaries in batches": (Batches((7, 6), {"b": b, "a": a}, kinds), None),
        "labels of one output": ({"b": b, "a": a}, {"size": kinds["size"]}),
        "lazy dictionaries": ({"b": Lazy(b), "a": Lazy(a)}, {"kind": Lazy(labels), "size": None}),
    }.items():
        found.append(Case(f"given: {name}", "sound", two, x, y, chunk=CHUNK))
    found.append(Case("sent", "sound", model, frames, labels, plant=sent, chunk=CHUNK))
    found.append(Case("sent, two of each", "sound", two, {"a": a, "b": b}, kinds, plant=sent, chunk=CHUNK))
    return [*found, *_refused(model, frames, labels)]


def _refused(model: keras.Model, frames: Any, labels: Any) -> Iterator[Case]:
    """Yield what must be refused: frames, labels or batches that do not belong together."""
    shorter = Batches((5, 5, 2), frames, labels)
    bad: dict[str, tuple[Any, Any]] = {
        "labels twice": (Batches((5, 8), frames, labels), labels[:-1]),
        "a label too many": (Batches((5, 5, 3), frames), np.append(labels, 0)),
        "a label too few": (Batches((5, 5, 3), frames), labels[:-1]),
        "labels out of range": (frames, labels + 1),
        "labels that are no class numbers": (frames, labels + 0.5),
        "rows that are not one-hot": (frames, np.full((COUNT, 3), 1 / 3)),
        "lazy, labels of another number": (Lazy(frames), Lazy(labels[:-1])),
        "batches, labels of another number": (Batches((5, 5), frames, np.concatenate([labels[:5], labels[:3]])), None),
        "batches of bytes and of floats": ([frames[:5], (255 * frames[5:]).astype(np.uint8)], None),
        "fewer batches than promised": (_promising(shorter, 4), None),
        "more batches than promised": (_promising(shorter, 2), None),
        "an empty stream": (Batches((), frames), None),
    }
    for name, (x, y) in bad.items():
        yield Case(f"refused: {name}", "refused", model, x, y)


def _promising(stream: Batches, count: int) -> Any:
    class Promising(Batches):
        def __len__(self) -> int:
            return count

    return Promising(stream.sizes, *stream.arrays)
