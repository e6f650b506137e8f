"""Template: `strop.export.script.write_script` copies this file as it is into every standalone folder, beside `run.py`.

What the scripts share: reading the folder, the read-out, and the table that compares spikes with those that are
expected. It needs NumPy alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Folder:
    """A network and its frames.

    Attributes
    ----------
    network : dict
        From network.json: `name`, `depth`, `populations`, `projections`, `readout`.
    data : mapping of name to array
        From network.npz: thresholds, biases, synapses, the read-out.
    frames : mapping of name to array, shape (n, neurons)
        From frames.npz: `played:P` (input spikes), `driven:P` (input values), `expected:P`, `labels`.
    count : int
        How many of the frames are presented.
    """

    network: dict[str, Any]
    data: Mapping[str, Any]
    frames: Mapping[str, Any]
    count: int


def parser(description: str = "Run the network, and compare every spike with what is expected.") -> Any:
    """Return a parser of arguments that knows --limit."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--limit", type=int, help="only so many frames")
    return made


def load(name: str) -> Any:
    """Return the arrays of an `.npz` file of this folder by name; each is read when it is asked for."""
    return np.load(HERE / name, allow_pickle=False)


def read(limit: int | None) -> Folder:
    """Return what this folder holds, for the first `limit` frames or all."""
    network = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    frames = load("frames.npz")
    count = len(next(frames[key] for key in frames if key.startswith(("played:", "driven:"))))
    return Folder(network, load("network.npz"), frames, min(count, limit or count))


def scores(readout: dict[str, Any], data: Mapping[str, Any], spikes: Mapping[str, Any]) -> Any:
    """Return the weighted sums of spikes that the read-out decides by, shape (n, scores)."""
    return data["readout:bias"] + sum(
        spikes[name].astype(float) @ data[f"readout:{name}"] for name in readout["sources"]
    )


def decide(readout: dict[str, Any], data: Mapping[str, Any], scores: Any) -> Any:
    """Return the class of each frame, shape (n,): the one with the largest score, the lower of equals."""
    if readout["clip"]:
        scores = np.clip(scores, *readout["clip"])
    if readout["function"] == "sigmoid":
        scores = 1.0 / (1.0 + np.exp(-scores))
    elif readout["function"]:
        groups = scores.reshape(len(scores), -1, readout["group"])
        groups = groups - groups.max(axis=2, keepdims=True)
        groups = groups - np.log(np.exp(groups).sum(axis=2, keepdims=True))
        scores = (groups if readout["function"] == "log_softmax" else np.exp(groups)).reshape(len(scores), -1)
    if "readout_after" in data:
        scores = scores @ data["readout_after"]
    return scores[:, 0] > readout["above"] if readout["above"] is not None else scores.argmax(axis=1)


class Comparison:
    """A table with a row for each population, printed as it grows."""

    def __init__(self, title: str = "layer", sizes: str = "neurons", width: int = 30) -> None:
        self.width, self.different = width, 0
        print(f"{title:{width}s} {sizes:>8s} {'expected':>10s} {'spikes':>10s} {'different':>10s}")

    def add(self, name: str, expected: Any, found: Any) -> None:
        """Compare the spikes of one population, bool arrays of the same shape (n, ...)."""
        wrong = int((found != expected).sum())
        self.different += wrong
        size = int(np.prod(expected.shape[1:]))
        print(f"{name:{self.width}s} {size:8d} {expected.sum():10d} {found.sum():10d} {wrong:10d}")

    def finish(self) -> int:
        """Print the result, and return what the script ends with: 0 if every spike is as expected, else 1."""
        print("every spike is as expected" if self.different == 0 else f"{self.different} spikes DIFFER")
        return 0 if self.different == 0 else 1


def print_accuracy(classes: Any, labels: Any) -> None:
    """Print how many of the frames are classified as they are labelled."""
    print(f"accuracy {100 * (classes == labels).mean():.2f} %")


def compare(folder: Folder, answers: Mapping[str, Any], kinds: Iterable[str] = ("expected",)) -> int:
    """Compare every spike, print a table, the accuracy where there are labels, and the result.

    Parameters
    ----------
    answers : mapping of population name to bool array, shape (count, neurons)
        The spikes of all populations that were simulated.
    kinds : names
        What the spikes are compared with: of these prefixes of keys in frames.npz, the first that is there.

    Returns
    -------
    int
        What the script ends with: 0 if every spike is as expected, else 1.
    """
    spikes, comparison = {}, Comparison()
    for entry in folder.network["populations"]:
        name = entry["name"]
        if entry["played"]:
            spikes[name] = folder.frames[f"played:{name}"][: folder.count]
            continue
        key = next(f"{kind}:{name}" for kind in kinds if f"{kind}:{name}" in folder.frames)
        spikes[name] = answers[name]
        comparison.add(name, folder.frames[key][: folder.count], spikes[name])
    readout = folder.network["readout"]
    if readout and "labels" in folder.frames:
        classes = decide(readout, folder.data, scores(readout, folder.data, spikes))
        print_accuracy(classes, folder.frames["labels"][: folder.count])
    return comparison.finish()
