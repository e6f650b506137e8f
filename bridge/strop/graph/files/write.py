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
    arrays: dict[str, npt.NDArray[Any]] = {}
    document = json.dumps(_describe(graph, arrays), allow_nan=False, indent=1)
    # In memory: HDF5 1.14 crashes the process where a disk is full.
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, _version(graph)
        file.create_dataset("graph", data=document, dtype=h5py.string_dtype())
        folder = file.create_group("arrays")
        for name, values in arrays.items():
            packed = {"compression": "gzip", "shuffle": True} if values.size >= COMPRESS_FROM else {}
            folder.create_dataset(name, data=values, **packed)
    write_bytes(path, made.getbuffer(), ModelFileError)


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


def _describe(graph: GraphContent, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Return the JSON document of a graph and put the arrays that it names into `arrays`."""

    def keep(name: str, values: npt.NDArray[Any]) -> str:
        arrays[name] = values
        return name

    def operator(name: str, op: Operator) -> dict[str, Any]:
        kind = CLASS_NAMES.get(type(op))
        if kind is None:
            raise ModelFileError(
                f"{name} of graph {graph.name!r}: a {SUFFIX} file cannot hold the operator {type(op).__name__}, "
                f"known are {', '.join(OPERATORS)} (any linear map can be written as Sparse, from to_coo())"
            )
        described: dict[str, Any] = {"type": kind}
        for key, attribute, form in OPERATORS[kind][1]:
            value = getattr(op, attribute)
            if form in ("float64", "int64"):
                described[key] = keep(f"{name}.{key}", value)
            elif form == "operators":
                described[key] = [operator(f"{name}.{key}.{n}", stage) for n, stage in enumerate(value)]
            else:
                described[key] = value
        return described

    return {
        "name": graph.name,
        "inputs": [
            {
                "name": i.name,
                "shape": i.shape,
                "encoding": i.encoding,
                "bits": i.bits,
                "level": float(i.level),
                **_plane_keys(i),
                **_whole_number_keys(i),
            }
            for i in graph.inputs
        ],
        "populations": [
            {
                "name": p.name,
                "shape": p.shape,
                "threshold": keep(f"populations.{n}.threshold", _compact(p.threshold)),
                "bias": keep(f"populations.{n}.bias", _compact(p.bias)),
            }
            for n, p in enumerate(graph.populations)
        ],
        "projections": [
            {
                "source": p.source,
                "target": p.target,
                "delay": p.delay,
                "operator": operator(f"projections.{n}.operator", p.operator),
            }
            for n, p in enumerate(graph.projections)
        ],
        "readouts": [
            {
                "name": r.name,
                "kind": r.kind,
                "sources": r.sources,
                "operators": [operator(f"readouts.{n}.operators.{k}", op) for k, op in enumerate(r.operators)],
                "bias": keep(f"readouts.{n}.bias", _compact(r.bias)),
                **(
                    {
                        "after": None if r.after is None else operator(f"readouts.{n}.after", r.after),
                        "argmax": r.argmax,
                    }
                    if _is_new(r)
                    else {}
                ),
            }
            for n, r in enumerate(graph.readouts)
        ],
        "outputs": graph.outputs,
    }


def _compact(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `values` with extent 1 along broadcast axes: a convolution has one bias per filter."""
    return values[tuple(slice(0, 1) if step == 0 else slice(None) for step in values.strides)]
