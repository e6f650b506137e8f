"""Frames over several processes: the same comes out as of one, and nothing that happens to a worker is missed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("distributed", reason="needs the extra cluster")

from command_line import refused
from command_line import strop as command
from graphs import frames_for, skip_network
from interrupting import interrupt
from labelled import FRAMES as FEW
from labelled import network
from pages import decoding_network
from worker_backends import TIMES, Dying, FullDisk, Lying, Waiting, Wrong, content

import strop
from strop.errors import DataError, ModelFileError, StropError
from strop.running.cluster import local_workers
from strop.running.frame_source import Chunk
from strop.running.registry import available_backends

# NEST, NEURON, Brian2 and Nengo; brian2-standalone is compiled by each process, and takes a minute.
BACKENDS = ("reference", "brian2", "pynn-nest", "pynn-neuron", "nengo")
GRAPH = decoding_network("conv")
RNG = np.random.default_rng(5)
FRAMES = RNG.integers(0, 256, (90, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 4, 90)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers for all tests of this module: they take seconds to start."""
    with local_workers(2) as own:
        yield own
        pids = list(own.run(os.getpid).values())
    assert len(pids) == 2
    assert _end_soon(pids)


def _end_soon(pids: Iterable[int]) -> bool:
    """Whether processes that were killed are gone; on a busy machine that takes a moment."""
    for _ in range(100):
        if not any(map(_runs, pids)):
            return True
        time.sleep(0.05)
    return False


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("verification.verify", "running.simulate", "costs.activity"):
        monkeypatch.setattr(import_module(f"strop.{module}"), "chunk_size", lambda graph: 10)


def same(client: Any, model: Any, frames: Any, labels: Any = None, **options: Any) -> strop.Report:
    """Verify in this process and on workers; return the report, which is the same."""
    here = strop.verify(model, frames, labels, **options)
    there = strop.verify(model, frames, labels, **options, client=client)
    assert content(there) == content(here)
    return there


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_finds_on_workers_what_it_finds_here(client: Any, name: str) -> None:
    if name not in available_backends():
        pytest.skip(f"{name} is not installed")
    graph = skip_network(np.random.default_rng(3))
    report = same(client, graph, frames_for(graph, RNG), backends=[name])
    assert report.passed
    assert all(layer.spikes for layer in report.backends[name].layers)


def test_faults_ties_explanations_and_evidence_are_the_same(client: Any) -> None:
    report = same(client, GRAPH, FRAMES, LABELS, backends=["reference", Lying()], evidence=True)
    own = report.backends["lying"]
    assert own.faults > 5 < own.ties
    assert own.explanation is not None
    assert len(report.evidence.frames) > 10  # type: ignore[union-attr]


def test_several_outputs_have_the_same_accuracies(client: Any) -> None:
    graph = network(("key", "softmax", "spikes"))
    report = same(client, graph, FEW, {"out0": np.arange(30) % 3, "out1": np.arange(30) % 4}, backends=["reference"])
    assert list(report.backends["reference"].accuracies) == ["out0", "out1", "b"]


def test_keras_is_asked_on_the_workers(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(2)
    inputs = keras.Input((8,))
    # Two branches: which is walked first must not depend on whether the model was saved.
    branches = [strop.keras.SpikingBReLU(1.0)(keras.layers.Dense(6)(inputs)) for _ in range(2)]
    hidden = keras.layers.Concatenate()(branches[::-1])
    outputs = [keras.layers.Dense(3, "softmax")(hidden), keras.layers.Dense(2)(hidden)]
    model = keras.Model(inputs, outputs)
    frames = (rng.integers(0, 5, (60, 8)) / 4).astype(np.float32)
    report = same(client, model, frames, [np.arange(60) % 3, None], backends=["reference"], evidence=True)
    assert report.passed
    assert report.keras is not None
    assert [own.compared for own in report.keras.layers] == [360, 360]
    assert [own.frames for own in report.keras.outputs] == [60, 60]


def test_a_model_that_a_worker_cannot_open_is_one_clear_error(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = pytest.importorskip("keras")
    job = import_module("strop.verification.job")
    monkeypatch.setattr(job, "_sent", lambda probe: job._SentModel(b"no such class"))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), strop.keras.SpikingBReLU(1.0)])
    with pytest.raises(ModelFileError, match="cannot be opened by another process: .*or its graph, strop.lower"):
        strop.verify(model, np.ones((5, 4), np.float32), backends=["reference"], client=client)


