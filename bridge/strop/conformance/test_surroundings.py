"""The same spikes under other options, beside other networks, in second runs, and with changed weights.

The methods that these tests need are optional (`strop.running.backend.Backend.variations`, `surroundings`,
`weight_options`, `Runner.reset`, `weights`, `set_weights`); a test of a method that a backend lacks is skipped, with
the reason.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from strop.conformance.checks import assert_equal, need, other_graph, ready, reason, signals_of
from strop.conformance.golden import Case, golden_case
from strop.errors import BackendError, StropError
from strop.graph import Graph, with_weights
from strop.running.backend import Backend, Runner
from strop.running.registry import get_backend

# Skips of several lengths; a convolution, a pool and a dense layer; a neuron that must forget.
CASES = ("skip_delays", "classifier", "no_charge_is_carried_over")
ANALOGUE = "current_beside_spikes"


@pytest.fixture
def backend(backend_name: str) -> Backend:
    """The backend under test."""
    return get_backend(backend_name)


def run_whole(case: Case, runner: Runner) -> None:
    """Run all frames and compare every spike."""
    assert_equal(case, runner.run(signals_of(case)))


@pytest.mark.parametrize("case_name", ["skip_delays", "no_charge_is_carried_over"])
def test_another_option(case_name: str, backend: Backend, variation: Mapping[str, Any]) -> None:
    """At another time step, with more threads, for another code generator: all variations that the backend states."""
    case = ready(case_name, backend)
    runner = backend.prepare(case.graph, **variation)
    try:
        run_whole(case, runner)
        run_whole(case, runner)
    finally:
        runner.close()


@pytest.mark.parametrize("case_name", ["skip_delays", ANALOGUE])
def test_in_a_users_surroundings(
    case_name: str, backend: Backend, surrounding: Callable[[], AbstractContextManager[Any]]
) -> None:
    """In a used kernel, with other preferences: the same spikes, or a refusal that says why."""
    case = ready(case_name, backend)
    with surrounding():
        try:
            runner = backend.prepare(case.graph)
        except StropError as refusal:
            pytest.skip(f"refused: {reason(refusal)}")
        try:
            run_whole(case, runner)
        finally:
            runner.close()
    again = backend.prepare(case.graph)
    try:
        run_whole(case, again)
    finally:
        again.close()


@pytest.mark.parametrize("case_name", CASES)
def test_a_second_run(case_name: str, backend: Backend) -> None:
    """A runner goes on where it is: the same frames give the same spikes, and so they do in a new network."""
    case = ready(case_name, backend)
    for _ in range(2):
        runner = backend.prepare(case.graph)
        try:
            for _ in range(3):
                run_whole(case, runner)
        finally:
            runner.close()


@pytest.mark.parametrize("case_name", CASES)
def test_after_a_reset(case_name: str, backend: Backend) -> None:
    """A reset leaves no trace of earlier runs."""
    case = ready(case_name, backend)
    runner = backend.prepare(case.graph)
    need(runner, "reset")
    try:
        runner.reset()
        for _ in range(2):
            run_whole(case, runner)
            runner.reset()
        run_whole(case, runner)
    finally:
        runner.close()


def test_two_at_once(backend: Backend) -> None:
    """Two networks take turns; the one that a simulator cannot keep is refused by name, not answered wrongly."""
    first, second = ready("skip_delays", backend), ready("classifier", backend)
    runners = [backend.prepare(first.graph)]
    try:
        try:
            runners.append(backend.prepare(second.graph))
            runners.append(backend.prepare(first.graph))
            for case, runner in [*zip((first, second, first), runners, strict=True)] * 2:
                run_whole(case, runner)
        except StropError as refusal:
            pytest.skip(f"{backend.name} keeps one network at a time: {reason(refusal)}")
    finally:
        for runner in runners:
            runner.close()
    # Whatever closing one of them did, another one can be built.
    runner = backend.prepare(second.graph)
    try:
        run_whole(second, runner)
    finally:
        runner.close()


# Weights ----------------------------------------------------------------------------------------------------------


def prepared(case: Case, backend: Backend, *methods: str) -> Runner:
    """Return a runner whose weights can be changed, or skip."""
    runner = backend.prepare(case.graph, **backend.weight_options)
    need(runner, *methods)
    return runner


def assert_weights(runner: Runner, graph: Graph) -> None:
    """Compare all weights that the simulator has with those of the graph."""
    from strop.graph import weights_of

    wanted, found = weights_of(graph), runner.weights()
    assert found, "no weights were read"
    assert set(found) <= set(wanted)
    for pair, values in found.items():
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, wanted[pair], err_msg=" -> ".join(pair))


@pytest.mark.parametrize("case_name", ["skip_delays", "classifier", "sparse"])
def test_weights_are_read_and_written_back(case_name: str, backend: Backend) -> None:
    """In the graph's units, before and after a run; written back, they change nothing."""
    case = ready(case_name, backend)
    runner = prepared(case, backend, "weights", "set_weights")
    try:
        assert_weights(runner, case.graph)
        run_whole(case, runner)
        runner.set_weights(runner.weights())
        assert_weights(runner, case.graph)
        run_whole(case, runner)
    finally:
        runner.close()


