"""The contract of a backend besides spikes: its name, its version, native objects, and clear refusals."""

from __future__ import annotations

import pytest

from strop.conformance.golden import golden_case
from strop.errors import BackendError, StropError
from strop.graph import ENCODINGS
from strop.running.backend import Backend
from strop.running.registry import get_backend


@pytest.fixture
def backend(backend_name: str) -> Backend:
    """The backend under test."""
    return get_backend(backend_name)


def test_it_is_registered_under_its_name(backend: Backend, backend_name: str) -> None:
    """Users find it under the name it calls itself."""
    assert backend.name == backend_name


def test_it_says_what_it_is(backend: Backend) -> None:
    """`strop backends` has something to show."""
    assert backend.version().strip()
    assert backend.summary.strip()
    assert backend.precision in ("float64", "float32")
    assert backend.frame_interval >= 1


def test_it_runs_the_host_encoding_and_no_unknown_one(backend: Backend) -> None:
    """Every backend can present stimulus spikes."""
    assert "host" in backend.encodings, "the encoding every backend can run: stimulus spikes"
    assert set(backend.encodings) <= set(ENCODINGS)


def test_it_builds_native_objects(backend: Backend) -> None:
    """`strop.build` gives something; what has a `close` is closed, so that the simulator is free again."""
    native = backend.build(golden_case("dense").graph)
    assert native is not None
    close = getattr(native, "close", None)
    if callable(close):
        close()


def test_it_states_its_fidelity_for_every_population(backend: Backend) -> None:
    """Exact, exact within a margin, or unsupported, and why."""
    graph = golden_case("skip_delays").graph
    levels = backend.fidelity(graph)
    assert [name for name, _, _ in levels] == list(graph.population_names)
    for name, level, reason in levels:
        assert level in ("exact", "unsupported") or level.startswith("exact within "), f"{name}: {level}"
        assert reason.strip(), f"{name}: a level needs its reason"


def test_it_refuses_an_option_that_it_does_not_know(backend: Backend) -> None:
    """A mistyped option is not ignored in silence."""
    with pytest.raises((BackendError, TypeError), match="no_such_option"):
        backend.prepare(golden_case("dense").graph, no_such_option=1).close()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_refuses_encodings_that_it_cannot_run(backend: Backend, encoding: str) -> None:
    """An encoding is run or refused by name."""
    graph = golden_case(f"encoding_{encoding}").graph
    if encoding in backend.encodings:
        backend.check(graph)
        return
    with pytest.raises(StropError, match=encoding):
        backend.check(graph)
