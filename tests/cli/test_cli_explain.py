"""`strop explain`, and what `strop verify` says of faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from broken_backends import Broken, at, vectors, weights
from command_line import refused, strop

from strop.running import registry


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain")
    vectors().save(path / "net.strop")
    np.savez(path / "my data.npz", x=np.random.default_rng(1).random((60, 12), np.float32))
    return path


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered backend with one wrong weight."""
    backend = Broken(weights("d1", "d2", at((3, 4), lambda w: w + 1.0)))
    honest = registry.get_backend

    def get(name: object) -> object:
        return backend if name == "broken" else honest(name)  # type: ignore[arg-type]  # passed on

    for module in ("running.registry", "verification.verify", "verification.explain"):
        monkeypatch.setattr(f"strop.{module}.get_backend", get)


@pytest.mark.usefixtures("broken")
def test_verify_says_why_in_five_lines_and_which_command_shows_more(folder: Path, tmp_path: Path) -> None:
    result = strop(
        *("verify", folder / "net.strop", "--data", folder / "my data.npz", "--backends", "broken"),
        *("--json", tmp_path / "out.json"),
    )
    assert result.returncode == 1, result.stderr
    lines = result.stdout.splitlines()[-5:]
    assert [line.split(":")[0] for line in lines] == ["Cause", "First", "Extent", "Origin", "Look"]
    assert "d1[3] -> d2[4]" in lines[0]
    found = json.loads((tmp_path / "out.json").read_text())["backends"]["broken"]["explanation"]
    assert found["layers"][0]["cause"]["kind"] == "weight"
    frame = found["first_frame"]
    end = f"--data '{folder / 'my data.npz'}' --backend broken --frame {frame} --layer d2"
    assert lines[4] == f"Look:   strop explain {folder / 'net.strop'} {end}"


@pytest.mark.usefixtures("broken")
def test_explain_shows_one_frame(folder: Path, tmp_path: Path) -> None:
    data = ("--data", folder / "my data.npz")
    verified = strop("verify", folder / "net.strop", *data, "--backends", "broken", "--json", tmp_path / "v.json")
    assert verified.returncode == 1
    frame = json.loads((tmp_path / "v.json").read_text())["backends"]["broken"]["explanation"]["first_frame"]
    wanted = ("explain", folder / "net.strop", *data, "--backend", "broken", "--frame", frame)
    result = strop(*wanted, "--json", tmp_path / "e.json")
    assert result.returncode == 1, result.stderr
    assert f"frame {frame} on broken: 1 faults" in result.stdout
    assert "Cause: " in result.stdout
    found = json.loads((tmp_path / "e.json").read_text())
    assert (found["layer"], found["neurons"][0]["neuron"]) == ("d2", [4])
    other = strop(*wanted, "--layer", "d3")
    assert "layer d3: no faults" in other.stdout


def test_explain_of_a_right_frame_ends_with_0(folder: Path) -> None:
    wanted = ("explain", folder / "net.strop", "--data", folder / "my data.npz", "--backend", "reference")
    result = strop(*wanted, "--frame", 2)
    assert result.returncode == 0, result.stderr
    assert "0 faults" in result.stdout
    refused(strop(*wanted, "--frame", 60), 2, "there is no frame 60", "60 frames, 0 to 59")
    refused(strop(*wanted, "--frame", 2, "--layer", "nope"), 2, "'nope'", "d1, d2, d3")
    refused(strop(*wanted[:-1], "keras", "--frame", 2), 2, "saved graph")
    refused(strop(*wanted[:-1], "nope", "--frame", 2), 3, "'nope'")
    assert "--frame" in strop(*wanted).stderr
