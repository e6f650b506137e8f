"""Graphs and lowerings with one thing wrong, for tests that see whether a verification finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strop.graph import Dense, Graph, Readout


def with_graph(graph: Graph, **changes: Any) -> Graph:
    """Return the graph with some of its node tuples replaced."""
    nodes = {
        name: getattr(graph, name) for name in ("inputs", "populations", "projections", "readouts", "outputs", "name")
    }
    return Graph(**{**nodes, **changes})


def with_readout(graph: Graph, change: Callable[[Readout], Readout]) -> Graph:
    """Return the graph with its first read-out changed."""
    first, *others = graph.readouts
    return with_graph(graph, readouts=(change(first), *others))


@contextmanager
def lowered_as(change: Callable[[Graph], Graph]) -> Iterator[None]:
    """Let `strop.verify` lower models to a graph that `change` made of the right one."""
    import strop.lowering as lowering

    honest = lowering.trace

    def trace(*args: Any, **kwargs: Any) -> Any:
        found = honest(*args, **kwargs)
        return replace(found, graph=change(found.graph))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "trace", trace)
        yield


def corrupted_readout(readout: Readout, rng: np.random.Generator) -> Readout:
    """Return the read-out with something wrong: a bias, a weight, two answers exchanged, a factor."""
    kind = rng.choice(["bias", "exchanged", "factor", "row"])
    size = int(np.prod(readout.logits_shape))
    bias = np.array(np.broadcast_to(readout.bias, readout.logits_shape), dtype=np.float64)
    if kind == "bias":
        bias.reshape(-1)[int(rng.integers(size))] += float(rng.choice([-1.0, 1.0])) * 0.05
        return replace(readout, bias=bias)
    operators = list(readout.operators)
    first = operators[0]
    pre, post, weight = first.to_coo()
    matrix = np.zeros((first.size_in, first.size_out))
    matrix[pre, post] = weight
    if kind == "exchanged" and size > 1:
        a, b = rng.choice(size, 2, replace=False)
        matrix[:, [a, b]] = matrix[:, [b, a]]
        bias.reshape(-1)[[a, b]] = bias.reshape(-1)[[b, a]]
    elif kind == "factor":
        matrix *= 1.01
    else:
        matrix[int(rng.integers(first.size_in))] += 0.1
    operators[0] = _flat(matrix, first)
    return replace(readout, operators=tuple(operators), bias=bias)


def _flat(matrix: np.ndarray, like: Any) -> Any:
    from strop.graph import Sparse

    pre, post = np.nonzero(matrix)
    if len(like.shape_in) == 1 and len(like.shape_out) == 1:
        return Dense(matrix)
    return Sparse(like.shape_in, like.shape_out, pre, post, matrix[pre, post])
