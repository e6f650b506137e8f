"""Populations that an input and spikes feed: under every encoding and on every backend as the oracle has them."""

from __future__ import annotations

import numpy as np
import pytest

import strop
from strop.graph import Dense, Graph, Input, Population, Select
from strop.running.registry import get_backend


def beside(encoding: str) -> Graph:
    """x -> a -> b, x -> b; b -> c -> d, and b -> d, a -> d beside: what comes from b and a waits."""
    rng = np.random.default_rng(11)

    def quarters(*shape: int) -> np.ndarray:
        return rng.integers(-4, 5, shape) / 4

    x = Input("x", (6,), encoding, bits=3, level=0.5)
    planes = x.signal_shape[0]
    identity = Select((7,), np.arange(7))
    return Graph.from_nodes(
        [x],
        [
            Population("a", (7,), 0.5, quarters(7)),
            Population("b", (8,), quarters(8), 0.25),
            Population("c", (7,), 0.5, 0.25),
            Population("d", (7,), quarters(7), 0.0),
        ],
        [
            ("x", "a", Dense(quarters(planes, 7))),
            ("a", "b", Dense(quarters(7, 8))),
            ("x", "b", Dense(quarters(planes, 8))),
            ("b", "c", Dense(quarters(8, 7))),
            ("c", "d", identity),
            ("b", "d", Dense(quarters(8, 7))),
            ("a", "d", identity),
        ],
        outputs=["d"],
    )


@pytest.mark.parametrize("encoding", ["host", "bitplane", "binary", "current"])
def test_an_input_beside_spikes_is_exact(backend: str, encoding: str) -> None:
    if encoding not in get_backend(backend).encodings:
        pytest.skip(f"{backend} does not take the encoding {encoding!r}")
    graph = beside(encoding)
    assert graph.host_populations == ({"a", "b"} if encoding == "host" else set())
    frames = np.random.default_rng(2).integers(0, 8, (30, 6)).astype(np.float32) / np.float32(7)
    frames = frames if encoding == "bitplane" else np.round(frames * 4) / 4
    expected = strop.simulate(graph, frames, "reference").spikes
    assert all(0 < np.count_nonzero(spikes) < spikes.size for spikes in expected.values())
    found = strop.simulate(graph, frames, backend).spikes
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)
