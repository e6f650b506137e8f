"""Reading NIR: a feed-forward network of thresholds as a strop graph; other nodes are refused by name.

When a neuron fires is in `strop_backends.nir.integration`, what a linear node does in
`strop_backends.nir.linear_nodes`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import nir
import numpy as np

from strop.errors import GraphError, ModelFileError, StropError, UnsupportedLayerError
from strop.graph import (
    Composed,
    Graph,
    Input,
    Operator,
    Population,
    Readout,
    Select,
)
from strop.graph.files.hdf5 import DamagedHDF5Error, as_hdf5, is_hdf5, read_tree
from strop_backends.nir.emit import Place, image, natural
from strop_backends.nir.files import hints_in, with_hints
from strop_backends.nir.integration import first_firing
from strop_backends.nir.linear_nodes import through_node
from strop_backends.nir.restore import described
from strop_backends.nir.signals import Signal, channels_last, sum_is_exact
from strop_backends.nir.survey import not_carried
from strop_backends.nir.writing import graph_hint

_T = TypeVar("_T")
# Values of a frame: an index is made for each, and a file of a few bytes can declare any shape.
_LARGEST_INPUT = 1 << 26


def read_nir(source: Any, dt: float | None = None, encoding: str | None = None, memoryless: bool = False) -> Graph:
    """Return the strop graph of a NIR file or `nir.NIRGraph`.

    >>> graph = read_nir("net.nir")

    Parameters
    ----------
    source : path or nir.NIRGraph
    dt : float, optional
        Length of the step for which an `IF` or `LIF` sees its input, in the unit of its time constants. By default that
        which strop wrote, else 1.
    encoding : {"host", "bitplane", "binary", "current"}, optional
        Input encoding. By default the one that strop wrote, or "host" for graphs of other tools.
    memoryless : bool
        Take neurons that keep some of their potential (an `IF`, a `LIF` with tau above dt) as thresholds that see
        their input for one step, from rest. `graph.assumptions` then says so, and every report shows it.

    Raises
    ------
    ModelFileError
        If the file is missing or no NIR.
    UnsupportedLayerError
        If a node does not belong to a feed-forward network of thresholds; names the node and the reason.
    """
    graph = source if isinstance(source, nir.NIRGraph) else _open(source)
    if dt is None:
        dt = _written_dt(graph)
    if not (math.isfinite(dt) and dt > 0):
        raise UnsupportedLayerError(f"dt must be a positive number, got {dt!r}")
    try:
        return _Reader(graph, dt, encoding, memoryless).finish()
    except UnsupportedLayerError as error:
        error.refused = tuple(not_carried(graph, dt, memoryless))
        raise
    except StropError:
        raise
    except Exception as error:  # values of nodes and of metadata can be damaged in more ways than checks foresee
        reason = " ".join(str(error).split()) or type(error).__name__
        what = "the NIRGraph that was given" if graph is source else source
        raise ModelFileError(f"{what} holds no valid NIR graph: {reason[:300]}; save it again") from error


def _open(path: str | os.PathLike[str]) -> Any:
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist; give a NIR file, as written by nir.write")
    try:
        content = read_tree(path)
    except DamagedHDF5Error as error:
        kind = "is damaged or cut short" if is_hdf5(path) else "is no HDF5 file"
        raise ModelFileError(
            f"{path} is no NIR graph that nir {_nir_version()} can read: it {kind}: {error.reason}"
        ) from error
    try:
        # The type check of nir 1.0.8 refuses valid graphs (grouped convolutions); shapes are checked below.
        graph = nir.read(as_hdf5(content), type_check=False)
    except Exception as error:
        # What nir raises depends on what is wrong: OSError, KeyError, ValueError, TypeError, AssertionError.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"{path} is no NIR graph that nir {_nir_version()} can read: {reason}") from error
    if not isinstance(graph, nir.NIRGraph):
        raise ModelFileError(f"{path} holds a single {type(graph).__name__}, not a NIRGraph")
    return with_hints(graph, hints_in(content))


def _written_dt(graph: Any) -> float:
    written = graph_hint(graph.metadata).get("dt")
    with suppress(OverflowError):
        return float(written) if isinstance(written, (int, float)) and written > 0 else 1.0
    return 1.0


def _nir_version() -> str:
    from importlib.metadata import version

    return version("nir")


class _Reader:
    """The strop graph as it is read, node by node in the order of the data."""

    def __init__(self, graph: Any, dt: float, encoding: str | None, memoryless: bool) -> None:
        self.nir, self.dt, self.encoding, self.memoryless = graph, dt, encoding, memoryless
        self.hint = graph_hint(graph.metadata)
        self.inputs: list[Input] = []
        self.populations: list[Population] = []
        self.connections: list[tuple[str, str, Operator]] = []
        self.readouts: list[Readout] = []
        self.outputs: dict[str, str] = {}
        self.signals: dict[str, Signal] = {}
        self.names: set[str] = set()
        # Populations that were read as if they had no memory, by what they keep.
        self.assumed: dict[str, list[str]] = {}

    def finish(self) -> Graph:
        for name in self._order():
            node = self.nir.nodes[name]
            where = f"NIR node {name!r} ({type(node).__name__})"
            if isinstance(node, nir.Input):
                self.signals[name] = self._input(name, node, where)
            elif isinstance(node, nir.Output):
                self._output(name, node, self._incoming(name, where), where)
            elif isinstance(node, (nir.Threshold, nir.IF, nir.LIF)):
                self.signals[name] = self._population(name, node, where)
            else:
                self.signals[name] = through_node(node, self._incoming(name, where), where)
        wanted = [name for name in self.hint.get("outputs", []) if name in self.outputs] or list(self.outputs)
        # NIR keeps nodes by name, without an order; strop records its own.
        pairs = [tuple(pair) for pair in self.hint.get("projections", []) if isinstance(pair, list)]
        try:
            return Graph.from_nodes(
                _ordered(self.inputs, self.hint.get("inputs", []), lambda node: node.name),
                _ordered(self.populations, self.hint.get("populations", []), lambda node: node.name),
                _ordered(self.connections, pairs, lambda link: link[:2]),
                self.readouts,
                dict.fromkeys(self.outputs[name] for name in wanted),
                name=str(self.hint.get("name", "network")),
                assumptions=[
                    f"assumed: every frame finds {', '.join(names)} at rest (memoryless); in the file each {what}"
                    for what, names in self.assumed.items()
                ],
            )
        except GraphError as error:
            raise UnsupportedLayerError(f"this NIR graph is no network that strop can hold: {error}") from error

    def _order(self) -> list[str]:
        """Return the nodes so that each stands behind those that feed it."""
        waiting = {name: {a for a, b in self.nir.edges if b == name} for name in self.nir.nodes}
        unknown = sorted(
            {a for a, b in self.nir.edges} - waiting.keys() | {b for _, b in self.nir.edges} - waiting.keys()
        )
        if unknown:
            raise UnsupportedLayerError(f"this NIR graph has edges of nodes that are not there: {', '.join(unknown)}")
        order: list[str] = []
        while waiting:
            free = [name for name, before in waiting.items() if not before]
            if not free:
                raise UnsupportedLayerError(
                    f"NIR nodes {', '.join(sorted(waiting))} are part of a loop or fed by one: strop carries "
                    "feed-forward networks only"
                )
            for name in free:
                del waiting[name]
            order += free
            for before in waiting.values():
                before.difference_update(free)
        return order

    def _incoming(self, name: str, where: str, about: dict[str, Any] | None = None) -> Signal:
        """Return the sum of a node's inputs; `about` is the hint of a population, whose form it takes."""
        signals = [self.signals[a] for a, b in self.nir.edges if b == name]
        if not signals:
            raise UnsupportedLayerError(f"{where} is fed by nothing and is no Input")
        first = signals[0]
        for other in signals[1:]:
            if other.place.shape != first.place.shape:
                raise UnsupportedLayerError(
                    f"{where} adds up tensors of shapes {first.place.shape} and {other.place.shape}"
                )
            if not math.isclose(other.time, first.time, rel_tol=1e-9, abs_tol=1e-12):
                raise UnsupportedLayerError(
                    f"{where} is reached after {first.time:g} and after {other.time:g}: spikes of different "
                    "frames would meet. strop's graphs are aligned: give every path to a node the same total delay"
                )
        if about is not None:
            shape, place = _population_form(about, first.place.shape)
            signals = [s.moved(shape, place, where) for s in signals]
        elif any(s.shape != first.shape or not np.array_equal(s.place, first.place) for s in signals):
            shape = channels_last(first.place.shape)
            place = natural(shape) if len(shape) > 1 else np.arange(first.place.size, dtype=np.int64)
            signals = [s.moved(shape, place, where) for s in signals]
        biases = [s.bias for s in signals if s.bias is not None]
        bias = None if not biases else sum(biases[1:], start=biases[0])
        if len(biases) > 1 and not sum_is_exact(biases, bias):
            raise UnsupportedLayerError(f"{where} adds up biases that float64 would have to round; use a single bias")
        return replace(signals[0], parts=tuple(part for s in signals for part in s.parts), bias=bias)

    def _unique(self, name: str) -> str:
        clean = re.sub(r"\s+", "_", name) or "node"
        candidate, number = clean, 2
        while candidate in self.names:
            candidate, number = f"{clean}_{number}", number + 1
        self.names.add(candidate)
        return candidate

    # Nodes
    # ---------------------------------------------------------------------------------------------------

    def _input(self, name: str, node: Any, where: str) -> Signal:
        extents = tuple(int(n) for n in np.asarray(node.input_type["input"]).reshape(-1))
        if any(n <= 0 for n in extents) or math.prod(extents) > _LARGEST_INPUT:
            raise UnsupportedLayerError(f"{where} has the shape {extents}, which is none of a frame")
        about = graph_hint(node.metadata)
        made = None
        if about:
            try:
                made = Input(
                    self._unique(about["name"]),
                    about["shape"],
                    about["encoding"],
                    about["bits"],
                    about["level"],
                    about.get("step"),
                    about.get("offset", 0.0),
                    about.get("dtype", "float32"),
                    about.get("scaled_by", ""),
                )
            except (GraphError, KeyError, TypeError):
                made = None
        if made is None or natural(made.signal_shape).shape != extents:
            made = Input(self._unique(name), channels_last(extents))
        if self.encoding is not None:
            made = replace(made, encoding=self.encoding)
        self.inputs.append(made)
        place = natural(made.signal_shape)
        if place.shape != extents:
            raise UnsupportedLayerError(
                f"{where} has the shape {extents}, the encoding {made.encoding!r} sends {place.shape}"
            )
        return Signal(((made.name, ()),), made.signal_shape, place)

    def _population(self, name: str, node: Any, where: str) -> Signal:
        about = graph_hint(node.metadata)
        signal = self._incoming(name, where, about)
        extents, shape, place = signal.place.shape, signal.shape, signal.place
        threshold, kept = first_firing(node, self.dt, self.memoryless, where)
        if threshold.size != 1 and threshold.shape != extents:
            raise UnsupportedLayerError(f"{where} has {threshold.shape} neurons, its input has the shape {extents}")
        title = self._unique(str(about.get("name", name)))
        if kept:
            self.assumed.setdefault(kept, []).append(title)
        values = np.empty(signal.place.size)
        values[place.reshape(-1)] = np.broadcast_to(threshold, extents).reshape(-1)
        bias = np.zeros(()) if signal.bias is None else signal.bias
        self.populations.append(Population(title, shape, values.reshape(shape), bias))
        self.connections += [(source, title, _operator(stages, shape)) for source, stages in signal.parts]
        return Signal(((title, ()),), shape, place, time=signal.time)

    def _output(self, name: str, node: Any, signal: Signal, where: str) -> None:
        about = graph_hint(node.metadata)
        populations = {population.name for population in self.populations}
        if len(signal.parts) == 1 and not signal.parts[0][1] and signal.bias is None and "kind" not in about:
            if signal.parts[0][0] not in populations:
                raise UnsupportedLayerError(f"{where} gives an input back: there is no population before it")
            self.outputs[name] = signal.parts[0][0]
            return
        foreign = sorted({source for source, _ in signal.parts} - populations)
        if foreign:
            raise UnsupportedLayerError(f"{where} reads {', '.join(foreign)}, which is no population of thresholds")
        shape, size = tuple(about.get("shape", ())), signal.place.size
        if not shape or math.prod(shape) != size:
            shape = channels_last(signal.place.shape)
        flat = signal.place.ndim == 1
        place = np.arange(size, dtype=np.int64) if flat else image(shape)
        signal = signal.moved(shape, place, where)
        title = self._unique(str(about.get("name", name)))
        sources = tuple(source for source, _ in signal.parts)
        operators = tuple(_operator(stages, shape) for _, stages in signal.parts)
        bias = np.zeros(()) if signal.bias is None else signal.bias
        try:
            after = described(about["after"]) if "after" in about else None
            kind, argmax = str(about.get("kind", "linear")), about.get("argmax") is True
            self.readouts.append(Readout(title, kind, sources, operators, bias, after, argmax))
        except (GraphError, KeyError, TypeError, ValueError) as error:
            raise UnsupportedLayerError(
                f"{where} says in its metadata what is no read-out of strop ({error}); leave the metadata out, to have "
                "it read as the affine map that it is"
            ) from error
        self.outputs[name] = title


