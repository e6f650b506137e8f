"""What is kept for a page is what the oracle computed: margins to the last one, chosen frames to the last spike."""

from __future__ import annotations

import base64
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from pages import BITING, FAULTY_FRAME, TIED_FRAME, copies, decoding_frames, decoding_network, full_report

from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate, potential
from strop.verification.bounds import RoundingBound, graph_stages
from strop.verification.evidence import BUDGET
from strop.verification.evidence.views import view_of, views
from strop.verification.report import Report

verify = import_module("strop.verification.verify").verify


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    graph, (frames, _) = decoding_network(), decoding_frames()
    signals = encode(graph, as_frames(graph, frames))
    return {**signals, **evaluate(graph, signals)}


def test_evidence_is_kept_only_when_asked_for() -> None:
    frames, labels = decoding_frames()
    assert verify(decoding_network(), frames, labels, backends=["reference"]).evidence is None


def test_margins_of_all_frames_are_counted_in_octaves(report: Report, truth: dict[str, np.ndarray]) -> None:
    graph = decoding_network()
    assert report.evidence is not None
    for own in report.evidence.margins:
        margin = np.abs(potential(graph, own.name, truth) - 0.5)
        positive = margin[margin > 0]
        expected = Counter(np.floor(np.log2(positive)).astype(int).tolist())
        assert own.octaves == dict(expected)
        assert own.exact == int((margin == 0).sum())
        assert own.smallest == positive.min()
    assert report.evidence.margins[3].exact > 0


def test_bounds_are_those_of_the_sampled_frames(report: Report, truth: dict[str, np.ndarray]) -> None:
    graph = decoding_network()
    assert report.evidence is not None
    rows = np.linspace(0, 39, 32).astype(int)
    some = {name: values[rows] for name, values in truth.items()}
    for own in report.evidence.margins:
        margin = np.abs(potential(graph, own.name, some) - 0.5)
        bound = np.broadcast_to(RoundingBound(graph, graph_stages(graph)).error(own.name, some), margin.shape)
        # Spikes counted by pools, and weights in quarters, are summed exactly; real values are not.
        assert own.bound_max == bound.max()
        assert (own.bound_max > 0) == (own.name == BITING)
        assert own.sampled == bound.size
        assert sum(own.bound_octaves.values()) == np.count_nonzero(bound)
        assert own.within == int(((bound > 0) & (margin <= bound)).sum())


def test_frames_are_chosen_for_what_they_show(report: Report) -> None:
    assert report.evidence is not None
    _, labels = decoding_frames()
    chosen = {frame.index: frame for frame in report.evidence.frames}
    assert [index for index, frame in chosen.items() if "first" in frame.reasons] == [0, 1, 2, 3]
    assert {frame.label for frame in chosen.values() if "class" in frame.reasons} == set(labels.tolist())
    assert [index for index, frame in chosen.items() if "fault" in frame.reasons] == [FAULTY_FRAME]
    assert [index for index, frame in chosen.items() if "tie" in frame.reasons] == [TIED_FRAME]
    wrong = [frame for frame in chosen.values() if "misclassified" in frame.reasons]
    assert len(wrong) == 6
    assert all(frame.decisions["oracle"] != frame.label for frame in wrong)
    assert all(frame.label == labels[index] for index, frame in chosen.items())


def test_differing_units_are_marked_where_they_differ(report: Report) -> None:
    assert report.evidence is not None
    chosen = {frame.index: frame for frame in report.evidence.frames}
    fault, tie = chosen[FAULTY_FRAME].differences["liar"], chosen[TIED_FRAME].differences["liar"]
    assert (fault.faults, fault.ties, len(fault.marks["code"][0]), len(fault.marks["code"][1])) == (1, 0, 1, 0)
    assert (tie.faults, tie.ties, len(tie.marks["code"][0]), len(tie.marks["code"][1])) == (0, 1, 0, 1)
    assert (report.backends["liar"].faults, report.backends["liar"].ties) == (1, 1)


def test_spikes_and_images_of_chosen_frames_come_back_bit_for_bit(report: Report, truth: dict[str, np.ndarray]) -> None:
    assert report.evidence is not None
    frames, _ = decoding_frames()
    for frame in report.evidence.frames:
        for view in report.evidence.populations:
            bits = np.unpackbits(np.frombuffer(base64.b64decode(frame.spikes[view.name]), np.uint8))[: view.shown]
            spikes = truth[view.name][frame.index]
            assert np.array_equal(bits.reshape(view.maps, view.height, view.width), view.of(spikes))
            assert frame.counts[view.name] == int(spikes.sum())
        text, low, high = frame.inputs["image"]
        grey = np.frombuffer(base64.b64decode(text), np.uint8) / 255 * (high - low) + low
        assert np.abs(grey * 255 - frames[frame.index].reshape(-1)).max() <= 0.51
    assert sum(frame.counts[BITING] for frame in report.evidence.frames) > 0


def test_chunks_give_the_same_evidence(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("strop.verification.verify"), "chunk_size", lambda graph: 7)
    parts = full_report().evidence
    assert parts is not None
    assert report.evidence is not None
    for whole, part in zip(report.evidence.margins, parts.margins, strict=True):
        assert (whole.octaves, whole.exact, whole.smallest) == (part.octaves, part.exact, part.smallest)
    both = [{frame.index: frame.spikes for frame in found.frames} for found in (report.evidence, parts)]
    shared = set(both[0]) & set(both[1])
    assert {0, 1, 2, 3, FAULTY_FRAME, TIED_FRAME} <= shared
    assert all(both[0][index] == both[1][index] for index in shared)


@pytest.mark.parametrize(
    ("shape", "units", "expected"),
    [
        ((10, 12, 6), 10_000, (6, 10, 12, 1)),
        ((10, 12, 6), 300, (2, 10, 12, 1)),
        ((100, 80, 3), 500, (1, 25, 20, 4)),
        ((1, 1, 40), 100, (1, 1, 40, 1)),
        ((40,), 16, (1, 1, 16, 1)),
        ((3, 4, 5, 2), 1000, (2, 12, 5, 1)),
        ((9, 4), 1000, (1, 9, 4, 1)),
    ],
)
def test_views_show_whole_maps_first(shape: tuple[int, ...], units: int, expected: tuple[int, int, int, int]) -> None:
    view = view_of("p", shape, units)
    assert (view.maps, view.height, view.width, view.stride) == expected
    size = int(np.prod(shape))
    numbers = view.of(np.arange(size).reshape(shape)).reshape(-1)
    assert len(numbers) == view.shown
    assert view.places(numbers) == list(range(view.shown))
    hidden = np.setdiff1d(np.arange(size), numbers)
    assert view.places(hidden) == []


def test_budgets_hold_for_wide_and_for_deep_networks() -> None:
    for graph in (copies((300, 300, 4), 3), copies((64, 64, 8), 90)):
        _, shown, left_out = views(graph)
        assert sum(view.shown for view in shown) / 6 * 8 < 1.1 * BUDGET
        assert left_out
