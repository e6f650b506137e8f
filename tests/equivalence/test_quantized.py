"""Quantised graphs: what is proved for a target is what a simulator does, spike for spike.

`pytest tests/equivalence/test_quantized.py --backend brian2`
"""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import random_frames, random_graph

import strop
from strop.graph import Dense, Graph, Input, Population
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate


@settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), target=st.sampled_from(["spinnaker", "float32"]))
def test_quantised_graphs_are_proved_and_simulated_alike(backend: str, seed: int, target: str) -> None:
    graph = strop.quantize(random_graph(seed, ("host", "bitplane", "binary")[seed % 3]), target)
    assert strop.certify(graph, target).holds
    assert strop.certify(graph, backend).holds
    frames = random_frames(graph, 8, seed)
    expected = evaluate(graph, encode(graph, as_frames(graph, frames)))
    found = strop.simulate(graph, frames, backend)
    for name in graph.population_names:
        np.testing.assert_array_equal(found.spikes[name], expected[name])
    report = strop.verify(graph, frames, backends=[backend])
    assert report.passed
    assert report.backends[backend].faults == 0
    on_host = set(graph.population_names) <= set(graph.host_populations)
    assert report.proved == ([] if on_host else [backend])


def beside_a_sum(bits: int, rng: np.random.Generator) -> Graph:
    """Neurons with sums of so many bits; each threshold lies half a step beside a sum, or on it, of either sign."""
    neurons = 24
    weight = np.rint(rng.uniform(-1.0, 1.0, (6, neurons)) * 2.0 ** (bits - 3))
    sums = (weight * rng.integers(0, 2, (6, neurons))).sum(axis=0)
    threshold = sums + rng.choice([-0.5, 0.0, 0.5], neurons)
    scale = 2.0 ** rng.integers(-30, 1, neurons)
    return Graph.from_nodes(
        [Input("x", (6,), "binary")],
        [Population("y", (neurons,), threshold * scale, 0.0)],
        [("x", "y", Dense(weight * scale))],
        (),
        ["y"],
    )


def test_the_largest_sums_that_are_proved_are_simulated_alike(backend: str) -> None:
    frames = np.array(list(itertools.product((0.0, 1.0), repeat=6)), dtype=np.float32)
    for seed in range(2):
        drawn = ((bits, beside_a_sum(bits, np.random.default_rng(seed))) for bits in range(53, 0, -1))
        bits, graph = next((bits, graph) for bits, graph in drawn if strop.certify(graph, backend).holds)
        assert bits >= 30
        report = strop.verify(graph, frames, backends=[backend])
        assert report.proved == [backend]
        layer = report.backends[backend].layers[0]
        assert 0 < layer.spikes < layer.compared
        assert (layer.faults, layer.ties) == (0, 0)
