"""Every golden case on a backend: the spike of every unit, whole, in chunks, and frame by frame.

pytest --pyargs strop.conformance --strop-backend NAME
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from strop.backend import Backend, Runner, get_backend
from strop.conformance.golden import Case, golden_case
from strop.encode import as_frames, encode
from strop.reference import potential
from strop.simulate import simulate


@pytest.fixture
def backend(backend_name: str) -> Backend:
    """The backend under test."""
    return get_backend(backend_name)


def ready(name: str, backend: Backend) -> Case:
    """Return a golden case, or skip the test and name what the backend cannot do."""
    case = golden_case(name)
    missing = case.missing(backend)
    if missing:
        pytest.skip(f"{backend.name} does not offer {'; '.join(missing)}")
    return case


@pytest.fixture
def golden(golden_name: str, backend: Backend) -> Case:
    """The golden case under test."""
    return ready(golden_name, backend)


@pytest.fixture
def runner(golden: Case, backend: Backend) -> Iterator[Runner]:
    """The case's graph, built."""
    backend.check(golden.graph)
    built = backend.prepare(golden.graph)
    yield built
    built.close()
    # Closing twice is allowed: `with` blocks and error paths both do it.
    built.close()


def assert_equal(case: Case, claimed: dict[str, Any], rows: slice = slice(None)) -> None:
    """Compare the spikes of every population with the expected ones; say where they differ first."""
    assert set(claimed) == set(case.graph.population_names), "a backend answers for every population, and no other"
    signals: dict[str, Any] = encode(case.graph, as_frames(case.graph, case.frames))
    known = {**signals, **case.spikes}
    for population in case.graph.populations:
        wanted, got = case.spikes[population.name][rows], claimed[population.name]
        assert got.dtype == np.bool_, f"{population.name}: spikes must be bool, got {got.dtype}"
        assert got.shape == wanted.shape, f"{population.name}: shape {got.shape}, expected {wanted.shape}"
        if np.array_equal(got, wanted):
            continue
        frame, *unit = (int(n) for n in np.argwhere(got != wanted)[0])
        place = (frame + (rows.start or 0), *unit)
        a = potential(case.graph, population.name, known)[place]
        did = "fired" if got[(frame, *unit)] else "stayed silent"
        pytest.fail(
            f"{case.name} ({case.says}) {int((got != wanted).sum())} of {wanted.size} spikes of population "
            f"{population.name!r}, at depth {case.graph.depth(population.name)}, are wrong. First: in frame "
            f"{place[0]}, unit {tuple(unit)} {did}; its potential is {float(a)!r}, its threshold "
            f"{float(population.threshold[tuple(unit)])!r}"
        )


def test_every_spike(golden: Case, runner: Runner) -> None:
    """All frames in one chunk."""
    signals = encode(golden.graph, as_frames(golden.graph, golden.frames))
    before = {name: values.copy() for name, values in signals.items()}
    assert_equal(golden, runner.run(signals))
    for name, values in before.items():
        assert np.array_equal(signals[name], values), "the caller's frames were changed"


@pytest.mark.parametrize("case_name", ["skip_delays", "encoding_host", "encoding_binary", "no_charge_is_carried_over"])
def test_chunks_leave_no_trace(case_name: str, backend: Backend) -> None:
    """The same frames in chunks of 1, 2, 5 and the rest, then once more from the beginning, on one runner."""
    case = ready(case_name, backend)
    signals = encode(case.graph, as_frames(case.graph, case.frames))
    count = len(next(iter(signals.values())))
    cuts = [0, 1, 3, 8, count]
    runner = backend.prepare(case.graph)
    try:
        for start, stop in [*pairwise(cuts), (0, count)]:
            part = {name: values[start:stop] for name, values in signals.items()}
            assert_equal(case, runner.run(part), slice(start, stop))
    finally:
        runner.close()


@pytest.mark.parametrize("case_name", ["classifier"])
def test_classes_are_decoded(case_name: str, backend: Backend) -> None:
    """From frames to classes, as users call it."""
    case = ready(case_name, backend)
    result = simulate(case.graph, case.frames, backend.name)
    assert_equal(case, result.spikes)
    assert result.classes is not None
    assert np.array_equal(result.classes, case.classes)
