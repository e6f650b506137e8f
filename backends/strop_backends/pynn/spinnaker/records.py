"""`SpinnakerMapping`: what a network takes on a SpiNNaker board, as `mapping` beside this module finds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from strop_backends.pynn.spinnaker.fixed_point import Scaling
from strop_backends.pynn.spinnaker.load import CYCLES_PER_US, LINK_PACKETS_PER_US

# Lengths of a tick in real time for which a mapping says how many frames a second there are, in microseconds.
TICKS_US = (1000, 100)


@dataclass(frozen=True)
class MappedPopulation:
    """One population of a `SpinnakerMapping`, in one copy of the network.

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
    cycles_per_tick : float or None
        Cycles that the busiest core takes for its busiest tick; see `strop_backends.pynn.spinnaker.load`.
    """

    name: str
    units: int
    cores: int
    sdram: int
    shifts: tuple[int, int] | None
    fan_in: int
    spikes_per_tick: float | None
    events_per_tick: float | None
    cycles_per_tick: float | None


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
        sPyNNaker's own, and of more packets in a tick than can wait for a core.
    copies : int
        Copies of the network side by side; `boards` to `sdram` are those of all.
    board_cores : int
        Cores of the boards that can be had, sPyNNaker's own among them.
    router_entries : int
        Most entries of a chip's routing table, before sPyNNaker compresses them.
    link_packets_per_tick : float or None
        Packets on the busiest link between two chips in the busiest tick of the frames given.
    spread : int
        Ticks that a frame takes.
    limit : str
        Why a board holds no more copies, where it was filled; else empty.
    """

    version: str
    boards: int
    chips: int
    cores: int
    system_cores: int
    sdram: int
    populations: tuple[MappedPopulation, ...]
    warnings: tuple[str, ...]
    copies: int = 1
    board_cores: int = 0
    router_entries: int = 0
    link_packets_per_tick: float | None = None
    spread: int = 1
    limit: str = ""

    @property
    def tick_us(self) -> float | None:
        """How long the busiest tick takes in microseconds, of the busiest core or link; None without frames."""
        if self.link_packets_per_tick is None:
            return None
        return max(self._core_us, self.link_packets_per_tick / LINK_PACKETS_PER_US)

    @property
    def _core_us(self) -> float:
        return max(p.cycles_per_tick or 0.0 for p in self.populations) / CYCLES_PER_US

    @property
    def tick_limit(self) -> str:
        """What the busiest tick waits for; empty without frames."""
        if self.tick_us is None:
            return ""
        if self.tick_us > self._core_us:
            return "a link between two chips"
        return f"a core of {max(self.populations, key=lambda p: p.cycles_per_tick or 0.0).name}"

    def throughput(self, tick_us: int) -> dict[str, Any]:
        """Return how many frames a second all copies take, for a time step of `tick_us` microseconds.

        Returns
        -------
        dict
            "tick_us"; "time_scale_factor", how many times as long a tick must last in real time for what the frames
            bring (1 without frames); "frames_per_second", with that factor.
        """
        factor = max(1, math.ceil((self.tick_us or 0.0) / tick_us))
        rate = self.copies * 1e6 / (tick_us * factor * self.spread)
        return {"tick_us": tick_us, "time_scale_factor": factor, "frames_per_second": rate}

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
            "copies": self.copies,
            "copies_limited_by": self.limit or None,
            "board_cores": self.board_cores,
            "router_entries": self.router_entries,
            "link_packets_per_tick": self.link_packets_per_tick,
            "tick_takes_us": self.tick_us,
            "tick_limited_by": self.tick_limit or None,
            "throughput": [self.throughput(tick) for tick in TICKS_US],
            "populations": [
                {**vars(p), "shifts": None if p.shifts is None else list(p.shifts)} for p in self.populations
            ],
            "warnings": list(self.warnings),
        }
