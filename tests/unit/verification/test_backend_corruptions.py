"""Backends that lie, and comparisons that are blind to it: the verification must notice both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed in this environment")

from spoilt_networks import CHUNK, FRAMES, Spikes, Spoil, noticed, small_chunks, weighted_networks  # noqa: E402, F401

import strop  # noqa: E402
from strop.errors import StropError  # noqa: E402
from strop.running.backend import Runner  # noqa: E402
from strop.running.frame_source import Chunk, FrameSource  # noqa: E402
from strop.running.reference import ReferenceBackend  # noqa: E402
from strop.verification.bounds import SimulatorBound  # noqa: E402

comparison_module = import_module("strop.verification.comparison")


class _Liar(Runner):
    def __init__(self, honest: Runner, spoil: Callable[[Spikes, int, Spikes], Spikes | None]) -> None:
        self.honest, self.spoil, self.chunk, self.last = honest, spoil, -1, dict[str, Any]()

    def run(self, signals: Any) -> Any:
        self.chunk += 1
        honest = {name: values.copy() for name, values in self.honest.run(signals).items()}
        last, self.last = self.last, {name: values[-1].copy() for name, values in honest.items()}
        return self.spoil(honest, self.chunk, last) or honest


class LyingBackend(ReferenceBackend):
    name = "liar"

    def __init__(self, spoil: Callable[[Spikes, int, Spikes], Spikes | None]) -> None:
        self.spoil = spoil

    def prepare(self, graph: Any, **options: Any) -> Runner:
        return _Liar(super().prepare(graph), self.spoil)


def flipped(population: str, chunk: int, frame: int) -> Callable[[Spikes, int, Spikes], None]:
    def spoil(spikes: Spikes, now: int, last: Spikes) -> None:
        if now == chunk:
            spikes[population][frame, 0] ^= True

    return spoil


def _previous_frame_at_a_border(spikes: Spikes, now: int, last: Spikes) -> None:
    for name, values in last.items():
        spikes[name][0] = values


def _one_population_late(spikes: Spikes, now: int, last: Spikes) -> None:
    spikes["b"] = np.roll(spikes["b"], 1, axis=0)


def _two_frames_exchanged(spikes: Spikes, now: int, last: Spikes) -> None:
    for values in spikes.values():
        values[[0, 1]] = values[[1, 0]]


def _never_firing(spikes: Spikes, now: int, last: Spikes) -> None:
    spikes["c"][:] = False


def _one_frame_for_all(spikes: Spikes, now: int, last: Spikes) -> Spikes:
    return {name: values[:1] for name, values in spikes.items()}


def _population_left_out(spikes: Spikes, now: int, last: Spikes) -> None:
    del spikes["b"]


LIES: dict[str, Callable[[Spikes, int, Spikes], Spikes | None]] = {
    "first frame": flipped("a", 0, 0),
    "last frame of a chunk": flipped("b", 0, CHUNK - 1),
    "first frame of a chunk": flipped("c", 1, 0),
    "last frame of all": flipped("d", 2, FRAMES % CHUNK - 1),
    "the previous frame at the border of chunks": _previous_frame_at_a_border,
    "a population one step late": _one_population_late,
    "two frames exchanged": _two_frames_exchanged,
    "a population that never fires": _never_firing,
    "one frame for all": _one_frame_for_all,
}


@pytest.mark.parametrize("name", LIES)
def test_errors_of_a_backend_are_noticed(networks: Any, name: str) -> None:
    assert noticed(*networks["vectors"], LyingBackend(LIES[name]))


def test_a_population_that_a_backend_leaves_out_is_noticed(networks: Any) -> None:
    assert noticed(*networks["vectors"], LyingBackend(_population_left_out))


class LateBackend(ReferenceBackend):
    """Every spike over the skip from `a` to `d` arrives a step late."""

    name = "late"

    def prepare(self, graph: Any, **options: Any) -> Runner:
        def incoming(name: str) -> Iterator[Any]:
            for p in graph.incoming(name):
                late = (p.source, p.target) == ("a", "d")
                yield SimpleNamespace(source=p.source, operator=p.operator, delay=p.delay + late)

        runner = super().prepare(graph)
        runner.graph = SimpleNamespace(  # type: ignore[attr-defined]
            populations=graph.populations, total_depth=graph.total_depth, depth=graph.depth, incoming=incoming
        )
        return runner


def test_a_delay_of_one_step_too_many_is_noticed(networks: Any) -> None:
    assert noticed(*networks["vectors"], LateBackend())


# Comparison -----------------------------------------------------------------------------------------------------------


def _blind(patch: pytest.MonkeyPatch) -> None:
    honest = comparison_module.judge

    def judge(*args: Any) -> Any:
        found = honest(*args)
        blind = {name: replace(v, faults=np.zeros_like(v.faults)) for name, v in found.verdicts.items()}
        return replace(found, verdicts=blind)

    patch.setattr(comparison_module, "judge", judge)


def _blind_for_last_frames(patch: pytest.MonkeyPatch) -> None:
    honest = comparison_module.judge

    def judge(*args: Any) -> Any:
        found = honest(*args)
        for verdict in found.verdicts.values():
            verdict.faults[-1] = False
        return found

    patch.setattr(comparison_module, "judge", judge)


def _everything_a_tie(patch: pytest.MonkeyPatch) -> None:
    judge_module = import_module("strop.verification.judge")
    patch.setattr(judge_module, "undecided", lambda margin, error, blur: np.ones(np.shape(margin), bool))


def test_a_resolution_that_excuses_everything_is_noticed(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SimulatorBound.blur
    monkeypatch.setattr(SimulatorBound, "blur", lambda self, *args: honest(self, *args) + 1e9)
    model, frames = networks["vectors"]
    with pytest.raises(StropError, match="the comparison is broken: in layer 'a' it excuses more than a resolution"):
        strop.verify(model, frames, backends=["reference"])


def test_a_bound_that_excuses_everything_does_not_pass_plainly(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SimulatorBound.error
    monkeypatch.setattr(SimulatorBound, "error", lambda self, *args: honest(self, *args) + 1e9)
    model, frames = networks["vectors"]
    report = strop.verify(model, frames, backends=["reference"])
    assert report.verdict == "passed with reservations"
    # What the host evaluates is compared as it is.
    assert report.reservations()[0].startswith("reference: no spike of ")
    assert "b, c, d" in report.reservations()[0]
    assert not strop.verify(model, frames, backends=["reference"], strict=True).passed


def _with_chunks(patch: pytest.MonkeyPatch, changed: Callable[[list[Chunk]], list[Chunk]]) -> None:
    honest = FrameSource.chunks
    patch.setattr(FrameSource, "chunks", lambda self, size: iter(changed(list(honest(self, size)))))


def _frames_lost_between_chunks(patch: pytest.MonkeyPatch) -> None:
    def shortened(chunk: Chunk) -> Chunk:
        parts = ({name: array[:-1] for name, array in given.items()} for given in (chunk.frames, chunk.own))
        frames, own = parts
        return replace(chunk, frames=frames, own=own)

    _with_chunks(patch, lambda chunks: [shortened(chunk) for chunk in chunks])


def _first_chunk_again_and_again(patch: pytest.MonkeyPatch) -> None:
    _with_chunks(patch, lambda chunks: [chunks[0]] * len(chunks))


@pytest.mark.parametrize("spoil", [_blind, _blind_for_last_frames, _everything_a_tie])
def test_a_comparison_that_is_blind_notices_it(networks: Any, monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    backend = LyingBackend(flipped("c", 0, CHUNK - 1))
    assert noticed(*networks["vectors"], backend)
    spoil(monkeypatch)
    assert noticed(*networks["vectors"], backend)


@pytest.mark.parametrize("spoil", [_frames_lost_between_chunks, _first_chunk_again_and_again])
def test_frames_that_are_never_compared_are_noticed(
    networks: Any, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    backend = LyingBackend(flipped("d", 2, FRAMES % CHUNK - 1))
    assert noticed(*networks["vectors"], backend)
    spoil(monkeypatch)
    assert noticed(*networks["vectors"])
