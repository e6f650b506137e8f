"""`strop.to_keras`: a graph as an ordinary, sharpened Keras model, whose lowering is the graph again.

Keras's own layers are taken wherever `strop.lower` makes the very same operator of them; `LinearMap` says the rest.
Populations are `SpikingThreshold` layers at sharpness 1. A population is evaluated in float32 where that is exact
whatever its inputs are, and in float64 elsewhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendMissingError, DataError, StropError
from strop.graph import Graph, Input, Population, Projection, Readout, difference, stages_of
from strop.graph.files.atomic import check_writable, write_atomically
from strop.graph.rounding.evaluation import Evaluation, Operators
from strop.graph.rounding.formats import FLOAT32
from strop.graph.rounding.stages import as_summed, largest_signals
from strop.graph.stage_weights import stage_weights
from strop.running.model_argument import ModelOrGraph, as_graph

if TYPE_CHECKING:
    import keras

FloatArray = npt.NDArray[np.float64]

SUFFIX = ".keras"
_OTHER = re.compile(r"[^A-Za-z0-9_.-]")


def to_keras(graph: ModelOrGraph) -> keras.Model:
    """Return a graph as a Keras model: the same spikes, and lowered again the same graph.

    >>> model = strop.to_keras(quantised)
    >>> strop.lower(model) == quantised
    True
    >>> model.save("quantised.keras")

    The model takes frames as the graph does: bit planes and binary spikes are made by its first layer
    (`strop.keras.InputEncoding`), and `strop.lower` needs no `encoding`. It can be evaluated, trained further
    (thresholds pass the gradient of a ramp) and saved like any other.

    Parameters
    ----------
    graph : Graph, keras.Model or path
        A model is lowered first.

    Returns
    -------
    keras.Model
        Functional, built, not compiled. Layers bear the names of populations and read-outs, with `_` for what Keras
        does not allow.

    Raises
    ------
    DataError
        If the graph holds an operator that is none of strop's.
    BackendMissingError
        If Keras 3 and TensorFlow are not installed.
    """
    found = as_graph(graph, "strop.to_keras")
    _require_keras()
    model = _Builder(found).model()
    from strop.lowering import lower

    again = lower(model)
    if again != found:
        raise StropError(
            f"the Keras model of graph {found.name!r} does not give this graph again ({difference(found, again)}); "
            "please report it"
        )
    return model


def _require_keras() -> None:
    try:
        import strop.keras  # noqa: F401
    except ImportError as error:
        raise BackendMissingError(str(error)) from error


def write_keras(graph: ModelOrGraph, path: str | os.PathLike[str]) -> Path:
    """Write the Keras model of a graph to a `.keras` file, whole or not at all, and return its path.

    Raises
    ------
    DataError
        If the name does not end in `.keras`, its folder does not exist, or there is something else by this name.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise DataError(f"{path}: a Keras model is written to a file {SUFFIX}, for example {path.stem}{SUFFIX}")
    check_writable(path)
    model = to_keras(graph)
    with write_atomically(path) as draft:
        model.save(draft)
    return path


def exact_in_float32(graph: Graph) -> frozenset[str]:
    """Return the populations whose potentials float32 gives exactly, whatever spikes they get and in whatever order.

    A population that takes the values of an analogue input is not among them.
    """
    analogue = {node.name for node in graph.inputs if not node.spiking}
    nothing = {name: np.zeros((1, *graph.signal_shape(name))) for name in analogue}
    most, grids = largest_signals(graph, nothing)
    at = Evaluation(most, FLOAT32, Operators(), grids, ceiling=True)
    found = set()
    for population in graph.populations:
        incoming = graph.incoming(population.name)
        held = [population.threshold, population.bias]
        held += [stage_weights(stage) for p in incoming for stage in stages_of(p.operator)]
        if (
            not any(p.source in analogue for p in incoming)
            and all(FLOAT32.holds(values).all() for values in held)
            and not at.of(as_summed(graph, population.name)).error.any()
        ):
            found.add(population.name)
    return frozenset(found)


