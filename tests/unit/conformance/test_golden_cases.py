"""The golden cases themselves: what they cover, and that they still are what exact arithmetic says."""

from __future__ import annotations

from fractions import Fraction
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_frames, random_graph

import strop.running.reference
from strop.conformance import exact, golden_case, golden_names
from strop.conformance.cases import RECIPES
from strop.conformance.checks import assert_equal
from strop.graph import Dense, Operator, difference
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend

NAMES = golden_names()


def test_every_recipe_is_shipped() -> None:
    assert sorted(RECIPES) == NAMES
    assert len(NAMES) > 35


@pytest.mark.parametrize("name", NAMES)
def test_shipped_spikes_are_what_exact_arithmetic_says(name: str) -> None:
    case = golden_case(name)
    spikes = exact.spikes(case.graph, {key: values[:12] for key, values in case.frames.items()})
    assert set(spikes) == set(case.spikes)
    for population, values in spikes.items():
        assert np.array_equal(values, case.spikes[population][:12])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "classifier"])
def test_shipped_graphs_are_what_the_recipes_make(name: str) -> None:
    recipe, case = RECIPES[name](), golden_case(name)
    assert difference(recipe.graph, case.graph) is None
    assert all(np.array_equal(recipe.frames[key], values) for key, values in case.frames.items())
    assert case.precision == recipe.precision


def test_cases_cover_every_operator_encoding_and_depth() -> None:
    seen: set[Any] = set()

    def note(operator: Operator) -> None:
        seen.add(type(operator).__name__)
        for stage in getattr(operator, "stages", ()):
            note(stage)

    for name in NAMES:
        graph = golden_case(name).graph
        seen |= {node.encoding for node in graph.inputs}
        seen |= {p.delay for p in graph.projections}
        for projection in graph.projections:
            note(projection.operator)
    operators = {"Dense", "Convolution", "SumPool", "Scale", "Select", "Sparse", "Composed"}
    assert seen >= operators | {"host", "bitplane", "binary", "current"} | {1, 2, 3}


def test_cases_hit_thresholds_exactly_and_fire_about_half_the_time() -> None:
    hits, rates = 0, []
    for name in NAMES:
        case = golden_case(name)
        signals: dict[str, Any] = {**encode(case.graph, as_frames(case.graph, case.frames)), **case.spikes}
        for population in case.graph.populations:
            a = strop.running.oracle.potential(case.graph, population.name, signals)
            hits += int((a == population.threshold).sum())
            rates.append(case.spikes[population.name].mean())
    assert hits > 1000
    assert 0.3 < np.mean(rates) < 0.7
    assert min(rates) == 0.0
    assert max(rates) == 1.0


@pytest.mark.several_extras
def test_classifier_classifies() -> None:
    case = golden_case("classifier")
    assert len(set(case.classes.tolist())) >= 9
    datasets = pytest.importorskip("sklearn.datasets")
    assert (case.classes == datasets.load_digits().target[1500:1540]).mean() > 0.8


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_exact_arithmetic_and_the_oracle_agree_on_random_graphs(seed: int) -> None:
    graph = random_graph(seed)
    frames = random_frames(graph, 4, seed)
    oracle = evaluate(graph, encode(graph, as_frames(graph, frames)))
    for name, values in exact.spikes(graph, frames).items():
        assert np.array_equal(values, oracle[name])


def test_exact_arithmetic_keeps_what_float64_would_lose() -> None:
    rows = exact.expand(Dense(np.array([[1.0], [2.0**-80]])))
    assert sum(rows[0].values()) == 1 + Fraction(1, 2**80)


# A comparison changed in one of our own backends ---------------------------------------------------------


def failing(backend: str, names: list[str], **options: Any) -> list[str]:
    """Return which golden cases a backend fails."""
    failed = []
    engine = get_backend(backend)
    for name in names:
        case = golden_case(name)
        runner = engine.prepare(case.graph, **options)
        observed = runner.run(encode(case.graph, as_frames(case.graph, case.frames)))
        runner.close()
        try:
            assert_equal(case, observed)
        except pytest.fail.Exception:
            failed.append(name)
    return failed


EXACT_HITS = ["threshold_hit_exactly", "bias_at_and_beyond_the_threshold", "threshold_zero_and_negative"]


def test_reference_with_a_strict_comparison_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing("reference", EXACT_HITS) == []
    monkeypatch.setattr(strop.running.reference, "fires", lambda population, a: a > population.threshold)
    assert failing("reference", EXACT_HITS) == EXACT_HITS


def test_nengo_with_a_strict_comparison_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("strop_backends.nengo").load_nengo()
    from strop_backends.nengo import neuron

    def strict(self: Any, dt: float, J: Any, output: Any, threshold: Any) -> None:
        output[...] = threshold < J

    assert failing("nengo", EXACT_HITS) == []
    monkeypatch.setattr(neuron.MemorylessThreshold, "step", strict)
    assert failing("nengo", EXACT_HITS) == EXACT_HITS


@pytest.mark.several_extras
def test_brian2_with_a_strict_comparison_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("brian2")
    network = import_module("strop_backends.brian2.network")
    group = network.Neurons

    def strict(*arguments: Any, threshold: str, **more: Any) -> Any:
        assert threshold == "v >= th"
        return group(*arguments, threshold="v > th", **more)

    assert failing("brian2", EXACT_HITS, target="numpy") == []
    monkeypatch.setattr(network, "Neurons", strict)
    assert failing("brian2", EXACT_HITS, target="numpy") == EXACT_HITS


# Fidelity ------------------------------------------------------------------------------------------------


def test_fidelity_is_exact_where_no_sum_can_be_rounded() -> None:
    engine = get_backend("reference")
    levels = engine.fidelity(golden_case("dense").graph)
    assert levels[0] == ("relay", "exact", "evaluated on the host, in float64")
    assert levels[1][:2] == ("target", "exact")
    assert "53 bits" in levels[1][2]


def test_fidelity_states_a_margin_where_sums_are_rounded() -> None:
    from strop.conformance.cases.recipe import behind_a_relay

    graph = behind_a_relay(Dense(np.full((10, 2), 0.1)), 0.5, 2.0**-60)
    ((_, level, reason),) = get_backend("reference").fidelity(graph)[1:]
    assert level == f"exact within {2 * 15 * 2.0**-53 * 1.0:.1e}"
    assert "another order" in reason


def test_fidelity_names_the_encoding_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = get_backend("reference")
    monkeypatch.setattr(type(engine), "encodings", ("host",))
    levels = engine.fidelity(golden_case("encoding_current").graph)
    assert [level for _, level, _ in levels] == ["unsupported", "exact", "exact"]
    assert "cannot run the encoding 'current' of 'x'" in levels[0][2]
    assert golden_case("encoding_current").missing(engine) == ["the encoding 'current'"]


def test_float32_backend_is_not_asked_for_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = get_backend("reference")
    monkeypatch.setattr(type(engine), "precision", "float32")
    assert golden_case("threshold_one_float64_apart").missing(engine) == ["float64 (it calculates in float32)"]
    assert golden_case("threshold_just_above_and_below").missing(engine) == []
    assert "24 bits of float32" in engine.fidelity(golden_case("dense").graph)[1][2]
