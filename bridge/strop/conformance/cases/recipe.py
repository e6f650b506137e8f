"""`Recipe` of a golden case (a graph and frames), and the networks that many cases share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strop.graph import Graph, Input, Operator, Population, Select


@dataclass(frozen=True)
class Recipe:
    """A golden case before it is evaluated; `precision` is that in which a simulator must calculate."""

    graph: Graph
    frames: dict[str, Any]
    precision: str = "float32"


RECIPES: dict[str, Callable[[], Recipe]] = {}


def case(make: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Register a recipe under its function's name; the first line of its docstring describes the case."""
    if make.__name__ in RECIPES or not make.__doc__:
        raise ValueError(f"golden case {make.__name__} is there twice, or has no docstring")
    RECIPES[make.__name__] = make
    return make


def says(name: str) -> str:
    """Return the description of the case of that name, in a sentence."""
    return (RECIPES[name].__doc__ or "").strip().splitlines()[0]


def quarters(seed: int, shape: Sequence[int], reach: int = 6) -> Any:
    """Return multiples of 1/4 between -reach/4 and reach/4."""
    return np.random.default_rng(seed).integers(-reach, reach + 1, tuple(shape)) / 4


def bits(seed: int, count: int, shape: Sequence[int], rate: float = 0.5) -> Any:
    """Return random frames of zeros and ones; the first is silent, the second all ones."""
    frames = (np.random.default_rng(seed).random((count, *shape)) < rate).astype(np.float32)
    frames[0], frames[1] = 0.0, 1.0
    return frames


def population(name: str, shape: Sequence[int], threshold: Any, bias: Any = 0.0) -> Population:
    """Return a population; thresholds and biases may be given as plain numbers or lists."""
    return Population(name, tuple(shape), np.asarray(threshold), np.asarray(bias))


def identity(shape: Sequence[int]) -> Select:
    """Return the map that leaves frames of `shape` as they are."""
    return Select(tuple(shape), np.arange(math.prod(shape)).reshape(tuple(shape)))


def behind_a_relay(
    operator: Operator, threshold: Any = 0.5, bias: Any = 0.0, name: str = "target", encoding: str = "host"
) -> Graph:
    """Return input -> relay -> target: the relay fires where the frame is one, the operator carries that on.

    Under the encoding "host" the relay is evaluated off the simulator, so the operator meets spikes in any
    case.
    """
    shape = operator.shape_in
    return Graph.from_nodes(
        (Input("x", shape, encoding),),
        (population("relay", shape, 0.5, 0.0), population(name, operator.shape_out, threshold, bias)),
        [("x", "relay", identity(shape)), ("relay", name, operator)],
        outputs=[name],
    )


def of_operator(operator: Operator, seed: int, threshold: Any = 0.5, bias: Any = 0.0) -> Recipe:
    """Return a case for one operator between two populations."""
    return Recipe(behind_a_relay(operator, threshold, bias), {"x": bits(seed, 24, operator.shape_in)})
