"""Inputs whose encoding the model records (`strop.keras.InputEncoding`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from strop.errors import GraphError, UnsupportedLayerError
from strop.graph import WHOLE_TYPES, Input
from strop.keras.graph_parts import InputEncoding
from strop.keras.walk import walk


class _Frames:
    """A tensor of the walk: the frames of an input, or anything else."""

    def __init__(self, name: str = "") -> None:
        self.name = name


def recorded_inputs(model: keras.Model, encoding: str, planes: Mapping[str, Mapping[str, Any]]) -> dict[str, Input]:
    """Return the nodes of the inputs that a model encodes itself, by the names of the model's inputs.

    Parameters
    ----------
    encoding : str
        As the user gave it; "host" goes with any recorded one.
    planes : mapping of input name to fields of `strop.graph.Input`
        As the user gave them.

    Raises
    ------
    GraphError
        If the user wants another encoding.
    UnsupportedLayerError
        If another layer reads the frames as well.
    """
    if not any(isinstance(layer, InputEncoding) for layer in model._flatten_layers()):
        return {}
    readers: dict[str, list[Any]] = {tensor._keras_history.operation.name: [] for tensor in model.inputs}

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for value in keras.tree.flatten((args, kwargs)):
            if isinstance(value, _Frames) and value.name:
                readers[value.name].append(operation)
        nodes = getattr(operation, "_inbound_nodes", ())
        return [_Frames()] * (len(nodes[0].outputs) if nodes else 1)

    walk(model, [_Frames(name) for name in readers], visit)
    found = {}
    for tensor, (name, layers) in zip(model.inputs, readers.items(), strict=True):
        encoders = [layer for layer in layers if isinstance(layer, InputEncoding)]
        if not encoders:
            continue
        if len(layers) > 1:
            raise UnsupportedLayerError(
                f"input {name!r} is read by {len(layers)} layers, and one of them encodes it: put the others behind "
                f"{encoders[0].name!r}"
            )
        dtype = tensor.dtype if tensor.dtype in WHOLE_TYPES else "float32"
        node = encoders[0].input_node(tuple(tensor.shape[1:]), dtype)
        if encoding not in ("host", node.encoding) or planes[name]:
            raise GraphError(
                f"the model records how input {name!r} is encoded ({node.encoding!r}, layer {encoders[0].name!r}): "
                "leave encoding, bits, step and offset out"
            )
        found[name] = node
    return found
