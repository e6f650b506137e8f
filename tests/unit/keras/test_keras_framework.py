"""Keras runs on the framework that is installed; in tox `keras-jax` and `keras-torch` that is not TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed in this environment")

from strop.keras import framework  # noqa: E402


@pytest.fixture
def unimported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As before Keras was imported, with a home of its own."""
    monkeypatch.delitem(sys.modules, "keras")
    # Set before it is deleted: what the test itself sets is then undone where it was not set before.
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(framework, "find_spec", lambda name: object() if name in names else None)


def configure(home: Path, text: str) -> None:
    (home / "keras.json").write_text(text, "utf-8")


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is installed, and Keras's default")
def test_strop_starts_without_tensorflow_and_without_a_word(unimported: Path) -> None:
    code = (
        "import strop.keras.framework as f, keras; print(keras.backend.backend(), f.describe_framework(), sep=chr(10))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, described = done.stdout.splitlines()
    assert name in ("jax", "torch")
    assert f" on {name} " in described


@pytest.mark.parametrize(("installed", "chosen"), [(("jax",), "jax"), (("torch",), "torch"), (("jax", "torch"), "jax")])
def test_what_is_installed_is_chosen(
    monkeypatch: pytest.MonkeyPatch, unimported: Path, installed: tuple[str, ...], chosen: str
) -> None:
    install(monkeypatch, *installed)
    framework.choose_framework()
    assert os.environ["KERAS_BACKEND"] == chosen


def test_the_default_that_keras_wrote_does_not_count_where_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, unimported: Path
) -> None:
    configure(unimported, json.dumps({"backend": "tensorflow"}))
    install(monkeypatch, "torch")
    framework.choose_framework()
    assert os.environ["KERAS_BACKEND"] == "torch"


@pytest.mark.parametrize("text", [json.dumps({"backend": "torch"}), "no JSON", "[]"])
def test_an_installed_choice_stays(monkeypatch: pytest.MonkeyPatch, unimported: Path, text: str) -> None:
    configure(unimported, text)
    install(monkeypatch, "tensorflow", "jax", "torch")
    framework.choose_framework()
    assert "KERAS_BACKEND" not in os.environ


def test_nothing_is_chosen_for_the_user_who_did(monkeypatch: pytest.MonkeyPatch, unimported: Path) -> None:
    install(monkeypatch, "jax")
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    framework.choose_framework()
    assert os.environ["KERAS_BACKEND"] == "numpy"


def test_nothing_is_chosen_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, unimported: Path) -> None:
    install(monkeypatch)
    framework.choose_framework()
    assert "KERAS_BACKEND" not in os.environ


def test_keras_and_its_framework_are_named() -> None:
    assert framework.describe_framework().startswith(f"Keras {keras.__version__} on {keras.backend.backend()}")
