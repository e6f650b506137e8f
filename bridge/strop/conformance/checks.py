"""Helpers of the suite's tests: a case that the backend can run, and the comparison of every spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strop.conformance import exact
from strop.conformance.golden import Case, golden_case
from strop.errors import StropError
from strop.graph import Graph
from strop.running.backend import Backend, Runner
from strop.running.encode import as_frames, encode
from strop.running.oracle import potential


def ready(case: str | Case, backend: Backend) -> Case:
    """Return a case (a golden one by its name), or skip the test with what the backend lacks."""
    found = golden_case(case) if isinstance(case, str) else case
    missing = found.missing(backend)
    if missing:
        pytest.skip(f"{backend.name} does not offer {'; '.join(missing)}")
    return found


def other_graph(case: Case, graph: Graph) -> Case:
    """Return the case with another graph for the same frames, its spikes found in exact arithmetic."""
    return replace(case, graph=graph, spikes=exact.spikes(graph, case.frames), classes=None)


def signals_of(case: Case) -> dict[str, Any]:
    """Return the case's frames, encoded."""
    return dict(encode(case.graph, as_frames(case.graph, case.frames)))


def reason(refusal: StropError) -> str:
    """Return the message of a refusal; an empty one fails the test."""
    message = str(refusal)
    assert len(message) > 20, f"a refusal says what and what to do, got {message!r}"
    return message


def need(runner: Runner, *methods: str) -> None:
    """Skip the test if the runner lacks one of these optional methods."""
    missing = [name for name in methods if getattr(type(runner), name) is getattr(Runner, name)]
    if missing:
        runner.close()
        pytest.skip(f"{type(runner).__name__} does not offer {', '.join(f'{name}()' for name in missing)}")


def assert_equal(case: Case, observed: Mapping[str, Any], rows: slice = slice(None)) -> None:
    """Compare the spikes of every population with the expected ones; say where they differ first."""
    assert set(observed) == set(case.graph.population_names), "a backend answers for every population, and no other"
    known = {**signals_of(case), **case.spikes}
    for population in case.graph.populations:
        wanted, got = case.spikes[population.name][rows], observed[population.name]
        assert got.dtype == np.bool_, f"{population.name}: spikes must be bool, got {got.dtype}"
        assert got.shape == wanted.shape, f"{population.name}: shape {got.shape}, expected {wanted.shape}"
        if np.array_equal(got, wanted):
            continue
        frame, *neuron = (int(n) for n in np.argwhere(got != wanted)[0])
        place = (frame + (rows.start or 0), *neuron)
        a = potential(case.graph, population.name, known)[place]
        did = "fired" if got[(frame, *neuron)] else "stayed silent"
        pytest.fail(
            f"{case.name} ({case.says}) {int((got != wanted).sum())} of {wanted.size} spikes of population "
            f"{population.name!r}, at depth {case.graph.depth(population.name)}, are wrong. First: in frame "
            f"{place[0]}, neuron {tuple(neuron)} {did}; its potential is {float(a)!r}, its threshold "
            f"{float(population.threshold[tuple(neuron)])!r}"
        )
