"""NIR for tools: what a profile says is exact by the tool's own arithmetic, and what it cannot say is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_graphs import random_frames, random_graph

import strop
from strop.conformance import golden_case
from strop.conformance.nir.cases import FOLDER, case_names, load_case, profiles
from strop.conformance.nir.test_nir_reader import test_every_spike_of_a_nir_file as hold_to
from strop.errors import BackendError
from strop.graph import Composed, Dense, Graph, Input, Population, Readout, Scale, SumPool, difference
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate

nir = pytest.importorskip("nir")

import nir_consumers as consumers  # noqa: E402
import nir_golden  # noqa: E402

from strop_backends.nir import read, write  # noqa: E402
from strop_backends.nir.profiles import PROFILES  # noqa: E402
from strop_backends.nir.rounding import recentre  # noqa: E402
from strop_backends.nir.writing import graph_hint, to_nir  # noqa: E402

READERS = {name: consumers.at_least if name == "sinabs" else consumers.equations for name in PROFILES}
TORCH = ("snntorch", "norse", "sinabs")

# Golden files ------------------------------------------------------------------------------------------------


def test_golden_files_are_there_for_every_profile() -> None:
    assert profiles() == sorted(PROFILES)
    assert all(len(case_names(profile)) >= 18 for profile in profiles())


@pytest.mark.parametrize("profile", PROFILES)
def test_nirs_equations_give_every_spike_of_the_golden_files(profile: str) -> None:
    for name in case_names(profile):
        hold_to(READERS[profile], profile, name)


@pytest.mark.parametrize("profile", PROFILES)
def test_golden_files_are_what_is_written_today(profile: str, tmp_path: Path) -> None:
    for name in nir_golden.CASES:
        made = nir_golden.write(name, profile, tmp_path)
        assert made == (FOLDER / profile / f"{name}.nir").exists()
        if made:
            assert difference(read(tmp_path / f"{name}.nir"), read(FOLDER / profile / f"{name}.nir")) is None
            ours, theirs = load_case(profile, name), nir_golden.golden_case(name)
            assert ours.says == theirs.says
            assert sum(s.sum() for s in ours.spikes.values()) == sum(s.sum() for s in theirs.spikes.values())


@pytest.mark.parametrize(
    ("reader", "cases"),
    [
        (consumers.swapped, {"threshold_above_every_sum"}),
        (consumers.charged, {"no_charge_is_carried_over", "dense", "threshold_hit_exactly"}),
    ],
)
@pytest.mark.parametrize("profile", ["threshold", "lif", "snntorch", "norse"])
def test_a_reader_that_is_wrong_fails_by_name(reader: Any, cases: set[str], profile: str) -> None:
    for name in cases:
        with pytest.raises(AssertionError, match=rf"(?s){name}: .*spikes of node .* differ, the first in frame \d+"):
            hold_to(reader, profile, name)


def test_a_sinabs_file_tells_a_strict_comparator() -> None:
    with pytest.raises(AssertionError, match="threshold_hit_exactly"):
        hold_to(consumers.equations, "sinabs", "threshold_hit_exactly")


def test_the_plugin_runs_a_reader_by_its_name_and_counts_what_is_wrong(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(Path(consumers.__file__).parent), *sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "strop.conformance.nir"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=120, check=False, env=environment
        )

    done = run("--nir-reader", "nir_consumers:swapped", "--nir-profile", "lif", "-k", "threshold")
    assert done.returncode == 1
    assert "2 failed, 5 passed" in done.stdout
    assert "[lif-threshold_above_every_sum]" in done.stdout
    assert (
        "--nir-reader nir_consumers:nobody: give MODULE:FUNCTION"
        in (lost := run("--nir-reader", "nir_consumers:nobody")).stderr + lost.stdout
    )


# Networks ----------------------------------------------------------------------------------------------------


def spikes_of(written: Any, graph: Graph, frames: Any, folder: Path) -> dict[str, Any]:
    """Return the spikes that the consumer's arithmetic gives, by population, flat and in NIR's order."""
    write_path = folder / "net.nir"
    from strop_backends.nir.files import write_file

    write_file(write_path, written)
    signals = encode(graph, as_frames(graph, frames))
    given = {}
    for name, node in written.nodes.items():
        title = graph_hint(node.metadata).get("name")
        if isinstance(node, nir.Input):
            values = signals[title]
            given[name] = (np.moveaxis(values, -1, 1) if values.ndim > 2 else values).astype(np.float32)
    fires = READERS[graph_hint(written.metadata)["profile"]]
    found = fires(str(write_path), given)
    return {graph_hint(written.nodes[name].metadata)["name"]: values for name, values in found.items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_random_graphs_are_exact_in_float32_or_refused_by_name(profile: str, tmp_path: Path) -> None:
    exact, refusals = 0, []
    for seed in range(30):
        graph, frames = random_graph(seed), random_frames(random_graph(seed), 6, seed)
        try:
            written = to_nir(graph, "float32", "never", profile=profile)
        except BackendError as error:
            refusals.append((graph, str(error)))
            continue
        wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))
        found = spikes_of(written, graph, frames, tmp_path)
        assert set(found) == set(wanted)
        for name, values in wanted.items():
            right = np.moveaxis(values, -1, 1) if found[name].ndim > 2 else values.reshape(len(values), -1)
            assert np.array_equal(found[name] > 0.5, right), (seed, name)
        exact += 1
    assert exact >= 5
    assert (not refusals) == PROFILES[profile].many
    for graph, said in refusals:
        names = [*graph.population_names, *graph.outputs, *(node.name for node in graph.inputs)]
        assert any(name in said for name in names), said


@pytest.mark.parametrize("profile", TORCH)
def test_files_for_tools_hold_only_what_the_tool_knows(profile: str) -> None:
    graph = read(FOLDER / "lif" / "convolution_2d_grouped.nir")
    written = to_nir(graph, profile=profile)
    known = PROFILES[profile].maps | {"Input", "Output", "Flatten", "LIF", "IF"}
    assert {type(node).__name__ for node in written.nodes.values()} <= known
    assert "input" in written.nodes
    assert "output" in written.nodes
    for node in written.nodes.values():
        if isinstance(node, nir.LIF):
            assert np.array_equal(node.tau, np.full(node.tau.shape, PROFILES[profile].dt))
            assert len(np.unique(node.v_threshold)) == 1
        if isinstance(node, nir.Flatten):
            assert node.start_dim == -len(node.input_type["input"])


def small(**fields: Any) -> Graph:
    """Return input -> a -> b, and what is given in place of it."""
    parts: dict[str, Any] = {
        "inputs": [Input("x", (3,))],
        "populations": [Population("a", (4,), 0.5, 0.0), Population("b", (2,), 0.5, 0.0)],
        "connections": [("x", "a", Dense(np.ones((3, 4)))), ("a", "b", Dense(np.ones((4, 2))))],
        "outputs": ["b"],
    }
    return Graph.from_nodes(**{**parts, **fields})


def skipping() -> Graph:
    links = [("x", "a", Dense(np.ones((3, 4)))), ("a", "b", Dense(np.ones((4, 2)))), ("x", "b", Dense(np.ones((3, 2))))]
    return small(connections=links)


TENTHS = Population("a", (4,), [0.1, 0.2, 0.3, 0.7], [0.1, 0.0, 0.3, 0.0])


@pytest.mark.parametrize(
    ("graph", "options", "says"),
    [
        (
            small(populations=[TENTHS, Population("b", (2,), 0.5, 0.0)]),
            {"profile": "snntorch"},
            "one threshold.*'a' have",
        ),
        (skipping(), {"profile": "norse"}, "2 projections meet at 'b'.*profile snntorch"),
        (skipping(), {"profile": "sinabs"}, "2 projections meet at 'b'"),
        (skipping(), {"profile": "snntorch", "delays": "always"}, "snnTorch 1.0.0 knows no Delay"),
        (small(outputs=["b", "a"]), {"profile": "norse"}, "one output; this one has 2: b, a"),
        (small(outputs=["a"]), {"profile": "snntorch"}, "'b' does not lead to the output"),
        (small(), {"profile": "snntorch", "dt": 1e-3}, "takes steps of dt=0.0001"),
        (small(), {"profile": "norse", "dt": 0.0009}, "is not 1 for dt=0.0009"),
        (small(), {"profile": "norse", "precision": "float64"}, "calculates in float32"),
        (small(), {"profile": "sinabs", "pools": "sum"}, "no SumPool2d"),
    ],
)
def test_what_a_profile_cannot_say_is_refused(graph: Graph, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendError, match=says):
        to_nir(graph, **options)


def test_thresholds_of_a_layer_become_one_where_biases_make_up_for_it(tmp_path: Path) -> None:
    thresholds, biases = [0.25, 0.5, -1.0, 3.0], [0.25, -0.5, 0.0, 1.0]
    graph = small(populations=[Population("a", (4,), thresholds, biases), Population("b", (2,), 0.5, 0.0)])
    written = to_nir(graph, profile="snntorch")
    assert len(np.unique(written.nodes["a"].v_threshold)) == 1
    frames = np.random.default_rng(0).integers(-3, 4, (50, 3)).astype(np.float32) / 4
    wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))
    found = spikes_of(written, graph, frames, tmp_path)
    assert 0 < wanted["a"].sum() < wanted["a"].size
    assert all(np.array_equal(found[name] > 0.5, values) for name, values in wanted.items())


def test_pools_are_written_as_they_are_asked_for() -> None:
    pool = SumPool((6, 6, 2), (2, 2), (2, 2), ((0, 0), (0, 0)))
    populations = [Population("a", (6, 6, 2), 0.5, 0.0), Population("b", (3, 3, 2), 0.5, 0.0)]
    links = [("x", "a", Scale((6, 6, 2), np.array(2.0))), ("a", "b", pool)]
    graph = Graph.from_nodes([Input("x", (6, 6, 2))], populations, links, outputs=["b"])
    kinds = {
        pools: {type(n).__name__ for n in to_nir(graph, pools=pools).nodes.values()}
        for pools in ("auto", "convolution")
    }
    assert "SumPool2d" in kinds["auto"]
    assert "SumPool2d" not in kinds["convolution"]
    assert "Conv2d" in kinds["convolution"]
    assert difference(read(to_nir(graph, pools="convolution")), graph) is None


@pytest.mark.parametrize("profile", PROFILES)
def test_a_file_comes_back_as_the_graph_that_it_was(profile: str, tmp_path: Path) -> None:
    for name in ("dense", "convolution_2d_same", "pool_or", "classifier", "no_charge_is_carried_over"):
        graph = golden_case(name).graph
        write(graph, tmp_path / "net.nir", profile=profile, precision="float32")
        again = read(tmp_path / "net.nir")
        assert again.assumptions == ()
        assert again.population_names == graph.population_names
        assert [p.operator for p in again.projections] == [p.operator for p in graph.projections], name
        case = golden_case(name)
        found = evaluate(again, encode(again, as_frames(again, case.frames)))
        assert all(np.array_equal(found[key], values) for key, values in case.spikes.items())


def test_names_that_pytorch_has_taken_are_changed() -> None:
    populations = [Population("train", (4,), 0.5, 0.0), Population("output", (2,), 0.5, 0.0)]
    links = [("x", "train", Dense(np.ones((3, 4)))), ("train", "output", Dense(np.ones((4, 2))))]
    written = to_nir(small(populations=populations, connections=links, outputs=["output"]), profile="snntorch")
    assert {"train_", "output_", "output"} <= set(written.nodes)
    assert isinstance(written.nodes["output"], nir.Output)


# nir 1.0.4 ---------------------------------------------------------------------------------------------------

_WITH_104 = """
import json, sys
from importlib.metadata import version
import nir
for path in sys.argv[1:]:
    graph = nir.read(path)
    print(json.dumps({name: type(node).__name__ for name, node in graph.nodes.items()}))
