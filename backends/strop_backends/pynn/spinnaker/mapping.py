"""`inspect_mapping`: maps a graph on a virtual SpiNNaker board, and reads cores, memory and load.

A mapping of one copy has sPyNNaker generate the data of every core, too, so that what does not fit there is found. That
takes most of the time; the cores of further copies hold the same, and a mapping of several ends when placed and routed.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.encode import Frames, as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend
from strop_backends.pynn.copies import FILL
from strop_backends.pynn.network import PyNNNetwork
from strop_backends.pynn.spinnaker.dialect import CHIP_SDRAM, available_configuration
from strop_backends.pynn.spinnaker.load import INCOMING_SPIKES, Spikes, core_load, link_packets, router_entries
from strop_backends.pynn.spinnaker.records import MappedPopulation, SpinnakerMapping


def inspect_mapping(graph: Graph, frames: Frames | None = None, **options: Any) -> SpinnakerMapping:
    """Map `graph` with sPyNNaker on a virtual board, and report the resources that it takes.

    Parameters
    ----------
    frames : array, shape (n, *input_shape), optional
        To find the busiest core's spikes and events per tick.
    options
        `copies` (see `strop_backends.pynn.network.PyNNNetwork`), and those for `SpinnakerDialect.setup`: board,
        neurons_per_core, time_scale_factor, scaling.

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
    if options.get("copies") == FILL:
        return fill_board(graph, spikes, backend.version(), options)
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


class _MappedError(Exception):
    """The network has been placed and routed, and nothing else is wanted."""


@contextmanager
def _ending_when_mapped(act: Callable[[], None]) -> Iterator[None]:
    """Have sPyNNaker's `run` call `act` and end when the network is placed and routed, before data are generated."""
    # `__run` calls them in this order (SpiNNFrontEndCommon 7.4.1, `interface/abstract_spinnaker_base.py`).
    base = import_module("spinn_front_end_common.interface.abstract_spinnaker_base").AbstractSpinnakerBase
    own, hook = base._do_write_metadata, sys.excepthook

    def end(simulator: Any) -> None:
        act()
        raise _MappedError

    base._do_write_metadata = end
    try:
        yield
    except _MappedError:
        pass
    finally:
        base._do_write_metadata, sys.excepthook = own, hook


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
            found: list[SpinnakerMapping] = []

            def read() -> None:
                found.append(_read(graph, network, spikes, version, tuple(warned.messages)))

            try:
                # A run of a few ticks without input: mapping does not depend on input spikes.
                if network.copies > 1:
                    with _ending_when_mapped(read):
                        sim.run(4.0 * network.dialect.dt)
                else:
                    sim.run(4.0 * network.dialect.dt)
                    read()
                return found[0]
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
        if name not in graph.depths:
            continue  # of another copy, and the same
        vertex = population._vertex
        cores = list(vertex.machine_vertices)
        slices = sorted({(core.vertex_slice.lo_atom, core.vertex_slice.hi_atom + 1) for core in cores})
        load = core_load(graph, network, name, slices, spikes)
        shifts = tuple(int(s) for s in vertex.get_ring_buffer_shifts()) if name not in network.played else None
        busiest = (load.packets, load.events, load.cycles) if spikes is not None else (None, None, None)
        populations.append(
            MappedPopulation(
                name,
                int(population.size),
                len(cores),
                sum(int(core.sdram_required.get_total_sdram(4)) for core in cores),
                None if shifts is None else (shifts[0], shifts[1]),
                load.fan_in,
                *busiest,
            )
        )
    return SpinnakerMapping(
        version,
        len(boards),
        len(chips),
        len(ours),
        len(placements) - len(ours),
        network.copies * sum(p.sdram for p in populations),
        tuple(populations),
        (*warnings, *(crowded for crowded in map(_crowded, populations) if crowded)),
        network.copies,
        int(machine.total_available_user_cores),
        router_entries(),
        None if spikes is None else link_packets(graph, network, spikes),
        network.dialect.spread,
    )


def _crowded(population: MappedPopulation) -> str:
    """Return a warning where more packets come in a tick than can wait for a core."""
    packets = population.spikes_per_tick or 0.0
    if packets <= INCOMING_SPIKES:
        return ""
    return (
        f"up to {packets:,.0f} packets reach a core of {population.name!r} in a tick, {INCOMING_SPIKES} can wait; "
        "those that come faster than the core works them off are lost. Spread them (spread=K), or raise "
        "incoming_spike_buffer_size in .spynnaker.cfg"
    )


def fill_board(graph: Graph, spikes: Spikes | None, version: str, options: Mapping[str, Any]) -> SpinnakerMapping:
    """Return the mapping of as many copies of `graph` as one board holds; `limit` says why there are no more.

    Cores and SDRAM say how many there could be; sPyNNaker says whether it places and routes them.
    """
    # The board whose version is asked for, and no second one.
    options = {**options, **({"n_boards_required": 1} if options.get("board", 5) == 5 else {})}

    def mapped(copies: int) -> SpinnakerMapping:
        return map_virtually(graph, spikes, version, {**options, "copies": copies})

    best = mapped(1)
    free = best.board_cores - best.system_cores
    chips = {5: 48, 3: 4}[options.get("board", 5)]
    bounds = {
        f"cores: {free:,} of the board are free, a copy takes {best.cores:,}": free // best.cores,
        f"SDRAM: the board has {chips * CHIP_SDRAM:,} bytes, a copy takes {best.sdram:,}": chips
        * CHIP_SDRAM
        // max(1, best.sdram),
    }
    limit = min(bounds, key=lambda reason: bounds[reason])
    # Fewer than `above` copies are still to be tried, more than those of `best`.
    tried, above = bounds[limit], bounds[limit] + 1
    while best.copies < above - 1:
        try:
            best = mapped(tried)
        except BackendError as error:
            above = tried
            limit = f"placing and routing: sPyNNaker does not map {tried:,} copies ({_first_line(error)})"
        tried = (best.copies + above) // 2
    return replace(best, limit=limit)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200]
