"""Writing a graph to a `.strop` file, whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strop.errors import ModelFileError
from strop.graph.files.atomic import write_bytes
from strop.graph.files.layout import CLASS_NAMES, COMPRESS_FROM, FORMAT, OLD_KINDS, OPERATORS, SUFFIX, VERSION
from strop.graph.nodes import Input, Population, Projection, Readout
from strop.graph.operator import Operator


class GraphContent(Protocol):
    """The fields of a `strop.Graph` that a file holds."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[Input, ...]: ...
    @property
    def populations(self) -> tuple[Population, ...]: ...
    @property
    def projections(self) -> tuple[Projection, ...]: ...
    @property
    def readouts(self) -> tuple[Readout, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...


def save_graph(graph: GraphContent, path: str | os.PathLike[str]) -> None:
    """Write `graph` to `path`, whole or not at all.

    >>> save_graph(graph, "net.strop")

    A temporary file in the same folder is written, flushed to the disk and renamed, so that a reader sees
    either the old file or the new one.

    Raises
    ------
    ModelFileError
        If the folder is missing or not writable, or the graph holds an operator that is not one of strop's
        own.
    """
    import h5py

    path = Path(path)
    description = _Description(graph)
    document = json.dumps(description.document, allow_nan=False, indent=1)
    # In memory: HDF5 1.14 crashes the process where a disk is full.
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, _version(graph)
        file.create_dataset("graph", data=document, dtype=h5py.string_dtype())
        folder = file.create_group("arrays")
        for name, values in description.arrays.items():
            packed = {"compression": "gzip", "shuffle": True} if values.size >= COMPRESS_FROM else {}
            folder.create_dataset(name, data=values, **packed)
    with made.getbuffer() as content:
        write_bytes(path, content, ModelFileError)


def _plane_keys(node: Input) -> dict[str, Any]:
    """Return the keys of an input that version 1 lacks; none where they have the values that version 1 implies."""
    if node.step is None and node.offset == 0.0:
        return {}
    return {"step": None if node.step is None else float(node.step), "offset": float(node.offset)}


def _whole_number_keys(node: Input) -> dict[str, Any]:
    """Return the keys of an input that version 2 lacks; none where they have the values that version 2 implies."""
    return {"dtype": node.dtype, "scaled_by": node.scaled_by} if node.whole_numbers else {}


def _is_new(readout: Readout) -> bool:
    """Whether a read-out is one that version 2 cannot hold."""
    return readout.kind not in OLD_KINDS or readout.after is not None or readout.argmax


def _version(graph: GraphContent) -> int:
    """Return the oldest version that can hold a graph: an older strop would divide whole numbers by 255 in silence."""
    if any(_whole_number_keys(node) for node in graph.inputs) or any(_is_new(r) for r in graph.readouts):
        return VERSION
    return 2 if any(_plane_keys(node) for node in graph.inputs) else 1


class _Description:
    """The JSON document of a graph, and the arrays that it names."""

    def __init__(self, graph: GraphContent) -> None:
        self.name = graph.name
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self.document = {
            "name": graph.name,
            "inputs": [self._input(node) for node in graph.inputs],
            "populations": [self._population(f"populations.{n}", p) for n, p in enumerate(graph.populations)],
            "projections": [self._projection(f"projections.{n}", p) for n, p in enumerate(graph.projections)],
            "readouts": [self._readout(f"readouts.{n}", r) for n, r in enumerate(graph.readouts)],
            "outputs": graph.outputs,
        }

    def _input(self, node: Input) -> dict[str, Any]:
        return {
            "name": node.name,
            "shape": node.shape,
            "encoding": node.encoding,
            "bits": node.bits,
            "level": float(node.level),
            **_plane_keys(node),
            **_whole_number_keys(node),
        }

    def _population(self, place: str, population: Population) -> dict[str, Any]:
        return {
            "name": population.name,
            "shape": population.shape,
            "threshold": self._keep(f"{place}.threshold", _compact(population.threshold)),
            "bias": self._keep(f"{place}.bias", _compact(population.bias)),
        }

    def _projection(self, place: str, projection: Projection) -> dict[str, Any]:
        return {
            "source": projection.source,
            "target": projection.target,
            "delay": projection.delay,
            "operator": self._operator(f"{place}.operator", projection.operator),
        }

    def _readout(self, place: str, readout: Readout) -> dict[str, Any]:
        described: dict[str, Any] = {
            "name": readout.name,
            "kind": readout.kind,
            "sources": readout.sources,
            "operators": [self._operator(f"{place}.operators.{n}", op) for n, op in enumerate(readout.operators)],
            "bias": self._keep(f"{place}.bias", _compact(readout.bias)),
        }
        if _is_new(readout):
            described["after"] = None if readout.after is None else self._operator(f"{place}.after", readout.after)
            described["argmax"] = readout.argmax
        return described

    def _operator(self, place: str, operator: Operator) -> dict[str, Any]:
        kind = CLASS_NAMES.get(type(operator))
        if kind is None:
            raise ModelFileError(
                f"{place} of graph {self.name!r}: a {SUFFIX} file cannot hold the operator {type(operator).__name__}, "
                f"known are {', '.join(OPERATORS)} (any linear map can be written as Sparse, from to_coo())"
            )
        described: dict[str, Any] = {"type": kind}
        for key, attribute, form in OPERATORS[kind][1]:
            value = getattr(operator, attribute)
            if form in ("float64", "int64"):
                described[key] = self._keep(f"{place}.{key}", value)
            elif form == "operators":
                described[key] = [self._operator(f"{place}.{key}.{n}", stage) for n, stage in enumerate(value)]
            else:
                described[key] = value
        return described

    def _keep(self, name: str, values: npt.NDArray[Any]) -> str:
        self.arrays[name] = values
        return name


def _compact(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `values` with extent 1 along broadcast axes: a convolution has one bias per filter."""
    return values[tuple(slice(0, 1) if step == 0 else slice(None) for step in values.strides)]
