"""NIR, the Neuromorphic Intermediate Representation: graphs written for other tools, and read from them.

>>> from strop_backends import nir
>>> nir.write(graph, "net.nir")
>>> graph = nir.read("net.nir")

Nothing of the package `nir` is imported before one of these is called. `strop.export(graph, "nir", folder)`
writes a folder with the network, frames and the spikes expected for them.
"""

from __future__ import annotations

import os
from typing import Any

from strop.graph import Graph

__all__ = ["read", "write"]


def read(source: Any, dt: float | None = None, encoding: str | None = None, memoryless: bool = False) -> Graph:
    """Return the strop graph of a NIR file or `nir.NIRGraph`; see `strop_backends.nir.reading.read_nir`."""
    from strop_backends.nir.reading import read_nir

    return read_nir(source, dt, encoding, memoryless)


def write(
    graph: Graph,
    path: str | os.PathLike[str],
    precision: str | None = None,
    delays: str = "auto",
    dt: float | None = None,
    profile: str = "threshold",
    pools: str = "auto",
    rounding: bool = False,
) -> None:
    """Write a graph as a NIR file; see `strop_backends.nir.writing.to_nir`."""
    from strop_backends.nir.files import write_file
    from strop_backends.nir.writing import to_nir

    write_file(path, to_nir(graph, precision, delays, dt, profile, pools, rounding))
