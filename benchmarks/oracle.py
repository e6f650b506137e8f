"""The oracle, Keras's probe and a whole verification, against another checkout of strop.

    python benchmarks/oracle.py MODEL --data mnist.npz --against ../other-checkout [--backends reference,nengo]

In alternating rounds (`alternation.py`), on the same frames: `strop.running.oracle.evaluate`, `KerasProbe.run`, and
`strop.verify`. Both checkouts must count the same spikes, ties and faults. OPENBLAS_NUM_THREADS=1 shows what the code
itself takes; without it, the older code's matrix products wait for each other's threads where the machine is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from alternation import alternate, serve

import strop
from strop.lowering import trace
from strop.lowering.keras_frames import keras_frames
from strop.lowering.probe import KerasProbe
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate

NAMES = ["oracle", "keras", "verify"]


def measured(path: str, data: str, limit: int, backends: list[str]) -> dict[str, Any]:
    """Return the functions that are measured, ready to run; each returns what both checkouts must agree on."""
    arrays = np.load(data, allow_pickle=False)
    name = "_test" if "x_test" in arrays else ""
    frames, labels = arrays[f"x{name}"][:limit], arrays[f"y{name}"][:limit]
    model = strop.load_model(path)
    lowering = trace(model)
    graph, probe = lowering.graph, KerasProbe(model, lowering)
    own = keras_frames(graph, {graph.inputs[0].name: frames}, lowering.encoded)
    signals = encode(graph, as_frames(graph, frames))

    def counted(spikes: dict[str, Any]) -> str:
        return " ".join(str(int(np.count_nonzero(raster))) for raster in spikes.values())

    def verify() -> str:
        report = strop.verify(model, frames, labels, backends=backends)
        assert report.keras is not None
        layers = [*report.keras.layers, *(layer for one in report.backends.values() for layer in one.layers)]
        return json.dumps([[own.spikes, own.faults, own.ties, own.undecided] for own in layers])

    strop.verify(model, frames[:20], labels[:20], backends=backends)
    functions = (lambda: counted(evaluate(graph, signals)), lambda: counted(probe.run(own)[0]), verify)
    return dict(zip(NAMES, functions, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="The oracle against another checkout's")
    parser.add_argument("model", help="a Keras model, in any format that strop reads")
    parser.add_argument("--data", type=Path, required=True, help="an .npz with x and y, or Keras's mnist.npz")
    parser.add_argument("--against", type=Path, required=True, help="another checkout of strop")
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backends", default="reference")
    options = parser.parse_args()
    arguments = [options.model, str(options.data), str(options.limit), options.backends]
    found = alternate(__file__, arguments, NAMES, options.against, options.rounds)
    for name, values in found.items():
        print(json.dumps({"what": name, "frames": options.limit, **values}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(measured(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5].split(",")))
    else:
        main()
