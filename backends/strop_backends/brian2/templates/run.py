#!/usr/bin/env python
"""Template: `write_brian2` in `../export.py` copies this file as it is into a standalone folder, as `run.py`.

It runs a sharpened (Whetstone) network in Brian2, and compares every spike with what is expected.

    python run.py [--limit N] [--target numpy|cython]

The neurons have no memory: in each step a neuron adds up its bias and the weights of the spikes that arrive, spikes if
the sum is at least its threshold, and forgets. So a new frame can enter in every step: frame n reaches a population of
depth d (the number of layers before it) at step n + d.

Beside this script are
    standalone.py  what the scripts for all simulators share
    network.json   populations and projections
    network.npz    thresholds, biases and synapses (pre, post, weight) of every projection
    frames.npz     input spikes, input values of single neurons, spikes that are expected, and labels

It needs Brian2 and NumPy. It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import brian2
import numpy as np

# For `python -I` and `runpy`, which do not look beside the script.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import standalone

DT = 1 * brian2.ms


def layout(network: dict[str, Any]) -> dict[str, slice]:
    """Return the indices of each population in its group: of the neurons, or of the sources of input spikes."""
    places, ends = {}, {True: 0, False: 0}
    for entry in network["populations"]:
        start = ends[entry["played"]]
        ends[entry["played"]] = start + entry["size"]
        places[entry["name"]] = slice(start, start + entry["size"])
    return places


def build_neurons(network: dict[str, Any], data: Any, places: dict[str, slice]) -> brian2.NeuronGroup:
    """Return one group of all neurons: Brian2 compiles code for each group, so the network has only one."""
    size = sum(entry["size"] for entry in network["populations"] if not entry["played"])
    neurons = brian2.NeuronGroup(
        size,
        "v : 1\nth : 1 (constant)\nbias : 1 (constant)",
        threshold="v >= th",
        reset="",  # would reset those alone that have spiked
    )
    for entry in network["populations"]:
        if not entry["played"]:
            neurons.th[places[entry["name"]]] = data[f"threshold:{entry['name']}"]
            neurons.bias[places[entry["name"]]] = data[f"bias:{entry['name']}"]
    neurons.v = "bias"
    # Every neuron forgets in every step: after the threshold, and before synapses deliver what the next step decides
    # by.
    neurons.run_regularly("v = bias", when="after_thresholds")
    return neurons


def build_sources(
    network: dict[str, Any], frames: Any, places: dict[str, slice], count: int
) -> brian2.SpikeGeneratorGroup:
    """Return the group of sources that send the input spikes."""
    indices, steps = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    size = 0
    for entry in network["populations"]:
        if entry["played"]:
            frame, neuron = np.nonzero(frames[f"played:{entry['name']}"][:count])
            indices.append(neuron + places[entry["name"]].start)
            steps.append(frame + entry["depth"])
            size += entry["size"]
    # Where only values enter there is no source, and Brian2 makes no empty group.
    return brian2.SpikeGeneratorGroup(max(size, 1), np.concatenate(indices), np.concatenate(steps) * DT)


def build_drive(
    network: dict[str, Any], frames: Any, places: dict[str, slice], neurons: Any, count: int
) -> list[brian2.NetworkOperation]:
    """Return the operation that adds each frame's values to the potentials, in the step that they count in."""
    v = neurons.variables["v"].get_value()
    driven = [
        (places[entry["name"]], entry["depth"], frames[f"driven:{entry['name']}"][:count])
        for entry in network["populations"]
        if entry["driven"]
    ]

    def add(t: Any) -> None:
        for place, depth, values in driven:
            frame = round(float(t / DT)) - depth
            if 0 <= frame < count:
                v[place] += values[frame]

    return [brian2.NetworkOperation(add, when="before_thresholds")] if driven else []


def build_synapses(
    network: dict[str, Any], data: Any, places: dict[str, slice], neurons: Any, sources: Any
) -> list[brian2.Synapses]:
    """Return one Synapses object for each delay, from sources and from neurons."""
    played = {entry["name"]: entry["played"] for entry in network["populations"]}
    bundles: dict[tuple[bool, int], list[dict[str, Any]]] = {}
    for p in network["projections"]:
        if p["synapses"]:
            bundles.setdefault((played[p["source"]], p["delay"]), []).append(p)
    made = []
    for (from_sources, delay), members in bundles.items():
        # A spike that arrives in a step counts in the next one: that is one step of the delay.
        synapses = brian2.Synapses(
            sources if from_sources else neurons,
            neurons,
            "w : 1 (constant)",
            on_pre="v_post += w",
            delay=(delay - 1) * DT,
        )
        pre = np.concatenate([data[f"pre:{p['key']}"] + places[p["source"]].start for p in members])
        post = np.concatenate([data[f"post:{p['key']}"] + places[p["target"]].start for p in members])
        synapses.connect(i=pre, j=post)
        synapses.w = np.concatenate([data[f"weight:{p['key']}"] for p in members])
        made.append(synapses)
    return made


def main() -> int:
    """Build, run, compare."""
    parser = standalone.parser()
    parser.add_argument(
        "--target",
        choices=("numpy", "cython"),
        default="numpy",
        help="cython compiles: faster for many frames",
    )
    arguments = parser.parse_args()
    brian2.prefs.codegen.target = arguments.target
    # Whatever a file of preferences says: sums in float64, and thresholds before synapses.
    brian2.prefs.core.default_float_dtype = np.float64
    brian2.prefs.core.network.default_schedule = ["start", "groups", "thresholds", "synapses", "resets", "end"]

    folder = standalone.read(arguments.limit)
    network, data, frames, count = folder.network, folder.data, folder.frames, folder.count

    begin = time.perf_counter()
    brian2.defaultclock.dt = DT
    places = layout(network)
    neurons = build_neurons(network, data, places)
    sources = build_sources(network, frames, places, count)
    synapses = build_synapses(network, data, places, neurons, sources)
    monitor = brian2.SpikeMonitor(neurons)
    drive = build_drive(network, frames, places, neurons, count)
    simulation = brian2.Network(neurons, sources, synapses, monitor, drive)
    built = time.perf_counter()
    simulation.run((count + network["depth"]) * DT, namespace={})
    ran = time.perf_counter()
    print(f"{network['name']} on Brian2: built in {built - begin:.1f} s, {count} frames in {ran - built:.1f} s")

    raster = np.zeros((count + network["depth"], len(neurons)), dtype=bool)
    raster[np.rint(monitor.t / DT).astype(int), monitor.i] = True
    answers = {
        entry["name"]: raster[entry["depth"] : entry["depth"] + count, places[entry["name"]]]
        for entry in network["populations"]
        if not entry["played"]
    }
    return standalone.compare(folder, answers)


if __name__ == "__main__":
    sys.exit(main())
