"""What a verification looks at twice, so that a slip in one place of strop does not pass: each slip is made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed in this environment")

from labelled import network  # noqa: E402

import strop  # noqa: E402
from strop.errors import DataError, StropError  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402
from strop.running.label_source import LabelSource  # noqa: E402
from strop.running.oracle import magnitude  # noqa: E402
from strop.running.reference import ReferenceBackend  # noqa: E402
from strop.verification.bounds import SimulatorBound  # noqa: E402
from strop.verification.counts import OutputReport  # noqa: E402

L = keras.layers
FRAMES = np.random.default_rng(3).integers(0, 9, (20, 6)).astype(np.float32) / 8


def model() -> keras.Model:
    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((6,)), L.Dense(9), SpikingBReLU(1.0), L.Dense(3, activation="softmax")])


def test_a_decision_that_was_to_be_taken_in_spikes_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strop.verify(model(), FRAMES, backends="reference", decision="spikes").passed
    monkeypatch.setattr("strop.lowering.driver.winner_of", lambda *_: None)
    with pytest.raises(StropError, match="decided off the simulator, with decision='spikes'"):
        strop.verify(model(), FRAMES, backends="reference", decision="spikes")


def test_scaled_spikes_are_decided_in_spikes_and_plain_ones_are_left() -> None:
    inputs = keras.Input((6,))
    spikes = SpikingBReLU(1.0)(L.Dense(4)(inputs))
    scaled = keras.Model(inputs, spikes * np.float32([0.5, 1.0, 0.75, -0.25]) + 0.125)
    graph = strop.lower(scaled, decision="spikes")
    assert graph.readouts[0].kind == "winner"
    classes = strop.simulate(graph, FRAMES, "reference").classes
    np.testing.assert_array_equal(classes, np.asarray(scaled(FRAMES)).argmax(axis=1))
    assert not strop.lower(keras.Model(inputs, spikes), decision="spikes").readouts


def test_labels_of_a_stream_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    require = LabelSource.require

    def forgetful(self: LabelSource, count: int) -> None:
        calls.append(count)
        if len(calls) > 1:
            require(self, count)

    monkeypatch.setattr(LabelSource, "require", forgetful)
    batches = iter([FRAMES[:12], FRAMES[12:]])
    with pytest.raises(DataError, match="labels must be one per frame: 21 are given for 20 frames"):
        strop.verify(network(), batches, np.arange(21) % 3, backends="reference")


def test_values_of_outputs_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    add = OutputReport.add

    def twice(self: OutputReport, faults: Any, *others: Any) -> None:
        add(self, np.repeat(faults, 2, axis=1), *others)

    monkeypatch.setattr(OutputReport, "add", twice)
    with pytest.raises(StropError, match="120 values of output 'dense.*' were compared, of 60"):
        strop.verify(model(), FRAMES, backends="reference")


class Blurred(ReferenceBackend):
    name = "blurred"
    resolution = 1e-7


def test_a_resolution_excuses_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strop.verify(network(), FRAMES, backends=Blurred()).passed
    monkeypatch.setattr(SimulatorBound, "blur", lambda self, name, signals: 9.0 + magnitude(self.graph, name, signals))
    with pytest.raises(StropError, match=r"excuses more than a resolution of 1\.0e-07 may"):
        strop.verify(network(), FRAMES, backends=Blurred())


def test_frames_that_get_lost_in_a_simulation_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = np.packbits
    monkeypatch.setattr("strop.running.simulate.np.packbits", lambda rows, axis: pack(rows[:-1], axis=axis))
    with pytest.raises(StropError, match=r"20 frames were simulated, and answers of \[19\] came"):
        strop.simulate(network(), FRAMES, "reference")
