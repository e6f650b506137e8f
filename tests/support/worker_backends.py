"""Backends for workers: what they do depends on the frames alone, and they can be sent to other processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from strop.graph import Graph
from strop.running.backend import Runner
from strop.running.oracle import potential
from strop.running.reference import ReferenceBackend
from strop.verification.bounds import SimulatorBound
from strop.verification.report import Report

TIMES = ("build_seconds", "run_seconds", "frames_per_second", "seconds")


class _Each(Runner):
    """Does something with each chunk's spikes."""

    def __init__(self, honest: Runner, backend: Doing, graph: Graph) -> None:
        self.honest, self.backend, self.graph = honest, backend, graph

    def run(self, signals: Any) -> Any:
        spikes = {name: values.copy() for name, values in self.honest.run(signals).items()}
        self.backend.do(self.graph, signals, spikes)
        return spikes


class Doing(ReferenceBackend):
    """The reference, with something done to, or because of, each chunk."""

    name = "doing"

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        return _Each(super().prepare(graph), self, graph)

    def do(self, graph: Graph, signals: Any, spikes: Any) -> None:
        raise NotImplementedError


class Lying(Doing):
    """Flips a spike of the population "code" in every frame whose first value is high: a fault, or else a tie."""

    name = "lying"
    resolution = 2.0**-4

    def do(self, graph: Graph, signals: Any, spikes: Any) -> None:
        first = next(iter(signals.values())).reshape(len(spikes["code"]), -1)[:, 0]
        sent = {**signals, **spikes}
        margin = np.abs(potential(graph, "code", sent) - 0.5)
        blurred = (margin > 0.0) & (margin <= SimulatorBound(graph, self.resolution).blur("code", sent))
        for row in np.flatnonzero(first > 0.7):
            kind = blurred[row] == (first[row] > 0.85)
            if kind.any():
                spikes["code"][row, int(kind.argmax())] ^= True


class Dying(Doing):
    """Kills its process when it has run a chunk, so many times; `folder` counts them."""

    name = "dying"

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times = folder, times

    def do(self, graph: Graph, signals: Any, spikes: Any) -> None:
        time.sleep(0.05)
        if _again(self.folder, self.times):
            os.kill(os.getpid(), signal.SIGKILL)


class FullDisk(Doing):
    """Finds the disk full, so many times."""

    name = "full"

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times = folder, times

    def do(self, graph: Graph, signals: Any, spikes: Any) -> None:
        if _again(self.folder, self.times):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/spikes.gdf")


class Waiting(Doing):
    """Takes its time, and tells which process takes it."""

    name = "waiting"

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds

    def do(self, graph: Graph, signals: Any, spikes: Any) -> None:
        (self.folder / str(os.getpid())).touch()
        time.sleep(self.seconds)


class Wrong(Doing):
    """Has a bug."""

    name = "wrong"

    def do(self, graph: Graph, signals: Any, spikes: Any) -> None:
        raise ZeroDivisionError("a bug in a backend")


def _again(folder: Path, times: int) -> bool:
    """Whether something that is to happen so many times, whatever the process, happens now."""
    for number in range(times):
        try:
            os.close(os.open(folder / str(number), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def content(report: Report) -> str:
    """Return all that a report holds, but for times: its JSON, notes and evidence."""
    shown = report.to_dict()
    columns = [*shown["backends"].values(), *([shown["keras"]] if shown["keras"] else [])]
    for column in columns:
        for name in TIMES:
            column.pop(name, None)
    evidence = report.evidence
    if evidence is not None:
        shown["evidence"] = [
            [asdict(own) for own in evidence.margins],
            [asdict(own) for own in evidence.frames],
            evidence.left_out,
            {name: counts.tolist() for name, counts in evidence.activity.spikes.items()} if evidence.activity else None,
        ]
    return json.dumps(shown, default=lambda array: array.tolist())
