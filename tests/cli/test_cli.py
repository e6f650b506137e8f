"""The command line as users call it: a process, its exit code, its output, the files that it leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refused, strop, strop_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sharpened model, a half-sharpened one, and data."""
    keras = pytest.importorskip("keras", reason="the command line's model files need Keras")
    from random_networks import randomise

    from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator, set_sharpness

    layers = keras.layers
    path = tmp_path_factory.mktemp("cli")
    model = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3),
            SpikingBReLU(1.0, name="edges"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(20),
            SpikingBReLU(1.0),
            SoftmaxDecode(key_generator(4, 20, seed=0)),
        ],
        name="tiny",
    )
    rng = np.random.default_rng(0)
    randomise(model, rng)
    model.save(path / "tiny.keras")
    from strop.lowering import lower

    lower(model).save(path / "tiny.strop")
    set_sharpness(model, 0.5)
    model.save(path / "half.keras")
    relu = keras.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu", name="corners")])
    relu.save(path / "relu.keras")
    frames = rng.integers(0, 256, (30, 8, 8, 1)).astype(np.uint8)
    np.savez(path / "data.npz", x=frames, y=rng.integers(0, 4, 30))
    np.savez(path / "mnist_like.npz", x_train=frames[:2], y_train=[0, 1], x_test=frames, y_test=np.zeros(30, int))
    np.savez(path / "wrong_shape.npz", x=frames[:, :5])
    np.savez(path / "empty.npz", x=frames[:0])
    np.savez(path / "no_x.npz", images=frames)
    np.savez(path / "pickled.npz", x=np.array([{"a": 1}, None], dtype=object))
    np.savez(path / "unequal.npz", x=frames, y=np.zeros(3, int))
    (path / "text.npz").write_text("no archive")
    (path / "truncated.npz").write_bytes((path / "data.npz").read_bytes()[:300])
    return path


def test_verify_passes_writes_json_and_a_page(folder: Path, tmp_path: Path) -> None:
    result = strop_process(
        "verify",
        folder / "tiny.keras",
        *("--data", folder / "data.npz", "--backends", "reference", "--limit", 20),
        *("--json", tmp_path / "out.json", "--report", tmp_path / "page"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "PASSED" in result.stdout
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    said = {"verdict", "strict", "problems", "reservations", "notes", "proved_for_all_inputs"}
    assert set(found) == {"model", "frames", "passed", "keras", "backends", "graph", *said}
    assert (found["frames"], found["passed"]) == (20, True)
    assert {"accuracy", "ties", "faults", "seconds"} <= set(found["keras"])
    assert set(found["graph"]) == {"populations", "neurons", "synapses", "depth", "synaptic_events_per_frame"}
    backend = found["backends"]["reference"]
    expected = {"passed", "faults", "frames_with_faults", "decoded_equal", "accuracy", "build_seconds"}
    assert expected | {"run_seconds", "frames_per_second", "version", "layers"} <= set(backend)
    assert [set(layer) for layer in backend["layers"]] == [
        {"name", "units", "spikes", "faults", "ties", "compared", "undecided"}
    ] * 3
    assert sum(layer["spikes"] for layer in backend["layers"]) > 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert "Passed" in page
    assert all(f'id="{part}"' in page for part in ("layer-table", "play", "raster-canvas", "margins", "data"))
    assert "http" not in page.replace("http-equiv", "")
    assert list(tmp_path.glob(".*")) == []


def test_verify_takes_keras_own_mnist_keys_and_saved_graphs(folder: Path) -> None:
    for model in ("tiny.keras", "tiny.strop"):
        result = strop("verify", folder / model, "--data", folder / "mnist_like.npz", "--backends", "reference")
        assert result.returncode == 0, result.stderr
        assert "30 frames" in result.stdout


def test_faults_end_with_exit_code_1(folder: Path, tmp_path: Path) -> None:
    """A backend that drops every spike of the last layer, published by another distribution."""
    package = tmp_path / "broken_backend"
    package.mkdir()
    (package / "deaf.py").write_text(
        "from strop.running.reference import ReferenceBackend\n"
        "class Runner:\n"
        "    def __init__(self, inner): self.inner = inner\n"
        "    def run(self, signals):\n"
        "        spikes = self.inner.run(signals)\n"
        "        name = list(spikes)[-1]\n"
        "        return {**spikes, name: spikes[name] & False}\n"
        "    def close(self): pass\n"
        "class Deaf(ReferenceBackend):\n"
        "    name = 'deaf'\n"
        "    def prepare(self, graph, **options): return Runner(super().prepare(graph))\n"
    )
    info = package / "deaf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deaf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[strop.backends]\ndeaf = deaf:Deaf\n")
    result = strop_process(
        *("verify", folder / "tiny.keras", "--data", folder / "data.npz", "--backends", "deaf"),
        *("--json", tmp_path / "out.json"),
        PYTHONPATH=os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]),
    )
    assert result.returncode == 1, result.stderr
    assert "FAILED" in result.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["passed"] is False
    assert found["backends"]["deaf"]["faults"] > 0
    assert found["backends"]["deaf"]["frames_with_faults"] > 0


def test_predict_writes_spikes_output_and_classes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.npz"
    result = strop(
        "predict",
        folder / "tiny.keras",
        "--data",
        folder / "data.npz",
        "--backend",
        "reference",
        "--out",
        out,
    )
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout
    with np.load(out) as found:
        assert found["classes"].shape == (30,)
        assert found["output"].shape == (30, 4)
        np.testing.assert_array_equal(found["output"].argmax(axis=1), found["classes"])
        assert found["spikes/edges"].shape == (30, 6, 6, 4)
        assert found["spikes/edges"].any()


