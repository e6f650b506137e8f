"""Simulators in processes of their own: the same report, the same errors, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from command_line import strop as command
from command_line import strop_process
from graphs import skip_network
from interrupting import interrupt
from pages import decoding_network
from registered import install, python_path
from worker_backends import TIMES, Lying, content

import strop
from strop.errors import BackendError, DataError, ProcessError, StropError
from strop.graph import Graph
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.own_process import ProcessRunner
from strop.running.own_process import runner as own_process
from strop.running.side_by_side import SimulatorProcesses

GRAPH = decoding_network("conv")
RNG = np.random.default_rng(5)
FRAMES = RNG.integers(0, 256, (90, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 4, 90)
SIGNALS = encode(GRAPH, as_frames(GRAPH, FRAMES))
SOURCE = """
import os, signal, sys, time
from strop.errors import BackendError, CapacityError
from strop.running.reference import ReferenceBackend
from strop.running.backend import Runner
from worker_backends import Doing, Lying as _Lying, Wrong as _Wrong

class Lying(_Lying):
    name = "lying"

class Wrong(_Wrong):
    name = "wrong"

class Honest(Doing):
    name = "honest"
    def do(self, graph, signals, spikes):
        print("a word on standard output")

class Killed(Doing):
    name = "killed"
    def do(self, graph, signals, spikes):
        if next(iter(signals.values())).reshape(-1)[0] == float(os.environ["STROP_TEST_FIRST"]):
            os.kill(os.getpid(), signal.SIGKILL)

class Slow(Doing):
    name = "slow"
    def do(self, graph, signals, spikes):
        time.sleep(60)

class Missing(Doing):
    name = "missing"
    def do(self, graph, signals, spikes):
        del spikes["code"]

class Refusing(Doing):
    name = "refusing"
    def do(self, graph, signals, spikes):
        raise CapacityError("no room for so many spikes")

class Whose(Doing):
    name = "whose"
    def do(self, graph, signals, spikes):
        elsewhere = sys.argv[:2] == ["-c", "whose"]
        open(f"{os.environ['STROP_TEST_FOLDER']}/ran-{'elsewhere' if elsewhere else 'here'}", "w").close()

class Unbuilt(ReferenceBackend):
    name = "unbuilt"
    def prepare(self, graph, **options):
        raise BackendError("this chip is full")
"""
NAMES = ("Lying", "Wrong", "Honest", "Killed", "Slow", "Missing", "Refusing", "Unbuilt", "Whose")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("strop.verification.verify"), "chunk_size", lambda graph: 10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "strop-beside", "beside", SOURCE, {name.lower(): f"beside:{name}" for name in NAMES})
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    before = _children()
    yield
    assert _children() <= before


def _children() -> set[int]:
    """Return the processes that run a network for this one."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and any("own_process" in word for word in child.cmdline()):
                found.add(child.pid)
    return found


def both(backends: Any, frames: Any = FRAMES, **options: Any) -> strop.Report:
    """Verify in this process, and with processes; return the report, which is the same."""
    here = strop.verify(GRAPH, frames, LABELS, backends=backends, **options)
    there = strop.verify(GRAPH, frames, LABELS, backends=backends, processes=True, **options)
    assert content(here) == content(there)
    assert here.notes == there.notes
    return there


# The same report
# ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("installed")
def test_faults_ties_explanations_and_evidence_are_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    report = both(["reference", "lying", "honest"], evidence=True)
    lying = report.backends["lying"]
    assert (report.passed, lying.passed, report.backends["honest"].passed) == (False, False, True)
    assert sum(layer.faults for layer in lying.layers) > 5
    assert sum(layer.ties for layer in lying.layers) > 0
    assert lying.explanation is not None
    # In one process it goes there; in processes standard output carries answers, and words go to standard error.
    capfd.readouterr()
    strop.verify(GRAPH, FRAMES, backends=["honest"], processes=True)
    out, error = capfd.readouterr()
    assert out == ""
    assert "a word on standard output" in error


@pytest.mark.usefixtures("installed")
def test_the_processes_run_beside_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # The backend is broken in this process alone.
    module = import_module("beside")
    monkeypatch.setattr(module.Honest, "do", lambda self, graph, signals, spikes: spikes["code"].fill(True))
    assert not strop.verify(GRAPH, FRAMES, backends=["honest"]).passed
    assert strop.verify(GRAPH, FRAMES, backends=["honest"], processes=True).passed


@pytest.mark.usefixtures("installed")
def test_batches_and_chunks_are_each_compared_with_their_own_frames() -> None:
    for frames in (np.array_split(FRAMES, 7), [FRAMES[:1]], [FRAMES[:25], FRAMES[25:]]):
        report = strop.verify(GRAPH, iter(frames), backends=["honest", "reference"], processes=True)
        assert report.passed
        assert report.frames == sum(map(len, frames))


