"""Runs a command, ends it with a signal after a while, and says what it left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
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
    """Run a command to its end; return the seconds that it takes, and the names that it writes."""
    begin = time.perf_counter()
    run = subprocess.run(_command(words), capture_output=True, text=True, cwd=folder, check=False)
    assert run.returncode in (0, 1), run.stderr
    return time.perf_counter() - begin, set(os.listdir(folder))


def interrupt(words: list[str], folder: Path, after: float, number: signal.Signals) -> Interrupted:
    """Run a command in an empty folder, and send it a signal so many seconds after it has started."""
    process = subprocess.Popen(
        _command(words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    time.sleep(after)
    finished = process.poll() is not None
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    names = tuple(sorted(os.listdir(folder)))
    # It may have come to its end in the very moment.
    finished = finished or process.returncode in (0, 1)
    return Interrupted(process.returncode, error, names, CODES[number], finished, after)


def moments(start: float, end: float, count: int, seed: int) -> list[tuple[float, signal.Signals]]:
    """Return random moments between two, in seconds, and a signal for each.

    While Python itself starts, before anything of strop's is there, an interrupt ends it as it ends any script.
    """
    rng = random.Random(seed)
    return [(rng.uniform(start, end), rng.choice([signal.SIGINT, signal.SIGTERM])) for _ in range(count)]


def _command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "strop", *words]
