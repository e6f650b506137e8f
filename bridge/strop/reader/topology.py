"""Read how the layers of a model config are connected, as Keras 2 and Keras 3's legacy format write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from strop.errors import ModelFileError, UnsupportedLayerError
from strop.reader.classes import operation_classes, trains_by_default

# Keras 2 marks the operations on tensors that it wrapped in layers.
KERAS_2_OPERATIONS = frozenset(["TFOpLambda", "SlicingOpLambda"])
# Where an operation starts with a constant (`2 * x`), Keras 2 writes this in place of a layer's name.
_CONSTANT = "_CONSTANT_VALUE"
_NO_TENSOR = "connect layers with nothing but layers and save the model again"


class TensorName(NamedTuple):
    """Where a tensor comes from: output `output` of call `call` of a layer."""

    layer: str
    call: int
    output: int


class Call(NamedTuple):
    """One call of a layer or operation; every tensor in it is a `TensorName`, in lists and dictionaries too."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def inputs(self) -> list[TensorName]:
        """All tensors that the call takes, in order."""
        return list(tensors_in((self.args, self.kwargs)))


class Entry(NamedTuple):
    """One layer of a model config.

    Attributes
    ----------
    name : str
    class_name : str
        With the package that it was registered under, where the file tells it: ``"package>Name"``.
    config, inbound
        As in the file.
    """

    name: str
    class_name: str
    config: Any
    inbound: Any

    @property
    def is_operation(self) -> bool:
        """Whether it is an operation on tensors (`x >= 0.5`), which Keras lists among the layers."""
        if self.class_name in KERAS_2_OPERATIONS:
            return True
        # Keras 3 gives operations and layers the same class names (Add, Reshape); only layers can be trainable.
        by_keras_3 = isinstance(self.inbound, list) and any(isinstance(node, Mapping) for node in self.inbound)
        is_layer = not isinstance(self.config, Mapping) or "trainable" in self.config
        return by_keras_3 and not is_layer and self.class_name in operation_classes()


def read_entries(layers: Any, source: str) -> list[Entry]:
    """Return the layers of a model config; `source` is the file, for the messages."""
    return [read_entry(entry, index, source) for index, entry in enumerate(as_list(layers, f"{source}: layers"))]


def read_entry(entry: Any, index: int, source: str) -> Entry:
    """Return one layer of a model config, or the layer inside of a wrapper's."""
    entry = as_mapping(entry, f"{source}: layer entry")
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    class_name = entry.get("class_name")
    if not isinstance(class_name, str):
        raise ModelFileError(f"{source}: layer {name!r} has no class name")
    registered = entry.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        class_name = registered
    return Entry(str(name or f"layer_{index}"), class_name, config, entry.get("inbound_nodes", []))


def read_calls(entry: Entry, source: str) -> list[Call]:
    """Return the calls of a layer or operation of a functional model, at least one."""
    where = f"{source}: layer {entry.name!r}"
    nodes = as_list(entry.inbound, f"{where}: inbound_nodes")
    calls = []
    for node in nodes:
        if isinstance(node, Mapping) and "args" in node:
            call = _keras_3_call(node, where)
        else:
            call = _keras_2_call(node, entry.is_operation, where)
        calls.append(call if entry.is_operation else _layer_call(call, entry.class_name, where))
    if not calls:
        raise ModelFileError(f"{where} is not connected to anything")
    return calls


def _layer_call(call: Call, class_name: str, where: str) -> Call:
    """Return the call of a layer, which takes one argument: a tensor, or a list or dictionary of tensors."""
    for option, value in call.kwargs.items():
        if option == "training" and value is True and trains_by_default(class_name):
            continue
        if any(leaf is not None and leaf is not False for leaf in _leaves(value)):
            raise UnsupportedLayerError(
                f"{where} is called with {option}={value!r}, which strop cannot carry over; "
                "build the model without it and save it again"
            )
    if len(call.args) != 1:
        raise UnsupportedLayerError(f"{where} is called with {len(call.args)} arguments; strop reads layers with one")
    if not call.inputs or any(not isinstance(leaf, TensorName) for leaf in _leaves(call.args[0])):
        raise UnsupportedLayerError(
            f"{where} is called with {call.args[0]!r}, which is no tensor of another layer; {_NO_TENSOR}"
        )
    return Call(call.args, {})


# Keras 3 --------------------------------------------------------------------------------------------------------------


def _keras_3_call(node: Mapping[str, Any], where: str) -> Call:
    args = tuple(_decoded(value, where) for value in as_list(node["args"], f"{where}: args"))
    kwargs = as_mapping(node.get("kwargs", {}), f"{where}: kwargs")
    return Call(args, {str(name): _decoded(value, where) for name, value in kwargs.items()})


