"""Rebuild a Keras 3 model from the model configs of Keras 2 and of Keras 3's legacy format.

Sequential and functional models, nested as deep as the file has them, with shared layers. The wiring is done here
and not by Keras's own legacy loader, so that only layers of the allow-list (`config`) are ever made, and so that the
file's layer names lead to the layers when the weights are placed (`weights`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from strop.errors import ModelFileError, StropError, UnsupportedLayerError
from strop.reader.config import dtype_name, layer_class, layer_from_config, plain, safe_name
from strop.reader.naming import brief

_SEQUENTIAL = frozenset(["Sequential"])
_FUNCTIONAL = frozenset(["Functional", "Model", "Network"])
MODEL_CLASSES = _SEQUENTIAL | _FUNCTIONAL
# Keras 3 writes `a + b` on tensors as an operation of the same name as the layer, and calls it with two arguments.
_OPERATORS = frozenset(["Add", "Subtract", "Multiply", "Maximum", "Minimum"])


@dataclass(frozen=True)
class RebuiltModel:
    """A rebuilt model, and its layers by the names that the file gives them, in the file's order.

    Attributes
    ----------
    model : keras.Model
    layers : dict
        Each value is a keras.layers.Layer or, for a nested model, a `RebuiltModel`. Input layers are not listed.
    """

    model: Any
    layers: dict[str, Any]


class _Tensor(NamedTuple):
    """Where a tensor comes from: output `index` of call `call` of a layer."""

    layer: str
    call: int
    index: int


class _Call(NamedTuple):
    """One call of a layer: its input tensors, and whether the layer wants them as a list."""

    inputs: list[_Tensor]
    as_list: bool


def rebuild_model(
    class_name: str, config: Any, source: str, *, name: str | None = None, build_shape: Any = None
) -> RebuiltModel:
    """Rebuild a Sequential or functional model from its config, with all weights still at their initial values.

    Parameters
    ----------
    class_name : str
        ``"Sequential"``, ``"Model"`` or ``"Functional"``.
    config : dict, or list for the oldest Sequential models
    source : str
        The file, for the messages.
    name : str, optional
        The model's name, where the config does not tell it.
    build_shape : sequence, optional
        Input shape with batch axis, for a Sequential model whose config does not tell it.

    Returns
    -------
    RebuiltModel

    Raises
    ------
    ModelFileError
        If the config is damaged or the layers do not fit together.
    UnsupportedLayerError
        If a layer is not on the allow-list.
    """
    if class_name in _SEQUENTIAL:
        return _sequential(config, source, name, build_shape)
    if class_name in _FUNCTIONAL and isinstance(config, Mapping) and "layers" in config:
        return _functional(config, source)
    raise UnsupportedLayerError(
        f"{source}: a model of class {class_name!r} does not tell how its layers are connected; "
        "only Sequential and functional models can be read, so rebuild it as one of these and save it again"
    )


def _sequential(config: Any, source: str, name: str | None, build_shape: Any) -> RebuiltModel:
    import keras

    settings = {"layers": config} if isinstance(config, list) else _mapping(config, f"{source}: model config")
    entries = _entries(settings.get("layers"), source)
    if not entries:
        raise ModelFileError(f"{source}: the Sequential model in it has no layers")
    name = str(settings.get("name") or name or "sequential")
    known_shape = settings.get("build_input_shape") or build_shape
    layers: dict[str, Any] = {}
    stack: list[Any] = [_sequential_input(entries, known_shape, source)]
    for position, (layer_name, class_name, layer_config, _) in enumerate(entries):
        if class_name == "InputLayer" and position == 0:
            continue
        layer = _layer(layer_name, class_name, layer_config, source)
        _register(layers, layer_name, layer, source)
        stack.append(layer.model if isinstance(layer, RebuiltModel) else layer)
    return RebuiltModel(_connected(lambda: keras.Sequential(stack, name=safe_name(name)), name, source), layers)


def _functional(config: Mapping[str, Any], source: str) -> RebuiltModel:
    import keras

    name = str(config.get("name") or "model")
    inputs, outputs = (
        list(_tensors(plain(config.get(role)), f"{source}: {role} of {name!r}"))
        for role in ("input_layers", "output_layers")
    )
    layers: dict[str, Any] = {}
    tensors: dict[_Tensor, Any] = {}
    pending: dict[str, list[_Call]] = {}
    for layer_name, class_name, layer_config, inbound in _entries(config["layers"], source):
        where = f"{source}: layer {layer_name!r}"
        if class_name == "InputLayer":
            tensors[_Tensor(layer_name, 0, 0)] = _input(layer_config, layer_name, where)
            continue
        calls = [_call(node, class_name, where) for node in _list(inbound, f"{where}: inbound_nodes")]
        if not calls:
            raise ModelFileError(f"{where} is not connected to anything")
        _register(layers, layer_name, _layer(layer_name, class_name, layer_config, source), source)
        pending[layer_name] = calls
    _connect(layers, pending, tensors, _first_calls(layers, [*outputs, *_all_inputs(pending)]), source)
    for tensor in (*inputs, *outputs):
        if tensor not in tensors:
            raise ModelFileError(f"{source}: model {name!r} has an input or output that no layer provides: {tensor}")
    ends = [_unpacked([tensors[tensor] for tensor in role]) for role in (inputs, outputs)]
    return RebuiltModel(_connected(lambda: keras.Model(*ends, name=safe_name(name)), name, source), layers)


def _connect(
    layers: dict[str, Any],
    pending: dict[str, list[_Call]],
    tensors: dict[_Tensor, Any],
    first_call: dict[str, int],
    source: str,
) -> None:
    """Call every layer as often as the file does, as soon as its inputs are there; `tensors` collects the outputs."""
    calls_made = dict.fromkeys(layers, 0)
    while pending:
        done = len(tensors)
        for name in list(pending):
            while pending[name] and all(tensor in tensors for tensor in pending[name][0].inputs):
                call = pending[name].pop(0)
                number = calls_made[name] + first_call.get(name, 0)
                calls_made[name] += 1
                output = _called(layers[name], [tensors[t] for t in call.inputs], call.as_list, name, source)
                for index, tensor in enumerate(output if isinstance(output, list | tuple) else [output]):
                    tensors[_Tensor(name, number, index)] = tensor
            if not pending[name]:
                del pending[name]
        if len(tensors) == done:
            waiting = next(iter(pending))
            raise ModelFileError(
                f"{source}: layer {waiting!r} takes an input that no layer provides: {pending[waiting][0].inputs}"
            )


def _called(layer: Any, inputs: list[Any], as_list: bool, name: str, source: str) -> Any:
    target = layer.model if isinstance(layer, RebuiltModel) else layer
    return _connected(lambda: target(inputs if as_list else inputs[0]), name, source)


def _connected(make: Any, name: str, source: str) -> Any:
    """Run a step that makes Keras connect layers; what does not fit is the file's fault."""
    try:
        return make()
    except StropError as error:
        raise ModelFileError(f"{source}: {error}") from error
    except Exception as error:
        raise ModelFileError(f"{source}: {name!r} does not fit its inputs: {brief(error)}") from error


