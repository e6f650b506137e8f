"""The `model` argument of strop's functions: a Keras model, a graph, or the path of a file that holds one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.errors import ModelFileError, StropError
from strop.graph import Graph

if TYPE_CHECKING:
    import keras

# Characters of what is no path: a model's JSON, for example.
_SHOWN = 200
# A Keras model or a graph, or the path of a file that `open_file` reads.
ModelOrGraph = Any


def open_file(path: str | os.PathLike[str]) -> keras.Model | Graph:
    """Return the Keras model or the graph that a file (or the folder of a SavedModel) holds.

    >>> open_file("net.strop")

    Raises
    ------
    ModelFileError
        If there is nothing there, or it holds neither.
    """
    from strop.graph.readers import read_graph

    path = Path(path)
    # Unlike `Path.exists`, it takes a text that can be no path (too long, with a NUL) for one that does not exist.
    if not os.path.exists(path):
        raise ModelFileError(f"model {str(path)[:_SHOWN]!s} does not exist")
    graph = read_graph(path)
    if graph is not None:
        return graph
    from strop.reader import load_model

    return load_model(path)


def model_or_graph(model: ModelOrGraph, function: str) -> keras.Model | Graph:
    """Return a Keras model or a graph; a path is opened.

    Parameters
    ----------
    function : str
        Name of the calling function, for messages.

    Raises
    ------
    StropError
        If it is neither; the message says what to give.
    """
    if isinstance(model, (str, os.PathLike)):
        model = open_file(model)
    keras = sys.modules.get("keras")
    if isinstance(model, Graph) or (keras is not None and isinstance(model, keras.Model)):
        return model
    kind = f"{type(model).__module__}.{type(model).__qualname__}".removeprefix("builtins.")
    advice = ""
    roots = [base.__module__.split(".")[0] for base in type(model).__mro__]
    if "tf_keras" in roots or ("tensorflow" in roots and "keras" not in roots):
        advice = ". A model of tf_keras (Keras 2) can be saved, and its file be given"
    raise StropError(
        f"{function} takes a Keras 3 model, a strop.Graph, or the path of a file of one; got {kind}{advice}"
    )


def keys_of(model: keras.Model | Graph, graph: Graph) -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys and layer names of a Keras model's inputs and outputs, with the graph's name of each.

    A model made with `keras.Model({"left": a}, {"class": b})` takes and gives dictionaries; their keys, and the
    names of the layers, need not be the names in the graph.
    """
    if isinstance(model, Graph):
        return {}, {}
    import keras

    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    sides = ((model.inputs, "input", [node.name for node in graph.inputs]), (model.outputs, "output", graph.outputs))
    for keys, (tensors, structure, names) in zip(found, sides, strict=True):
        for tensor, name in zip(tensors, names, strict=True):
            if hasattr(tensor, "_keras_history"):
                keys[tensor._keras_history.operation.name] = name
        if not isinstance(model, keras.Sequential):
            paths = keras.tree.flatten_with_path(getattr(model, structure))
            keys.update({path[0]: name for (path, _), name in zip(paths, names, strict=True) if _is_key(path)})
    return found


def _is_key(path: tuple[Any, ...]) -> bool:
    return len(path) == 1 and isinstance(path[0], str)


def as_graph(model: ModelOrGraph, function: str, frames: Any = None) -> Graph:
    """Return a graph: a path is opened, and a Keras model lowered as `strop.lower(model)` does.

    >>> as_graph(model, "strop.simulate").inputs[0].encoding
    'host'

    Parameters
    ----------
    frames : optional
        For a model that is not built yet; see `strop.lower`.

    Raises
    ------
    StropError
        If it is neither a model nor a graph, or the model cannot be lowered.
    """
    found = model_or_graph(model, function)
    if isinstance(found, Graph):
        return found
    from strop.lowering import lower

    return lower(found, frames=frames)
