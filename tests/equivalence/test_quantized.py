"""Quantised graphs: what is proved for a target is what a simulator does, spike for spike.

`pytest tests/equivalence/test_quantized.py --backend brian2`
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import random_frames, random_graph

import strop
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