class _Builder:
    """Builds the layers of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.exact = exact_in_float32(graph)
        self.places = {id(p): place for place, p in enumerate(graph.projections)}
        self.taken: set[str] = set()
        nodes: list[Input | Population | Readout] = [*graph.populations, *graph.readouts, *graph.inputs]
        self.names = {node.name: self._unique(node.name) for node in nodes}
        self.tensors: dict[str, Any] = {}
        self.read: set[str] = set()

    def model(self) -> keras.Model:
        """Return the model."""
        import keras

        graph = self.graph
        inputs = [self._input(node) for node in graph.inputs]
        for place, population in enumerate(graph.populations):
            self._population(place, population)
        for place, readout in enumerate(graph.readouts):
            self._readout(place, readout)
        outputs = [self.tensors[name] for name in graph.outputs]
        left = [tensor for name, tensor in self.tensors.items() if name not in self.read | set(graph.outputs)]
        if left:
            from strop.keras import FirstOf

            outputs[0] = FirstOf(name=self._unique("outputs"))([outputs[0], *left])
        one_or_all = [found[0] if len(found) == 1 else found for found in (inputs, outputs)]
        return keras.Model(*one_or_all, name=_plain(graph.name))

    def _unique(self, name: str) -> str:
        """Return a name for a layer, near to a given one, which no other layer has."""
        from strop.export.keras_layers import free_name

        name = free_name(_plain(name), self.taken)
        self.taken.add(name)
        return name

    def _input(self, node: Input) -> Any:
        import keras

        from strop.keras import InputEncoding

        name = self.names[node.name]
        tensor = self.tensors[node.name] = keras.Input(node.shape, dtype=node.dtype, name=name)
        if node != Input(name, node.shape):
            fields = ("name", "encoding", "bits", "level", "step", "offset", "scaled_by")
            layer = InputEncoding(
                {key: _number(getattr(node, key)) for key in fields}, name=self._unique(f"{name}_frames")
            )
            self.tensors[node.name] = layer(tensor)
        return tensor

    def _population(self, place: int, population: Population) -> None:
        from strop.keras import SpikingThreshold

        incoming = self.graph.incoming(population.name)
        dtype = "float32" if population.name in self.exact else "float64"
        record: dict[str, Any] = {"place": place, "projections": [self.places[id(p)] for p in incoming]}
        if not place and _plain(self.graph.name) != self.graph.name:
            record["graph"] = self.graph.name
        threshold, bias = _compact(population.threshold), _per_channel(_compact(population.bias), population.shape)
        layer = SpikingThreshold(
            threshold.shape,
            bias.shape,
            1.0,
            surrogate_width=1.0,
            record=self._named(record, population.name),
            name=self.names[population.name],
            dtype=dtype,
        )
        layer.threshold.assign(threshold)
        layer.bias.assign(bias)
        self.tensors[population.name] = layer(self._summed(population.name, incoming, dtype))

    def _readout(self, place: int, readout: Readout) -> None:
        from strop.keras import SpikeReadout

        parts = zip(readout.sources, readout.operators, strict=True)
        incoming = [Projection(source, readout.name, operator) for source, operator in parts]
        bias = _per_channel(_compact(readout.bias), readout.logits_shape)
        layer = SpikeReadout(
            readout.kind,
            bias.shape,
            readout.after,
            readout.argmax,
            record=self._named({"place": place}, readout.name),
            name=self.names[readout.name],
            dtype="float64",
        )
        layer.bias.assign(bias)
        # In float64, so that no rounding makes the values of two classes equal.
        self.tensors[readout.name] = layer(self._summed(readout.name, incoming, "float64"))

    def _named(self, record: dict[str, Any], name: str) -> dict[str, Any]:
        return record if self.names[name] == name else {**record, "name": name}

    def _summed(self, target: str, incoming: tuple[Projection, ...] | list[Projection], dtype: str) -> Any:
        """Return the sum of what arrives at a node."""
        import keras

        from strop.export.keras_layers import layers_of

        parts = []
        for projection in incoming:
            tensor = self.tensors[projection.source]
            self.read.add(projection.source)
            for layer in layers_of(projection.operator, dtype, self.names[target], self.taken):
                tensor = layer(tensor)
            parts.append(tensor)
        if len(parts) == 1:
            return parts[0]
        return keras.layers.Add(name=self._unique(f"{self.names[target]}_sum"), dtype=dtype)(parts)


def _plain(name: str) -> str:
    """Return a name that Keras and TensorFlow take for a layer."""
    name = _OTHER.sub("_", name)
    return name if name[:1].isalnum() else f"n{name}"


def _number(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int)) else float(value)


def _compact(values: FloatArray) -> FloatArray:
    """Return an array with extent 1 along each axis along which it does not vary."""
    values = np.asarray(values)
    for axis in range(values.ndim):
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return values


def _per_channel(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return a bias with a value of its own for each channel at least, so that it can be trained."""
    if not shape or values.shape[-1] == shape[-1]:
        return values
    return np.broadcast_to(values, (*values.shape[:-1], shape[-1]))
