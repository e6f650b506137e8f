"""Two checkouts of strop measured against each other: each in a process of its own, in alternating rounds.

A benchmark serves a measurement (`serve`) and asks for it from this checkout and from another (`alternate`). CPU
seconds are those of all threads of a process; the medians of the rounds are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def serve(measured: dict[str, Callable[[], Any]]) -> None:
    """Call every function once for each line that comes in; print CPU and wall seconds of each, and a check sum."""
    for _ in sys.stdin:
        for function in measured.values():
            cpu, wall = time.process_time(), time.perf_counter()
            answer = function()
            print(time.process_time() - cpu, time.perf_counter() - wall, answer, flush=True)


def alternate(
    script: str, arguments: list[str], names: list[str], other: Path, rounds: int
) -> dict[str, dict[str, float]]:
    """Return for each name the milliseconds here and there, and their ratios.

    Parameters
    ----------
    script : str
        Path of the benchmark, which calls `serve` when it is started with `--serve` and these arguments.
    arguments : list of str
    names : list of str
        What it measures, in the order in which it prints.
    other : Path
        The other checkout.
    rounds : int
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    answers: dict[str, set[str]] = {name: set() for name in names}
    with ExitStack() as stack:
        processes = {
            place: stack.enter_context(_started(script, arguments, checkout))
            for place, checkout in (("here", Path(script).resolve().parents[1]), ("there", other.resolve()))
        }
        for _ in range(rounds):
            for place, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                for name in names:
                    cpu, wall, answer = process.stdout.readline().split(maxsplit=2)
                    found.setdefault((place, name), []).append((float(cpu), float(wall)))
                    answers[name].add(answer)
        for process in processes.values():
            process.communicate()
    different = [name for name, given in answers.items() if len(given) > 1]
    if different:
        raise SystemExit(f"the two checkouts give different answers: {', '.join(different)}")
    return {name: _compared(found["here", name], found["there", name]) for name in names}


def _started(script: str, arguments: list[str], checkout: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(checkout / "bridge"), str(checkout / "backends"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, script, "--serve", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _compared(here: list[tuple[float, float]], there: list[tuple[float, float]]) -> dict[str, float]:
    result = {}
    for index, what in enumerate(("cpu", "wall")):
        ours, theirs = (statistics.median(row[index] for row in rows) for rows in (here, there))
        result |= {f"{what}_ms_here": round(1e3 * ours, 1), f"{what}_ms_there": round(1e3 * theirs, 1)}
        result[f"{what}_ratio"] = round(theirs / ours, 2)
    return result
