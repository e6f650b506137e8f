"""The shipped NIR cases, by profile and name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class NirCase:
    """One NIR file, and what is right.

    Attributes
    ----------
    name, profile, says : str
        What it is called, in which form it is written, and what it shows, in a sentence.
    path : Path
        The `.nir` file.
    dt : float
        The step for which LIFs are written: their tau.
    frames : dict of Input node to float32 array, shape (n, *shape)
    spikes : dict of node of neurons to bool array, shape (n, *shape)
    """

    name: str
    profile: str
    says: str
    path: Path
    dt: float
    frames: dict[str, Any] = field(repr=False)
    spikes: dict[str, Any] = field(repr=False)


def profiles() -> list[str]:
    """Return the forms in which there are cases."""
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


def case_names(profile: str) -> list[str]:
    """Return the names of all cases that are there in a form."""
    return sorted(path.stem for path in (FOLDER / profile).glob("*.nir"))


def load_case(profile: str, name: str) -> NirCase:
    """Return one case."""
    stem = FOLDER / profile / name
    with np.load(stem.with_suffix(".npz"), allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        frames = {key.removeprefix("input:"): file[key] for key in file if key.startswith("input:")}
        count = len(next(iter(frames.values())))
        spikes = {}
        for node, shape in about["neurons"].items():
            bits = np.unpackbits(file[f"expected:{node}"], count=count * int(np.prod(shape)))
            spikes[node] = bits.reshape(count, *shape).astype(bool)
    return NirCase(name, profile, about["says"], stem.with_suffix(".nir"), about["dt"], frames, spikes)
