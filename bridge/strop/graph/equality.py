"""Differences between two graphs in words: node by node, shape by shape, value by value (`==` is faster)."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from strop.graph.content import Content
from strop.graph.network import Graph


def difference(a: Graph, b: Graph) -> str | None:
    """Return where two graphs differ first, in words, or None if they are equal.

    >>> difference(graph, Graph.load(path)) is None
    True

    Nodes are compared in their order, operators by their class and all their fields. Values must be equal,
    not close; a threshold or bias counts as the values of all neurons, however compactly it is kept.
    """
    return _differ("graph", a, b)


def graphs_equal(a: Graph, b: Graph) -> bool:
    """Whether `a` and `b` are equal in every node, shape and value: `a == b`; see `difference`."""
    return a == b


def _differ(where: str, a: Any, b: Any) -> str | None:
    if isinstance(a, Content) and isinstance(b, Content):
        if type(a) is not type(b):
            return f"{where}: {type(a).__name__} and {type(b).__name__}"
        if a == b:
            return None
        # Fields that a class computes follow from the others.
        names = [field.name for field in fields(a) if field.init]
        return next((d for n in names if (d := _differ(f"{where}.{n}", getattr(a, n), getattr(b, n)))), None)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{where}: {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        if np.array_equal(a, b):
            return None
        return f"{where}: {int(np.count_nonzero(a != b)):,} of {a.size:,} values differ"
    if isinstance(a, tuple) and isinstance(b, tuple):
        if len(a) != len(b):
            return f"{where}: {len(a)} and {len(b)} entries"
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for n, (x, y) in pairs if (found := _differ(f"{where}[{n}]", x, y))), None)
    return None if a == b else f"{where}: {a!r} and {b!r}"
