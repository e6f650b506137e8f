"""Golden cases for input encodings, several inputs and outputs, names, and a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from strop.conformance.cases.recipe import (
    Recipe,
    behind_a_relay,
    bits,
    case,
    population,
    quarters,
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
    """Return a network whose first layer takes the frames, under one encoding."""
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
            population("conv", (3, 3, 4), 0.5, quarters(61, (4,), 3)),
            population("pool", (2, 2, 4), 2.0, 0.0),
            population("dense", (5,), 0.25, 0.0),
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
def current_hits_thresholds_exactly() -> Recipe:
    """Values and biases that add up to the threshold fire, 2^-20 below do not.

    Thresholds above, at and below zero; each value is what is missing, a little less, or a quarter more or less.
    """
    thresholds = np.array([0.5, 0.5, 0.0, -0.75, 0.25, 0.0], np.float32)
    biases = np.array([0.0, 0.25, -0.5, 0.0, 0.5, 0.0], np.float32)
    missing = thresholds - biases
    frames = np.stack([missing, missing - np.float32(2.0**-20), missing + 0.25, missing - 0.25] * 4)
    # A frame of each kind, then mixed, so that no frame follows from the one before.
    rng = np.random.default_rng(80)
    frames[4:] = rng.permuted(frames[4:], axis=0)
    graph = Graph.from_nodes(
        (Input("x", (6,), "current"),),
        (population("driven", (6,), thresholds, biases), population("behind", (4,), 0.5, 0.0)),
        [("x", "driven", Dense(np.eye(6))), ("driven", "behind", Dense(quarters(81, (6, 4))))],
        outputs=["behind"],
    )
    return Recipe(graph, {"x": frames})


@case
def current_one_float64_apart() -> Recipe:
    """A value one float64 below the threshold does not fire.

    Weights of 1/3 and its neighbours against thresholds of 1/3, and the same with a bias.
    """
    third = 1.0 / 3.0
    weights = [np.nextafter(third, 0.0), third, np.nextafter(third, 1.0)]
    only = population("only", (6,), [third] * 3 + [third + 0.25] * 3, [0.0] * 3 + [0.25] * 3)
    graph = Graph.from_nodes(
        (Input("x", (1,), "current"),), (only,), [("x", "only", Dense(np.array([weights * 2])))], outputs=["only"]
    )
    return Recipe(graph, {"x": np.array([[1.0], [0.0], [1.0], [2.0], [-1.0], [1.0]], np.float32)}, "float64")


@case
def current_beside_spikes() -> Recipe:
    """Values reach a unit in the step in which the spikes of the same frame do.

    Every neuron of the last layer needs both, its own frame's; a layer lies between the input and it.
    """
    frames = quarters(82, (40, 3)).astype(np.float32)
    graph = Graph.from_nodes(
        (Input("x", (3,), "current"),),
        (
            population("first", (4,), 0.25, 0.25),
            population("both", (5,), [0.5, 0.0, -0.5, 1.0, 0.25], quarters(83, (5,), 2)),
        ),
        [
            ("x", "first", Dense(quarters(84, (3, 4), 4))),
            ("first", "both", Dense(quarters(85, (4, 5), 4))),
            ("x", "both", Dense(quarters(86, (3, 5), 4))),
        ],
        outputs=["both"],
    )
    return Recipe(graph, {"x": frames})


def _planes(bits: int, seed: int, step: float | None = None, offset: float = 0.0) -> Recipe:
    """Return two layers behind planes that are weighed by powers of two, so that every number is read exactly."""
    node = Input("x", (2, 3), "bitplane", bits, step=step, offset=offset)
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 1 << bits, (30, 2, 3))
    whole[0], whole[1] = 0, (1 << bits) - 1
    weights = np.kron(np.eye(3), 2.0 ** np.arange(bits)[:, None])
    # Thresholds that are numbers of some frame: one neuron in two is hit exactly.
    threshold = np.where(rng.random((2, 3)) < 0.5, whole[2], whole[3] + 0.5).astype(np.float64)
    mixed = Composed((Select((2, 3), np.arange(6)), Dense(quarters(seed + 1, (6, 4)))))
    graph = Graph.from_nodes(
        (node,),
        (population("read", (2, 3), threshold, 0.0), population("mixed", (4,), 0.25, 0.0)),
        [("x", "read", Dense(weights, (2,))), ("read", "mixed", mixed)],
        outputs=["mixed"],
    )
    return Recipe(graph, {"x": node.plane_values(whole).astype(np.float32)})


@case
def bitplane_of_one_bit() -> Recipe:
    """A single plane: frames of zeros and ones."""
    return _planes(1, 87)


@case
def bitplane_of_five_bits() -> Recipe:
    """Five planes of every value."""
    return _planes(5, 89)


@case
def bitplane_of_twelve_bits() -> Recipe:
    """Twelve planes of every value, as a scientific camera has them."""
    return _planes(12, 91)


@case
def bitplane_of_signed_sixteenths() -> Recipe:
    """Frames that hold multiples of 1/16 from -1 on."""
    return _planes(6, 93, 1 / 16, -1.0)


@case
def one_population() -> Recipe:
    """A single population.

    The shortest graph there is; under the encoding "host" the simulator has nothing to do but to present its spikes.
    """
    only = population("only", (4,), 0.5, 0.25)
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
            population("l1", (4,), 0.5, 0.0),
            population("l2", (4,), 0.25, 0.0),
            population("r1", (4,), 0.5, 0.0),
            population("sum", (3,), 0.5, 0.0),
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
        tuple(population(name, (2,), 0.5, 0.0) for name in names),
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
            population("conv", (8, 8, 12), 1.0, 0.0),
            population("pool", (4, 4, 12), 0.5, 0.0),
            population("dense", (30,), 0.375, fitted[-1]),
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
