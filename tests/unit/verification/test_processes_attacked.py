"""Simulators in processes of their own that do what no simulator should: no pass, no hang, nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from command_line import strop_process
from interrupting import interrupt
from pages import decoding_network
from registered import install, python_path

import strop
from strop.cli import recipe_runs
from strop.errors import BackendError, ProcessError
from strop.graph import Graph
from strop.running.own_process import ProcessRunner
from strop.running.reference import ReferenceBackend
from strop.running.side_by_side import SimulatorProcesses

GRAPH = decoding_network("conv")
FRAMES = np.random.default_rng(5).integers(0, 256, (30, 8, 8, 1)).astype(np.uint8)
SUPPORT = Path(__file__).parents[2] / "support"
SOURCE = """
import errno, multiprocessing, os, signal, subprocess, sys, threading, time
import numpy as np
import evil_module
from strop.errors import BackendError
from strop.running.reference import ReferenceBackend
from worker_backends import Doing

class Flipping(Doing):
    name = "flipping"
    def do(self, graph, signals, spikes):
        if evil_module.FLIPS:
            spikes["code"][0] ^= True

class CloseFails(Doing):
    name = "close-fails"
    def prepare(self, graph, **options):
        runner = super().prepare(graph)
        def close():
            raise BackendError("the board says: 3 packets were dropped")
        runner.close = close
        return runner
    def do(self, graph, signals, spikes): pass

class Reading(Doing):
    name = "reading"
    def do(self, graph, signals, spikes):
        assert sys.stdin.read() == ""
        assert subprocess.run([sys.executable, "-c", "import sys; sys.exit(len(sys.stdin.read()))"]).returncode == 0

class Forking(Doing):
    name = "forking"
    def do(self, graph, signals, spikes):
        if os.fork() == 0:
            time.sleep(97)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

class Threaded(Doing):
    name = "threaded"
    def do(self, graph, signals, spikes):
        threading.Thread(target=time.sleep, args=(97,)).start()
        raise KeyboardInterrupt

class Starting(Doing):
    name = "starting"
    def do(self, graph, signals, spikes):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(97)"])
        time.sleep(60)

class Late(Doing):
    name = "late"
    def do(self, graph, signals, spikes):
        time.sleep(1)
        raise BackendError("too late")

