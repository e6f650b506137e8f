"""Keras -> Graph: one handler per layer family, each an exact rewriting or a refusal.

Keras is imported when `lower` is called, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strop.graph import Graph

if TYPE_CHECKING:
    import keras

    from strop.lowering.context import Lowering

__all__ = ["lower", "trace"]


def lower(model: keras.Model, encoding: str = "host", *, decision: str = "host") -> Graph:
    """Lower a sharpened Keras model into a spiking graph.

    >>> graph = strop.lower(model)
    >>> graph.population_names
    ('conv', 'pool', 'dense_1')

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, built, every spiking activation sharpened to 1.
    encoding : {"host", "bitplane", "binary", "current"}
        How frames enter: see `strop.encode`.
    decision : {"host", "spikes"}
        Where the winning class is found: in the read-out, or by two more layers of spikes, exactly as argmax does.

    Raises
    ------
    UnsupportedLayerError
        If a layer cannot be carried over exactly; names the layer, the reason and what to do instead.
    NotSharpenedError
        If a spiking activation is not fully sharpened.
    """
    return trace(model, encoding, decision).graph


def trace(model: keras.Model, encoding: str = "host", decision: str = "host") -> Lowering:
    """Lower a model and keep the record that `strop.verify` needs to compare Keras with the graph."""
    from strop.lowering.driver import trace_model

    return trace_model(model, encoding, decision)
