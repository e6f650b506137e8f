"""Chunks that were compared one by one add up to one report, in their order; none may be missing, or come twice."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from pages import decoding_network
from worker_backends import Lying, content

from strop.errors import StropError
from strop.running.frame_source import Chunk, frame_source
from strop.running.reference import ReferenceBackend
from strop.verification.job import VerificationJob
from strop.verification.partial import Partial, Room
from strop.verification.totals import Totals

verify_module = import_module("strop.verification.verify")
GRAPH = decoding_network()
RNG = np.random.default_rng(5)
FRAMES = RNG.integers(0, 256, (90, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 4, 90)


def totals(**backends: Any) -> Totals:
    return Totals(GRAPH, None, backends or {"reference": ReferenceBackend()}, evidence=True)


def compared(change: Callable[[list[Any]], list[Any]] = list, ahead: int = 1, size: int = 20) -> tuple[Totals, str]:
    """Add up the chunks of a verification that lies; each is given out when so many before it are not yet added."""
    lying = Lying()
    own = totals(lying=lying)
    session = VerificationJob(GRAPH, None, None, {"lying": lying}, {}).start()
    partials: list[Partial] = []
    given: list[tuple[Chunk, Room]] = []
    source = frame_source(GRAPH, FRAMES, LABELS)
    for chunk in source.chunks(size):
        given.append((chunk, own.wanted(chunk)))
        if len(given) > ahead:
            own.add(pickle.loads(pickle.dumps(session.take(*given.pop(0)))))
    partials = [session.take(*each) for each in given]
    for partial in change(partials):
        own.add(partial)
    report = own.report()
    report.notes = [*GRAPH.assumptions, *source.notes]
    return own, content(report)


def plain(size: int = 20) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_module, "chunk_size", lambda graph: size)
        return content(verify_module.verify(GRAPH, FRAMES, LABELS, backends=[Lying()], evidence=True))


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
def test_it_makes_no_difference_how_many_chunks_are_under_way(ahead: int) -> None:
    """What is wanted of a chunk is known when it is given out; what has been found until it is added may be more."""
    own, found = compared(ahead=ahead)
    assert found == plain()
    faults = own.layers["lying"]["code"].faults
    assert faults > 5 < own.layers["lying"]["code"].ties
    assert own.clues["lying"].counts["code"].neurons.sum() == faults


@pytest.mark.parametrize("ahead", [0, 100])
def test_frames_kept_for_an_explanation_do_not_depend_on_it_either(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With so little room that it is full before the last chunk."""
    clues = import_module("strop.verification.explanation.clues")
    monkeypatch.setattr(clues, "_MOST_FRAMES", 24)
    own, found = compared(ahead=ahead, size=15)
    room = own.clues["lying"].room
    assert own.clues["lying"].kept == 20
    assert (room.window, room.quota["code"]) == (0, 0)
    assert found == plain(15)


def test_a_lost_chunk_is_noticed() -> None:
    with pytest.raises(StropError, match="chunk 3, from frame 60 on, came where chunk 2, .*lost, or came twice"):
        compared(lambda partials: partials[:2] + partials[3:], ahead=100)


def test_a_chunk_that_comes_twice_is_noticed() -> None:
    with pytest.raises(StropError, match="chunk 1, from frame 20 on, came where chunk 2"):
        compared(lambda partials: partials[:2] + partials[1:], ahead=100)


def test_the_last_chunk_is_missed_by_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = verify_module.run_job
    monkeypatch.setattr(verify_module, "chunk_size", lambda graph: 20)

    def forgetful(*given: Any) -> Any:
        for partial in honest(*given):
            if partial.number != 4:
                yield partial

    monkeypatch.setattr(verify_module, "run_job", forgetful)
    with pytest.raises(StropError, match="80 of 90 frames were verified: chunks were lost"):
        verify_module.verify(GRAPH, FRAMES, backends=["reference"])


def test_a_chunk_with_fewer_frames_than_it_says_is_noticed() -> None:
    def shortened(partials: list[Partial]) -> list[Partial]:
        lying = partials[1].compared["lying"]
        return [partials[0], replace(partials[1], compared={"lying": replace(lying, frames=19)})]

    with pytest.raises(StropError, match="not compared whole"):
        compared(shortened, ahead=100)


def test_a_verification_that_was_never_checked_does_not_pass() -> None:
    def unchecked(partials: list[Partial]) -> list[Partial]:
        lying = partials[0].compared["lying"]
        return [replace(partials[0], compared={"lying": replace(lying, planted=None)}), *partials[1:]]

    with pytest.raises(StropError, match="lying was checked 0 times, and must be once"):
        compared(unchecked, ahead=100)


def test_totals_that_lose_faults_are_found_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted faults of the first chunk are added up by the code that adds up all others."""
    counts = import_module("strop.verification.counts")
    monkeypatch.setattr(counts.LayerReport, "merge", lambda self, other: None)
    with pytest.raises(StropError, match="is broken: it missed planted faults in its verdict"):
        verify_module.verify(GRAPH, FRAMES, backends=["reference"])


def test_other_versions_where_chunks_are_run_are_refused() -> None:
    def foreign(partials: list[Partial]) -> list[Partial]:
        own = partials[0].built["lying"]
        return [replace(partials[0], built={"lying": replace(own, version="another 1.0")})]

    with pytest.raises(StropError, match=r"lying is .* here, and another 1.0 where chunks of frames are run"):
        compared(foreign, ahead=100)
