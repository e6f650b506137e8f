"""A `.strop` file of format version 1, written by hand, and what changes such files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def write_version_1(path: Path) -> None:
    """Write a file by hand, from docs/file-format.md, without any code of strop's: it must open for ever."""
    document = {
        "name": "by-hand",
        "inputs": [{"name": "x", "shape": [2], "encoding": "binary", "bits": 8, "level": 0.5}],
        "populations": [{"name": "and", "shape": [2], "threshold": "th", "bias": "none"}],
        "projections": [
            {
                "source": "x",
                "target": "and",
                "delay": 1,
                "operator": {"type": "Dense", "weight": "w", "leading": []},
            }
        ],
        "readouts": [
            {
                "name": "same",
                "kind": "linear",
                "sources": ["and"],
                "operators": [{"type": "Select", "shape_in": [2], "index": "swap"}],
                "bias": "none",
            }
        ],
        "outputs": ["same"],
    }
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = "strop-graph", 1
        file["graph"] = json.dumps(document)
        file["arrays/w"] = np.array([[0.5, 1.0], [0.5, 0.0]])
        file["arrays/th"] = np.array([1.0])
        file["arrays/none"] = np.array(0.0)
        file["arrays/swap"] = np.array([1, -1])


def edit(path: Path, change: Any) -> None:
    """Change the JSON document of a file in place."""
    with h5py.File(path, "a") as file:
        document = json.loads(file["graph"][()])
        change(document)
        del file["graph"]
        file["graph"] = json.dumps(document)
