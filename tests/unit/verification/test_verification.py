"""Verification finds what is wrong: a simulator that cheats, a Keras that disagrees, labels that do not fit."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from strop.errors import BackendError, BackendMissingError, DataError
from strop.graph import Dense, Graph, Input, Population, Readout
from strop.running.backend import Backend, Runner
from strop.running.reference import ReferenceBackend
from strop.verification.verify import verify


def network() -> Graph:
    rng = np.random.default_rng(0)
    return Graph.from_nodes(
        [Input("x", (6,))],
        [Population("a", (5,), 0.5, 0.1), Population("b", (8,), 0.0, -0.1)],
        [("x", "a", Dense(rng.normal(size=(6, 5)))), ("a", "b", Dense(rng.normal(size=(5, 8))))],
        [Readout("out", "key", ("b",), (Dense(rng.normal(size=(8, 3))),), np.zeros(3))],
        ["out"],
    )


FRAMES = np.random.default_rng(1).random((30, 6), np.float32)


class _Cheat(Runner):
    def __init__(self, honest: Runner, name: str, frame: int) -> None:
        self.honest, self.name, self.frame, self.closed = honest, name, frame, False

    def run(self, signals: Any) -> Any:
        spikes = self.honest.run(signals)
        spikes[self.name] = spikes[self.name].copy()
        spikes[self.name][self.frame, 0] ^= True
        return spikes

    def close(self) -> None:
        self.closed = True


class CheatingBackend(ReferenceBackend):
    name = "cheat"
    runner: _Cheat

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        type(self).runner = _Cheat(super().prepare(graph), options.get("population", "b"), options.get("frame", 7))
        return type(self).runner


@pytest.fixture
def cheat(monkeypatch: pytest.MonkeyPatch) -> type[CheatingBackend]:
    module = import_module("strop.verification.verify")  # the attribute strop.verify is the function

    honest = module.get_backend
    monkeypatch.setattr(module, "get_backend", lambda name: CheatingBackend() if name == "cheat" else honest(name))
    return CheatingBackend


def test_one_wrong_spike_of_one_unit_in_one_frame_is_found(cheat: type[CheatingBackend]) -> None:
    report = verify(network(), FRAMES, backends=["reference", "cheat"])
    assert report.backends["reference"].passed
    assert not report.passed
    wrong = report.backends["cheat"]
    assert (wrong.faults, wrong.frames_with_faults) == (1, 1)
    assert [(layer.name, layer.faults) for layer in wrong.layers] == [("a", 0), ("b", 1)]
    assert "FAULTS" in str(report)
    assert "FAILED" in str(report)
    assert report.to_dict()["backends"]["cheat"]["passed"] is False


def test_a_lie_in_a_lower_layer_is_counted_once_where_it_was_told(cheat: type[CheatingBackend]) -> None:
    wrong = verify(network(), FRAMES, backends=["cheat"], options={"cheat": {"population": "a"}}).backends["cheat"]
    assert next(layer.faults for layer in wrong.layers) == 1
    assert wrong.frames_with_faults == 1


def test_runners_are_closed_at_the_end(cheat: type[CheatingBackend]) -> None:
    verify(network(), FRAMES, backends=["cheat"])
    assert cheat.runner.closed


def test_work_goes_in_chunks_and_gives_the_same(monkeypatch: pytest.MonkeyPatch, cheat: type[CheatingBackend]) -> None:
    module = import_module("strop.verification.verify")  # the attribute strop.verify is the function

    whole = verify(network(), FRAMES, np.zeros(30, int), backends=["reference"]).to_dict()
    monkeypatch.setattr(module, "chunk_size", lambda graph: 7)
    parts = verify(network(), FRAMES, np.zeros(30, int), backends=["reference"]).to_dict()
    for found in (whole, parts):
        for key in ("build_seconds", "run_seconds", "frames_per_second"):
            found["backends"]["reference"].pop(key)
    assert whole == parts


@pytest.mark.parametrize("labels", [[0, 1], np.full(30, "a"), np.zeros((30, 2, 2), int)])
def test_labels_that_do_not_fit_are_refused(labels: Any) -> None:
    with pytest.raises(DataError, match="30 class numbers"):
        verify(network(), FRAMES, labels, backends=["reference"])


def test_one_hot_labels_are_class_numbers() -> None:
    numbers = np.arange(30) % 3
    a = verify(network(), FRAMES, numbers, backends=["reference"]).backends["reference"].accuracy
    b = verify(network(), FRAMES, np.eye(3, dtype=int)[numbers], backends=["reference"]).backends["reference"].accuracy
    assert a == b
    assert a is not None
    assert 0 < a < 1


def test_unknown_backends_are_refused_by_name() -> None:
    with pytest.raises(BackendMissingError, match="no backend 'spinnaker9000'; known are: reference"):
        verify(network(), FRAMES, backends=["spinnaker9000"])


def test_encodings_that_a_backend_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceBackend, "encodings", ("binary",))
    with pytest.raises(BackendError, match=r"cannot run the encoding 'host'.*binary"):
        verify(network(), FRAMES, backends=["reference"])


def test_unknown_options_are_refused() -> None:
    with pytest.raises(BackendError, match="option.*threads"):
        verify(network(), FRAMES, backends=["reference"], options={"reference": {"threads": 2}})


class _NotABackend:
    @classmethod
    def version(cls) -> str:
        return "0"


def test_a_plug_in_that_is_no_backend_is_reported_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    import strop.running.registry as module

    class Entry:
        name, value = "odd", "odd:Thing"

        def load(self) -> type:
            return _NotABackend

    monkeypatch.setattr(module, "entry_points", lambda group: [Entry()])
    with pytest.raises(BackendMissingError, match=r"'odd' is broken.*no strop.running.backend.Backend"):
        module.get_backend("odd")
    assert module.backend_status("odd").available is False


def test_backend_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Backend()  # type: ignore[abstract]


def test_a_backend_that_cannot_build_is_named_in_its_error(cheat: type[CheatingBackend]) -> None:
    def refuse(self: Any, graph: Graph, **options: Any) -> Runner:
        raise BackendError("no compiler")

    cheat.prepare, before = refuse, cheat.prepare  # type: ignore[method-assign]
    try:
        with pytest.raises(BackendError, match="no compiler") as caught:
            verify(network(), FRAMES, backends=["reference", "cheat"])
    finally:
        cheat.prepare = before  # type: ignore[method-assign]
    assert caught.value.backend == "cheat"
