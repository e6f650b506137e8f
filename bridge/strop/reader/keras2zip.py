"""Read the weights of `.keras` files that tf.keras wrote (Keras 2.12 to 2.15, and tf_keras since).

Their configs are those of Keras 2, which Keras 3 does not understand. Their weights lie in an HDF5 file without names:
layers go by their class and a number (``layers/dense_1``), variables by a number (``vars/0``).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from strop.errors import ModelFileError
from strop.reader.build import RebuiltModel, rebuild_model
from strop.reader.naming import brief
from strop.reader.weights import Slot, StoredWeight, fill, slots

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


def read_keras_2(config: Mapping[str, Any], weights: bytes, source: str) -> Any:
    """Rebuild a model that tf.keras saved as `.keras`.

    Parameters
    ----------
    config : mapping
        ``config.json``.
    weights : bytes
        ``model.weights.h5``.
    source : str
        The file, for the messages.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError, UnsupportedLayerError
    """
    rebuilt = rebuild_model(str(config.get("class_name")), config.get("config"), source)
    try:
        file = h5py.File(io.BytesIO(weights), "r")
    except OSError as error:
        raise ModelFileError(f"{source}: the weights in it are damaged or cut short: {brief(error)}") from error
    with file:
        stored: dict[str, list[StoredWeight]] = {}
        for weight in _model_weights(file, config, rebuilt, (), source):
            stored.setdefault(weight.name.split("/")[0], []).append(weight)
        fill(rebuilt, stored, source)
    return rebuilt.model


def _model_weights(
    group: h5py.Group, config: Mapping[str, Any], rebuilt: RebuiltModel, path: tuple[str, ...], source: str
) -> Iterator[StoredWeight]:
    """Yield the weights of a model's layers, named after the slots that they belong to."""
    container = next((group[name] for name in _CONTAINERS if name in group), {})
    settings = config.get("config")
    entries = settings.get("layers", []) if isinstance(settings, Mapping) else settings
    for entry, stored in zip(entries, _layer_groups(container, entries), strict=True):
        name = entry.get("name") or entry["config"].get("name")
        layer = rebuilt.layers.get(name)
        if stored is None or layer is None:
            continue
        if isinstance(layer, RebuiltModel):
            yield from _model_weights(stored, entry, layer, (*path, name), source)
            continue
        wanted = list(slots(layer, (*path, name)))
        yield from _variables(stored.get("vars", {}), [slot for slot in wanted if slot.path == (*path, name)], source)
        inner = [slot for slot in wanted if slot.path != (*path, name)]
        yield from _variables(stored.get("activation/vars", {}), inner, source)


def _layer_groups(container: Mapping[str, Any], entries: Sequence[Any]) -> list[Any]:
    """Return the group of each layer of a model config, or None where there is none.

    Layers of one class are numbered in their order. Up to Keras 2.13 every second number was left out for layers with
    weights, so that they go by order and not by number wherever there is a group for each of them.
    """
    kinds = [_snake_case(str(entry["class_name"]).rpartition(">")[2]) for entry in entries]
    groups: dict[str, list[Any]] = {}
    for kind in dict.fromkeys(kinds):
        numbered = {name: re.fullmatch(rf"{re.escape(kind)}(?:_(\d+))?", name) for name in container}
        numbers = sorted(int(match[1] or 0) for match in numbered.values() if match)
        count = kinds.count(kind)
        numbers = numbers if len(numbers) == count else list(range(count))
        groups[kind] = [container.get(f"{kind}_{number}" if number else kind) for number in numbers]
    return [groups[kind].pop(0) for kind in kinds]


def _variables(group: Mapping[str, Any], wanted: Sequence[Slot], source: str) -> Iterator[StoredWeight]:
    """Yield the numbered variables of one layer under the names of its slots, which have the same order."""
    numbers = sorted((name for name in group if name.isdigit()), key=int)
    if len(numbers) != len(wanted):
        wanted = [slot for slot in wanted if slot.required]  # a layer that keeps its sharpness in the config alone
    for position, number in enumerate(numbers):
        dataset = group[number]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise ModelFileError(f"{source}: the values of {dataset.name} lie in another file; save the model again")
        slot = wanted[position] if position < len(wanted) else None
        name = "/".join((*slot.path, slot.name)) if slot else dataset.name.lstrip("/")
        yield StoredWeight(name, tuple(dataset.shape), lambda dataset=dataset: np.asarray(dataset[()]))


def _snake_case(name: str) -> str:
    """Return a class name as Keras writes it into paths: ``Spiking_BRelu`` becomes ``spiking_b_relu``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
