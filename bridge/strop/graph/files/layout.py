"""Layout of `.strop` files: the fields of every operator, by version of the format."""

from __future__ import annotations

from collections.abc import Callable

from strop.graph.convolution import Convolution, SumPool
from strop.graph.operator import Operator
from strop.graph.operators import Composed, Dense, Scale, Select, Sparse

FORMAT = "strop-graph"
# The newest that is read. A graph is written in the oldest that can hold it, so that an older strop
# can read it.
VERSION = 3
SUFFIX = ".strop"
# Kinds of read-outs that versions 1 and 2 know.
OLD_KINDS = ("key", "softmax", "linear", "spikes", "winner")

# How each field of an operator is kept: key in the file, attribute of the class, kind of value. Never
# change a row: a new version gets a new table, and the reader of the old one stays.
Fields = tuple[tuple[str, str, str], ...]
OPERATORS: dict[str, tuple[Callable[..., Operator], Fields]] = {
    "Dense": (Dense, (("weight", "weight", "float64"), ("leading", "leading", "shape"))),
    "Convolution": (
        Convolution,
        (
            ("shape_in", "shape_in_", "shape"),
            ("kernel", "kernel", "float64"),
            ("strides", "strides", "shape"),
            ("dilation", "dilation", "shape"),
            ("padding", "padding", "pairs"),
            ("groups", "groups", "int"),
            ("transposed", "transposed", "bool"),
            ("output_padding", "output_padding", "shape?"),
        ),
    ),
    "SumPool": (
        SumPool,
        (
            ("shape_in", "shape_in_", "shape"),
            ("size", "size", "shape"),
            ("strides", "strides", "shape"),
            ("padding", "padding", "pairs"),
        ),
    ),
    "Scale": (Scale, (("shape", "shape", "shape"), ("factor", "factor", "float64"))),
    "Select": (Select, (("shape_in", "shape_in_", "shape"), ("index", "index", "int64"))),
    "Sparse": (
        Sparse,
        (
            ("shape_in", "shape_in_", "shape"),
            ("shape_out", "shape_out_", "shape"),
            ("pre", "pre", "int64"),
            ("post", "post", "int64"),
            ("weight", "weight", "float64"),
        ),
    ),
    "Composed": (Composed, (("stages", "stages", "operators"),)),
}
CLASS_NAMES = {kind: name for name, (kind, _) in OPERATORS.items()}

# Filters of a graph's arrays; every HDF5 library brings them.
OWN_FILTERS = frozenset(["gzip", "shuffle", "fletcher32"])
COMPRESS_FROM = 4096