def _layer(name: str, class_name: str, config: Any, source: str) -> Any:
    where = f"{source}: layer {name!r}"
    if class_name in MODEL_CLASSES:
        return rebuild_model(class_name, config, source, name=name)
    layer_class(class_name, where)  # the class is refused before its config is looked at
    return layer_from_config(class_name, {**_mapping(config, f"{where}: config"), "name": name}, where)


def _register(layers: dict[str, Any], name: str, layer: Any, source: str) -> None:
    if name in layers:
        raise ModelFileError(f"{source}: two layers are called {name!r}")
    layers[name] = layer


def _sequential_input(entries: list[_Entry], known_shape: Any, source: str) -> Any:
    name, class_name, config, _ = entries[0]
    where = f"{source}: layer {name!r}"
    if class_name == "InputLayer":
        return _input(config, name, where)
    shape = _batch_shape(class_name, config) or known_shape
    if shape is None:
        raise ModelFileError(
            f"{source}: the Sequential model in it does not tell its input shape; "
            "give its first layer an input_shape (in Keras 3: start with keras.Input) and save it again"
        )
    return _input({"batch_input_shape": shape}, f"{name}_input", where)


def _batch_shape(class_name: str, config: Any) -> Any:
    """Return the input shape with batch axis that the first layer of a Sequential model states, or None."""
    if class_name in MODEL_CLASSES:
        layers = config if isinstance(config, list) else _mapping(config, "nested model").get("layers")
        first = layers[0] if isinstance(layers, list) and layers else {}
        class_name, config = str(first.get("class_name")), first.get("config")
        return _batch_shape(class_name, config)
    if not isinstance(config, Mapping):
        return None
    return config.get("batch_input_shape") or config.get("batch_shape")


