"""`strop quantize` and `strop certify`: exit codes, files, and one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, strop

from strop.graph import Dense, Graph, Input, Population, Readout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantize")
    rng = np.random.default_rng(0)
    graph = Graph.from_nodes(
        [Input("x", (8,), "binary")],
        [Population("a", (12,), 0.5, rng.normal(size=12)), Population("b", (6,), 0.5, rng.normal(size=6))],
        [("x", "a", Dense(rng.normal(size=(8, 12)))), ("a", "b", Dense(rng.normal(size=(12, 6))))],
        [Readout("out", "softmax", ("b",), (Dense(rng.normal(size=(6, 3))),))],
        ["out"],
    )
    graph.save(path / "net.strop")
    np.savez(path / "data.npz", x=rng.random((40, 8)).astype(np.float32), y=rng.integers(0, 3, 40))
    return path


def test_a_graph_is_quantised_and_proved(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.strop"
    data = ("--data", folder / "data.npz", "--limit", 30)
    result = strop(
        "quantize", folder / "net.strop", "--target", "spinnaker", *data, "--out", out, "--json", tmp_path / "q.json"
    )
    assert result.returncode == 0, result.stderr
    assert "decisions changed" in result.stdout
    assert "accuracy" in result.stdout
    found = json.loads((tmp_path / "q.json").read_text())
    assert found["frames"] == 30
    assert [row["name"] for row in found["populations"]] == ["a", "b"]
    assert found["target"]["name"] == "spinnaker"

    proved = strop("certify", out, "--target", "spinnaker", "--json", tmp_path / "c.json")
    assert proved.returncode == 0, proved.stderr
    assert "PROVED for all inputs" in proved.stdout
    certificate = json.loads((tmp_path / "c.json").read_text())
    assert certificate["holds"] is True
    assert certificate["graph"] == Graph.load(out).digest

    other = strop("certify", out, "--target", "int4")
    assert other.returncode == 1
    assert "NOT PROVED" in other.stdout
    assert strop("certify", folder / "net.strop", "--target", "spinnaker").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--target", "spinaker", "--out", "q.strop"], 3, ["spinaker", "Did you mean 'spinnaker'"]),
        (["--target", "int8", "--weight-bits", "0", "--out", "q.strop"], 2, ["at least 1"]),
        (["--target", "int8", "--out", "q.h5"], 2, ["q.h5", ".strop", ".keras"]),
        (["--target", "int8", "--out", "nowhere/q.strop"], 2, ["nowhere", "does not exist"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(strop("quantize", folder / "net.strop", *arguments), code, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_was_quantised_for_another_target_is_refused(folder: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.strop"
    assert strop("quantize", folder / "net.strop", "--target", "float32", "--out", wide).returncode == 0
    result = strop("quantize", wide, "--target", "int8", "--out", tmp_path / "q.strop")
    refused(result, 2, "quantised already", "int8")
    assert not (tmp_path / "q.strop").exists()


def test_a_quantised_graph_as_a_keras_model(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    plain, quantised, exported = tmp_path / "q.strop", tmp_path / "q.keras", tmp_path / "e.keras"
    for out in (plain, quantised):
        result = strop("quantize", folder / "net.strop", "--target", "int8", "--out", out)
        assert result.returncode == 0, result.stderr
    proved = strop("certify", quantised, "--target", "int8", "--json", tmp_path / "c.json")
    assert proved.returncode == 0, proved.stderr
    assert json.loads((tmp_path / "c.json").read_text())["graph"] == Graph.load(plain).digest

    data = ("--data", folder / "data.npz", "--backends", "reference", "--json", tmp_path / "v.json")
    verified = strop("verify", quantised, *data)
    assert verified.returncode == 0, verified.stderr
    found = json.loads((tmp_path / "v.json").read_text())
    assert (found["keras"]["ties"], found["keras"]["faults"]) == (0, 0)

    result = strop("export", plain, "--target", "keras", "--out", exported)
    assert result.returncode == 0, result.stderr
    assert f"written: {exported}" in result.stdout
    refused(strop("export", plain, "--target", "keras", "--out", tmp_path / "folder"), 2, "folder", ".keras")
    more = ("--data", folder / "data.npz")
    refused(strop("export", plain, "--target", "keras", "--out", tmp_path / "n.keras", *more), 2, "leave frames out")
    assert not (tmp_path / "n.keras").exists()
    assert not (tmp_path / "folder").exists()
