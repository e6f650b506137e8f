"""What users name: backends, targets, populations, options, and paths of models; the nearest name is suggested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from labelled import FRAMES, network

from strop.errors import BackendError, BackendMissingError, GraphError, StropError
from strop.export.folders import export
from strop.graph import Input
from strop.running.reference import ReferenceBackend
from strop.running.simulate import build, simulate
from strop.verification.verify import verify


@pytest.mark.parametrize(
    ("backends", "names"),
    [
        ("reference", ["reference"]),
        (" reference , reference", ["reference"]),
        (ReferenceBackend(), ["reference"]),
        (["reference"], ["reference"]),
        (("reference", ReferenceBackend()), ["reference"]),
        ({"reference"}, ["reference"]),
        ((), []),
    ],
)
def test_backends_may_be_one_or_several(backends: Any, names: list[str]) -> None:
    assert list(verify(network(), FRAMES, backends=backends).backends) == names


@pytest.mark.parametrize("backends", [3, [3], [None], [["reference"]], ReferenceBackend, "", " , "])
def test_what_is_no_backend_is_refused(backends: Any) -> None:
    with pytest.raises(BackendError, match="a backend must be a name, or an instance|name no backend"):
        verify(network(), FRAMES, backends=backends)


def test_no_backends_means_all_that_can_run_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    import strop.running.registry as module

    class OnlyBinary(ReferenceBackend):
        name, encodings = "binary-alone", ("binary",)

    class Writer(ReferenceBackend):
        name, runs = "writer", False

    class Entry:
        def __init__(self, kind: type) -> None:
            self.name, self.value, self.kind = kind.name, kind.__name__, kind  # type: ignore[attr-defined]

        def load(self) -> type:
            return self.kind

    found = [Entry(ReferenceBackend), Entry(OnlyBinary), Entry(Writer)]
    monkeypatch.setattr(module, "entry_points", lambda group: found)
    report = verify(network(), FRAMES, backends=None)
    assert list(report.backends) == ["reference"]
    (note,) = (note for note in report.notes if "left out" in note)
    assert note.startswith("binary-alone is left out: ")
    assert "'host'" in note


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: verify(g, FRAMES, backends="Brian"), BackendMissingError, r"Did you mean 'brian2'\?"),
        (lambda g: verify(g, FRAMES, backends="referense"), BackendMissingError, r"Did you mean 'reference'\?"),
        (lambda g: simulate(g, FRAMES, "NEST"), BackendMissingError, r"Did you mean 'pynn-nest'\?"),
        (lambda g: build(g, "nego"), BackendMissingError, r"Did you mean 'nengo'\?"),
        (lambda g: export(g, "spiNNaker4", "out"), BackendMissingError, r"Did you mean 'spinnaker'\?"),
        (
            lambda g: simulate(g, FRAMES, "nengo", DT=1.0),
            BackendError,
            r"does not know the option\(s\) DT. Did you mean 'dt'\?|Nengo is not installed",
        ),
        (lambda g: g.population("aa"), GraphError, r"there is no population 'aa'; there are: a, b"),
        (lambda g: Input("x", (3,), "bitplanes"), GraphError, r"Did you mean 'bitplane'\?"),
        (
            lambda g: verify(g, FRAMES, backends="reference", options={"refrence": {}}),
            BackendError,
            r"options are given for 'refrence', and the backends are reference. Did you mean 'reference'\?",
        ),
    ],
)
def test_unknown_names_suggest_the_nearest(call: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        call(network())


def test_names_that_are_like_nothing_suggest_nothing() -> None:
    with pytest.raises(BackendMissingError) as caught:
        verify(network(), FRAMES, backends="xyzzy")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_stands_for_the_graph_in_its_file(kind: Any, tmp_path: Path) -> None:
    from strop.costs.inspection import inspect

    network().save(tmp_path / "net.strop")
    path = kind(tmp_path / "net.strop")
    assert verify(path, FRAMES, backends="reference").passed
    assert simulate(path, FRAMES, "reference").spikes["a"].shape == (30, 5)
    assert inspect(path).totals["neurons"] == 13
    assert export(path, "brian2", tmp_path / "out").is_dir()


@pytest.mark.parametrize("given", [None, 3, FRAMES, object(), lambda x: x, "no/such/file.keras", "{" * 5000, "a\0b"])
def test_what_is_no_model_is_refused(given: Any, tmp_path: Path) -> None:
    from strop.costs.inspection import inspect

    for call in (
        lambda: verify(given, FRAMES, backends="reference"),
        lambda: simulate(given, FRAMES, "reference"),
        lambda: inspect(given),
        lambda: build(given, "reference"),
        lambda: export(given, "brian2", tmp_path / "out"),
    ):
        with pytest.raises(StropError, match=r"takes a Keras 3 model, a strop\.Graph, or the path|does not exist"):
            call()


@pytest.mark.parametrize("path", [None, 3, "{" * 5000, "a\0b", "no/such/file"])
def test_what_is_no_path_of_a_file_is_refused(path: Any) -> None:
    from strop.graph import Graph
    from strop.reader import load_model

    for call in (load_model, Graph.load):
        with pytest.raises(StropError, match="given by its path|cannot be read|does not exist"):
            call(path)


@pytest.mark.parametrize("options", [[1], "abc", {"reference": None}, {"reference": 5}, {"reference": {1: 2}}])
def test_options_that_are_no_mappings_are_refused(options: Any) -> None:
    with pytest.raises(BackendError, match="options are given as"):
        verify(network(), FRAMES, backends="reference", options=options)
