"""Ties and faults against Keras: what float32 cannot decide is a tie, what it can is a fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.errors import StropError  # noqa: E402
from strop.graph import Graph, Population  # noqa: E402
from strop.keras import SpikingBReLU, set_sharpness  # noqa: E402

L = keras.layers


def on_the_edge(shift: float) -> tuple[keras.Model, np.ndarray]:
    """A layer whose sums lie within a few float32 roundings of the threshold, plus `shift`."""
    rng = np.random.default_rng(0)
    frames = rng.random((1, 60)).astype(np.float32)
    model = keras.Sequential([L.Input((60,)), L.Dense(400), SpikingBReLU(1.0)])
    kernel = rng.normal(size=(60, 400)).astype(np.float32)
    exact = frames.astype(np.float64) @ kernel.astype(np.float64)
    model.layers[0].set_weights([kernel, (0.5 - exact[0] + shift).astype(np.float32)])
    return model, frames


def test_sums_that_float32_cannot_decide_are_ties_and_so_many_of_them_fail() -> None:
    model, frames = on_the_edge(0.0)
    report = strop.verify(model, frames, backends=("reference",))
    assert report.keras is not None
    assert 3 < report.keras.ties <= 400
    assert report.keras.faults == 0
    assert report.keras.layers[0].undecided > 300
    assert "ties" in str(report)
    # Where rounding decides a hundred comparisons, nothing was verified.
    assert not report.passed
    assert "comparisons in spiking_brelu" in report.problems()[0]


def test_a_tie_now_and_then_passes_and_fails_under_strict() -> None:
    model, frames = on_the_edge(0.0)
    dense = model.layers[0]
    kernel, bias = dense.get_weights()
    fired, _ = spikes_of(model, frames)
    exact = frames.astype(np.float64) @ kernel.astype(np.float64) + bias >= 0.5
    tied = int(np.flatnonzero(fired[0] != exact[0])[0])
    clear = np.arange(400) != tied
    dense.set_weights([kernel, np.where(clear, bias + 0.25 * (-1.0) ** np.arange(400), bias)])
    report = strop.verify(model, frames, backends=("reference",))
    assert report.keras is not None
    assert (report.keras.ties, report.keras.faults, report.verdict) == (1, 0, "passed")
    strict = strop.verify(model, frames, backends=("reference",), strict=True)
    assert not strict.passed
    assert strict.problems() == ["Keras: 1 ties, and strict allows none"]


def spikes_of(model: keras.Model, frames: np.ndarray) -> tuple[np.ndarray, object]:
    from strop.lowering import trace
    from strop.lowering.probe import KerasProbe

    lowering = trace(model)
    spikes, outputs = KerasProbe(model, lowering).run({lowering.graph.inputs[0].name: frames})
    return next(iter(spikes.values())), outputs


@pytest.mark.parametrize("shift", [1e-3, -1e-3])
def test_sums_well_clear_of_the_threshold_are_neither(shift: float) -> None:
    model, frames = on_the_edge(shift)
    report = strop.verify(model, frames, backends=("reference",))
    assert report.keras is not None
    assert (report.keras.ties, report.keras.faults) == (0, 0)
    assert report.keras.layers[0].spikes == (400 if shift > 0 else 0)


def test_ties_cancelled_by_large_biases_are_still_ties() -> None:
    """Batch normalisation subtracts a large mean again: the bound must count the mean, not what is left of the sum."""
    rng = np.random.default_rng(1)
    model = keras.Sequential([L.Input((20,)), L.Dense(300), L.BatchNormalization(epsilon=1e-3), SpikingBReLU(1.0)])
    frames = rng.random((1, 20)).astype(np.float32)
    kernel = rng.normal(size=(20, 300)).astype(np.float32)
    bias = np.full(300, 1000.0, np.float32)
    variance = np.ones(300, np.float32)
    sums = frames.astype(np.float64) @ kernel + bias
    factor = 1.0 / np.sqrt(1.0 + 1e-3)
    mean = (sums[0] - 0.5 / factor).astype(np.float32)
    model.layers[0].set_weights([kernel, bias])
    model.layers[1].set_weights([np.ones(300), np.zeros(300), mean, variance])
    report = strop.verify(model, frames, backends=("reference",))
    assert report.keras is not None
    assert report.keras.faults == 0
    assert report.keras.ties > 0
    assert not report.passed


def test_a_wrong_lowering_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one threshold moved by a hundredth, verification must fail: else it proves nothing."""
    import strop.lowering as lowering

    model = keras.Sequential([L.Input((30,)), L.Dense(100), SpikingBReLU(1.0), L.Dense(50), SpikingBReLU(1.0)])
    randomise(model, np.random.default_rng(0))
    frames = np.random.default_rng(1).random((200, 30)).astype(np.float32)
    honest = lowering.trace(model)
    assert strop.verify(model, frames, backends=("reference",)).passed
    graph = honest.graph
    moved = [
        Population(p.name, p.shape, p.threshold + 0.01 * (n == 1), p.bias) for n, p in enumerate(graph.populations)
    ]
    wrong = Graph(graph.inputs, moved, graph.projections, graph.readouts, graph.outputs)
    monkeypatch.setattr(lowering, "trace", lambda *_, **__: replace(honest, graph=wrong))
    report = strop.verify(model, frames, backends=("reference",))
    assert report.keras is not None
    assert not report.passed
    assert [layer.faults > 0 for layer in report.keras.layers] == [False, True]
    assert report.backends["reference"].passed, "the simulator did what the wrong graph says"


def test_a_model_that_changes_after_lowering_is_noticed() -> None:
    from strop.lowering import trace
    from strop.lowering.probe import KerasProbe

    model = keras.Sequential([L.Input((6,)), L.Dense(5), SpikingBReLU(1.0)])
    randomise(model, np.random.default_rng(3))
    lowering = trace(model)
    probe = KerasProbe(model, lowering)
    set_sharpness(model, 0.3)
    with pytest.raises(StropError, match="no spikes"):
        probe.run({lowering.graph.inputs[0].name: np.random.default_rng(0).random((9, 6)).astype(np.float32)})
