"""How long a verification takes when it is not the first: of one model again and again, and of many models in a row.

    python benchmarks/repeated_verification.py --models 100

What is compiled of a model is kept as long as the model lives (`strop.lowering.layer_outputs`), so from the second time
on a verification costs what lowering, the oracle and Keras's own arithmetic cost. Figures are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import psutil

import strop
from strop.keras import SpikingBReLU

L = keras.layers


def small(seed: int) -> keras.Model:
    """A convolution, a hidden layer and a softmax on frames of 8 x 8: little to compute, so that overheads show."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            L.Input((8, 8, 1)),
            L.Conv2D(8, 3),
            SpikingBReLU(1.0),
            L.Flatten(),
            L.Dense(32 + seed % 7),
            SpikingBReLU(1.0),
            L.Dense(10, activation="softmax"),
        ]
    )


def seconds(model: keras.Model, frames: Any) -> float:
    """Return how long one verification on the reference backend takes."""
    begin = time.perf_counter()
    report = strop.verify(model, frames, backends="reference")
    taken = time.perf_counter() - begin
    if not report.passed:
        raise SystemExit(f"a verification failed:\n{report}")
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100, help="how many verifications, and how many models [100]")
    parser.add_argument("--frames", type=int, default=100, help="frames of each verification [100]")
    options = parser.parse_args()
    frames = np.random.default_rng(0).random((options.frames, 8, 8, 1)).astype(np.float32)
    seconds(small(10**6), frames)  # TensorFlow's own start

    model = small(0)
    again = [seconds(model, frames) for _ in range(options.models)]
    many = [seconds(small(number), frames) for number in range(options.models)]
    gc.collect()
    for what, times in (("one model", again), ("another model each time", many)):
        print(
            f"{what}: 1st {1e3 * times[0]:.0f} ms, 2nd {1e3 * times[1]:.0f} ms, "
            f"{len(times)}th {1e3 * times[-1]:.0f} ms, median {1e3 * float(np.median(times)):.0f} ms"
        )
    print(f"memory of the process at the end: {psutil.Process().memory_info().rss / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
