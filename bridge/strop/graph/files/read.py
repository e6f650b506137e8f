"""Reading a graph from a `.strop` file: nothing is executed, and no link is followed out of the file.

HDF5 itself is read in another process (`strop.graph.files.hdf5`); what comes from there goes through the constructors
of `strop.graph`, which check it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from strop.errors import GraphError, ModelFileError
from strop.graph.files.hdf5 import Array, DamagedHDF5Error, Group, is_hdf5, read_root_attributes, read_tree
from strop.graph.files.layout import FORMAT, OLD_KINDS, OPERATORS, OWN_FILTERS, SUFFIX, VERSION
from strop.graph.nodes import Input, Population, Projection, Readout
from strop.graph.operator import Operator

G = TypeVar("G")


def load_graph(path: str | os.PathLike[str], make: Callable[..., G]) -> G:
    """Read a graph from a `.strop` file, for `Graph.load`.

    >>> graph = load_graph("net.strop", Graph)

    Parameters
    ----------
    path : path
    make : callable
        `strop.Graph`: called with the nodes, `outputs` and `name`.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, no HDF5, no graph of strop, of a newer version, or holds what makes
        no valid graph; the message says which, and what to do.
    CapacityError
        If its arrays would take more memory than is free.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ModelFileError(f"a graph's file is given by its path, got {type(path).__name__}")
    path = Path(path)
    if not os.path.isfile(path):
        what = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
        raise ModelFileError(f"{path} {what}; give a {SUFFIX} file, as written by Graph.save")
    try:
        file = read_tree(path)
    except DamagedHDF5Error as error:
        found = "is truncated or damaged" if is_hdf5(path) else "is no HDF5 file"
        raise ModelFileError(
            f"{path} {found}, so it cannot be read as a {SUFFIX} graph ({_one_line(error.reason)}); "
            "save the graph again, or copy the file again"
        ) from error
    try:
        graph: G = _READERS[_version(file, path)](file, make)
    except (GraphError, _Malformed) as error:
        raise ModelFileError(f"{path} holds no valid graph: {_one_line(error)}; save the graph again") from error
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        # What no check foresaw.
        raise ModelFileError(f"{path} is damaged: {_one_line(error)}; save the graph again") from error
    return graph


