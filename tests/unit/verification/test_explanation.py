"""Backends are broken on purpose: the five lines of the explanation must name layer, place and kind of the fault."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from broken_backends import (
    Broken,
    Delayed,
    Remembering,
    Spikes,
    at,
    exchanged,
    images,
    neurons,
    operator,
    vectors,
    weights,
)

import strop
from strop.errors import StropError
from strop.graph import Composed, Dense, Graph, Input, Population, Select
from strop.running.backend import Backend
from strop.verification.explanation.clues import Clues
from strop.verification.explanation.explained import Explanation

verify_module = import_module("strop.verification.verify")  # the attribute strop.verify is the function

FRAMES = np.random.default_rng(1).random((200, 12), np.float32)
PICTURES = np.random.default_rng(1).random((60, 8, 10, 2), np.float32)
BYTES = np.random.default_rng(1).integers(0, 256, (24, 8, 10, 2)).astype(np.uint8)


def explained(graph: Graph, frames: Any, backend: Backend) -> Explanation:
    report = strop.verify(graph, frames, backends=[backend])
    assert not report.passed
    (found,) = report.explanations()
    assert report.to_dict()["backends"][backend.name]["explanation"] == found.to_dict()
    assert len(found.lines()) == 5
    return found


def _flattened(operator_: Any) -> Any:
    order = np.arange(operator_.size_in).reshape(operator_.shape_in).transpose(2, 0, 1).reshape(-1)
    return Composed((Select(operator_.shape_in, order), operator_.stages[1]))


def _shuffled(values: Any) -> Any:
    return values[np.random.default_rng(1).permutation(len(values))]


def _noisy(values: Any) -> Any:
    return values + np.random.default_rng(1).normal(0, 0.2, values.shape)


# What is changed in d2, between d1 and d3: the kind of the cause, and words of the first line.
CHANGED = {
    "a weight": (weights("d1", "d2", at((3, 4), lambda w: w + 1.0)), "weight", "d1[3] -> d2[4] is between 0.9"),
    "a weight's sign": (weights("d1", "d2", at((5, 9), lambda w: -w)), "weight", "d1[5] -> d2[9] has the other sign"),
    "rows exchanged": (weights("d1", "d2", exchanged(3, 7)), "order", "neurons 3 and 7 of d1 are exchanged"),
    "columns exchanged": (weights("d1", "d2", exchanged(3, 7, 1)), "order", "neurons 3 and 7 are exchanged"),
    "a row missing": (weights("d1", "d2", at(3, lambda w: 0 * w)), "weights", "neuron 3 of d1, its row of weights"),
    "a row's sign": (weights("d1", "d2", at(3, lambda w: -w)), "weights", "has the other sign"),
    "a column's sign": (weights("d1", "d2", at((..., 9), lambda w: -w)), "weights", "neuron 9"),
    "rows permuted": (weights("d1", "d2", _shuffled), "order", "the sources of projection d1 -> d2 are permuted"),
    "rows reversed": (weights("d1", "d2", lambda w: w[::-1]), "order", "in reversed order"),
    "memory order": (weights("d1", "d2", lambda w: w.T.reshape(w.shape)), "order", "the kernel is transposed"),
    "a projection's sign": (weights("d1", "d2", lambda w: -w), "projection", "d1 -> d2 has the other sign"),
    "a projection scaled": (weights("d1", "d2", lambda w: 1.2 * w), "weights", "weights count between 1.19"),
    "noise on weights": (weights("d1", "d2", _noisy), "weights", "the weights of d1 -> d2 into"),
    "weights of a few bits": (weights("d1", "d2", lambda w: np.round(64 * w) / 64), "rounding", "8 bits"),
    "a threshold": (neurons("d2", threshold=at(9, lambda t: t + 0.3)), "threshold", "threshold of neuron 9 alone"),
    "all thresholds": (neurons("d2", threshold=lambda t: t + 0.1), "threshold", "every neuron is between 0.59"),
    "a bias": (neurons("d2", bias=at(9, lambda b: b + 0.5)), "threshold", "neuron 9 alone"),
    "no biases": (neurons("d2", bias=lambda b: 0 * b), "bias", "the biases are missing"),
    "other biases": (neurons("d2", bias=lambda b: -1.3 * b), "bias", "fire by another level, each its own"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changes_of_a_dense_layer_are_named(name: str) -> None:
    change, kind, words = CHANGED[name]
    found = explained(vectors(), FRAMES, Broken(change))
    assert [own.layer for own in found.layers] == ["d2"]
    assert found.layers[0].cause.kind == kind, found.lines()[0]
    assert words in found.lines()[0]
    assert "broken errs in layer d2" in found.lines()[0]
    assert found.followers in ((), ("d3",))
    assert not found.layers[0].record_only


SKIPS = {
    "a skip missing": (Broken(weights("d1", "d3", lambda w: 0 * w)), "projection", "d1 -> d3 is missing"),
    "the other one missing": (Broken(weights("d2", "d3", lambda w: 0 * w)), "projection", "d2 -> d3 is missing"),
    "a skip scaled": (Broken(weights("d1", "d3", lambda w: 1.5 * w)), "weights", "d1 -> d3 is scaled"),
    "a skip late": (Delayed("d1", "d3", 1), "delay", "d1 -> d3 arrives 1 frame late (delay 3 rather than 2)"),
    "a skip early": (Delayed("d1", "d3", -1), "delay", "d1 -> d3 arrives 1 frame early (delay 1 rather than 2)"),
    "a column of a skip": (Broken(weights("d1", "d3", exchanged(2, 5, 1))), "order", "d1 -> d3 are permuted"),
}


@pytest.mark.parametrize("name", SKIPS)
def test_of_several_projections_the_wrong_one_is_named(name: str) -> None:
    backend, kind, words = SKIPS[name]
    found = explained(vectors(), FRAMES, backend)
    assert [(own.layer, own.cause.kind) for own in found.layers] == [("d3", kind)], found.lines()[0]
    assert words in found.lines()[0]


def _rolled(spikes: Spikes) -> None:
    spikes["d2"] = np.roll(spikes["d2"], 1, axis=0)


def _all_rolled(spikes: Spikes) -> None:
    for name, values in spikes.items():
        spikes[name] = np.roll(values, -1, axis=0)


def _two_frames(spikes: Spikes) -> None:
    for values in spikes.values():
        values[[10, 11]] = values[[11, 10]]


def _dropped(spikes: Spikes) -> None:
    spikes["d2"] &= np.random.default_rng(5).random(spikes["d2"].shape) > 0.05


def _lost_frame(spikes: Spikes) -> None:
    spikes["d2"][[20, 60]] = False


def _permuted(spikes: Spikes) -> None:
    spikes["d2"] = spikes["d2"][:, np.random.default_rng(3).permutation(24)]


def _constant(neuron: Any, value: bool) -> Callable[[Spikes], None]:
    def lie(spikes: Spikes) -> None:
        spikes["d2"][:, neuron] = value

    return lie


def _flipped(spikes: Spikes) -> None:
    spikes["d2"][17, 4] ^= True


LIES = {
    "late": (_rolled, "delay", "its spikes are 1 frame late"),
    "dropped": (_dropped, "lost spikes", "spikes are lost without a rule"),
    "lost frames": (_lost_frame, "lost spikes", "no neuron fires in 2 of"),
    "permuted": (_permuted, "order", "neurons are permuted"),
    "dead": (_constant(slice(None), False), "silent", "the whole population is dead, none of its 24 neurons"),
    "a dead neuron": (_constant(9, False), "silent", "neuron 9 never fires"),
    "a stuck neuron": (_constant(9, True), "stuck", "neuron 9 fires in every frame"),
    "a single spike": (_flipped, "isolated", "neuron 4 in frame 17"),
}


@pytest.mark.parametrize("name", LIES)
def test_spikes_that_are_recorded_wrongly_are_told_from_spikes_that_are_sent_wrongly(name: str) -> None:
    """d3 got the right spikes of d2, and is not at fault, though it is not what those that were recorded would give."""
    lie, kind, words = LIES[name]
    found = explained(vectors(), FRAMES, Broken(lie=lie))
    assert [(own.layer, own.cause.kind) for own in found.layers] == [("d2", kind)], found.lines()[0]
    assert words in found.lines()[0]
    if name != "a single spike":
        assert found.layers[0].record_only
        assert found.echoes == ("d3",)
        assert "recorded wrongly" in found.lines()[3]


def test_frames_that_are_shifted_or_exchanged_everywhere_are_at_fault_in_the_first_layer_alone() -> None:
    early = explained(vectors(), FRAMES, Broken(lie=_all_rolled))
    assert [(own.layer, own.cause.kind) for own in early.layers] == [("d1", "delay")]
    assert "1 frame early" in early.lines()[0]
    assert early.followers == ("d2", "d3")
    mixed = explained(vectors(), FRAMES, Broken(lie=_two_frames))
    assert "frame 10 has the spikes of frame 11, frame 11 has the spikes of frame 10" in mixed.lines()[0]


@pytest.mark.parametrize(("pauses", "words"), [(False, "potentials are not cleared"), (True, "refractory")])
def test_neurons_that_remember_are_named(pauses: bool, words: str) -> None:
    found = explained(vectors(), FRAMES, Remembering("d2", pauses=pauses))
    assert [(own.layer, own.cause.kind) for own in found.layers] == [("d2", "memory")]
    assert words in found.lines()[0]


def test_a_comparator_is_told_from_a_threshold() -> None:
    """Sums of quarters meet the threshold exactly; `>` is a threshold that is the least bit higher."""
    rng = np.random.default_rng(0)
    links = [("x", "a", Dense(rng.integers(-2, 3, (8, 12)) / 4.0)), ("a", "b", Dense(rng.integers(-2, 3, (12, 9)) / 4))]
    graph = Graph.from_nodes(
        [Input("x", (8,), "binary")],
        [Population("a", (12,), 0.5, 0.0), Population("b", (9,), 0.5, 0.0)],
        links,
        (),
        "b",
    )
    frames = rng.random((60, 8), np.float32)
    strict = explained(graph, frames, Broken(neurons("b", threshold=lambda t: np.nextafter(t, 1.0))))
    assert [(own.layer, own.cause.kind) for own in strict.layers] == [("b", "comparator")]
    assert "the comparator is > and not >=" in strict.lines()[0]
    above = neurons("b", threshold=lambda t: np.nextafter(t, 1.0))(graph)
    loose = explained(above, frames, Broken(neurons("b", threshold=lambda t: np.nextafter(t, 0.0))))
    assert "the comparator is >= and not >" in loose.lines()[0]


def test_faults_within_float32_are_called_rounding() -> None:
    """Two sums that are equal but for the last bits of float32, in either order."""
    rng = np.random.default_rng(0)
    weight = np.concatenate([rng.normal(size=(30, 20)), np.zeros((1, 20))])
    signs = rng.choice([-1.0, 1.0], 20)
    weight[30] = 0.5 - weight[:30].sum(axis=0) + 1e-9 * signs
    graph = Graph.from_nodes(
        [Input("x", (31,), "binary")],
        [Population("a", (31,), 0.5, 0.0), Population("b", (20,), 0.5, 0.0)],
        [("x", "a", Select((31,), np.arange(31))), ("a", "b", Dense(weight))],
        (),
        "b",
    )
    frames = np.concatenate([np.ones((5, 31), np.float32), (rng.random((40, 31)) > 0.5).astype(np.float32)])
    found = explained(graph, frames, Broken(weights("a", "b", at(30, lambda w: w - 2e-9 * signs))))
    assert [(own.layer, own.cause.kind) for own in found.layers] == [("b", "rounding")]
    assert "float32" in found.lines()[0]


PICTURED = {
    "rows for columns": (weights("pool", "conv2", lambda k: k.swapaxes(0, 1)), "conv2", "rows and columns"),
    "flipped": (weights("pool", "conv2", lambda k: k[::-1, ::-1]), "conv2", "the kernel is flipped"),
    "channels": (weights("pool", "conv2", lambda k: k.swapaxes(2, 3)), "conv2", "incoming and outgoing channels"),
    "tap": (weights("image", "conv", at((1, 1, 0, 1), lambda w: -w)), "conv", "kernel weight [1, 1, 0, 1]"),
    "channel's bias": (neurons("conv", bias=at((..., 2), lambda b: b + 0.2)), "conv", "the bias of channel 2 is off"),
    "channel": (weights("pool", "conv2", at((..., 2, slice(None)), lambda k: 0 * k)), "conv2", "channel 2 of pool"),
    "a pool that is AND": (neurons("pool", threshold=lambda t: t + 3.0), "pool", "all of their sources do (AND)"),
    "flattened": (operator("conv2", "code", _flattened), "code", "channels first where they should be last"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURED)
def test_changes_of_feature_maps_are_named(name: str) -> None:
    change, layer, words = PICTURED[name]
    found = explained(images(), PICTURES, Broken(change))
    assert [own.layer for own in found.layers] == [layer]
    assert words in found.lines()[0]
    assert found.layers[0].cause.explained == 1.0


def _planes(order: list[int]) -> Callable[[Any], Any]:
    return lambda k: k.reshape(3, 3, 2, 8, 4)[:, :, :, order].reshape(k.shape)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_planes([7, 6, 5, 4, 3, 2, 1, 0]), "bit planes in reversed order"),
        (_planes([0, 1, 2, 3, 4, 6, 5, 7]), "bit planes 5 and 6 exchanged"),
        (lambda k: (k.reshape(3, 3, 2, 8, 4) * (np.arange(8) != 6)[:, None]).reshape(k.shape), "bit plane 6 of image"),
    ],
)
def test_wrong_bit_planes_are_named(change: Callable[[Any], Any], words: str) -> None:
    found = explained(images("bitplane"), BYTES, Broken(weights("image", "conv", change)))
    assert [own.layer for own in found.layers] == ["conv"]
    assert words in found.lines()[0]


# What is said beside the cause ---------------------------------------------------------------------------------------


def test_the_first_fault_is_shown_with_potential_threshold_and_synapses() -> None:
    graph = vectors()
    found = explained(graph, FRAMES, Broken(CHANGED["a weight"][0]))
    first = found.layers[0].first
    assert first is not None
    assert (first.layer, first.neuron, first.observed) == ("d2", (4,), True)
    signals = {"x": FRAMES.astype(np.float64)}
    spikes = strop.simulate(graph, FRAMES, "reference").spikes
    own = graph.incoming("d2")[0].operator.apply(spikes["d1"])[first.frame, 4] + graph.population("d2").bias[4]
    assert first.potential == pytest.approx(own)
    assert first.potential < first.threshold == 0.5
    assert sum(one.value for one in first.contributions) + first.bias == pytest.approx(own) or first.synapses > 5
    assert first.synapses == np.count_nonzero(spikes["d1"][first.frame])
    sizes = [abs(one.value) for one in first.contributions]
    assert sizes == sorted(sizes, reverse=True)
    cause, line, extent, origin, look = found.lines("net.strop --data d.npz")
    assert cause.startswith("Cause: ")
    assert f"frame {first.frame}, neuron [4] of d2: potential" in line
    assert "a spike too many" in line
    assert extent.startswith(f"Extent: {found.layers[0].faults} faults in d2 (0 missing, {found.layers[0].faults} too")
    assert "1 of 24 neurons (neuron 4)" in extent
    assert "all faults trace back to one neuron, neuron 4 of d2; what differs in d3 follows from its spikes" in origin
    assert look.endswith(f"strop explain net.strop --data d.npz --backend broken --frame {first.frame} --layer d2")
    assert signals["x"].shape == (200, 12)


def test_two_layers_at_fault_are_both_explained() -> None:
    def both(graph: Graph) -> Graph:
        return neurons("d3", threshold=lambda t: t + 0.2)(weights("d1", "d2", at((3, 4), lambda w: w + 1.0))(graph))

    found = explained(vectors(), FRAMES, Broken(both))
    assert [(own.layer, own.cause.kind) for own in found.layers] == [("d2", "weight"), ("d3", "threshold")]
    assert "not all from d2; also at fault is d3, by itself: the threshold of every neuron" in found.lines()[3]


def test_backends_that_err_alike_are_explained_once() -> None:
    class Other(Broken):
        name = "other"

    change = CHANGED["all thresholds"][0]
    report = strop.verify(vectors(), FRAMES[:50], backends=[Broken(change), Other(change), "reference"])
    text = str(report)
    assert text.count("Cause: ") == 1
    assert "The same on other." in text
    assert [line.split(":")[0] for line in text.splitlines()[-6:-1]] == ["Cause", "First", "Extent", "Origin", "Look"]
    assert "Cause" not in str(strop.verify(vectors(), FRAMES[:50], backends=["reference"]))


def test_chunks_do_not_change_the_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explained(vectors(), FRAMES, Broken(CHANGED["rows exchanged"][0]))
    monkeypatch.setattr(verify_module, "chunk_size", lambda graph: 7)
    assert explained(vectors(), FRAMES, Broken(CHANGED["rows exchanged"][0])).to_dict() == whole.to_dict()
    late = explained(vectors(), FRAMES, Delayed("d1", "d3", 1))
    assert "d1 -> d3 arrives 1 frame late" in late.lines()[0]


def test_what_is_kept_does_not_grow_with_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Clues] = []
    totals = import_module("strop.verification.totals")
    monkeypatch.setattr(totals, "Clues", lambda *given: kept.append(Clues(*given)) or kept[-1])
    for repeats in (5, 50):
        frames = np.concatenate([FRAMES] * repeats)
        found = explained(vectors(), frames, Broken(CHANGED["all thresholds"][0]))
        assert found.layers[0].faults == repeats * kept[0].counts["d2"].neurons.sum() / 5
    assert kept[0].kept == kept[1].kept
    assert 267 < kept[1].kept <= 400
    # Nothing is kept of what is right.
    strop.verify(vectors(), FRAMES, backends=["reference"])
    assert kept[-1].kept == 0


def test_a_fault_in_a_late_layer_is_not_crowded_out_by_an_early_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of the first layer's faults fill the sample; a single wrong spike of the last comes much later."""
    monkeypatch.setattr(verify_module, "chunk_size", lambda graph: 100)
    chunks = iter(range(100))

    def lie(spikes: Spikes) -> None:
        if next(chunks) == 8:
            spikes["d3"][50, 6] ^= True

    frames = np.concatenate([FRAMES] * 5)
    found = explained(vectors(), frames, Broken(neurons("d1", threshold=lambda t: t + 0.1), lie))
    assert [(own.layer, own.faults > 1) for own in found.layers] == [("d1", True), ("d3", False)]
    assert "neuron 6 in frame 850" in found.layers[1].cause.sentence


