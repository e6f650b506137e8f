"""SpiNNaker's arithmetic against cases that were calculated by hand."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynn_graphs import branched_graph, one_layer
from random_graphs import random_frames, random_graph

from strop.errors import BackendError
from strop.quantization.quantize import quantize
from strop_backends.pynn.spinnaker import fixed_point
from strop_backends.pynn.spinnaker.fixed_point import (
    Scaling,
    exact_scaling,
    fixed_point_report,
    least_margin,
    measured_scaling,
    shift_for,
)


def test_a_weight_is_rounded_to_the_grid_of_its_shift() -> None:
    # Shift 6: the grid is 2^-9 = 0.001953125. 0.4995 is 255.744 steps, 256 of them are 0.5: it reaches the
    # threshold. 0.499 is 255.488 steps: it does not. 0.3 + 0.2 = 153.6 + 102.4 steps = 154 + 102 = 256: equal
    # to the threshold. 0.2505 twice = 128.256 steps each = 2 * 128 = 256; 0.2495 twice = 127.744 = 2 * 128 =
    # 256, though the sum is 0.499.
    weights = [[0.4995, 0.499, 0.3, 0.2505, 0.2495], [0.0, 0.0, 0.2, 0.2505, 0.2495]]
    report = fixed_point_report(one_layer(weights, 0.5), np.ones((1, 2)), {"y": Scaling(6, 6)})
    layer = report.layers[0]
    # Expected are 0, 0, 1, 1, 0; SpiNNaker gives 1, 0, 1, 1, 1.
    assert (layer.spikes, layer.different, layer.saturated) == (2, 2, 0)
    assert report.decisions is None
    fine = fixed_point_report(one_layer(weights, 0.5), np.ones((1, 2)), {"y": Scaling(0, 0)})
    assert fine.different == 0


def test_bias_and_threshold_are_rounded_to_a_32768th() -> None:
    # 0.5 is 16384 / 32768. A bias of 16383.6 / 32768 is rounded up to it, one of 16383.4 / 32768 is not.
    graph = one_layer([[0.0, 0.0, 1.0]], 0.5, [16383.6 / 32768, 16383.4 / 32768, 0.0])
    report = fixed_point_report(graph, np.ones((3, 1)), {"y": Scaling(0, 0)})
    assert (report.layers[0].spikes, report.different) == (3, 3)
    # Two thirds of everything: 10922.4 and 10922.27 / 32768 against 10922.67, rounded 10922, 10922 and 10923.
    scaled = fixed_point_report(graph, np.ones((3, 1)), {"y": Scaling(0, 0, 2 / 3)})
    assert (scaled.layers[0].spikes, scaled.different) == (3, 0)


def test_a_ring_buffer_saturates_at_65535_for_each_sign() -> None:
    # Shift 0 holds 65535 / 32768 = 1.99997. Three inputs of 1.0 make 3 - 2.5 = 0.5 in the graph, 1.99997 -
    # 2.5 -> 1.99997 - 1.99997.
    graph = one_layer([[1.0], [1.0], [1.0], [-1.25], [-1.25]], 0.5)
    frames = np.ones((2, 5))
    held = fixed_point_report(graph, frames, {"y": Scaling(1, 1)})
    assert (held.layers[0].spikes, held.different, held.layers[0].saturated) == (2, 0, 0)
    lost = fixed_point_report(graph, frames, {"y": Scaling(0, 0)})
    assert (lost.different, lost.layers[0].saturated) == (2, 4)


def test_excitatory_and_inhibitory_weights_have_a_grid_each() -> None:
    # -0.2505 is -128.256 steps of 2^-9 and 8208.4 steps of 2^-15; 0.7505 - 0.2505 = 0.5.
    graph = one_layer([[0.75], [-0.2505]], 0.4995)
    assert fixed_point_report(graph, np.ones((1, 2)), {"y": Scaling(0, 6)}).layers[0].different == 0
    graph = one_layer([[0.75], [-0.2495]], 0.5004)
    assert fixed_point_report(graph, np.ones((1, 2)), {"y": Scaling(0, 6)}).layers[0].different == 1
    assert fixed_point_report(graph, np.ones((1, 2)), {"y": Scaling(6, 0)}).layers[0].different == 0


@pytest.mark.parametrize(
    ("largest", "shift"), [(0.0, 0), (0.3, 0), (0.99, 0), (1.0, 1), (1.5, 1), (2.0, 2), (33.0, 6), (64.0, 7)]
)
def test_shifts_are_those_of_spynnaker(largest: float, shift: int) -> None:
    assert shift_for(largest) == shift


@pytest.mark.parametrize("fill", [False, True])
def test_measured_scalings_hold_every_sum_and_weight(fill: bool) -> None:
    graph = branched_graph(5)
    frames = np.random.default_rng(5).random((60, *graph.inputs[0].shape))
    scaling = measured_scaling(graph, frames, headroom=1.0, fill=fill)
    report = fixed_point_report(graph, frames, scaling, "measured")
    assert sum(layer.spikes for layer in report.layers) > 0
    assert all(layer.saturated == 0 for layer in report.layers)
    assert all((layer.scaling.factor != 1.0) == fill for layer in report.layers)
    if not fill:
        # Quarters lie on every grid up to a shift of 13.
        assert report.different == 0
    assert "spikes differ" in str(report)
    assert report.to_dict()["layers"][0]["shifts"] == [scaling["a"].excitatory, scaling["a"].inhibitory]


def test_what_cannot_be_is_refused() -> None:
    graph = one_layer([[3.0]], 0.5)
    with pytest.raises(BackendError, match="does not fit 16 bits with a ring-buffer shift of 0"):
        fixed_point_report(graph, np.ones((1, 1)), {"y": Scaling(0, 0)})
    with pytest.raises(BackendError, match="no scaling is given for y"):
        fixed_point_report(graph, np.ones((1, 1)), {})
    with pytest.raises(BackendError, match=r"shifts must lie in 0\.\.15"):
        Scaling(16, 0)
    with pytest.raises(BackendError, match="headroom must be at least 1"):
        measured_scaling(graph, np.ones((1, 1)), headroom=0.5)


def test_the_margin_is_half_a_step_for_all_that_is_rounded() -> None:
    # Three synapses, a bias and a threshold.
    assert least_margin(one_layer([[1.0], [1.0], [1.0]], 0.5), "y") == 5 / 65536


def test_the_old_place_of_the_module_hands_on_its_names() -> None:
    with pytest.warns(DeprecationWarning, match="is strop_backends.pynn.spinnaker.fixed_point now"):
        old = import_module("strop_backends.pynn.fixed_point")
    assert all(getattr(old, name) is getattr(fixed_point, name) for name in old.__all__)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_quantised_graph_has_the_same_spikes_in_spinnakers_arithmetic(seed: int) -> None:
    graph = quantize(random_graph(seed, ("host", "bitplane", "binary")[seed % 3]), "spinnaker")
    scaling = exact_scaling(graph)
    assert scaling is not None
    report = fixed_point_report(graph, random_frames(graph, 8, seed), scaling)
    assert report.different == 0
    assert all(layer.saturated == 0 for layer in report.layers)
    # sPyNNaker chooses that shift for the sum that it is told to expect.
    assert all(shift_for(expected) == 1 for each in scaling.values() for expected in each.expected_sums)


def test_scalings_that_round_or_may_saturate_are_not_exact() -> None:
    grid = 2.0**-14
    assert exact_scaling(one_layer([[grid * 65535], [0.0]], grid / 2)) is not None
    assert exact_scaling(one_layer([[grid * 65535], [grid]], grid / 2)) is None
    assert exact_scaling(one_layer([[grid * 1.5], [0.0]], grid / 2)) is None
    assert exact_scaling(one_layer([[grid], [0.0]], grid / 4)) is None
    assert exact_scaling(one_layer([[-grid * 65535], [grid * 65535]], grid / 2)) is not None
