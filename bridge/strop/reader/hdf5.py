"""Read legacy HDF5 model files: the original Whetstone's, Keras 2.0 to 2.15's, tf.keras's and Keras 3's own.

They are one family: the attribute `model_config` holds the layer configs as JSON, the group `model_weights`
one group per layer, whose attribute `weight_names` leads to the arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader.build import Rebuilder, RebuiltModel
from strop.reader.classes import KnownObjects
from strop.reader.config import safe_name
from strop.reader.json_record import json_record
from strop.reader.naming import brief
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


def is_hdf5(path: Path) -> bool:
    """Tell whether a file is HDF5, even behind a user block."""
    return bool(h5py.is_hdf5(path))


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
        file = h5py.File(path, "r")
    except OSError as error:
        raise ModelFileError(
            f"{path} is an HDF5 file, but damaged or cut short: {brief(error)}; save or copy it again"
        ) from error
    with file:
        _check_is_model(file, source)
        config = _model_config(file, source)
        group = _child(file, "model_weights", h5py.Group, source)
        names = _names(group, "layer_names", source)
        names += [name for name in ("top_level_model_weights",) if name in group]
        stored = {safe_name(name): list(_layer_weights(group, name, source)) for name in names}
        rebuilt = Rebuilder(source, largest_size(stored), known).model(config.get("class_name"), config.get("config"))
        _check_kernel_order(file, group, rebuilt, source)
        fill(rebuilt, _with_names_of_model(stored, rebuilt), source)
    return rebuilt.model


def _check_is_model(file: h5py.File, source: str) -> None:
    if _text(file.attrs.get("format")) == "strop-graph":
        raise ModelFileError(f"{source} is a saved strop graph, not a Keras model; open it with strop.Graph.load")
    if "model_config" in file.attrs:
        return
    if any(name in file or name in file.attrs for name in _WEIGHTS_ONLY):
        raise ModelFileError(
            f"{source} holds weights only, not the layers they belong to; build the model, call "
            "model.load_weights, and save it with model.save('name.keras')"
        )
    raise ModelFileError(f"{source} is an HDF5 file, but holds no Keras model (no attribute 'model_config')")


def _model_config(file: h5py.File, source: str) -> dict[str, Any]:
    version = _text(file.attrs.get("keras_version")) or ""
    if version.startswith("1."):
        raise ModelFileError(f"{source} was written by Keras {version}; open it with Keras 2 and save it again")
    return json_record(_text(file.attrs["model_config"]) or "", "the model config", source)


def _check_kernel_order(file: h5py.File, group: h5py.Group, rebuilt: RebuiltModel, source: str) -> None:
    """Refuse convolutions that were trained on Theano or CNTK: their kernels are stored mirrored."""
    backend = _text(file.attrs.get("backend")) or _text(group.attrs.get("backend"))
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
    unclaimed = [name for name, weights in stored.items() if weights and name not in rebuilt.layers]
    unnamed = [
        name
        for name, layer in rebuilt.layers.items()
        if isinstance(layer, RebuiltModel) and name not in stored and any(slots(layer, (name,)))
    ]
    if len(unclaimed) != len(unnamed):
        return stored
    names = dict(zip(unclaimed, unnamed, strict=True))
    return {names.get(name, name): weights for name, weights in stored.items()}


def _layer_weights(group: h5py.Group, layer: str, source: str) -> Iterator[StoredWeight]:
    layer_group = _child(group, layer, h5py.Group, source)
    for name in _names(layer_group, "weight_names", source):
        dataset = _child(layer_group, name, h5py.Dataset, source)
        if dataset.external or dataset.is_virtual:
            raise ModelFileError(f"{source}: the values of {layer}/{name} lie in another file; save the model again")
        # The values are read when their shape is known to fit: a file can declare shapes that no memory
        # holds.
        yield StoredWeight(name, tuple(dataset.shape), partial(np.asarray, dataset))


def _child(parent: h5py.Group, name: str, kind: type, source: str) -> Any:
    """Return a group or dataset below `parent`, without following links: they can lead to other files."""
    node = parent
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) and part else None
        if link is None:
            raise ModelFileError(f"{source}: {parent.name}/{name} is missing; the file is damaged or was cut short")
        if not isinstance(link, h5py.HardLink):
            raise ModelFileError(f"{source}: {parent.name}/{name} is a link; save the model again without links")
        node = node[part]
    if not isinstance(node, kind):
        raise ModelFileError(f"{source}: {parent.name}/{name} is no {kind.__name__.lower()}; the file is damaged")
    return node


def _names(group: h5py.Group, attribute: str, source: str) -> list[str]:
    """Return a list of names kept as an attribute; long ones are split over attribute0, attribute1, ..."""
    if attribute in group.attrs:
        values = list(np.atleast_1d(group.attrs[attribute]))
    else:
        values = []
        while f"{attribute}{len(values)}" in group.attrs:
            values.append(group.attrs[f"{attribute}{len(values)}"])
        if not values:
            raise ModelFileError(f"{source}: {group.name} has no attribute {attribute!r}; the file is damaged")
        values = list(np.concatenate(values))
    return [_text(value) or "" for value in values]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else None