# One frame -----------------------------------------------------------------------------------------------------------


def test_one_frame_is_shown_in_full() -> None:
    backend = Broken(CHANGED["a weight"][0])
    first = explained(vectors(), FRAMES, backend).first_frame
    assert first is not None
    found = strop.explain(vectors(), FRAMES, backend, frame=first)
    assert (found.comparison, found.frame, found.layer, found.faulty) == ("broken", first, "d2", True)
    assert [(own.layer, own.missing, own.extra) for own in found.layers] == [("d1", 0, 0), ("d2", 0, 1), ("d3", 0, 0)]
    (neuron,) = found.neurons
    assert neuron.neuron == (4,)
    text = str(found)
    assert "frame " + str(first) + " on broken: 1 faults" in text
    assert "d1[3] -> d2[4]" in text
    assert found.to_dict()["neurons"][0]["fault"] == "too many"


def test_a_right_frame_shows_the_neurons_closest_to_their_thresholds() -> None:
    found = strop.explain(vectors(), FRAMES, "reference", frame=3, layer="d1")
    assert (found.faults, found.faulty, found.explanation) == (0, False, None)
    margins = [abs(own.potential - own.threshold) for own in found.neurons]
    assert margins == sorted(margins)
    assert len(margins) == 20
    assert "no faults; the neurons closest to their thresholds" in str(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"frame": 200}, "there is no frame 200: the data hold 200 frames, 0 to 199"),
        ({"frame": -1}, "there is no frame -1"),
        ({"layer": "d4"}, "there is no population 'd4'"),
        ({"backend": "keras"}, "is a saved graph: there is no Keras model"),
        ({"backend": "nope"}, "nope"),
    ],
)
def test_what_cannot_be_shown_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(StropError, match=words):
        strop.explain(vectors(), FRAMES, **{"backend": "reference", **given})
