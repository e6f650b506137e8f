"""Costs and decisions on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import strop

keras = pytest.importorskip("keras", reason="the command line's model files need Keras")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from random_networks import randomise

    from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator
    from strop.lowering import lower

    path = tmp_path_factory.mktemp("costs")
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(3, 3),
            SpikingBReLU(1.0, name="edges"),
            layers.Flatten(),
            layers.Dense(12),
            SpikingBReLU(1.0, name="hidden"),
            SoftmaxDecode(key_generator(3, 12, seed=0), name="decode"),
        ]
    )
    rng = np.random.default_rng(0)
    randomise(model, rng)
    model.save(path / "m.keras")
    lower(model).save(path / "host.strop")
    lower(model, decision="spikes").save(path / "spikes.strop")
    np.savez(path / "d.npz", x=rng.integers(0, 256, (20, 6, 6, 1)).astype(np.uint8), y=rng.integers(0, 3, 20))
    return path


def test_inspect_counts_events_without_a_target(folder: Path, tmp_path: Path) -> None:
    verdict, costs = tmp_path / "v.json", tmp_path / "c.json"
    data = ("--data", folder / "d.npz", "--limit", 15)
    result = strop("inspect", folder / "m.keras", *data, "--json", costs)
    assert result.returncode == 0, result.stderr
    checked = strop("verify", folder / "m.keras", *data, "--backends", "reference", "--json", verdict)
    assert checked.returncode == 0, checked.stderr
    found, held = json.loads(costs.read_text()), json.loads(verdict.read_text())
    assert found["activity"]["frames"] == 15
    assert found["activity"]["synaptic_events_per_frame"] == held["graph"]["synaptic_events_per_frame"] > 0
    spikes = {layer["name"]: layer["spikes"] for layer in held["backends"]["reference"]["layers"]}
    for row in found["activity"]["populations"]:
        assert row["spikes_per_frame"] == pytest.approx(spikes[row["name"]] / 15)
    assert [row["on_host"] for row in found["activity"]["populations"]] == [True, False]
    assert found["arithmetic"]["dense"]["macs"] == 16 * 9 * 3 + 48 * 12 + 12 * 3
    assert found["populations"][0]["fan_out"] == 12
    text = " ".join(result.stdout.split())
    for words in (
        "edges (on the host)",
        "TrueNorth, 28 nm",
        "10.1126/science.1254642",
        "no measurement",
        "432 multiply",
    ):
        assert words in text, words
    # What was there before is there still, under the same names.
    before = {"model", "inputs", "populations", "outputs", "graph", "target"}
    assert before <= set(found)
    rows = {"name", "shape", "neurons", "synapses", "parameters", "fan_in", "depth", "sources", "operators"}
    assert rows <= set(found["populations"][0])
    totals = {"populations", "neurons", "synapses", "depth", "stored_bytes", "expanded_bytes"}
    assert totals <= set(found["graph"])


def test_inspect_shows_the_decision_on_chip(folder: Path, tmp_path: Path) -> None:
    result = strop("inspect", folder / "m.keras", "--decision", "spikes", "--json", tmp_path / "c.json")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["decision"]["populations"] == ["decode/beats", "decode/winner"]
    assert found["decision"]["neurons"] == 3 * 2 + 3
    assert found["outputs"][0]["kind"] == "winner"
    assert "decision as spikes: 9 neurons" in result.stdout


def test_verify_and_predict_decide_on_chip(folder: Path, tmp_path: Path) -> None:
    arguments = (folder / "m.keras", "--data", folder / "d.npz", "--decision", "spikes")
    result = strop("verify", *arguments, "--backends", "reference", "--json", tmp_path / "v.json")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "v.json").read_text())
    layers = {layer["name"]: layer["spikes"] for layer in found["backends"]["reference"]["layers"]}
    assert layers["decode/winner"] == 20
    for decision in ("spikes", "host"):
        out = tmp_path / f"{decision}.npz"
        arguments = (folder / "m.keras", "--data", folder / "d.npz", "--decision", decision)
        result = strop("predict", *arguments, "--backend", "reference", "--out", out)
        assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "spikes.npz") as ours, np.load(tmp_path / "host.npz") as theirs:
        np.testing.assert_array_equal(ours["classes"], theirs["classes"])
        assert (ours["spikes/decode/winner"].argmax(axis=1) == ours["classes"]).all()
        assert "spikes/decode/winner" not in theirs


@pytest.mark.several_extras
def test_export_decides_on_chip(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("brian2")
    for decision, expected in (("spikes", True), ("host", False)):
        out = tmp_path / decision
        arguments = (folder / "m.keras", "--target", "brian2", "--out", out, "--decision", decision)
        result = strop("export", *arguments, "--data", folder / "d.npz", "--limit", 3)
        assert result.returncode == 0, result.stderr
        named = any(b"decode/winner" in path.read_bytes() for path in out.rglob("*") if path.is_file())
        assert named is expected


def test_saved_graphs_carry_their_own_decision(folder: Path) -> None:
    result = strop("inspect", folder / "spikes.strop", "--decision", "spikes")
    assert result.returncode == 0, result.stderr
    assert "decision as spikes" in result.stdout
    for command in (("inspect",), ("verify", "--data", folder / "d.npz", "--backends", "reference")):
        refused = strop(command[0], folder / "host.strop", *command[1:], "--decision", "spikes")
        assert refused.returncode == 2
        assert "decides in its read-out 'decode'" in refused.stderr
