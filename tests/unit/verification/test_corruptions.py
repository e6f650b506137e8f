"""Each stage from Keras to the verdict is spoilt on purpose: the verification alone must notice, whoever erred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed in this environment")

from corruption import lowered_as, with_graph  # noqa: E402
from random_networks import random_frames, randomise  # noqa: E402
from spoilt_networks import FRAMES, L, Spoil, noticed, small_chunks, weighted_networks  # noqa: E402, F401

import strop  # noqa: E402
from strop.errors import StropError  # noqa: E402
from strop.graph import Dense, Graph, Input, Population  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU  # noqa: E402
from strop.lowering import decision, rules  # noqa: E402
from strop.lowering.context import Context  # noqa: E402
from strop.lowering.layers import convolutional, merging, operations  # noqa: E402
from strop.lowering.signal import Signal, rearrange  # noqa: E402

source_module = import_module("strop.running.frame_source")
encode_module = import_module("strop.running.encode")
decode_module = import_module("strop.running.decode")


@pytest.mark.parametrize("name", ["vectors", "images", "operations_of_keras"])
@pytest.mark.parametrize("encoding", ["host", "binary", "current"])
def test_what_is_not_spoilt_passes(networks: Any, name: str, encoding: str) -> None:
    assert not noticed(*networks[name], encoding=encoding)


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_faults_planted_in_many_layers_do_not_hide_each_other(frames: int) -> None:
    """More layers than frames that are tried: the self-check must not take a sound comparison for a blind one."""
    rng = np.random.default_rng(0)
    names = [f"p{n}" for n in range(25)]
    links = [(before, name, Dense(rng.normal(size=(6, 6)))) for before, name in zip(["x", *names], names, strict=False)]
    populations = [Population(name, (6,), 0.0, rng.normal(0.0, 0.5, 6)) for name in names]
    graph = Graph.from_nodes([Input("x", (6,))], populations, links, (), names[-1:])
    assert strop.verify(graph, rng.random((frames, 6), np.float32), backends=["reference"]).passed


# Lowering -------------------------------------------------------------------------------------------------------------


class _Instead:
    """A layer with some of its attributes replaced."""

    def __init__(self, layer: Any, **fields: Any) -> None:
        self.__dict__.update(fields)
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


def handled(cls: str, spoilt: Callable[[Any], dict[str, Any]]) -> Spoil:
    """The handler of a layer reads some of the layer's attributes wrongly."""

    def spoil(patch: pytest.MonkeyPatch) -> None:
        layer_class = SoftmaxDecode if cls == "SoftmaxDecode" else getattr(L, cls)
        honest = rules._HANDLERS[layer_class]

        def handler(layer: Any, context: Context, signal: Any) -> Any:
            return honest(_Instead(layer, **spoilt(layer)), context, signal)

        patch.setitem(rules._HANDLERS, layer_class, handler)

    return spoil


def _epsilon_outside_the_root(layer: Any) -> dict[str, Any]:
    """As the original Whetstone merged it: `sqrt(variance) + epsilon`."""
    root = np.sqrt(np.asarray(layer.moving_variance)) + layer.epsilon
    return {"moving_variance": root**2 - layer.epsilon}


def _flatten_backwards(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(
        rules._HANDLERS,
        L.Flatten,
        lambda layer, context, signal: rearrange(signal, lambda index: index.transpose(2, 0, 1).reshape(-1)),
    )


def _same_padding_shifted(patch: pytest.MonkeyPatch) -> None:
    honest = convolutional.same_padding
    patch.setattr(convolutional, "same_padding", lambda *shape: tuple((b, a) for a, b in honest(*shape)))


def _or_for_and_of_pools(patch: pytest.MonkeyPatch) -> None:
    honest = Context._combine
    patch.setattr(Context, "_combine", lambda self, *args: honest(self, *args[:3], np.abs(args[3])))


def _or_for_and_of_merges(patch: pytest.MonkeyPatch) -> None:
    honest = Context.counted
    patch.setattr(Context, "counted", lambda self, signals, least, *rest: honest(self, signals, np.ones(()), *rest))


def _and_for_or_of_merges(patch: pytest.MonkeyPatch) -> None:
    honest = Context.counted
    two = np.asarray(2)
    patch.setattr(Context, "counted", lambda self, signals, least, *rest: honest(self, signals, two, *rest))


def _greater_or_equal_for_greater(patch: pytest.MonkeyPatch) -> None:
    honest = operations._step
    patch.setattr(operations, "_step", lambda *args, strict, **levels: honest(*args, strict=False, **levels))


def _another_threshold(patch: pytest.MonkeyPatch) -> None:
    honest = Context.spiking
    patch.setattr(Context, "spiking", lambda self, signal, at, *levels: honest(self, signal, at + 0.125, *levels))


def _biases_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Signal, "biased", lambda self, bias: self)


def _branches_exchanged(patch: pytest.MonkeyPatch) -> None:
    honest = merging.joined
    # Both branches have eight channels, or seven and eight of them: the sum stays what it is.
    patch.setattr(
        merging, "joined", lambda signals, axis, ends: honest(signals[::-1], axis, _ends(signals[::-1], axis))
    )


