"""The `.strop` file: what is written comes back bit for bit, and nothing foreign gets in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_graphs import graphs, quarters, random_graph
from version_1_file import edit, write_version_1

from strop import Graph
from strop.errors import GraphError, ModelFileError
from strop.graph import (
    READOUT_KINDS,
    Convolution,
    Dense,
    Input,
    Operator,
    Population,
    Readout,
    Select,
    Sparse,
    difference,
    graphs_equal,
)
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate

REUSED_FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@REUSED_FOLDER
@given(graph=graphs)
def test_random_graphs_come_back_bit_for_bit(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "net.strop"
    graph.save(path)
    again = Graph.load(path)
    assert difference(graph, again) is None
    assert again.depths == graph.depths
    assert os.listdir(tmp_path) == ["net.strop"]


def test_random_graphs_hold_every_operator_and_encoding() -> None:
    seen: set[str] = set()

    def note(operator: Operator) -> None:
        seen.add(type(operator).__name__)
        for stage in getattr(operator, "stages", ()):
            note(stage)

    for seed in range(60):
        graph = random_graph(seed)
        seen.add(graph.inputs[0].encoding)
        for projection in graph.projections:
            note(projection.operator)
    operators = {"Dense", "Convolution", "SumPool", "Scale", "Select", "Sparse", "Composed"}
    assert seen == operators | {"host", "bitplane", "binary", "current"}


def test_difference_names_the_first_value_that_differs() -> None:
    rng = np.random.default_rng(3)
    weight = quarters(rng, (3, 2))
    other = weight.copy()
    other[1, 1] = np.nextafter(other[1, 1], np.inf)

    def graph(w: Any, threshold: float = 0.5) -> Graph:
        units = Population("units", (2,), threshold, 0.0)
        return Graph.from_nodes((Input("x", (3,)),), (units,), [("x", "units", Dense(w))], outputs=["units"])

    assert graphs_equal(graph(weight), graph(weight.copy()))
    assert difference(graph(weight), graph(other)) == ("graph.projections[0].operator.weight: 1 of 6 values differ")
    assert difference(graph(weight), graph(weight, 0.25)) == ("graph.populations[0].threshold: 2 of 2 values differ")


def test_bias_of_a_convolution_is_kept_once_per_filter(tmp_path: Path) -> None:
    kernel = np.ones((3, 3, 1, 4))
    op = Convolution((9, 9, 1), kernel, (1, 1), (1, 1), ((1, 1), (1, 1)))
    units = Population("conv", (9, 9, 4), 0.5, [0.0, 1.0, 2.0, 3.0])
    graph = Graph.from_nodes((Input("x", (9, 9, 1)),), (units,), [("x", "conv", op)], outputs=["conv"])
    graph.save(tmp_path / "net.strop")
    with h5py.File(tmp_path / "net.strop") as file:
        assert file["arrays/populations.0.bias"].shape == (1, 1, 4)
        assert file["arrays/populations.0.threshold"].shape == (1, 1, 1)
    again = Graph.load(tmp_path / "net.strop")
    assert again.populations[0].bias.shape == (9, 9, 4)
    assert graphs_equal(graph, again)


def test_a_version_1_file_written_by_hand_opens(tmp_path: Path) -> None:
    path = tmp_path / "old.strop"
    write_version_1(path)
    graph = Graph.load(path)
    frames = as_frames(graph, np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
    spikes = evaluate(graph, encode(graph, frames))["and"]
    assert spikes.tolist() == [[False, False], [False, False], [False, True], [True, True]]
    assert graph.readouts[0].operators[0].index.tolist() == [1, -1]
    assert graph.name == "by-hand"


@pytest.mark.parametrize(
    ("fields", "version"), [({}, 1), ({"step": 1 / 16}, 2), ({"offset": -1.0}, 2), ({"step": 0.5, "offset": 2.0}, 2)]
)
def test_what_planes_stand_for_is_kept_and_older_strops_read_the_rest(
    fields: dict[str, float], version: int, tmp_path: Path
) -> None:
    node = Input("x", (2,), "bitplane", 5, **fields)  # type: ignore[arg-type]
    graph = Graph.from_nodes([node], [Population("a", (10,), 0.5, 0.0)], [("x", "a", Dense(np.eye(10)))], outputs=["a"])
    graph.save(tmp_path / "net.strop")
    with h5py.File(tmp_path / "net.strop") as file:
        assert file.attrs["version"] == version
    again = Graph.load(tmp_path / "net.strop")
    assert graphs_equal(graph, again)
    assert (again.inputs[0].bits, again.inputs[0].step) == (5, fields.get("step"))
    assert again.inputs[0].offset == fields.get("offset", 0.0)


def test_read_outs_are_kept_and_older_strops_read_those_that_they_know(tmp_path: Path) -> None:
    path, versions = tmp_path / "net.strop", set()
    eye = Dense(np.eye(3))
    afters = [None, Select((3,), np.array([[2, -1], [0, 1]])), Sparse((3,), (2,), [0, 1], [0, 0], [0.25, 0.75])]
    for kind in READOUT_KINDS:
        for after in afters:
            for argmax in (False, True):
                readout = Readout("out", kind, ("a",), (eye,), [0.0, 0.5, 1.0], after, argmax)
                units = Population("a", (3,), 0.5, 0.0)
                graph = Graph.from_nodes([Input("x", (3,))], [units], [("x", "a", eye)], [readout], ["out"])
                graph.save(path)
                assert difference(graph, Graph.load(path)) is None
                known = kind in ("key", "softmax", "linear", "spikes", "winner") and after is None and not argmax
                with h5py.File(path) as file:
                    assert file.attrs["version"] == (1 if known else 3)
                    versions.add(int(file.attrs["version"]))
    assert versions == {1, 3}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"argmax": 1}, "'argmax' of 'out' must be bool"),
        ({"after": []}, "'after' of 'out' must be dict"),
        ({"after": {"type": "Select", "shape_in": [4], "index": "readouts.0.after.index"}}, "what comes after"),
    ],
)
def test_a_read_out_that_is_none_is_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    eye = Dense(np.eye(3))
    readout = Readout("out", "sigmoid", ("a",), (eye,), 0.0, Select((3,), np.array([2, 0])), True)
    units = Population("a", (3,), 0.5, 0.0)
    graph = Graph.from_nodes([Input("x", (3,))], [units], [("x", "a", eye)], [readout], ["out"])
    graph.save(tmp_path / "net.strop")
    edit(tmp_path / "net.strop", lambda document: document["readouts"][0].update(change))
    with pytest.raises(ModelFileError, match=says):
        Graph.load(tmp_path / "net.strop")


@pytest.mark.parametrize(
    "fields",
    [
        {"scaled_by": "Rescaling"},
        {"dtype": "uint8"},
        {"dtype": "int32", "scaled_by": "TrueDivide", "encoding": "bitplane", "step": 1.0, "offset": -1.0},
    ],
)
def test_that_a_model_takes_whole_numbers_is_kept_and_older_strops_refuse_it(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    node = Input("x", (2,), **fields)
    size = node.signal_shape[0]
    unit = Population("a", (size,), 0.5, 0.0)
    graph = Graph.from_nodes([node], [unit], [("x", "a", Dense(np.eye(size)))], outputs=["a"])
    graph.save(tmp_path / "net.strop")
    with h5py.File(tmp_path / "net.strop") as file:
        assert file.attrs["version"] == 3
    again = Graph.load(tmp_path / "net.strop")
    assert graphs_equal(graph, again)
    assert {key: getattr(again.inputs[0], key) for key in fields} == fields


@pytest.mark.parametrize("dtype", ["float16", "complex64", "", None, 8])
def test_types_that_no_input_takes_are_refused(dtype: Any) -> None:
    with pytest.raises(GraphError, match="dtype must be float32, or one of"):
        Input("x", (2,), dtype=dtype)


def test_new_files_have_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    random_graph(1).save(tmp_path / "net.strop")
    assert (tmp_path / "net.strop").stat().st_mode == (tmp_path / "other").stat().st_mode
