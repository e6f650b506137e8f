"""Check, before Keras sees a config, that every class and function in it is one that this process knows.

Keras's safe mode has had holes, and a layer's own `from_config` may deserialise further records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from strop.errors import UnsupportedLayerError
from strop.reader.classes import KnownObjects, function_of_name, refuse_foreign_code, strop_classes

# Modules whose classes and functions Keras looks up by name without running anything of the file's.
_KERAS_MODULES = """
    activations constraints dtype_policies initializers layers losses metrics models ops optimizers
    optimizers.schedules quantizers random regularizers
    """
_MODULES = frozenset(["keras", "builtins", *(f"keras.{name}" for name in _KERAS_MODULES.split())])
_MODULE_PREFIXES = ("keras.src.layers.", "keras.src.models.", "keras.src.ops.", "strop.keras")
_UNREAD = ("compile_config", "build_config")
_REGISTER_FIRST = (
    "if it is your own, import the code that registers it first, or pass it to strop.load_model in custom_objects"
)


def check_records(config: Any, source: str, known: KnownObjects, owner: str = "") -> dict[str, Any]:
    """Check every class and function that a config names.

    Parameters
    ----------
    config : record or list
        As Keras wrote it, records nested in it.
    source : str
        File, and layer where it is known, for the messages.
    known : KnownObjects
    owner : str
        Name, for messages, of records that are in no named layer.

    Returns
    -------
    dict
        What was passed and strop's own classes, by the names under which the file knows them.

    Raises
    ------
    UnsupportedLayerError
    """
    own = strop_classes()
    custom: dict[str, Any] = {**own, **known.passed}
    for record, layer in _class_records(config, owner):
        where = f"{source}: {layer}" if layer else source
        _check_record(record, where, known)
        registered = str(record.get("registered_name") or record["class_name"])
        found = known.explicit(registered)
        if found is None:
            found = own.get(registered.rpartition(">")[2])
        if found is not None:
            custom[registered] = found
    return custom


def _check_record(record: Mapping[str, Any], where: str, known: KnownObjects) -> None:
    class_name, module = str(record["class_name"]), record.get("module")
    refuse_foreign_code(class_name, where)
    registered = str(record.get("registered_name") or class_name)
    settings = record.get("config")
    activation = settings.get("activation") if isinstance(settings, Mapping) else None
    if isinstance(activation, str):
        _check_function(activation, where, known)
    if class_name == "function":
        _check_function(str(settings), where, known)
    elif (
        registered.rpartition(">")[2] not in strop_classes()
        and (">" in registered or not _is_keras(class_name, module))
        and known.find(registered) is None
    ):
        raise UnsupportedLayerError(
            f"{where} is or uses the class {class_name!r} of the module {module!r}, which is none of "
            f"Keras's or strop's; {_REGISTER_FIRST}"
        )


def _is_keras(class_name: str, module: Any) -> bool:
    import keras

    if module == "keras.layers":
        return hasattr(keras.layers, class_name)
    return not isinstance(module, str) or module in _MODULES or module.startswith(_MODULE_PREFIXES)


def _check_function(name: str, where: str, known: KnownObjects) -> None:
    import keras

    homes = (
        keras.activations,
        keras.initializers,
        keras.losses,
        keras.metrics,
        keras.ops,
        keras.regularizers,
    )
    if function_of_name(name, known) is None and known.find(name) is None and not any(hasattr(h, name) for h in homes):
        raise UnsupportedLayerError(
            f"{where} uses the function {name!r}, which is none of Keras's; strop runs no code from a file, "
            f"so give the layer a built-in or spiking activation; {_REGISTER_FIRST}"
        )


def _class_records(value: Any, owner: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield every record of a config that names a class or function, and the layer that it belongs to."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            settings = value.get("config")
            name = settings.get("name") if isinstance(settings, Mapping) else None
            if isinstance(name, str) and not value["class_name"].endswith("Policy"):  # dtypes have names as well
                owner = f"layer {name!r}"
            yield value, owner
        for key, inner in value.items():
            if key not in _UNREAD:
                yield from _class_records(inner, owner)
    elif isinstance(value, list):
        for inner in value:
            yield from _class_records(inner, owner)
