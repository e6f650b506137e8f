"""Errors planted in what prepares frames for the graph are faults of the verification: Keras sees the user's own."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402
from strop.running import encode as encoding_module  # noqa: E402

L = keras.layers
FRAMES = np.random.default_rng(0).integers(0, 256, (200, 12)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    made = keras.Sequential([L.Input((12,)), L.Dense(60), SpikingBReLU(1.0), L.Dense(8), SpikingBReLU(1.0)])
    randomise(made, np.random.default_rng(0))
    return made


def verified(model: keras.Model, encoding: str) -> strop.Report:
    return strop.verify(model, FRAMES, backends=["reference"], encoding=encoding)


@pytest.mark.parametrize("encoding", ["host", "bitplane", "binary"])
def test_nothing_is_wrong_without_an_error(model: keras.Model, encoding: str) -> None:
    assert verified(model, encoding).passed


def planted(monkeypatch: pytest.MonkeyPatch, name: str, change: Any) -> None:
    """Replace a function of `strop.running.encode`, wherever it was imported, by `change(what it gave, its node)`."""
    honest = getattr(encoding_module, name)

    def wrong(node: Any, frames: Any, *rest: Any) -> Any:
        return change(honest(node, frames, *rest), node)

    ours = [module for title, module in sys.modules.items() if title.startswith("strop.")]
    places = [module for module in ours if vars(module).get(name) is honest]
    assert encoding_module in places
    for module in places:
        monkeypatch.setattr(module, name, wrong)


def _swapped_planes(planes: np.ndarray, node: Any) -> np.ndarray:
    by_bit = planes.reshape(*planes.shape[:-1], -1, node.bits).copy()
    by_bit[..., [2, 3]] = by_bit[..., [3, 2]]
    return by_bit.reshape(planes.shape)


@pytest.mark.parametrize(
    ("encoding", "name", "change"),
    [
        ("host", "frames_of_input", lambda frames, node: frames * np.float32(255 / 254)),
        ("host", "frames_of_input", lambda frames, node: frames * np.float32(255)),
        ("host", "frames_of_input", lambda frames, node: frames[:, ::-1]),
        ("host", "frames_of_input", lambda frames, node: np.roll(frames, 1, axis=0)),
        ("host", "_encode", lambda signal, node: np.where(signal > 0.99, 0.0, signal)),
        ("binary", "frames_of_input", lambda frames, node: frames * np.float32(255 / 254)),
        ("binary", "frames_of_input", lambda frames, node: frames - np.float32(0.01)),
        ("binary", "_encode", lambda spikes, node: ~spikes),
        ("bitplane", "_encode", _swapped_planes),
        ("bitplane", "frames_of_input", lambda frames, node: np.float32(1) - frames),
    ],
)
def test_an_error_in_the_preparation_is_a_fault(
    model: keras.Model, encoding: str, name: str, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, name, change)
    report = verified(model, encoding)
    assert not report.passed
    assert report.keras is not None
    assert report.keras.faults > 0
    assert report.backends["reference"].passed, "the simulator did what it was given"


@pytest.mark.parametrize(("encoding", "level"), [("binary", 0.51), ("binary", 0.49)])
def test_a_threshold_of_the_binary_encoding_that_moved_is_a_fault(
    model: keras.Model, encoding: str, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding_module, "_encode", lambda node, frames: frames >= level)
    assert not verified(model, encoding).passed


def test_the_frames_that_keras_is_shown_come_from_no_function_of_the_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = import_module("strop.lowering.keras_frames")
    assert not any(
        getattr(value, "__module__", "").startswith("strop.running.encode") for value in vars(shown).values()
    )