def _ends(signals: Any, axis: int) -> Any:
    return np.cumsum([signal.shape[axis] for signal in signals])


LOWERING = [
    ("images", handled("BatchNormalization", _epsilon_outside_the_root)),
    ("images", handled("BatchNormalization", lambda layer: {"gamma": -np.asarray(layer.gamma)})),
    ("images", handled("BatchNormalization", lambda layer: {"center": False})),
    ("images", handled("Conv2D", lambda layer: {"kernel": np.asarray(layer.kernel).swapaxes(0, 1)})),
    ("vectors", handled("Dense", lambda layer: {"kernel": _transposed(layer.kernel)})),
    ("images", _flatten_backwards),
    ("images", _same_padding_shifted),
    ("images", _or_for_and_of_pools),
    ("operations_of_keras", _or_for_and_of_merges),
    ("operations_of_keras", _and_for_or_of_merges),
    ("vectors", _another_threshold),
    ("images", _biases_dropped),
    ("vectors", _branches_exchanged),
]
LOWERING_NAMES = [
    *("epsilon outside the root", "scales negated", "shifts dropped", "rows for columns", "square kernels transposed"),
    *("flattened in another order", "same padding at the other end", "OR for AND in pools", "OR for AND in merges"),
    *("AND for OR in merges", "another threshold", "biases dropped", "branches exchanged"),
]


def _transposed(kernel: Any) -> Any:
    kernel = np.asarray(kernel)
    return kernel.T if kernel.shape[0] == kernel.shape[1] else kernel


@pytest.mark.parametrize(("network", "spoil"), LOWERING, ids=LOWERING_NAMES)
def test_errors_of_lowering_are_noticed(
    networks: Any, monkeypatch: pytest.MonkeyPatch, network: str, spoil: Spoil
) -> None:
    spoil(monkeypatch)
    assert noticed(*networks[network])


