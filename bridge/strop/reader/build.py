"""Rebuild a Keras 3 model from the model configs of Keras 2 and of Keras 3's legacy format.

Sequential and functional models, nested as deep as the file has them, with shared layers. The wiring is done
here and not by Keras's own legacy loader, so that only layers of the allow-list (`config`) are ever made, and
so that the file's layer names lead to the layers when the weights are placed (`stored_weights`).
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from strop.errors import ModelFileError, StropError, UnsupportedLayerError
from strop.reader import causal, larq, qkeras
from strop.reader.chain import Expansion
from strop.reader.classes import FUNCTIONAL, MODEL_CLASSES, SEQUENTIAL, KnownObjects, model_kind
from strop.reader.config import dtype_name, layer_from_config, plain, safe_name
from strop.reader.naming import brief, shown_shape
from strop.reader.stored_operations import Operation, operation_from_entry
from strop.reader.topology import (
    Call,
    Entry,
    TensorName,
    as_mapping,
    read_calls,
    read_entries,
    read_entry,
    read_structure,
    tensors_in,
    with_tensors,
)

_WRAPPERS = frozenset(["SpectralNormalization", "TimeDistributed"])


@dataclass(frozen=True)
class RebuiltModel:
    """A rebuilt model, and its layers by the names that the file gives them, in the file's order.

    Attributes
    ----------
    model : keras.Model
    layers : dict
        Each value is a keras.layers.Layer; a `RebuiltModel` for a nested model, a `RebuiltWrapper` for a wrapper, or an
        `Expansion`. Input layers and operations are not listed.
    """

    model: Any
    layers: dict[str, Any]


@dataclass(frozen=True)
class RebuiltWrapper(RebuiltModel):
    """A wrapper (`TimeDistributed`), which is `model` here, and the one layer or model in it, in `layers`."""


class Rebuilder:
    """Rebuilds the models of one file, with all weights still at their initial values.

    Parameters
    ----------
    source : str
        The file, for the messages.
    largest : int
        Number of values in the file's largest weight. No layer may ask for more, so that a config with absurd
        sizes is refused before any memory is taken.
    known : KnownObjects
        The classes and functions that the file may name beside Keras's and strop's own.
    """

    def __init__(self, source: str, largest: int, known: KnownObjects) -> None:
        self._source = source
        self._largest = largest
        self._known = known

    def model(self, class_name: Any, config: Any, *, name: str | None = None, build_shape: Any = None) -> RebuiltModel:
        """Rebuild a Sequential or functional model from its config.

        Parameters
        ----------
        class_name : str
            ``"Sequential"``, ``"Model"`` or ``"Functional"``.
        config : dict, or list for the oldest Sequential models
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
        kind = model_kind(class_name, self._source, self._known)
        if kind in SEQUENTIAL:
            return self._sequential(config, name, build_shape)
        connected = isinstance(config, Mapping) and "layers" in config
        if kind in FUNCTIONAL and connected:
            return self._functional(config)
        if connected:
            short = str(class_name).rpartition(">")[2]
            raise UnsupportedLayerError(
                f"{self._source}: the model is of a class of its own, {class_name!r}, whose call() may do more than "
                "the layers in the file, and no code is taken from a file: pass the class to "
                f"strop.load_model(..., custom_objects={{{short!r}: ...}})"
            )
        raise UnsupportedLayerError(
            f"{self._source}: a model of class {class_name!r} does not tell how its layers are connected; "
            "only Sequential and functional models can be read; rebuild it as one of these and save it again"
        )

    def _sequential(self, config: Any, name: str | None, build_shape: Any) -> RebuiltModel:
        import keras

        settings = {"layers": config} if isinstance(config, list) else as_mapping(config, f"{self._source}: config")
        entries = read_entries(settings.get("layers"), self._source)
        if not entries:
            raise ModelFileError(f"{self._source}: the Sequential model in it has no layers")
        name = str(settings.get("name") or name or "sequential")
        shape = settings.get("build_input_shape") or build_shape
        layers: dict[str, Any] = {}
        stack: list[Any] = [self._sequential_input(entries[0], shape)]
        for entry in entries[1:] if entries[0].class_name == "InputLayer" else entries:
            layer = self._add(entry, layers)
            if isinstance(layer, Expansion):
                stack.extend(self._expanded(layer, list(stack), entry.name))
            else:
                stack.append(keras_layer(layer))
        model = self._connected(lambda: keras.Sequential(stack, name=safe_name(name)), f"model {name!r}")
        _lift_limits(layers)
        return RebuiltModel(model, layers)

    def _expanded(self, layer: Expansion, stack: list[Any], name: str) -> tuple[Any, ...]:
        """Return the chain of layers for what comes out of the layers so far."""
        import keras

        def chain() -> tuple[Any, ...]:
            if layer.padding is None:
                return layer.parts(())
            return layer.parts(tuple(stack[0].shape) if len(stack) == 1 else keras.Sequential(stack).output_shape)

        parts: tuple[Any, ...] = self._connected(chain, f"layer {name!r}")
        return parts

    def _functional(self, config: Mapping[str, Any]) -> RebuiltModel:

        name = str(config.get("name") or "model")
        where = f"{self._source}: model {name!r}"
        inputs, outputs = (
            _unpacked(read_structure(plain(config.get(role)), f"{where}: {role}"))
            for role in ("input_layers", "output_layers")
        )
        layers: dict[str, Any] = {}
        operations: dict[str, Operation] = {}
        tensors: dict[TensorName, Any] = {}
        pending: dict[str, list[Call]] = {}
        for entry in read_entries(config["layers"], self._source):
            if entry.class_name == "InputLayer":
                tensors[TensorName(entry.name, 0, 0)] = self._input(entry.config, entry.name)
                continue
            if entry.is_operation:
                operations[entry.name] = operation_from_entry(entry, f"{self._source}: layer {entry.name!r}")
            else:
                self._add(entry, layers)
            pending[entry.name] = read_calls(entry, self._source)
        self._connect({**layers, **operations}, pending, tensors, _first_calls(layers, pending, outputs))
        for tensor in tensors_in([inputs, outputs]):
            if tensor not in tensors:
                raise ModelFileError(f"{where} has an input or output that no layer provides: {tensor}")
        start, end = (with_tensors(role, tensors.__getitem__) for role in (inputs, outputs))
        model = self._connected(lambda: _functional_model(start, end, safe_name(name)), f"model {name!r}")
        _lift_limits(layers)
        return RebuiltModel(model, layers)

    def _connect(
        self,
        callables: dict[str, Any],
        pending: dict[str, list[Call]],
        tensors: dict[TensorName, Any],
        first_call: dict[str, int],
    ) -> None:
        """Call every layer as often as the file does, as soon as its inputs are there; `tensors` gets the outputs."""
        import keras

        number = {name: first_call.get(name, 0) for name in pending}
        while pending:
            done = len(tensors)
            for name in list(pending):
                while pending[name] and all(tensor in tensors for tensor in pending[name][0].inputs):
                    call = pending[name].pop(0)
                    args, kwargs = (with_tensors(part, tensors.__getitem__) for part in call)
                    output = self._call(callables[name], args, kwargs, name)
                    for index, tensor in enumerate(keras.tree.flatten(output)):
                        tensors[TensorName(name, number[name], index)] = tensor
                    number[name] += 1
                if not pending[name]:
                    del pending[name]
            if len(tensors) == done:
                name = next(iter(pending))
                missing = next(tensor for tensor in pending[name][0].inputs if tensor not in tensors)
                raise ModelFileError(f"{self._source}: layer {name!r} takes an input that no layer provides: {missing}")

    def _call(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        import keras

        if isinstance(layer, RebuiltModel | Expansion | keras.layers.Layer):
            return self._connected(lambda: keras_layer(layer)(*args), f"layer {name!r}")
        return self._connected(lambda: layer(args, kwargs), f"layer {name!r}")

    def _connected(self, connect: Callable[[], Any], what: str) -> Any:
        """Run a step that makes Keras connect layers; what does not fit is the file's fault."""
        try:
            return connect()
        except (ModelFileError, UnsupportedLayerError):
            raise
        except StropError as error:
            raise ModelFileError(f"{self._source}: {error}") from error
        except Exception as error:
            raise ModelFileError(f"{self._source}: {what} does not fit together: {brief(error)}") from error

    def _add(self, entry: Entry, layers: dict[str, Any]) -> Any:
        """Make a layer or nested model, and note it under its name."""
        where = f"{self._source}: layer {entry.name!r}"
        if entry.name in layers:
            raise ModelFileError(f"{self._source}: two layers are called {entry.name!r}")
        try:
            layers[entry.name] = layer = self._layer(entry, where)
        except StropError:
            raise
        except Exception as error:  # a config can be broken in more ways than any list of exceptions foresees
            raise ModelFileError(f"{where} ({entry.class_name}) has a damaged config: {brief(error)}") from error
        return layer

    def _layer(self, entry: Entry, where: str) -> Any:
        if entry.is_operation:
            raise UnsupportedLayerError(f"{where} is an operation on tensors, which no Sequential model can hold")
        if model_kind(entry.class_name, self._source, self._known) in MODEL_CLASSES:
            return self.model(entry.class_name, entry.config, name=entry.name)
        config = {**as_mapping(entry.config, f"{where}: config"), "name": entry.name}
        if entry.class_name in _WRAPPERS and entry.class_name not in self._known.passed:
            inner = read_entry(config.get("layer"), 0, where)
            wrapped = self._layer(inner, f"{where}: layer {inner.name!r}")
            if isinstance(wrapped, Expansion):
                raise UnsupportedLayerError(
                    f"{where} wraps a layer ({inner.class_name}) that becomes several here, which strop does not read"
                )
            layer = layer_from_config(entry.class_name, config, where, self._known, keras_layer(wrapped))
            self._limit_weights(layer, where)
            return RebuiltWrapper(layer, {inner.name: wrapped})
        expanded = None
        for package in (larq, qkeras, causal) if self._known.find(entry.class_name) is None else ():
            expanded = expanded or package.expansion(entry.class_name, config, where, self._known)
        if expanded is not None:
            self._limit_weights(expanded.main, where)
            return expanded
        layer = layer_from_config(entry.class_name, config, where, self._known)
        self._limit_weights(layer, where)
        return layer

    def _limit_weights(self, layer: Any, where: str) -> None:
        """Make a layer refuse, when it is built, to create a weight that the file cannot fill."""
        create = layer.add_weight

        def checked(shape: Any = (), *args: Any, **kwargs: Any) -> Any:
            _check_size(shape, kwargs.get("name"), self._largest, where)
            return create(shape, *args, **kwargs)

        layer.add_weight = checked

    def _sequential_input(self, first: Entry, known_shape: Any) -> Any:
        if first.class_name == "InputLayer":
            return self._input(first.config, first.name)
        shape = _batch_shape(first.class_name, first.config) or known_shape
        if shape is None:
            raise ModelFileError(
                f"{self._source}: the Sequential model in it does not tell its input shape; "
                "give its first layer an input_shape (in Keras 3: start with keras.Input) and save it again"
            )
        return self._input({"batch_input_shape": shape}, f"{first.name}_input")

    def _input(self, config: Any, name: str) -> Any:
        import keras

        where = f"{self._source}: input {name!r}"
        config = plain(as_mapping(config, where))
        for kind in ("sparse", "ragged"):
            if config.get(kind):
                raise UnsupportedLayerError(f"{where} takes {kind} tensors; strop reads dense ones only")
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        if not isinstance(shape, list | tuple) or not shape or not all(_is_length(size) for size in shape[1:]):
            raise ModelFileError(f"{where} has no valid shape: {shape!r}")
        dtype = config.get("dtype")
        if not (isinstance(dtype, str) and dtype.startswith(("int", "uint"))):
            dtype = dtype_name(dtype, where)
        # A mixed policy computes in half precision, but its inputs stay float32.
        dtype = "float32" if dtype.startswith("mixed_") else dtype
        return self._connected(
            lambda: keras.Input(tuple(shape[1:]), dtype=dtype, name=safe_name(name)), f"input {name!r}"
        )


def _check_size(shape: Any, name: Any, largest: int, where: str) -> None:
    if math.prod(int(length) for length in shape or ()) > largest:
        raise ModelFileError(
            f"{where} needs a weight {name!r} of shape {shown_shape(shape)}, but the largest weight in the file has "
            f"{largest} values"
        )


@contextmanager
def limited_weights(largest: int, source: str) -> Iterator[None]:
    """Make every layer that Keras itself makes here refuse to create a weight that the file cannot fill.

    A config of a few bytes can ask for more than any memory holds. Layers that other threads make are left alone.
    """
    import keras

    create, thread = keras.layers.Layer.add_weight, threading.get_ident()

    def checked(layer: Any, shape: Any = (), *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            _check_size(shape, kwargs.get("name"), largest, f"{source}: layer {layer.name!r}")
        return create(layer, shape, *args, **kwargs)

    keras.layers.Layer.add_weight = checked
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = create


def keras_layer(layer: Any) -> Any:
    """Return the Keras layer or model of a value of `RebuiltModel.layers`."""
    return layer.model if isinstance(layer, RebuiltModel) else layer


def _functional_model(inputs: Any, outputs: Any, name: str) -> Any:
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the keys of dictionaries and the names of inputs differ
        return keras.Model(inputs, outputs, name=name)


def _lift_limits(layers: dict[str, Any]) -> None:
    """Undo `Rebuilder._limit_weights`: the layers are built, and are free to be changed."""
    for layer in layers.values():
        if isinstance(layer, RebuiltWrapper):
            _lift_limits(layer.layers)
        target = layer.main if isinstance(layer, Expansion) else keras_layer(layer)
        vars(target).pop("add_weight", None)


def _batch_shape(class_name: Any, config: Any) -> Any:
    """Return the input shape with batch axis that the first layer of a Sequential model states, or None."""
    while class_name in MODEL_CLASSES:
        layers = config if isinstance(config, list) else as_mapping(config, "nested model").get("layers")
        first = layers[0] if isinstance(layers, list) and layers and isinstance(layers[0], Mapping) else {}
        class_name, config = first.get("class_name"), first.get("config")
    if not isinstance(config, Mapping):
        return None
    return config.get("batch_input_shape") or config.get("batch_shape")


def _first_calls(layers: dict[str, Any], pending: dict[str, list[Call]], outputs: Any) -> dict[str, int]:
    """Return the number of the first call of each nested model.

    Keras counts the calls of a nested model from 1 where it counts the model's own making as call 0, and from
    0 elsewhere; which it does changed between versions. Every call is referred to at least once.
    """
    first: dict[str, int] = {}
    inputs = [tensor for calls in pending.values() for call in calls for tensor in call.inputs]
    for tensor in (*tensors_in(outputs), *inputs):
        found = layers.get(tensor.layer)
        if isinstance(found, RebuiltModel) and not isinstance(found, RebuiltWrapper):
            first[tensor.layer] = min(first.get(tensor.layer, tensor.call), tensor.call)
    return first


def _is_length(size: Any) -> bool:
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)


def _unpacked(items: Any) -> Any:
    return items[0] if isinstance(items, list) and len(items) == 1 else items
