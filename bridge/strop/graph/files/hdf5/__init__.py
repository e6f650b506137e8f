"""HDF5 files from anywhere, as plain arrays: the HDF5 library reads them in a process of its own.

A damaged file can crash the HDF5 library, and one that is made for it can do worse. `read_tree` has a short-lived
process (`child`) open the file; groups, attributes and arrays come back through a pipe (`process`) as JSON and raw
bytes, never as pickles, and make a `Group` (`tree`). A crash there is a `ModelFileError` here. Of files with many
frames, `HDF5Table` reads some rows at a time, in the same way (`rows`).
"""

from __future__ import annotations

from strop.graph.files.hdf5.answers import DamagedHDF5Error
from strop.graph.files.hdf5.process import is_hdf5, read_root_attributes, read_tree
from strop.graph.files.hdf5.rows import HDF5Rows, HDF5Table
from strop.graph.files.hdf5.tree import Array, Group, as_hdf5

__all__ = [
    "Array",
    "DamagedHDF5Error",
    "Group",
    "HDF5Rows",
    "HDF5Table",
    "as_hdf5",
    "is_hdf5",
    "read_root_attributes",
    "read_tree",
]
