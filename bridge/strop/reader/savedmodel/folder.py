"""Read SavedModel folders that tf.keras (Keras 2) wrote with `model.save(folder)`.

The layer configs lie in `keras_metadata.pb` (TensorFlow 2.5 on) or inside `saved_model.pb` (before), the
weights in a TensorFlow checkpoint under `variables/`. Nothing is executed: the traced functions of
`saved_model.pb` are not even looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import BackendMissingError, ModelFileError
from strop.reader.build import Rebuilder, RebuiltModel, RebuiltWrapper
from strop.reader.classes import KnownObjects
from strop.reader.config import safe_name
from strop.reader.naming import brief
from strop.reader.savedmodel import protobuf
from strop.reader.savedmodel.bundle import Checkpoint
from strop.reader.stored_weights import StoredWeight, fill, slots

_METADATA, _GRAPH, _VARIABLES = "keras_metadata.pb", "saved_model.pb", "variables"
_LAYER_KINDS = frozenset(
    f"_tf_keras_{kind}" for kind in ("layer", "input_layer", "rnn_layer", "network", "model", "sequential")
)
_WRAPPED = "layer"
_LAYER_CHILDREN = ("layer-", "layer_with_weights-")


@dataclass(frozen=True)
class KerasObject:
    """A layer or model as the SavedModel describes it.

    Attributes
    ----------
    path : tuple of str
        Attribute names that lead to it from the root model; empty for the root itself.
    metadata : dict
        `name`, `class_name`, `config` and more.
    """

    path: tuple[str, ...]
    metadata: dict[str, Any]


def is_saved_model(folder: Path) -> bool:
    """Tell whether a folder looks like a SavedModel of any kind."""
    return any((folder / name).exists() for name in (_METADATA, _GRAPH, "saved_model.pbtxt"))


def read_saved_model(path: Path, known: KnownObjects) -> Any:
    """Rebuild the model of a Keras 2 SavedModel folder.

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
    BackendMissingError
        If TensorFlow, which reads the checkpoint, is not installed.
    """
    source = str(path)
    if not is_saved_model(path):
        raise ModelFileError(
            f"{path} is a folder, but no SavedModel: it has neither {_METADATA} nor {_GRAPH}; "
            "expected a .keras file, a legacy .h5 file or a tf.keras SavedModel folder"
        )
    objects = _keras_objects(path)
    root = next((found for found in objects if found.path == ()), None)
    if root is None:
        raise ModelFileError(
            f"{path} is a SavedModel without Keras layers in it, as model.export() and tf.saved_model.save "
            "write it for serving; save the model with model.save('name.keras') instead"
        )
    class_name, config = root.metadata.get("class_name"), root.metadata.get("config")
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise BackendMissingError(
            f"reading a SavedModel needs TensorFlow ({brief(error)}): pip install 'strop[keras]'"
        ) from error
    checkpoint = Checkpoint(path / _VARIABLES / _VARIABLES, source)
    rebuilder = Rebuilder(source, checkpoint.largest_size(), known)
    rebuilt = rebuilder.model(class_name, config, build_shape=_build_shape(root.metadata))
    names = {checkpoint.node(found.path): str(found.metadata.get("name")) for found in objects}
    fill(rebuilt, _stored_weights(checkpoint, names, rebuilt), source)
    unused = checkpoint.unused()
    if unused:
        raise ModelFileError(
            f"{path}: the checkpoint holds {unused[0]!r}, which belongs to no layer of the model; "
            "config and weights do not belong together"
        )
    return rebuilt.model


def _stored_weights(
    checkpoint: Checkpoint, names: dict[int | None, str], rebuilt: RebuiltModel
) -> dict[str, list[StoredWeight]]:
    """Return the variables of every layer, by its name; those of nested models carry the path in their names."""

    def below(node: int, layers: RebuiltModel, path: tuple[str, ...]) -> Iterator[StoredWeight]:
        for child in dict.fromkeys(checkpoint.children(node, _LAYER_CHILDREN)):
            name = names.get(child)
            layer = layers.layers.get(name) if name is not None else None
            if layer is not None:
                yield from weights(child, layer, (*path, safe_name(str(name))))

    def weights(node: int, layer: Any, path: tuple[str, ...]) -> Iterator[StoredWeight]:
        if isinstance(layer, RebuiltWrapper):
            ((name, inner),) = layer.layers.items()
            yield from checkpoint.weights(
                node, path, only={slot.name for slot in slots(layer, path) if slot.path == path}
            )
            for child in checkpoint.children(node, (_WRAPPED,)):
                yield from weights(child, inner, (*path, safe_name(name)))
        elif isinstance(layer, RebuiltModel):
            yield from below(node, layer, path)
        else:
            yield from checkpoint.weights(node, path)

    stored: dict[str, list[StoredWeight]] = {}
    for weight in below(checkpoint.root, rebuilt, ()):
        stored.setdefault(weight.name.split("/")[0], []).append(weight)
    return stored


def _keras_objects(folder: Path) -> list[KerasObject]:
    """Return all layers and models that the folder describes, the root with an empty path."""
    name = _METADATA if (folder / _METADATA).exists() else _GRAPH
    try:
        data = (folder / name).read_bytes()
        return list(_from_metadata(data) if name == _METADATA else _from_graph(data))
    except OSError as error:
        raise ModelFileError(f"{folder / name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(
            f"{folder / name} is damaged or cut short: {brief(error)}; save or copy the model again"
        ) from error


def _from_metadata(data: bytes) -> Iterator[KerasObject]:
    """Read `keras_metadata.pb`: SavedMetadata.nodes = 1, of node_path = 3, identifier = 4, metadata = 5."""
    for node in protobuf.messages(data, 1):
        if protobuf.text(node, 4) in _LAYER_KINDS:
            yield KerasObject(tuple(protobuf.text(node, 3).split(".")[1:]), _record(protobuf.text(node, 5)))


def _from_graph(data: bytes) -> Iterator[KerasObject]:
    """Read the object graph in `saved_model.pb`, where TensorFlow before 2.5 kept the metadata.

    SavedModel.meta_graphs = 2, MetaGraphDef.object_graph_def = 7, SavedObjectGraph.nodes = 1,
    SavedObject.children = 1 and .user_object = 4, with identifier = 1 and metadata = 3; children have node_id
    = 1 and local_name = 2.
    """
    nodes = [
        node
        for graph in protobuf.messages(data, 2)[:1]
        for objects in protobuf.messages(graph, 7)
        for node in protobuf.messages(objects, 1)
    ]
    paths: dict[int, tuple[str, ...]] = {0: ()}
    queue = [0] if nodes else []
    for number in queue:  # grows while it is walked: breadth first, so that each path is the shortest
        for user_object in protobuf.messages(nodes[number], 4):
            metadata = protobuf.text(user_object, 3)
            if protobuf.text(user_object, 1) in _LAYER_KINDS and metadata:
                yield KerasObject(paths[number], _record(metadata))
        for child in protobuf.messages(nodes[number], 1):
            target, local_name = protobuf.integer(child, 1), protobuf.text(child, 2)
            if target not in paths and target < len(nodes):
                paths[target] = (*paths[number], local_name)
                queue.append(target)


def _record(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"expected a record, found {type(value).__name__}")
    return value


def _build_shape(metadata: dict[str, Any]) -> Any:
    shape = metadata.get("build_input_shape") or metadata.get("batch_input_shape")
    return shape["items"] if isinstance(shape, dict) and "items" in shape else shape
