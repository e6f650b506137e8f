"""What strop does in the tests beside this file, in a process of its own: its nir must be 1.0.8, Sinabs takes 1.0.4.

python strop_side.py export MODEL DATA PROFILE OUT
python strop_side.py read FILE.nir FRAMES.npy SPIKES.npz [--dt DT] [--memoryless]

`read` ends with 2 and the reason where strop refuses the file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import strop
from strop.errors import StropError


def export(model: Path, data: Path, profile: str, out: Path, limit: int = 200) -> None:
    """Write the folder of a trained model for a consumer, with frames of MNIST."""
    graph = strop.lower(strop.load_model(model))
    with np.load(data) as file:
        frames, labels = file["x_test"][:limit], file["y_test"][:limit]
    shape = graph.inputs[0].shape
    strop.export(graph, "nir", out, frames=frames.reshape(limit, *shape), labels=labels, profile=profile)


def read(path: Path, frames: Path, spikes: Path, dt: float | None, memoryless: bool) -> None:
    """Read a file that a consumer wrote, and write the spikes of its neurons, channels first as in the file."""
    from strop_backends import nir

    graph = nir.read(path, dt=dt, memoryless=memoryless)
    values = np.load(frames)
    found = strop.simulate(graph, np.moveaxis(values, 1, -1), "reference").spikes
    np.savez(spikes, **{name: np.moveaxis(array, -1, 1) for name, array in found.items()})
    print("; ".join(graph.assumptions))


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["export", "read"])
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--dt", type=float)
    parser.add_argument("--memoryless", action="store_true")
    given = parser.parse_args()
    if given.what == "export":
        model, data, profile, out = given.arguments
        export(Path(model), Path(data), profile, Path(out))
        return 0
    try:
        path, frames, spikes = map(Path, given.arguments)
        read(path, frames, spikes, given.dt, given.memoryless)
    except StropError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