def test_simulated_spikes_and_counted_events_are_the_same(client: Any) -> None:
    here, there = (strop.simulate(GRAPH, FRAMES, "reference", client=given) for given in (None, client))
    assert here.spikes["conv"].sum() > 1000
    assert all(np.array_equal(here.spikes[name], there.spikes[name]) for name in here.spikes)
    assert np.array_equal(here.output, there.output)
    assert here.notes == there.notes
    costs = [strop.inspect(GRAPH, FRAMES, client=given).to_dict() for given in (None, client)]
    assert costs[0] == costs[1]
    assert costs[0]["activity"]["frames"] == 90


def test_a_worker_that_is_killed_in_mid_run_changes_nothing(client: Any, tmp_path: Path) -> None:
    expected = content(strop.verify(GRAPH, FRAMES, LABELS, backends=[Dying(tmp_path, 0)], evidence=True))
    found = strop.verify(GRAPH, FRAMES, LABELS, backends=[Dying(tmp_path, 2)], evidence=True, client=client)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert content(found) == expected


def test_frames_that_kill_every_worker_end_the_run(client: Any, tmp_path: Path) -> None:
    with pytest.raises(StropError, match=r"frames 0 to 9: each process that took them died, 4 in all"):
        strop.verify(GRAPH, FRAMES[:10], backends=[Dying(tmp_path, 99)], client=client)


def test_a_full_disk_is_tried_again_and_then_named(client: Any, tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    report = strop.verify(GRAPH, FRAMES, backends=[FullDisk(tmp_path / "once", 1)], client=client)
    assert report.passed
    assert report.frames == report.backends["full"].frames == 90
    with pytest.raises(
        StropError, match="frames .* failed 3 times on the workers: No space left .*: /scratch/spikes.gdf"
    ):
        strop.verify(GRAPH, FRAMES, backends=[FullDisk(tmp_path, 99)], client=client)


def test_errors_on_workers_are_those_of_one_process(client: Any) -> None:
    frames = FRAMES.astype(np.float32)
    frames[55, 3, 3] = np.nan
    for given in ({}, {"client": client}):
        with pytest.raises(DataError, match="not finite"):
            strop.verify(GRAPH, frames, backends=["reference"], **given)
        with pytest.raises(StropError, match=r"reference does not know the option\(s\) nonsense"):
            strop.verify(GRAPH, FRAMES, backends=["reference"], options={"reference": {"nonsense": 1}}, **given)
    with pytest.raises(ZeroDivisionError, match="a bug in a backend") as raised:
        strop.verify(GRAPH, FRAMES, backends=[Wrong()], client=client)
    assert "in a worker, process" in raised.value.__notes__[0]


def test_a_worker_with_another_version_is_refused(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = import_module("strop.running.cluster.task")
    monkeypatch.setattr(task, "versions", lambda: {"Python": "3.11", "numpy": "1.0"})
    with pytest.raises(StropError, match=r"a worker on \S+ has .*, and where the frames come from it is"):
        strop.verify(GRAPH, FRAMES, backends=["reference"], client=client)


def test_chunks_wait_for_one_that_is_late_but_do_not_pile_up(client: Any, tmp_path: Path) -> None:
    given: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(120):
            given.append(number)
            yield FRAMES[:10]

    backend = Waiting(tmp_path, 0.01)
    verify = import_module("strop.verification.verify")
    job = verify.VerificationJob(GRAPH, None, None, {"waiting": backend}, {})
    source = verify.frame_source(GRAPH, frames())
    totals = verify.Totals(GRAPH, None, {"waiting": backend})
    furthest = 0
    for partial in verify.run_job(job, source.chunks(10), totals.wanted, None, client):
        totals.add(partial)
        furthest = max(furthest, len(given) - totals.chunks)
    assert totals.frames == 1200
    assert 2 <= furthest <= 10
    # Dask's logs of messages do not keep them either.
    assert sum(type(kept) is Chunk for kept in gc.get_objects()) < 60
    assert len(list(tmp_path.iterdir())) == 2


def test_a_scheduler_that_is_lost_is_one_clear_error(tmp_path: Path) -> None:
    with _scheduler(tmp_path) as (address, scheduler):
        threading.Timer(1.0, scheduler.kill).start()
        begin = time.monotonic()
        with pytest.raises(StropError, match="the scheduler at tcp://.* was lost before all frames were through"):
            strop.verify(GRAPH, FRAMES, backends=[Waiting(tmp_path, 0.5)], client=address)
        assert time.monotonic() - begin < 40


def test_processes_that_all_end_are_one_clear_error(tmp_path: Path) -> None:
    workers = import_module("strop.running.cluster.workers")
    with local_workers(1) as own:
        threading.Timer(1.0, workers._LOCAL[own][0].kill).start()
        with pytest.raises(StropError, match="all worker processes have ended"):
            strop.verify(GRAPH, FRAMES, backends=[Waiting(tmp_path, 0.5)], client=own)


def test_a_scheduler_whose_workers_never_come_again_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("strop.running.cluster.workers"), "_ARRIVE", 3)
    scheduler = _scheduler(tmp_path)
    with scheduler as (address, _):
        threading.Timer(2.0, scheduler.processes[1].kill).start()
        with pytest.raises(StropError, match="has lost all its workers, 3 s ago|no worker has come .* within 3 s"):
            strop.verify(GRAPH, FRAMES, backends=[Waiting(tmp_path, 0.5)], client=address)


def test_an_address_without_a_scheduler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("strop.running.cluster.workers"), "_CONNECT", 1)
    GRAPH.save(tmp_path / "net.strop")
    np.savez(tmp_path / "data.npz", x=FRAMES[:20])
    words = ("verify", tmp_path / "net.strop", "--data", tmp_path / "data.npz", "--backends", "reference")
    for given, said in (
        (("--scheduler", "tcp://127.0.0.1:9"), "no scheduler answers at 'tcp://127.0.0.1:9': start one with"),
        (("--scheduler", "nonsense://"), "no scheduler answers at 'nonsense://'"),
        (("--scheduler", "x", "--workers", 2), "give either --workers"),
        (("--workers", 0), "0 is not in the range x>=1"),
    ):
        refused(command(*words, *given), 2, said)
    said = "--workers and --scheduler are for the frames of --data"
    refused(command("inspect", tmp_path / "net.strop", "--workers", 2), 2, said)
    for wrong in (0, True, 1.5, 10**9):
        with pytest.raises(StropError, match="workers must be a whole number of processes|more than this machine"):
            strop.verify(GRAPH, FRAMES, backends=["reference"], workers=wrong)
    with pytest.raises(StropError, match=r"client must be a distributed.Client, or the address"):
        strop.simulate(GRAPH, FRAMES, "reference", client=7)


