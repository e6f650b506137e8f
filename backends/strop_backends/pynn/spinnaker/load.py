"""What a tick of SpiNNaker takes: cycles of a core, packets of a link, and the limits of a board.

From the sources of sPyNNaker 7.4.1 and its parts, and from the program that it loads:

* A core has 200 cycles in a microsecond (`spinn_front_end_common/utilities/constants.py`, `CLOCKS_PER_US`): 200,000 in
  a tick of 1 ms, 20,000 in one of 0.1 ms. Synapses and neurons share them (`c_main.c`: packets interrupt the update).
* A synaptic event is 30 cycles: the 25 instructions of the loop in `process_fixed_synapses` (`synapses.c`), as compiled
  in `IF_curr_delta.aplx` at 0xd10 to 0xd70, with 3 cycles for a branch that is taken, 1 or 2 for a value that is used
  as soon as it is loaded (ARM9E-S). Counted, not timed.
* The update of a neuron that spikes is some 220 cycles, counted in the same way (`neuron_impl_standard.h`, 0x2298 to
  0x267c), a packet some 100 (`multicast_packet_received_callback`) and a row of synapses that it fetches some 350
  (`dma_complete_callback`, `population_table_get_first_address`). A spike fetches a row for each projection that its
  neuron has on the core; excitatory and inhibitory synapses are two. For rows of 50 synapses that makes 5,000 events in
  a millisecond, which is what O. Rhodes et al., "sPyNNaker: A Software Package for Running PyNN Simulations on
  SpiNNaker", Frontiers in Neuroscience 12:816 (2018), found: within a factor of 2 of the 10,000 it was designed for.
* 256 packets wait for a core (`spynnaker.cfg`, `incoming_spike_buffer_size`); those that come while the buffer is full
  are lost, and counted (`in_spikes.h`). What is late counts in the next tick (`drop_late_spikes = False`), that is, for
  another frame: a tick that is too short makes wrong spikes, not slow ones.
* A link carries 250 Mbit/s (E. Painkras et al., "SpiNNaker: A 1-W 18-Core System-on-Chip for Massively-Parallel Neural
  Network Simulation", IEEE Journal of Solid-State Circuits 48 (2013)), a spike is a packet of 40 bits
  (`version_spin1.py`): 6.25 in a microsecond.
* A chip has 1,023 entries of its router's table, and SDRAM of 123,469,792 bytes; a core has 64 kB for its data (DTCM,
  of which ring buffers are 32 kB: `MAX_RING_BUFFER_BITS`) and 32 kB for its program (ITCM) (`version_spin1.py`).
* Input spikes lie in the SDRAM of their sources before the run begins (`reverse_ip_tag_multi_cast_source.py`), so that
  no link to the host is in use while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from strop.graph import Graph
from strop_backends.pynn.copies import deal
from strop_backends.pynn.network import PyNNNetwork

Spikes = Mapping[str, npt.NDArray[np.bool_]]

CYCLES_PER_US = 200
EVENT_CYCLES = 30
ROW_CYCLES = 350
PACKET_CYCLES = 100
NEURON_CYCLES = 220
INCOMING_SPIKES = 256
LINK_PACKETS_PER_US = 6.25


@dataclass(frozen=True)
class CoreLoad:
    """What one tick brings to the busiest core of a population.

    Attributes
    ----------
    fan_in : int
        Most synapses that end at one core.
    packets, rows, events : float
        Most packets that reach a core in a tick, rows of synapses that they fetch, and events that those hold; over the
        frames given, 0 without.
    cycles : float
        Of the core and tick that take longest.
    """

    fan_in: int
    packets: float = 0.0
    rows: float = 0.0
    events: float = 0.0
    cycles: float = 0.0


def core_load(
    graph: Graph, network: PyNNNetwork, name: str, slices: Sequence[tuple[int, int]], spikes: Spikes | None
) -> CoreLoad:
    """Return the load of a population's cores, which hold the neurons of `slices`.

    Parameters
    ----------
    spikes : mapping of node name to bool array, shape (n, *shape), optional
        Of the graph's nodes, for each frame.
    """
    if name in network.played:
        return CoreLoad(0)
    synapses = np.zeros(len(slices), dtype=np.int64)
    packets: Any = 0.0
    rows: Any = 0.0
    events: Any = 0.0
    edges = np.array([start for start, _ in slices[1:]])
    for p in graph.incoming(name):
        if p.source not in network.populations:
            continue
        pre, post, weight = p.operator.to_coo()
        core = np.searchsorted(edges, post, side="right")
        synapses += np.bincount(core, minlength=len(slices))
        if spikes is None:
            continue
        waves = _waves(spikes[p.source], network.dialect.spread)
        # Synapses of each source neuron on each core.
        shape = (len(slices), p.operator.size_in)
        reached = np.zeros(shape, dtype=np.bool_)
        for sign in (weight > 0, weight < 0):
            counts = csr_array((np.ones(int(sign.sum())), (core[sign], pre[sign])), shape=shape)
            events = events + counts @ waves
            there = counts.toarray() > 0
            reached |= there
            rows = rows + there.astype(np.float64) @ waves
        packets = packets + reached.astype(np.float64) @ waves
    if spikes is None:
        return CoreLoad(int(synapses.max()))
    neurons = np.array([stop - start for start, stop in slices])[:, None]
    cycles = EVENT_CYCLES * events + ROW_CYCLES * rows + PACKET_CYCLES * packets + NEURON_CYCLES * neurons
    most = (float(np.max(values)) for values in (packets, rows, events, cycles))
    return CoreLoad(int(synapses.max()), *most)


def _waves(spikes: npt.NDArray[np.bool_], spread: int) -> npt.NDArray[np.float64]:
    """Return the spikes of each neuron in each tick, shape (neurons, n * spread): a tick for each phase of a frame."""
    flat = spikes.reshape(len(spikes), -1).T.astype(np.float64)
    phases = [np.where(np.arange(len(flat))[:, None] % spread == n, flat, 0.0) for n in range(spread)]
    return np.concatenate(phases, axis=1)


def router_entries() -> int:
    """Return the most entries of a chip's routing table, before sPyNNaker compresses them."""
    view = import_module("spynnaker.pyNN.data").SpynnakerDataView
    return int(view.get_uncompressed().get_max_number_of_entries())


