"""Floating-point targets: what a certificate says of them is what numbers of so many digits do, in any order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import BackendError
from strop.graph import Composed, Dense, Graph, Input, Population, Projection
from strop.quantization.certify import certify
from strop.quantization.floating import lift_of
from strop.quantization.quantize import quantize
from strop.running.arithmetic import FLOAT32, FLOAT64, NEURON, Arithmetic

# Numbers of five binary digits, between 2^-6 and 2^5.
TINY = Arithmetic("tiny", None, 5, digits=5, exponents=(-6, 5))
LIFTED = replace(TINY, name="lifted", lift=0.25)


def one_layer(weight: Any, threshold: Any, bias: Any = 0.0) -> Graph:
    weight = np.asarray(weight, dtype=float)
    node, population = Input("x", (weight.shape[0],), "binary"), Population("a", (weight.shape[1],), threshold, bias)
    return Graph((node,), (population,), (Projection("x", "a", Dense(weight)),), (), ("a",))


def rounded(value: Fraction, arithmetic: Arithmetic) -> Fraction:
    """Return a value in the nearest number of the arithmetic; one below the smallest grid becomes 0."""
    assert arithmetic.digits is not None
    assert arithmetic.exponents is not None
    if value == 0:
        return value
    exponent = 0
    while abs(value) >= Fraction(2) ** exponent:
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent - 1):
        exponent -= 1
    if exponent > arithmetic.exponents[1]:
        return Fraction(2) ** 99 * (1 if value > 0 else -1)
    step = Fraction(2) ** max(exponent - arithmetic.digits, arithmetic.exponents[0])
    return Fraction(round(value / step)) * step


def differs(graph: Graph, arithmetic: Arithmetic, rng: np.random.Generator) -> bool:
    """Whether for some input, some order of additions gives another sum than the true one, or another spike."""
    population, operator = graph.population("a"), graph.projections[0].operator
    assert isinstance(operator, Dense)
    for neuron, column in enumerate(operator.weight.T):
        threshold = float(population.threshold[neuron])
        lift = Fraction(lift_of(threshold, arithmetic))
        raised = rounded(Fraction(threshold) + lift, arithmetic)
        for spikes in itertools.product((0, 1), repeat=len(column)):
            terms = [Fraction(float(w)) for w, s in zip(column, spikes, strict=True) if s]
            terms += [Fraction(float(population.bias[neuron])) + lift]
            true = sum(terms, Fraction(0))
            for order in (range(len(terms)), range(len(terms))[::-1], rng.permutation(len(terms))):
                total = Fraction(0)
                for place in order:
                    total = rounded(total + rounded(terms[place], arithmetic), arithmetic)
                if total != true or (total >= raised) != (true >= Fraction(threshold) + lift):
                    return True
    return False


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arithmetic=st.sampled_from([TINY, LIFTED]))
def test_what_is_proved_adds_up_exactly_in_any_order(seed: int, arithmetic: Arithmetic) -> None:
    rng = np.random.default_rng(seed)
    inputs, scale = int(rng.integers(1, 6)), 2.0 ** -rng.integers(-1, 5)
    weight = rng.integers(-4, 5, (inputs, 1)) * scale
    threshold = rng.integers(-9, 10, 1) * scale / 2.0
    bias = rng.integers(-2, 3, 1) * scale / 2.0 ** rng.integers(0, 3)
    graph = one_layer(weight, threshold, bias)
    if certify(graph, arithmetic).holds:
        assert not differs(graph, arithmetic, rng)


def test_both_kinds_are_drawn_and_the_proof_is_not_needlessly_narrow() -> None:
    rng = np.random.default_rng(0)
    proved = rounds = missed = 0
    for _ in range(100):
        scale = 2.0 ** -rng.integers(0, 3)
        weight, bias = rng.integers(-9, 10, (3, 1)) * scale, rng.integers(-2, 3, 1) / 8.0
        graph = one_layer(weight, rng.integers(0, 19, 1) / 2.0, bias)
        holds, wrong = certify(graph, TINY).holds, differs(graph, TINY, rng)
        proved, rounds, missed = proved + holds, rounds + wrong, missed + (not holds and not wrong)
    assert proved > 30
    assert rounds > 20
    assert missed < 10


def test_a_bias_beside_the_grid_is_rounded_in_another_order_and_not_proved() -> None:
    # One order of float64 additions reaches this threshold, another does not.
    left, right = (0.61 + 7.0) - 4.0, 0.61 + (7.0 - 4.0)
    assert left > right
    certificate = certify(one_layer([[7.0], [-4.0]], left, 0.61), "float64")
    assert not certificate.holds
    assert "its weights and its bias are no whole numbers of one grid within the 53 digits" in str(certificate)
    assert certify(one_layer([[7.0], [-4.0]], left, 0.625), "float64").holds


def test_sums_beyond_the_largest_number_and_grids_below_the_smallest_are_not_proved() -> None:
    with np.errstate(over="ignore"):
        assert np.isinf(np.float64(1e308) + np.float64(1e308))
    assert not certify(one_layer([[1e308], [1e308], [-1e308]], 1.5e308), "float64").holds
    assert certify(one_layer([[2.0**1021], [2.0**1021], [-(2.0**1021)]], 2.0**1020), "float64").holds
    # -ffast-math makes 0 of a number like this.
    assert not certify(one_layer([[5e-324], [1e-323]], 7e-324), "float64").holds
    assert not certify(one_layer([[1e38], [3e38]], 2e38), "float32").holds


@pytest.mark.parametrize(
    ("target", "weight", "threshold", "bias", "proved"),
    [
        # The bias takes digits: 2^53 + 1 is no float64.
        (FLOAT64, 1.0, 0.5, 2.0**52, True),
        (FLOAT64, 1.0, 0.5, 2.0**53, False),
        (FLOAT64, 1.0, 0.5, -(2.0**53), False),
        (TINY, 30.0, 0.5, 1.0, True),
        (TINY, 31.0, 0.5, 1.0, False),
        # So does the lift, twice a negative threshold at most.
        (replace(FLOAT64, lift=1.0), 2.0**-44, -3.0, 0.0, True),
        (replace(FLOAT64, lift=1.0), 2.0**-44, -768.0, 0.0, False),
        (FLOAT64, 2.0**-44, -768.0, 0.0, True),
        # Weights below the smallest normal number may be flushed, whatever the threshold is.
        (FLOAT64, 2.0**-1022, 2.0**-1000, 0.0, True),
        (FLOAT64, 2.0**-1023, 2.0**-1000, 0.0, False),
        (FLOAT64, 2.0**-1000, 2.0**-1000, 2.0**-1022, True),
        (FLOAT64, 2.0**-1000, 2.0**-1000, 2.0**-1023, False),
    ],
)
def test_bias_and_lift_take_digits_and_no_number_is_too_small(
    target: Arithmetic, weight: float, threshold: float, bias: float, proved: bool
) -> None:
    assert certify(one_layer([[weight]], threshold, bias), target).holds is proved


def test_a_threshold_that_float32_rounds_onto_a_sum_is_not_proved() -> None:
    sums, threshold = 2.0**23, 2.0**23 + 0.5
    assert np.float32(threshold) == np.float32(sums)
    graph = one_layer([[sums], [1.0]], threshold)
    assert certify(graph, "float64").holds
    certificate = certify(graph, "float32")
    assert not certificate.holds
    assert "its threshold is no number of the 24 digits of float32" in str(certificate)


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_quantised_for_float32_are_float32(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = quantize(one_layer(rng.normal(size=(5, 30)), rng.normal(size=30) * 3.0), "float32")
    assert certify(graph, "float32").holds
    threshold, operator = graph.population("a").threshold, graph.projections[0].operator
    assert isinstance(operator, Dense)
    np.testing.assert_array_equal(threshold.astype(np.float32), threshold)
    np.testing.assert_array_equal(operator.weight.astype(np.float32), operator.weight)


def test_weights_that_are_products_which_float64_rounds_are_not_proved() -> None:
    third = 1.0 + 2.0**-40
    exact, inexact = (Composed((Dense(np.array([[w]])), Dense(np.array([[w]])))) for w in (3.0, third))
    for operator, proved in ((exact, True), (inexact, False)):
        node, population = Input("x", (1,), "binary"), Population("a", (1,), 0.5, 0.0)
        graph = Graph((node,), (population,), (Projection("x", "a", operator),), (), ("a",))
        assert certify(graph, "float64").holds is proved


# Simulators that scale potentials: the statements of pynn-brian2 and pynn-neuron -------------------------------------

DECAYING = replace(FLOAT64, name="decaying", sum_bits=47, resolution=2.0**-52, exponents=(-222, 45), lift=2.0**-20)


def hard_graphs(seed: int, bits: int) -> Graph:
    """A neuron whose sums reach many bits, and whose threshold lies beside one of them, or is 0 or negative."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-(2**bits), 2**bits, (6, 1)).astype(float)
    spikes = rng.integers(0, 2, 6)
    near = float(weight[:, 0] @ spikes) + rng.choice([0.0, 0.5, -0.5, 1.0])
    scale = 2.0 ** rng.integers(-60, 1)
    return one_layer(weight * scale, rng.choice([near, -abs(near), 0.0]) * scale)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(3, 50), exponent=st.integers(560, 800))
