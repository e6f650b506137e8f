"""Read `.keras` files, zipped or as a folder, through Keras's own loader in safe mode.

Before Keras sees the config it is checked here: Keras's safe mode has had holes, and a `Lambda` deserves a message
that names the layer. Files that tf.keras (Keras 2.12 to 2.15) wrote under the same name are rebuilt like the other
old formats.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader.config import refuse_foreign_code, strop_classes
from strop.reader.keras2zip import read_keras_2
from strop.reader.naming import brief
from strop.reader.weights import check_values

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LARGEST_CONFIG = 1 << 28  # bytes; a zip can declare more than any memory holds
# Modules whose classes and functions Keras looks up by name without running anything of the file's.
_MODULES = frozenset(
    f"keras.{name}"
    for name in (
        "activations applications constraints dtype_policies initializers layers losses metrics models optimizers "
        "optimizers.schedules quantizers random regularizers"
    ).split()
) | {"keras", "builtins"}
_MODULE_PREFIXES = ("keras.src.layers.", "keras.src.models.", "keras.src.ops.", "strop.keras")
_UNREAD = ("compile_config", "build_config")


def is_model_folder(path: Path) -> bool:
    """Tell whether a folder is an unzipped `.keras` file."""
    return (path / _CONFIG).is_file() and (path / _METADATA).is_file()


def read_zip(path: Path) -> Any:
    """Load a `.keras` file.

    Parameters
    ----------
    path : Path
        A zip file, whatever its extension.

    Returns
    -------
    keras.Model

    Raises
    ------
    ModelFileError, UnsupportedLayerError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise ModelFileError(f"{path} is damaged: {damaged} in it fails its checksum; copy it again")
            if not {_CONFIG, _METADATA} <= set(archive.namelist()):
                raise ModelFileError(
                    f"{path} is a zip file, but no Keras model: it has no {_CONFIG} and {_METADATA} in it"
                )
            large = [name for name in (_CONFIG, _METADATA) if archive.getinfo(name).file_size > _LARGEST_CONFIG]
            if large:
                raise ModelFileError(f"{path}: {large[0]} in it claims to be over {_LARGEST_CONFIG >> 20} MiB long")
            texts = {name: archive.read(name) for name in (_CONFIG, _METADATA)}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ModelFileError(
            f"{path} is a zip file, but damaged or cut short: {brief(error)}; save or copy it again"
        ) from error
    if path.suffix == ".keras":
        return _read(path, texts, path)
    with tempfile.TemporaryDirectory() as folder:
        # Keras goes by the extension.
        named = Path(folder) / "model.keras"
        try:
            named.symlink_to(path.resolve())
        except OSError:  # file systems and Windows accounts without links
            shutil.copyfile(path, named)
        return _read(named, texts, path)


def read_folder(path: Path) -> Any:
    """Load a `.keras` model that was saved as a folder (`model.save(folder, zipped=False)`).

    Parameters, Returns, Raises
    ---------------------------
    As for `read_zip`.
    """
    try:
        texts = {name: (path / name).read_bytes() for name in (_CONFIG, _METADATA)}
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    return _read(path, texts, path)


def _read(file: Path, texts: Mapping[str, bytes], path: Path) -> Any:
    """Load `file`; `path` is what the user calls it."""
    import keras

    source = str(path)
    config, metadata = (_record(texts[name], name, source) for name in (_CONFIG, _METADATA))
    if _is_keras_2(config, metadata):
        return read_keras_2(config, _weights_file(file, source), source)
    custom = _checked_custom_objects(config, source)
    try:
        model = keras.saving.load_model(file, custom_objects=custom, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelFileError(f"{source}: Keras cannot load it: {brief(error)}") from error
    if not isinstance(model, keras.Model):
        raise ModelFileError(f"{source} holds a {type(model).__name__}, not a model")
    check_values(model, source)
    return model


def _record(text: bytes, name: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{source}: {name} in it is damaged: {brief(error)}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{source}: {name} in it is no record, but {type(value).__name__}")
    return value


def _checked_custom_objects(config: dict[str, Any], source: str) -> dict[str, type]:
    """Check every class that a config names; return strop's own, by the names under which the file knows them."""
    import keras

    own = strop_classes()
    custom = dict(own)
    for record in _class_records(config):
        class_name, module = str(record["class_name"]), record.get("module")
        registered = record.get("registered_name")
        settings = record.get("config")
        name = settings.get("name") if isinstance(settings, Mapping) else None
        where = f"{source}: layer {name!r}" if name else f"{source}: {class_name!r}"
        refuse_foreign_code(class_name, where)
        plain_name = str(registered or class_name).rpartition(">")[2]
        if plain_name in own:
            custom[str(registered or class_name)] = own[plain_name]
        elif isinstance(module, str) and module not in _MODULES and not module.startswith(_MODULE_PREFIXES):
            if keras.saving.get_registered_object(registered or class_name) is None:
                raise UnsupportedLayerError(
                    f"{where} is of class {class_name!r} from the module {module!r}, which is none of Keras's or "
                    "strop's; if it is your own, import the code that registers it before loading the model"
                )
    return custom


def _class_records(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every record of a config that names a class or function, outermost first."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            yield value
        for key, inner in value.items():
            if key not in _UNREAD:
                yield from _class_records(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _class_records(inner)


def _is_keras_2(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    # tf_keras, which carries Keras 2 on, numbers its versions after TensorFlow's: 2.16 and more.
    return str(metadata.get("keras_version", "")).startswith("2.") or "tf_keras" in str(config.get("module"))


def _weights_file(file: Path, source: str) -> bytes:
    if file.is_dir():
        if not (file / _WEIGHTS).is_file():
            raise ModelFileError(f"{source} has no {_WEIGHTS} in it; save the model again")
        return (file / _WEIGHTS).read_bytes()
    with zipfile.ZipFile(file) as archive:
        if _WEIGHTS not in archive.namelist():
            raise ModelFileError(f"{source} has no {_WEIGHTS} in it; save the model again")
        return archive.read(_WEIGHTS)
