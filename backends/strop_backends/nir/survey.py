"""`not_carried`: all nodes of a NIR graph that strop cannot carry, and why; reading itself ends at the first."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from strop.errors import UnsupportedLayerError
from strop_backends.nir.integration import first_firing
from strop_backends.nir.linear_nodes import MAPS_READ, reason_against

_NEURONS = (nir.Threshold, nir.IF, nir.LIF)


def not_carried(graph: Any, dt: float, memoryless: bool) -> list[str]:
    """Return a line for each node that is refused for what it is, and for those that stand in a loop.

    Shapes that do not fit, and delays that do not meet, show only while a graph is read.
    """
    lines = []
    for name, node in graph.nodes.items():
        where = f"{name} ({type(node).__name__})"
        if isinstance(node, _NEURONS):
            try:
                first_firing(node, dt, memoryless, where)
            except UnsupportedLayerError as error:
                lines.append(str(error))
        elif isinstance(node, nir.Delay) and len(np.unique(node.delay)) != 1:
            lines.append(f"{where}: delays its values by different times; strop delays all alike")
        elif type(node).__name__ not in MAPS_READ:
            lines.append(f"{where}: {reason_against(node)}")
    looped = _looped(graph)
    if looped:
        lines.append(f"{', '.join(looped)}: part of a loop; strop carries feed-forward networks only")
    return lines


def _looped(graph: Any) -> list[str]:
    """Return the nodes that lie on a way from themselves to themselves."""
    edges: list[tuple[str, str]] = [(a, b) for a, b in graph.edges if a in graph.nodes and b in graph.nodes]
    # What no edge enters, or none leaves, lies on no loop; what is left when all that is taken away does, or between.
    while True:
        kept = [(a, b) for a, b in edges if any(d == a for _, d in edges) and any(c == b for c, _ in edges)]
        if len(kept) == len(edges):
            return sorted({name for edge in edges for name in edge})
        edges = kept