def test_a_decay_keeps_sums_and_thresholds_apart_where_it_is_proved(seed: int, bits: int, exponent: int) -> None:
    graph = hard_graphs(seed, bits)
    certificate = certify(graph, DECAYING)
    if bits <= 40 and graph.population("a").threshold[0] != 0.0:
        assert certificate.holds, str(certificate)
    if not certificate.holds:
        return
    factor = 2.0**-exponent * (1.0 - 3e-14)
    population, operator = graph.population("a"), graph.projections[0].operator
    assert isinstance(operator, Dense)
    threshold = float(population.threshold[0])
    lift = lift_of(threshold, DECAYING)
    # As strop_backends.pynn.brian2.dialect does it.
    lowered = np.nextafter((threshold + lift) * factor, -np.inf)
    for spikes in itertools.product((0.0, 1.0), repeat=6):
        total = float(operator.weight[:, 0] @ np.array(spikes)) + lift
        exact = sum(Fraction(float(w)) for w, s in zip(operator.weight[:, 0], spikes, strict=True) if s)
        assert bool(total * factor > lowered) is (exact >= Fraction(threshold))
        assert total * factor * factor == 0.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(3, 36))
def test_the_roundings_of_a_membrane_decide_nothing_where_it_is_proved(seed: int, bits: int) -> None:
    graph = hard_graphs(seed, bits)
    certificate = certify(graph, NEURON)
    if not certificate.holds:
        assert bits > 28 or graph.population("a").threshold[0] <= 0, str(certificate)
        return
    population, operator = graph.population("a"), graph.projections[0].operator
    assert isinstance(operator, Dense)
    threshold = Fraction(float(population.threshold[0]))
    lift = Fraction(lift_of(float(threshold), NEURON))
    lowered = (threshold + lift) * (1 - Fraction(1, 2**44))
    column = [Fraction(float(w)) for w in operator.weight[:, 0]]
    # The largest that 64 roundings, and what the frame before has left over, can do.
    factor, left = Fraction(64, 2**53), sum(abs(w) for w in column) * Fraction(1, 2**79)
    for spikes in itertools.product((0, 1), repeat=6):
        total = sum((w for w, s in zip(column, spikes, strict=True) if s), lift)
        for sign in (-1, 1):
            assert (total + sign * (abs(total) * factor + left) > lowered) is (total >= threshold + lift)


