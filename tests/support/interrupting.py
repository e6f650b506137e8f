"""Runs a command, ends it with a signal after a while, and says what it left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class Interrupted:
    """What came of a command that got a signal."""

    code: int
    error: str
    files: tuple[str, ...]
    """Names in the folder that it writes to, afterwards."""
    expected: int
    """130 or 143."""
    finished: bool
    """Whether it had come to its end before the signal."""
    after: float
    """Seconds from the start to the signal."""
    pid: int
    """Of the command's process."""

    def wrong(self, outputs: set[str]) -> str:
        """Say what is wrong, or the empty string; `outputs` are the names that a whole run writes."""
        if self.finished:
            return "" if self.code in (0, 1) and set(self.files) == outputs else f"ended with {self.code}: {self.files}"
        if self.code != self.expected:
            return f"exit code {self.code} instead of {self.expected}: {self.error[-500:]}"
        if "Traceback" in self.error or len(self.error.strip().splitlines()) != 1:
            return f"standard error: {self.error[-1000:]}"
        litter = set(self.files) - outputs
        return f"left behind: {sorted(litter)}" if litter else ""


def duration(words: list[str], folder: Path) -> tuple[float, set[str]]:
    """Run a command to its end; return the seconds that it takes once it has begun, and the names that it writes."""
    process = _started(words, folder)
    begin = time.perf_counter()
    _, error = process.communicate()
    assert process.returncode in (0, 1), error
    return time.perf_counter() - begin, set(os.listdir(folder))


def interrupt(
    words: list[str],
    folder: Path,
    after: float,
    number: signal.Signals,
    when: Callable[[int], bool] = lambda pid: True,
) -> Interrupted:
    """Run a command in an empty folder, and send it a signal so many seconds after it has begun.

    With `when`, so many seconds after that holds for its process.
    """
    process = _started(words, folder)
    while process.poll() is None and not when(process.pid):
        time.sleep(0.05)
    time.sleep(after)
    finished = process.poll() is not None
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    names = tuple(sorted(os.listdir(folder)))
    # It may have come to its end in the very moment.
    finished = finished or process.returncode in (0, 1)
    return Interrupted(process.returncode, error, names, CODES[number], finished, after, process.pid)


def _started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command, and wait until it has taken charge of signals: before, Python itself starts."""
    command = [sys.executable, "-m", "strop", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None and status.exists():
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return process
        time.sleep(0.005)
    time.sleep(0 if process.poll() is not None else 3)  # no /proc: macOS
    return process


def moments(seconds: float, count: int, seed: int) -> list[tuple[float, signal.Signals]]:
    """Return random moments of a run of so many seconds, and a signal for each."""
    rng = random.Random(seed)
    return [(rng.uniform(0, seconds), rng.choice([signal.SIGINT, signal.SIGTERM])) for _ in range(count)]
