"""An hour of verification on each backend: memory flat, file handles and threads constant.

    python benchmarks/soak.py --minutes 60 [--backends reference,brian2] [--anew]

A process for each backend verifies a stream of frames that ends when the time is over, through a network that is built
once; with `--anew` it verifies 200 frames again and again, and builds the network anew each time; every third has a
threshold that is wrong, and must be found. It counts what it holds as it goes: memory of its own (USS: what would be
free if it ended), file handles, threads, children. Printed are the medians of the tenths of the time. Ends with 1 if
the last tenth has more than 5 % more memory than the second, or another number of handles, threads or children, or if a
verdict is wrong. The first tenth is left out: caches fill, modules are imported.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import psutil

import strop
from strop.graph import Dense, Graph, Input, Population

BACKENDS = ("reference", "brian2", "nengo", "pynn-nest", "pynn-neuron", "pynn-brian2")
TENTHS, FLAT, FRAMES = 10, 0.05, 200
COUNTS = ("handles", "threads", "children")


def network(wrong: bool = False) -> Graph:
    """Return three layers, a skip and negative weights; `wrong` moves one threshold."""
    rng = np.random.default_rng(0)
    matrices = {
        link: Dense(rng.integers(-4, 5, shape) / 4)
        for link, shape in (
            (("x", "a"), (12, 32)),
            (("a", "b"), (32, 32)),
            (("b", "c"), (32, 16)),
            (("a", "c"), (32, 16)),
        )
    }
    populations = [Population(name, (size,), 0.5, 0.0) for name, size in (("a", 32), ("b", 32), ("c", 16))]
    if wrong:
        populations[1] = replace(populations[1], threshold=populations[1].threshold + 0.25 * np.eye(32)[7])
    links = [(source, target, matrix) for (source, target), matrix in matrices.items()]
    return Graph.from_nodes([Input("x", (12,))], populations, links, (), ["c"])


def held(process: psutil.Process) -> dict[str, float]:
    """Return what a process holds; memory in MiB."""
    gc.collect()
    return {
        "memory": process.memory_full_info().uss / 2**20,
        "handles": process.num_fds(),
        "threads": process.num_threads(),
        "children": len(process.children()),
    }


class Watch:
    """What a process holds over the time it is given."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begin, self.process = seconds, time.perf_counter(), psutil.Process()
        self.tenths: list[list[dict[str, float]]] = [[] for _ in range(TENTHS)]

    def look(self) -> bool:
        """Note what the process holds; return whether there is time left."""
        gone = time.perf_counter() - self.begin
        self.tenths[min(TENTHS - 1, int(gone / self.seconds * TENTHS))].append(held(self.process))
        return gone < self.seconds

    def medians(self) -> list[dict[str, float]]:
        """Return the medians of those tenths of the time in which somebody looked."""
        return [
            {kind: statistics.median(row[kind] for row in rows) for kind in ("memory", *COUNTS)}
            for rows in self.tenths
            if rows
        ]


def frames_of(number: int) -> np.ndarray:
    """Return frames of quarters, others for each number."""
    return np.random.default_rng(number).integers(0, 5, (FRAMES, 12)) / np.float32(4)


def streamed(backend: str, watch: Watch) -> tuple[int, int]:
    """Verify one stream until the time is over; return how many frames there were, and whether it failed."""

    def stream() -> Iterator[np.ndarray]:
        for number in itertools.count():
            yield frames_of(number)
            if number % 10 == 9 and not watch.look():
                return

    report = strop.verify(network(), stream(), backends=[backend])
    return report.frames, int(not report.passed)


def built_anew(backend: str, watch: Watch) -> tuple[int, int]:
    """Verify again and again until the time is over; return how often, and how many verdicts were wrong."""
    wrong = 0
    for number in itertools.count():
        frames = frames_of(number)
        if number % 3 == 2:
            expected = strop.simulate(network(), frames, "reference").spikes
            found = strop.simulate(network(wrong=True), frames, backend).spikes
            right = not np.array_equal(expected["b"], found["b"]) and np.array_equal(expected["a"], found["a"])
        else:
            right = strop.verify(network(), frames, backends=[backend]).passed
        wrong += not right
        if not watch.look():
            return number + 1, wrong
    raise AssertionError


def soak(backend: str, seconds: float, anew: bool) -> dict[str, object]:
    """Verify on one backend until the time is over; return what was done, how much of it wrongly, and the tenths."""
    watch = Watch(seconds)
    done, wrong = (built_anew if anew else streamed)(backend, watch)
    return {"backend": backend, "done": done, "wrong": wrong, "tenths": watch.medians()}


def judged(result: dict[str, Any], what: str) -> bool:
    """Print what became of a backend; return whether nothing grew and every verdict was right."""
    rows = result["tenths"]
    if len(rows) < TENTHS:
        print(f"{result['backend']:>12}: too slow: {result['done']:,} {what}, and a tenth without a look")
        return False
    growth = rows[-1]["memory"] / rows[1]["memory"] - 1
    constant = all(rows[-1][kind] == rows[1][kind] for kind in COUNTS)
    good = growth <= FLAT and constant and not result["wrong"]
    counts = "; ".join(f"{kind} {rows[1][kind]:.0f} to {rows[-1][kind]:.0f}" for kind in COUNTS)
    memory = " ".join(f"{row['memory']:.0f}" for row in rows)
    print(
        f"{result['backend']:>12}: {result['done']:,} {what}, {result['wrong']} wrong; MiB {memory} "
        f"({growth:+.1%}); {counts}: {'flat' if good else 'NOT FLAT'}",
        flush=True,
    )
    return good


def main() -> int:
    """Start a process for each backend, and judge what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--backends", default=",".join(BACKENDS), help="all run at the same time")
    parser.add_argument("--anew", action="store_true", help="a new network for each 200 frames")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(soak(options.one, options.minutes * 60, options.anew)))
        return 0
    call = [sys.executable, __file__, "--minutes", str(options.minutes), *(["--anew"] if options.anew else []), "--one"]
    running = [
        subprocess.Popen([*call, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in options.backends.split(",")
    ]
    good = True
    for process in running:
        out, complaint = process.communicate()
        if process.returncode:
            print(f"{process.args[-1]}: ended with {process.returncode}\n{complaint[-2000:]}", flush=True)
            good = False
        else:
            good &= judged(json.loads(out.splitlines()[-1]), "verifications" if options.anew else "frames")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
