"""Sends SIGINT or SIGTERM at random moments to each command that writes: exit code, standard error, and files left.

    PYTHONPATH=tests/support python benchmarks/interruptions.py --count 30 [--commands verify,train] [--seed 1]

Every run must end with 130 or 143 and one line on standard error, and leave a whole file or none. Ends with 1 if not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

# What an interrupted command leaves on purpose, and goes on from when it is called again.
RESUMED = {"sharpen": {"s.keras.training"}}

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def commands(data: Path) -> dict[str, list[str]]:
    """Write a graph and frames to a folder; return the words of each command."""
    from graphs import skip_network

    rng = np.random.default_rng(0)
    skip_network(rng).save(data / "net.strop")
    np.savez(data / "frames.npz", x=rng.integers(0, 2, (200, 6)).astype(np.float32))
    ordinary = [str(data / "relu.keras"), "--data", str(data / "labelled.npz")]
    net, frames = str(data / "net.strop"), ["--data", str(data / "frames.npz")]
    return {
        "verify": ["verify", net, *frames, "--backends", "brian2,nengo", "--json", "v.json", "--report", "page"],
        "verify-nest": ["verify", net, *frames, "--backends", "pynn-nest", "--json", "v.json"],
        "train": ["train", "digits", "--out", "digits.keras", "--epochs", "4", "--report", "page"],
        "sharpen": ["sharpen", *ordinary, "--out", "s.keras", "--epochs", "6", "--report", "page"],
        "export": ["export", net, "--target", "nengo", "--out", "folder", *frames],
        "quantize": ["quantize", net, "--target", "spinnaker", "--out", "q.strop", *frames],
        "predict": ["predict", net, *frames, "--backend", "nengo", "--out", "p.npz"],
    }


def write_ordinary(model: Path, data: Path) -> None:
    """Write a network with ReLU, and frames that it can learn."""
    import keras

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    np.savez(data, x=np.float32(np.eye(3)[labels] @ rng.random((3, 6)) + 0.1 * rng.random((600, 6))), y=labels)
    layers = [keras.Input((6,)), keras.layers.Dense(12, "relu"), keras.layers.Dense(3, "softmax")]
    network = keras.Sequential(layers)
    network.compile("adam", "sparse_categorical_crossentropy")
    network.save(model)


def main() -> int:
    """Interrupt each command so many times."""
    from interrupting import duration, interrupt, moments

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="interruptions of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", help="comma-separated; all by default")
    arguments = parser.parse_args()
    found = 0
    with tempfile.TemporaryDirectory() as name:
        data, out = Path(name) / "data", Path(name) / "out"
        data.mkdir()
        known = commands(data)
        wanted = (arguments.commands or ",".join(known)).split(",")
        if "sharpen" in wanted:
            write_ordinary(data / "relu.keras", data / "labelled.npz")
        for command in wanted:
            out.mkdir()
            seconds, outputs = duration(known[command], out)
            codes = []
            for after, number in moments(seconds, arguments.count, arguments.seed):
                shutil.rmtree(out)
                out.mkdir()
                result = interrupt(known[command], out, after, number)
                codes.append(result.code)
                if wrong := result.wrong(outputs if result.finished else outputs | RESUMED.get(command, set())):
                    found += 1
                    print(f"{command}, {number.name} after {after:.2f} s: {wrong}", flush=True)
            shutil.rmtree(out)
            print(f"{command}: {len(codes)} interruptions in {seconds:.1f} s, exit codes {sorted(codes)}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
