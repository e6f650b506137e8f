#!/usr/bin/env python
"""Run a sharpened (Whetstone) network in Brian2, and compare every spike with what is expected.

    python run.py [--limit N] [--target numpy|cython]

The network is made of units without memory: in each step a unit adds up its bias and the weights of the
spikes that reach it, spikes if that is at least its threshold, and forgets. So a new frame can enter in every
step: frame n reaches a population of depth d (the number of layers before it) at step n + d.

Beside this script lie
    network.json   populations and projections
    network.npz    thresholds, biases and synapses (pre, post, weight) of every projection
    frames.npz     spikes that are played in, values that drive units, spikes that are expected, and labels

It needs Brian2 and NumPy. It ends with 0 if every spike is as expected, with 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import brian2
import numpy as np

HERE = Path(__file__).resolve().parent
DT = 1 * brian2.ms


def layout(network: dict[str, Any]) -> dict[str, slice]:
    """Return where each population lies in its group: the units, or the sources whose spikes are played
    in."""
    places, ends = {}, {True: 0, False: 0}
    for entry in network["populations"]:
        start = ends[entry["played"]]
        ends[entry["played"]] = start + entry["size"]
        places[entry["name"]] = slice(start, start + entry["size"])
    return places


def build_units(network: dict[str, Any], data: Any, places: dict[str, slice]) -> brian2.NeuronGroup:
    """Return one group of all units. It is a group for the whole network because Brian2 compiles code for
    each group."""
    size = sum(entry["size"] for entry in network["populations"] if not entry["played"])
    units = brian2.NeuronGroup(
        size,
        "v : 1\nth : 1 (constant)\nbias : 1 (constant)",
        threshold="v >= th",
        reset="",  # would reset those alone that have spiked
    )
    for entry in network["populations"]:
        if not entry["played"]:
            units.th[places[entry["name"]]] = data[f"threshold:{entry['name']}"]
            units.bias[places[entry["name"]]] = data[f"bias:{entry['name']}"]
    units.v = "bias"
    # Every unit forgets in every step: behind the threshold, before synapses deliver what decides in the next
    # step.
    units.run_regularly("v = bias", when="after_thresholds")
    return units


def build_sources(
    network: dict[str, Any], frames: Any, places: dict[str, slice], count: int
) -> brian2.SpikeGeneratorGroup:
    """Return the group that plays spikes in."""
    indices, steps = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    size = 0
    for entry in network["populations"]:
        if entry["played"]:
            frame, unit = np.nonzero(frames[f"played:{entry['name']}"][:count])
            indices.append(unit + places[entry["name"]].start)
            steps.append(frame + entry["depth"])
            size += entry["size"]
    # Brian2 makes no group of nobody, where all that enters is values.
    return brian2.SpikeGeneratorGroup(max(size, 1), np.concatenate(indices), np.concatenate(steps) * DT)


def build_drive(
    network: dict[str, Any], frames: Any, places: dict[str, slice], units: Any, count: int
) -> list[brian2.NetworkOperation]:
    """Return what adds each frame's values to the units that they drive, in the step in which they decide."""
    v = units.variables["v"].get_value()
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
    network: dict[str, Any], data: Any, places: dict[str, slice], units: Any, sources: Any
) -> list[brian2.Synapses]:
    """Return one Synapses object for each delay, from sources and from units."""
    played = {entry["name"]: entry["played"] for entry in network["populations"]}
    bundles: dict[tuple[bool, int], list[dict[str, Any]]] = {}
    for p in network["projections"]:
        if p["synapses"]:
            bundles.setdefault((played[p["source"]], p["delay"]), []).append(p)
    made = []
    for (from_sources, delay), members in bundles.items():
        # What arrives in a step decides in the next one: that is one step of the delay.
        synapses = brian2.Synapses(
            sources if from_sources else units,
            units,
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
    parser.add_argument(
        "--target",
        choices=("numpy", "cython"),
        default="numpy",
        help="cython compiles: faster for many frames",
    )
    arguments = parser.parse_args()
    brian2.prefs.codegen.target = arguments.target
    # Whatever a file of preferences says: every sum in float64, and looked at before synapses deliver.
    brian2.prefs.core.default_float_dtype = np.float64
    brian2.prefs.core.network.default_schedule = ["start", "groups", "thresholds", "synapses", "resets", "end"]

    network = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    data = np.load(HERE / "network.npz", allow_pickle=False)
    frames = np.load(HERE / "frames.npz", allow_pickle=False)
    count = len(next(frames[key] for key in frames.files if key.startswith(("played:", "driven:"))))
    count = min(count, arguments.limit or count)

    begin = time.perf_counter()
    brian2.defaultclock.dt = DT
    places = layout(network)
    units = build_units(network, data, places)
    sources = build_sources(network, frames, places, count)
    synapses = build_synapses(network, data, places, units, sources)
    monitor = brian2.SpikeMonitor(units)
    drive = build_drive(network, frames, places, units, count)
    simulation = brian2.Network(units, sources, synapses, monitor, drive)
    built = time.perf_counter()
    simulation.run((count + network["depth"]) * DT, namespace={})
    ran = time.perf_counter()
    print(f"{network['name']} on Brian2: built in {built - begin:.1f} s, {count} frames in {ran - built:.1f} s")

    raster = np.zeros((count + network["depth"], len(units)), dtype=bool)
    raster[np.rint(monitor.t / DT).astype(int), monitor.i] = True
    answers, different = {}, 0
    print(f"{'layer':30s} {'neurons':>8s} {'expected':>10s} {'spikes':>10s} {'different':>10s}")
    for entry in network["populations"]:
        name = entry["name"]
        if entry["played"]:
            answers[name] = frames[f"played:{name}"][:count]
            continue
        expected = frames[f"expected:{name}"][:count]
        answers[name] = raster[entry["depth"] : entry["depth"] + count, places[name]]
        wrong = int((answers[name] != expected).sum())
        different += wrong
        print(f"{name:30s} {entry['size']:8d} {expected.sum():10d} {answers[name].sum():10d} {wrong:10d}")
    if network["readout"] and "labels" in frames.files:
        classes = decide(network, data, answers)
        print(f"accuracy {100 * (classes == frames['labels'][:count]).mean():.2f} %")
    print("every spike is as expected" if different == 0 else f"{different} spikes DIFFER")
    return 0 if different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