def _input(config: Any, name: str, where: str) -> Any:
    import keras

    config = plain(_mapping(config, f"{where}: config"))
    for kind in ("sparse", "ragged"):
        if config.get(kind):
            raise UnsupportedLayerError(f"{where} takes {kind} tensors; strop reads dense ones only")
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if not isinstance(shape, list | tuple) or len(shape) < 1 or not all(_is_size(size) for size in shape[1:]):
        raise ModelFileError(f"{where} has no valid input shape: {shape!r}")
    dtype = config.get("dtype")
    if not (isinstance(dtype, str) and dtype.startswith(("int", "uint"))):
        dtype = dtype_name(dtype, where)
    dtype = "float32" if dtype.startswith("mixed_") else dtype  # a policy computes in float16, its inputs stay float32
    return _connected(lambda: keras.Input(tuple(shape[1:]), dtype=dtype, name=safe_name(name)), name, where)


def _is_size(size: Any) -> bool:
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)


class _Entry(NamedTuple):
    """One layer of a model config."""

    name: str
    class_name: str
    config: Any
    inbound: Any


def _entries(layers: Any, source: str) -> list[_Entry]:
    return [_entry(entry, index, source) for index, entry in enumerate(_list(layers, f"{source}: list of layers"))]


def _entry(entry: Any, index: int, source: str) -> _Entry:
    entry = _mapping(entry, f"{source}: layer entry")
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    class_name = entry.get("class_name")
    if not isinstance(class_name, str):
        raise ModelFileError(f"{source}: layer {name!r} has no class name")
    return _Entry(str(name or f"layer_{index}"), class_name, config, entry.get("inbound_nodes", []))


def _call(node: Any, class_name: str, where: str) -> _Call:
    """Read one entry of `inbound_nodes`, as Keras 2 (lists) or Keras 3 (args and kwargs) writes it."""
    if isinstance(node, Mapping) and "args" in node:
        args = _list(node["args"], f"{where}: args")
        _check_call_options(_mapping(node.get("kwargs", {}), f"{where}: kwargs"), where)
        structure = args[0] if len(args) == 1 else args
        if len(args) > 1 and class_name not in _OPERATORS:
            raise UnsupportedLayerError(f"{where} is called with {len(args)} arguments; strop reads layers with one")
        inputs = list(_tensors(structure, where))
        return _Call(inputs, isinstance(structure, list))
    if isinstance(node, list) and len(node) == 4 and isinstance(node[0], str):
        node = [node]
    inputs = []
    for item in _list(node, f"{where}: inbound node"):
        if not isinstance(item, list) or len(item) not in (3, 4):
            raise UnsupportedLayerError(f"{where} is called with something that is no tensor: {item!r}")
        _check_call_options(_mapping(item[3], f"{where}: call options") if len(item) == 4 else {}, where)
        inputs.extend(_tensors(item[:3], where))
    return _Call(inputs, len(inputs) > 1)


def _check_call_options(options: Mapping[str, Any], where: str) -> None:
    for option, value in options.items():
        if value is not None and value is not False:
            raise UnsupportedLayerError(
                f"{where} is called with {option}={value!r}, which strop cannot carry over; "
                "build the model without it and save it again"
            )


def _tensors(structure: Any, where: str) -> Iterator[_Tensor]:
    """Yield the tensors that a (nested) reference names, in order."""
    if isinstance(structure, Mapping) and structure.get("class_name") == "__keras_tensor__":
        structure = _mapping(structure.get("config"), where).get("keras_history")
    if not isinstance(structure, list | tuple) or not structure:
        raise UnsupportedLayerError(f"{where} names something that is no tensor of another layer: {structure!r}")
    if isinstance(structure[0], str):
        name, call, index = structure[:3] if len(structure) >= 3 else (None, None, None)
        if not isinstance(call, int) or not isinstance(index, int):
            raise UnsupportedLayerError(f"{where} is called with a constant or a damaged reference: {structure!r}")
        yield _Tensor(str(name), call, index)
    else:
        for part in structure:
            yield from _tensors(part, where)


def _all_inputs(pending: dict[str, list[_Call]]) -> Iterator[_Tensor]:
    for calls in pending.values():
        for call in calls:
            yield from call.inputs


def _first_calls(layers: dict[str, Any], references: list[_Tensor]) -> dict[str, int]:
    """Return the number of the first call of each nested model.

    Keras counts the calls of a nested model from 1 where it counts the model's own making as call 0, and from 0
    elsewhere; which it does changed between versions. Every call is referred to at least once.
    """
    first: dict[str, int] = {}
    for tensor in references:
        if isinstance(layers.get(tensor.layer), RebuiltModel):
            first[tensor.layer] = min(first.get(tensor.layer, tensor.call), tensor.call)
    return first


def _unpacked(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ModelFileError(f"{where} is damaged: expected a record, found {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelFileError(f"{where} is damaged: expected a list, found {type(value).__name__}")
    return value
