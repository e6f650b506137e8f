"""Small graphs whose sums are exact in float64, so that thresholds are hit exactly and every simulator can be
asked for all."""

from __future__ import annotations

import numpy as np
import pytest

from strop.graph import Dense, Graph, Input, Population
from strop.running.registry import backend_status


def require(backend: str) -> None:
    status = backend_status(backend)
    if not status.available:
        pytest.skip(status.problem)
    if backend == "pynn-brian2":
        import brian2

        # For PyNN's own recorders: compiling them takes longer than all the rest.
        brian2.prefs.codegen.target = "numpy"


def quarters(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-6, 7, shape) / 4


def branched_graph(seed: int) -> Graph:
    """Two layers and a skip connection; thresholds below, at and above zero, biases that fire on their
    own."""
    rng = np.random.default_rng(seed)
    n, a, b, c = (int(size) for size in rng.integers(3, 12, 4))
    return Graph.from_nodes(
        [Input("x", (n,), "binary")],
        [
            Population("a", (a,), quarters(rng, a), quarters(rng, a)),
            Population("b", (b,), 0.0, quarters(rng, b)),
            Population("c", (c,), quarters(rng, c), 0.0),
        ],
        [
            ("x", "a", Dense(quarters(rng, n, a))),
            ("a", "b", Dense(quarters(rng, a, b))),
            ("b", "c", Dense(quarters(rng, b, c))),
            ("a", "c", Dense(quarters(rng, a, c))),
        ],
        outputs=["c"],
    )


def one_layer(weights: np.ndarray, threshold: object, bias: object = 0.0) -> Graph:
    weights = np.asarray(weights, dtype=float)
    return Graph.from_nodes(
        [Input("x", weights.shape[:1], "binary")],
        [Population("y", weights.shape[1:], threshold, bias)],
        [("x", "y", Dense(weights))],
        outputs=["y"],
    )
