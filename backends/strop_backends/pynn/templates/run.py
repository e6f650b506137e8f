#!/usr/bin/env python
"""Template: `write_pynn` and `write_spinnaker` in `../export.py` copy this file as it is into a folder, as `run.py`.

It runs a sharpened (Whetstone) network on a PyNN simulator, and compares every spike with what is expected.

    python run.py nest [--threads N] [--limit N]
    python run.py brian2 [--limit N]
    [mpirun -n PROCESSES] python run.py neuron [--limit N]
    python run.py spiNNaker [--virtual] [--limit N] [--spread TICKS] [--neurons-per-core N]

Each takes --copies K: so many copies of the network stand side by side, and frame i goes to copy i % K.

The neurons have no memory: in each step a neuron adds up its bias and the weights of the spikes that arrive, spikes if
the sum is at least its threshold, and forgets. So a new frame can enter in every step: frame n reaches a population of
depth d (the number of layers before it) at step n + d.

Beside this script are
    standalone.py  what the scripts for all simulators share
    on_neuron.py   NEURON
    on_spinnaker.py  SpiNNaker
    processes.py   one network in several processes (MPI)
    network.json   populations and projections
    network.npz    thresholds, biases and synapses (pre, post, weight) of every projection
    frames.npz     input spikes, input values of single neurons, spikes that are expected (for SpiNNaker, in its
                   arithmetic), and labels

It needs PyNN, the simulator and NumPy. It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import processes
import standalone
from on_neuron import Neuron
from on_spinnaker import SpiNNaker, labelled


class Nest:
    """NEST: `iaf_psc_delta` adds its input in the step in which it arrives and spikes if V >= V_th."""

    timestep = 1.0  # ms
    ticks_per_step = 1  # a frame in every tick
    latency = 0  # a neuron spikes in the tick in which its input arrives
    first_tick = 2  # a source is a generator and a relay behind it, and cannot spike earlier

    def __init__(self, arguments: argparse.Namespace, network: dict[str, Any]) -> None:
        # PyNN 0.13 calls NEST 3.10 in ways that NEST warns of each time.
        os.environ.setdefault("PYNEST_QUIET", "1")
        warnings.filterwarnings("ignore", category=UserWarning, module=r"nest\.|pyNN\.")
        logging.getLogger("PyNN").setLevel(logging.ERROR)
        if processes.launched() > 1 and not processes.nest_has_mpi():
            processes.join("NEST", 1, processes.NEST_WITHOUT_MPI, SystemExit)
        import nest
        import pyNN.nest as sim

        self.sim, self.nest = sim, nest
        self.processes = processes.join("NEST", int(nest.num_processes), processes.NEST_WITHOUT_MPI, SystemExit)
        longest = (1 + max((p["delay"] for p in network["projections"]), default=1)) * arguments.spread
        sim.setup(
            timestep=self.timestep, min_delay=self.timestep, max_delay=longest * self.timestep,
            spike_precision="on_grid", threads=arguments.threads, verbosity="error",
        )  # fmt: skip

    def neurons(self, name: str, threshold: Any, bias: Any) -> Any:
        # exp(-dt / tau_m) with tau_m = dt / 1024 is exactly 0: nothing is left over from the step before.
        # With C_m = tau_m the offset current I_e is added as it is.
        tau = 2.0 ** math.floor(math.log2(self.timestep / 1024))
        cell = self.sim.IF_curr_delta(
            cm=tau / 1000, tau_m=tau, v_rest=0.0, v_reset=float(min(threshold.min(), 0.0)) - 1.0,
            v_thresh=float(threshold[0]), tau_refrac=0.0, i_offset=0.0,
        )  # fmt: skip
        population = self.sim.Population(len(threshold), cell, label=name)
        # In NEST's own units: PyNN would convert them, and round.
        values = zip(threshold.tolist(), bias.tolist(), strict=True)
        population.node_collection.set([{"V_th": own[0], "I_e": own[1]} for own in values])
        return population

    def standing(self, threshold: Any, bias: Any) -> Any:
        return np.zeros_like(bias)  # the bias is an offset current

    def connect(self, source: Any, target: Any, pre: Any, post: Any, weight: Any, ticks: int) -> None:
        # PyNN's FromListConnector would take some ten microseconds a synapse; NEST takes arrays of cell ids.
        ids = np.asarray(source.node_collection.tolist())[pre], np.asarray(target.node_collection.tolist())[post]
        delay = np.broadcast_to(ticks * self.timestep, weight.shape)
        # 19 bits number the nodes of a thread that spikes come from (nestkernel/target_data.h); NEST does not check.
        if -(-int(source.all_cells[-1]) // int(self.nest.total_num_virtual_procs)) >= 2**19:
            raise SystemExit(f"NEST would lose spikes of {source.label}: it has too many nodes; give more --threads")
        self.nest.Connect(*ids, "one_to_one", {"synapse_model": "static_synapse", "weight": weight, "delay": delay})

    def drive(self, population: Any, threshold: Any, bias: Any, values: Any, ticks: Any, spread: int) -> None:
        # A generator for each cell. The value of a tick is sent in that tick, arrives a tick later, counts in the next.
        # The bias is an offset current already.
        generators = self.nest.Create("step_current_generator", population.size)
        self.nest.Connect(generators, population.node_collection, "one_to_one", {"delay": self.timestep})
        times = [(ticks - 2 + late) * self.timestep for late in range(spread)]
        generators.set(
            [
                {"amplitude_times": times[neuron % spread], "amplitude_values": column}
                for neuron, column in enumerate(values.T)
            ]
        )


class Brian2:
    """Brian2 through PyNN: input decays once before the threshold, which is strict, and is lost in the tick
    of a spike.

    So a frame enters in every second tick; the decay over one tick is a factor f so small that f * f is 0;
    the threshold is just below f * threshold; and the bias comes as a spike, because a current would act in
    the tick between, too.
    """

    timestep = 0.1
    ticks_per_step = 2
    latency = 1
    first_tick = 1

    def __init__(self, arguments: argparse.Namespace, network: dict[str, Any]) -> None:
        import brian2
        import pyNN.brian2 as sim

        self.sim, self.brian2 = sim, brian2
        self.processes = processes.join("Brian2", 1, "It knows nothing of MPI: start it once", SystemExit)
        # Compiling code for every population takes longer than it saves.
        brian2.prefs.codegen.target = "numpy"
        # Whatever a preference file says.
        brian2.prefs.core.default_float_dtype = np.float64
        brian2.prefs.codegen.loop_invariant_optimisations = True
        brian2.prefs.legacy.refractory_timing = False
        brian2.defaultclock.dt = self.timestep * brian2.ms  # the clock of PyNN's spike sources
        sim.setup(timestep=self.timestep, min_delay=self.timestep)

    def decay(self) -> tuple[float, float]:
        """Return a time constant (s) and its factor over a tick, as close below a power of two as there is
        one."""
        step = self.timestep * 1e-3
        tau = (step / (np.arange(560, 800) * math.log(2)))[:, None] * (1 + np.arange(-8, 9) * 2.0**-52)
        factor = np.exp(-step * 1 / tau)
        best = np.unravel_index(np.argmax(np.frexp(factor)[0]), factor.shape)
        return float(tau[best]), float(factor[best])

    def lift(self, threshold: Any) -> Any:
        """Return what makes thresholds positive: a neuron at rest must not spike in the tick between."""
        size = np.where(threshold == 0, 2.0**-21, np.abs(threshold))
        return np.where(threshold > 0, 0.0, 2.0 ** (np.floor(np.log2(size)) + 1))

    def neurons(self, name: str, threshold: Any, bias: Any) -> Any:
        tau, factor = self.decay()
        cell = self.sim.IF_curr_delta(
            cm=1.0, tau_m=1.0, v_rest=0.0, v_reset=0.0, v_thresh=1.0, tau_refrac=0.0, i_offset=0.0
        )
        population = self.sim.Population(len(threshold), cell, initial_values={"v": 0.0}, label=name)
        group = population.brian2_group
        group.tau_m = tau * self.brian2.second
        group.v_thresh = np.nextafter((threshold + self.lift(threshold)) * factor, -np.inf) * self.brian2.volt
        return population

    def standing(self, threshold: Any, bias: Any) -> Any:
        return bias + self.lift(threshold)

    def connect(self, source: Any, target: Any, pre: Any, post: Any, weight: Any, ticks: int) -> None:
        # An empty projection makes the Synapses object, which takes arrays (weights in volt).
        empty = self.sim.FromListConnector([])
        projection = self.sim.Projection(source, target, empty, self.sim.StaticSynapse(weight=0.0, delay=self.timestep))
        synapses = projection._brian2_synapses[0][0]
        synapses.connect(i=pre, j=post)
        synapses.weight = weight * self.brian2.volt
        synapses.delay = ticks * self.timestep * self.brian2.ms

    def drive(self, population: Any, threshold: Any, bias: Any, values: Any, ticks: Any, spread: int) -> None:
        # Added where a spike's weight would be, in the tick before the one in which the threshold is tested.
        v = population.brian2_group.variables["v"].get_value()
        due = dict(zip((ticks - self.latency).tolist(), (values + bias) + self.lift(threshold), strict=True))
        network = self.sim.simulator.state.network
        tick = network.clock.variables["timestep"].get_value()

        def add() -> None:
            v[:] += due.get(int(tick.item()), 0.0)

        network.add(self.brian2.NetworkOperation(add, clock=network.clock, when="after_synapses"))


SIMULATORS: dict[str, Any] = {"nest": Nest, "brian2": Brian2, "neuron": Neuron, "spiNNaker": SpiNNaker}


def spike_times(simulator: Any, network: dict[str, Any], frames: Any, chosen: slice) -> dict[str, list[Any]]:
    """Return the spike times (ms) of the sources of each population, one array for each source."""
    times = {}
    for entry in network["populations"]:
        if entry["played"]:
            neuron, frame = np.nonzero(frames[f"played:{entry['name']}"][chosen].T)
            tick = simulator.first_tick + (frame + entry["depth"]) * simulator.ticks_per_step
            tick += neuron % simulator.spread
            cuts = np.searchsorted(neuron, np.arange(1, entry["size"]))
            times[entry["name"]] = np.split(tick * simulator.timestep, cuts)
    return times


def sources(simulator: Any, name: str, times: list[Any]) -> Any:
    """Return a population of spike sources."""
    if isinstance(simulator, SpiNNaker):
        sequences = [part.tolist() for part in times]
    else:
        from pyNN.parameters import Sequence

        sequences = [Sequence(part) for part in times]
    # PyNN takes a list of length one for the times of a single source.
    cell = simulator.sim.SpikeSourceArray(spike_times=sequences if len(sequences) > 1 else sequences[0])
    return simulator.sim.Population(len(times), cell, label=name)


def build(simulator: Any, folder: standalone.Folder, chosen: slice, copy: int) -> dict[str, Any]:
    """Return the populations of one copy by name, connected, with the frames of `chosen` as input."""
    network, data, frames = folder.network, folder.data, folder.frames
    times = spike_times(simulator, network, frames, chosen)
    count = len(range(folder.count)[chosen])
    steps = count + network["depth"]
    populations: dict[str, Any] = {}
    standing: dict[str, Any] = {}
    for entry in network["populations"]:
        name = entry["name"]
        if entry["played"]:
            populations[name] = sources(simulator, labelled(name, copy), times[name])
        else:
            threshold, bias = data[f"threshold:{name}"], data[f"bias:{name}"]
            populations[name] = simulator.neurons(labelled(name, copy), threshold, bias)
            populations[name].record("spikes")
            weights = simulator.standing(threshold, bias)
            if entry["driven"]:
                ticks = simulator.first_tick + (np.arange(count) + entry["depth"]) * simulator.ticks_per_step
                values = frames[f"driven:{name}"][chosen]
                simulator.drive(populations[name], threshold, bias, values, ticks, simulator.spread)
            elif weights.any():
                standing[name] = weights
    for p in network["projections"]:
        pre, post, weight = (data[f"{what}:{p['key']}"] for what in ("pre", "post", "weight"))
        ticks = p["delay"] * simulator.ticks_per_step - simulator.latency
        if simulator.spread > 1:
            # Neuron j answers j % spread ticks late: all its input of a frame arrives in that tick.
            ticks = ticks + post % simulator.spread - pre % simulator.spread
        if len(pre):
            simulator.connect(populations[p["source"]], populations[p["target"]], pre, post, weight, ticks)
    if standing:
        # A source that spikes once in each step, for what neurons need besides their input.
        always = [(simulator.first_tick + np.arange(steps) * simulator.ticks_per_step) * simulator.timestep]
        source = sources(simulator, labelled("always-on", copy), always)
        for name, weights in standing.items():
            post = np.flatnonzero(weights)
            ticks = simulator.ticks_per_step - simulator.latency
            simulator.connect(source, populations[name], np.zeros_like(post), post, weights[post], ticks)
    return populations


def recorded(simulator: Any, population: Any, entry: dict[str, Any], count: int) -> Any:
    """Return a population's answer to each frame, bool, shape (count, size)."""
    neurons, times = simulator.processes.spikes(population)
    raster = np.zeros((count, entry["size"]), dtype=bool)
    tick = np.rint(times / simulator.timestep).astype(int) - simulator.first_tick
    step, between = np.divmod(tick, simulator.ticks_per_step)
    frame = step - entry["depth"]
    ours = (frame >= 0) & (frame < count) & (between == neurons % simulator.spread)
    raster[frame[ours], neurons[ours]] = True
    return raster


