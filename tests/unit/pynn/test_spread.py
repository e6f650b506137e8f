"""Waves that are spread over ticks: every spike is the same, and fewer come at once."""

from __future__ import annotations

import numpy as np
import pytest
from pynn_graphs import branched_graph, one_layer, require

import strop
from strop.errors import BackendError
from strop.running.oracle import evaluate


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spread", [2, 3, 8])
def test_a_wave_that_is_spread_gives_the_same_spikes(seed: int, spread: int) -> None:
    # NEST decides as SpiNNaker does: in the tick in which input arrives, with the bias as an offset current, which
    # acts in the ticks between, too.
    require("pynn-nest")
    graph = branched_graph(seed)
    frames = np.random.default_rng(seed).random((25, *graph.inputs[0].shape))
    expected = evaluate(graph, {"x": frames >= 0.5})
    assert any(np.any(p.bias >= p.threshold) for p in graph.populations)
    found = strop.simulate(graph, frames, "pynn-nest", spread=spread).spikes
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_delays_make_up_for_what_a_source_is_late_and_give_its_target_time() -> None:
    require("pynn-nest")
    network = strop.build(branched_graph(3), "pynn-nest", spread=3)
    for pair, steps in ((("a", "b"), 1), (("a", "c"), 2)):
        rows = network.projections[pair].get("delay", format="list")
        assert len({delay for _, _, delay in rows}) == 5
        for pre, post, delay in rows:
            assert delay == 3 * steps + post % 3 - pre % 3 >= 1


def test_a_third_of_the_spikes_come_in_each_tick() -> None:
    require("pynn-nest")
    graph = one_layer(np.eye(9), 0.5)
    network = strop.build(graph, "pynn-nest", spread=3)
    network.dialect.record({"y": network.populations["y"]})
    network.dialect.run_until(network.play({"x": np.ones((2, 9), dtype=bool)}))
    _, ticks = network.dialect.take()["y"]
    first = network.start + 3
    assert np.bincount(ticks)[first : first + 6].tolist() == [3] * 6
    assert len(ticks) == 18


@pytest.mark.parametrize("spread", [0, -1, 1.5])
def test_a_spread_that_is_no_number_of_ticks_is_refused(spread: float) -> None:
    require("pynn-nest")
    with pytest.raises(BackendError, match="spread must be a positive number of ticks"):
        strop.build(one_layer([[1.0]], 0.5), "pynn-nest", spread=spread)
