"""`inspect_mapping`: maps a graph on a virtual SpiNNaker board; `SpinnakerMapping` holds cores, memory and load."""

from __future__ import annotations

import atexit
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.encode import Frames, as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend
from strop_backends.pynn.network import PyNNNetwork
from strop_backends.pynn.spinnaker.dialect import available_configuration
from strop_backends.pynn.spinnaker.fixed_point import Scaling

Spikes = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class MappedPopulation:
    """One population of a `SpinnakerMapping`.

    Attributes
    ----------
    name : str
    units, cores : int
    sdram : int
        Bytes, on all its cores.
    shifts : tuple of int or None
        Ring-buffer shifts, excitatory and inhibitory; None for a source.
    fan_in : int
        Most synapses that end at one core.
    spikes_per_tick : float or None
        Spikes that reach the busiest core in the busiest tick of the frames given, and
    events_per_tick : float or None
        the synaptic events that they make there.
    """

    name: str
    units: int
    cores: int
    sdram: int
    shifts: tuple[int, int] | None
    fan_in: int
    spikes_per_tick: float | None
    events_per_tick: float | None


@dataclass(frozen=True)
class SpinnakerMapping:
    """How sPyNNaker mapped a graph on a virtual board.

    Attributes
    ----------
    version : str
    boards, chips, cores : int
        That hold a part of the network (delay stages included).
    system_cores : int
        That sPyNNaker needs besides.
    sdram : int
        Bytes of all populations.
    populations : tuple of MappedPopulation
    warnings : tuple of str
        sPyNNaker's own.
    """

    version: str
    boards: int
    chips: int
    cores: int
    system_cores: int
    sdram: int
    populations: tuple[MappedPopulation, ...]
    warnings: tuple[str, ...]

    @property
    def scaling(self) -> dict[str, Scaling]:
        """The ring-buffer shifts that sPyNNaker chose, for `fixed_point_report`."""
        return {p.name: Scaling(*p.shifts) for p in self.populations if p.shifts is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "version": self.version,
            "boards": self.boards,
            "chips": self.chips,
            "cores": self.cores,
            "system_cores": self.system_cores,
            "sdram": self.sdram,
            "populations": [
                {**vars(p), "shifts": None if p.shifts is None else list(p.shifts)} for p in self.populations
            ],
            "warnings": list(self.warnings),
        }


def inspect_mapping(graph: Graph, frames: Frames | None = None, **options: Any) -> SpinnakerMapping:
    """Map `graph` with sPyNNaker on a virtual board, and report the resources that it takes.

    Parameters
    ----------
    frames : array, shape (n, *input_shape), optional
        To find the busiest core's spikes and events per tick.
    options
        For `SpinnakerDialect.setup`: board, neurons_per_core, time_scale_factor, scaling.

    Raises
    ------
    BackendMissingError
        If sPyNNaker is not installed.
    BackendError
        If it cannot map the graph.
    """
    # By name: the class is in the package that imports this module.
    backend: Any = get_backend("pynn-spinnaker")
    backend.check(graph)
    backend.check_options(options)
    spikes: dict[str, npt.NDArray[np.bool_]] | None = None
    if frames is not None:
        signals = encode(graph, as_frames(graph, frames))
        spikes = {**signals, **evaluate(graph, signals)}
    return map_virtually(graph, spikes, backend.version(), options)


