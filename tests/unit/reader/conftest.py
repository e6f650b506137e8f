"""Writers of old model files, so that the reader's tests need no old Keras and no files from outside.

They write what Keras 2 wrote, byte layout included: HDF5 by h5py, `keras_metadata.pb` by hand, checkpoints by
TensorFlow itself.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

Weights = Mapping[str, Mapping[str, Any]]  # layer -> full weight name -> array


def layer(class_name: str, name: str, inbound: Any = None, **config: Any) -> dict[str, Any]:
    """One layer of a Keras 2 config; `inbound` lists the layers of one call, or the calls as Keras writes them."""
    entry: dict[str, Any] = {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}
    if inbound is not None:
        if inbound and isinstance(inbound[0], str):
            inbound = [[[source, 0, 0, {}] for source in inbound]]
        entry |= {"name": name, "inbound_nodes": inbound}
    return entry


def dense(name: str, units: int, inbound: Any = None, **config: Any) -> dict[str, Any]:
    """A Dense layer with all the options that Keras 2 writes."""
    options = {
        "units": units,
        "activation": "linear",
        "use_bias": True,
        "kernel_initializer": {
            "class_name": "VarianceScaling",
            "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
        },
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}},
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": {"class_name": "OwnConstraint", "config": {}},
        "bias_constraint": None,
    }
    return layer("Dense", name, inbound, **{**options, **config})


def tuple_record(*items: Any) -> dict[str, Any]:
    """A tuple as tf.keras writes it into JSON."""
    return {"class_name": "__tuple__", "items": list(items)}


class OldFiles:
    """Writes model files into a folder."""

    layer = staticmethod(layer)
    dense = staticmethod(dense)
    tuple_record = staticmethod(tuple_record)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hdf5(
        self,
        class_name: str,
        config: Any,
        weights: Weights,
        *,
        version: str = "2.1.2",
        backend: str = "tensorflow",
        name: str = "model.h5",
        edit: Callable[[h5py.File], None] | None = None,
    ) -> Path:
        """A legacy HDF5 model as Keras 2 laid it out."""
        path = self.folder / name
        with h5py.File(path, "w") as file:
            model_config = {"class_name": class_name, "config": config}
            file.attrs["model_config"] = json.dumps(model_config).encode()
            for place in (file, file.create_group("model_weights")):
                place.attrs["keras_version"] = version.encode()
                place.attrs["backend"] = backend.encode()
            group = file["model_weights"]
            group.attrs["layer_names"] = np.array([key.encode() for key in weights], dtype="S")
            for key, arrays in weights.items():
                layer_group = group.create_group(key)
                layer_group.attrs["weight_names"] = np.array([weight.encode() for weight in arrays], dtype="S")
                for weight, values in arrays.items():
                    layer_group.create_dataset(weight, data=np.asarray(values, dtype=np.float32))
            if edit is not None:
                edit(file)
        return path

    def saved_model(
        self,
        nodes: Sequence[tuple[str, str, Mapping[str, Any]]],
        variables: Mapping[str, Any],
        *,
        old: bool = False,
    ) -> Path:
        """A SavedModel folder: (path, identifier, metadata) of each object, and variables by dotted path.

        With `old`, the metadata goes into `saved_model.pb`, as TensorFlow did before 2.5.
        """
        folder = self.folder / "saved_model"
        (folder / "variables").mkdir(parents=True)
        if old:
            (folder / "saved_model.pb").write_bytes(_object_graph(nodes))
        else:
            (folder / "saved_model.pb").write_bytes(b"")
            (folder / "keras_metadata.pb").write_bytes(_metadata(nodes))
        write_checkpoint(folder / "variables" / "variables", variables)
        return folder

    def tf_keras_zip(self, config: Mapping[str, Any], datasets: Mapping[str, Any]) -> Path:
        """A `.keras` file of tf.keras (Keras 2.12 to 2.15), whose weights have numbers in place of names."""
        path = self.folder / "old.keras"
        weights = io.BytesIO()
        with h5py.File(weights, "w") as file:
            for name, values in datasets.items():
                file.create_dataset(name, data=np.asarray(values, dtype=np.float32))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "2.13.1", "date_saved": ""}))
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", weights.getvalue())
        return path

    def edited_zip(
        self,
        source: Path,
        *,
        name: str = "edited.keras",
        config: Callable[[str], str] | None = None,
        weights: Callable[[h5py.File], Any] | None = None,
        drop: str | None = None,
    ) -> Path:
        """A copy of a `.keras` file with its config or weights edited, or a member dropped."""
        path = self.folder / name
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
            for member in old.namelist():
                data = old.read(member)
                if member == "config.json" and config is not None:
                    edited = config(data.decode())
                    assert edited != data.decode(), "the edit changes nothing"
                    data = edited.encode()
                if member == "model.weights.h5" and weights is not None:
                    buffer = io.BytesIO(data)
                    with h5py.File(buffer, "r+") as file:
                        weights(file)
                    data = buffer.getvalue()
                if member != drop:
                    new.writestr(member, data)
        return path


def write_checkpoint(prefix: Path, variables: Mapping[str, Any]) -> None:
    """Write a TensorFlow checkpoint whose object graph follows the dotted paths of `variables`."""
    import tensorflow as tf

    tree: dict[str, Any] = {}
    for path, values in variables.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = values

    def built(node: Any) -> Any:
        if isinstance(node, dict):
            return tf.train.Checkpoint(**{name: built(child) for name, child in node.items()})
        return tf.Variable(node)

    built(tree).write(str(prefix))


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _metadata(nodes: Sequence[tuple[str, str, Mapping[str, Any]]]) -> bytes:
    """A serialised `SavedMetadata`."""
    return b"".join(
        _field(
            1,
            _field(2, number)
            + _field(3, path.encode())
            + _field(4, identifier.encode())
            + _field(5, json.dumps(metadata).encode())
            + _field(6, _field(1, 2)),
        )
        for number, (path, identifier, metadata) in enumerate(nodes)
    )


def _object_graph(nodes: Sequence[tuple[str, str, Mapping[str, Any]]]) -> bytes:
    """A serialised `SavedModel` that holds nothing but the object graph."""
    paths = [path for path, _, _ in nodes]
    objects = b""
    for path, identifier, metadata in nodes:
        children = b"".join(
            _field(1, _field(1, number) + _field(2, other.rpartition(".")[2].encode()))
            for number, other in enumerate(paths)
            if other.rpartition(".")[0] == path
        )
        user_object = _field(1, identifier.encode()) + _field(3, json.dumps(metadata).encode())
        objects += _field(1, children + _field(4, user_object))
    return _field(1, 1) + _field(2, _field(7, objects))


@pytest.fixture
def old_files(tmp_path: Path) -> OldFiles:
    return OldFiles(tmp_path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def draw(rng: np.random.Generator) -> Callable[..., NDArray[np.float32]]:
    """Draws an array of normal float32 numbers of the given shape."""
    return lambda *shape: rng.normal(size=shape).astype(np.float32)
