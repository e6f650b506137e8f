"""Read how the layers of a model config are connected, as Keras 2 and Keras 3's legacy format write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from strop.errors import ModelFileError, UnsupportedLayerError

# Keras 3 writes `a + b` on tensors as an operation of the same name as the layer, and calls it with two
# arguments.
_OPERATORS = frozenset(["Add", "Subtract", "Multiply", "Maximum", "Minimum"])


class TensorName(NamedTuple):
    """Where a tensor comes from: output `output` of call `call` of a layer."""

    layer: str
    call: int
    output: int


class Call(NamedTuple):
    """One call of a layer: its input tensors, and whether the layer takes them as a list."""

    inputs: list[TensorName]
    as_list: bool


class Entry(NamedTuple):
    """One layer of a model config."""

    name: str
    class_name: str
    config: Any
    inbound: Any


def read_entries(layers: Any, source: str) -> list[Entry]:
    """Return the layers of a model config; `source` is the file, for the messages."""
    return [_entry(entry, index, source) for index, entry in enumerate(as_list(layers, f"{source}: list of layers"))]


def _entry(entry: Any, index: int, source: str) -> Entry:
    entry = as_mapping(entry, f"{source}: layer entry")
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    class_name = entry.get("class_name")
    if not isinstance(class_name, str):
        raise ModelFileError(f"{source}: layer {name!r} has no class name")
    return Entry(str(name or f"layer_{index}"), class_name, config, entry.get("inbound_nodes", []))


def read_calls(entry: Entry, source: str) -> list[Call]:
    """Return the calls of a layer of a functional model, at least one."""
    where = f"{source}: layer {entry.name!r}"
    calls = [_call(node, entry.class_name, where) for node in as_list(entry.inbound, f"{where}: inbound_nodes")]
    if not calls:
        raise ModelFileError(f"{where} is not connected to anything")
    return calls


def _call(node: Any, class_name: str, where: str) -> Call:
    """Read one entry of `inbound_nodes`, as Keras 2 (lists) or Keras 3 (args and kwargs) writes it."""
    if isinstance(node, Mapping) and "args" in node:
        args = as_list(node["args"], f"{where}: args")
        _check_call_options(as_mapping(node.get("kwargs", {}), f"{where}: kwargs"), where)
        structure = args[0] if len(args) == 1 else args
        if len(args) > 1 and class_name not in _OPERATORS:
            raise UnsupportedLayerError(f"{where} is called with {len(args)} arguments; strop reads layers with one")
        inputs = list(read_tensors(structure, where))
        return Call(inputs, isinstance(structure, list))
    if isinstance(node, list) and len(node) == 4 and isinstance(node[0], str):
        node = [node]
    inputs = []
    for item in as_list(node, f"{where}: inbound node"):
        if not isinstance(item, list) or len(item) not in (3, 4):
            raise UnsupportedLayerError(f"{where} is called with {item!r}, which is no tensor of another layer")
        _check_call_options(as_mapping(item[3], f"{where}: call options") if len(item) == 4 else {}, where)
        inputs.extend(read_tensors(item[:3], where))
    return Call(inputs, len(inputs) > 1)


def _check_call_options(options: Mapping[str, Any], where: str) -> None:
    for option, value in options.items():
        if value is not None and value is not False:
            raise UnsupportedLayerError(
                f"{where} is called with {option}={value!r}, which strop cannot carry over; "
                "build the model without it and save it again"
            )


def read_tensors(structure: Any, where: str) -> Iterator[TensorName]:
    """Yield the tensors that a (nested) reference names, in order."""
    if isinstance(structure, Mapping) and structure.get("class_name") == "__keras_tensor__":
        structure = as_mapping(structure.get("config"), where).get("keras_history")
    if not isinstance(structure, list | tuple) or not structure:
        raise UnsupportedLayerError(
            f"{where} is called with {structure!r}, which is no tensor of another layer; "
            "connect layers with nothing but layers and save the model again"
        )
    if isinstance(structure[0], str):
        name, call, output = structure[:3] if len(structure) >= 3 else (None, None, None)
        if not isinstance(call, int) or not isinstance(output, int):
            raise UnsupportedLayerError(f"{where} is called with {structure!r}, which is no tensor of another layer")
        yield TensorName(str(name), call, output)
    else:
        for part in structure:
            yield from read_tensors(part, where)


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
