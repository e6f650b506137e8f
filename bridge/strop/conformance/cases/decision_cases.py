"""Golden cases for thresholds, biases and time: when a neuron fires, and in response to which frame."""

from __future__ import annotations

import numpy as np

from strop.conformance.cases.recipe import (
    Recipe,
    behind_a_relay,
    bits,
    case,
    identity,
    population,
    quarters,
)
from strop.graph import (
    Convolution,
    Dense,
    Graph,
    Input,
    Sparse,
)


@case
def threshold_hit_exactly() -> Recipe:
    """Sums that equal the threshold fire.

    Neuron k needs k of 6 inputs; each frame has a number of ones, so half the frames hit some threshold
    exactly.
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
def threshold_above_every_sum() -> Recipe:
    """A sum that is one float32 short of the threshold does not fire.

    Neuron k needs a little more than k + 1 of 6 inputs: the sums meet what lies just below each threshold.
    """
    frames = np.zeros((28, 6), np.float32)
    for n in range(28):
        frames[n, np.random.default_rng(n).permutation(6)[: n % 7]] = 1.0
    sums = np.arange(1, 6, dtype=np.float32) / 4
    above = np.nextafter(sums, np.float32(np.inf)).astype(np.float64)
    return Recipe(behind_a_relay(Dense(np.full((6, 5), 0.25)), above), {"x": frames})


@case
def threshold_one_float64_apart() -> Recipe:
    """A threshold one float64 above the sum does not fire.

    The same one float64 apart, with a value that has no short binary form.
    """
    thresholds = [np.nextafter(0.1, 0), 0.1, np.nextafter(0.1, 1)]
    graph = behind_a_relay(Dense(np.full((1, 3), 0.1)), thresholds)
    return Recipe(graph, {"x": bits(46, 8, (1,))}, "float64")


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
    return Recipe(
        behind_a_relay(Dense(weights), 0.5, biases),
        {"x": frames},
    )


@case
def bias_of_units_without_synapses() -> Recipe:
    """Units that nothing reaches follow their bias."""
    op = Sparse((3,), (4,), np.array([0]), np.array([1]), np.array([0.25]))
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
            population("relay", (3,), 0.5, 0.0),
            population("silent", (4,), 100.0, 0.0),
            population("firing", (4,), -100.0, 0.0),
            population("listener", (3,), [1.0, 1.25, 1.0], 0.0),
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

    0.75 in every frame never adds up to 1; after strong inhibition, 1 is enough at once; fires frame after
    frame.
    """
    frames = np.array([[1, 0, 0]] * 6 + [[0, 0, 1]] * 3 + [[1, 1, 0]] * 6 + [[0, 0, 1], [1, 1, 0]] * 4, np.float32)
    op = Dense(np.array([[0.75], [0.25], [-8.0]]))
    return Recipe(behind_a_relay(op, 1.0), {"x": frames})


def _skip(encoding: str) -> Graph:
    shape = (2,)
    keep = np.eye(2)
    names = ["a", "b", "c", "d", "e"]
    return Graph.from_nodes(
        (Input("x", shape, encoding),),
        tuple(population(name, shape, {"d": 2.0, "e": 2.5}.get(name, 0.5), 0.0) for name in names),
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
    return Recipe(_skip("host"), {"x": frames})


@case
def skip_delays_from_the_input() -> Recipe:
    """An input spike waits two steps for the layers it skips."""
    graph = Graph.from_nodes(
        (Input("x", (3,), "binary"),),
        (
            population("a", (3,), 0.5, 0.0),
            population("b", (3,), 0.5, 0.0),
            population("both", (3,), 2.0, 0.0),
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
