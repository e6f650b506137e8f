"""What a network costs against its size: frames/s, time to build and memory, for each backend.

    python benchmarks/cost_against_size.py --backends reference,brian2,nengo,pynn-nest [--sizes 1e4,1e5,1e6,1e7]
        [--frames 50] [--memory 8e9] [--seconds 120] [--csv cost.csv] [--figure docs/figures/cost-against-size.svg]

Each point is a process of its own, with a limit of memory (of its address space) and of time. The network of S synapses
is a chain of two convolutions (5 x 5, 8 filters, binary frames) and a dense layer of 100 neurons; its frames grow until
it has S synapses. One neuron in eight fires. Every spike is compared with the oracle's. A point that was refused or did
not end is in the CSV file with the reason. The figure shows CPU seconds of the process, which do not depend on what
else the machine does; the file has those of the wall clock beside them.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("backend", "synapses", "neurons", "frames_per_second", "frames_per_cpu_second", "build_seconds")
MEMORY = ("build_cpu_seconds", "peak_bytes", "reason")


def graph_of(size: float) -> Any:
    """Return a graph of about `size` synapses."""
    from strop.graph import Convolution, Dense, Graph, Input, Population, Select, compose

    # Of a frame of n x n: 25 * 8 and 25 * 64 synapses for each place, and 800 of the dense layer.
    n = max(3, round((size / (25 * 72 + 800)) ** 0.5))
    rng = np.random.default_rng(0)
    padding = ((2, 2), (2, 2))
    first = Convolution((n, n, 1), rng.normal(size=(5, 5, 1, 8)), (1, 1), (1, 1), padding)
    second = Convolution((n, n, 8), rng.normal(size=(5, 5, 8, 8)), (1, 1), (1, 1), padding)
    cells = n * n * 8
    last = compose(Select((n, n, 8), np.arange(cells)), Dense(rng.normal(size=(cells, 100))))
    assert last is not None
    signal = rng.integers(0, 2, (8, n, n, 1)).astype(float)
    populations, links, source = [], [], "x"
    for name, operator in (("a", first), ("b", second), ("c", last)):
        sums = operator.apply(signal)
        threshold = float(np.quantile(sums, 7 / 8))
        populations.append(Population(name, operator.shape_out, threshold, 0.0))
        links.append((source, name, operator))
        signal, source = sums >= threshold, name
    return Graph.from_nodes([Input("x", (n, n, 1), "binary")], populations, links, (), ["c"])


def measure(backend: str, size: float, count: int, memory: int) -> dict[str, Any]:
    """Build and run one network in this process."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    from strop.running.encode import as_frames, encode
    from strop.running.oracle import evaluate
    from strop.running.registry import get_backend

    graph = graph_of(size)
    frames = np.random.default_rng(1).integers(0, 2, (count, *graph.inputs[0].shape)).astype(np.float32)
    signals = encode(graph, as_frames(graph, frames))
    wanted = evaluate(graph, signals)
    begin, cpu = time.perf_counter(), time.process_time()
    runner = get_backend(backend).prepare(graph)
    built, built_cpu = time.perf_counter() - begin, time.process_time() - cpu
    runner.run({name: values[:1] for name, values in signals.items()})
    begin, cpu = time.perf_counter(), time.process_time()
    spikes = runner.run(signals)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    faults = sum(int((spikes[name] != wanted[name]).sum()) for name in wanted)
    total = sum(values.size for values in wanted.values())
    # float32 backends may decide a tie otherwise; a wrong network has far more.
    if faults > 1e-5 * total:
        raise AssertionError(f"{faults} of {total} decisions differ from the oracle's")
    runner.close()
    return {
        "synapses": graph.synapses,
        "neurons": graph.neurons,
        "frames_per_second": count / seconds,
        "frames_per_cpu_second": count / cpu,
        "build_seconds": built,
        "build_cpu_seconds": built_cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def point(backend: str, size: float, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own, and return what it found, or why not."""
    command = [sys.executable, __file__, "--one", backend, str(size), "--frames", str(options.frames)]
    command += ["--memory", str(options.memory)]
    row: dict[str, Any] = {"backend": backend, "synapses": int(size)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds, check=False)
    except subprocess.TimeoutExpired:
        return {**row, "reason": f"did not end in {options.seconds:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {**row, "reason": lines[-1][:200]}
    return {**row, **json.loads(done.stdout.strip().splitlines()[-1])}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw frames/s, time to build and memory against synapses."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "strop"
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    panels = (
        ("frames_per_cpu_second", "frames / CPU s"),
        ("build_cpu_seconds", "build (CPU s)"),
        ("peak_bytes", "peak memory (bytes)"),
    )
    for axis, (key, label) in zip(axes, panels, strict=True):
        for backend in dict.fromkeys(row["backend"] for row in rows):
            own = [row for row in rows if row["backend"] == backend and row.get(key)]
            axis.loglog([row["synapses"] for row in own], [row[key] for row in own], marker="o", label=backend)
        axis.set(xlabel="synapses", ylabel=label)
        axis.grid(visible=True, which="major", alpha=0.3)
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="reference,brian2,nengo,pynn-nest")
    parser.add_argument("--sizes", default="1e4,1e5,1e6,1e7")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--memory", type=float, default=8e9, help="bytes of address space of one process")
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit of one point")
    parser.add_argument("--csv", type=Path, default=Path("cost-against-size.csv"))
    parser.add_argument("--figure", type=Path, default=Path("cost-against-size.svg"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], float(options.one[1]), options.frames, int(options.memory))))
        return
    rows = []
    for size in map(float, options.sizes.split(",")):
        for backend in options.backends.split(","):
            rows.append(point(backend, size, options))
            print(rows[-1], flush=True)
            with options.csv.open("w", newline="") as file:
                table = csv.DictWriter(file, [*COLUMNS, *MEMORY])
                table.writeheader()
                table.writerows(rows)
            draw(rows, options.figure)


if __name__ == "__main__":
    main()
