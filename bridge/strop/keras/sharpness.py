"""Find the spiking activations of a model, and read and set how sharp they are.

The search goes as deep as the model does: nested models, wrapped layers, activations given as `activation=`.
Sharpeners and the recipes stand on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from strop.errors import DataError, did_you_mean
from strop.keras.activations import SpikingActivation, checked_sharpness


def spiking_layers(model: Any) -> list[SpikingActivation]:
    """List the spiking activations of `model` from input to output, each one once.

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer

    Returns
    -------
    list of SpikingActivation
        In topological order for functional and Sequential models, however nested. A subclassed model does not
        tell Keras the order of its calls: its layers come in the order in which they were assigned to it.
    """
    return list(named_spiking_layers(model).values())


def get_sharpness(model: Any) -> dict[str, float]:
    """Return the sharpness of every spiking activation of `model`, by name, from input to output.

    >>> get_sharpness(model)
    {'spiking_brelu': 1.0, 'spiking_brelu_1': 0.25}

    A layer goes by its own name, or by its path (``'encoder/act'``) where two nested models use one name.
    """
    return {name: layer.sharpness for name, layer in named_spiking_layers(model).items()}


def set_sharpness(model: Any, value: float | Sequence[float] | Mapping[str, float]) -> None:
    """Set how sharp the spiking activations of `model` are.

    >>> set_sharpness(model, 1.0)                        # all of them
    >>> set_sharpness(model, [1.0, 0.5, 0.0])            # from input to output
    >>> set_sharpness(model, {"spiking_brelu": 1.0})     # some of them, by the names of `get_sharpness`

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
    value : float, sequence of floats or mapping from names to floats; all in [0, 1]

    Raises
    ------
    DataError
        If there is no spiking activation, if the number of values or a name does not fit, or if a value is
        out of range. Nothing is changed then.
    """
    layers = named_spiking_layers(model)
    if not layers:
        raise DataError(f"{_describe(model)} has no spiking activation to sharpen")
    chosen: dict[str, Any]
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in layers]
        if unknown:
            raise DataError(
                f"no spiking activation is called {unknown[0]!r}; there are {', '.join(layers)}"
                + did_you_mean(unknown[0], layers)
            )
        chosen = dict(value)
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0):
        values = list(value)
        if len(values) != len(layers):
            listed = ", ".join(layers)
            raise DataError(f"got {len(values)} sharpness values for {len(layers)} layers: {listed}")
        chosen = dict(zip(layers, values, strict=True))
    else:
        chosen = dict.fromkeys(layers, value)
    checked = {name: checked_sharpness(number, f"layer {name!r}") for name, number in chosen.items()}
    for name, number in checked.items():
        layers[name].sharpness = number


def named_spiking_layers(model: Any) -> dict[str, SpikingActivation]:
    """Return the spiking activations of `model` by unique names, in order (see `get_sharpness`)."""
    found = list(_walk(model, (), set()))
    plain = Counter(layer.name for _, layer in found)
    named: dict[str, SpikingActivation] = {}
    for path, layer in found:
        name = layer.name if plain[layer.name] == 1 else "/".join(path)
        unique, copies = name, 1
        while unique in named:  # two nested models may share their own name as well
            copies += 1
            unique = f"{name}#{copies}"
        named[unique] = layer
    return named


def _walk(layer: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], SpikingActivation]]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    if isinstance(layer, SpikingActivation):
        yield path, layer
        return
    for child in _sublayers(layer):
        yield from _walk(child, (*path, child.name), seen)


def _sublayers(layer: Any) -> list[Any]:
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    # Keras has no public way to ask a layer that is no model for its sublayers; `recursive=True` must be
    # avoided, as it walks the children of each nested layer backwards.
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _describe(model: Any) -> str:
    return f"model {model.name!r}" if hasattr(model, "name") else repr(model)
