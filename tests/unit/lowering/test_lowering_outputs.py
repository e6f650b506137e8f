"""Outputs are compared with Keras's own: what is wrong in a read-out fails, whatever the spikes say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from corruption import lowered_as, with_graph, with_readout  # noqa: E402
from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.graph import Dense, Graph, Readout  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator  # noqa: E402

L = keras.layers


def classifier(*head: keras.layers.Layer) -> tuple[keras.Model, np.ndarray]:
    model = keras.Sequential([L.Input((12,)), L.Dense(20), SpikingBReLU(1.0), L.Dense(16), SpikingBReLU(1.0), *head])
    rng = np.random.default_rng(3)
    randomise(model, rng)
    return model, rng.random((60, 12)).astype(np.float32)


HEADS: dict[str, Callable[[], list[keras.layers.Layer]]] = {
    "linear": lambda: [L.Dense(4)],
    "softmax": lambda: [L.Dense(4, activation="softmax")],
    "key": lambda: [SoftmaxDecode(key_generator(4, 16, seed=1), temperature=4.0)],
}


def _bias(readout: Readout) -> Readout:
    return replace(readout, bias=readout.bias + np.array([0.0, 0.0, 0.01, 0.0]))


def _exchanged(readout: Readout) -> Readout:
    operator, bias = readout.operators[0], np.broadcast_to(readout.bias, (4,))
    assert isinstance(operator, Dense)
    return replace(readout, operators=(Dense(operator.weight[:, [1, 0, 2, 3]]),), bias=bias[[1, 0, 2, 3]])


def _weights(readout: Readout) -> Readout:
    operator = readout.operators[0]
    assert isinstance(operator, Dense)
    return replace(readout, operators=(Dense(operator.weight * 1.001),))


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("change", [_bias, _exchanged, _weights])
def test_a_corrupted_readout_fails(head: str, change: Callable[[Readout], Readout]) -> None:
    model, frames = classifier(*HEADS[head]())
    labels = np.zeros(60, int)
    assert strop.verify(model, frames, labels, backends=["reference"]).verdict == "passed"
    with lowered_as(lambda graph: with_readout(graph, change)):
        report = strop.verify(model, frames, labels, backends=["reference"])
    assert report.keras is not None
    assert not report.passed
    assert sum(layer.faults for layer in report.keras.layers) == 0
    assert report.keras.outputs[0].faults > 20
    assert "differs from the read-out's" in report.problems()[0]
    assert "FAULTS" in str(report)


def test_outputs_of_a_right_readout_are_within_a_few_roundings() -> None:
    for head in HEADS.values():
        model, frames = classifier(*head())
        report = strop.verify(model, frames, backends=["reference"])
        assert report.keras is not None
        (output,) = report.keras.outputs
        assert (output.values, output.faults, output.ties) == (240, 0, 0)
        assert output.largest_difference < 2e-5


def two_outputs() -> tuple[keras.Model, np.ndarray]:
    inputs = keras.Input((10,))
    x = SpikingBReLU(1.0)(L.Dense(14)(inputs))
    spikes = SpikingBReLU(1.0, name="code")(L.Dense(5)(x))
    values = L.Dense(5, name="values")(x)
    model = keras.Model(inputs, [values, spikes, L.Dense(5, activation="softmax", name="classes")(spikes)])
    rng = np.random.default_rng(8)
    randomise(model, rng)
    return model, rng.random((50, 10)).astype(np.float32)


def test_every_output_of_a_model_is_compared() -> None:
    model, frames = two_outputs()
    report = strop.verify(model, frames, backends=["reference"])
    assert report.keras is not None
    assert report.verdict == "passed", str(report)
    assert [(o.name, o.values, o.faults) for o in report.keras.outputs] == [
        ("values", 250, 0),
        ("code", 250, 0),
        ("classes", 250, 0),
    ]


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_outputs_in_a_wrong_order_fail(order: tuple[int, ...]) -> None:
    model, frames = two_outputs()

    def exchange(graph: Graph) -> Graph:
        return with_graph(graph, outputs=tuple(graph.outputs[n] for n in order))

    with lowered_as(exchange):
        report = strop.verify(model, frames, backends=["reference"])
    assert report.keras is not None
    assert not report.passed
    assert sum(output.faults > 0 for output in report.keras.outputs) >= 2


def test_a_softmax_that_float32_cannot_tell_apart_is_a_tie_and_no_fault() -> None:
    """Two classes with the same weights but for one rounding: Keras may name either."""
    model, frames = classifier(L.Dense(4, activation="softmax"))
    kernel, bias = model.layers[-1].get_weights()
    kernel[:, 1] = np.nextafter(kernel[:, 0], np.float32(9))
    bias[:] = (1.0, 1.0, -9.0, -9.0)
    model.layers[-1].set_weights([kernel, bias])
    report = strop.verify(model, frames, backends=["reference"])
    assert report.keras is not None
    assert report.keras.faults == 0
    assert report.backends["reference"].unexplained == 0


def test_the_decision_as_spikes_is_compared_with_keras_too() -> None:
    model, frames = classifier(L.Dense(4, activation="softmax"))
    report = strop.verify(model, frames, backends=["reference"], decision="spikes")
    assert report.keras is not None
    assert report.passed
    assert report.keras.outputs[0].faults == 0

    def exchange(graph: Graph) -> Graph:
        return with_readout(graph, lambda readout: replace(readout, operators=(Dense(np.eye(4)[:, [1, 0, 2, 3]]),)))

    with lowered_as(exchange):
        wrong = strop.verify(model, frames, backends=["reference"], decision="spikes")
    assert not wrong.passed


def test_two_winners_are_a_fault_though_the_argmax_is_right() -> None:
    model, frames = classifier(L.Dense(4, activation="softmax"))
    both = np.array([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]])

    def crowd(graph: Graph) -> Graph:
        return with_readout(graph, lambda readout: replace(readout, operators=(Dense(both),)))

    with lowered_as(crowd):
        report = strop.verify(model, frames, backends=["reference"], decision="spikes")
    assert not report.passed


def rounded_away(kind: str) -> keras.Model:
    """Read-outs of large weights that cancel: float32 leaves nothing of a bias of 0.5."""
    rng = np.random.default_rng(3)
    classes = 1 if kind == "regression" else 4
    model = keras.Sequential([L.Input((6,)), L.Dense(8), SpikingBReLU(1.0), L.Dense(classes)])
    if kind == "softmax":
        model.add(L.Softmax())
    half = rng.normal(size=(6, 4))
    model.layers[0].set_weights([np.tile(half, 2), np.full(8, 0.3)])
    large = np.repeat(rng.normal(size=(4, 1)) * (1e30 if kind == "regression" else 1e7), classes, axis=1)
    model.layers[2].set_weights([np.concatenate([large, -large]), 0.5 * np.arange(classes)])
    return model


@pytest.mark.parametrize("kind", ["regression", "softmax", "linear"])
def test_outputs_that_rounding_decides_are_a_reservation(kind: str) -> None:
    """The planted values of the self-check are found even there."""
    frames = np.random.default_rng(4).normal(size=(40, 6)).astype(np.float32)
    report = strop.verify(rounded_away(kind), frames, backends=("reference",))
    assert report.keras is not None
    (output,) = report.keras.outputs
    assert output.undecided > 0.5 * output.values
    assert report.to_dict()["keras"]["outputs"][0]["undecided"] == output.undecided
    if report.passed:
        assert report.verdict == "passed with reservations"
        assert f"of output {output.name!r} either way" in " ".join(report.reservations())
    assert not strop.verify(rounded_away(kind), frames, backends=("reference",), strict=True).passed


@pytest.mark.parametrize("end", ["linear", "relu", "softmax", "sigmoid", "argmax", "mean of softmaxes"])
def test_outputs_that_are_clear_are_none(end: str) -> None:
    """Classes that win by the order of exactly equal scores are clear, too."""
    rng = np.random.default_rng(3)
    x = keras.Input((6,))
    spikes = SpikingBReLU(1.0)(L.Dense(12)(x))
    kinds = {"argmax": None, "mean of softmaxes": "softmax"}
    ends = [L.Dense(3, activation=kinds.get(end, end))(spikes) for _ in range(2)]
    last = L.Average()(ends) if end == "mean of softmaxes" else ends[0]
    model = keras.Model(x, keras.ops.argmax(last, axis=-1) if end == "argmax" else last)
    for layer in model.layers[1:]:
        layer.set_weights([rng.integers(-2, 3, w.shape) if w.ndim else w for w in layer.get_weights()])
    report = strop.verify(model, rng.normal(size=(60, 6)).astype(np.float32), backends=("reference",))
    assert report.keras is not None
    assert report.keras.outputs[0].undecided == 0
    assert report.verdict == "passed"


@pytest.mark.parametrize("end", [None, "softmax", "sigmoid", "relu"])
def test_an_output_that_overflows_fails_and_says_so(end: str | None) -> None:
    model = keras.Sequential([L.Input((6,)), L.Dense(8), SpikingBReLU(1.0), L.Dense(3, activation=end)])
    model.layers[0].set_weights([np.ones((6, 8)), np.zeros(8)])
    model.layers[2].set_weights([np.tile([3e38, 3e38, 1.0], (8, 1)), np.zeros(3)])
    report = strop.verify(model, np.ones((5, 6), np.float32), backends=("reference",))
    assert report.verdict != "passed"
    assert report.passed == (end == "sigmoid")  # a sigmoid of infinity is 1
    if not report.passed:
        assert "not finite" in str(report)
    json.dumps(report.to_dict(), allow_nan=False)
