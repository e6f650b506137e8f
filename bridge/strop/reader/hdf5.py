"""Read legacy HDF5 model files: the original Whetstone's, Keras 2.0 to 2.15's, tf.keras's and Keras 3's own.

They are one family: the attribute `model_config` holds the layer configs as JSON, the group `model_weights`
one group per layer, whose attribute `weight_names` leads to the arrays. HDF5 itself is read in another process
(`strop.graph.files.hdf5`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.graph.files.hdf5 import Array, DamagedHDF5Error, Group, read_tree
from strop.reader.build import Rebuilder, RebuiltModel
from strop.reader.classes import KnownObjects
from strop.reader.config import safe_name
from strop.reader.json_record import json_record
from strop.reader.stored_weights import StoredWeight, fill, largest_size, slots

# Weights of Keras 3 (`.weights.h5`), of tf.keras 2.12 on, and of older Keras: groups or attributes at the
# root.
_WEIGHTS_ONLY = (
    "layers",
    "_layer_checkpoint_dependencies",
    "vars",
    "layer_names",
    "layer_names0",
    "model_weights",
)


def read_hdf5(path: Path, known: KnownObjects) -> Any:
    """Rebuild the model of a legacy HDF5 file.

    Parameters
    ----------
    path : Path
    known : KnownObjects
        What the file may name beside Keras's and strop's own classes.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError, UnsupportedLayerError
    """
    source = str(path)
    try:
        file = read_tree(path, leave_out=("optimizer_weights",))
    except DamagedHDF5Error as error:
        raise ModelFileError(
            f"{path} is an HDF5 file, but damaged or cut short: {error.reason}; save or copy it again"
        ) from error
    _check_is_model(file, source)
    config = _model_config(file, source)
    group = _child(file, "model_weights", Group, source)
    names = _names(group, "layer_names", source)
    names += [name for name in ("top_level_model_weights",) if name in group.children]
    stored = {safe_name(name): list(_layer_weights(group, name, source)) for name in names}
    rebuilt = Rebuilder(source, largest_size(stored), known).model(config.get("class_name"), config.get("config"))
    _check_kernel_order(file, group, rebuilt, source)
    fill(rebuilt, _with_names_of_model(stored, rebuilt), source)
    return rebuilt.model


def _check_is_model(file: Group, source: str) -> None:
    if _text(file.attributes.get("format")) == "strop-graph":
        raise ModelFileError(f"{source} is a saved strop graph, not a Keras model; open it with strop.Graph.load")
    if "model_config" in file.attributes:
        return
    if any(name in file.children or name in file.attributes for name in _WEIGHTS_ONLY):
        raise ModelFileError(
            f"{source} holds weights only, not the layers they belong to; build the model, call "
            "model.load_weights, and save it with model.save('name.keras')"
        )
    raise ModelFileError(f"{source} is an HDF5 file, but holds no Keras model (no attribute 'model_config')")


def _model_config(file: Group, source: str) -> dict[str, Any]:
    version = _text(file.attributes.get("keras_version")) or ""
    if version.startswith("1."):
        raise ModelFileError(f"{source} was written by Keras {version}; open it with Keras 2 and save it again")
    return json_record(_text(file.attributes["model_config"]) or "", "the model config", source)


def _check_kernel_order(file: Group, group: Group, rebuilt: RebuiltModel, source: str) -> None:
    """Refuse convolutions that were trained on Theano or CNTK: their kernels are stored mirrored."""
    backend = _text(file.attributes.get("backend")) or _text(group.attributes.get("backend"))
    if backend not in ("theano", "cntk"):
        return
    for slot in slots(rebuilt, ()):
        if slot.name.endswith("kernel") and len(slot.shape) > 2:
            raise UnsupportedLayerError(
                f"{source}: layer {slot.path[-1]!r} was trained on {backend}, whose convolution kernels are "
                "mirrored; open the file with Keras 2 on TensorFlow and save it again"
            )


def _with_names_of_model(stored: dict[str, list[StoredWeight]], rebuilt: RebuiltModel) -> dict[str, list[StoredWeight]]:
    """Name groups after nested models whose config has no name (Keras before 2.2.3): they come in the same order."""
    layers = {safe_name(name): layer for name, layer in rebuilt.layers.items()}
    unclaimed = [name for name, weights in stored.items() if weights and name not in layers]
    unnamed = [
        name
        for name, layer in layers.items()
        if isinstance(layer, RebuiltModel) and name not in stored and any(slots(layer, (name,)))
    ]
    if len(unclaimed) != len(unnamed):
        return stored
    names = dict(zip(unclaimed, unnamed, strict=True))
    return {names.get(name, name): weights for name, weights in stored.items()}


def _layer_weights(group: Group, layer: str, source: str) -> Iterator[StoredWeight]:
    layer_group = _child(group, layer, Group, source)
    for name in _names(layer_group, "weight_names", source):
        dataset = _child(layer_group, name, Array, source)
        yield StoredWeight(name, dataset.shape, partial(np.asarray, dataset.values))


def _child(parent: Group, name: str, kind: type, source: str) -> Any:
    """Return a group or array below `parent`."""
    node, where = parent.find(name), f"{source}: {parent.name}/{name}"
    if node is None:
        raise ModelFileError(f"{where} is missing; the file is damaged or was cut short")
    if not isinstance(node, kind):
        raise ModelFileError(f"{where} is no {kind.__name__.lower()}; the file is damaged")
    return node


def _names(group: Group, attribute: str, source: str) -> list[str]:
    """Return a list of names kept as an attribute; long ones are split over attribute0, attribute1, ..."""
    if attribute in group.attributes:
        values = list(np.atleast_1d(group.attributes[attribute]))
    else:
        values = []
        while f"{attribute}{len(values)}" in group.attributes:
            values.append(group.attributes[f"{attribute}{len(values)}"])
        if not values:
            raise ModelFileError(f"{source}: {group.name} has no attribute {attribute!r}; the file is damaged")
        values = list(np.concatenate(values))
    return [_text(value) or "" for value in values]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else None
