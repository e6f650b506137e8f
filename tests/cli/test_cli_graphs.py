"""Graphs as MODEL on the command line (.strop, .nir), and what is said of bit planes there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, strop

from strop.errors import BackendError, BackendMissingError
from strop.graph import Dense, Graph, Input, Population, Readout, graphs_equal
from strop.graph.readers import read_graph, reader_suffixes


def graph() -> Graph:
    rng = np.random.default_rng(1)
    weights = [rng.integers(-4, 5, shape) / 4 for shape in ((16, 9), (9, 8), (8, 3))]
    return Graph.from_nodes(
        [Input("x", (4,), "bitplane", 4)],
        [Population("a", (9,), 0.5, 0.25), Population("b", (8,), 0.25, 0.0)],
        [("x", "a", Dense(weights[0])), ("a", "b", Dense(weights[1]))],
        [Readout("out", "linear", ("b",), (Dense(weights[2]),))],
        ["out"],
        "small",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("nir")
    from strop_backends import nir

    nir.write(graph(), tmp_path / "net.nir")
    graph().save(tmp_path / "net.strop")
    whole = np.random.default_rng(2).integers(0, 16, (25, 4))
    np.savez(tmp_path / "data.npz", x=whole.astype(np.float32) / np.float32(15), y=np.zeros(25, int))
    return tmp_path


def test_a_nir_file_is_verified_predicted_inspected_and_exported(folder: Path) -> None:
    model, data = folder / "net.nir", folder / "data.npz"
    result = strop(
        "verify", model, "--data", data, "--backends", "reference", "--json", folder / "v.json", "--limit", 20
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "v.json").read_text())
    assert (found["passed"], found["frames"]) == (True, 20)
    assert [layer["name"] for layer in found["backends"]["reference"]["layers"]] == ["a", "b"]
    assert all(layer["spikes"] > 0 for layer in found["backends"]["reference"]["layers"])

    for name in ("net.nir", "net.strop"):
        out = folder / f"{name}.npz"
        result = strop("predict", folder / name, "--data", data, "--backend", "reference", "--out", out)
        assert result.returncode == 0, result.stderr
    with np.load(folder / "net.nir.npz") as ours, np.load(folder / "net.strop.npz") as theirs:
        assert ours["spikes/b"].any()
        for key in theirs.files:
            np.testing.assert_array_equal(ours[key], theirs[key])

    result = strop("inspect", model, "--json", folder / "i.json")
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "i.json").read_text())["graph"]["neurons"] == 17

    result = strop("export", model, "--target", "nir", "--out", folder / "out", "--data", data)
    assert result.returncode == 0, result.stderr
    assert (folder / "out" / "run.py").is_file()


def test_a_file_that_is_no_nir_ends_with_one_line_and_exit_code_2(folder: Path) -> None:
    (folder / "text.nir").write_text("no graph")
    result = strop("inspect", folder / "text.nir")
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert "text.nir is no NIR graph" in line


def test_without_the_package_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    monkeypatch.delitem(sys.modules, "strop_backends.nir.reading", raising=False)
    with pytest.raises(BackendMissingError, match=r"net\.nir cannot be read, .*pip install 'strop\[nir\]'"):
        read_graph(folder / "net.nir")


def test_other_people_s_formats_are_found_and_two_for_one_suffix_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        info = tmp_path / f"reader{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: reader{number}\nVersion: 1.0\n")
        groups = "[strop.readers]\ntwice = reader:read\n" + ("once = reader:read\n" if number == 1 else "")
        (info / "entry_points.txt").write_text(groups.replace("reader:", f"reader{number}:"))
        (tmp_path / f"reader{number}.py").write_text(
            "import strop\ndef read(path):\n    return strop.Graph.load(path.with_suffix('.strop'))\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    graph().save(tmp_path / "net.strop")
    (tmp_path / "net.once").write_text("")
    (tmp_path / "net.twice").write_text("")
    assert {".strop", ".nir", ".once", ".twice"} <= set(reader_suffixes())
    assert reader_suffixes()[0] == ".strop"
    found = read_graph(tmp_path / "net.once")
    assert found is not None
    assert graphs_equal(found, graph())
    with pytest.raises(BackendError, match=r"files \.twice are read by more than one package: reader1:read, reader2"):
        read_graph(tmp_path / "net.twice")
    assert read_graph(tmp_path / "net.keras") is None


def test_bits_of_a_saved_graph_and_nonsense_are_refused(folder: Path) -> None:
    for arguments, words in (
        (("--bits", 4), "--bits: the saved graph 'small' carries its own encoding"),
        (("--bits", "four"), "'four' is neither a number nor NAME=NUMBER"),
        (("--step", "1/0"), "'1/0' is neither a number"),
    ):
        result = strop("inspect", folder / "net.strop", *arguments)
        assert result.returncode == 2
        (line,) = result.stderr.strip().splitlines()
        assert words in line


def test_frames_of_four_bits_are_verified_on_the_command_line(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="the command line's model files need Keras")
    from random_networks import randomise

    from strop.keras import SpikingBReLU

    layers = keras.layers
    model = keras.Sequential([layers.Input((4,), name="pixels"), layers.Dense(12), SpikingBReLU(1.0)])
    randomise(model, np.random.default_rng(0))
    model.save(tmp_path / "m.keras")
    whole = np.random.default_rng(1).integers(0, 16, (30, 4))
    np.savez(tmp_path / "fifteenths.npz", x=whole.astype(np.float32) / np.float32(15))
    np.savez(tmp_path / "signed.npz", x=(whole / 16 - 0.5).astype(np.float32))
    common = ("verify", tmp_path / "m.keras", "--backends", "reference", "--encoding", "bitplane")
    for data, said in (
        ("fifteenths.npz", ("--bits", 4)),
        ("fifteenths.npz", ("--bits", "pixels=4")),
        ("signed.npz", ("--bits", 4, "--step", "1/16", "--offset=-0.5")),
    ):
        result = strop(*common, "--data", tmp_path / data, *said, "--json", tmp_path / "v.json")
        assert result.returncode == 0, result.stderr
        found = json.loads((tmp_path / "v.json").read_text())
        assert found["keras"]["faults"] == 0
        assert found["backends"]["reference"]["layers"][0]["spikes"] > 0
    result = strop(*common, "--data", tmp_path / "fifteenths.npz", "--bits", 3)
    assert result.returncode == 2
    assert "which is no multiple of 1/7 from 0 to 1" in result.stderr


def test_inspect_draws_a_graph_and_refuses_in_one_line_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("networkx", reason="pictures need the extra plot")
    pytest.importorskip("matplotlib", reason="pictures need the extra plot")
    graph().save(tmp_path / "net.strop")
    result = strop("inspect", tmp_path / "net.strop", "--graph", tmp_path / "net.svg")
    assert result.returncode == 0, result.stderr
    assert "populations" in result.stdout
    assert "9 neurons" in (tmp_path / "net.svg").read_text()
    result = strop("inspect", tmp_path / "net.strop", "--graph", tmp_path / "net.gif")
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert "net.gif: the name must end in .svg, .png, .pdf" in line
    monkeypatch.setitem(sys.modules, "networkx", None)
    result = strop("inspect", tmp_path / "net.strop", "--graph", tmp_path / "other.svg")
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert "pip install 'strop[plot]'" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.strop", "net.svg"]


def test_a_folder_of_copies_is_written_and_nonsense_refused_in_one_line(tmp_path: Path) -> None:
    model = tmp_path / "net.strop"
    graph().save(model)
    result = strop("export", model, "--target", "pynn", "--out", tmp_path / "out", "--copies", 3)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out" / "network.json").read_text())["copies"] == 3
    for target, copies, words in (
        ("pynn", 0, "neither a number of at least 1 nor fill"),
        ("pynn", 1.5, "neither a number of at least 1 nor fill"),
        ("pynn", "fill", 'a number of copies; "fill" is for "spinnaker"'),
        ("nengo", 2, "--copies is for --target pynn and spinnaker, not for nengo"),
    ):
        made = tmp_path / f"{target}-{copies}"
        refused(strop("export", model, "--target", target, "--out", made, "--copies", copies), 2, words)
        assert not made.exists()
    refused(strop("inspect", model, "--copies", 2), 2, 'give target="spinnaker" too')
    refused(strop("inspect", model, "--copies", 2, "--target", "reference"), 2, "reference maps no network")
