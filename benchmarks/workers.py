"""How much faster frames are verified by several processes of this machine than by one of them.

    python benchmarks/workers.py --data mnist.npz

The convolutional network of examples/models is verified by one worker and by several, in alternation, with half of the
frames and with all. Prints, for each backend, the wall seconds of both (processes started, Keras loaded in each, the
network built in each), their ratio, and the ratio for the second half of the frames, where all is started and built.
Ends with 1 if any of the reports differs in anything but times. `--cold` gives the workers an empty folder for what
Brian2 compiles, so that they compile the same modules at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import strop
from strop.running.simulate import chunk_size

MODEL = Path(__file__).resolve().parents[1] / "examples/models/mnist_convnet.keras"
_TIMES = ("build_seconds", "run_seconds", "frames_per_second", "seconds")


def content(report: strop.Report) -> str:
    """Return the JSON of a report without its times."""
    shown = report.to_dict()
    for column in (shown["keras"], *shown["backends"].values()):
        for name in _TIMES:
            column.pop(name, None)
    return json.dumps(shown)


def measured(model: Any, frames: Any, labels: Any, backend: str, workers: int) -> tuple[float, str]:
    """Return how long a verification took, and what it found."""
    begin = time.perf_counter()
    report = strop.verify(model, frames, labels, backends=[backend], workers=workers)
    return time.perf_counter() - begin, content(report)


def compare(model: Any, frames: Any, labels: Any, backend: str, options: argparse.Namespace) -> bool:
    """Print the line of a backend; return whether all reports were the same."""
    seconds: dict[tuple[int, int], list[float]] = {}
    found: dict[int, set[str]] = {}
    for _ in range(options.repeat):
        for count in (len(frames) // 2, len(frames)):
            for workers in (1, options.workers):
                taken, what = measured(model, frames[:count], labels[:count], backend, workers)
                seconds.setdefault((workers, count), []).append(taken)
                found.setdefault(count, set()).add(what)
    here = content(strop.verify(model, frames, labels, backends=[backend]))
    same = all(len(own) == 1 for own in found.values()) and found[len(frames)] == {here}
    half, whole = ([statistics.median(seconds[n, count]) for n in (1, options.workers)] for count in sorted(found))
    rest = [whole[n] - half[n] for n in (0, 1)]
    print(
        f"{backend:>12}: {whole[0]:.1f} s with 1 worker, {whole[1]:.1f} s with {options.workers}: "
        f"{whole[0] / whole[1]:.2f} times; second half {rest[0]:.1f} s and {rest[1]:.1f} s: "
        f"{rest[0] / rest[1]:.2f} times; reports {'equal' if same else 'DIFFER'}",
        flush=True,
    )
    return same


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Keras's mnist.npz")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--backends", default="pynn-nest,brian2")
    parser.add_argument("--chunks", type=int, default=4, help="of frames, an even number [4]")
    parser.add_argument("--workers", type=int, default=2, help="[2]")
    parser.add_argument("--repeat", type=int, default=1, help="[1]")
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    with np.load(options.data) as data, tempfile.TemporaryDirectory() as folder:
        if options.cold:
            os.environ["CYTHON_CACHE_DIR"] = folder
        model = strop.load_model(options.model)
        count = options.chunks * chunk_size(strop.lower(model))
        frames, labels = data["x_test"][:count], data["y_test"][:count]
        if options.chunks % (2 * options.workers) or len(frames) < count:
            raise SystemExit(f"--chunks must be a multiple of {2 * options.workers}, and {count} frames must be there")
        same = [compare(model, frames, labels, name, options) for name in options.backends.split(",")]
    sys.exit(0 if all(same) else 1)


if __name__ == "__main__":
    main()