@pytest.mark.usefixtures("installed")
def test_an_object_of_ones_own_stays_in_this_process() -> None:
    mine = Lying()
    assert not strop.verify(GRAPH, FRAMES, backends=[mine, "honest"], processes=True).backends["lying"].passed
    with (
        SimulatorProcesses(["lying"]) as processes,
        pytest.raises(StropError, match="'lying', which is given as an object of this process"),
    ):
        strop.verify(GRAPH, FRAMES, backends=[mine], processes=processes)


@pytest.mark.usefixtures("installed")
def test_options_that_json_cannot_hold_are_used_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    module = import_module("beside")
    prepare = module.Honest.prepare
    monkeypatch.setattr(
        module.Honest, "prepare", lambda self, graph, **options: (seen.append(options), prepare(self, graph))[1]
    )
    marker = object()
    options = {"honest": {"marker": marker}}
    assert strop.verify(GRAPH, FRAMES, backends=["honest"], options=options, processes=True).passed
    assert seen == [{"marker": marker}]


# The same errors
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("wrong", Exception, "a bug in a backend"),
        ("missing", BackendError, "missing gave no spikes of code"),
        ("refusing", strop.errors.CapacityError, "no room for so many spikes"),
        ("unbuilt", BackendError, "this chip is full"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_what_a_backend_raises_is_raised(name: str, kind: type[Exception], message: str) -> None:
    for processes in (False, True):
        with pytest.raises(kind, match=message) as caught:
            strop.verify(GRAPH, FRAMES, backends=["honest", name], processes=processes)
        if name == "unbuilt":
            assert caught.value.backend == "unbuilt"
    if name == "wrong":
        assert "ZeroDivisionError" in str(caught.value)
        assert "in do" in "".join(caught.value.__notes__)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("chunk", [0, 1, 4, 8])
def test_a_process_that_is_killed_ends_the_verification(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROP_TEST_FIRST", repr(float(next(iter(SIGNALS.values()))[10 * chunk].reshape(-1)[0])))
    with pytest.raises(ProcessError, match=r"killed: the process that runs the network ended .*exit code -9"):
        strop.verify(GRAPH, FRAMES, backends=["honest", "killed"], processes=True)


@pytest.mark.usefixtures("installed")
def test_frames_that_do_not_fit_leave_no_process() -> None:
    bad = iter([FRAMES[:20], FRAMES[20:40, :5], FRAMES[40:]])
    with pytest.raises(DataError):
        strop.verify(GRAPH, bad, backends=["honest"], processes=True)


def test_processes_and_workers_are_not_mixed() -> None:
    with pytest.raises(StropError, match="give either processes"):
        strop.verify(GRAPH, FRAMES, backends=["reference"], workers=2, processes=True)
    refused = command(
        "verify", "net.strop", "--data", "x.npz", "--backends", "reference", "--workers", "2", "--processes"
    )
    assert refused.returncode == 2


# A process of one's own
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def runner() -> Iterator[ProcessRunner]:
    own = ProcessRunner("reference")
    own.prepare(GRAPH, {})
    yield own
    own.close()
    own.close()
    assert own._process.returncode is not None


def wrong(spikes: Mapping[str, Any], rows: slice) -> int:
    expected = evaluate(GRAPH, {name: values[rows] for name, values in SIGNALS.items()})
    return sum(int(np.count_nonzero(spikes[name] != values)) for name, values in expected.items())


def part(number: int) -> dict[str, Any]:
    return {name: values[10 * number : 10 * number + 10] for name, values in SIGNALS.items()}


def test_a_chunk_is_sent_when_the_one_before_is_taken(runner: ProcessRunner) -> None:
    runner.expect(0, part(0))
    runner.expect(1, part(1))
    with pytest.raises(ProcessError, match="chunk 2 came before chunk 1 was under way"):
        runner.expect(2, part(2))
    assert wrong(runner.finish(0), slice(0, 10)) == 0
    runner.expect(2, part(2))
    with pytest.raises(ProcessError, match="chunk 2 was not under way, but 1"):
        runner.finish(2)
    assert wrong(runner.finish(1), slice(10, 20)) == 0
    assert wrong(runner.finish(2), slice(20, 30)) == 0
    with pytest.raises(ProcessError, match="chunk 3 was not under way, but None"):
        runner.finish(3)


def test_an_answer_to_another_chunk_is_none(runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = own_process.send
    monkeypatch.setattr(
        own_process, "send", lambda stream, header, arrays: honest(stream, {**header, "number": 7}, arrays)
    )
    runner.expect(0, part(0))
    with pytest.raises(ProcessError, match="the answer to chunk 7 came in place of 0"):
        runner.finish(0)


def test_another_graph_than_was_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other, save = skip_network(np.random.default_rng(1)), Graph.save
    monkeypatch.setattr(Graph, "save", lambda self, path: save(other, path))
    own = ProcessRunner("reference")
    try:
        with pytest.raises(ProcessError, match="has read another graph"):
            own.prepare(GRAPH, {})
    finally:
        own.close()


def test_a_process_that_ends_is_an_error_and_not_a_result(runner: ProcessRunner) -> None:
    assert wrong(runner.run(part(0)), slice(0, 10)) == 0
    runner._process.kill()
    runner._process.wait()
    with pytest.raises(ProcessError, match=r"reference: the process that runs the network ended .*exit code -9"):
        runner.run(part(0))
    for use in (lambda: runner.run(part(0)), runner.reset, runner.weights):
        with pytest.raises(ProcessError, match="the process that ran the network has been ended"):
            use()


def test_a_run_that_is_interrupted_is_not_answered_later(
    runner: ProcessRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = own_process.receive

    def interrupted(stream: Any) -> Any:
        monkeypatch.setattr(own_process, "receive", honest)
        raise KeyboardInterrupt

    monkeypatch.setattr(own_process, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(part(0))
    with pytest.raises(ProcessError, match="has been ended"):
        runner.run(part(1))


def test_bytes_that_are_no_answer_are_an_error(runner: ProcessRunner) -> None:
    for garbage in (b"\x05\0\0\0\0\0\0\0nonsense", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", b""):
        own = ProcessRunner("reference")
        own.prepare(GRAPH, {})
        read, write = os.pipe()
        os.write(write, garbage)
        os.close(write)
        own._process.stdout.close()
        own._process.stdout = os.fdopen(read, "rb")
        with pytest.raises(ProcessError, match="an answer that cannot be read|ended in the middle"):
            own.run(part(0))
        assert own._process.returncode is not None
        own.close()


# The command line
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    GRAPH.save(tmp_path / "net.strop")
    np.savez(tmp_path / "data.npz", x=FRAMES, y=LABELS)
    return [str(tmp_path / "net.strop"), "--data", str(tmp_path / "data.npz")]


def test_the_command_line_gives_the_same_file_either_way(site: Path, files: list[str], tmp_path: Path) -> None:
    found = []
    for way in ("--processes", "--one-process"):
        words = ["verify", *files, "--backends", "reference,lying,honest", "--json", str(tmp_path / "v.json"), way]
        done = strop_process(*words, PYTHONPATH=python_path(site, Path(__file__).parents[2] / "support"))
        assert done.returncode == 1, done.stderr
        shown = json.loads((tmp_path / "v.json").read_text())
        for column in shown["backends"].values():
            for name in TIMES:
                column.pop(name, None)
        found.append(shown)
    assert found[0] == found[1]
    assert found[0]["backends"]["honest"]["passed"]


def test_a_killed_process_is_one_line_and_no_file(site: Path, files: list[str], tmp_path: Path) -> None:
    first = repr(float(next(iter(SIGNALS.values()))[0].reshape(-1)[0]))
    words = ["verify", *files, "--backends", "killed", "--json", str(tmp_path / "v.json"), "--processes"]
    path = python_path(site, Path(__file__).parents[2] / "support")
    done = strop_process(*words, PYTHONPATH=path, STROP_TEST_FIRST=first)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "killed: the process that runs the network ended in the middle" in done.stderr
    assert not (tmp_path / "v.json").exists()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be taken away here")
def test_where_nothing_is_said_the_command_line_alone_starts_processes(
    site: Path, files: list[str], installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The backend "whose" writes down the processes that run it.
    monkeypatch.setenv("STROP_TEST_FOLDER", str(tmp_path))
    path = python_path(site, Path(__file__).parents[2] / "support")
    there = {"PYTHONPATH": path, "STROP_TEST_FOLDER": str(tmp_path)}
    cores = os.sched_getaffinity(0)
    words = ("verify", *files, "--backends", "whose")
    assert command(*words).returncode == 0
    assert _who(tmp_path) == ["here"]
    assert strop_process(*words, **there).returncode == 0
    assert _who(tmp_path) == ["elsewhere" if len(cores) > 1 else "here"]
    assert strop_process(*words, "--one-process", **there).returncode == 0
    assert _who(tmp_path) == ["here"]
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert strop_process(*words, **there).returncode == 0
        assert _who(tmp_path) == ["here"]
        assert strop_process(*words, "--processes", **there).returncode == 0
        assert _who(tmp_path) == ["elsewhere"]
    finally:
        os.sched_setaffinity(0, cores)


def _who(folder: Path) -> list[str]:
    """Return where the backend "whose" has run, and forget it."""
    found = list(folder.glob("ran-*"))
    for file in found:
        file.unlink()
    return [file.name.removeprefix("ran-") for file in found]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing_running(
    site: Path, files: list[str], tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path(site, Path(__file__).parents[2] / "support"))
    (tmp_path / "out").mkdir()
    started: set[int] = set()

    def under_way(pid: int) -> bool:
        started.update(child.pid for child in psutil.Process(pid).children(recursive=True))
        return len(started) >= 1

    words = ["verify", *files, "--backends", "slow,reference", "--json", "r.json", "--processes"]
    found = interrupt(words, tmp_path / "out", 1.0, number, under_way)
    assert not found.finished
    assert found.wrong({"r.json"}) == ""
    for _ in range(100):
        if not any(psutil.pid_exists(pid) for pid in started):
            break
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in started)
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"strop-of-{found.pid}-*"))
