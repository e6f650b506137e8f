"""Every backend gives the oracle's spikes, unit by unit and frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from graphs import frames_for, grid_network, image_network, skip_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages import decoding_network
from worker_backends import content

import strop
from strop.graph import Dense, Graph, Input, Population
from strop.graph.planes import plane_weights
from strop.running.oracle import evaluate, potential
from strop.running.registry import get_backend

ENCODINGS = ("host", "bitplane", "binary", "current")


def prove(graph: Graph, frames: np.ndarray, backend: str, **options: Any) -> None:
    """Assert that spikes and silence occur, and that the simulator's spikes are the oracle's."""
    result = strop.simulate(graph, frames, backend, **options)
    from strop.running.encode import as_frames, encode

    expected = evaluate(graph, encode(graph, as_frames(graph, frames)))
    fired = sum(int(spikes.sum()) for spikes in expected.values())
    assert 0 < fired < sum(spikes.size for spikes in expected.values())
    assert set(result.spikes) == set(expected)
    for name, spikes in expected.items():
        np.testing.assert_array_equal(result.spikes[name], spikes, err_msg=f"{backend}: {name}")


def needs(backend: str, encoding: str) -> None:
    if encoding not in get_backend(backend).encodings:
        pytest.skip(f"{backend} cannot run the encoding {encoding!r}")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("make", [skip_network, image_network])
def test_networks_are_equal_under_every_encoding(
    backend: str, make: Callable[[np.random.Generator, str], Graph], encoding: str
) -> None:
    needs(backend, encoding)
    rng = np.random.default_rng(5)
    graph = make(rng, encoding)
    prove(graph, frames_for(graph, rng), backend)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_that_are_hit_exactly_fire(backend: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = grid_network(rng)
    frames = frames_for(graph, rng)
    signals = {"x": frames >= 128}
    hits = potential(graph, "a", signals) == graph.population("a").threshold
    assert hits.any(), "the test must hit thresholds"
    prove(graph, frames, backend)


@pytest.mark.parametrize("seed", range(2))
def test_values_that_bring_units_exactly_to_their_thresholds_fire(backend: str, seed: int) -> None:
    needs(backend, "current")
    rng = np.random.default_rng(seed)
    grid = rng.integers(-4, 5, (3, 12)) / 4
    weights = rng.integers(-4, 5, (8, 12)) / 4
    graph = Graph.from_nodes(
        [Input("x", (8,), "current")],
        [Population("a", (12,), grid[0], grid[1]), Population("b", (12,), grid[2], 0.0)],
        [("x", "a", Dense(weights)), ("a", "b", Dense(rng.integers(-4, 5, (12, 12)) / 4))],
        (),
        ["b"],
    )
    frames = (rng.integers(-8, 9, (40, 8)) / 4).astype(np.float32)
    a = potential(graph, "a", {"x": frames.astype(np.float64)})
    assert (a == graph.population("a").threshold).any(), "the test must hit thresholds"
    prove(graph, frames, backend)


@pytest.mark.parametrize(
    ("bits", "step", "offset"), [(1, None, 0.0), (5, None, 0.0), (6, 1 / 16, -1.0), (12, 0.25, 0.0)]
)
def test_bit_planes_of_other_than_eight_bits_are_equal(
    backend: str, bits: int, step: float | None, offset: float
) -> None:
    needs(backend, "bitplane")
    rng = np.random.default_rng(bits)
    node = Input("x", (3, 2), "bitplane", bits, step=step, offset=offset)
    numbers = rng.integers(0, 1 << bits, (30, 3, 2))
    read = plane_weights((3, 2), bits, step)
    graph = Graph.from_nodes(
        [node],
        [
            Population("a", (3, 2), np.quantile(node.plane_values(numbers), 0.4, axis=0) - offset, 0.0),
            Population("b", (3, 4), 0.5, rng.normal(0, 0.3, 4)),
        ],
        [("x", "a", read), ("a", "b", Dense(rng.normal(0, 0.7, (2, 4)), (3,)))],
        (),
        ["b"],
    )
    prove(graph, node.plane_values(numbers).astype(np.float32), backend)


def test_units_next_to_the_threshold_fire_on_the_right_side_only(backend: str) -> None:
    one, half = Dense([[1.0, 1.0, 1.0]]), 0.5
    bias = [half - 1.0, np.nextafter(half, 0) - 1.0, np.nextafter(half, 1) - 1.0]
    graph = Graph.from_nodes(
        [Input("x", (1,), "binary")], [Population("a", (3,), half, bias)], [("x", "a", one)], (), ["a"]
    )
    expected = np.array(bias) + 1.0 >= half
    spikes = strop.simulate(graph, np.array([[1.0], [0.0]], np.float32), backend).spikes["a"]
    assert spikes.tolist() == [expected.tolist(), [False] * 3]


def test_biases_at_and_beyond_the_threshold_fire_in_every_frame(backend: str) -> None:
    graph = Graph.from_nodes(
        [Input("x", (2,), "binary")],
        [
            Population("a", (4,), [0.5, 0.5, 0.0, -1.0], [0.5, 7.0, 0.0, 0.0]),
            Population("b", (2,), [4.0, 5.0], 0.0),
        ],
        [
            ("x", "a", Dense([[-1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])),
            ("a", "b", Dense(np.ones((4, 2)))),
        ],
        (),
        ["b"],
    )
    frames = np.array([[0, 0], [1, 0], [0, 1], [0, 0], [1, 1]], np.float32)
    spikes = strop.simulate(graph, frames, backend).spikes
    assert spikes["a"].astype(int).tolist() == [
        [1, 1, 1, 1],
        [0, 1, 1, 1],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
        [0, 1, 1, 1],
    ]
    assert spikes["b"].astype(int).tolist() == [[1, 0], [0, 0], [1, 0], [1, 0], [0, 0]]


def test_a_spike_in_one_frame_leaves_nothing_behind_in_the_next(backend: str) -> None:
    graph = Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [Population("a", (1,), 1.0, 0.0), Population("b", (1,), 1.0, 0.0)],
        [("x", "a", Dense([[0.75]])), ("a", "b", Dense([[1.0]]))],
        (),
        ["b"],
    )
    spikes = strop.simulate(graph, np.ones((9, 1), np.float32), backend).spikes
    assert not spikes["a"].any(), "two frames of 0.75 must not add up to a spike"
    assert not spikes["b"].any()


def test_chunks_of_one_runner_are_independent(backend: str) -> None:
    from strop.running.encode import as_frames, encode

    rng = np.random.default_rng(8)
    graph = skip_network(rng)
    frames = frames_for(graph, rng, 25)
    signals = encode(graph, as_frames(graph, frames))
    expected = evaluate(graph, signals)
    runner = get_backend(backend).prepare(graph)
    try:
        for rows in (slice(0, 10), slice(10, 11), slice(11, 25), slice(0, 10)):
            spikes = runner.run({"x": signals["x"][rows]})
            for name in graph.population_names:
                np.testing.assert_array_equal(spikes[name], expected[name][rows], err_msg=f"{name} {rows}")
    finally:
        runner.close()
    assert expected["d"].any()


def test_one_frame_is_enough(backend: str) -> None:
    rng = np.random.default_rng(4)
    graph = image_network(rng)
    prove(graph, frames_for(graph, rng, 1), backend)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_random_graphs_are_equal(backend: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = (skip_network, image_network)[seed % 2](rng)
    frames = frames_for(graph, rng, 15)
    result = strop.simulate(graph, frames, backend)
    report = strop.verify(graph, frames, backends=[backend])
    assert report.backends[backend].layers[0].units == result.spikes[graph.population_names[0]][0].size
    assert report.passed, str(report)


def test_a_process_of_its_own_gives_the_same_report(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("strop.verification.verify"), "chunk_size", lambda graph: 16)
    graph = decoding_network("conv")
    frames = np.random.default_rng(5).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    here = strop.verify(graph, frames, backends=backend, evidence=True)
    there = strop.verify(graph, frames, backends=backend, evidence=True, processes=True)
    assert content(here) == content(there)
    assert there.passed
    assert there.backends[backend].layers[-1].spikes > 0
