"""Read `.keras` files, zipped or as a folder, through Keras's own loader in safe mode.

Before Keras sees the config it is checked here: Keras's safe mode has had holes, and a `Lambda` deserves a
message that names the layer. Keras then sees a copy, of the config that was checked and of weights that were read in
another process (`strop.graph.files.hdf5`). Files that tf.keras (Keras 2.12 to 2.15) wrote under the same name are
rebuilt like the other old formats.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strop.errors import ModelFileError, StropError
from strop.graph.files.archive import RefusedArchiveError, check_archive
from strop.graph.files.hdf5 import Array, DamagedHDF5Error, Group, as_hdf5, read_tree
from strop.reader.build import limited_weights
from strop.reader.classes import KnownObjects
from strop.reader.json_record import json_record
from strop.reader.keras2zip import read_keras_2
from strop.reader.naming import brief, shown_shape
from strop.reader.safety import check_records
from strop.reader.stored_weights import check_values

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LARGEST_CONFIG = 1 << 28  # bytes; a zip can declare more than any memory holds
_ALWAYS_ALLOWED = 1 << 16  # values
_TRAINING_STATE = ("optimizer", "metrics", "compile_metrics", "loss_tracker")


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder is an unzipped `.keras` file."""
    return (path / _CONFIG).is_file() and (path / _METADATA).is_file()


