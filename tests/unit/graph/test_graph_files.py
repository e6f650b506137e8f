"""The `.strop` file: what is written comes back bit for bit, and nothing foreign gets in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_graphs import graphs, quarters, random_graph

from strop import Graph
from strop.errors import CapacityError, GraphError, ModelFileError, StropError
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
from strop.graph.files.read import is_graph_file
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


def write_version_1(path: Path) -> None:
    """Write a file by hand, from docs/file-format.md, without any code of strop's: it must open for ever."""
    document = {
        "name": "by-hand",
        "inputs": [{"name": "x", "shape": [2], "encoding": "binary", "bits": 8, "level": 0.5}],
        "populations": [{"name": "and", "shape": [2], "threshold": "th", "bias": "none"}],
        "projections": [
            {
                "source": "x",
                "target": "and",
                "delay": 1,
                "operator": {"type": "Dense", "weight": "w", "leading": []},
            }
        ],
        "readouts": [
            {
                "name": "same",
                "kind": "linear",
                "sources": ["and"],
                "operators": [{"type": "Select", "shape_in": [2], "index": "swap"}],
                "bias": "none",
            }
        ],
        "outputs": ["same"],
    }
    with h5py.File(path, "w") as file:
        file.attrs["format"], file.attrs["version"] = "strop-graph", 1
        file["graph"] = json.dumps(document)
        file["arrays/w"] = np.array([[0.5, 1.0], [0.5, 0.0]])
        file["arrays/th"] = np.array([1.0])
        file["arrays/none"] = np.array(0.0)
        file["arrays/swap"] = np.array([1, -1])


