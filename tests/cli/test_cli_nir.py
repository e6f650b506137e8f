"""NIR on the command line: profiles of `strop export`, the step of a file that is read, and what is not carried."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import strop

from strop.graph import Dense, Graph, Input, Population, SumPool

nir = pytest.importorskip("nir")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pool = SumPool((4, 4, 1), (2, 2), (2, 2), ((0, 0), (0, 0)))
    populations = [Population("a", (2, 2, 1), 0.5, 0.0), Population("b", (2, 2, 3), 0.5, 0.0)]
    links = [("x", "a", pool), ("a", "b", Dense(np.array([[0.25, 0.5, 0.75]]), (2, 2)))]
    Graph.from_nodes([Input("x", (4, 4, 1))], populations, links, outputs=["b"]).save(tmp_path / "net.strop")
    frames = (np.random.default_rng(0).random((12, 4, 4, 1)) < 0.2).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=frames)
    return tmp_path / "net.strop"


def kinds(path: Path) -> set[str]:
    return {type(node).__name__ for node in nir.read(path).nodes.values()}


def test_every_option_of_a_profile_is_there(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    done = strop("export", model, "--target", "nir", "--profile", "snntorch", "--out", tmp_path / "a", "--data", data)
    assert done.returncode == 0, done.stderr
    assert kinds(tmp_path / "a" / "network.nir") == {"Input", "Conv2d", "LIF", "Output"}
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"README.md", "frames.npz", "network.nir", "run.py", "standalone.py", "torch_spikes.py"}
    options = [
        "--profile",
        "lif",
        "--precision",
        "float32",
        "--delays",
        "always",
        "--dt",
        "0.5",
        "--pools",
        "convolution",
    ]
    done = strop("export", model, "--target", "nir", *options, "--round", "--out", tmp_path / "b", "--data", data)
    assert done.returncode == 0, done.stderr
    graph = nir.read(tmp_path / "b" / "network.nir")
    assert graph.nodes["b"].v_threshold.dtype == np.float32
    assert {float(v) for n in graph.nodes.values() if isinstance(n, nir.Delay) for v in n.delay.reshape(-1)} == {0.5}
    assert set(graph.nodes["a"].tau.reshape(-1)) == {0.5}
    assert "SumPool2d" not in kinds(tmp_path / "b" / "network.nir")
    readme = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert "0 spikes of" in " ".join(readme.split())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--target", "nir", "--profile", "norse", "--precision", "float64"], "Norse 1.1.0 calculates in float32"),
        (["--target", "nir", "--profile", "spyx"], "profile must be one of threshold, lif, snntorch, norse, sinabs"),
        (["--target", "brian2", "--profile", "lif"], "--profile is for --target nir alone, not for brian2"),
        (["--target", "brian2", "--round"], "--round is for --target nir alone"),
        (["--target", "nir", "--read-dt", "1"], "the option 'dt' says how to read another format"),
    ],
)
def test_options_that_do_not_fit_end_with_one_line(model: Path, tmp_path: Path, options: list[str], says: str) -> None:
    done = strop("export", model, *options, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def remembering(tmp_path: Path) -> Path:
    ones = np.ones(4)
    nodes = {
        "input": nir.Input(np.array([4])),
        "w": nir.Linear(np.eye(4)),
        "leaky": nir.LIF(tau=ones / 50, r=20 * ones, v_leak=0 * ones, v_threshold=ones / 2),
        "output": nir.Output(np.array([4])),
    }
    edges = [("input", "w"), ("w", "leaky"), ("leaky", "output")]
    nir.write(str(tmp_path / "leaky.nir"), nir.NIRGraph(nodes, edges))
    np.savez(tmp_path / "frames.npz", x=np.eye(4, dtype=np.float32))
    return tmp_path / "leaky.nir"


def test_neurons_that_remember_are_refused_unless_asked_for_and_the_verdict_says_so(remembering: Path) -> None:
    data, report = remembering.parent / "frames.npz", remembering.parent / "report.json"
    common = ["verify", remembering, "--data", data, "--backends", "reference"]
    done = strop(*common)
    assert done.returncode == 2
    assert "shorter than the step dt=1; pass the dt that the network runs with (dt=..., --dt)" in done.stderr
    done = strop(*common, "--dt", "0.001")
    assert done.returncode == 2
    assert "'leaky' (LIF) keeps 0.95 of its potential for the next step (tau = 0.02, dt = 0.001)" in done.stderr
    done = strop(*common, "--dt", "0.001", "--memoryless", "--json", report)
    assert done.returncode == 0, done.stderr
    assert "assumed: every frame finds leaky at rest (memoryless)" in " ".join(done.stdout.split())
    assert "keeps 0.95" in json.loads(report.read_text())["notes"][0]
    out = remembering.parent / "answers.npz"
    done = strop("predict", remembering, "--data", data, "--out", out, "--backend", "reference", "--dt", "0.02")
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        assert np.array_equal(file["spikes/leaky"], np.eye(4, dtype=bool))


def test_inspect_names_all_that_is_not_carried_before_it_ends(remembering: Path) -> None:
    graph = nir.read(remembering)
    graph.nodes["slow"] = nir.LI(*np.ones((3, 4)))
    graph.edges.append(("leaky", "slow"))
    nir.write(str(remembering), nir.NIRGraph(graph.nodes, graph.edges, type_check=False))
    done = strop("inspect", remembering, "--dt", "0.01")
    assert done.returncode == 2
    assert done.stdout.startswith("not carried:\n")
    assert "leaky (LIF) keeps 0.5 of its potential" in done.stdout
    assert "slow (LI): it integrates over time" in done.stdout
    assert done.stderr.count("\n") == 1


def test_a_picture_is_drawn_by_nirviz_where_it_is_installed(remembering: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = remembering.parent / "net.svg"
    monkeypatch.setitem(sys.modules, "nirviz", None)
    done = strop("inspect", remembering, "--dt", "0.02", "--nirviz", picture)
    assert done.returncode == 3
    assert "pip install nirviz" in done.stderr

    class Visualize:
        def __init__(self, path: str, orientation: str) -> None:
            assert nir.read(path).nodes.keys() >= {"leaky"}
            assert orientation == "horizontal"

        def save(self, path: Path) -> None:
            if path.suffix != ".svg":
                raise RuntimeError("no dot")
            path.write_text("<svg/>")

    monkeypatch.setitem(sys.modules, "nirviz", SimpleNamespace(visualize=Visualize))
    assert strop("inspect", remembering, "--dt", "0.02", "--nirviz", picture).returncode == 0
    assert picture.read_text() == "<svg/>"
    done = strop("inspect", remembering, "--dt", "0.02", "--nirviz", remembering.parent / "net.png")
    assert done.returncode == 2
    assert "nirviz cannot draw" in done.stderr