def main() -> int:
    """Read the command line, set the simulator up, run."""
    parser = standalone.parser()
    parser.add_argument("simulator", choices=sorted(SIMULATORS))
    parser.add_argument("--threads", type=int, default=1, help="for NEST")
    parser.add_argument("--virtual", action="store_true", help="SpiNNaker: map on a board that is not there")
    parser.add_argument("--neurons-per-core", type=int, help="SpiNNaker: fewer spread a wave over more cores")
    parser.add_argument("--copies", type=int, help="copies of the network side by side; frames are dealt out to them")
    parser.add_argument("--spread", type=int, default=1, help="ticks to spread a wave over; a frame takes as many")
    arguments = parser.parse_args()
    if arguments.spread < 1 or (arguments.spread > 1 and arguments.simulator in ("brian2", "neuron")):
        parser.error("--spread must be at least 1, and is for nest and spiNNaker")

    folder = standalone.read(arguments.limit)
    if arguments.copies is None:
        arguments.copies = folder.network.get("copies", 1)
    if arguments.copies < 1:
        parser.error("--copies must be at least 1")
    begin = time.perf_counter()
    simulator = SIMULATORS[arguments.simulator](arguments, folder.network)
    simulator.spread, simulator.ticks_per_step = arguments.spread, simulator.ticks_per_step * arguments.spread
    with simulator.processes.ending_together():
        return run(arguments, folder, simulator, begin)


