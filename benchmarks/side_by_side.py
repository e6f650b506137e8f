"""How much faster `strop verify` is with each simulator in a process of its own than with all in one.

    python benchmarks/side_by_side.py LENET --data mnist.npz
    python benchmarks/side_by_side.py LENET --data mnist.npz --limit 1000 --backends all

Runs the whole command (Python started, TensorFlow imported, the model read) in both ways, in alternation, and prints
the wall seconds, their median and that of the CPU's, and the median of the ratios of the rounds. Ends with 1 if the
reports differ in anything but times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TIMES = ("build_seconds", "run_seconds", "frames_per_second", "seconds")
_WAYS = ("--one-process", "--processes")


def measured(words: list[str], way: str) -> tuple[float, float, str]:
    """Return the wall seconds and the CPU's seconds of the command, and its JSON without times."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "strop", "verify", *words, way, "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"strop verify ended with {done.returncode}: {done.stderr or done.stdout}")
        shown = json.loads(file.read_text())
    for column in (*shown["backends"].values(), *([shown["keras"]] if shown["keras"] else [])):
        for name in _TIMES:
            column.pop(name, None)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, json.dumps(shown)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--backends", default="reference,brian2,pynn-nest,nengo", help="or `all` that are installed")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    words = [options.model, "--data", options.data, "--limit", str(options.limit)]
    words += [] if options.backends == "all" else ["--backends", options.backends]
    print(f"{options.limit:,} frames, {options.backends}; {os.cpu_count()} cores")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
    reports = set()
    for _ in range(options.rounds):
        for way in _WAYS:
            seconds, cpu, report = measured(words, way)
            found[way].append((seconds, cpu))
            reports.add(report)
    for way in _WAYS:
        wall, cpu_seconds = ([own[n] for own in found[way]] for n in (0, 1))
        each = ", ".join(f"{value:.1f}" for value in wall)
        middle, cpu = statistics.median(wall), statistics.median(cpu_seconds)
        print(f"{way:>14}: {each} s; median {middle:.1f} s, CPU {cpu:.1f} s")
    ratios = [one[0] / several[0] for one, several in zip(*found.values(), strict=True)]
    print(f"{statistics.median(ratios):.2f} times faster; reports {'equal' if len(reports) == 1 else 'DIFFER'}")
    sys.exit(0 if len(reports) == 1 else 1)


if __name__ == "__main__":
    main()
