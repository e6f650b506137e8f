"""`Processes`: the processes that simulate one network together, each with its own part of the cells (MPI).

`strop_backends.pynn.export` copies this file as it is into standalone folders, so it imports nothing of strop's.

PyNN deals cells out: the one with id i belongs to process i modulo their number on NEURON, NEST does the same with its
virtual processes. Every process runs the same script and makes the same calls. PyNN gathers recordings as pickled Neo
blocks, one object for each cell (`pyNN/recording/__init__.py`, `gather_blocks`, PyNN 0.13); here each process hands
over arrays.

NEURON 9 joins MPI while it is imported, if mpi4py has joined it before and libmpi is found: in the global scope of the
loader, as `libmpi.so` on its path, or at MPI_LIB_NRN_PATH (`src/nrnpython/inithoc.cpp`, `PyInit_hoc`;
`src/nrnmpi/nrnmpi_dynam.cpp`, `nrnmpi_load`). Where none is found it says nothing, and counts one process. mpi4py opens
its libmpi in a scope of its own, and the loader does not look into Python's folders, where the wheel of Open MPI is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# How many processes there are, as launchers tell each of them: Open MPI; MPICH, Intel MPI, and Slurm with PMI; Slurm
# with PMIx.
_COUNTS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_SLURM = ("PMIX_RANK", "SLURM_STEP_NUM_TASKS")
# "0": the processes have nothing to do with each other, `mpirun` only starts them.
SWITCH = "STROP_MPI"
ON_PURPOSE = f"or set {SWITCH}=0 if each rank shall run a network by itself"
# Where NEURON looks for libmpi.
_LIBRARY = "MPI_LIB_NRN_PATH"


def launched() -> int:
    """Return how many processes `mpirun` (`mpiexec`, `srun`) started; 1 without it, and where STROP_MPI is 0."""
    if os.environ.get(SWITCH) == "0":
        return 1
    found = [os.environ.get(name, "") for name in _COUNTS]
    if _SLURM[0] in os.environ:
        found.append(os.environ.get(_SLURM[1], ""))
    return max((int(text) for text in found if text.isdigit()), default=1)


def join(simulator: str, counted: int, advice: str, failure: type[BaseException] = RuntimeError) -> Processes:
    """Return the processes that simulate together.

    Parameters
    ----------
    simulator : str
        Its name, for messages.
    counted : int
        How many processes it counts.
    advice : str
        Why it could count one where `mpirun` started several, and what to do.
    failure : type of exception
        What is raised.

    Raises
    ------
    failure
        If `mpirun` started several and the simulator counts one, or mpi4py is missing.
    """
    started = launched()
    if counted == 1 and started == 1:
        return Processes(None, failure)
    if counted == 1:
        raise failure(
            f"mpirun started {started} processes and {simulator} counts one: every rank would run the whole network. "
            f"{advice}"
        )
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise failure(
            f"{simulator} runs in {counted} processes, and mpi4py, which gathers spikes, cannot be imported "
            f"({error}): pip install mpi4py"
        ) from error
    _end_all_where_one_fails(MPI.COMM_WORLD)
    return Processes(MPI.COMM_WORLD, failure)


def _end_all_where_one_fails(communicator: Any) -> None:
    """Let an exception that nobody catches end all processes: the others would wait forever, and so would this one."""
    shown = sys.excepthook
    if getattr(shown, "ends_all", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        shown(kind, error, trace)
        sys.stderr.flush()
        communicator.Abort(1)

    hook.ends_all = True  # type: ignore[attr-defined]  # a mark on a function
    sys.excepthook = hook


# NEST 3.10 without MPI ends the process in which it is imported, if `mpirun` started it (`nestkernel/mpi_manager.cpp`).
NEST_WITHOUT_MPI = "This NEST was built without MPI, as pip's is; conda-forge has one with it"


def nest_has_mpi() -> bool:
    """Whether the NEST that is installed was built with MPI; asked in a process that `mpirun` did not start."""
    launchers = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "MPI_LOCAL", "SLURM_")
    alone = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    command = [sys.executable, "-c", "import nest; print('have_mpi', nest.build_info['have_mpi'])"]
    said = subprocess.run(command, env=alone, capture_output=True, text=True, check=False).stdout
    return "have_mpi True" in said


class Processes:
    """One process, or the ranks of MPI. All its methods must be called by all of them, in the same order.

    Attributes
    ----------
    size, rank : int
        How many there are, and which is this one.
    share : float
        Which share of the cells lies in the memory of this machine.
    """

    def __init__(self, communicator: Any, failure: type[BaseException] = RuntimeError) -> None:
        self._communicator, self._failure = communicator, failure
        self.size, self.rank, self.share = 1, 0, 1.0
        if communicator is not None:
            from mpi4py import MPI

            self.size, self.rank = int(communicator.size), int(communicator.rank)
            self.share = communicator.Split_type(MPI.COMM_TYPE_SHARED).size / self.size

    def everyone(self, value: Any) -> list[Any]:
        """Return the (small) value of each process."""
        return [value] if self._communicator is None else list(self._communicator.allgather(value))

    def joined(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the arrays of all processes, one after the other; one-dimensional, of the same kind."""
        if self._communicator is None:
            return values
        values = np.ascontiguousarray(values)
        counts = self.everyone(len(values))
        found = np.empty(sum(counts), dtype=values.dtype)
        self._communicator.Allgatherv(values, (found, counts))
        return found

    def spikes(self, population: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return neuron and time (ms) of each spike that PyNN has recorded of `population`, those of all processes."""
        neurons, times = own_spikes(population, self.size > 1)
        return self.joined(neurons), self.joined(times)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """If one process fails inside, let all fail, with the first's message; else they would wait for it forever.

        Nothing inside may wait for other processes.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        said = self.everyone(None if failed is None else f"{failed}")
        if failed is not None:
            raise failed
        for rank, message in enumerate(said):
            if message is not None:
                raise self._failure(f"process {rank} of {self.size} failed: {message}")

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """End all processes if one fails inside; else the others would wait for it forever."""
        try:
            yield
        except BaseException:
            if self.size > 1:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                self._communicator.Abort(1)
            raise


def own_spikes(population: Any, several: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return neuron and time (ms) of each spike that PyNN has recorded in this process, one of several or the only."""
    if several and not population._mask_local.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    data = population.get_data("spikes", gather=False) if several else population.get_data("spikes")
    trains = data.segments[-1].spiketrains
    times = [np.asarray(train.rescale("ms").magnitude, dtype=np.float64) for train in trains]
    cells = np.array([train.annotations.get("source_index", n) for n, train in enumerate(trains)], dtype=np.int64)
    return np.repeat(cells, [len(part) for part in times]), np.concatenate([np.zeros(0), *times])


def prepare_neuron() -> None:
    """Let NEURON join MPI when it is imported, where `mpirun` started several processes; see the module's docstring.

    Also compile PyNN's mechanisms once, where that has not been done: PyNN would in each process, into one folder.
    """
    if os.environ.get(SWITCH) == "0":
        os.environ.setdefault("NEURON_INIT_MPI", "0")  # NEURON's own switch
    if launched() == 1 or "neuron" in sys.modules:
        return
    try:
        from mpi4py import MPI
    except ImportError:
        return  # `join` says so
    path = library()
    if path is not None:
        os.environ.setdefault(_LIBRARY, path)
    neighbours = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    if neighbours.rank == 0:
        _compile_mechanisms()
    neighbours.Barrier()


def library() -> str | None:
    """Return the path of the libmpi that mpi4py has loaded, on Linux; None where it is not known."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    files = [line.split(maxsplit=5)[-1] for line in lines]
    return next((file for file in files if Path(file).name.startswith(("libmpi.so", "libmpich.so"))), None)


def _compile_mechanisms() -> None:
    found = find_spec("pyNN")
    for folder in found.submodule_search_locations or () if found is not None else ():
        nmodl = Path(folder) / "neuron" / "nmodl"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = shutil.which("nrnivmodl", path=path)
        if nmodl.is_dir() and not list(nmodl.glob("*/*nrnmech*")) and command is not None:
            # Of a failure PyNN tells when it is imported.
            subprocess.run([command], cwd=nmodl, capture_output=True, check=False)


def neuron_advice() -> str:
    """Return what may keep NEURON from joining MPI, and what to do."""
    if find_spec("mpi4py") is None:
        return f"Install mpi4py (pip install mpi4py), with which NEURON joins them; {ON_PURPOSE}"
    from mpi4py import MPI  # noqa: F401  # loads the library

    path = library()
    where = f"{_LIBRARY}={path}" if path is not None else f"{_LIBRARY} to the path of libmpi"
    return (
        "NEURON joins MPI while it is imported, if it finds libmpi then: set "
        f"{where} (mpirun -x {_LIBRARY}=...), or let strop import it (strop.build(graph, 'pynn-neuron')); {ON_PURPOSE}"
    )
