"""Read the weights of `.keras` files that tf.keras wrote (Keras 2.12 to 2.15, and tf_keras since).

Their configs are those of Keras 2, which Keras 3 does not understand. Their weights lie in an HDF5 file
without names: layers go by their class and a number (``layers/dense_1``), variables by a number (``vars/0``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from strop.graph.files.hdf5 import Array, Group
from strop.reader.build import Rebuilder, RebuiltModel, RebuiltWrapper
from strop.reader.classes import KnownObjects
from strop.reader.config import safe_name
from strop.reader.stored_weights import Slot, StoredWeight, fill, slots
from strop.reader.topology import as_mapping

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


def read_keras_2(config: Mapping[str, Any], weights: Group, source: str, known: KnownObjects) -> Any:
    """Rebuild a model that tf.keras saved as `.keras`.

    Parameters
    ----------
    config : mapping
        ``config.json``.
    weights : Group
        The content of ``model.weights.h5``.
    source : str
        The file, for the messages.
    known : KnownObjects
        What the file may name beside Keras's and strop's own classes.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError, UnsupportedLayerError
    """
    nodes: dict[str, Any] = dict(weights.walk())
    largest = max((node.values.size for node in nodes.values() if isinstance(node, Array)), default=1)
    rebuilt = Rebuilder(source, largest, known).model(config.get("class_name"), config.get("config"))
    stored: dict[str, list[StoredWeight]] = {}
    for weight in _model_weights(nodes, "", config, rebuilt, ()):
        stored.setdefault(weight.name.split("/")[0], []).append(weight)
    fill(rebuilt, stored, source)
    return rebuilt.model


def _model_weights(
    nodes: dict[str, Any], group: str, config: Any, rebuilt: RebuiltModel, path: tuple[str, ...]
) -> Iterator[StoredWeight]:
    """Yield the weights of a model's layers below `group`, named after the slots that they belong to."""
    settings = config["config"]
    entries = settings["layers"] if isinstance(settings, Mapping) else settings
    container = next((group + name for name in _CONTAINERS if group + name in nodes), "")
    for entry, found in zip(entries, _layer_groups(nodes, container, entries), strict=True):
        name = entry.get("name") or entry["config"].get("name")
        layer = rebuilt.layers.get(name)
        if layer is not None:
            yield from _layer_weights(nodes, found, entry, layer, (*path, safe_name(name)))


def _layer_weights(
    nodes: dict[str, Any], group: str, entry: Any, layer: Any, path: tuple[str, ...]
) -> Iterator[StoredWeight]:
    """Yield the weights of one layer, or of all those in it."""
    if isinstance(layer, RebuiltWrapper):
        ((name, inner),) = layer.layers.items()
        wrapped = as_mapping(as_mapping(entry["config"], group).get("layer"), group)
        yield from _wrapper_variables(nodes, group, layer, path)
        yield from _layer_weights(nodes, f"{group}/layer", wrapped, inner, (*path, safe_name(name)))
    elif isinstance(layer, RebuiltModel):
        yield from _model_weights(nodes, f"{group}/", entry, layer, path)
    else:
        wanted = list(slots(layer, path))
        yield from _variables(nodes, f"{group}/vars/", [slot for slot in wanted if slot.path == path])
        inner_slots = [slot for slot in wanted if slot.path != path]
        yield from _variables(nodes, f"{group}/activation/vars/", inner_slots)


def _wrapper_variables(
    nodes: dict[str, Any], group: str, wrapper: RebuiltWrapper, path: tuple[str, ...]
) -> Iterator[StoredWeight]:
    """Yield what a wrapper has of its own; `SpectralNormalization` is stored with its layer's kernel once more."""
    own = [slot for slot in slots(wrapper, path) if slot.path == path]
    arrays = {name: node.values for name, node in nodes.items() if isinstance(node, Array)}
    inside = [values for name, values in arrays.items() if name.startswith(f"{group}/layer/vars/")]
    start = f"{group}/vars/"
    doubles = [
        name
        for name, values in arrays.items()
        if name.startswith(start) and any(np.array_equal(values, other) for other in inside)
    ]
    yield from _variables({name: node for name, node in nodes.items() if name not in doubles}, start, own)


def _layer_groups(nodes: dict[str, Any], container: str, entries: Sequence[Any]) -> list[str]:
    """Return the path of the group of each layer of a model config, there or not.

    Layers of one class are numbered in their order. Up to Keras 2.13 every second number was left out for
    layers with weights, so that they go by order, not by number, wherever there is a group for each of them.
    """
    kinds = [_snake_case(str(entry["class_name"]).rpartition(">")[2]) for entry in entries]
    paths: dict[str, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        start = f"{container}/{kind}"
        pattern = re.compile(rf"{re.escape(start)}(?:_(\d+))?")
        found = [match for path in nodes if (match := pattern.fullmatch(path))]
        numbers = sorted(int(match[1] or 0) for match in found)
        if len(numbers) != kinds.count(kind):
            numbers = list(range(kinds.count(kind)))
        paths[kind] = [f"{start}_{number}" if number else start for number in numbers]
    return [paths[kind].pop(0) for kind in kinds]


def _variables(nodes: dict[str, Any], group: str, wanted: Sequence[Slot]) -> Iterator[StoredWeight]:
    """Yield the numbered variables of one layer under the names of its slots, which have the same order."""
    numbers = sorted(
        int(path[len(group) :])
        for path, node in nodes.items()
        if isinstance(node, Array) and re.fullmatch(rf"{re.escape(group)}\d{{1,9}}", path)
    )
    if len(numbers) != len(wanted):
        wanted = [slot for slot in wanted if slot.required]  # the sharpness stands in the config alone
    for position, number in enumerate(numbers):
        dataset = nodes[f"{group}{number}"]
        slot = wanted[position] if position < len(wanted) else None
        name = "/".join((*slot.path, slot.name)) if slot else dataset.name.lstrip("/")
        yield StoredWeight(name, dataset.shape, partial(np.asarray, dataset.values))


def _snake_case(name: str) -> str:
    """Return a class name as Keras writes it into paths: ``Spiking_BRelu`` becomes ``spiking_b_relu``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
