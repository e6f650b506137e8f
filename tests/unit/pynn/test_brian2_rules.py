"""What `strop_backends.pynn.brian2.dialect` claims of Brian2 and PyNN, each claim tried out."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pynn_graphs import branched_graph, one_layer, require
from third_party import BRIAN2_IMPORT

import strop
from strop.errors import BackendError
from strop.running.registry import get_backend

pytestmark = BRIAN2_IMPORT


@pytest.fixture(autouse=True)
def _brian2() -> None:
    require("pynn-brian2")


def test_the_decay_clears_a_potential_within_two_ticks_and_keeps_neighbours_apart() -> None:
    from strop_backends.pynn.brian2.dialect import decay

    tau, factor = decay(0.1e-3)
    assert factor == np.exp(-0.1e-3 * 1 / tau)
    assert factor > 2.0**-800
    assert factor * factor * 1e9 == 0.0
    # Just below a power of two, so that the product keeps neighbouring floats apart.
    mantissa, _ = np.frexp(factor)
    assert 1.0 - mantissa < 16 * 2.0**-53
    assert np.nextafter(0.5, 0.0) * factor < 0.5 * factor


def test_a_sum_of_one_ulp_below_the_threshold_does_not_spike() -> None:
    graph = one_layer([[0.5, np.nextafter(0.5, 0.0), 0.75]], 0.5)
    spikes = strop.simulate(graph, np.ones((3, 1)), "pynn-brian2").spikes["y"]
    np.testing.assert_array_equal(spikes, [[True, False, True]] * 3)


def test_weights_are_volts_in_brian2_and_the_graph_s_numbers_for_pynn() -> None:
    weights = np.array([[0.25, -0.5, 0.0], [1.5, 0.0, 2.0**-30]])
    network = strop.build(one_layer(weights, 0.5), "pynn-brian2")
    projection = network.projections["x", "y"]
    assert len(projection) == 4
    array = projection.get("weight", format="array")
    np.testing.assert_array_equal(np.nan_to_num(array), weights)
    np.testing.assert_array_equal(np.asarray(projection._brian2_synapses[0][0].weight[:]), weights[weights != 0])


def test_a_graph_without_bias_needs_no_standing_input_and_one_with_bias_does() -> None:
    assert "always-on" not in strop.build(one_layer([[1.0]], 0.5), "pynn-brian2").populations
    network = strop.build(one_layer([[1.0, 1.0, 1.0]], [0.5, 0.0, 0.5], [0.25, 0.0, 0.0]), "pynn-brian2")
    weights = network.projections["always-on", "y"].get("weight", format="list")
    assert [(row[1], row[2]) for row in weights] == [(0, 0.25), (1, 2.0**-20)]


def test_delays_leave_two_ticks_for_each_step() -> None:
    network = strop.build(branched_graph(3), "pynn-brian2")
    for pair, ticks in ((("a", "b"), 1), (("a", "c"), 3)):
        delay = np.array(network.projections[pair].get("delay", format="list", with_address=False))
        np.testing.assert_allclose(delay, 0.1 * ticks)


def test_spike_sources_follow_pynn_s_clock_and_not_brian2_s_default_one() -> None:
    import brian2

    from strop_backends.pynn.brian2.dialect import Brian2Dialect

    sim = Brian2Dialect.load()
    before = brian2.defaultclock.dt
    try:
        brian2.defaultclock.dt = 0.1 * brian2.ms
        sim.setup(timestep=0.5, min_delay=0.5)
        network = strop.build(one_layer([[1.0]], 0.5), sim)
        network.record()
        frames = np.array([[1.0], [0.0], [1.0], [1.0]])
        sim.run_until(network.present(frames))
        np.testing.assert_array_equal(network.spikes()["y"], frames >= 0.5)
        assert brian2.defaultclock.dt == 0.1 * brian2.ms
    finally:
        brian2.defaultclock.dt = before


def test_brian2_is_first_imported_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pynn-brian2")
    monkeypatch.delitem(sys.modules, "brian2")
    with ThreadPoolExecutor(1) as pool, pytest.raises(BackendError, match="brian2 sets a signal handler"):
        pool.submit(get_backend("pynn-brian2").prepare, branched_graph(0)).result()
