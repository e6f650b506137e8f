"""What the golden cases are made of: graphs and frames, each for one thing that a simulator can get wrong.

Only the generator calls these; the suite reads the files that it wrote. Unless a case says otherwise, all
values are multiples of 1/4 and small, so that float32 sums are exact in every order and there is one right
answer for each unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Population,
    Readout,
    Scale,
    Select,
    Sparse,
    SumPool,
)

Frames = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A golden case before it is evaluated."""

    says: str
    graph: Graph
    frames: Frames
    precision: str = "float32"


RECIPES: dict[str, Callable[[], Recipe]] = {}


def case(make: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Register a recipe under the name of its function."""
    RECIPES[make.__name__] = make
    return make


def quarters(seed: int, shape: Sequence[int], reach: int = 6) -> Any:
    """Return multiples of 1/4 between -reach/4 and reach/4."""
    return np.random.default_rng(seed).integers(-reach, reach + 1, tuple(shape)) / 4


def bits(seed: int, count: int, shape: Sequence[int], rate: float = 0.5) -> Any:
    """Return random frames of zeros and ones; the first is silent, the second all ones."""
    frames = (np.random.default_rng(seed).random((count, *shape)) < rate).astype(np.float32)
    frames[0], frames[1] = 0.0, 1.0
    return frames


def identity(shape: Sequence[int]) -> Select:
    """Return the map that leaves frames of `shape` as they are."""
    return Select(tuple(shape), np.arange(math.prod(shape)).reshape(tuple(shape)))


def behind_a_relay(
    operator: Operator, threshold: Any = 0.5, bias: Any = 0.0, name: str = "target", encoding: str = "host"
) -> Graph:
    """Return input -> relay -> target: the relay fires where the frame is one, the operator carries its spikes on.

    Under the encoding "host" the relay is evaluated off the simulator, so the operator meets spikes in any
    case.
    """
    shape = operator.shape_in
    return Graph.from_nodes(
        (Input("x", shape, encoding),),
        (units("relay", shape, 0.5, 0.0), units(name, operator.shape_out, threshold, bias)),
        [("x", "relay", identity(shape)), ("relay", name, operator)],
        outputs=[name],
    )


def of_operator(says: str, operator: Operator, seed: int, threshold: Any = 0.5, bias: Any = 0.0) -> Recipe:
    """Return a case for one operator between spikes and units."""
    return Recipe(says, behind_a_relay(operator, threshold, bias), {"x": bits(seed, 24, operator.shape_in)})


# Operators -----------------------------------------------------------------------------------------------


@case
def dense() -> Recipe:
    """A matrix between two layers."""
    return of_operator(Dense(quarters(1, (7, 9))), 2, 0.75, quarters(3, (9,), 3)
    )


@case
def dense_on_every_row() -> Recipe:
    """One matrix for every row of a frame."""
    return of_operator(Dense(quarters(4, (3, 4)), (2, 5)), 5)


@case
def convolution_1d() -> Recipe:
    """1-D convolution, stride 2, asymmetric padding."""
    op = Convolution((11, 2), quarters(6, (4, 2, 3)), (2,), (1,), ((1, 2),))
    return of_operator(op, 7, 0.5, quarters(8, (3,), 2))


@case
def convolution_2d_valid() -> Recipe:
    """2-D convolution without padding, kernel 3 x 2."""
    op = Convolution((6, 5, 2), quarters(9, (3, 2, 2, 3)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    return of_operator(op, 10)


@case
def convolution_2d_same() -> Recipe:
    """2-D convolution with 'same' padding."""
    op = Convolution((6, 7, 1), quarters(11, (3, 3, 1, 4)), (1, 1), (1, 1), ((1, 1), (1, 1)))
    return of_operator(op, 12, 1.0)


@case
def convolution_2d_same_strided() -> Recipe:
    """'same' padding with stride 2: more zeros after than before."""
    op = Convolution((6, 7, 2), quarters(13, (3, 3, 2, 3)), (2, 2), (1, 1), ((0, 1), (1, 1)))
    return of_operator(op, 14)


@case
def convolution_2d_padded_before() -> Recipe:
    """Padding that no 'same' or 'valid' says."""
    op = Convolution((5, 5, 1), quarters(15, (3, 3, 1, 2)), (1, 1), (1, 1), ((2, 0), (0, 1)))
    return of_operator(op, 16)


@case
def convolution_2d_dilated() -> Recipe:
    """Dilation 2 x 3."""
    op = Convolution((7, 6, 1), quarters(17, (3, 2, 1, 3)), (1, 1), (2, 3), ((1, 1), (0, 0)))
    return of_operator(op, 18)


@case
def convolution_2d_grouped() -> Recipe:
    """Two groups of channels."""
    op = Convolution((5, 4, 4), quarters(19, (2, 2, 2, 6)), (1, 1), (1, 1), ((0, 0), (0, 0)), groups=2)
    return of_operator(op, 20)


@case
def convolution_2d_depthwise() -> Recipe:
    """A group for each channel, two filters each."""
    op = Convolution((5, 4, 3), quarters(21, (2, 3, 1, 6)), (1, 1), (1, 1), ((0, 1), (1, 1)), groups=3)
    return of_operator(op, 22)


@case
def convolution_2d_transposed() -> Recipe:
    """Transposed convolution, stride 2."""
    op = Convolution((3, 4, 2), quarters(23, (3, 3, 2, 2)), (2, 2), (1, 1), ((0, 1), (1, 1)), transposed=True)
    return of_operator(op, 24)


@case
def convolution_2d_transposed_output_padding() -> Recipe:
    """Transposed convolution with rows that no input reaches."""
    op = Convolution((3, 3, 1), quarters(25, (2, 2, 1, 2)), (2, 2), (1, 1), ((0, 0), (0, 0)), 1, True, (1, 1))
    return of_operator(op, 26, 0.0, [0.0, -0.25])


@case
def convolution_3d() -> Recipe:
    """3-D convolution."""
    op = Convolution(
        (3, 4, 3, 1), quarters(27, (2, 2, 2, 1, 2)), (1, 2, 1), (1, 1, 1), ((0, 1), (0, 0), (1, 0))
    )
    return of_operator(op, 28)


@case
def pool_or() -> Recipe:
    """A pool whose units fire when any input does."""
    op = SumPool((5, 6, 2), (2, 3), (2, 2), ((0, 1), (1, 0)))
    recipe = of_operator(op, 29)
    return Recipe(recipe.graph, {"x": bits(30, 24, (5, 6, 2), 0.12)})


@case
def pool_and() -> Recipe:
    """A pool whose units fire when all inputs do."""
    op = SumPool((6, 6, 1), (2, 2), (2, 2), ((0, 0), (0, 0)))
    recipe = of_operator(op, 31, threshold=4.0)
    return Recipe(recipe.graph, {"x": bits(32, 24, (6, 6, 1), 0.8)})


@case
def pool_overlapping_1d() -> Recipe:
    """Windows that overlap."""
    return of_operator(SumPool((9, 2), (3,), (1,), ((1, 1),)), 33, threshold=2.0)


@case
def scale() -> Recipe:
    """A factor for each row."""
    factor = [[0.5], [1.0], [-1.0]]
    return of_operator(Scale((3, 4), factor), 34, threshold=quarters(35, (3, 4), 4))


@case
def select() -> Recipe:
    """Permuted, cropped, padded and repeated."""
    index = [[5, 0, -1], [1, 1, 4], [-1, 2, 3]]
    return of_operator(Select((2, 4), np.array(index)), 36)


@case
def sparse() -> Recipe:
    """Single synapses in no order, units with none."""
    pre, post = np.nonzero(np.random.default_rng(37).random((10, 8)) < 0.3)
    order = np.random.default_rng(38).permutation(len(pre))
    op = Sparse((2, 5), (4, 2), pre[order], post[order], quarters(39, (len(pre),)))
    return of_operator(op, 40, [0.5, 0.0])


@case
def composed_flatten_dense() -> Recipe:
    """A dense layer behind a Flatten."""
    op = Composed((Select((2, 3, 2), np.arange(12)), Dense(quarters(41, (12, 5)))))
    return of_operator(op, 42)


@case
def composed_average_convolution() -> Recipe:
    """Average pooling in front of a convolution, paths that meet."""
    pool = SumPool((6, 6, 1), (2, 2), (2, 2), ((0, 0), (0, 0)))
    convolve = Convolution((3, 3, 1), quarters(43, (2, 2, 1, 3)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    op = Composed((pool, Scale((3, 3, 1), [0.25]), convolve))
    return of_operator(op, 44)


# Thresholds and biases -----------------------------------------------------------------------------------


@case
def threshold_hit_exactly() -> Recipe:
    """Sums that equal the threshold fire.

    Unit k needs k of 6 inputs; each frame has a number of ones, so half the frames hit some threshold exactly.
    """
    frames = np.zeros((28, 6), np.float32)
    for n in range(28):
        frames[n, np.random.default_rng(n).permutation(6)[: n % 7]] = 1.0
    op = Dense(np.full((6, 7), 0.25))
    return Recipe(behind_a_relay(op, np.arange(7) / 4), {"x": frames})


@case
def threshold_just_above_and_below() -> Recipe:
    """A threshold one float32 above the sum does not fire.

    One weight of 0.5 against thresholds one float32 apart.
    """
    half = np.float32(0.5)
    thresholds = [np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(1)), 0.0, -0.0]
    graph = behind_a_relay(Dense(np.full((1, 5), 0.5)), [float(t) for t in thresholds])
    return Recipe(graph, {"x": bits(45, 8, (1,))})


@case
def threshold_one_float64_apart() -> Recipe:
    """A threshold one float64 above the sum does not fire.

    The same one float64 apart, with a value that has no short binary form.
    """
    thresholds = [np.nextafter(0.1, 0), 0.1, np.nextafter(0.1, 1)]
    graph = behind_a_relay(Dense(np.full((1, 3), 0.1)), thresholds)
    return Recipe(graph, {"x": bits(46, 8, (1,))}, "float64"
    )


@case
def threshold_zero_and_negative() -> Recipe:
    """Units that fire without any input.

    Spiking_Sigmoid fires from 0 on: a silent input is enough.
    """
    graph = behind_a_relay(Dense(quarters(47, (4, 6), 3)), [0.0, 0.0, 0.0, -0.5, -0.25, 0.25])
    return Recipe(graph, {"x": bits(48, 20, (4,))})


@case
def threshold_per_unit() -> Recipe:
    """Every unit has its own threshold and bias."""
    op = Convolution((4, 4, 1), np.ones((2, 2, 1, 2)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    graph = behind_a_relay(op, quarters(49, (3, 3, 2), 12), quarters(50, (3, 3, 2), 4))
    return Recipe(graph, {"x": bits(51, 20, (4, 4, 1))})


@case
def bias_at_and_beyond_the_threshold() -> Recipe:
    """A bias at the threshold fires without input.

    The bias alone reaches the threshold (0.5), goes beyond it, or stays below; inhibition takes it back.
    """
    biases = [0.25, 0.5, 0.75, 2.0, -1.0, 0.5, 1.5]
    weights = np.array([[0.25] * 5 + [-0.25, -0.5], [-0.25] * 5 + [0.25, -0.5]])
    frames = np.array([[0, 0], [1, 0], [0, 1], [1, 1]] * 4, np.float32)
    return Recipe(behind_a_relay(Dense(weights), 0.5, biases),
        {"x": frames},
    )


@case
def bias_of_units_without_synapses() -> Recipe:
    """Units that nothing reaches follow their bias."""
    op = Sparse((3,), (4,), [0], [1], [0.25])
    graph = behind_a_relay(op, 0.5, [0.5, 0.25, 0.25, 1.0])
    return Recipe(graph, {"x": bits(52, 10, (3,))})


@case
def weights_all_zero() -> Recipe:
    """A projection that carries nothing."""
    graph = behind_a_relay(Dense(np.zeros((3, 4))), [0.5, 0.0, -1.0, 0.25], [0.0, 0.0, 0.0, 0.25])
    return Recipe(graph, {"x": bits(53, 8, (3,))})


@case
def all_silent_and_all_firing() -> Recipe:
    """A silent layer and one that fires in every frame.

    One layer never fires, one always does, and a third listens to both.
    """
    graph = Graph.from_nodes(
        (Input("x", (3,)),),
        (
            units("relay", (3,), 0.5, 0.0),
            units("silent", (4,), 100.0, 0.0),
            units("firing", (4,), -100.0, 0.0),
            units("listener", (3,), [1.0, 1.25, 1.0], 0.0),
        ),
        [
            ("x", "relay", identity((3,))),
            ("relay", "silent", Dense(quarters(54, (3, 4)))),
            ("relay", "firing", Dense(quarters(55, (3, 4)))),
            ("silent", "listener", Dense(np.full((4, 3), -1.0))),
            ("firing", "listener", Dense(np.full((4, 3), 0.25))),
        ],
        outputs=["listener"],
    )
    return Recipe(graph, {"x": bits(56, 10, (3,))})


# Time ----------------------------------------------------------------------------------------------------


@case
def no_charge_is_carried_over() -> Recipe:
    """A frame leaves nothing behind for the next.

    0.75 in every frame never adds up to 1; after strong inhibition, 1 is enough at once; fires frame after frame.
    """
    frames = np.array(
        [[1, 0, 0]] * 6 + [[0, 0, 1]] * 3 + [[1, 1, 0]] * 6 + [[0, 0, 1], [1, 1, 0]] * 4, np.float32
    )
    op = Dense(np.array([[0.75], [0.25], [-8.0]]))
    return Recipe(behind_a_relay(op, 1.0), {"x": frames})


def _skip(encoding: str) -> Graph:
    shape = (2,)
    keep = np.eye(2)
    names = ["a", "b", "c", "d", "e"]
    return Graph.from_nodes(
        (Input("x", shape, encoding),),
        tuple(units(name, shape, {"d": 2.0, "e": 2.5}.get(name, 0.5), 0.0) for name in names),
        [
            ("x", "a", Dense(keep)),
            ("a", "b", Dense(keep)),
            ("b", "c", Dense(keep)),
            ("c", "d", Dense(keep)),
            ("a", "d", Dense(keep)),
            ("d", "e", Dense(keep)),
            ("b", "e", Dense(keep)),
            ("a", "e", Dense(keep / 2)),
        ],
        outputs=["e", "d"],
    )


@case
def skip_delays() -> Recipe:
    """Skips of two, three and four steps meet the layers they skip.

    Alternating frames, so that a spike that comes a step early or late belongs to another frame.
    """
    frames = bits(57, 40, (2,))
    frames[2:12] = np.array([[1, 0], [0, 1]] * 5)
    return Recipe(_skip("host"), {"x": frames}
    )


@case
def skip_delays_from_the_input() -> Recipe:
    """An input spike waits two steps for the layers it skips."""
    graph = Graph.from_nodes(
        (Input("x", (3,), "binary"),),
        (
            units("a", (3,), 0.5, 0.0),
            units("b", (3,), 0.5, 0.0),
            units("both", (3,), 2.0, 0.0),
        ),
        [
            ("x", "a", identity((3,))),
            ("a", "b", identity((3,))),
            ("b", "both", identity((3,))),
            ("x", "both", identity((3,))),
        ],
        outputs=["both"],
    )
    return Recipe(graph, {"x": bits(58, 30, (3,))})


# Inputs --------------------------------------------------------------------------------------------------


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
    return Recipe(f"frames enter under the encoding {encoding!r}", graph, {"x": frames})


def _grey(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 9, (20, 3, 3, 1)).astype(np.float32) / 8


@case
def encoding_host() -> Recipe:
    return _encoded("host", _grey(62))


@case
def encoding_current() -> Recipe:
    return _encoded("current", _grey(63))


@case
def encoding_binary() -> Recipe:
    """The level is 0.375, and many values equal it: they are spikes."""
    return _encoded("binary", _grey(64), level=0.375)


@case
def encoding_bitplane() -> Recipe:
    whole = np.random.default_rng(65).integers(0, 8, (20, 3, 3, 1))
    return _encoded("bitplane", whole.astype(np.float32) / np.float32(7))


@case
def one_population() -> Recipe:
    """A single population.

    The shortest graph there is; under the encoding "host" nothing is left to the simulator but to play it.
    """
    only = units("only", (4,), 0.5, 0.25)
    node = Input("x", (2,))
    graph = Graph.from_nodes(
        (node,), (only,), [("x", "only", Dense(quarters(66, (2, 4))))], outputs=["only"]
    )
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
    return Recipe(graph, {"left": bits(74, 24, (3,)), "right": bits(75, 24, (2, 2))}
    )


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


# Size ----------------------------------------------------------------------------------------------------


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
            units("dense", (30,), 0.25, fitted[-1]),
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
