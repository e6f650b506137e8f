"""Graphs on disk: the `.strop` file, HDF5 with one JSON document and plain arrays (docs/file-format.md).

It stands behind `Graph.save` and `Graph.load`. A file is written whole or not at all, and read without
executing anything.
"""

from strop.store.layout import FORMAT, SUFFIX, VERSION
from strop.store.read import is_graph_file, load_graph
from strop.store.write import save_graph

__all__ = ["FORMAT", "SUFFIX", "VERSION", "is_graph_file", "load_graph", "save_graph"]