def test_a_threshold_of_zero_is_raised_beyond_what_small_grids_resolve() -> None:
    small = one_layer([[2.0**-60], [-(2.0**-60)]], -(2.0**-61))
    assert certify(small, DECAYING).holds
    zero = one_layer([[2.0**-60], [-(2.0**-60)]], 0.0)
    assert not certify(zero, NEURON).holds
    assert certify(zero, "float64").holds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"digits": 24}, "digits and exponents belong together"),
        ({"exponents": (-3, 3)}, "digits and exponents belong together"),
        ({"digits": 54, "exponents": (-3, 3)}, r"digits must lie in 1\.\.53, got 54"),
        ({"lift": 1.0}, "lift must be a power of two, and needs digits"),
        ({"digits": 24, "exponents": (-3, 3), "lift": 0.75}, "lift must be a power of two"),
        ({"digits": 24, "exponents": (-3, 3), "lift": 0.0}, "lift must be a power of two"),
    ],
)
def test_arithmetics_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        Arithmetic("bad", None, 20, **fields)


def test_a_certificate_names_digits_exponents_and_lift() -> None:
    found = certify(one_layer([[1.0]], 0.5), FLOAT32).to_dict()["target"]
    assert (found["digits"], found["exponents"], found["lift"]) == (24, [-126, 128], None)
    assert certify(one_layer([[1.0]], 0.5), NEURON).to_dict()["target"]["lift"] == 1.0
