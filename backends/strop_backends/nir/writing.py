"""Writing NIR: strict comparators, channels first, biases in the affine maps, delays where paths differ.

NIR's equations (nir 1.0.8): `Threshold` gives 1 where `v > v_thr` (`ir/threshold.py`), `Affine` and the
convolutions take no time, several edges into a node add up, and `Delay` gives `x(t - tau)` (`ir/delay.py`).
So a NIR graph without delays answers a frame in the instant it enters; where a graph skips layers, every
projection gets a `Delay` of its steps, and population P answers at `depth(P)` steps, as in strop.
"""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph, Population, Readout
from strop.graph.files.atomic import write_bytes
from strop_backends.nir.emit import Place, describe, emit, hint, image, is_flat, is_image, natural

PRECISIONS = ("float64", "float32")
DELAYS = ("auto", "always", "never")


def write_file(path: str | os.PathLike[str], graph: Any) -> None:
    """Write a `nir.NIRGraph` to a file, whole or not at all."""
    # In memory: HDF5 1.14 crashes the process where a disk is full.
    made = io.BytesIO()
    nir.write(made, graph)
    write_bytes(Path(path), made.getbuffer())


def to_nir(graph: Graph, precision: str = "float64", delays: str = "auto", dt: float = 1.0) -> Any:
    """Return a `nir.NIRGraph` that gives the same spikes, and passes NIR's own type check.

    >>> nir.write("net.nir", to_nir(graph))

    A NIR input takes the signal of strop's input: the frame, or its binary values or bit planes as channels
    (see `strop.running.encode.encode`), channels first. Read-outs become affine maps: the logits. Functions of
    them (a softmax, a sigmoid, a mean of several) are in the metadata of the output node.

    Parameters
    ----------
    graph : Graph
    precision : {"float64", "float32"}
        Precision of the consumer. The strict comparator is set to the next number below the threshold
        in this precision; with "float32", a weight or bias that float32 cannot hold is refused.
    delays : {"auto", "always", "never"}
        Whether every projection carries a `Delay` of its steps. "auto": only in graphs with skip connections.
        "never" is for consumers that evaluate a frame in one instant, as NIR's equations do.
    dt : float
        Length of a step, in the unit that the consumer counts delays in.

    Raises
    ------
    BackendError
        If an option is unknown, or this precision cannot hold a value.
    CapacityError
        If an operator that NIR has no node for would become too large a matrix.
    """
    if precision not in PRECISIONS or delays not in DELAYS or not dt > 0:
        raise BackendError(
            f"nir: precision must be one of {', '.join(PRECISIONS)}, delays one of {', '.join(DELAYS)}, dt positive; "
            f"got {precision!r}, {delays!r}, {dt!r}"
        )
    return _Writer(graph, precision, delays, dt).finish()


def strictly_below(threshold: npt.NDArray[np.float64], precision: str) -> npt.NDArray[Any]:
    """Return the greatest numbers t of a precision with `t < threshold`: `v > t` then says `v >= threshold`."""
    if precision == "float64":
        return np.nextafter(threshold, -np.inf)
    near = threshold.astype(np.float32)
    return np.where(near < threshold, near, np.nextafter(near, np.float32(-np.inf)))


