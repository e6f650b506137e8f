#!/usr/bin/env python
"""Run a sharpened (Whetstone) network in Nengo, and compare every spike with what is expected.

    python run.py [--limit N]

The network is made of units without memory: in each step a unit adds up its bias and the weights of the spikes that
reach it, spikes if that is at least its threshold, and forgets. Connections have no synapse, so in Nengo a spike
reaches its target in the same step, and every population answers frame n in step n.

Beside this script lie
    network.json   populations and projections
    network.npz    thresholds, biases and synapses (pre, post, weight) of every projection
    frames.npz     spikes that are played in, spikes that are expected, and labels

It needs Nengo, SciPy and NumPy. It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import nengo
import numpy as np
from nengo.dists import Choice

HERE = Path(__file__).resolve().parent
DT = 0.001


class MemorylessThreshold(nengo.neurons.NeuronType):  # type: ignore[misc]  # Nengo ships no types
    """Units that fire in a step iff their input current reaches the threshold; a spike is 1.0 high, whatever dt."""

    state = {"threshold": Choice([0.5])}  # noqa: RUF012
    negative = False
    spiking = True

    def gain_bias(self, max_rates: Any, intercepts: Any) -> Any:
        return np.ones_like(intercepts), 0.5 - np.asarray(intercepts)

    def max_rates_intercepts(self, gain: Any, bias: Any) -> Any:
        return np.ones_like(gain), (0.5 - bias) / gain

    def step(self, dt: float, J: Any, output: Any, threshold: Any) -> None:
        np.greater_equal(J, threshold, out=output)


def build(network: dict[str, Any], data: Any, frames: Any, count: int) -> tuple[nengo.Network, dict[str, nengo.Probe]]:
    """Return the network and a probe for each population that is simulated."""
    sources, probes = {}, {}
    with nengo.Network(label=network["name"], seed=0) as model:
        for entry in network["populations"]:
            name, size = entry["name"], entry["size"]
            if entry["played"]:
                played = frames[f"played:{name}"][:count].astype(float)
                sources[name] = nengo.Node(nengo.processes.PresentInput(played, DT), label=name)
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


def decide(network: dict[str, Any], data: Any, spikes: dict[str, Any]) -> Any:
    """Return the class of each frame: the one with the largest score, the lower of equals."""
    readout = network["readout"]
    scores = data["readout:bias"] + sum(
        spikes[name].astype(float) @ data[f"readout:{name}"] for name in readout["sources"]
    )
    if readout["clip"]:
        scores = np.clip(scores, *readout["clip"])
    if readout["function"] == "sigmoid":
        scores = 1.0 / (1.0 + np.exp(-scores))
    elif readout["function"]:
        groups = scores.reshape(len(scores), -1, readout["group"])
        groups = groups - groups.max(axis=2, keepdims=True)
        groups = groups - np.log(np.exp(groups).sum(axis=2, keepdims=True))
        scores = (groups if readout["function"] == "log_softmax" else np.exp(groups)).reshape(len(scores), -1)
    if "readout_after" in data:
        scores = scores @ data["readout_after"]
    return scores[:, 0] > readout["above"] if readout["above"] is not None else scores.argmax(axis=1)


def main() -> int:
    """Build, run, compare."""
    parser = argparse.ArgumentParser(description="Run the network, and compare every spike with what is expected.")
    parser.add_argument("--limit", type=int, help="only so many frames")
    limit = parser.parse_args().limit
    network = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    data = dict(np.load(HERE / "network.npz", allow_pickle=False))
    frames = dict(np.load(HERE / "frames.npz", allow_pickle=False))
    count = len(next(values for key, values in frames.items() if key.startswith("played:")))
    count = min(count, limit or count)

    # Whatever a nengorc says: every sum in float64.
    nengo.rc.set("precision", "bits", "64")
    begin = time.perf_counter()
    model, probes = build(network, data, frames, count)
    simulator = nengo.Simulator(model, dt=DT, progress_bar=False, optimize=False)
    built = time.perf_counter()
    simulator.run_steps(count)
    ran = time.perf_counter()
    print(f"{network['name']} on Nengo: built in {built - begin:.1f} s, {count} frames in {ran - built:.1f} s")

    answers, different = {}, 0
    print(f"{'layer':30s} {'neurons':>8s} {'expected':>10s} {'spikes':>10s} {'different':>10s}")
    for entry in network["populations"]:
        name = entry["name"]
        if entry["played"]:
            answers[name] = frames[f"played:{name}"][:count]
            continue
        expected = frames[f"expected:{name}"][:count]
        answers[name] = simulator.data[probes[name]] > 0.5
        wrong = int((answers[name] != expected).sum())
        different += wrong
        print(f"{name:30s} {entry['size']:8d} {expected.sum():10d} {answers[name].sum():10d} {wrong:10d}")
    if network["readout"] and "labels" in frames:
        print(f"accuracy {100 * (decide(network, data, answers) == frames['labels'][:count]).mean():.2f} %")
    print("every spike is as expected" if different == 0 else f"{different} spikes DIFFER")
    return 0 if different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