def is_graph_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file at `path` is marked as a strop graph, of whatever version."""
    if not is_hdf5(path):
        return False
    try:
        return read_root_attributes(path).get("format") == FORMAT
    except ModelFileError:
        return False


class _Malformed(Exception):
    """Something in the file is not what the format says."""


def _one_line(error: BaseException | str) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _version(file: Group, path: Path) -> int:
    """Return the version of the format, or raise `ModelFileError`."""
    found = file.attributes.get("format")
    if not isinstance(found, str) or found != FORMAT:
        says = f"its format is {found!r}" if found else "it is HDF5 of another kind"
        raise ModelFileError(
            f"{path} is no strop graph: {says}; give a file written by Graph.save; open Keras models with "
            "strop.load_model"
        )
    version = file.attributes.get("version")
    if not isinstance(version, (int, np.integer)) or version < 1:
        raise ModelFileError(f"{path} has the version {version!r}, which is none; save the graph again")
    if int(version) not in _READERS:
        raise ModelFileError(
            f"{path} has version {version} of the {SUFFIX} format, this strop reads up to version {VERSION}; "
            "upgrade strop (pip install -U strop), or save the graph with the older one"
        )
    return int(version)


def _read_input_1(source: _Source, node: dict[str, Any]) -> Input:
    return Input(
        source.get(node, "name", str),
        source.shape(node, "shape"),
        source.get(node, "encoding", str),
        source.get(node, "bits", int),
        float(source.get(node, "level", float)),
    )


def _read_input_2(source: _Source, node: dict[str, Any]) -> Input:
    step = None if node.get("step") is None else float(source.get(node, "step", float))
    offset = float(source.get(node, "offset", float)) if "offset" in node else 0.0
    return replace(_read_input_1(source, node), step=step, offset=offset)


def _read_input_3(source: _Source, node: dict[str, Any]) -> Input:
    found = {key: source.get(node, key, str) for key in ("dtype", "scaled_by") if key in node}
    return replace(_read_input_2(source, node), **found)


def _read_readout_1(source: _Source, node: dict[str, Any]) -> Readout:
    kind = source.get(node, "kind", str)
    if kind not in OLD_KINDS:
        raise _Malformed(f"kind of read-out {_label(node)} must be one of {', '.join(OLD_KINDS)}")
    return _readout(source, node, kind)


def _read_readout_3(source: _Source, node: dict[str, Any]) -> Readout:
    found = _readout(source, node, source.get(node, "kind", str))
    after = None if node.get("after") is None else source.operator(source.get(node, "after", dict))
    return replace(found, after=after, argmax=source.get(node, "argmax", bool) if "argmax" in node else False)


def _readout(source: _Source, node: dict[str, Any], kind: str) -> Readout:
    return Readout(
        source.get(node, "name", str),
        kind,
        source.strings(node, "sources"),
        tuple(source.operator(op) for op in source.nodes(node, "operators")),
        source.array(node, "bias", np.float64),
    )


def _read(
    file: Group,
    make: Callable[..., G],
    read_input: Callable[[_Source, dict[str, Any]], Input],
    read_readout: Callable[[_Source, dict[str, Any]], Readout] = _read_readout_1,
) -> G:
    source = _Source(file)
    top = source.document()
    graph = {
        "inputs": [read_input(source, node) for node in source.nodes(top, "inputs")],
        "populations": [
            Population(
                source.get(node, "name", str),
                source.shape(node, "shape"),
                source.array(node, "threshold", np.float64),
                source.array(node, "bias", np.float64),
            )
            for node in source.nodes(top, "populations")
        ],
        "projections": [
            Projection(
                source.get(node, "source", str),
                source.get(node, "target", str),
                source.operator(source.get(node, "operator", dict)),
                source.get(node, "delay", int),
            )
            for node in source.nodes(top, "projections")
        ],
        "readouts": [read_readout(source, node) for node in source.nodes(top, "readouts")],
    }
    return make(
        **{key: tuple(nodes) for key, nodes in graph.items()},  # type: ignore[arg-type]  # each list has one type
        outputs=source.strings(top, "outputs"),
        name=source.get(top, "name", str),
    )


_READERS: dict[int, Callable[..., Any]] = {
    1: lambda file, make: _read(file, make, _read_input_1),
    2: lambda file, make: _read(file, make, _read_input_2),
    3: lambda file, make: _read(file, make, _read_input_3, _read_readout_3),
}


class _Source:
    """The document and the arrays of one file, checked as they are asked for."""

    def __init__(self, file: Group) -> None:
        self.file = file

    def document(self) -> dict[str, Any]:
        text = self._dataset("graph").text
        if text is None:
            raise _Malformed("'graph' must be one string")
        try:
            top = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _Malformed(f"'graph' is no JSON document ({_one_line(error)})") from error
        if not isinstance(top, dict):
            raise _Malformed("'graph' must be a JSON object")
        return top

    def get(self, node: dict[str, Any], key: str, kind: type) -> Any:
        if key not in node:
            raise _Malformed(f"{_label(node)} has no {key!r}")
        value = node[key]
        wanted = (int, float) if kind is float else (kind,)
        # bool is an int for Python, but not here.
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            raise _Malformed(f"{key!r} of {_label(node)} must be {kind.__name__}, got {_short(value)}")
        return value

    def nodes(self, node: dict[str, Any], key: str) -> list[dict[str, Any]]:
        values = self.get(node, key, list)
        if not all(isinstance(value, dict) for value in values):
            raise _Malformed(f"{key!r} of {_label(node)} must be a list of objects")
        return list(values)

    def strings(self, node: dict[str, Any], key: str) -> tuple[str, ...]:
        values = self.get(node, key, list)
        if not all(isinstance(value, str) for value in values):
            raise _Malformed(f"{key!r} of {_label(node)} must be a list of names")
        return tuple(values)

    def shape(self, node: dict[str, Any], key: str) -> tuple[int, ...]:
        return _integers(self.get(node, key, list), key, node)

    def array(self, node: dict[str, Any], key: str, dtype: type) -> npt.NDArray[Any]:
        name = self.get(node, key, str)
        values = self._dataset(f"arrays/{name}")
        if values.dtype != np.dtype(dtype):
            raise _Malformed(f"arrays/{name} must be {np.dtype(dtype).name}, got {values.dtype}")
        return values.values

    def operator(self, node: dict[str, Any]) -> Operator:
        name = self.get(node, "type", str)
        if name not in OPERATORS:
            raise _Malformed(f"there is no operator {name!r}; known are {', '.join(OPERATORS)}")
        make, rows = OPERATORS[name]
        return make(**{attribute: self._field(node, key, form) for key, attribute, form in rows})

    def _field(self, node: dict[str, Any], key: str, form: str) -> Any:
        match form:
            case "float64" | "int64":
                return self.array(node, key, np.float64 if form == "float64" else np.int64)
            case "shape":
                return self.shape(node, key)
            case "shape?":
                return None if key in node and node[key] is None else self.shape(node, key)
            case "pairs":
                pairs = self.get(node, key, list)
                if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
                    raise _Malformed(f"{key!r} of {_label(node)} must be a list of pairs")
                return tuple(_integers(pair, key, node) for pair in pairs)
            case "operators":
                return tuple(self.operator(stage) for stage in self.nodes(node, key))
            case _:
                return self.get(node, key, int if form == "int" else bool)

    def _dataset(self, name: str) -> Array:
        """Return a dataset that needs nothing but HDF5 to be read."""
        found = self.file.find(name)
        if not isinstance(found, Array):
            raise _Malformed(f"there is no dataset {name!r} in it")
        foreign = set(found.filters) - OWN_FILTERS
        if foreign:
            raise _Malformed(f"{name!r} is packed by {', '.join(sorted(foreign))}, which no graph is")
        return found


def _no_constant(text: str) -> NoReturn:
    raise _Malformed(f"'graph' holds {text}")


def _integers(values: list[Any], key: str, node: dict[str, Any]) -> tuple[int, ...]:
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in values):
        raise _Malformed(f"{key!r} of {_label(node)} must hold integers, got {_short(values)}")
    return tuple(values)


def _label(node: dict[str, Any]) -> str:
    named = node.get("name") or node.get("type") or node.get("target")
    return f"{named!r}" if isinstance(named, str) else "the document"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
