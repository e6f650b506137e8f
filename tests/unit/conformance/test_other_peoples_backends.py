"""Backends from other distributions: found, listed, held against the suite; a broken one breaks nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from registered import install, python_path

from strop.errors import BackendMissingError
from strop.running.registry import available_backends, backend_names, backend_status, get_backend

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "write-a-backend.md"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's own backend, two copies with a mistake, and one that raises on import."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads(code_blocks("toml")[0])["project"]
    (source,) = code_blocks("python")
    install(folder, project["name"], "strop_toy", source, project["entry-points"]["strop.backends"])
    strict = source.replace("current >= threshold", "current > threshold").replace('"toy"', '"toy-strict"')
    assert strict.count("current > threshold") == 1
    install(folder, "strop-toy-strict", "strop_toy_strict", strict, {"toy-strict": "strop_toy_strict:ToyBackend"})
    late = source.replace("trace[source][now - delay]", "trace[source][now - 1]").replace('"toy"', '"toy-late"')
    deaf = source.replace("self.network.weights |= ", "").replace('"toy"', '"toy-deaf"')
    assert "weights |=" not in deaf
    install(folder, "strop-toy-deaf", "strop_toy_deaf", deaf, {"toy-deaf": "strop_toy_deaf:ToyBackend"})
    install(folder, "strop-toy-late", "strop_toy_late", late, {"toy-late": "strop_toy_late:ToyBackend"})
    install(
        folder,
        "strop-toy-broken",
        "strop_toy_broken",
        "raise RuntimeError('the chip is on fire')\n",
        {
            "toy-broken": "strop_toy_broken:ToyBackend",
            "toy-typo": "strop_toy:NoSuchBackend",
            "toy-int": "builtins:int",
        },
    )
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(site))
    return site


def suite(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the conformance suite as a user does, in another process."""
    environment = {**os.environ, "PYTHONPATH": python_path(site)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:nengo",
        "-p",
        "no:nengo_options",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, "-q", "-rsf", "--pyargs", "strop.conformance", *arguments],
        cwd=site,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_they_are_found_and_listed_beside_our_own(installed: Path) -> None:
    assert {"toy", "toy-strict", "toy-broken", "reference"} <= set(backend_names())
    status = backend_status("toy")
    assert status.available
    assert (status.version, status.encodings) == ("toy 0.1", ("host", "bitplane", "binary"))
    assert "toy" in available_backends()


def test_one_that_raises_on_import_is_listed_with_its_error_and_breaks_nothing(installed: Path) -> None:
    status = backend_status("toy-broken")
    assert not status.available
    assert status.problem == "the backend 'toy-broken' is broken: RuntimeError: the chip is on fire"
    assert "NoSuchBackend" in backend_status("toy-typo").problem
    assert "is broken: AttributeError" in backend_status("toy-int").problem
    names = available_backends()
    assert {"toy", "reference"} <= set(names)
    assert not {"toy-broken", "toy-typo", "toy-int"} & set(names)
    with pytest.raises(BackendMissingError, match="the chip is on fire"):
        get_backend("toy-broken")


def test_they_are_gone_when_they_are_uninstalled() -> None:
    assert not any(name.startswith("toy") for name in backend_names())


def test_the_pages_example_passes_the_suite_and_skips_what_it_does_not_offer(site: Path) -> None:
    result = suite(site, "--strop-backend", "toy")
    assert result.returncode == 0, result.stdout
    passed, skipped = (int(re.search(rf"(\d+) {word}", result.stdout)[1]) for word in ("passed", "skipped"))  # type: ignore[index]
    assert passed > 50
    # Four cases with the encoding 'current', and two times each that no options and no surroundings are stated.
    assert skipped == 8
    assert "toy states no variations()" in result.stdout
    assert "toy does not offer the encoding 'current'" in result.stdout


def test_one_comparison_made_strict_fails_the_suite_and_is_named(site: Path) -> None:
    result = suite(site, "--strop-backend", "toy-strict", "-k", "threshold or bias or dense")
    assert result.returncode == 1
    assert "FAILED" in result.stdout
    assert "test_every_spike[toy-strict-threshold_hit_exactly]" in result.stdout
    assert re.search(r"neuron \(\d+,\) stayed silent; its potential is [\d.]+, its threshold", result.stdout)


def test_delays_that_are_ignored_fail_the_skip_cases(site: Path) -> None:
    result = suite(
        site, "--strop-backend", "toy-late", "-k", "skip_delays and every_spike or test_every_spike and dense"
    )
    failed = set(re.findall(r"FAILED \S*::test_every_spike\[toy-late-(\w+)\]", result.stdout))
    if not failed:
        result = suite(site, "--strop-backend", "toy-late", "-k", "every_spike and (skip_delays or dense)")
    failed = set(re.findall(r"FAILED \S*test_every_spike\[toy-late-(\w+)\]", result.stdout))
    assert failed == {"skip_delays", "skip_delays_from_the_input"}
    assert "2 failed, 3 passed" in result.stdout


def test_weights_that_are_set_and_not_taken_fail_the_suite(site: Path) -> None:
    result = suite(site, "--strop-backend", "toy-deaf", "-k", "weights or reset")
    failed = set(re.findall(r"FAILED \S*::(test_\w+)\[", result.stdout))
    assert failed == {"test_weights_changed_in_place", "test_weights_of_the_other_sign"}


@pytest.mark.parametrize(
    ("name", "says"),
    [("toy-broken", "the chip is on fire"), ("nobody", "there is no backend 'nobody'; known are: ")],
)
def test_suite_refuses_a_broken_or_unknown_backend_by_name(site: Path, name: str, says: str) -> None:
    result = suite(site, "--strop-backend", name)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--strop-backend {name}" in result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_suite_needs_neither_keras_nor_tensorflow(site: Path) -> None:
    (site / "blocked").mkdir()
    for name in ("keras", "tensorflow"):
        (site / "blocked" / f"{name}.py").write_text("raise ImportError('not here')\n")
    environment = python_path(site / "blocked", site)
    program = (
        "import sys, pytest\n"
        "code = pytest.main(['-q', '-p', 'no:nengo', '-p', 'no:nengo_options', '-p', 'no:cacheprovider', '--pyargs',"
        " 'strop.conformance', '--strop-backend', 'reference,toy'])\n"
        "print('loaded', sorted({'keras', 'tensorflow', 'brian2', 'nengo'} & set(sys.modules)))\n"
        "sys.exit(code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=site,
        env={**os.environ, "PYTHONPATH": environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "loaded []" in result.stdout


def test_the_pages_backend_can_be_simulated_and_verified(installed: Path) -> None:
    import strop
    from strop.conformance import golden_case

    case = golden_case("classifier")
    result = strop.simulate(case.graph, case.frames, "toy")
    assert result.spikes["dense"].sum() > 50
    assert np.array_equal(result.classes, case.classes)
    report = strop.verify(case.graph, case.frames, backends=("reference", "toy"))
    assert report.passed
    assert set(report.backends) == {"reference", "toy"}
