"""Template: `write_pynn` and `write_spinnaker` in `../export.py` copy this file as it is into a folder.

SpiNNaker for `run.py`, on a board or, with `--virtual`, on one that is not there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import processes


def labelled(name: str, copy: int) -> str:
    """Return the label of a population in one copy of the network."""
    return f"{name}@{copy}" if copy else name


class SpiNNaker:
    """SpiNNaker through sPyNNaker: input decides in the tick in which it arrives, V >= V_thresh, in fixed
    point.

    Weights have 16 bits: steps of 2^(shift - 15), each population with a shift for excitatory and one for
    inhibitory synapses. `network.json` may hold, for each population, the sums that the shifts are chosen
    for, and a factor for its weights, bias and threshold.
    """

    timestep = 1.0
    ticks_per_step = 1
    latency = 0
    first_tick = 1

    def __init__(self, arguments: argparse.Namespace, network: dict[str, Any]) -> None:
        import pyNN.spiNNaker as sim

        self.sim = sim
        self.processes = processes.join("SpiNNaker's host", 1, "Start it once", SystemExit)
        self.scaling = {
            labelled(name, copy): scaling
            for name, scaling in network.get("scaling", {}).items()
            for copy in range(arguments.copies)
        }
        if arguments.spread > 1 and not self.scaling:
            # Where delays differ, sPyNNaker makes ring buffers for a Poisson process: a frame would saturate them.
            sys.exit("--spread needs the scaling that `strop export --target spinnaker` writes to network.json")
        home = os.environ.get("HOME", "")
        if arguments.virtual and not (Path(home) / ".spynnaker.cfg").exists():
            # sPyNNaker needs a configuration in the home folder; for a virtual board an empty one is enough.
            folder = tempfile.mkdtemp()
            (Path(folder) / ".spynnaker.cfg").write_text("[Machine]\n", encoding="utf-8")
            os.environ["HOME"] = folder
        sim.setup(timestep=self.timestep, min_delay=self.timestep)
        os.environ["HOME"] = home
        if arguments.virtual:
            configuration = import_module("spinn_utilities.config_holder")
            configuration.set_config("Machine", "virtual_board", "True")
            configuration.set_config("Machine", "version", "5")
        if arguments.neurons_per_core:
            sim.set_number_of_neurons_per_core(sim.extra_models.IFCurDelta, arguments.neurons_per_core)

    def factor(self, name: str) -> float:
        return float(self.scaling.get(name, {}).get("factor", 1.0))

    def neurons(self, name: str, threshold: Any, bias: Any) -> Any:
        # exp(-dt / tau_m) is 0 in s16.15, and the resistance tau_m / cm is 1: nothing is left over, V is the input.
        tau, factor = self.timestep / 16, self.factor(name)
        cell = self.sim.extra_models.IFCurDelta(
            tau_m=tau, cm=tau, v_rest=0.0, v_reset=0.0, v_thresh=(threshold * factor).tolist(),
            tau_refrac=0.0, i_offset=(bias * factor).tolist(),
        )  # fmt: skip
        sums = self.scaling.get(name, {}).get("max_expected_summed_weight")
        more = {"max_expected_summed_weight": sums} if sums else None
        return self.sim.Population(
            len(threshold), cell, label=name, initial_values={"v": 0.0}, additional_parameters=more
        )

    def standing(self, threshold: Any, bias: Any) -> Any:
        return np.zeros_like(bias)  # the bias is an offset current

    def connect(self, source: Any, target: Any, pre: Any, post: Any, weight: Any, ticks: int) -> None:
        for chosen, receptor in ((weight > 0, "excitatory"), (weight < 0, "inhibitory")):
            if chosen.any():
                delay = np.broadcast_to(ticks * self.timestep, chosen.shape)[chosen]
                scaled = weight[chosen] * self.factor(target.label)
                table = np.column_stack([pre[chosen], post[chosen], scaled, delay])
                connector = self.sim.FromListConnector(table, column_names=("weight", "delay"))
                self.sim.Projection(source, target, connector, self.sim.StaticSynapse(), receptor_type=receptor)

    def drive(self, population: Any, threshold: Any, bias: Any, values: Any, ticks: Any, spread: int) -> None:
        sys.exit("this network is driven by values, SpiNNaker's cells take spikes: export it with another encoding")