def link_packets(graph: Graph, network: PyNNNetwork, spikes: Spikes) -> float:
    """Return the most packets that pass a link between two chips in a tick, in the network that sPyNNaker has mapped.

    Those of delay stages are not among them.

    Parameters
    ----------
    spikes : mapping of node name to bool array, shape (n, *shape)
        Of the graph's nodes, for each frame.
    """
    view = import_module("spynnaker.pyNN.data").SpynnakerDataView
    infos, spread = view.get_routing_infos(), network.dialect.spread
    keys: list[int] = []
    sent: list[npt.NDArray[np.int64]] = []
    ticks = (max(map(len, spikes.values())) + graph.total_depth) * spread
    for name in spikes:
        if name not in network.populations:
            continue
        raster = spikes[name].reshape(len(spikes[name]), -1)
        for own, part in zip(network.of_each_copy(name), deal(raster, network.copies), strict=True):
            for core in network.populations[own]._vertex.machine_vertices:
                lo, hi = core.vertex_slice.lo_atom, core.vertex_slice.hi_atom + 1
                counts = np.zeros(ticks, dtype=np.int64)
                for phase in range(spread):
                    first = graph.depth(name) * spread + phase
                    chosen = part[:, lo:hi][:, np.arange(lo, hi) % spread == phase]
                    counts[first : first + len(part) * spread : spread] = chosen.sum(axis=1)
                for partition in infos.get_partitions_from(core):
                    keys.append(int(infos.get_key_from(core, partition)))
                    sent.append(counts)
    known, packets = np.array(keys, dtype=np.int64), np.array(sent)
    most = 0
    for table in view.get_uncompressed():
        links: dict[int, npt.NDArray[np.bool_]] = {}
        for entry in table.multicast_routing_entries:
            ours = (known & entry.mask) == entry.key
            for link in entry.link_ids:
                links[link] = links.get(link, np.zeros(len(known), dtype=np.bool_)) | ours
        most = max([most, *(int(packets[ours].sum(axis=0).max()) for ours in links.values())])
    return float(most)