def read_zip(path: Path, known: KnownObjects) -> Any:
    """Load a `.keras` file.

    Parameters
    ----------
    path : Path
        A zip file, whatever its extension.
    known : KnownObjects
        What the file may name beside Keras's and strop's own classes.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError, UnsupportedLayerError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path.stat().st_size)
            names = set(archive.namelist())
            damaged = archive.testzip()
            if damaged is not None:
                raise ModelFileError(f"{path} is damaged: {damaged} in it fails its checksum; copy it again")
            if not {_CONFIG, _METADATA} <= names:
                raise ModelFileError(
                    f"{path} is a zip file, but no Keras model: it has no {_CONFIG} and {_METADATA} in it"
                )
            large = [name for name in (_CONFIG, _METADATA) if archive.getinfo(name).file_size > _LARGEST_CONFIG]
            if large:
                raise ModelFileError(f"{path}: {large[0]} in it claims to be over {_LARGEST_CONFIG >> 20} MiB long")
            texts = {name: archive.read(name) for name in (_CONFIG, _METADATA)}
    except RefusedArchiveError as error:
        raise ModelFileError(f"{path} is refused: {error}; save the model again") from error
    except StropError:
        raise
    except Exception as error:  # zipfile, zlib, struct: each has errors of its own
        raise ModelFileError(
            f"{path} is a zip file, but damaged or cut short: {brief(error)}; save or copy it again"
        ) from error
    return _read(texts, str(path), known, lambda: _weights(path, _WEIGHTS, names, str(path)))


def read_folder(path: Path, known: KnownObjects) -> Any:
    """Load a `.keras` model that was saved as a folder (`model.save(folder, zipped=False)`), as `read_zip` does."""
    try:
        texts = {name: (path / name).read_bytes() for name in (_CONFIG, _METADATA)}
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    names = {file.name for file in path.iterdir()}
    return _read(texts, str(path), known, lambda: _weights(path / _WEIGHTS, None, names, str(path)))


def _weights(file: Path, member: str | None, names: Collection[str], source: str) -> Group:
    """Return the content of `model.weights.h5`."""
    if _WEIGHTS not in names:
        raise ModelFileError(f"{source} has no {_WEIGHTS} in it; save the model again, with Keras's own model.save")
    assets = [name for name in names if name.startswith("assets/") and name != "assets/"]
    if assets:
        raise ModelFileError(f"{source} holds {assets[0]!r}: strop carries numbers alone; leave such layers out")
    try:
        return read_tree(file, member, leave_out=_TRAINING_STATE, source=f"{_WEIGHTS} of {source}")
    except DamagedHDF5Error as error:
        raise ModelFileError(f"{source}: the weights in it are damaged or cut short: {error.reason}") from error


def _read(texts: Mapping[str, bytes], source: str, known: KnownObjects, read_weights: Callable[[], Group]) -> Any:
    """Load a model; `source` is what the user calls its file."""
    config, metadata = (json_record(texts[name], name, source) for name in (_CONFIG, _METADATA))
    if _is_keras_2(config, metadata):
        return read_keras_2(config, read_weights(), source, known)
    custom = check_records(config, source, known, "the model")
    weights = read_weights()
    model = _load(texts, weights, custom, source)
    check_values(model, source)
    _check_all_loaded(model, weights, source)
    return model


def _load(texts: Mapping[str, bytes], weights: Group, custom: Mapping[str, Any], source: str) -> Any:
    """Have Keras load a new file of the same content, whose HDF5 and zip strop wrote itself."""
    import keras

    with tempfile.TemporaryDirectory(prefix="strop-") as folder:
        # Keras goes by the extension.
        file = Path(folder) / "model.keras"
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in texts.items():
                archive.writestr(name, text)
            with as_hdf5(weights).getbuffer() as content:
                archive.writestr(_WEIGHTS, content)
        try:
            # Keras warns of weights that it skips; `_check_all_loaded` refuses those.
            with warnings.catch_warnings(), limited_weights(_largest_size(weights), source):
                warnings.simplefilter("ignore")
                model = keras.saving.load_model(file, custom_objects=custom, compile=False, safe_mode=True)
        except StropError:
            raise
        except Exception as error:
            raise ModelFileError(f"{source}: Keras cannot load it: {brief(error)}") from error
    if not isinstance(model, keras.Model):
        raise ModelFileError(f"{source} holds a {type(model).__name__}, not a model")
    return model


def _largest_size(weights: Group) -> int:
    sizes = (node.values.size for _, node in weights.walk() if isinstance(node, Array))
    # Of what is small anyway Keras says better what is missing.
    return max([_ALWAYS_ALLOWED, *sizes])


def _check_all_loaded(model: Any, weights: Group, source: str) -> None:
    """Check that the weights of the model and those of the file are the same arrays, as many times.

    Keras's loader leaves layers that it finds nothing for at their initial values, and says nothing of
    weights that no layer takes. Names do not help: the file numbers layers and weights.
    """
    stored: Counter[bytes] = Counter()
    names: dict[bytes, str] = {}
    for name, digest, shape, is_fraction in _stored_weights(weights):
        stored[digest] += 1
        if is_fraction:  # states of random generators are whole numbers, and no weights
            names[digest] = f"{name} {shown_shape(shape)}"
    for variable in model.weights:
        if variable.name.startswith("lora_") and not np.any(variable.numpy()):
            continue  # Keras adds a low-rank update to the kernel when it saves, and stores no factors
        digest = _digest(variable.numpy())
        if not stored[digest]:
            raise ModelFileError(
                f"{source}: the file holds no values for the weight {variable.path!r} of shape "
                f"{shown_shape(variable.shape)}; it is damaged, so save the model again"
            )
        stored[digest] -= 1
    left = [name for digest, name in names.items() if stored[digest]]
    if left:
        raise ModelFileError(
            f"{source}: no layer has a place for the stored weight {left[0]}; config and weights do not belong together"
        )


def _stored_weights(weights: Group) -> Iterator[tuple[str, bytes, tuple[int, ...], bool]]:
    """Yield name, digest, shape, and whether they are fractions, of all weights in `model.weights.h5`."""
    found = {
        name: (_digest(node.values), node.shape, node.dtype.kind == "f")
        for name, node in weights.walk()
        if isinstance(node, Array) and "vars" in name.split("/")
    }
    for name, (digest, shape, is_fraction) in found.items():
        # SpectralNormalization has its layer's kernel as an attribute, which is stored a second time.
        inside = f"{name.rpartition('vars/')[0]}layer/vars/"
        if not any(other.startswith(inside) and value[0] == digest for other, value in found.items()):
            yield name, digest, shape, is_fraction


def _digest(array: Any) -> bytes:
    array = np.asarray(array)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).digest()


def _is_keras_2(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    # tf_keras, which carries Keras 2 on, numbers its versions after TensorFlow's: 2.16 and more.
    return str(metadata.get("keras_version", "")).startswith("2.") or "tf_keras" in str(config.get("module"))
