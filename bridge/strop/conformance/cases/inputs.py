"""Golden cases for what enters and what is decided: encodings, several inputs, a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.conformance.cases.recipe import (
    Recipe,
    behind_a_relay,
    bits,
    case,
    quarters,
    units,
)
from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Readout,
    Select,
    SumPool,
)


def _encoded(encoding: str, frames: Any, level: float = 0.5) -> Recipe:
    """Return a network whose first layer meets what enters, under one encoding."""
    shape, planes = (3, 3, 1), 3
    node = Input("x", shape, encoding, bits=planes, level=level)
    convolve: Operator = Convolution(shape, quarters(59, (2, 2, 1, 4)), (1, 1), (1, 1), ((0, 1), (0, 1)))
    if encoding == "bitplane":
        # Plane k of a channel weighs 2^k: powers of two, so that a frame of 3-bit numbers is read exactly.
        convolve = Composed((Dense(np.array([[1.0], [2.0], [4.0]]), (3, 3)), convolve))
    pool = SumPool((3, 3, 4), (2, 2), (1, 1), ((0, 0), (0, 0)))
    flat = Composed((Select((2, 2, 4), np.arange(16)), Dense(quarters(60, (16, 5)))))
    graph = Graph.from_nodes(
        (node,),
        (
            units("conv", (3, 3, 4), 0.5, quarters(61, (4,), 3)),
            units("pool", (2, 2, 4), 2.0, 0.0),
            units("dense", (5,), 0.25, 0.0),
        ),
        [("x", "conv", convolve), ("conv", "pool", pool), ("pool", "dense", flat)],
        outputs=["dense"],
    )
    return Recipe(graph, {"x": frames})


def _grey(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 9, (20, 3, 3, 1)).astype(np.float32) / 8


@case
def encoding_host() -> Recipe:
    """The host evaluates the first layer."""
    return _encoded("host", _grey(62))


@case
def encoding_current() -> Recipe:
    """Values drive the first layer as currents."""
    return _encoded("current", _grey(63))


@case
def encoding_binary() -> Recipe:
    """Values from the level on are spikes; the level is 0.375, and many values equal it."""
    return _encoded("binary", _grey(64), level=0.375)


@case
def encoding_bitplane() -> Recipe:
    """Three-bit values enter as three binary planes."""
    whole = np.random.default_rng(65).integers(0, 8, (20, 3, 3, 1))
    return _encoded("bitplane", whole.astype(np.float32) / np.float32(7))


@case
def one_population() -> Recipe:
    """A single population.

    The shortest graph there is; under the encoding "host" nothing is left to the simulator but to play it.
    """
    only = units("only", (4,), 0.5, 0.25)
    node = Input("x", (2,))
    graph = Graph.from_nodes((node,), (only,), [("x", "only", Dense(quarters(66, (2, 4))))], outputs=["only"])
    return Recipe(graph, {"x": quarters(67, (12, 2)).astype(np.float32)})


@case
def two_inputs_two_outputs() -> Recipe:
    """Two inputs of different depth.

    One input is two layers further from the sum than the other.
    """
    graph = Graph.from_nodes(
        (Input("left", (3,), "binary"), Input("right", (2, 2), "binary")),
        (
            units("l1", (4,), 0.5, 0.0),
            units("l2", (4,), 0.25, 0.0),
            units("r1", (4,), 0.5, 0.0),
            units("sum", (3,), 0.5, 0.0),
        ),
        [
            ("left", "l1", Dense(quarters(68, (3, 4)))),
            ("l1", "l2", Dense(quarters(69, (4, 4)))),
            ("right", "r1", Composed((Select((2, 2), np.arange(4)), Dense(quarters(70, (4, 4)))))),
            ("l2", "sum", Dense(quarters(71, (4, 3)))),
            ("r1", "sum", Dense(quarters(72, (4, 3)))),
            ("left", "sum", Dense(quarters(73, (3, 3)))),
        ],
        outputs=["sum", "r1"],
    )
    return Recipe(graph, {"left": bits(74, 24, (3,)), "right": bits(75, 24, (2, 2))})


@case
def names_that_are_no_identifiers() -> Recipe:
    """Names that simulators do not accept as identifiers."""
    names = ["block-1/conv:0", "1st", "lambda", "größe", "v", "1st_2"]
    graph = Graph.from_nodes(
        (Input("input.1", (2,)),),
        tuple(units(name, (2,), 0.5, 0.0) for name in names),
        [(a, b, Dense(np.eye(2)[::-1])) for a, b in zip(["input.1", *names], names, strict=False)],
        outputs=[names[-1]],
    )
    return Recipe(graph, {"input.1": bits(76, 8, (2,))})


@case
def many_inputs() -> Recipe:
    """300 synapses whose sum equals the threshold.

    Sums of 300 terms that cancel to within a quarter of the threshold.
    """
    weights = quarters(77, (300, 4), 8)
    frames = bits(78, 12, (300,))
    biases = 0.5 - np.array([frames[n + 2] @ weights[:, n] for n in range(4)])
    graph = behind_a_relay(Dense(weights), 0.5, biases)
    return Recipe(graph, {"x": frames})


@case
def classifier() -> Recipe:
    """A classifier of 8 x 8 digits.

    Scikit-learn's digits: conv, OR pool, dense, key. Fitted by least squares, weights rounded to 1/64.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = (digits.images / 16).astype(np.float32)[..., None], digits.target
    kernel = quarters(79, (3, 3, 1, 12), 8)
    convolve = Convolution((8, 8, 1), kernel, (1, 1), (1, 1), ((1, 1), (1, 1)))
    pool = SumPool((8, 8, 12), (2, 2), (2, 2), ((0, 0), (0, 0)))
    features = pool.apply(convolve.apply(images) >= 1.0).reshape(len(images), -1) >= 0.5
    key = np.repeat(np.eye(10), 3, axis=0)
    train = slice(0, 1500)
    x = np.column_stack([features, np.ones(len(features))])[train].astype(np.float64)
    fitted = np.linalg.solve(x.T @ x + 30 * np.eye(x.shape[1]), x.T @ key[:, labels[train]].T)
    fitted = np.round(fitted * 64) / 64
    graph = Graph.from_nodes(
        (Input("image", (8, 8, 1)),),
        (
            units("conv", (8, 8, 12), 1.0, 0.0),
            units("pool", (4, 4, 12), 0.5, 0.0),
            units("dense", (30,), 0.375, fitted[-1]),
        ),
        [
            ("image", "conv", convolve),
            ("conv", "pool", pool),
            ("pool", "dense", Composed((Select((4, 4, 12), np.arange(192)), Dense(fitted[:-1])))),
        ],
        (Readout("decode", "key", ("dense",), (Dense(2 * key - 1),)),),
        ["decode"],
        name="digits",
    )
    return Recipe(graph, {"image": images[1500:1540]})