class _Warnings(logging.Handler):
    """Keeps sPyNNaker's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        text = record.getMessage()
        if text not in self.messages:
            self.messages.append(text)


@lru_cache
def _report_folder() -> str:
    folder = tempfile.mkdtemp(prefix="strop-spinnaker-")
    # sPyNNaker writes a last file there when Python ends. What is registered before its own hook is called
    # after it.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _temporary_folder() -> Iterator[None]:
    """Work in a temporary folder: sPyNNaker writes its reports to the current one."""
    before = os.getcwd()
    os.chdir(_report_folder())
    try:
        yield
    finally:
        os.chdir(before)


def map_virtually(graph: Graph, spikes: Spikes | None, version: str, options: Mapping[str, Any]) -> SpinnakerMapping:
    """Build `graph`, map it, and read the mapping; see `strop_backends.pynn.spinnaker.mapping.inspect_mapping`."""
    warned = _Warnings()
    logging.getLogger().addHandler(warned)
    try:
        # sPyNNaker reports every stage of the mapping; its warnings are kept above.
        silence = io.StringIO()
        with _temporary_folder(), available_configuration(), redirect_stdout(silence), redirect_stderr(silence):
            network = PyNNNetwork(graph, "pyNN.spiNNaker", virtual=True, **options)
            sim = network.sim
            try:
                # A run of a few ticks without input: mapping does not depend on input spikes.
                sim.run(4.0 * network.dialect.dt)
                return _read(graph, network, spikes, version, tuple(warned.messages))
            finally:
                sim.end()
    except StropError:
        raise
    except Exception as error:
        raise BackendError(f"sPyNNaker could not map {graph.name!r}: {type(error).__name__}: {error}") from error
    finally:
        logging.getLogger().removeHandler(warned)


def _read(
    graph: Graph, network: PyNNNetwork, spikes: Spikes | None, version: str, warnings: tuple[str, ...]
) -> SpinnakerMapping:
    view = import_module("spynnaker.pyNN.data").SpynnakerDataView
    machine = view.get_machine()
    # The name is sPyNNaker's (`pacman/data/pacman_data_view.py`).
    placements = list(view.iterate_placemements())
    # Every chip of every board has a core that sPyNNaker itself needs.
    ours = [p for p in placements if p.vertex.app_vertex is not None]
    chips = {(p.x, p.y) for p in ours}
    boards = {(machine[xy].nearest_ethernet_x, machine[xy].nearest_ethernet_y) for xy in chips}
    populations = []
    for name, population in network.populations.items():
        vertex = population._vertex
        cores = list(vertex.machine_vertices)
        sdram = sum(int(core.sdram_required.get_total_sdram(4)) for core in cores)
        shifts = tuple(int(s) for s in vertex.get_ring_buffer_shifts()) if name not in network.played else None
        slices = sorted({(core.vertex_slice.lo_atom, core.vertex_slice.hi_atom + 1) for core in cores})
        fan_in, busiest = _load(graph, network, name, slices, spikes)
        populations.append(
            MappedPopulation(
                name,
                int(population.size),
                len(cores),
                sdram,
                None if shifts is None else (shifts[0], shifts[1]),
                fan_in,
                None if spikes is None else busiest[0],
                None if spikes is None else busiest[1],
            )
        )
    total = sum(p.sdram for p in populations)
    system = len(placements) - len(ours)
    return SpinnakerMapping(version, len(boards), len(chips), len(ours), system, total, tuple(populations), warnings)


def _load(
    graph: Graph, network: PyNNNetwork, name: str, slices: list[tuple[int, int]], spikes: Spikes | None
) -> tuple[int, tuple[float, float]]:
    """Return the most synapses on a core, and the most spikes and events that arrive at one in a tick."""
    if name in network.played:
        return 0, (0.0, 0.0)
    synapses = np.zeros(len(slices), dtype=np.int64)
    arriving: Any = 0.0
    events: Any = 0.0
    edges = np.array([start for start, _ in slices[1:]])
    for p in graph.incoming(name):
        if p.source not in network.populations:
            continue
        pre, post, _ = p.operator.to_coo()
        core = np.searchsorted(edges, post, side="right")
        synapses += np.bincount(core, minlength=len(slices))
        if spikes is None:
            continue
        # Synapses of each source neuron on each core.
        shape = (len(slices), p.operator.size_in)
        counts = csr_array((np.ones(len(pre)), (core, pre)), shape=shape)
        flat = spikes[p.source].reshape(len(spikes[p.source]), -1).T.astype(np.float64)
        # A tick for each phase of a frame whose spikes are spread.
        spread = network.dialect.spread
        phases = [np.where(np.arange(len(flat))[:, None] % spread == n, flat, 0.0) for n in range(spread)]
        waves = np.concatenate(phases, axis=1)
        events = events + counts @ waves
        counts.data[:] = 1.0
        arriving = arriving + counts @ waves
    most = (float(np.max(arriving)), float(np.max(events)))
    return int(synapses.max()), most
