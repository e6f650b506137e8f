"""Lowerings are spoilt on purpose: the explanation says in which layer Keras and the graph differ, and by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed in this environment")

from broken_backends import Broken, at, exchanged, neurons, weights  # noqa: E402
from corruption import lowered_as, with_readout  # noqa: E402
from random_networks import random_frames, randomise  # noqa: E402

import strop  # noqa: E402
from strop.graph import Dense, Graph, Readout  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402
from strop.lowering import rules  # noqa: E402
from strop.lowering.signal import rearrange  # noqa: E402
from strop.verification.explanation.explained import Explanation  # noqa: E402

L = keras.layers


@pytest.fixture(scope="module")
def network() -> tuple[keras.Model, Any]:
    """A pool behind an activation, one before an activation, a flatten, and two dense layers."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((10, 10, 2), name="image")
    x = SpikingBReLU(1.0, name="s1")(L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(x)))
    x = L.Conv2D(5, 3, padding="same")(L.MaxPooling2D(2, name="pool")(x))
    x = SpikingBReLU(1.0, name="s2")(L.MaxPooling2D(2, strides=1)(x))
    x = SpikingBReLU(1.0, name="s3")(L.Dense(20)(L.Flatten()(x)))
    x = SpikingBReLU(1.0, name="s4")(L.Dense(16)(x))
    model = keras.Model(inputs, L.Dense(4, activation="softmax", name="out")(x))
    randomise(model, np.random.default_rng(2))
    return model, random_frames(model, np.random.default_rng(3), 80)


def explained(network: Any, change: Callable[[Graph], Graph]) -> Explanation:
    with lowered_as(change):
        report = strop.verify(*network, backends=["reference"])
    assert not report.passed
    found = report.explanations()[0]
    assert found.comparison == "Keras"
    assert "keras" in found.lines()[-1]
    assert report.to_dict()["keras"]["explanation"] == found.to_dict()
    return found


def _no_bias(values: Any) -> Any:
    return 0.0 * values


LOWERED = {
    "threshold": (neurons("s3", threshold=lambda t: t + 0.125), "s3", "threshold", "in place of 0.625"),
    "biases": (neurons("s3", bias=_no_bias), "s3", "bias", "they have biases, and the graph has none there"),
    "rows": (weights("s3", "s4", exchanged(3, 7)), "s4", "order", "neurons 3 and 7 of s3 are exchanged"),
    "sign": (weights("s3", "s4", lambda w: -w), "s4", "projection", "s3 -> s4 has the other sign"),
    "kernel": (weights("image", "s1", lambda k: k.swapaxes(0, 1)), "s1", "order", "rows and columns"),
    # Keras shows the pool, and the fault is in the layer that it pools.
    "threshold before a pool": (neurons("s2/before_pool", threshold=lambda t: t + 0.2), "s2", "threshold", "of 0.7"),
    "bias before a pool": (neurons("s2/before_pool", bias=at((..., 1), lambda b: b + 0.3)), "s2", "bias", "channel 1"),
    "kernel before a pool": (
        weights("pool", "s2/before_pool", lambda k: k[::-1]),
        *("s2", "order", "the kernel's rows are reversed in projection pool -> s2/before_pool"),
    ),
}


@pytest.mark.parametrize("name", LOWERED)
def test_the_layer_that_was_lowered_wrongly_is_named(network: Any, name: str) -> None:
    change, layer, kind, words = LOWERED[name]
    found = explained(network, change)
    assert [(own.layer, own.cause.kind) for own in found.layers] == [(layer, kind)], found.lines()[0]
    assert f"Keras and the graph differ in layer {layer}; in Keras: " in found.lines()[0]
    assert words in found.lines()[0]
    assert found.layers[0].cause.explained > 0.98


def test_another_order_of_flattening_is_named(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        rules._HANDLERS,
        L.Flatten,
        lambda layer, context, signal: rearrange(signal, lambda index: index.transpose(2, 0, 1).reshape(-1)),
    )
    found = strop.verify(*network, backends=["reference"]).explanations()[0]
    assert found.layers[0].layer == "s3"
    assert "channels first where they should be last (order of flattening)" in found.lines()[0]


def _columns(change: Callable[[Any], Any]) -> Callable[[Readout], Readout]:
    def changed(readout: Readout) -> Readout:
        (operator,) = readout.operators
        assert isinstance(operator, Dense)
        return replace(readout, operators=(Dense(change(np.array(operator.weight))),), bias=change(readout.bias))

    return changed


READOUTS = {
    "a bias": (lambda r: replace(r, bias=np.array(r.bias) + 0.1 * np.eye(4)[1]), "its bias is off: class 1 by -0.1"),
    "classes": (_columns(lambda w: w[..., [1, 0, 2, 3]]), "classes 0 and 1 are exchanged"),
    "all scaled": (_columns(lambda w: 1.25 * w), "scaled by 0.8"),
}


@pytest.mark.parametrize("name", READOUTS)
def test_a_wrong_read_out_is_told_from_wrong_spikes(network: Any, name: str) -> None:
    change, words = READOUTS[name]
    found = explained(network, lambda graph: with_readout(graph, change))
    assert (found.layers, found.outputs[0].output, found.outputs[0].cause.kind) == ((), "out", "read-out")
    assert words in found.lines()[0]
    assert "all spikes are right, the read-out is not" in found.lines()[3]


def test_a_wrong_row_of_a_read_out_is_named(network: Any) -> None:
    spikes = strop.simulate(strop.lower(network[0]), network[1], "reference").spikes["s4"]
    neuron = int(np.abs(spikes.mean(axis=0) - 0.5).argmin())
    row = at(neuron, lambda weight: weight + 0.25 * np.arange(4))
    found = explained(
        network,
        lambda graph: with_readout(graph, lambda r: replace(r, operators=(Dense(row(r.operators[0].weight)),))),  # type: ignore[attr-defined]  # a Dense
    )
    assert f"the weights from neuron {neuron} of s4 to" in found.lines()[0]


def test_keras_and_a_backend_can_fail_for_different_reasons(network: Any) -> None:
    broken = Broken(weights("s3", "s4", lambda w: -w))
    with lowered_as(neurons("s3", threshold=lambda t: t + 0.125)):
        report = strop.verify(*network, backends=[broken])
    keras_says, backend_says = report.explanations()
    assert keras_says.headline == "Keras, layer s3: threshold"
    assert backend_says.headline == "broken, layer s4: projection"
    text = str(report)
    assert text.count("Cause: ") == 2


def test_one_frame_of_keras_is_shown(network: Any) -> None:
    with lowered_as(neurons("s3", threshold=lambda t: t + 0.125)):
        report = strop.verify(*network, backends=[])
        frame = report.explanations()[0].first_frame
        assert frame is not None
        found = strop.explain(*network, "keras", frame)
    assert (found.comparison, found.layer, found.faulty) == ("Keras", "s3", True)
    assert {own.layer: own.spikes for own in found.layers}["s2/before_pool"] is None
    assert "not shown" in str(found)
    assert all(0.5 <= own.potential < own.threshold == 0.625 for own in found.neurons)