class _Writer:
    """The NIR graph as it grows."""

    def __init__(self, graph: Graph, precision: str, delays: str, dt: float) -> None:
        self.graph, self.precision, self.dt = graph, precision, dt
        skips = any(p.delay > 1 for p in graph.projections)
        self.delayed = delays == "always" or (delays == "auto" and skips)
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.ids: dict[str, str] = {}
        self.places: dict[str, Place] = {}

    def finish(self) -> Any:
        graph = self.graph
        for node in graph.inputs:
            self.places[node.name] = natural(node.signal_shape)
            about = {"name": node.name, "shape": node.shape, "encoding": node.encoding, "bits": node.bits}
            shape = np.array(self.places[node.name].shape)
            about |= {"level": float(node.level), "offset": float(node.offset)}
            # None has no place in NIR's metadata.
            about |= {} if node.step is None else {"step": float(node.step)}
            about |= {"dtype": node.dtype, "scaled_by": node.scaled_by} if node.whole_numbers else {}
            metadata = hint(**about)
            self.ids[node.name] = self._add(node.name, nir.Input(input_type={"input": shape}, metadata=metadata))
        for population in graph.populations:
            self._population(population)
        for name in graph.outputs:
            readout = next((r for r in graph.readouts if r.name == name), None)
            self._output(name, readout)
        metadata = hint(
            name=graph.name,
            outputs=[self._output_id(name) for name in graph.outputs],
            inputs=[node.name for node in graph.inputs],
            populations=graph.population_names,
            projections=[(p.source, p.target) for p in graph.projections],
        )
        return nir.NIRGraph(self.nodes, self.edges, metadata=metadata)

    def _output_id(self, name: str) -> str:
        return self.ids[f"output {name}"]

    def _add(self, name: str, node: Any) -> str:
        """Add a node under an identifier made of `name`: a slash would make HDF5 groups of it."""
        clean = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "node"
        candidate, number = clean, 2
        while candidate in self.nodes:
            candidate, number = f"{clean}_{number}", number + 1
        self.nodes[candidate] = node
        return candidate

    def _population(self, population: Population) -> None:
        name, shape = population.name, population.shape
        links = [(p.source, p.operator, p.delay) for p in self.graph.incoming(name)]
        per_channel = bool((population.bias == population.bias.reshape(-1, shape[-1])[0]).all())
        chains = [emit(op, self.places[source], f"{source} -> {name}") for source, op, _ in links]
        flat = not (all(is_image(place, shape) for _, place in chains) and (per_channel or len(shape) == 1))
        if flat and not all(is_flat(place) for _, place in chains):
            chains = [emit(op, self.places[source], f"{source} -> {name}", flat=True) for source, op, _ in links]
        self.places[name] = np.arange(population.size, dtype=np.int64) if flat else image(shape)
        self._add_bias([nodes for nodes, _ in chains], population.bias, shape, flat)
        threshold = strictly_below(population.threshold, self.precision).reshape(-1)[self.places[name]]
        metadata = hint(name=name, shape=shape, precision=self.precision)
        self.ids[name] = self._add(name, nir.Threshold(threshold=threshold, metadata=metadata))
        for (source, _, delay), (nodes, place) in zip(links, chains, strict=True):
            if self.delayed:
                nodes.append(nir.Delay(delay=np.full(place.shape, delay * self.dt)))
            self._link(source, self.ids[name], nodes, f"{name}_from_{source}")

    def _add_bias(self, chains: list[list[Any]], bias: npt.NDArray[np.float64], shape: Any, flat: bool) -> None:
        """Put the bias into the affine map or convolution that ends a chain, or behind a chain into one of its own."""
        if not bias.any():
            return
        for nodes in chains:
            if nodes and isinstance(nodes[-1], (nir.Linear, nir.Conv1d, nir.Conv2d)):
                nodes[-1] = _with_bias(nodes[-1], bias)
                return
        if flat:
            node = nir.Linear(weight=np.eye(bias.size), metadata=hint(stage={"type": "Bias"}))
        else:
            from strop.graph import Dense
            from strop_backends.nir.emit import as_convolution, convolution

            identity = as_convolution(Dense(np.eye(shape[-1]), shape[:-1]))
            node = convolution(identity, {"type": "Bias"})
        chains[0].append(_with_bias(node, bias))

    def _output(self, name: str, readout: Readout | None) -> None:
        if readout is None:
            shape = np.array(self.places[name].shape)
            node = nir.Output(output_type={"output": shape}, metadata=hint(population=name))
            self.ids[f"output {name}"] = self._add(f"{name}_output", node)
            self._link(name, self._output_id(name), [], name)
            return
        chains = [
            emit(op, self.places[source], f"{source} -> {readout.name}", flat=True)[0]
            for source, op in zip(readout.sources, readout.operators, strict=True)
        ]
        size = int(np.prod(readout.logits_shape))
        for nodes in chains:
            # The decode is an affine map in any case, so that consumers find one.
            if not nodes or not isinstance(nodes[-1], nir.Linear):
                nodes.append(nir.Linear(weight=np.eye(size), metadata=hint(stage={"type": "Bias"})))
        chains[0][-1] = _with_bias(chains[0][-1], readout.bias)
        about: dict[str, Any] = {"name": name, "kind": readout.kind, "shape": readout.logits_shape}
        about |= {} if readout.after is None else {"after": describe(readout.after)}
        about |= {"argmax": True} if readout.argmax else {}
        node = nir.Output(output_type={"output": np.array([size])}, metadata=hint(**about))
        self.ids[f"output {name}"] = self._add(name, node)
        last = max(self.graph.depth(source) for source in readout.sources)
        for source, nodes in zip(readout.sources, chains, strict=True):
            if self.delayed and (wait := last - self.graph.depth(source)):
                nodes.append(nir.Delay(delay=np.full((size,), wait * self.dt)))
            self._link(source, self._output_id(name), nodes, f"{name}_from_{source}")

    def _link(self, source: str, target: str, nodes: list[Any], label: str) -> None:
        """Add a chain of nodes between two that are there."""
        before = self.ids[source]
        if not nodes and (before, target) in self.edges:
            # NIR takes an edge once; two equal projections are two.
            nodes = [nir.Scale(scale=np.ones(self.places[source].shape))]
        for number, node in enumerate(nodes):
            self._set_precision(node, label)
            suffix = "" if len(nodes) == 1 else f"_{number + 1}"
            name = self._add(f"{label}{suffix}", node)
            self.edges.append((before, name))
            before = name
        self.edges.append((before, target))

    def _set_precision(self, node: Any, where: str) -> None:
        """Convert a node's arrays to the precision, or refuse."""
        if self.precision == "float64":
            return
        for key in ("weight", "bias", "scale"):
            values = getattr(node, key, None)
            if values is None:
                continue
            short = values.astype(np.float32)
            if not np.array_equal(short, values):
                worst = float(values[short != values].reshape(-1)[0])
                raise BackendError(
                    f"nir: {where} holds the {key} {worst!r}, which float32 cannot hold; export with "
                    "precision='float64' for a consumer that calculates in it"
                )
            setattr(node, key, short)


def _with_bias(node: Any, bias: npt.NDArray[np.float64]) -> Any:
    if isinstance(node, nir.Linear):
        return nir.Affine(weight=node.weight, bias=bias.reshape(-1).copy(), metadata=node.metadata)
    node.bias = bias.reshape(-1, bias.shape[-1])[0].copy()
    return node


def graph_hint(metadata: Any) -> dict[str, Any]:
    """Return strop's entry in a node's metadata, or an empty dict."""
    text = metadata.get("strop") if isinstance(metadata, dict) else None
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
