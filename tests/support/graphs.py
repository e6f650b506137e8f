"""Graphs made by hand and at random, without Keras, for tests of simulators."""

from __future__ import annotations

import numpy as np

from strop.graph import Convolution, Dense, Graph, Input, Operator, Population, Readout, Select, SumPool


def skip_network(rng: np.random.Generator, encoding: str = "binary") -> Graph:
    """x -> a -> b -> c -> d with a -> c, a -> d and b -> d: three different delays."""

    def dense(before: int, after: int) -> Dense:
        return Dense(rng.normal(0.0, 0.7, (before, after)))

    node = Input("x", (6,), encoding)
    sizes = {"x": node.signal_shape[0], "a": 9, "b": 7, "c": 8, "d": 5}
    links = [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("b", "d")]
    return Graph.from_nodes(
        [node],
        [Population(n, (sizes[n],), rng.normal(0.2, 0.3, sizes[n]), rng.normal(0, 0.3, sizes[n])) for n in "abcd"],
        [(s, t, dense(sizes[s], sizes[t])) for s, t in links],
        [Readout("out", "key", ("d",), (dense(5, 3),), rng.normal(size=3))],
        ["out"],
    )


def image_network(rng: np.random.Generator, encoding: str = "binary") -> Graph:
    """Convolution (strided, grouped, padded unevenly), OR pool, flatten, dense."""
    node = Input("image", (7, 6, 2), encoding)
    channels = node.signal_shape[-1]
    first = Convolution((7, 6, channels), rng.normal(0, 0.5, (3, 2, channels, 4)), (1, 1), (1, 1), ((1, 1), (0, 1)))
    pool = SumPool(first.shape_out, (2, 2), (2, 2), ((0, 1), (0, 0)))
    second = Convolution(pool.shape_out, rng.normal(0, 0.7, (2, 2, 2, 6)), (1, 1), (1, 1), ((0, 0), (0, 0)), 2)
    flat = Select(second.shape_out, np.arange(second.size_out))
    dense = Dense(rng.normal(0, 0.5, (second.size_out, 8)))

    def population(name: str, operator: Operator, threshold: float) -> Population:
        return Population(name, operator.shape_out, threshold, rng.normal(0, 0.3, operator.shape_out[-1]))

    return Graph.from_nodes(
        [node],
        [
            population("conv", first, 0.5),
            Population("pool", pool.shape_out, 0.5, 0.0),
            population("conv2", second, 0.0),
            population("flat", flat, 0.5),
            population("dense", dense, 0.25),
        ],
        [
            ("image", "conv", first),
            ("conv", "pool", pool),
            ("pool", "conv2", second),
            ("conv2", "flat", flat),
            ("flat", "dense", dense),
        ],
        (),
        ["dense"],
    )


def grid_network(rng: np.random.Generator) -> Graph:
    """Weights, biases and thresholds that are multiples of 1/4: sums hit thresholds exactly, all the time."""

    def grid(*shape: int) -> np.ndarray:
        return rng.integers(-4, 5, shape) / 4.0

    return Graph.from_nodes(
        [Input("x", (8,), "binary")],
        [Population(n, (12,), grid(12), grid(12)) for n in "ab"],
        [("x", "a", Dense(grid(8, 12))), ("a", "b", Dense(grid(12, 12)))],
        (),
        ["b"],
    )


def frames_for(graph: Graph, rng: np.random.Generator, count: int = 40) -> np.ndarray:
    """Return uint8 frames; half of the values lie above the level of the binary encoding."""
    return rng.integers(0, 256, (count, *graph.inputs[0].shape)).astype(np.uint8)
