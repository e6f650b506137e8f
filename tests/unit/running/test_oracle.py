"""The oracle: thresholds hit exactly, delays that keep waves together, bounds that hold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop import simulate
from strop.graph import Dense, Graph, Input, Population, Readout, Scale
from strop.running.oracle import FLOAT32_UNIT, evaluate, fan_in, gamma, magnitude, potential, terms
from strop.verification.bounds import Bound, SimulatorBound
from strop.verification.judge import judge
from strop.verification.verify import verify


def chain(threshold: float, bias: float, weight: float = 1.0) -> Graph:
    return Graph.from_nodes(
        [Input("x", (1,))],
        [Population("a", (1,), threshold, bias), Population("b", (1,), 0.5, 0.0)],
        [("x", "a", Dense([[weight]])), ("a", "b", Dense([[1.0]]))],
        (),
        ["b"],
    )


@pytest.mark.parametrize("threshold", [0.5, 0.0, -3.0, 1e-30, 1e30])
def test_a_unit_fires_exactly_from_the_threshold_upwards(threshold: float) -> None:
    for value, fires in (
        (threshold, True),
        (np.nextafter(threshold, np.inf), True),
        (np.nextafter(threshold, -np.inf), False),
    ):
        spikes = evaluate(chain(threshold, 0.0), {"x": np.array([[value]])})
        assert spikes["a"].item() is fires
        assert spikes["b"].item() is fires
        from_bias = evaluate(chain(threshold, value), {"x": np.zeros((1, 1))})
        assert from_bias["a"].item() is fires


def delayed_skip() -> Graph:
    """c fires iff a (two steps away) and b (one step away) of the same frame both fired."""
    one = Dense([[1.0]])
    return Graph.from_nodes(
        [Input("x", (1,))],
        [Population("a", (1,), 0.5, 0.0), Population("b", (1,), 0.5, 0.0), Population("c", (1,), 1.5, 0.0)],
        [("x", "a", one), ("a", "b", one), ("a", "c", one), ("b", "c", one)],
        (),
        ["c"],
    )


def test_streaming_keeps_frames_apart_over_skip_connections() -> None:
    frames = np.random.default_rng(0).integers(0, 2, (50, 1)).astype(np.float32)
    spikes = simulate(delayed_skip(), frames, "reference").spikes
    assert 0 < frames.sum() < 50
    for name in "abc":
        np.testing.assert_array_equal(spikes[name], frames > 0.5)


def test_a_unit_whose_bias_reaches_the_threshold_fires_in_every_frame() -> None:
    spikes = simulate(chain(0.5, 0.5, weight=-0.25), np.array([[0.0], [1.0], [0.0]], np.float32), "reference").spikes
    assert spikes["a"].reshape(-1).tolist() == [True, False, True]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_float32_bound_holds_for_every_order_of_summation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    weight = (rng.normal(size=n) * 10.0 ** rng.integers(-3, 4, n)).astype(np.float32)
    spikes = rng.random((1, n)) < 0.7
    graph = Graph.from_nodes(
        [Input("x", (n,))], [Population("a", (1,), 0.5, 0.0)], [("x", "a", Dense(weight[:, None]))], (), ["a"]
    )
    exact = sum((Fraction(float(w)) for w in weight[spikes[0]]), Fraction(0))
    bound = gamma(terms(graph, "a"), FLOAT32_UNIT) * magnitude(graph, "a", {"x": spikes}).item()
    for _ in range(5):
        total = np.float32(0)
        for w in rng.permutation(weight[spikes[0]]):
            total = np.float32(total + w)
        assert abs(float(total) - float(exact)) <= bound
    assert potential(graph, "a", {"x": spikes}).item() == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


def test_gamma_refuses_sums_that_leave_no_digit() -> None:
    assert gamma(1, FLOAT32_UNIT) == pytest.approx(2.0**-24, rel=1e-6)
    with pytest.raises(ValueError, match="no correct digit"):
        gamma(2**24, FLOAT32_UNIT)


def test_fan_in_counts_expanded_synapses() -> None:
    graph = Graph.from_nodes(
        [Input("x", (3,))],
        [Population("a", (2,), 0.5, 0.0)],
        [("x", "a", Dense([[1.0, 0.0], [1.0, 2.0], [0.0, 3.0]])), ("x", "a", Dense(np.ones((3, 2))))],
        (),
        ["a"],
    )
    assert fan_in(graph, "a") == 5


class Generous(Bound):
    def error(self, name: str, signals: object) -> np.ndarray:
        return np.full((3, 1), 0.6)


def test_judge_tells_ties_from_faults_and_blames_the_layer_that_did_it() -> None:
    graph = delayed_skip()
    signals = {"x": np.array([[1.0], [1.0], [0.0]])}
    observed = evaluate(graph, signals)
    observed["a"] = observed["a"].copy()
    observed["a"][0] = False  # a lies; b and c then answer a's lie correctly with silence
    observed["b"], observed["c"] = observed["a"], observed["a"]
    verdicts = judge(graph, signals, observed, SimulatorBound(graph)).verdicts
    assert {name: int(v.faults.sum()) for name, v in verdicts.items()} == {"a": 1, "b": 0, "c": 0}
    assert not any(v.ties.any() for v in verdicts.values())
    generous = judge(graph, signals, observed, Generous()).verdicts
    assert {name: int(v.ties.sum()) for name, v in generous.items()} == {"a": 1, "b": 0, "c": 0}
    assert not any(v.faults.any() for v in generous.values())


def test_doubt_about_a_hidden_population_reaches_what_it_feeds() -> None:
    graph = chain(0.5, 0.0, weight=0.1)  # no float64 is a tenth: the product is rounded to the threshold
    signals = {"x": np.array([[5.0], [9.0]])}
    observed = {"b": np.array([[False], [False]])}  # nobody shows a, which lies on its threshold in frame 0 only
    verdicts = judge(graph, signals, observed, SimulatorBound(graph)).verdicts
    assert verdicts["b"].ties.reshape(-1).tolist() == [True, False]
    assert verdicts["b"].faults.reshape(-1).tolist() == [False, True]


def test_a_saved_graph_is_verified_without_keras_and_scored() -> None:
    graph = Graph.from_nodes(
        [Input("x", (2,))],
        [Population("a", (2,), 0.5, 0.0)],
        [("x", "a", Scale((2,), np.ones(2)))],
        [Readout("out", "linear", ("a",), (Dense(np.eye(2)),), np.zeros(2))],
        ["out"],
    )
    frames = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    report = verify(graph, frames, [0, 1, 1], backends=["reference"])
    assert report.passed
    assert report.keras is None
    found = report.to_dict()
    assert found["backends"]["reference"]["accuracy"] == pytest.approx(2 / 3)  # ties go to the lower index
    assert found["backends"]["reference"]["layers"][0] == {
        "name": "a",
        "units": 2,
        "spikes": 4,
        "faults": 0,
        "ties": 0,
        "compared": 6,
        "undecided": 0,
    }
    assert found["graph"] == {
        "populations": 1,
        "neurons": 2,
        "synapses": 2,
        "depth": 1,
        "synaptic_events_per_frame": 0.0,
    }
