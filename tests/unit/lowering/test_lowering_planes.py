"""Bit planes of any width, step and offset: held against Keras on the frames that users have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.errors import DataError, GraphError  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402

L = keras.layers


def small(*before: keras.layers.Layer, seed: int = 0) -> keras.Model:
    model = keras.Sequential(
        [
            L.Input((6, 6, 2)),
            *before,
            L.Conv2D(3, 3, padding="same"),
            SpikingBReLU(1.0),
            L.Flatten(),
            L.Dense(5),
            SpikingBReLU(1.0),
        ]
    )
    randomise(model, np.random.default_rng(seed))
    return model


def prove(model: keras.Model, frames: Any, **planes: Any) -> strop.Report:
    report = strop.verify(model, frames, backends=("reference",), encoding="bitplane", **planes)
    assert report.passed, str(report)
    assert report.keras is not None
    layers = report.keras.layers
    assert len(layers) == 2
    assert all(0 < layer.spikes < layer.units * len(frames) for layer in layers), "spikes and silence must both occur"
    return report


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_frames_of_any_number_of_bits_are_carried(bits: int) -> None:
    full = (1 << bits) - 1
    whole = np.random.default_rng(bits).integers(0, full + 1, (40, 6, 6, 2))
    model = small()
    prove(model, whole.astype(np.float32) / np.float32(full), bits=bits)
    graph = strop.lower(model, "bitplane", bits=bits)
    assert graph.inputs[0].signal_shape == (6, 6, 2 * bits)


def test_digits_of_seventeen_levels_are_carried() -> None:
    whole = np.random.default_rng(3).integers(0, 17, (40, 6, 6, 2))
    model = small(seed=1)
    prove(model, (whole / 16).astype(np.float32), bits=5, step=1 / 16)
    with pytest.raises(DataError, match=r"no multiple of 1/255 from 0 to 1.*bits, step and offset of strop\.lower"):
        strop.verify(model, (whole / 16).astype(np.float32), backends=("reference",), encoding="bitplane")


def test_floats_up_to_255_that_the_model_itself_rescales_are_carried() -> None:
    whole = np.random.default_rng(4).integers(0, 256, (40, 6, 6, 2))
    prove(small(L.Rescaling(1 / 255), seed=2), whole.astype(np.float32), step=1)


@pytest.mark.parametrize("padded", [False, True])
def test_signed_frames_are_carried_and_a_padding_stays_zero(padded: bool) -> None:
    whole = np.random.default_rng(5).integers(0, 256, (60, 6, 6, 2)).astype(np.float32)
    frames = whole / np.float32(127.5) - np.float32(1)
    before = [L.ZeroPadding2D(1)] if padded else []
    model = small(*before, seed=7)
    prove(model, frames, step=1 / 127.5, offset=-1)
    # The offset is a bias that lacks what lies in the padding, so it is not the same along the border.
    bias = strop.lower(model, "bitplane", step=1 / 127.5, offset=-1).populations[0].bias
    assert not np.array_equal(bias[0, 0], bias[2, 2])


def test_each_of_several_inputs_may_have_its_own_bits() -> None:
    left, right = keras.Input((5,), name="left"), keras.Input((4,), name="right")
    joined = L.Dense(6)(L.Concatenate()([L.Dense(8)(left), L.Dense(8)(right)]))
    model = keras.Model([left, right], SpikingBReLU(1.0)(joined))
    randomise(model, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    frames = [
        rng.integers(0, 4, (30, 5)).astype(np.float32) / np.float32(3),
        rng.integers(0, 17, (30, 4)).astype(np.float32) / np.float32(16),
    ]
    said = {"bits": {"left": 2, "right": 5}, "step": {"right": 1 / 16}}
    report = strop.verify(model, frames, backends=("reference",), encoding="bitplane", **said)
    assert report.passed
    assert report.keras.layers[0].spikes > 0
    graph = strop.lower(model, "bitplane", **said)
    assert [(node.bits, node.step) for node in graph.inputs] == [(2, None), (5, 1 / 16)]


@pytest.mark.parametrize(
    ("encoding", "planes", "message"),
    [
        ("host", {"bits": 4}, "bits=4 says what bit planes stand for, but the encoding is 'host'"),
        ("current", {"step": 0.5}, "step=0.5 says.*give encoding='bitplane' too, or leave step out"),
        ("bitplane", {"bits": 0}, r"bits must lie in 1\.\.24 .*got 0"),
        ("bitplane", {"bits": 25}, r"bits must lie in 1\.\.24 .*got 25"),
        ("bitplane", {"bits": 2.5}, "must be a whole number, got 2.5"),
        ("bitplane", {"bits": True}, "must be a number, got True"),
        ("bitplane", {"bits": {"nobody": 4}}, "bits names 'nobody'; the inputs are"),
        ("bitplane", {"step": -1.0}, "step must be a positive number, got -1.0"),
        ("bitplane", {"offset": float("inf")}, "offset must be a finite number"),
    ],
)
def test_what_says_nothing_of_planes_is_refused(encoding: str, planes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        strop.lower(small(), encoding, **planes)
