"""Read Keras model files of any format: `strop.load_model`.

`load_model` decides by the content of a file, not by its name, which of three readers opens it: `keras3` (Keras's own
zip format), `hdf5` (legacy HDF5, down to the original Whetstone) and `savedmodel` (folders of tf.keras). The old
formats cannot be opened by Keras 3; they are rebuilt from their layer configs, by an allow-list (`config`, `build`)
and with strict placement of every weight (`stored_weights`). No code that a file carries is ever run.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.errors import BackendMissingError, DataError, ModelFileError, StropError
from strop.reader.naming import brief

if TYPE_CHECKING:
    import keras

    from strop.reader.classes import KnownObjects

__all__ = ["load_model"]

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_HDF5_START = b"\x89HDF\r\n\x1a\n"
_KINDS = "a .keras file, a legacy .h5 file or a tf.keras SavedModel folder"


def load_model(path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> keras.Model:
    """Open a model file of any supported format as a Keras 3 model, its weights and sharpness in place.

    >>> model = strop.load_model("net.keras")           # Keras 3, tf.keras 2.12 and later
    >>> model = strop.load_model("whetstone_2018.h5")   # the original Whetstone, Keras 2, Keras 3's own .h5
    >>> model = strop.load_model("saved_model_folder")  # tf.keras, as written by model.save(folder)
    >>> model = strop.load_model("signs.h5", {"SteSign": SteSign})  # a class of your own

    The model is not compiled. The old names `Spiking_BRelu`, `Spiking_Sigmoid` and `Softmax_Decode` become
    the layers of `strop.keras`. Regularizers, constraints and initializers of the old formats are dropped:
    they do not change what a trained model computes.

    Parameters
    ----------
    path : str or path
        The content of the file decides how it is read; its name and extension do not matter.
    custom_objects : dict, optional
        Layer classes (of Keras 3) and functions of your own, by the names under which the file knows them. Those that
        `keras.saving.register_keras_serializable` has registered are found without it. No class is taken from the file.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError
        If there is no such file, if it is of another kind, damaged or incomplete, or if a weight is missing,
        left over, of another shape or not finite.
    UnsupportedLayerError
        If a layer is none of Keras's, strop's or your own, or if it would run code from the file (`Lambda`).
    DataError
        If `custom_objects` is no dictionary of classes and functions.
    BackendMissingError
        If Keras 3 and TensorFlow are not installed.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ModelFileError(f"a model's file is given by its path, got {type(path).__name__}")
    path = Path(path)
    read = _reader(path)
    _require_keras()
    known = _known_objects(custom_objects)
    try:
        return read(path, known)
    except StropError:
        raise
    except Exception as error:  # a file can be broken in more ways than any list of exceptions foresees
        raise ModelFileError(f"{path}: the model in it cannot be rebuilt: {brief(error)}") from error


def _known_objects(custom_objects: Mapping[str, Any] | None) -> KnownObjects:
    from strop.reader.classes import KnownObjects

    if custom_objects is None:
        return KnownObjects()
    if not isinstance(custom_objects, Mapping):
        raise DataError(f"custom_objects is a dictionary of names and classes or functions, got {custom_objects!r}")
    for name, value in custom_objects.items():
        if not isinstance(name, str) or not callable(value):
            raise DataError(f"custom_objects maps names to classes or functions, got {name!r}: {value!r}")
    return KnownObjects(dict(custom_objects))


def _reader(path: Path) -> Callable[[Path, KnownObjects], keras.Model]:
    """Return the reader for what `path` holds; the readers are imported on demand, as they need Keras."""
    from strop.graph.files.hdf5 import is_hdf5
    from strop.reader import hdf5, keras3
    from strop.reader.savedmodel import folder

    if os.path.isdir(path):
        return keras3.read_folder if keras3.is_model_folder(path) else folder.read_saved_model
    start = _first_bytes(path)
    if start.startswith(_ZIP_STARTS) or (start.startswith(b"PK") and zipfile.is_zipfile(path)):
        return keras3.read_zip
    if start.startswith(_HDF5_START) or is_hdf5(path):
        return hdf5.read_hdf5
    if path.suffix == ".pb" and folder.is_saved_model(path.parent):
        raise ModelFileError(f"{path} is one file of a SavedModel; pass the folder {path.parent} instead")
    if start.startswith(b"version https://git-lfs"):
        raise ModelFileError(f"{path} is a Git LFS pointer, not the model; fetch it with 'git lfs pull'")
    raise ModelFileError(f"{path} is not a model file: it starts with {start[:16]!r}; expected {_KINDS}")


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} does not exist; expected {_KINDS}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ModelFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not start:
        raise ModelFileError(f"{path} is empty; save or copy the model again")
    return start


def _require_keras() -> None:
    try:
        import_module("strop.keras")
    except ImportError as error:
        raise BackendMissingError(f"a model cannot be read: {brief(error)}") from error
