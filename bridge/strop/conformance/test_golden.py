"""Every golden case on a backend: the spikes of every neuron, whole, in chunks, and frame by frame.

pytest --pyargs strop.conformance --strop-backend NAME
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from strop.conformance.checks import assert_equal, ready
from strop.conformance.golden import Case
from strop.running.backend import Backend, Runner
from strop.running.encode import as_frames, encode
from strop.running.registry import get_backend
from strop.running.simulate import simulate


@pytest.fixture
def backend(backend_name: str) -> Backend:
    """The backend under test."""
    return get_backend(backend_name)


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
