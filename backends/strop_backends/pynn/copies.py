"""Copies of a graph side by side, between which frames are dealt out: frame i goes to copy `i % K`.

Each copy takes a frame in every step, so K copies take K frames. `tiled` makes one graph of K, which
`strop_backends.pynn.construction` builds as it builds any other; `deal` takes frames apart, and puts answers together.
Copy 0 has the graph's names, node `N` of copy c > 0 is called `N@c`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph
from strop.running.backend import Pair

FILL = "fill"


def copy_name(name: str, copy: int) -> str:
    """Return what node `name` of the graph is called in copy `copy`."""
    return f"{name}@{copy}" if copy else name


def checked_copies(copies: Any, backend: str) -> int:
    """Return the number of copies; `BackendError` for anything but a whole number of at least 1."""
    if isinstance(copies, bool) or not isinstance(copies, (int, np.integer)) or copies < 1:
        raise BackendError(f"{backend}: copies must be a whole number, 1 or more, got {copies!r}")
    return int(copies)


def tiled(graph: Graph, copies: int) -> Graph:
    """Return `copies` of `graph` in one graph, without read-outs; the operators are shared.

    Raises
    ------
    BackendError
        If a node of the graph has a name that one of a copy would have.
    """
    if copies == 1:
        return graph
    names = {*(node.name for node in graph.inputs), *graph.population_names}
    for name in names:
        for copy in range(1, copies):
            if copy_name(name, copy) in names:
                raise BackendError(
                    f"{copy_name(name, copy)!r} is a node of {graph.name!r}, and would be copy {copy} of {name!r}; "
                    "give the node another name, or run without copies"
                )
    each = range(copies)
    return Graph(
        tuple(replace(node, name=copy_name(node.name, copy)) for copy in each for node in graph.inputs),
        tuple(replace(node, name=copy_name(node.name, copy)) for copy in each for node in graph.populations),
        tuple(
            replace(p, source=copy_name(p.source, copy), target=copy_name(p.target, copy))
            for copy in each
            for p in graph.projections
        ),
        (),
        tuple(copy_name(name, copy) for copy in each for name in graph.population_names),
        graph.name,
        graph.assumptions,
    )


def steps_of(count: int, copies: int) -> int:
    """Return how many steps it takes to present `count` frames to `copies` copies."""
    return -(-count // copies)


def deal(values: npt.NDArray[Any], copies: int) -> list[npt.NDArray[Any]]:
    """Return the rows of `values`, shape (n, ...), that each copy gets; the last copies may get one row less, or none.

    They are views: what is written to them, the answers of each copy, stands in `values` in the order of the frames.

    >>> [part.tolist() for part in deal(np.arange(5), 3)]
    [[0, 3], [1, 4], [2]]
    """
    return [values[copy::copies] for copy in range(copies)]


def of_all_copies(weights: Mapping[Pair, Any], copies: int) -> dict[Pair, Any]:
    """Return the weights of the graph's projections for the projections of every copy."""
    return {
        (copy_name(source, copy), copy_name(target, copy)): values
        for copy in range(copies)
        for (source, target), values in weights.items()
    }


def of_the_graph(
    weights: Mapping[Pair, npt.NDArray[np.float64]], pairs: Sequence[Pair], copies: int, backend: str
) -> dict[Pair, npt.NDArray[np.float64]]:
    """Return the weights of the graph's projections, `pairs`, which all copies must agree in."""
    for copy in range(1, copies):
        for source, target in pairs:
            other = copy_name(source, copy), copy_name(target, copy)
            if not np.array_equal(weights[other], weights[source, target]):
                raise BackendError(
                    f"{backend}: the weights of {source} -> {target} differ between the copies (those of "
                    f"{' -> '.join(other)} are others); read them from network.projections, or set all alike with "
                    "set_weights"
                )
    return {pair: weights[pair] for pair in pairs}
