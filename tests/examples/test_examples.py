"""Every example runs as written, in a small size, and ends with a verification in which every layer spiked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import run_script

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_LAYER = re.compile(r"^│ +(\S+) +│ +([\d,]+) │ +([\d,]+\.\d) │", re.MULTILINE)


def run(folder: Path, name: str, *arguments: object) -> str:
    """Run an example in `folder`; assert that it ended well, that it verified, and that every layer spiked."""
    digits = folder.parent / "digits"
    digits.mkdir(exist_ok=True)
    result = run_script(EXAMPLES / name, *arguments, folder=folder, digits=digits)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "PASSED: every spike and every output is accounted for" in result.stdout
    layers = _LAYER.findall(result.stdout)
    assert len(layers) >= 3, result.stdout
    for layer, _, spikes in layers:
        assert float(spikes.replace(",", "")) > 0, f"{layer} is silent"
    return result.stdout


def figure(pattern: str, output: str) -> float:
    """Return the number that an example printed."""
    found = re.search(pattern, output)
    assert found, f"{pattern!r} is not in:\n{output}"
    return float(found[1])


@pytest.fixture(autouse=True)
def _keras() -> None:
    pytest.importorskip("keras", reason="the examples train Keras models, and Keras is not installed")


def test_every_example_is_tested_and_listed() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {"images.py", "rasters.py"}
    tests = Path(__file__).read_text(encoding="utf-8")
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(scripts) == 12
    for script in scripts:
        assert f'"{script}"' in tests
        assert f"`{script}`" in listed


def test_classify_mnist_trains_anew(tmp_path: Path) -> None:
    output = run(
        tmp_path, "classify_mnist.py", "--train", "--architecture", "mlp",
        "--train-frames", 3000, "--epochs", 4, "--frames", 10, "--out", tmp_path / "trained.keras",
    )  # fmt: skip
    assert figure(r"accuracy of the sharpened network on \d+ test frames: ([\d.]+)%", output) > 50
    assert (tmp_path / "trained.keras").stat().st_size > 100_000


def test_classify_mnist_opens_the_network_that_is_shipped(tmp_path: Path) -> None:
    if not (EXAMPLES / "models" / "mnist_convnet.keras").is_file():
        pytest.skip("examples/models/mnist_convnet.keras is not there")
    output = run(tmp_path, "classify_mnist.py", "--frames", 5)
    assert "opened mnist_convnet.keras" in output
    # Enlarged from 8x8 pixels, where MNIST is not at hand, the digits are unlike any that it was trained on.
    least = 99 if "MNIST: " in output else 30
    assert figure(r"accuracy of the sharpened network on \d+ test frames: ([\d.]+)%", output) > least


def test_autoencoder_paints_better_than_the_mean_image(tmp_path: Path) -> None:
    output = run(
        tmp_path, "autoencoder.py", "--train-frames", 3000, "--epochs", 3, "--frames", 10, "--figure", "painted.png"
    )
    assert figure(r"wrong pixels: ([\d.]+)%", output) < figure(r"the mean image: ([\d.]+)%", output)
    assert (tmp_path / "painted.png").stat().st_size > 2000


def test_segmentation_finds_more_of_the_digit_than_a_threshold(tmp_path: Path) -> None:
    output = run(
        tmp_path, "segmentation.py", "--scenes", 1000, "--epochs", 4, "--frames", 3, "--figure", "masks.png"
    )  # fmt: skip
    assert figure(r"scenes: ([\d.]+)", output) > figure(r"a threshold on the pixels: ([\d.]+)", output)
    assert (tmp_path / "masks.png").stat().st_size > 2000


def test_whetstone_to_spinnaker(tmp_path: Path) -> None:
    output = run(tmp_path, "whetstone_to_spinnaker.py", "--frames", 50, "--out", tmp_path / "folder")
    assert figure(r"(\d+) decisions differ", output) <= 2
    written = {path.name for path in (tmp_path / "folder").iterdir()}
    assert {"run.py", "network.json", "network.npz", "frames.npz", "spynnaker.cfg", "README.md"} <= written


def test_whetstone_to_spinnaker_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "whetstone_to_spinnaker.py", "nothing.h5"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "there is no file nothing.h5" in result.stderr


@pytest.mark.parametrize(
    ("script", "package"),
    [("embed_in_brian2.py", "brian2"), ("embed_in_pynn.py", "nest"), ("embed_in_nengo.py", "nengo")],
)
def test_embedded_network_spikes_as_expected_in_the_users_own_script(tmp_path: Path, script: str, package: str) -> None:
    pytest.importorskip(package)
    output = run(tmp_path, script, "--frames", 20, "--epochs", 4, "--raster", "raster.png")
    assert figure(r"that are not as expected: (\d+)", output) == 0
    assert figure(r"after a lesion .* that are not as expected: (\d+)", output) == 0
    assert figure(r"spiking_brelu_2: (\d+) spikes in 20 frames", output) > 20
    assert (tmp_path / "raster.png").stat().st_size > 5000
    if script != "embed_in_nengo.py":
        assert figure(r"the listener fired (\d+) times", output) > 0


@pytest.mark.parametrize(("script", "package"), [("inside_brian2.py", "brian2"), ("inside_nengo.py", "nengo")])
def test_networks_stay_right_in_a_script_that_does_much_else(tmp_path: Path, script: str, package: str) -> None:
    pytest.importorskip(package)
    output = run(tmp_path, script, "--frames", 20, "--epochs", 4)
    counts = re.findall(r"spikes that are not as expected: (\d+)", output)
    assert counts == ["0"] * (3 if package == "brian2" else 4)
    assert figure(r"expected (\d+) in each", output) > 1000
    if package == "brian2":
        assert figure(r"behind the network: (\d+) spikes", output) > 10
        assert figure(r"weights changed by ([\d.]+)", output) > 0.001
    else:
        assert figure(r"an error of ([\d.]+) at the end", output) < 0.25


@pytest.mark.parametrize(("simulator", "package"), [("nest", "nest"), ("brian2", "brian2"), ("neuron", "neuron")])
def test_networks_stay_right_in_a_pynn_script_that_does_much_else(tmp_path: Path, simulator: str, package: str) -> None:
    pytest.importorskip("pyNN")
    pytest.importorskip(package)
    output = run(tmp_path, "inside_pynn.py", "--simulator", simulator, "--frames", 20, "--epochs", 4)
    assert re.findall(r"not as expected: (\d+)", output) == ["0", "0"]
    assert figure(r"a lesion that changes (\d+) spikes", output) > 100
    assert figure(r"behind the network: (\d+) spikes", output) > 10
    assert figure(r"weights changed by ([\d.]+)", output) > 0.001
    assert "where it was: True" in output


def test_residual_has_delays_on_the_way_past_the_convolutions(tmp_path: Path) -> None:
    output = run(tmp_path, "residual.py", "--train-frames", 2000, "--epochs", 3, "--frames", 5)
    assert re.findall(r"(\S+) -> (\S+): (\d) steps", output) == [
        ("stem", "block_1", "2"), ("block_1", "block_2", "2"), ("block_2", "block_3", "2"),
    ]  # fmt: skip
    assert figure(r"residual network on \d+ test frames: ([\d.]+)%", output) > 30


def test_binarised_has_weights_of_one_bit(tmp_path: Path) -> None:
    output = run(tmp_path, "binarised.py", "--train-frames", 2000, "--epochs", 2, "--frames", 5)
    assert "all of [-1.0, 1.0]" in output
    assert figure(r"accuracy on \d+ test frames: ([\d.]+)%", output) > 60