@pytest.mark.parametrize("case_name", ["skip_delays", "classifier"])
def test_weights_changed_in_place(case_name: str, backend: Backend) -> None:
    """Halved, doubled and silenced synapses give the spikes of the graph with those weights; and back again."""
    case = golden_case(case_name)
    runner = prepared(ready(case, backend), backend, "weights", "set_weights")
    try:
        before = runner.weights()
        factors = np.random.default_rng(5).choice([0.0, 0.5, 1.0, 2.0], sum(map(len, before.values())))
        parts = np.split(factors, np.cumsum([len(values) for values in before.values()])[:-1])
        after = {pair: values * part for (pair, values), part in zip(before.items(), parts, strict=True)}
        changed = other_graph(case, with_weights(case.graph, after))
        assert any(not np.array_equal(changed.spikes[n], case.spikes[n]) for n in case.spikes), "nothing changes here"
        ready(changed, backend)
        run_whole(case, runner)
        for weights, expected in ((after, changed), (before, case), (after, changed)):
            runner.set_weights(weights)
            for pair, values in runner.weights().items():
                np.testing.assert_array_equal(values, weights[pair], err_msg=" -> ".join(pair))
            run_whole(expected, runner)
        first = next(iter(before))
        runner.set_weights({first: before[first]})
        run_whole(other_graph(case, with_weights(case.graph, {**after, first: before[first]})), runner)
    finally:
        runner.close()


def test_weights_of_the_other_sign(backend: Backend) -> None:
    """They are taken, or refused by name and nothing has changed."""
    case = ready("skip_delays", backend)
    runner = prepared(case, backend, "weights", "set_weights")
    try:
        before = runner.weights()
        after = {pair: -values for pair, values in before.items()}
        changed = ready(other_graph(case, with_weights(case.graph, after)), backend)
        try:
            runner.set_weights(after)
        except BackendError as refusal:
            reason(refusal)
            run_whole(case, runner)
        else:
            run_whole(changed, runner)
    finally:
        runner.close()


def test_weights_that_do_not_fit_are_refused(backend: Backend) -> None:
    """Another number of them, values that are not finite, a projection that is not there; nothing has changed then."""
    case = ready("skip_delays", backend)
    runner = prepared(case, backend, "weights", "set_weights")
    try:
        pair, values = next(iter(runner.weights().items()))
        wrong = np.full_like(values, np.nan)
        for weights in ({pair: values[:-1]}, {pair: wrong}, {("nobody", pair[1]): values}):
            with pytest.raises(StropError):
                runner.set_weights(weights)
        assert_weights(runner, case.graph)
        run_whole(case, runner)
    finally:
        runner.close()


# Elsewhere --------------------------------------------------------------------------------------------------------


def _spikes_in_a_process(name: str, graph: Graph, signals: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Build and run a graph that came by pickle; return its digest there, and the spikes."""
    runner = get_backend(name).prepare(graph)
    try:
        return graph.digest, runner.run(signals)
    finally:
        runner.close()


@pytest.mark.parametrize("case_name", ["skip_delays"])
def test_a_graph_pickled_and_built_elsewhere(case_name: str, backend: Backend) -> None:
    """In a process that is started for it, as `multiprocessing` does."""
    case = ready(case_name, backend)
    assert pickle.loads(pickle.dumps(case.graph)) == case.graph
    # Spawned, not forked: the other process shares nothing, as on Windows and macOS.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        job = pool.submit(_spikes_in_a_process, backend.name, case.graph, signals_of(case))
        digest, spikes = job.result(timeout=300)
    assert digest == case.graph.digest
    assert_equal(case, spikes)
