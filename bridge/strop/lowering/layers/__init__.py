"""Handlers of Keras layers, one module per family; importing the package registers them all."""

from strop.lowering.layers import (
    activation,
    convolutional,
    elementwise,
    graph_parts,
    linear,
    merging,
    operations,
    pooling,
    refused,
    reshaping,
    wrappers,
)

__all__ = [
    "activation",
    "convolutional",
    "elementwise",
    "graph_parts",
    "linear",
    "merging",
    "operations",
    "pooling",
    "refused",
    "reshaping",
    "wrappers",
]
