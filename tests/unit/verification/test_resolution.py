"""A backend that states what it resolves: differences within that are ties, cases beyond it are skipped."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from strop.conformance import golden_case
from strop.graph import Dense, Graph, Input, Population
from strop.running.fidelity import compared, fidelity_of
from strop.running.reference import ReferenceBackend
from strop.verification.bounds import SimulatorBound
from strop.verification.judge import judge

RESOLUTION = 2.0**-30


class BlurredBackend(ReferenceBackend):
    name: ClassVar[str] = "blurred"
    resolution: ClassVar[float] = RESOLUTION


def gap_graph(gap: float, threshold: float = 0.5, bias: float = 0.0) -> Graph:
    """One unit whose potential is `gap` below its threshold when its only source fires."""
    return Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [Population("y", (1,), threshold, bias)],
        [("x", "y", Dense(np.array([[threshold - bias - gap]])))],
        outputs=["y"],
    )


def verdict_on(graph: Graph, fired: bool, resolution: float) -> tuple[int, int]:
    observed = {"y": np.array([[fired]])}
    found = judge(graph, {"x": np.array([[True]])}, observed, SimulatorBound(graph, resolution)).verdicts["y"]
    return int(found.faults.sum()), int(found.ties.sum())


@pytest.mark.parametrize("threshold", [0.5, -0.5, 3.0, 0.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_difference_is_a_tie_up_to_the_resolution_and_a_fault_beyond_it(threshold: float, side: float) -> None:
    # What is compared: the potential and the threshold, 1 in the place of a threshold of 0.
    scale = 2.0 * abs(threshold) if threshold else 1.0
    for gap, expected in ((0.9 * RESOLUTION * scale, (0, 1)), (1.1 * RESOLUTION * scale, (1, 0))):
        graph = gap_graph(side * gap, threshold)
        # Below the threshold the oracle is silent, above it the oracle fires: the claim is the other thing.
        assert verdict_on(graph, side > 0, RESOLUTION) == expected
        assert verdict_on(graph, side > 0, 0.0) == (1, 0)
        assert verdict_on(graph, side < 0, RESOLUTION) == (0, 0)


def test_the_bias_counts_among_what_is_compared() -> None:
    graph = gap_graph(2.9 * RESOLUTION, threshold=0.5, bias=-1.0)
    assert verdict_on(graph, True, RESOLUTION) == (0, 1)
    sizes = compared(graph.population("y"), np.array([[1.5]]))
    np.testing.assert_array_equal(sizes, [[3.0]])


def test_what_the_host_evaluates_has_no_blur() -> None:
    graph = Graph.from_nodes(
        [Input("x", (1,), "host")],
        [Population("y", (1,), 0.5, 0.0), Population("z", (1,), 0.5, 0.0)],
        [("x", "y", Dense(np.array([[0.5 - RESOLUTION / 2]]))), ("y", "z", Dense(np.array([[0.5 - RESOLUTION / 2]])))],
        outputs=["z"],
    )
    bound = SimulatorBound(graph, RESOLUTION)
    ones: dict[str, Any] = {"x": np.ones((1, 1)), "y": np.ones((1, 1), dtype=bool)}
    assert bound.blur("y", ones).max() == 0.0
    assert bound.error("y", ones).max() < 1e-13
    assert bound.blur("z", ones)[0, 0] > RESOLUTION * 0.99


def test_fidelity_is_exact_while_neighbouring_potentials_are_further_apart_than_the_blur() -> None:
    quarters = Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("y", (1,), 0.5, 0.25)],
        [("x", "y", Dense(np.array([[0.25], [0.5], [-0.75]])))],
        outputs=["y"],
    )
    assert fidelity_of(quarters, ("binary",), "float64", "b", RESOLUTION)[0][1] == "exact"
    # 1.5 of weights, 0.25 of bias, 0.5 of threshold: a resolution of 1/8 blurs 0.28, and a unit is 0.25.
    _, level, reason = fidelity_of(quarters, ("binary",), "float64", "b", 0.125)[0]
    assert level == "exact within 2.8e-01"
    assert "b resolves 1.2e-01 of what it compares" in reason
    assert fidelity_of(quarters, ("binary",), "float64", "b", 0.11)[0][1] == "exact"


def test_a_golden_case_beyond_the_resolution_is_skipped_and_the_reason_names_it() -> None:
    backend = BlurredBackend()
    (reason,) = golden_case("threshold_one_float64_apart").missing(backend)
    assert reason == "potentials that close to their thresholds (it resolves 9.3e-10 of what is compared)"
    # One float32 apart is 2^-25, and 2^-30 of what is compared is less; a sum that is equal must fire anyway.
    assert golden_case("threshold_just_above_and_below").missing(backend) == []
    assert golden_case("threshold_hit_exactly").missing(backend) == []
    assert golden_case("threshold_one_float64_apart").missing(ReferenceBackend()) == []
