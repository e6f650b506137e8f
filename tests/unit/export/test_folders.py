"""Standalone folders appear whole or not at all, and run without strop."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pynn_graphs import branched_graph, require
from third_party import BRIAN2_IMPORT, NENGO_IMPORT, require_installed

import strop
from strop.errors import BackendError, BackendMissingError, DataError
from strop.export import folders
from strop.graph import Composed, Dense, Graph, Input, Population, Readout, Select, Sparse
from strop.running.decode import readout_logits
from strop.running.oracle import evaluate, potential

# Runs a script as if strop were not installed: any import of it fails.
WITHOUT_STROP = (
    "import runpy, sys; sys.modules['strop'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)

RUNS = [
    pytest.param("brian2", [], "brian2", id="brian2"),
    pytest.param("pynn", ["nest"], "pynn-nest", id="pynn-nest"),
    pytest.param("pynn", ["nest", "--spread", "3"], "pynn-nest", id="pynn-nest-spread"),
    pytest.param("pynn", ["nest", "--copies", "2"], "pynn-nest", id="pynn-nest-copies"),
    pytest.param("pynn", ["brian2"], "pynn-brian2", id="pynn-brian2"),
    pytest.param("pynn", ["neuron"], "pynn-neuron", id="pynn-neuron"),
]


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_STROP, str(folder / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def deciding_graph() -> Graph:
    rng = np.random.default_rng(4)
    weights = [rng.integers(-4, 5, shape) / 4 for shape in ((6, 8), (8, 12))]
    key = Readout("decode", "key", ("b",), (Dense(rng.integers(0, 2, (12, 3)).astype(float)),))
    return Graph.from_nodes(
        [Input("x", (6,), "host")],
        [Population("a", (8,), 0.5, 0.25), Population("b", (12,), rng.integers(-1, 3, 12) / 4, 0.25)],
        [("x", "a", Dense(weights[0])), ("a", "b", Dense(weights[1]))],
        [key],
        ["decode"],
        "small",
    )


def driven_graph() -> Graph:
    """Values drive `a`, and reach `b` two steps later beside the spikes of `a`."""
    rng = np.random.default_rng(6)
    weights = [rng.integers(-4, 5, shape) / 4 for shape in ((5, 7), (7, 6), (5, 6))]
    return Graph.from_nodes(
        [Input("x", (5,), "current")],
        [
            Population("a", (7,), rng.integers(-2, 3, 7) / 4, rng.integers(-2, 3, 7) / 4),
            Population("b", (6,), 0.5, -0.25),
        ],
        [("x", "a", Dense(weights[0])), ("a", "b", Dense(weights[1])), ("x", "b", Dense(weights[2]))],
        outputs=["b"],
    )


def test_a_folder_of_copies_deals_the_frames_out_and_finds_a_planted_fault(tmp_path: Path) -> None:
    require("pynn-nest")
    frames = np.random.default_rng(0).random((9, 6)).astype(np.float32)
    folder = strop.export(deciding_graph(), "spinnaker", tmp_path / "out", frames=frames, copies=4)
    assert json.loads((folder / "network.json").read_text())["copies"] == 4
    done = run_script(folder, "nest")
    assert done.returncode == 0, done.stderr
    assert "every spike is as expected" in done.stdout
    with np.load(folder / "frames.npz") as arrays:
        changed = dict(arrays)
    # Frames 2 and 3 are of two copies.
    changed["expected:b"][[2, 3]] = changed["expected:b"][[3, 2]]
    assert (changed["expected:b"][2] != changed["expected:b"][3]).any()
    np.savez(folder / "frames.npz", **changed)
    done = run_script(folder, "nest", "--copies", "2")
    assert done.returncode == 1
    assert "DIFFER" in done.stdout


@pytest.mark.parametrize("copies", [0, 1.5, "fill"])
def test_copies_that_a_folder_cannot_have_are_refused(copies: object, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="copies"):
        strop.export(deciding_graph(), "pynn", tmp_path / "out", copies=copies)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("target", "arguments", "backend"), RUNS)
def test_a_folder_runs_without_strop_and_agrees(
    target: str, arguments: list[str], backend: str, tmp_path: Path
) -> None:
    require(backend)
    graph = deciding_graph()
    frames = np.random.default_rng(0).random((9, 6)).astype(np.float32)
    labels = strop.simulate(graph, frames, "reference").classes
    folder = strop.export(graph, target, tmp_path / "out", frames=frames, labels=labels)
    done = run_script(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert "accuracy 100.00 %" in done.stdout
    assert "every spike is as expected" in done.stdout
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("b "))
    assert 0 < int(row[2]) == int(row[3])
    assert row[4] == "0"


def binary() -> Readout:
    rng = np.random.default_rng(8)
    return Readout("out", "sigmoid", ("b",), (Dense(rng.integers(-4, 5, (12, 1)) / 4),), [0.25])


def averaged(kind: str, classes: int) -> Readout:
    """The mean of three heads."""
    rng = np.random.default_rng(8)
    heads = Composed((Dense(rng.integers(-4, 5, (12, 3 * classes)) / 4), Select((3 * classes,), flat(3, classes))))
    mean = Sparse(
        (3, classes), (classes,), np.arange(3 * classes), np.tile(np.arange(classes), 3), [1 / 3] * 3 * classes
    )
    return Readout("out", kind, ("b",), (heads,), rng.integers(-2, 3, (3, classes)) / 4, mean)


def flat(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape)


def other(kind: str, after: Select | None = None, argmax: bool = False) -> Readout:
    weight = np.random.default_rng(8).integers(-4, 5, (12, 3)) / 4
    return Readout("out", kind, ("b",), (Dense(weight),), [0.25, 0.0, -0.5], after, argmax)


READOUTS = {
    "binary": binary(),
    "mean of softmaxes": averaged("softmax", 4),
    "mean of logarithms": averaged("log_softmax", 4),
    "mean of probabilities": averaged("sigmoid", 1),
    "clipped": other("hard_tanh"),
    "half clipped": other("relu"),
    "turned round": other("softmax", Select((3,), np.array([2, 1, 0]))),
    "argmax": other("linear", argmax=True),
}


@BRIAN2_IMPORT
@NENGO_IMPORT
@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize("target", ["brian2", "pynn", "nengo", "nir"])
def test_scripts_decide_as_strop_does(name: str, target: str, tmp_path: Path) -> None:
    """`decide` of the scripts, on the arrays of each folder and the spikes that are expected."""
    require_installed({"pynn": "numpy"}.get(target, target))
    base = deciding_graph()
    connections = [(p.source, p.target, p.operator) for p in base.projections]
    graph = Graph.from_nodes(base.inputs, base.populations, connections, [READOUTS[name]], ["out"], "small")
    frames = np.random.default_rng(0).random((200, 6)).astype(np.float32)
    found = strop.simulate(graph, frames, "reference")
    assert found.classes is not None
    assert len(set(found.classes.tolist())) > 1
    folder = strop.export(graph, target, tmp_path / "out", frames=frames, labels=found.classes)
    script = runpy.run_path(str(folder / "standalone.py"))
    with np.load(folder / "frames.npz", allow_pickle=False) as saved:
        arrays = dict(saved)
    if target == "nir":
        readout = json.loads(str(arrays["readout"]))
        scores = readout_logits(READOUTS[name], found.spikes).reshape(len(frames), -1)
    else:
        readout = json.loads((folder / "network.json").read_text())["readout"]
        with np.load(folder / "network.npz", allow_pickle=False) as saved:
            arrays = dict(saved)
        scores = script["scores"](readout, arrays, found.spikes)
    decided = script["decide"](readout, arrays, scores)
    np.testing.assert_array_equal(decided, found.classes)


def test_a_nir_folder_with_a_sigmoid_says_the_accuracy(tmp_path: Path) -> None:
    require_installed("nir")
    base = deciding_graph()
    connections = [(p.source, p.target, p.operator) for p in base.projections]
    graph = Graph.from_nodes(base.inputs, base.populations, connections, [binary()], ["out"], "small")
    frames = np.random.default_rng(0).random((50, 6)).astype(np.float32)
    labels = strop.simulate(graph, frames, "reference").classes
    folder = strop.export(graph, "nir", tmp_path / "out", frames=frames, labels=labels)
    done = run_script(folder)
    assert done.returncode == 0, done.stderr
    assert "accuracy 100.00 %" in done.stdout


@pytest.mark.parametrize(("target", "arguments", "backend"), RUNS)
def test_a_folder_takes_values_along_that_drive_units(
    target: str, arguments: list[str], backend: str, tmp_path: Path
) -> None:
    require(backend)
    graph = driven_graph()
    frames = np.random.default_rng(1).integers(-4, 5, (20, 5)).astype(np.float32) / 4
    signals = {"x": frames.astype(np.float64)}
    expected = evaluate(graph, signals)
    assert (potential(graph, "a", signals) == graph.population("a").threshold).any(), "thresholds must be hit"
    folder = strop.export(graph, target, tmp_path / "out", frames=frames)
    arrays = np.load(folder / "frames.npz", allow_pickle=False)
    np.testing.assert_array_equal(arrays["driven:a"], graph.projections[0].operator.apply(signals["x"]))
    assert "input currents" in (folder / "README.md").read_text()
    done = run_script(folder, *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    for name in ("a", "b"):
        row = next(line.split() for line in done.stdout.splitlines() if line.startswith(f"{name} "))
        assert 0 < int(row[2]) == int(row[3]) == int(expected[name].sum())
        assert row[4] == "0"


@pytest.mark.parametrize(("target", "arguments", "backend"), RUNS)
def test_a_spike_that_is_not_as_expected_ends_with_one(
    target: str, arguments: list[str], backend: str, tmp_path: Path
) -> None:
    require(backend)
    folder = strop.export(branched_graph(3), target, tmp_path / "out")
    arrays = dict(np.load(folder / "frames.npz", allow_pickle=False))
    assert arrays["expected:b"].any()
    arrays["expected:b"][2, 1] ^= True
    np.savez(folder / "frames.npz", **arrays)
    done = run_script(folder, *arguments)
    assert done.returncode == 1, done.stderr
    assert "1 spikes DIFFER" in done.stdout


def test_a_folder_holds_plain_arrays_of_the_whole_network(tmp_path: Path) -> None:
    graph = branched_graph(3)
    folder = strop.export(graph, "pynn", tmp_path / "deep" / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "certificate.json", "check_certificate.py", "frames.npz", "network.json", "network.npz",
        "on_neuron.py", "on_spinnaker.py", "processes.py", "run.py", "standalone.py",
    ]  # fmt: skip
    network = json.loads((folder / "network.json").read_text())
    assert [entry["name"] for entry in network["populations"]] == ["x", "a", "b", "c"]
    assert [entry["delay"] for entry in network["projections"]] == [1, 1, 1, 2]
    data = np.load(folder / "network.npz", allow_pickle=False)
    for p in graph.projections:
        pre, post, weight = p.operator.to_coo()
        for what, values in (("pre", pre), ("post", post), ("weight", weight)):
            np.testing.assert_array_equal(data[f"{what}:{p.source}->{p.target}"], values)
    np.testing.assert_array_equal(data["bias:b"], graph.population("b").bias)
    assert np.load(folder / "frames.npz", allow_pickle=False)["played:x"].shape == (16, graph.inputs[0].shape[0])


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(DataError, match="no empty folder; nothing was written"):
        strop.export(branched_graph(1), "pynn", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(graph: Graph, out: Path, frames: object, labels: object) -> None:
        (out / "half").write_text("half")
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(folders, "get_target", lambda name: write)
    with pytest.raises(RuntimeError, match="the disk is full"):
        strop.export(branched_graph(1), "pynn", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_can_be_entered_by_others(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    folder = strop.export(branched_graph(1), "pynn", tmp_path / "out")
    assert (folder / "run.py").is_file()
    assert folder.stat().st_mode & 0o500 == 0o500
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    graph = branched_graph(1)
    with pytest.raises(BackendMissingError, match="no target 'abacus'.*brian2.*pynn"):
        strop.export(graph, "abacus", tmp_path / "out")
    with pytest.raises(DataError, match="labels were given without frames"):
        strop.export(graph, "pynn", tmp_path / "out", labels=[1])
    with pytest.raises(BackendError, match="'pynn' does not know the option"):
        strop.export(graph, "pynn", tmp_path / "out", colour="red")
    current = Graph.from_nodes(
        [Input("x", (1,), "current")], [Population("y", (1,), 0.5, 0.0)], [("x", "y", Dense(np.eye(1)))], outputs=["y"]
    )
    for target in ("nengo", "spinnaker"):
        with pytest.raises(BackendError, match="the encoding 'current' of input 'x'.*lower the model with one"):
            strop.export(current, target, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_spinnaker_folder_holds_what_its_arithmetic_gives(tmp_path: Path) -> None:
    from strop_backends.pynn.spinnaker.fixed_point import fixed_point_spikes, measured_scaling

    graph = deciding_graph()
    frames = {"x": np.random.default_rng(1).random((30, 6)).astype(np.float32)}
    folder = strop.export(graph, "spinnaker", tmp_path / "out", frames=frames["x"], quantize=False)
    scaling = measured_scaling(graph, frames["x"], fill=True)
    network = json.loads((folder / "network.json").read_text())
    assert network["scaling"]["b"]["factor"] == scaling["b"].factor
    assert network["scaling"]["b"]["max_expected_summed_weight"] == [0.75, 0.75]
    arrays = np.load(folder / "frames.npz", allow_pickle=False)
    assert arrays["fixed:b"].any()
    np.testing.assert_array_equal(arrays["fixed:b"], fixed_point_spikes(graph, frames["x"], scaling)["b"])
    assert "[Machine]" in (folder / "spynnaker.cfg").read_text()
    assert "0 spikes differ" in (folder / "README.md").read_text()
    with pytest.raises(BackendError, match="'spinnaker' does not know the option"):
        strop.export(graph, "spinnaker", tmp_path / "other", colour="red")


def test_a_spinnaker_folder_is_quantised_and_proved(tmp_path: Path) -> None:
    from strop_backends.pynn.spinnaker.fixed_point import exact_scaling, fixed_point_spikes

    rng = np.random.default_rng(3)
    graph = Graph.from_nodes(
        [Input("x", (6,))],
        [Population(name, (size,), 0.5, rng.normal(size=size)) for name, size in (("a", 20), ("b", 12), ("c", 5))],
        [
            ("x", "a", Dense(rng.normal(size=(6, 20)))),
            ("a", "b", Dense(rng.normal(size=(20, 12)))),
            ("b", "c", Dense(rng.normal(size=(12, 5)))),
        ],
        (),
        ["c"],
    )
    frames = rng.random((30, 6)).astype(np.float32)
    folder = strop.export(graph, "spinnaker", tmp_path / "out", frames=frames)
    network = json.loads((folder / "network.json").read_text())
    row = {"factor": 1.0, "max_expected_summed_weight": [1.5, 1.5]}
    assert network["scaling"] == {"b": row, "c": row}
    quantised = strop.quantize(graph, "spinnaker", frames=frames)
    arrays = np.load(folder / "frames.npz", allow_pickle=False)
    scaling = exact_scaling(quantised)
    assert scaling is not None
    found = fixed_point_spikes(quantised, frames, scaling)
    for name in ("b", "c"):
        np.testing.assert_array_equal(arrays[f"fixed:{name}"], arrays[f"expected:{name}"])
        np.testing.assert_array_equal(arrays[f"fixed:{name}"], found[name])
    readme = (folder / "README.md").read_text()
    assert "exact for all inputs" in readme
    assert "On the 30 frames in this folder" in readme
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "check_certificate.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert exact_scaling(graph) is None


def test_a_spinnaker_folder_maps_on_a_virtual_board(tmp_path: Path) -> None:
    require("pynn-spinnaker")
    folder = strop.export(deciding_graph(), "spinnaker", tmp_path / "out")
    command = [sys.executable, "-c", WITHOUT_STROP, str(folder / "run.py"), "spiNNaker", "--virtual"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mapped on a virtual board" in done.stdout
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("b "))
    assert row == ["b", "12", "neurons", "on", "1", "cores"]


def test_folders_of_models_that_take_whole_numbers_are_presented_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    graph = Graph.from_nodes(
        [Input("x", (6,), scaled_by="Rescaling")],
        [Population("a", (8,), 100.0, 0.25), Population("b", (4,), 0.5, 0.25)],
        [("x", "a", Dense(rng.normal(size=(6, 8)))), ("a", "b", Dense(rng.normal(size=(8, 4))))],
        outputs=["b"],
    )
    frames = rng.integers(0, 256, (40, 6)).astype(np.uint8)
    wanted = strop.simulate(graph, frames.astype(np.float32), "reference").spikes
    assert 0 < wanted["a"].sum() < wanted["a"].size
    for number, given in enumerate((frames, (frames, np.zeros(40)), iter(frames))):
        folder = strop.export(graph, "pynn", tmp_path / str(number), frames=given)
        with np.load(folder / "frames.npz") as file:
            np.testing.assert_array_equal(file["played:a"], wanted["a"])
            np.testing.assert_array_equal(file["expected:b"], wanted["b"])
    with np.load(strop.export(graph, "pynn", tmp_path / "samples") / "frames.npz") as file:
        assert file["played:a"].any(), "the random frames of a folder are as large as those of a camera"