def test_the_command_line_gives_the_same_files(tmp_path: Path) -> None:
    GRAPH.save(tmp_path / "net.strop")
    np.savez(tmp_path / "data.npz", x=FRAMES, y=LABELS)
    data = (tmp_path / "net.strop", "--data", tmp_path / "data.npz")
    found = []
    for over in ((), ("--workers", 1)):
        done = command("verify", *data, "--backends", "reference", "--json", tmp_path / "v.json", *over)
        assert done.returncode == 0, done.stderr
        done = command("predict", *data, "--backend", "reference", "--out", tmp_path / "p.npz", *over)
        assert done.returncode == 0, done.stderr
        shown = json.loads((tmp_path / "v.json").read_text())
        for name in TIMES:
            shown["backends"]["reference"].pop(name, None)
        with np.load(tmp_path / "p.npz") as arrays:
            found.append((shown, {name: arrays[name].tolist() for name in arrays.files}))
    assert found[0] == found[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_an_interrupted_command_leaves_nothing_running(tmp_path: Path) -> None:
    GRAPH.save(tmp_path / "net.strop")
    np.savez(tmp_path / "data.npz", x=np.tile(FRAMES, (500, 1, 1, 1)))
    (tmp_path / "out").mkdir()
    words = ["verify", "../net.strop", "--data", "../data.npz", "--backends", "reference", "--json", "r.json"]
    started: set[int] = set()

    def has_workers(pid: int) -> bool:
        with suppress(psutil.Error):
            started.update(child.pid for child in psutil.Process(pid).children(recursive=True))
        return len(started) >= 4  # two nannies and two workers

    found = interrupt([*words, "--workers", "2"], tmp_path / "out", 0.2, signal.SIGINT, has_workers)
    assert not found.finished
    assert len(started) >= 4
    assert found.wrong({"r.json"}) == ""
    assert _end_soon(started)
    assert not list(Path(tempfile.gettempdir()).glob(f"strop-of-{found.pid}-*"))


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StropError, match=r"pip install 'strop\[cluster\]'"):
        strop.verify(GRAPH, FRAMES, backends=["reference"], workers=2)
    assert strop.verify(GRAPH, FRAMES, backends=["reference"]).passed


class _scheduler:  # used as a function
    """A scheduler with one worker, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> tuple[str, subprocess.Popen[bytes]]:
        file = self.folder / "scheduler.json"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
        dask = [sys.executable, "-m", "dask"]
        words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        self.processes = [subprocess.Popen([*dask, *words], **quiet)]
        words = ["worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        self.processes.append(
            subprocess.Popen([*dask, *words, "--local-directory", str(self.folder / "local")], **quiet)
        )
        for _ in range(600):
            if file.exists() and file.read_text().endswith("}"):
                break
            time.sleep(0.1)
        return json.loads(file.read_text())["address"], self.processes[0]

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
