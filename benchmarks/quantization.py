"""What quantising changes: spikes, decisions and accuracy, model by model and target by target, as rows of a table.

    python benchmarks/quantization.py MODEL [MODEL ...] --data mnist.npz --targets spinnaker,int8,int4 \
        --encodings host,bitplane --frames 1000 --test 10000

Thresholds are placed on the first `--frames` frames of the training part (`x_train`), and everything is counted on the
first `--test` frames of the test part, each layer fed by the quantised ones before it. Every graph is certified.
`--fixed-point` also runs graphs for "spinnaker" in SpiNNaker's arithmetic, on the same frames.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import strop
from strop.quantization.quantize import quantize_report
from strop.running.decode import classes
from strop.running.encode import encode
from strop.running.frame_source import frame_source
from strop.running.oracle import evaluate
from strop.running.simulate import chunk_size
from strop_backends.pynn.spinnaker.fixed_point import exact_scaling, fixed_point_report


def compared(before: strop.Graph, after: strop.Graph, frames: Any, labels: Any) -> tuple[int, int, int, float, float]:
    """Spikes and silences that differ, of how many, decisions that differ, accuracy before and after."""
    differ, total, decisions, right = 0, 0, 0, [0, 0]
    done = 0
    for chunk in frame_source(before, frames).chunks(chunk_size(before)):
        signals = encode(before, chunk.frames)
        spikes = [evaluate(graph, signals) for graph in (before, after)]
        for name in before.population_names:
            if name not in before.host_populations:
                differ += int(np.count_nonzero(spikes[0][name] != spikes[1][name]))
                total += spikes[0][name].size
        decided = [classes(before, each) for each in spikes]
        assert decided[0] is not None
        assert decided[1] is not None
        decisions += int(np.count_nonzero(decided[0] != decided[1]))
        truth = labels[done : done + len(decided[0])]
        right = [r + int((d == truth).sum()) for r, d in zip(right, decided, strict=True)]
        done += len(truth)
    return differ, total, decisions, right[0] / done, right[1] / done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--targets", default="float32,spinnaker,int8,int4")
    parser.add_argument("--encodings", default="host")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--fixed-point", action="store_true")
    chosen = parser.parse_args()
    with np.load(chosen.data) as data:
        place = data["x_train"][: chosen.frames]
        frames, labels = data["x_test"][: chosen.test], data["y_test"][: chosen.test]
    print("| model | encoding | target | spikes that change | decisions | accuracy before, after | quantise, certify |")
    print("|---|---|---|---|---|---|---|")
    for model in chosen.models:
        for encoding in chosen.encodings.split(","):
            graph = strop.lower(model, encoding)
            for target in chosen.targets.split(","):
                start = time.perf_counter()
                after = quantize_report(graph, target, frames=place).graph
                middle = time.perf_counter()
                proved = strop.certify(after, target).holds
                end = time.perf_counter()
                assert proved, f"{model}, {target}: not proved"
                differ, total, decisions, *accuracy = compared(graph, after, frames, labels)
                figures = f"{differ:,} of {total:,} | {decisions:,} | {accuracy[0]:.4f}, {accuracy[1]:.4f}"
                spent = f"{middle - start:.1f} s, {end - middle:.1f} s"
                print(f"| {model.name} | {encoding} | {target} | {figures} | {spent} |", flush=True)
                if chosen.fixed_point and target == "spinnaker":
                    scaling = exact_scaling(after)
                    assert scaling is not None, f"{model}: not in whole numbers"
                    report = fixed_point_report(after, frames, scaling)
                    print(
                        f"  in its arithmetic, {report.frames:,} frames: {report.different:,} spikes differ", flush=True
                    )


if __name__ == "__main__":
    main()
