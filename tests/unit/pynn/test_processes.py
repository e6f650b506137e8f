"""Where `mpirun` starts several processes and the simulator counts one, each would run the whole network: refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from pynn_graphs import one_layer, require
from pynn_scripts import quietly  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop_backends.pynn.common import processes
from strop_backends.pynn.common.processes import Processes, join, launched

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]

GRAPH = one_layer(np.ones((2, 3)), 0.5)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "STROP_MPI"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3),
        ({"PMI_SIZE": "4"}, 4),
        ({"SLURM_STEP_NUM_TASKS": "5", "PMIX_RANK": "0"}, 5),
        ({"SLURM_STEP_NUM_TASKS": "5"}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "3", "STROP_MPI": "0"}, 1),
        ({"PMI_SIZE": "?"}, 1),
    ],
)
def test_launchers_say_how_many(environment: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == count


@pytest.mark.parametrize("backend", ["pynn-nest", "pynn-brian2", "pynn-neuron"])
def test_a_network_in_every_rank_is_refused(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require(backend)
    strop.build(GRAPH, backend).close()  # imports it before there is a launcher
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    with pytest.raises(
        BackendError, match=f"mpirun started 2 processes and {backend} counts one: every rank would run"
    ):
        strop.build(GRAPH, backend)
    with pytest.raises(
        BackendError, match=f"{backend}: mpirun started 2 processes; verify, predict and simulate run in"
    ):
        strop.simulate(GRAPH, np.ones((2, 2)), backend)
    monkeypatch.setenv("STROP_MPI", "0")
    assert strop.simulate(GRAPH, np.ones((2, 2)), backend).spikes["y"].all()


def test_nest_without_mpi_is_not_imported_under_mpirun(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process."""
    require("pynn-nest")
    from strop_backends.pynn.nest.dialect import NestDialect

    if processes.nest_has_mpi():
        pytest.skip("this NEST has MPI")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.delitem(sys.modules, "nest", raising=False)
    with pytest.raises(BackendError, match="This NEST was built without MPI, as pip's is; conda-forge has one with it"):
        NestDialect.load()


def test_a_simulator_with_mpi_needs_mpi4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(BackendError, match="NEURON runs in 3 processes, and mpi4py, which gathers spikes, cannot be"):
        join("NEURON", 3, "", BackendError)


class Communicator:
    """Three ranks, of which this is the second; the others hand over what they are given here."""

    size, rank = 3, 1

    def __init__(self, others: tuple[Any, Any]) -> None:
        self.others, self.aborted = others, 0

    def Split_type(self, kind: Any) -> Any:
        return self

    def allgather(self, value: Any) -> list[Any]:
        return [self.others[0], value, self.others[1]]

    def Abort(self, code: int) -> None:
        self.aborted = code


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Mpi:
        COMM_TYPE_SHARED = 0

    monkeypatch.setitem(sys.modules, "mpi4py", type(sys)("mpi4py"))
    sys.modules["mpi4py"].MPI = Mpi  # type: ignore[attr-defined]
    return lambda *others: Processes(Communicator(others), BackendError)


def test_failures_of_other_ranks_are_raised_here(three: Any) -> None:
    with three(None, None).agreed():
        pass
    with pytest.raises(BackendError, match="process 2 of 3 failed: no memory"), three(None, "no memory").agreed():
        pass
    with pytest.raises(ZeroDivisionError, match="mine"), three("other", None).agreed():
        raise ZeroDivisionError("mine")


def test_an_exception_aborts_the_others(three: Any, capfd: pytest.CaptureFixture[str]) -> None:
    ranks = three(None, None)
    with pytest.raises(ZeroDivisionError), ranks.ending_together():
        raise ZeroDivisionError("mine")
    assert ranks._communicator.aborted == 1
    assert "ZeroDivisionError: mine" in capfd.readouterr().err


def test_one_process_needs_no_mpi() -> None:
    alone = join("NEURON", 1, "")
    assert (alone.size, alone.rank, alone.share) == (1, 0, 1.0)
    assert alone.everyone("a") == ["a"]
    np.testing.assert_array_equal(alone.joined(np.arange(3)), np.arange(3))
    with pytest.raises(ZeroDivisionError), alone.ending_together(), alone.agreed():
        raise ZeroDivisionError


def test_what_goes_wrong_on_nest_in_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pynn-nest")
    from strop_backends.pynn.nest import cells

    monkeypatch.setattr(cells, "_kernels", set())
    with pytest.raises(BackendError, match="PyNN has no population of one cell in several processes, as 'y' is"):
        cells.refuse_in_processes(one_layer(np.ones((2, 1)), 0.5), "first")
    cells.refuse_in_processes(GRAPH, "first")
    cells.refuse_in_processes(GRAPH, "first")
    with pytest.raises(BackendError, match="start mpirun once for each"):
        cells.refuse_in_processes(GRAPH, "second")
