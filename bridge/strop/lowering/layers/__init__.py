"""Handlers of Keras layers, one module per family; importing the package registers them all."""

from strop.lowering.layers import activation, linear, merging, pooling, reshaping

__all__ = ["activation", "linear", "merging", "pooling", "reshaping"]