def run(arguments: argparse.Namespace, folder: standalone.Folder, simulator: Any, begin: float) -> int:
    """Build, run, compare, with a simulator that is set up."""
    network, count, joined = folder.network, folder.count, simulator.processes
    # Frame i goes to copy i % copies, and enters at step i // copies.
    dealt = [slice(copy, count, arguments.copies) for copy in range(arguments.copies)]
    copies = [build(simulator, folder, chosen, copy) for copy, chosen in enumerate(dealt)]
    ticks = simulator.first_tick + (len(range(count)[dealt[0]]) + network["depth"]) * simulator.ticks_per_step
    built = time.perf_counter()
    simulator.sim.run(ticks * simulator.timestep)
    ran = time.perf_counter()
    seconds = f"built in {built - begin:.1f} s, {count} frames in {ran - built:.1f} s"
    ranks = f", {joined.size} processes" if joined.size > 1 else ""
    if joined.rank == 0:
        print(f"{network['name']} on {arguments.simulator}{ranks}: {seconds}")

    if arguments.virtual:
        for population in (population for populations in copies for population in populations.values()):
            cores = len(population._vertex.machine_vertices)
            print(f"{population.label:30s} {population.size:8d} neurons on {cores:4d} cores")
        simulator.sim.end()
        print("mapped on a virtual board: there are no spikes to compare")
        return 0
    answers = {}
    for entry in network["populations"]:
        if not entry["played"]:
            answers[entry["name"]] = np.zeros((count, entry["size"]), dtype=bool)
            for chosen, populations in zip(dealt, copies, strict=True):
                shown = len(range(count)[chosen])
                answers[entry["name"]][chosen] = recorded(simulator, populations[entry["name"]], entry, shown)
    simulator.sim.end()
    # In SpiNNaker's fixed-point arithmetic some spikes differ; the export has calculated them.
    kinds = ("fixed", "expected") if arguments.simulator == "spiNNaker" else ("expected",)
    # All processes have all spikes; the first compares them, for all.
    result = standalone.compare(folder, answers, kinds) if joined.rank == 0 else 0
    return int(joined.everyone(result)[0])


if __name__ == "__main__":
    sys.exit(main())
