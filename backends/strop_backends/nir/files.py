"""NIR files that nir 1.0.4 and 1.0.8 both read, with strop's hints beside the graph.

nir 1.0.4, which Sinabs 3.1.3 and Rockpool 3.1.0 need, ends with an error where a node has `metadata` or `v_reset`. So
the hints of all nodes lie in one text at the root of the file, `strop`, where no tool looks (`nir.read` reads the group
`node`), and a `v_reset` of 0, which nir 1.0.8 takes for granted, is left out.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from strop.graph.files.atomic import write_bytes
from strop.graph.files.hdf5 import Array, Group

KEY = "strop"


class _Plain:
    """What `nir.write` asks of a graph: its dictionary, here without what nir 1.0.4 does not know."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def to_dict(self) -> dict[str, Any]:
        content: dict[str, Any] = self.graph.to_dict()
        content.pop("metadata", None)
        for node in content["nodes"].values():
            node.pop("metadata", None)
            if not np.any(node.get("v_reset", 1.0)):
                del node["v_reset"]
        return content


def write_file(path: str | os.PathLike[str], graph: Any, compression: str | None = "gzip") -> None:
    """Write a `nir.NIRGraph` that `to_nir` made; `compression` is h5py's, None for small files."""
    hints = {name: node.metadata["strop"] for name, node in graph.nodes.items() if "strop" in node.metadata}
    text = json.dumps({"graph": graph.metadata.get("strop", "{}"), "nodes": hints})
    # In memory: HDF5 1.14 crashes the process where a disk is full.
    made = io.BytesIO()
    nir.write(made, _Plain(graph), compression=compression)
    with h5py.File(made, "a") as file:
        file.create_dataset(KEY, data=text, dtype=h5py.string_dtype())
    with made.getbuffer() as content:
        write_bytes(Path(path), content)


def table_in(text: Any) -> dict[str, Any]:
    """Return the table that a text in a file is in JSON; empty if it is none, whatever it is."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def with_hints(graph: Any, text: Any) -> Any:
    """Give the nodes of a graph that was read the hints in `text`, which `write_file` left; other texts are ignored."""
    found = table_in(text)
    hints = found.get("nodes")
    if "graph" not in found or not isinstance(hints, dict):
        return graph
    for node, hint in [(graph, found["graph"]), *((graph.nodes.get(name), hint) for name, hint in hints.items())]:
        if node is not None and isinstance(hint, str) and not node.metadata:
            node.metadata = {KEY: hint}
    return graph


def hints_in(content: Group) -> str | None:
    """Return the text that `write_file` left at the root of a file, or None."""
    found = content.children.get(KEY)
    return found.text if isinstance(found, Array) else None
