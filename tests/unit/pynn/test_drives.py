"""Values that drive units on the PyNN simulators: what each module claims of its own, and every spike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pynn_graphs import require
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError, CapacityError
from strop.graph import Dense, Graph, Input, Population
from strop.running.oracle import evaluate, potential
from strop.running.registry import get_backend

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


@pytest.fixture(params=["pynn-nest", "pynn-brian2", "pynn-neuron"])
def simulator(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return request.param


# Values whose sums round, and thresholds at, above and below zero.
THRESHOLD = np.array([1 / 3, 0.0, -0.7, 0.1, 1e-3, 0.0])
BIAS = np.array([0.0, 0.1, 0.2, 0.3, -0.4, 1 / 3])


def driven(encoding: str = "current") -> Graph:
    only = Population("a", (6,), THRESHOLD, BIAS)
    return Graph.from_nodes([Input("x", (6,), encoding)], [only], [("x", "a", Dense(np.eye(6)))], outputs=["a"])


def values(count: int) -> Any:
    """Frames of which every third brings each unit to its threshold, in float64, and the next one just below it."""
    frames = np.random.default_rng(0).normal(0.0, 1.0, (count, 6))
    frames[::3] = THRESHOLD - BIAS
    frames[1::3] = THRESHOLD - BIAS - 2.0**-30
    return frames


def test_a_value_that_brings_a_unit_to_its_threshold_fires_and_less_does_not(simulator: str) -> None:
    graph, signals = driven(), {"x": values(60)}
    expected, a = evaluate(graph, signals)["a"], potential(graph, "a", signals)
    assert (a == THRESHOLD).any(axis=0).sum() >= 5, "the test must hit thresholds"
    runner = get_backend(simulator).prepare(graph)
    try:
        np.testing.assert_array_equal(runner.run(signals)["a"], expected)
        # On the same network again, in chunks of odd lengths.
        for rows in (slice(0, 7), slice(7, 8), slice(8, 60)):
            np.testing.assert_array_equal(runner.run({"x": signals["x"][rows]})["a"], expected[rows])
    finally:
        runner.close()


@pytest.mark.parametrize("backend", ["pynn-nest", "pynn-brian2"])
def test_neighbouring_floats_are_told_apart(backend: str) -> None:
    require(backend)
    graph, frames = driven(), np.stack([THRESHOLD - BIAS, np.nextafter(THRESHOLD - BIAS, -9)] * 3)
    signals = {"x": frames}
    expected = evaluate(graph, signals)["a"]
    assert expected[0].any()
    assert not expected[1].all()
    runner = get_backend(backend).prepare(graph)
    np.testing.assert_array_equal(runner.run(signals)["a"], expected)
    runner.close()


def test_values_meet_the_spikes_of_their_own_frame(simulator: str) -> None:
    rng = np.random.default_rng(3)
    weights = [rng.integers(-4, 5, shape) / 4 for shape in ((3, 4), (4, 5), (3, 5))]
    graph = Graph.from_nodes(
        [Input("x", (3,), "current")],
        [Population("a", (4,), 0.25, 0.25), Population("b", (5,), [0.5, 0.0, -0.5, 1.0, 0.25], -0.25)],
        [("x", "a", Dense(weights[0])), ("a", "b", Dense(weights[1])), ("x", "b", Dense(weights[2]))],
        outputs=["b"],
    )
    frames = rng.integers(-6, 7, (40, 3)) / 4
    expected = evaluate(graph, {"x": frames})
    found = strop.simulate(graph, frames, simulator).spikes
    for name, spikes in expected.items():
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_a_host_s_values_reach_a_population_that_spikes_feed_too(simulator: str) -> None:
    # Lowering refuses such a network under the encoding "host"; a graph made by hand may have it.
    graph = Graph.from_nodes(
        [Input("x", (2,))],
        [Population("a", (2,), 0.5, 0.0), Population("b", (2,), 1.0, 0.0)],
        [("x", "a", Dense(np.eye(2))), ("a", "b", Dense(np.eye(2))), ("x", "b", Dense(np.eye(2)))],
        outputs=["b"],
    )
    frames = np.array([[0.5, 0.25], [0.0, 0.75], [-1.0, 0.5]])
    spikes = strop.simulate(graph, frames, simulator).spikes["b"]
    np.testing.assert_array_equal(spikes, [[True, False], [False, True], [False, True]])


def test_nest_has_a_generator_for_each_cell_and_threads_and_spread_change_nothing() -> None:
    require("pynn-nest")
    network = strop.build(driven(), "pynn-nest")
    generators = network.drives["a"]
    assert len(generators) == 6
    assert generators[0].model == "step_current_generator"
    network.present(values(5))
    amplitudes = np.array([generator.amplitude_values for generator in generators])
    # PyNN would have multiplied by 1000. The last one is followed by nothing.
    np.testing.assert_array_equal(amplitudes, np.vstack([values(5).astype(np.float32), np.zeros(6)]).T)
    expected = evaluate(driven(), {"x": values(30)})["a"]
    for options in ({"threads": 2}, {"spread": 3}, {"timestep": 0.1}):
        runner = get_backend("pynn-nest").prepare(driven(), **options)
        np.testing.assert_array_equal(runner.run({"x": values(30)})["a"], expected, err_msg=str(options))
        runner.close()


def test_driven_units_need_no_standing_input(simulator: str) -> None:
    network = strop.build(driven(), simulator)
    assert "always-on" not in network.populations
    assert set(network.drives) == {"a"}


def test_values_beyond_the_memory_are_refused_with_the_figure(simulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = strop.build(driven(), simulator)
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1000")
    with pytest.raises(CapacityError, match=r"driving the 6 neurons of 'a' through 60 frames .* the limit is 1.0 kB"):
        network.present(values(60))


def test_spinnaker_refuses_values_and_says_what_to_do() -> None:
    from strop_backends.pynn import PyNNSpinnakerBackend
    from strop_backends.pynn.spinnaker.fixed_point import fixed_point_spikes

    with pytest.raises(BackendError, match="cannot run the encoding 'current' of input 'x'; it can run: host"):
        PyNNSpinnakerBackend().check(driven())
    with pytest.raises(BackendError, match="'a' is driven by the values of input 'x'.*encoding='bitplane'"):
        fixed_point_spikes(driven(), values(3), {})
