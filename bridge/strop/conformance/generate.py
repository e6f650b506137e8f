"""Writes the golden cases: `python -m strop.conformance.generate [FOLDER]`.

Every spike comes from `strop.conformance.exact`, in rational arithmetic. The oracle must agree, or nothing is
written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from strop.conformance import exact
from strop.conformance.cases import RECIPES, Recipe, says
from strop.conformance.golden import FOLDER
from strop.graph import Graph
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate


def expected(graph: Graph, frames: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the spikes of every population and the classes, exactly; the oracle must say the same."""
    spikes = exact.spikes(graph, frames)
    oracle = evaluate(graph, encode(graph, as_frames(graph, frames)))
    for name, values in spikes.items():
        if not np.array_equal(values, oracle[name]):
            wrong = int(np.count_nonzero(values != oracle[name]))
            raise SystemExit(f"{graph.name}: {wrong} spikes of {name!r} differ between the oracle and exact arithmetic")
    if graph.outputs[0] not in {readout.name for readout in graph.readouts}:
        return spikes, None
    logits = exact.logits(graph, spikes)
    return spikes, np.array([row.index(max(row)) for row in logits], dtype=np.int64)


def write(name: str, recipe: Recipe, folder: Path) -> None:
    """Write one case as a `.strop` and an `.npz` file."""
    spikes, classes = expected(recipe.graph, recipe.frames)
    recipe.graph.save(folder / f"{name}.strop")
    arrays: dict[str, Any] = {"about": json.dumps({"says": says(name), "precision": recipe.precision})}
    arrays |= {f"frames/{key}": values for key, values in recipe.frames.items()}
    arrays |= {f"spikes/{key}": np.packbits(values.reshape(-1)) for key, values in spikes.items()}
    if classes is not None:
        arrays["classes"] = classes
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def main(arguments: Iterable[str]) -> None:
    """Write all cases into the folder that is given, or into the package."""
    folder = Path(next(iter(arguments), FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in RECIPES.items():
        write(name, make(), folder)
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
