"""Template: `write_pynn` and `write_spinnaker` in `../export.py` copy this file as it is into a folder.

NEURON for `run.py`, in one process or in several: `mpirun -n 4 python run.py neuron`.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import processes


class Neuron:
    """NEURON: no delta cell, but a current that lasts one tick, and a membrane that forgets in the next.

    With `tau_syn = dt / 1024` a current is multiplied by exp(-1024), which is 0, from one tick to the next. The
    membrane's backward Euler step makes of it a peak of `I dt / (cm (1 + dt / tau_m))`, 2^-20 mV for 1 nA here; a
    2^-80th of that is left when the next frame enters, four ticks later. A neuron fires when it crosses its threshold,
    so at rest it must be below: thresholds that are not positive are lifted; that and the bias come as a spike.
    """

    timestep = 0.1
    ticks_per_step = 4
    latency = 1
    first_tick = 1
    # Membrane time constants in a tick; the peak for a weight of 1; subtracted from thresholds, relative to them: more
    # than what is rounded on the way to the membrane.
    leak, peak, resolution = 2.0**20, 2.0**-20, 2.0**-44

    def __init__(self, arguments: argparse.Namespace, network: dict[str, Any]) -> None:
        os.environ.setdefault("NEURON_MODULE_OPTIONS", "-nogui")
        # PyNN looks for nrnivmodl, which compiles its mechanisms, on the PATH.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        warnings.filterwarnings("ignore", message="mpi4py not available")
        processes.prepare_neuron()
        import pyNN.neuron as sim

        self.sim = sim
        self.played: list[Any] = []
        context = sim.simulator.state.parallel_context
        advice = processes.neuron_advice if processes.launched() > 1 else str
        self.processes = processes.join("NEURON", int(context.nhost()), advice(), SystemExit)
        # Compressed, as PyNN has it, a process sends at most 65,535 spikes at once, or NEURON stops.
        context.spike_compress(0)
        longest = max((p["delay"] for p in network["projections"]), default=1) * self.ticks_per_step
        sim.setup(timestep=self.timestep, min_delay=self.timestep, max_delay=longest * self.timestep)

    def lift(self, threshold: Any) -> Any:
        """Return what makes thresholds positive."""
        size = np.where(threshold == 0, 0.5, np.abs(threshold))
        return np.where(threshold > 0, 0.0, np.ldexp(1.0, np.frexp(size)[1]))

    def lowered(self, threshold: Any) -> Any:
        """Return the lifted thresholds, lowered by more than what is rounded on the way to the membrane; above 0."""
        raised = threshold + self.lift(threshold)
        part = np.minimum(self.resolution * np.abs(threshold), raised / 2)
        return raised - np.maximum(self.resolution * raised, part)

    def neurons(self, name: str, threshold: Any, bias: Any) -> Any:
        dt = self.timestep
        cell = self.sim.IF_curr_exp(
            cm=dt / (self.peak * (1.0 + self.leak)), tau_m=dt / self.leak, v_rest=0.0, v_reset=0.0,
            v_thresh=self.lowered(threshold) * self.peak, tau_refrac=dt,
            tau_syn_E=dt / 1024, tau_syn_I=dt / 1024, i_offset=0.0,
        )  # fmt: skip
        return self.sim.Population(len(threshold), cell, initial_values={"v": 0.0}, label=name)

    def standing(self, threshold: Any, bias: Any) -> Any:
        return bias + self.lift(threshold)

    def connect(self, source: Any, target: Any, pre: Any, post: Any, weight: Any, ticks: int) -> None:
        # A process has the synapses that end at its cells.
        ours = target._mask_local[post]
        delay = ticks * self.timestep
        table = np.column_stack([pre[ours], post[ours], weight[ours], np.full(int(ours.sum()), delay)])
        connector = self.sim.FromListConnector(table, column_names=("weight", "delay"), safe=False)
        synapse = self.sim.StaticSynapse(weight=0.0, delay=delay)
        self.sim.Projection(source, target, connector, synapse, receptor_type="excitatory")

    def drive(self, population: Any, threshold: Any, bias: Any, values: Any, ticks: Any, spread: int) -> None:
        # A clamp in each cell, on from the tick before the one in which the value counts, off after it.
        h = self.sim.simulator.h
        currents = np.zeros((values.shape[1], 2 * len(ticks)))
        given = values + bias
        currents[:, ::2] = (given + self.lift(threshold) + self.resolution / 2 * np.abs(given)).T
        start = ticks - self.latency
        times = h.Vector(np.stack([start, start + 1], axis=1).reshape(-1) * self.timestep)
        for cell, current in zip(population.local_cells, currents[population._mask_local], strict=True):
            clamp, amplitude = h.IClamp(0.5, sec=cell._cell), h.Vector(current)
            clamp.delay, clamp.dur, clamp.amp = 0.0, 1e12, 0.0
            amplitude.play(clamp._ref_amp, times)
            self.played.append((clamp, amplitude, times))