class Full(Doing):
    name = "full"
    def do(self, graph, signals, spikes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/x")

class Piping(Doing):
    name = "piping"
    def do(self, graph, signals, spikes):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

class Leaving(Doing):
    name = "leaving"
    def do(self, graph, signals, spikes):
        raise SystemExit(0)

class Foreign(Doing):
    name = "foreign"
    def do(self, graph, signals, spikes):
        raise type("DataError", (Exception,), {})("not strop's")

class Objects(Doing):
    name = "objects"
    def do(self, graph, signals, spikes):
        spikes["code"] = spikes["code"].astype(object)

class More(Doing):
    name = "more"
    def do(self, graph, signals, spikes):
        spikes[("code", 1)] = spikes["code"].astype(object)

class Littering(Doing):
    name = "littering"
    def do(self, graph, signals, spikes):
        for number in range(10**6):
            os.makedirs(os.environ["TMPDIR"], exist_ok=True)
            open(f"{os.environ['TMPDIR']}/{number}", "w").close()

class Honest(Doing):
    name = "honest"
    def do(self, graph, signals, spikes): pass

class Crashing(ReferenceBackend):
    name = "crashing"
    def prepare(self, graph, **options):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
NAMES = {
    name: f"attacking:{name.title().replace('-', '')}"
    for name in (
        "flipping", "close-fails", "reading", "forking", "threaded", "starting", "late", "full", "piping", "leaving",
        "foreign", "objects", "more", "littering", "honest", "crashing",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "strop-attacking", "attacking", SOURCE, NAMES)
    (folder / "evil_module.py").write_text("FLIPS = True\n")
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def command(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Verify on some backends by the command line, in an empty folder."""
    GRAPH.save(tmp_path / "net.strop")
    np.savez(tmp_path / "data.npz", x=FRAMES)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(backends: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = {"PYTHONPATH": python_path(site, SUPPORT)}
        given = ("verify", "../net.strop", "--data", "../data.npz", "--backends", backends, *words)
        return strop_process(*given, **{**path, **environment})

    return run


@pytest.mark.parametrize("way", ["--one-process", "--processes"])
def test_files_of_the_current_folder_are_not_imported_in_place_of_modules(
    tmp_path: Path, site: Path, command: Any, way: str
) -> None:
    (tmp_path / "here" / "evil_module.py").write_text("FLIPS = False\n")
    # `python -m strop` would look in the current folder itself; the command does not.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "strop").write_text("from strop.cli import main\nmain()\n")
    words = ["verify", "../net.strop", "--data", "../data.npz", "--backends", "flipping", way]
    environment = {**os.environ, "PYTHONPATH": python_path(site, SUPPORT)}
    program = [sys.executable, tmp_path / "bin" / "strop", *words]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    assert "FAILED" in done.stdout


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("close-fails", 2, "the board says: 3 packets were dropped"),
        ("forking", 2, "forking: the process that runs the network ended in the middle (exit code -9"),
        ("full", 2, "No space left on device: /scratch/x"),
        ("objects", 2, "objects gave object"),
        ("more", 2, "more gave spikes of ('code', 1), which the graph does not have"),
    ],
)
def test_errors_are_one_line(command: Any, name: str, code: int, message: str) -> None:
    begin = time.monotonic()
    done = command(f"honest,{name}", "--processes")
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("way", ["--one-process", "--processes"])
@pytest.mark.parametrize("name", ["piping", "leaving", "threaded", "foreign"])
def test_no_way_to_leave_is_a_pass(command: Any, name: str, way: str) -> None:
    done = command(name, way)
    assert done.returncode != 0
    assert done.stderr
    assert "PASSED" not in done.stdout


def test_a_reader_that_goes_away_changes_no_exit_code(command: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    honest = subprocess.run

    def deaf(*args: Any, **options: Any) -> Any:
        options.pop("capture_output")
        return honest(*args, **options, stdout=write, stderr=subprocess.PIPE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", deaf)
        for backend, code in (("flipping", 1), ("honest", 0)):
            done = command(backend, PYTHONUNBUFFERED="1")
            assert (done.returncode, done.stderr) == (code, "")
    os.close(write)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(tmp_path: Path, site: Path, command: Any, closed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": python_path(site, SUPPORT)}
    for backend, code in (("honest", 0), ("flipping", 1)):
        words = f"verify ../net.strop --data ../data.npz --backends {backend} --json r.json {closed}"
        shell = f"{sys.executable} -m strop {words}"
        done = subprocess.run(shell, shell=True, capture_output=True, timeout=300, env=environment, check=False)
        assert done.returncode == code
        assert done.stderr == b""
        assert json.loads(Path("r.json").read_text())["passed"] is (code == 0)
    assert [path.name for path in Path.cwd().iterdir()] == ["r.json"]


def test_simulators_find_nothing_on_standard_input(command: Any) -> None:
    assert command("reading", "--processes").returncode == 0


def test_what_is_printed_before_the_first_answer_is_not_taken_for_it(tmp_path: Path, site: Path, command: Any) -> None:
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "sitecustomize.py").write_text("print('good morning', flush=True)\n")
    done = command("honest", "--processes", PYTHONPATH=python_path(tmp_path / "custom", site, SUPPORT))
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("installed")
def test_what_a_simulator_started_ends_with_it() -> None:
    def others() -> set[int]:
        return {own.pid for own in psutil.process_iter(["cmdline"]) if "time.sleep(97)" in str(own.info["cmdline"])}

    before = others()
    with pytest.raises(BackendError, match="too late"):
        strop.verify(GRAPH, FRAMES, backends=["late", "starting"], processes=True)
    for _ in range(100):
        if others() <= before:
            break
        time.sleep(0.05)
    assert others() <= before


@pytest.mark.usefixtures("installed")
def test_a_demo_leaves_no_backend_out_whose_process_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trained:
        model, x_test, y_test = GRAPH, FRAMES, None

    monkeypatch.setattr(recipe_runs, "may_run_side_by_side", lambda: True)
    with pytest.raises(ProcessError, match=r"crashing: .* \(exit code -11\)"):
        recipe_runs._verify_where_possible(Trained, ["honest", "crashing"], evidence=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_a_simulator_that_writes_until_the_end_leaves_no_files(
    command: Any, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path(site, SUPPORT))

    def writes(pid: int) -> bool:
        return any(next(folder.iterdir(), None) for folder in Path("/tmp").glob(f"strop-of-{pid}-*"))

    words = ["verify", "../net.strop", "--data", "../data.npz", "--backends", "littering", "--processes"]
    found = interrupt(words, Path.cwd(), 1.0, signal.SIGINT, writes)
    assert found.wrong(set()) == ""
    assert not list(Path("/tmp").glob(f"strop-of-{found.pid}-*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_a_process_whose_parent_is_killed_ends_and_takes_its_folder_along(site: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\nfrom strop.running.side_by_side import SimulatorProcesses\n"
        "with SimulatorProcesses('honest') as own:\n    print(own._runners['honest']._process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": python_path(site, SUPPORT)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        folders = list(Path("/tmp").glob(f"strop-of-{parent.pid}-*"))
        assert len(folders) == 1
        parent.kill()
    for _ in range(400):
        if not psutil.pid_exists(child) and not folders[0].exists():
            break
        time.sleep(0.05)
    assert not psutil.pid_exists(child)
    assert not folders[0].exists()


def test_closing_says_what_the_backend_says(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ProcessRunner("reference")
    own.prepare(GRAPH, {})
    own._process.kill()
    with pytest.raises(ProcessError, match="ended in the middle"):
        own.close()
    own.close()


def test_a_name_is_one_name() -> None:
    assert SimulatorProcesses("brian2").names == ["brian2"]


def test_modules_are_looked_for_where_this_process_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [tmp_path, None, "", *sys.path])
    own = ProcessRunner("reference")
    own.prepare(GRAPH, {})
    assert own.version == ReferenceBackend.version()
    assert isinstance(GRAPH, Graph)
    own.close()