def test_at_least_in_place_of_more_than_is_noticed(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = networks["operations_of_keras"]
    before = strop.simulate(strop.lower(model), frames, "reference").spikes
    _greater_or_equal_for_greater(monkeypatch)
    after = strop.simulate(strop.lower(model), frames, "reference").spikes
    if all(np.array_equal(before[name], after[name]) for name in before):
        pytest.fail("no sum meets the threshold, so the test says nothing", pytrace=False)
    assert noticed(model, frames)


@pytest.mark.parametrize("network", ["vectors", "images"])
@pytest.mark.parametrize("lost", [None, 0, 1])
def test_layers_that_the_lowering_forgets_to_show_are_noticed(
    networks: Any, monkeypatch: pytest.MonkeyPatch, network: str, lost: int | None
) -> None:
    """All of them, or a single one: nothing would be compared there."""
    honest, calls = Context._observe, iter(range(1000))

    def observe(self: Context, *args: Any) -> None:
        if lost is not None and next(calls) != lost:
            honest(self, *args)

    monkeypatch.setattr(Context, "_observe", observe)
    model, frames = networks[network]
    with pytest.raises(StropError, match="spikes, and the lowering does not say which population"):
        strop.verify(model, frames, backends=["reference"])


def test_where_keras_shows_no_spikes_it_is_said() -> None:
    """All spikes are inside a wrapped model, of which Keras shows what it makes of them."""
    x = keras.Input((3, 6))
    inner = keras.Sequential([L.Input((6,)), L.Dense(8), SpikingBReLU(1.0), L.Dense(2)])
    model = keras.Model(x, L.Flatten()(L.TimeDistributed(inner)(x)))
    randomise(model, np.random.default_rng(0), coarse=True)
    report = strop.verify(model, random_frames(model, np.random.default_rng(1), 20), backends=["reference"])
    assert report.verdict == "passed with reservations"
    assert "Keras shows the spikes of no layer: only its outputs were compared" in report.reservations()


# Encoding -------------------------------------------------------------------------------------------------------------


def _planes_reversed(patch: pytest.MonkeyPatch) -> None:
    honest = encode_module._bit_planes

    def planes(node: Any, frames: Any) -> Any:
        found = honest(node, frames).reshape(len(frames), *node.shape, node.bits)
        return found[..., ::-1].reshape(len(frames), *node.signal_shape)

    patch.setattr(encode_module, "_bit_planes", planes)


def _level_moved(patch: pytest.MonkeyPatch) -> None:
    honest = encode_module._encode
    patch.setattr(encode_module, "_encode", lambda node, frames: honest(replace(node, level=node.level + 0.25), frames))


def _frames_mirrored(patch: pytest.MonkeyPatch) -> None:
    honest = encode_module._encode
    patch.setattr(encode_module, "_encode", lambda node, frames: honest(node, frames[:, ::-1]))


def _frames_late(patch: pytest.MonkeyPatch) -> None:
    honest = encode_module._encode
    patch.setattr(encode_module, "_encode", lambda node, frames: np.roll(honest(node, frames), 1, axis=0))


def _frames_scaled_before_all(patch: pytest.MonkeyPatch) -> None:
    """What the graph is given is scaled, wherever frames are made ready; Keras has them as the user gave them."""
    honest = encode_module.frames_of_input
    for module in (encode_module, source_module):
        patch.setattr(module, "frames_of_input", lambda *given: honest(*given) / np.float32(255))


@pytest.mark.parametrize(
    ("encoding", "spoil"),
    [
        pytest.param("bitplane", _planes_reversed, id="bit planes reversed"),
        pytest.param("binary", _level_moved, id="level of binary frames moved"),
        pytest.param("host", _frames_mirrored, id="frames mirrored"),
        pytest.param("current", _frames_late, id="frames a step late"),
        pytest.param(
            *("host", _frames_scaled_before_all),
            id="frames scaled before Keras sees them",
        ),
    ],
)
def test_errors_of_encoding_are_noticed(
    networks: Any, monkeypatch: pytest.MonkeyPatch, encoding: str, spoil: Spoil
) -> None:
    model, frames = networks["vectors"]
    if encoding == "bitplane":
        frames = np.round(frames * 255).astype(np.uint8)
    assert not noticed(model, frames, encoding=encoding)
    spoil(monkeypatch)
    assert noticed(model, frames, encoding=encoding)


# Decoding -------------------------------------------------------------------------------------------------------------


def _rows_exchanged(layer: Any) -> dict[str, Any]:
    key = np.asarray(layer.key)
    return {"key": key[[1, 0, *range(2, len(key))]]}


def _logits(change: Callable[[Any, Any], Any]) -> Spoil:
    def spoil(patch: pytest.MonkeyPatch) -> None:
        honest = decode_module.readout_logits
        patch.setattr(decode_module, "readout_logits", lambda readout, spikes: change(readout, honest(readout, spikes)))

    return spoil


DECODING = {
    "rows of the key exchanged": ("vectors", handled("SoftmaxDecode", _rows_exchanged)),
    "another temperature": ("vectors", handled("SoftmaxDecode", lambda layer: {"temperature": 4 * layer.temperature})),
    "bias of the read-out dropped": ("images", _logits(lambda readout, logits: logits - readout.bias)),
    "classes exchanged": ("images", _logits(lambda readout, logits: logits[:, ::-1])),
    "values halved": ("operations_of_keras", _logits(lambda readout, logits: logits / 2)),
    "no softmax": ("images", lambda patch: patch.setitem(decode_module.FUNCTIONS, "softmax", lambda logits: logits)),
}


@pytest.mark.parametrize("name", DECODING)
def test_errors_of_decoding_are_noticed(networks: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    network, spoil = DECODING[name]
    spoil(monkeypatch)
    assert noticed(*networks[network])


def decided_in_spikes() -> tuple[keras.Model, Any]:
    """Logits that are whole numbers, equal ones among them: then the lower class wins."""
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(4)(SpikingBReLU(1.0)(L.Dense(6)(x))))
    randomise(model, np.random.default_rng(4), coarse=True)
    model.layers[-1].set_weights([np.random.default_rng(4).integers(-1, 2, (6, 4)), np.zeros(4)])
    frames = random_frames(model, np.random.default_rng(5), 200, levels=8)
    logits = np.sort(model.predict(frames, verbose=0), axis=1)
    assert np.count_nonzero(logits[:, -1] == logits[:, -2]) > 3, "the test needs logits that are equal"
    return model, frames


def test_two_winners_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal classes that both beat each other: the first that fires is the right one, and yet it is not alone."""
    model, frames = decided_in_spikes()
    assert strop.verify(model, frames, backends=["reference"], decision="spikes").passed
    monkeypatch.setattr(decision, "_least_difference", lambda signal: -1e-3)
    assert not strop.verify(model, frames, backends=["reference"], decision="spikes").passed


def test_classes_that_are_equal_and_decided_otherwise_are_noticed() -> None:
    """Keras's softmax could make different logits equal, but not in so many frames."""

    def upper_class_first(graph: Graph) -> Graph:
        beats = next(p for p in graph.populations if p.name.endswith("/beats"))
        other = replace(beats, threshold=beats.threshold.max() - beats.threshold)
        return with_graph(graph, populations=[other if p is beats else p for p in graph.populations])

    model, frames = decided_in_spikes()
    with lowered_as(upper_class_first):
        report = strop.verify(model, frames, backends=["reference"], decision="spikes")
    assert not report.passed
    assert "lets another class win" in " ".join(report.problems())


def test_a_class_number_that_any_class_may_be_is_no_broken_comparison() -> None:
    """All logits are equal: the self-check plants a number that is no class. Seed 86454 of the random networks."""
    x = keras.Input((6,))
    logits = L.Dense(3, kernel_initializer="zeros")(SpikingBReLU(1.0)(L.Dense(8)(x)))
    model = keras.Model(x, keras.ops.argmax(logits, axis=-1))
    frames = random_frames(model, np.random.default_rng(3), FRAMES)
    report = strop.verify(model, frames, backends=["reference"])
    assert report.passed
    assert report.keras is not None
    assert [output.faults for output in report.keras.outputs] == [0]