def test_inspect_shows_what_a_model_becomes(folder: Path, tmp_path: Path) -> None:
    result = strop("inspect", folder / "tiny.keras", "--json", tmp_path / "i.json", "--target", "reference")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "i.json").read_text())
    assert found["graph"]["neurons"] == 6 * 6 * 4 + 3 * 3 * 4 + 20
    assert found["graph"]["synapses"] == 36 * 9 * 4 + 36 * 4 + 36 * 20
    assert found["graph"]["depth"] == 3
    assert found["graph"]["expanded_bytes"] == 24 * found["graph"]["synapses"]
    assert found["target"]["name"] == "reference"
    assert "Convolution" in result.stdout


def test_inspect_takes_frames_with_any_target_and_with_none(folder: Path, tmp_path: Path) -> None:
    for more in ((), ("--target", "reference")):
        out = tmp_path / "i.json"
        result = strop("inspect", folder / "tiny.strop", "--data", folder / "data.npz", "--json", out, *more)
        assert result.returncode == 0, result.stderr
        assert json.loads(out.read_text())["activity"]["frames"] == 30
    refused(strop("inspect", folder / "tiny.strop", "--data", folder / "d.npz"), 2, "d.npz", "does not exist")
    refused(strop("inspect", folder / "tiny.strop", "--data", folder / "wrong_shape.npz"), 2, "(n, 8, 8, 1)")


def test_backends_are_listed_with_versions_and_advice() -> None:
    result = strop("backends")
    assert result.returncode == 0
    assert "reference" in result.stdout
    assert "numpy" in result.stdout
    assert "brian2" in result.stdout


def test_help_and_version() -> None:
    assert strop("--version").stdout.startswith("strop 0.")
    for command in ("verify", "predict", "inspect", "backends", "export", "train", "demo"):
        result = strop(command, "--help")
        assert result.returncode == 0
        assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("missing.npz", ["missing.npz", "does not exist"]),
        ("text.npz", ["text.npz", "cannot be read"]),
        ("truncated.npz", ["truncated.npz", "cannot be read"]),
        ("pickled.npz", ["pickled.npz"]),
        ("no_x.npz", ["no_x.npz", "'x'", "images"]),
        ("empty.npz", ["empty.npz", "no frames"]),
        ("unequal.npz", ["30 frames", "3 labels"]),
        ("wrong_shape.npz", ["(30, 5, 8, 1)", "(n, 8, 8, 1)"]),
    ],
)
def test_bad_data_ends_with_one_line_and_exit_code_2(folder: Path, tmp_path: Path, data: str, words: list[str]) -> None:
    out = tmp_path / "p.npz"
    result = strop("predict", folder / "tiny.strop", "--data", folder / data, "--backend", "reference", "--out", out)
    refused(result, 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("missing.keras", ["missing.keras", "does not exist"]),
        ("text.npz", ["text.npz"]),
        ("data.npz", ["data.npz"]),
        ("half.keras", ["sharpened to 0.5"]),
        ("relu.keras", ["'corners'", "relu", "SpikingBReLU"]),
    ],
)
def test_bad_models_end_with_one_line_and_exit_code_2(folder: Path, model: str, words: list[str]) -> None:
    # One of them in a process of its own, where TensorFlow starts up and has much to say.
    refused((strop_process if model == "half.keras" else strop)("inspect", folder / model), 2, *words)


def test_unknown_backends_end_with_exit_code_3(folder: Path) -> None:
    result = strop("verify", folder / "tiny.strop", "--data", folder / "data.npz", "--backends", "reference,nope")
    refused(result, 3, "'nope'", "known are")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["fly"]),
        (["verify"], ["model"]),
        (["verify", "m.keras"], ["--data"]),
        (["verify", "m.keras", "--data", "d.npz", "--limit", "0"], ["--limit"]),
        (["train", "digits", "--out", "m.keras", "--report", __file__], ["a report needs a folder"]),
        (["demo", "--report", __file__], ["a report needs a folder"]),
        (["train", "cifar", "--out", "m.keras"], ["cifar"]),
        (["train", "digits", "--out", "m.h5"], [".keras"]),
        (["train", "digits", "--out", "nowhere/m.keras"], ["nowhere"]),
        (["train", "digits", "--out", "m.keras", "--weight-bits", "9"], ["weight_bits", "from 1 (signs) to 8"]),
        (["train", "mnist", "--out", "m.keras", "--data", "nowhere.npz"], ["nowhere.npz"]),
    ],
)
def test_bad_arguments_end_with_one_line_and_exit_code_2(arguments: list[str], words: list[str]) -> None:
    result = strop(*arguments)
    assert words[0].lower() in result.stderr.lower()
    refused(result, 2)


def test_out_files_in_missing_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "p.npz"
    result = strop(
        "predict",
        folder / "tiny.strop",
        "--data",
        folder / "data.npz",
        "--backend",
        "reference",
        "--out",
        out,
    )
    refused(result, 2, "nowhere")


@pytest.mark.several_extras
def test_memory_limits_are_kept_before_anything_is_expanded(folder: Path) -> None:
    pytest.importorskip("brian2")
    result = strop(
        *("verify", folder / "tiny.strop", "--data", folder / "data.npz", "--backends", "brian2"),
        STROP_MEMORY_LIMIT="20000",
    )
    refused(result, 2, "synapses", "the limit is 20.0 kB", "reference")
