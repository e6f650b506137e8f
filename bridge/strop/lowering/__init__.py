"""Lowering of Keras models to graphs: one handler per layer family, each an exact rewriting or a refusal.

Keras is imported when `lower` is called, not before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from strop.errors import GraphError
from strop.graph import Graph

if TYPE_CHECKING:
    import keras

    from strop.lowering.context import Lowering

__all__ = ["lower", "trace"]


def lower(
    model: keras.Model | str | os.PathLike[str],
    encoding: str = "host",
    *,
    decision: str = "host",
    bits: int | Mapping[str, int] | None = None,
    step: float | Mapping[str, float] | None = None,
    offset: float | Mapping[str, float] | None = None,
    frames: Any = None,
) -> Graph:
    """Lower a sharpened Keras model into a spiking graph.

    >>> graph = strop.lower(model)
    >>> graph.population_names
    ('conv', 'pool', 'dense_1')

    Parameters
    ----------
    model : keras.Model, or path of its file
        Sequential or functional, built, every spiking activation sharpened to 1.
    encoding : {"host", "bitplane", "binary", "current"}
        How frames enter: see `strop.running.encode`.
    decision : {"host", "spikes"}
        Where the winning class is found: in the read-out, or by two more layers of spikes, exactly as argmax does.
    bits, step, offset : number, or mapping of input name to number, optional
        For "bitplane": frames hold `offset + step * n` with whole numbers n of `bits` bits. By default `bits` is 8,
        `step` is `1 / (2^bits - 1)` and `offset` 0: frames of a camera, from 0 to 1.
    frames : array, shape (n, *input_shape), optional
        A Sequential model that is not built yet is built for frames of this shape.

    Raises
    ------
    GraphError
        If `bits`, `step` or `offset` is given for another encoding, is out of range, or names no input.
    UnsupportedLayerError
        If a layer cannot be carried over exactly; names the layer, the reason and what to do instead.
    NotSharpenedError
        If a spiking activation is not fully sharpened.
    """
    return trace(model, encoding, decision, bits=bits, step=step, offset=offset, frames=frames).graph


def trace(
    model: keras.Model | str | os.PathLike[str],
    encoding: str = "host",
    decision: str = "host",
    *,
    bits: int | Mapping[str, int] | None = None,
    step: float | Mapping[str, float] | None = None,
    offset: float | Mapping[str, float] | None = None,
    frames: Any = None,
) -> Lowering:
    """Lower a model and keep the record that `strop.verify` needs to compare Keras with the graph."""
    from strop.lowering.driver import trace_model
    from strop.lowering.keras_frames import build_for

    if isinstance(model, (str, os.PathLike)):
        from strop.reader import load_model

        model = load_model(model)
    if isinstance(model, Graph):
        raise GraphError(f"{model.name!r} is a graph already: there is nothing to lower")
    build_for(model, frames)
    return trace_model(model, encoding, decision, {"bits": bits, "step": step, "offset": offset})