def test_a_version_1_file_written_by_hand_opens(tmp_path: Path) -> None:
    path = tmp_path / "old.strop"
    write_version_1(path)
    graph = Graph.load(path)
    frames = as_frames(graph, np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
    spikes = evaluate(graph, encode(graph, frames))["and"]
    assert spikes.tolist() == [[False, False], [False, False], [False, True], [True, True]]
    assert graph.readouts[0].operators[0].index.tolist() == [1, -1]
    assert graph.name == "by-hand"


# What is refused -----------------------------------------------------------------------------------------


def edit(path: Path, change: Any) -> None:
    """Change the JSON document of a file in place."""
    with h5py.File(path, "a") as file:
        document = json.loads(file["graph"][()])
        change(document)
        del file["graph"]
        file["graph"] = json.dumps(document)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.strop"
    write_version_1(path)
    return path


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.strop does not exist"):
        Graph.load(tmp_path / "nothing.strop")
    with pytest.raises(ModelFileError, match="is a folder"):
        Graph.load(tmp_path)


def test_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.strop").write_bytes(b"PK\x03\x04 not this")
    with pytest.raises(ModelFileError, match="is no HDF5 file"):
        Graph.load(tmp_path / "a.strop")
    assert not is_graph_file(tmp_path / "a.strop")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    random_graph(5).save(tmp_path / "whole.strop")
    whole = (tmp_path / "whole.strop").read_bytes()
    for length in {0, 4, 8, 100, *range(0, len(whole), max(1, len(whole) // 40))}:
        (tmp_path / "cut.strop").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            Graph.load(tmp_path / "cut.strop")


def test_flipped_bytes_give_a_graph_or_one_clear_error(tmp_path: Path) -> None:
    random_graph(7).save(tmp_path / "whole.strop")
    whole = bytearray((tmp_path / "whole.strop").read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(whole), 150):
        hurt = whole.copy()
        hurt[position] ^= int(rng.integers(1, 256))
        (tmp_path / "hurt.strop").write_bytes(hurt)
        try:
            assert isinstance(Graph.load(tmp_path / "hurt.strop"), Graph)
        except StropError:
            refused += 1
    assert refused > 10


def test_hdf5_of_another_kind_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file.attrs["keras_version"] = "2.1.2"
    with pytest.raises(ModelFileError, match=r"HDF5 of another kind; .*strop\.load_model"):
        Graph.load(tmp_path / "keras.h5")
    assert not is_graph_file(tmp_path / "keras.h5")


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


def test_newer_version_says_to_upgrade(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file.attrs["version"] = 4
    with pytest.raises(ModelFileError, match=r"version 4 .* up to version 3; upgrade strop"):
        Graph.load(saved)
    assert is_graph_file(saved)


def test_unknown_operator_is_named(saved: Path) -> None:
    edit(saved, lambda d: d["projections"][0]["operator"].update(type="Fourier"))
    with pytest.raises(ModelFileError, match="no operator 'Fourier'; known are Dense"):
        Graph.load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["populations"][0].update(shape=[3]), "the target has the shape"),
        (lambda d: d["populations"][0].update(shape=[2.5]), "must hold integers"),
        (lambda d: d["populations"][0].update(shape=[True]), "must hold integers"),
        (lambda d: d["populations"][0].pop("bias"), "'and' has no 'bias'"),
        (lambda d: d["projections"][0].update(delay=2), "the delay must be 1"),
        (lambda d: d["projections"][0].update(source="y"), "there is no node 'y'"),
        (lambda d: d["projections"][0]["operator"].update(weight="gone"), "no dataset 'arrays/gone'"),
        (lambda d: d["projections"][0]["operator"].update(weight="swap"), "must be float64, got int64"),
        (lambda d: d["projections"][0]["operator"].update(weight="th"), "must have shape"),
        (lambda d: d["inputs"][0].update(encoding="guess"), "encoding must be one of"),
        (lambda d: d["inputs"][0].update(level=float("nan")), "'graph' holds NaN"),
        (lambda d: d.update(outputs=["nobody"]), "outputs must name"),
        (lambda d: d.update(inputs=[1]), "must be a list of objects"),
        (lambda d: d["readouts"][0].update(kind="vote"), "kind of read-out"),
    ],
)
def test_document_that_makes_no_graph_is_refused_with_its_reason(saved: Path, change: Any, says: str) -> None:
    edit(saved, change)
    with pytest.raises(ModelFileError, match=says):
        Graph.load(saved)


def test_values_that_are_not_finite_are_refused(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file["arrays/w"][0, 0] = np.nan
    with pytest.raises(ModelFileError, match="not finite"):
        Graph.load(saved)


def test_links_out_of_the_file_are_refused(saved: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["w"] = np.ones((2, 2))
    (tmp_path / "raw").write_bytes(np.ones((2, 2)).tobytes())
    for put in (
        lambda folder: folder.__setitem__("w", h5py.ExternalLink(str(tmp_path / "secret.h5"), "w")),
        lambda folder: folder.__setitem__("w", h5py.SoftLink("/arrays/th")),
        lambda folder: folder.create_dataset(
            "w", (2, 2), "f8", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        ),
    ):
        with h5py.File(saved, "a") as file:
            del file["arrays/w"]
            put(file["arrays"])
        with pytest.raises(ModelFileError, match="arrays/w"):
            Graph.load(saved)


def test_array_that_declares_what_is_not_there_is_refused_before_it_is_read(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        del file["arrays/w"]
        file["arrays"].create_dataset("w", (1 << 24, 1 << 24), "f8", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(ModelFileError, match="arrays/w declares .* bytes of values and stores 0"):
        Graph.load(saved)


def test_array_larger_than_the_memory_is_refused_before_it_is_read(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "20")
    with pytest.raises(CapacityError, match="arrays/w"):
        Graph.load(saved)


def test_deeply_nested_document_is_refused(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        del file["graph"]
        file["graph"] = "[" * 200_000
    with pytest.raises(ModelFileError, match=r"net\.strop"):
        Graph.load(saved)


def test_failed_write_leaves_the_old_file_and_no_litter(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match=r"net\.strop cannot be written: .*No space left"):
        random_graph(1).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist; make it first"):
        random_graph(1).save(tmp_path / "no" / "net.strop")


def test_foreign_operator_cannot_be_saved(tmp_path: Path) -> None:
    class Mine(Dense):
        pass

    units = Population("units", (2,), 0.5, 0.0)
    graph = Graph.from_nodes((Input("x", (3,)),), (units,), [("x", "units", Mine(np.ones((3, 2))))], outputs=["units"])
    with pytest.raises(ModelFileError, match="cannot hold the operator Mine"):
        graph.save(tmp_path / "net.strop")
    assert os.listdir(tmp_path) == []


def test_new_files_have_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    random_graph(1).save(tmp_path / "net.strop")
    assert (tmp_path / "net.strop").stat().st_mode == (tmp_path / "other").stat().st_mode
