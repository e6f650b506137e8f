"""The shipped golden cases, and the capabilities that each of them needs of a backend."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from strop.graph import Graph
from strop.running.backend import Backend
from strop.running.encode import FrameDict, as_frames, encode
from strop.running.fidelity import compared
from strop.running.oracle import magnitude, potential

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Case:
    """One golden case.

    Attributes
    ----------
    name : str
    says : str
        Description of the case, in a sentence.
    precision : {"float32", "float64"}
        Precision in which a simulator must calculate for the expected spikes to be the only right ones.
    graph : Graph
    frames : dict of input name to float32 array, shape (n, *shape)
    spikes : dict of population name to bool array, shape (n, *shape)
        Expected spikes.
    classes : int64 array, shape (n,), or None
        Expected classes of the read-out.
    """

    name: str
    says: str
    precision: str
    graph: Graph = field(repr=False)
    frames: FrameDict = field(repr=False)
    spikes: dict[str, Any] = field(repr=False)
    classes: Any = field(repr=False, default=None)

    def missing(self, backend: Backend) -> list[str]:
        """Return the capabilities that the case needs and `backend` does not have."""
        gaps = [
            f"the encoding {node.encoding!r}" for node in self.graph.inputs if node.encoding not in backend.encodings
        ]
        if self.precision == "float64" and backend.precision != "float64":
            gaps.append(f"float64 (it calculates in {backend.precision})")
        if backend.resolution and self._blurred(backend.resolution):
            gaps.append(
                f"potentials that close to their thresholds (it resolves {backend.resolution:.1e} of what is compared)"
            )
        if not gaps:
            gaps = [
                f"population {name!r}: {reason}"
                for name, level, reason in backend.fidelity(self.graph)
                if level == "unsupported"
            ]
        return list(dict.fromkeys(gaps))

    def _blurred(self, resolution: float) -> bool:
        """Whether some neuron's potential is not equal to its threshold, but within `resolution` of it."""
        signals = encode(self.graph, as_frames(self.graph, self.frames))
        known: dict[str, Any] = {**signals, **self.spikes}
        for population in self.graph.populations:
            if population.name in self.graph.host_populations:
                continue
            gap = np.abs(potential(self.graph, population.name, known) - population.threshold)
            reach = resolution * compared(population, magnitude(self.graph, population.name, known))
            if np.any((gap > 0.0) & (gap <= reach)):
                return True
        return False


def golden_names() -> list[str]:
    """Return the names of all golden cases."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


@cache
def golden_case(name: str) -> Case:
    """Read one golden case."""
    graph = Graph.load(FOLDER / f"{name}.strop")
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        frames = {node.name: file[f"frames/{node.name}"] for node in graph.inputs}
        count = len(next(iter(frames.values())))
        spikes = {
            p.name: np.unpackbits(file[f"spikes/{p.name}"], count=count * p.size).reshape(count, *p.shape).astype(bool)
            for p in graph.populations
        }
        classes = file.get("classes")
    return Case(name, about["says"], about["precision"], graph, frames, spikes, classes)
