#!/usr/bin/env python
"""Template: `write_nengo` in `../export.py` copies this file as it is into a standalone folder, as `run.py`.

It runs a sharpened (Whetstone) network in Nengo, and compares every spike with what is expected.

    python run.py [--limit N]

The neurons have no memory: in each step a neuron adds up its bias and the weights of the spikes that arrive, spikes if
the sum is at least its threshold, and forgets. Connections have no synapse (no filter), so in Nengo a spike reaches its
target in the same step, and every population answers frame n in step n.

Beside this script are
    standalone.py  what the scripts for all simulators share
    network.json   populations and projections
    network.npz    thresholds, biases and synapses (pre, post, weight) of every projection
    frames.npz     input spikes, spikes that are expected, and labels

It needs Nengo, SciPy and NumPy. It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import nengo
import numpy as np
from nengo.dists import Choice

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import standalone

DT = 0.001


class MemorylessThreshold(nengo.neurons.NeuronType):  # type: ignore[misc]  # Nengo ships no types
    """Neurons that fire in a step iff their input current reaches the threshold; a spike is 1.0 high for every dt."""

    state = {"threshold": Choice([0.5])}  # noqa: RUF012
    negative = False
    spiking = True

    def gain_bias(self, max_rates: Any, intercepts: Any) -> Any:
        return np.ones_like(intercepts), 0.5 - np.asarray(intercepts)

    def max_rates_intercepts(self, gain: Any, bias: Any) -> Any:
        return np.ones_like(gain), (0.5 - bias) / gain

    def step(self, dt: float, J: Any, output: Any, threshold: Any) -> None:
        np.greater_equal(J, threshold, out=output)


def build(folder: standalone.Folder) -> tuple[nengo.Network, dict[str, nengo.Probe]]:
    """Return the network and a probe for each population that is simulated."""
    network, data = folder.network, folder.data
    sources, probes = {}, {}
    with nengo.Network(label=network["name"], seed=0) as model:
        for entry in network["populations"]:
            name, size = entry["name"], entry["size"]
            if entry["played"]:
                spikes = folder.frames[f"played:{name}"][: folder.count].astype(float)
                sources[name] = nengo.Node(nengo.processes.PresentInput(spikes, DT), label=name)
                continue
            ensemble = nengo.Ensemble(
                size,
                dimensions=1,
                encoders=np.ones((size, 1)),
                eval_points=np.zeros((1, 1)),
                gain=np.ones(size),
                bias=data[f"bias:{name}"],
                neuron_type=MemorylessThreshold(initial_state={"threshold": data[f"threshold:{name}"]}),
                label=name,
            )
            sources[name] = ensemble.neurons
            probes[name] = nengo.Probe(ensemble.neurons)
        for p in network["projections"]:
            if p["synapses"]:
                indices = np.stack([data[f"post:{p['key']}"], data[f"pre:{p['key']}"]], axis=1)
                pre, post = sources[p["source"]], sources[p["target"]]
                shape = (post.size_in, pre.size_out)
                transform = nengo.Sparse(shape, indices=indices, init=data[f"weight:{p['key']}"])
                nengo.Connection(pre, post, transform=transform, synapse=None)
    return model, probes


def main() -> int:
    """Build, run, compare."""
    folder = standalone.read(standalone.parser().parse_args().limit)

    # Whatever a file nengorc says: sums in float64.
    nengo.rc.set("precision", "bits", "64")
    begin = time.perf_counter()
    model, probes = build(folder)
    simulator = nengo.Simulator(model, dt=DT, progress_bar=False, optimize=False)
    built = time.perf_counter()
    simulator.run_steps(folder.count)
    ran = time.perf_counter()
    seconds = f"built in {built - begin:.1f} s, {folder.count} frames in {ran - built:.1f} s"
    print(f"{folder.network['name']} on Nengo: {seconds}")
    return standalone.compare(folder, {name: simulator.data[probe] > 0.5 for name, probe in probes.items()})


if __name__ == "__main__":
    sys.exit(main())