def _decoded(value: Any, where: str) -> Any:
    """Return an argument as Keras 3's `serialize_keras_object` wrote it (keras 3.15, saving/serialization_lib.py)."""
    if isinstance(value, list):
        return [_decoded(item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind is None:
        return {str(key): _decoded(item, where) for key, item in value.items()}
    if kind == "__tuple__":
        items = config.get("value") if isinstance(config, Mapping) else config
        return tuple(_decoded(item, where) for item in as_list(items, f"{where}: tuple"))
    config = {} if config is None else as_mapping(config, f"{where}: argument")
    if kind == "__keras_tensor__":
        return _tensor_name(config.get("keras_history"), where)
    if kind in ("__tensor__", "__numpy__"):
        return _array(config.get("value"), config.get("dtype"), where)
    if kind == "__slice__":
        return slice(*(config.get(part) for part in ("start", "stop", "step")))
    if kind == "__ellipsis__":
        return Ellipsis
    raise UnsupportedLayerError(f"{where} is called with a value of the kind {kind!r}, which strop does not read")


def _array(value: Any, dtype: Any, where: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value, dtype=str(dtype))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{where} is called with a damaged array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise ModelFileError(f"{where} is called with an array of {dtype!r}, which are no numbers")
    return array


# Keras 2 --------------------------------------------------------------------------------------------------------------


def _keras_2_call(node: Any, is_operation: bool, where: str) -> Call:
    """Read a node of Keras 2: ``[name, call, output, options]``, a list or a dictionary of these."""
    options: dict[str, Any] = {}

    def argument(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {str(key): argument(inner) for key, inner in item.items()}
        if isinstance(item, list) and item and isinstance(item[0], list | Mapping):
            return [argument(inner) for inner in item]
        if not isinstance(item, list) or len(item) not in (3, 4):
            raise UnsupportedLayerError(
                f"{where} is called with {item!r}, which is no tensor of another layer; {_NO_TENSOR}"
            )
        if len(item) == 4:
            settings = as_mapping(item[3], f"{where}: call options")
            options.update({str(name): _keras_2_option(value) for name, value in settings.items()})
        return item[2] if item[0] == _CONSTANT else _tensor_name(item[:3], where)

    first = argument(node)
    if isinstance(first, list) and len(first) == 1 and not is_operation:
        first = first[0]  # operations alone write a single tensor without a list
    return Call((first,), options)


def _keras_2_option(value: Any) -> Any:
    if _is_reference(value):
        return TensorName(*value)
    if isinstance(value, list):
        return [_keras_2_option(item) for item in value]
    if isinstance(value, Mapping):
        if value.keys() == {"start", "stop", "step"}:
            return slice(*(value[part] for part in ("start", "stop", "step")))
        if value.get("class_name") == "__tuple__" and isinstance(value.get("items"), list):
            return tuple(_keras_2_option(item) for item in value["items"])
        if value.get("class_name") == "__ellipsis__":
            return Ellipsis
        if value.keys() == {"type", "value"}:
            return value["value"]
        return {str(name): _keras_2_option(item) for name, item in value.items()}
    return value


# Tensors --------------------------------------------------------------------------------------------------------------


def read_structure(value: Any, where: str) -> Any:
    """Return a reference to tensors, or a (nested) list or dictionary of references, with `TensorName`s in it."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return _tensor_name(as_mapping(value.get("config"), where).get("keras_history"), where)
        return {str(key): read_structure(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple | Mapping):
        return [read_structure(item, where) for item in value]
    return _tensor_name(value, where)


def _tensor_name(value: Any, where: str) -> TensorName:
    if isinstance(value, list | tuple) and len(value) > 3:
        value = value[:3]
    if not _is_reference(value):
        raise UnsupportedLayerError(
            f"{where} is called with {value!r}, which is no tensor of another layer; {_NO_TENSOR}"
        )
    return TensorName(*value)


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and isinstance(value[0], str)
        and all(type(number) is int for number in value[1:])
    )


def _leaves(structure: Any) -> Iterator[Any]:
    if isinstance(structure, TensorName):
        yield structure
    elif isinstance(structure, Mapping):
        for value in structure.values():
            yield from _leaves(value)
    elif isinstance(structure, list | tuple):
        for value in structure:
            yield from _leaves(value)
    else:
        yield structure


def tensors_in(structure: Any) -> Iterator[TensorName]:
    """Yield all tensors of a structure, in order."""
    return (leaf for leaf in _leaves(structure) if isinstance(leaf, TensorName))


def with_tensors(structure: Any, tensor: Callable[[TensorName], Any]) -> Any:
    """Return a structure with `tensor(name)` in the place of every `TensorName`."""
    if isinstance(structure, TensorName):
        return tensor(structure)
    if isinstance(structure, Mapping):
        return {key: with_tensors(value, tensor) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(with_tensors(value, tensor) for value in structure)
    return structure


def as_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return `value` if it is a record; anything else is a `ModelFileError`."""
    if not isinstance(value, Mapping):
        raise ModelFileError(f"{where} is damaged: expected a record, found {type(value).__name__}")
    return value


def as_list(value: Any, where: str) -> list[Any]:
    """Return `value` if it is a list; anything else is a `ModelFileError`."""
    if not isinstance(value, list):
        raise ModelFileError(f"{where} is damaged: expected a list, found {type(value).__name__}")
    return value