"""


def test_files_are_read_by_nir_104(tmp_path: Path) -> None:
    folder = os.environ.get("STROP_NIR_104")
    if not folder:
        pytest.skip("STROP_NIR_104 names no folder with nir 1.0.4 (tox -e formats makes one)")
    paths = [FOLDER / profile / f"{name}.nir" for profile in profiles() for name in ("classifier", "pool_or", "dense")]
    environment = {**os.environ, "PYTHONPATH": folder}
    done = subprocess.run(
        [sys.executable, "-c", _WITH_104, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        nodes = nir.read(path, type_check=True).nodes
        assert json.loads(line) == {name: type(node).__name__ for name, node in nodes.items()}
    # What 1.0.4 cannot read, so that the test can fail: a node's metadata.
    nir.write(str(tmp_path / "new.nir"), to_nir(golden_case("dense").graph))
    done = subprocess.run(
        [sys.executable, "-c", _WITH_104, str(tmp_path / "new.nir")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert "metadata" in done.stderr


# Rounding ----------------------------------------------------------------------------------------------------


def on_the_edge() -> tuple[Graph, Any]:
    """Return a network whose sums meet their thresholds in float64, and miss them when its weights are rounded."""
    weight = 0.7
    assert float(np.float32(weight)) < weight
    links = [("x", "a", Dense(np.eye(3))), ("a", "b", Dense(np.full((3, 2), weight)))]
    populations = [Population("a", (3,), 0.5, 0.0), Population("b", (2,), weight, 0.0)]
    frames = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], np.float32)
    return small(populations=populations, connections=links), frames


def test_weights_are_rounded_only_on_demand_and_thresholds_follow() -> None:
    graph, frames = on_the_edge()
    with pytest.raises(BackendError, match=r"b_from_a holds the weight 0\.7, which float32 cannot hold; .*--round"):
        to_nir(graph, profile="snntorch")
    signals = encode(graph, as_frames(graph, frames))
    written = to_nir(graph, profile="snntorch", rounding=True)
    # As it is rounded, two neurons fall silent in two frames.
    right = evaluate(graph, signals)["b"]
    assert np.count_nonzero(evaluate(read(written), signals)["b"] != right) == 4
    done = recentre(graph, written, signals)
    assert done.changed == {"a": 0, "b": 0}
    assert -2e-7 < done.moved["b"] < 0
    assert np.array_equal(evaluate(read(written), signals)["b"], right)


def test_spikes_that_rounding_changes_are_counted_in_the_folder(tmp_path: Path) -> None:
    graph, frames = on_the_edge()
    # A second neuron whose own sum lies within the same rounding of the threshold, on the other side: no room is left.
    weights = np.array([[0.7, np.nextafter(0.7, 0)]] * 3)
    graph = small(populations=graph.populations, connections=[("x", "a", Dense(np.eye(3))), ("a", "b", Dense(weights))])
    out = strop.export(graph, "nir", tmp_path / "out", frames=frames, profile="snntorch", rounding=True)
    text = " ".join((out / "README.md").read_text(encoding="utf-8").split())
    assert "On the 4 frames in this folder, 2 spikes of " in text
    assert "change: 2 of `b`" in text
    text = (strop.export(graph, "nir", tmp_path / "bare", profile="snntorch", rounding=True) / "README.md").read_text()
    assert "nothing is known of the spikes that" in text


# What tools are given --------------------------------------------------------------------------------------


def test_scales_and_pools_become_convolutions_for_tools() -> None:
    image = Composed((SumPool((6, 6, 2), (2, 2), (2, 2), ((0, 0), (0, 0))), Scale((3, 3, 2), np.array(0.25))))
    populations = [Population("a", (6, 6, 2), 0.5, 0.0), Population("b", (3, 3, 2), 0.5, 0.25)]
    key = Readout("key", "key", ("b",), (Dense(np.ones((2, 4)), (3, 3)),))
    links = [("x", "a", Scale((6, 6, 2), np.array(1.0))), ("a", "b", image)]
    graph = Graph.from_nodes([Input("x", (6, 6, 2))], populations, links, [key], ["key"])
    kinds = [type(node).__name__ for node in to_nir(graph, profile="snntorch").nodes.values()]
    assert set(kinds) == {"Input", "LIF", "Conv2d", "Flatten", "Linear", "Affine", "Output"} - {"Linear"}
    assert kinds.count("Conv2d") == 3


def test_the_wheel_would_hold_the_golden_files() -> None:
    # HDF5 leaves room in small files; packed, all of them are small.
    with zipfile.ZipFile(os.devnull, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in FOLDER.rglob("*.n*"):
            packed.write(path)
        assert sum(entry.compress_size for entry in packed.infolist()) < 600_000
