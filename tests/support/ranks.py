"""What each rank does in the tests of a network over processes.

`mpirun -n K python ranks.py BACKEND CASE...` prints a line of JSON for each case and rank.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from graphs import frames_for, image_network, skip_network
from pynn_graphs import branched_graph, quarters

import strop
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population, synapses_of, with_weights

RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def single_neurons() -> Graph:
    """Populations of one neuron: a rank of three has none of some, and no synapse of others."""
    return Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [Population("a", (1,), 0.5, 0.0), Population("b", (1,), -0.25, -0.5), Population("c", (2,), 0.5, 0.25)],
        [("x", "a", Dense([[1.0]])), ("a", "b", Dense([[0.75]])), ("b", "c", Dense([[0.5, -0.5]]))],
        outputs=["c"],
    )


def two_inputs() -> Graph:
    values = rng()
    return Graph.from_nodes(
        [Input("x", (5,), "binary"), Input("y", (4,), "binary")],
        [Population("a", (7,), quarters(values, 7), 0.25), Population("b", (6,), 0.5, quarters(values, 6))],
        [
            ("x", "a", Dense(quarters(values, 5, 7))),
            ("y", "b", Dense(quarters(values, 4, 6))),
            ("a", "b", Dense(quarters(values, 7, 6))),
        ],
        outputs=["b"],
    )


def driven() -> Graph:
    values = rng()
    return Graph.from_nodes(
        [Input("x", (5,), "current")],
        [Population("a", (7,), quarters(values, 7), quarters(values, 7)), Population("b", (6,), 0.5, -0.25)],
        [
            ("x", "a", Dense(quarters(values, 5, 7))),
            ("a", "b", Dense(quarters(values, 7, 6))),
            ("x", "b", Dense(quarters(values, 5, 6))),
        ],
        outputs=["b"],
    )


GRAPHS: dict[str, Callable[[], Graph]] = {
    "skip connections": lambda: skip_network(rng()),
    "host": lambda: skip_network(rng(), "host"),
    "image": lambda: image_network(rng()),
    "thresholds below zero": lambda: branched_graph(2),
    "fewer neurons than ranks": single_neurons,
    "two inputs": two_inputs,
    "driven by values": driven,
}


def frames_of(graph: Graph, count: int) -> dict[str, Any]:
    values = rng()
    return {node.name: values.integers(0, 2, (count, *node.shape)).astype(np.float32) for node in graph.inputs}


def differences(graph: Graph, frames: Any, found: dict[str, Any]) -> dict[str, int]:
    expected = strop.simulate(graph, frames, "reference").spikes
    assert set(found) == set(graph.population_names) - {
        p.name for p in graph.populations if p.name in graph.host_populations
    }
    return {
        "spikes": sum(int(raster.sum()) for raster in found.values()),
        "different": sum(int((raster != expected[name]).sum()) for name, raster in found.items()),
    }


def streams(name: str) -> dict[str, Any]:
    """Two series of frames, one behind the other, at a time step of which 1 ms is no whole number."""
    graph = GRAPHS[name]()
    network = strop.build(graph, BACKEND, timestep=0.3 if BACKEND == "pynn-neuron" else 1.0)
    network.record()
    frames = frames_of(graph, 24)
    first = network.present({k: v[:15] for k, v in frames.items()})
    start = network.start
    end = network.present({k: v[15:] for k, v in frames.items()})
    assert end > first
    network.sim.run_until(end)
    cells = sum(int(p._mask_local.sum()) for n, p in network.populations.items() if n in graph.population_names)
    found = differences(graph, frames, network.spikes(24, start))
    network.close()
    return {**found, "cells": cells, "neurons": sum(p.size for p in graph.populations)}


def weights() -> dict[str, Any]:
    """Weights are read, changed and run, each rank with those of its own cells."""
    graph = GRAPHS["skip connections"]()
    network = strop.build(graph, BACKEND)
    network.record()
    given = network.weights()
    read = all(np.array_equal(values, synapses_of(graph, *pair)[2]) for pair, values in given.items())
    halved = {pair: values / 2 for pair, values in given.items()}
    network.set_weights(halved)
    read = read and all(np.array_equal(values, halved[pair]) for pair, values in network.weights().items())
    network.populations["d"].set(v_thresh=0.25)
    network.populations["d"].set(v_thresh=graph.population("d").threshold)
    frames = frames_for(graph, rng(), 12)
    network.sim.run_until(network.present(frames))
    found = differences(with_weights(graph, halved), frames, network.spikes())
    network.close()
    return {**found, "read": read}


def refused(what: Callable[[], Any]) -> dict[str, Any]:
    try:
        what()
    except BackendError as error:
        return {"refused": str(error)}
    return {"refused": None}


def a_rank_without_memory() -> dict[str, Any]:
    graph = GRAPHS["image"]()
    if RANK == 1:
        os.environ["STROP_MEMORY_LIMIT"] = "1000"
    try:
        strop.build(graph, BACKEND)
    except strop.errors.StropError as error:
        return {"refused": str(error)}
    finally:
        os.environ.pop("STROP_MEMORY_LIMIT", None)
    return {"refused": None}


def a_setting_of_one_rank() -> dict[str, Any]:
    """A setting of NEURON that changes spikes, made on rank 1 alone, is refused on all before they run."""
    network = strop.build(GRAPHS["two inputs"](), "pynn-neuron")
    end = network.present(frames_of(network.graph, 3))
    if RANK == 1:
        network.dialect.h.secondorder = 2
    try:
        found = refused(lambda: network.sim.run_until(end))
    finally:
        network.dialect.h.secondorder = 0
    network.close()
    return found


def a_least_delay_too_long() -> dict[str, Any]:
    network = strop.build(GRAPHS["two inputs"](), "pynn-neuron")
    sim = network.sim
    network.close()
    sim.setup(timestep=0.1, min_delay=0.4)
    return refused(lambda: strop.build(GRAPHS["two inputs"](), sim))


def one_process_alone() -> dict[str, Any]:
    return refused(lambda: strop.simulate(GRAPHS["two inputs"](), frames_of(two_inputs(), 3), BACKEND))


OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "weights": weights,
    "a rank without memory": a_rank_without_memory,
    "a setting of one rank": a_setting_of_one_rank,
    "a least delay too long": a_least_delay_too_long,
    "simulate": one_process_alone,
}

BACKEND = "pynn-neuron"

if __name__ == "__main__":
    BACKEND, *cases = sys.argv[1:]
    for case in cases:
        result = OTHERS[case]() if case in OTHERS else streams(case)
        print(json.dumps({"case": case, "rank": RANK, **result}), flush=True)
