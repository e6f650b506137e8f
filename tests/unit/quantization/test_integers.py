"""Exact sums of every neuron: against fractions, from synapses and from kernels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from strop.graph import Convolution, Dense, Graph, Input, Operator, Population, Projection, Select, SumPool
from strop.graph.compose import compose
from strop.quantization import integers
from strop.quantization.integers import PopulationSums, population_sums


def by_fractions(graph: Graph, name: str) -> list[dict[str, Fraction]]:
    """P, N and the heaviest weight of each neuron, from single synapses."""
    rows = [
        dict.fromkeys(("positive", "negative", "heaviest"), Fraction(0)) for _ in range(graph.population(name).size)
    ]
    for projection in graph.incoming(name):
        for _, post, weight in zip(*projection.operator.to_coo(), strict=True):
            exact = Fraction(float(weight))
            rows[post]["positive" if exact > 0 else "negative"] += abs(exact)
            rows[post]["heaviest"] = max(rows[post]["heaviest"], abs(exact))
    return rows


def as_fractions(sums: PopulationSums, neuron: int) -> dict[str, Fraction]:
    grid = Fraction(2) ** int(sums.exponent[neuron])
    return {what: int(getattr(sums, what)[neuron]) * grid for what in ("positive", "negative", "heaviest")}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_sums_are_those_of_the_synapses(seed: int) -> None:
    graph = random_graph(seed, "binary")
    for name in graph.population_names:
        sums = population_sums(graph, name)
        assert not sums.wide.any()
        for neuron, row in enumerate(by_fractions(graph, name)):
            assert as_fractions(sums, neuron) == row


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_kernels_give_no_less_than_their_synapses(seed: int) -> None:
    graph = random_graph(seed, "binary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "EXPANDED", 0)
        found = {name: population_sums(graph, name) for name in graph.population_names}
    for name, sums in found.items():
        for neuron, row in enumerate(by_fractions(graph, name)):
            assert all(as_fractions(sums, neuron)[what] >= row[what] for what in row)


def one_layer(operator: Operator, threshold: float = 0.5, bias: float = 0.0) -> Graph:
    node = Input("x", operator.shape_in, "binary")
    population = Population("a", operator.shape_out, threshold, bias)
    return Graph((node,), (population,), (Projection("x", "a", operator),), (), ("a",))


RNG = np.random.default_rng(3)
KERNEL = np.round(RNG.normal(size=(3, 3, 2, 4)) * 16) / 16


@pytest.mark.parametrize(
    "operator",
    [
        Dense(np.round(RNG.normal(size=(7, 5)) * 64) / 64),
        Dense(np.round(RNG.normal(size=(3, 5)) * 64) / 64, (2, 2)),
        Convolution((6, 6, 2), KERNEL, (1, 1), (1, 1), ((1, 1), (1, 1))),
        Convolution((6, 6, 2), KERNEL, (2, 1), (1, 2), ((0, 1), (0, 0))),
        Convolution((4, 4, 2), KERNEL, (2, 2), (1, 1), ((0, 0), (1, 1)), transposed=True),
        Convolution((6, 6, 4), KERNEL, (1, 1), (1, 1), ((0, 0), (0, 0)), groups=2),
        compose(
            SumPool((6, 6, 2), (2, 2), (2, 2), ((0, 0), (0, 0))),
            Convolution((3, 3, 2), KERNEL, (1, 1), (1, 1), ((1, 1), (1, 1))),
        ),
        compose(
            Convolution((6, 6, 2), KERNEL, (1, 1), (1, 1), ((1, 1), (1, 1))),
            Select((6, 6, 4), np.arange(144)[::-1].reshape(36, 4).copy()),
        ),
    ],
)
def test_kernels_with_one_way_to_each_synapse_give_the_exact_sums(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = one_layer(operator)
    wanted = population_sums(graph, "a")
    monkeypatch.setattr(integers, "EXPANDED", 0)
    found = population_sums(graph, "a")
    for neuron in range(graph.population("a").size):
        assert as_fractions(found, neuron)["positive"] == as_fractions(wanted, neuron)["positive"]
        assert as_fractions(found, neuron)["negative"] == as_fractions(wanted, neuron)["negative"]
        assert as_fractions(found, neuron)["heaviest"] >= as_fractions(wanted, neuron)["heaviest"]


def test_numbers_beyond_62_bits_are_marked() -> None:
    sums = population_sums(one_layer(Dense(np.array([[1.0, 1.0, 2.0**40], [2.0**-70, 2.0**-30, 1.0]]))), "a")
    assert sums.wide.tolist() == [True, False, False]
    many = population_sums(one_layer(Dense(np.full((8, 1), 2.0**60 - 2.0**10))), "a")
    assert not many.wide.any()
    assert population_sums(one_layer(Dense(np.array([[2.0**61 + 512.0], [2.0**61 - 512.0], [2.0**9]]))), "a").positive[
        0
    ]


@pytest.mark.parametrize(
    ("threshold", "bias", "fires_from", "meets", "halves", "on_halves", "closeness"),
    [
        (0.5, 0.0, 1, False, 1, True, 1),
        (1.0, 0.0, 1, True, 2, True, 0),
        (0.0, -2.5, 3, False, 5, True, 1),
        (0.25, 0.0, 1, False, 1, False, 2),
        (0.0, 0.75, 0, False, 2, False, 2),
        (-3.0, 0.0, -3, True, 6, True, 0),
        (2.0**-60, 0.0, 1, False, 1, False, 60),
    ],
)
def test_thresholds_lie_where_they_should(
    threshold: float, bias: float, fires_from: int, meets: bool, halves: int, on_halves: bool, closeness: int
) -> None:
    sums = population_sums(one_layer(Dense(np.ones((4, 1))), threshold, bias), "a")
    found = (sums.fires_from, sums.meets, sums.halves, sums.on_halves, sums.closeness)
    assert tuple(values[0] for values in found) == (fires_from, meets, halves, on_halves, closeness)