def _ordered(items: list[_T], wanted: list[Any], key: Callable[[_T], Any]) -> list[_T]:
    """Return `items` in the wanted order of their keys; those that are not in it, as they come, behind."""
    rank: dict[Any, int] = {}
    for number, name in enumerate(wanted):
        rank.setdefault(name, number)
    return sorted(items, key=lambda item: rank.get(key(item), len(rank)))


def _population_form(about: dict[str, Any], extents: tuple[int, ...]) -> tuple[tuple[int, ...], Place]:
    """Return the shape of a population in strop's order, and its place in NIR's tensor."""
    shape = tuple(about.get("shape", ()))
    size = math.prod(extents)
    if shape and all(isinstance(n, int) and n > 0 for n in shape) and math.prod(shape) == size:
        if len(extents) == 1:
            return shape, np.arange(size, dtype=np.int64)
        if image(shape).shape == extents:
            return shape, image(shape)
    shape = channels_last(extents)
    return shape, image(shape) if len(shape) > 1 else np.arange(size, dtype=np.int64)


def _operator(stages: tuple[Operator, ...], shape: tuple[int, ...]) -> Operator:
    if not stages:
        return Select(shape, np.arange(math.prod(shape)).reshape(shape))
    return stages[0] if len(stages) == 1 else Composed(stages)
