"""What `strop_backends.pynn.nest.dialect` claims of NEST and PyNN, each claim tried out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pynn_graphs import branched_graph, one_layer, require

import strop
from strop.errors import BackendError, CapacityError
from strop.graph import Convolution, Graph, Input, Population
from strop.running.oracle import evaluate
from strop.running.registry import get_backend
from strop_backends.pynn.run import PyNNRunner


@pytest.fixture(autouse=True)
def _nest() -> None:
    require("pynn-nest")


@pytest.fixture
def sim() -> Any:
    from strop_backends.pynn.nest.kernel import load

    return load()


def set_up(sim: Any, **options: Any) -> None:
    from strop_backends.pynn.nest.warning_filter import quiet_nest

    with quiet_nest():
        sim.setup(**{"timestep": 1.0, "min_delay": 1.0, "spike_precision": "on_grid", "verbosity": "error", **options})


@pytest.mark.parametrize("timestep", [1.0, 0.1, 0.25])
def test_bias_and_sum_are_added_without_a_rounding_and_nothing_is_left(timestep: float) -> None:
    # 1/3 and its neighbours: scaled by anything but a power of two, they would no longer be told apart.
    third = 1.0 / 3.0
    above = np.nextafter(third, 1.0)
    graph = one_layer(np.zeros((1, 3)), [third, above, third], [third, third, above])
    network = strop.build(graph, "pynn-nest", timestep=timestep)
    cells = network.populations["y"].node_collection
    assert list(cells.I_e) == [third, third, above]
    assert list(cells.V_th) == [third, above, third]
    assert cells[0].tau_m <= timestep / 1024
    assert cells[0].C_m == cells[0].tau_m
    assert np.log2(cells[0].C_m) == np.round(np.log2(cells[0].C_m))
    spikes = strop.simulate(graph, np.zeros((4, 1)), "pynn-nest", timestep=timestep).spikes["y"]
    np.testing.assert_array_equal(spikes, [[True, False, True]] * 4)


def test_nest_fires_at_equality_and_one_ulp_below_it_does_not() -> None:
    graph = one_layer([[0.5, np.nextafter(0.5, 0.0)]], 0.5)
    spikes = strop.simulate(graph, np.ones((3, 1)), "pynn-nest").spikes["y"]
    np.testing.assert_array_equal(spikes, [[True, False]] * 3)


def test_a_projection_gives_its_weights_back_as_they_are_in_the_graph() -> None:
    weights = np.array([[1.0 / 3.0, -0.1, 0.0], [0.7, 0.0, 1e-9]])
    network = strop.build(one_layer(weights, 0.5), "pynn-nest")
    projection = network.projections["x", "y"]
    assert len(projection) == 4
    array = projection.get("weight", format="array")
    np.testing.assert_array_equal(np.nan_to_num(array), weights)
    rows = projection.get(["weight", "delay"], format="list")
    assert sorted(rows) == [(0, 0, 1 / 3, 1.0), (0, 1, -0.1, 1.0), (1, 0, 0.7, 1.0), (1, 2, 1e-9, 1.0)]


def test_populations_are_pynn_s_own_and_labelled_as_in_the_graph(sim: Any) -> None:
    network = strop.build(branched_graph(3), "pynn-nest")
    assert network.sim is sim
    for name, population in network.populations.items():
        assert isinstance(population, sim.Population)
        assert population.label == name
    assert all(isinstance(projection, sim.Projection) for projection in network.projections.values())
    assert network.projections["a", "c"].get("delay", format="list", with_address=False)[0] == 2.0


def test_a_user_builds_on_the_module_that_he_set_up_and_records_with_pynn(sim: Any) -> None:
    from strop_backends.pynn.nest.warning_filter import quiet_nest

    graph = branched_graph(5)
    frames = np.random.default_rng(5).random((25, *graph.inputs[0].shape))
    set_up(sim, timestep=0.5, min_delay=0.5)
    network = strop.build(graph, sim)
    with quiet_nest():
        network.populations["c"].record(["spikes", "v"])
        end = network.present(frames)
        sim.run_until(end)
        segment = network.populations["c"].get_data().segments[0]
    times = [np.asarray(train.magnitude) for train in segment.spiketrains]
    raster = np.zeros((25, graph.population("c").size), dtype=bool)
    for unit, train in enumerate(times):
        frame = np.rint(train / 0.5).astype(int) - network.start - graph.depth("c")
        raster[frame[(frame >= 0) & (frame < 25)], unit] = True
    expected = evaluate(graph, {"x": frames >= 0.5})["c"]
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(raster, expected)
    assert segment.filter(name="v")[0].shape[1] == graph.population("c").size


def test_precise_spike_times_and_a_long_least_delay_are_refused(sim: Any) -> None:
    graph = one_layer([[1.0]], 0.5)
    set_up(sim, min_delay=2.0, max_delay=4.0)
    with pytest.raises(BackendError, match="least delay of 2.0 ms"):
        strop.build(graph, sim)
    set_up(sim, spike_precision="off_grid")
    with pytest.raises(BackendError, match="spike_precision='on_grid'"):
        strop.build(graph, sim)


def test_options_come_too_late_for_a_module_that_is_set_up(sim: Any) -> None:
    set_up(sim)
    with pytest.raises(BackendError, match="threads come too late"):
        strop.build(one_layer([[1.0]], 0.5), sim, threads=2)


def test_threads_give_the_same_spikes() -> None:
    graph = branched_graph(11)
    frames = np.random.default_rng(11).random((30, *graph.inputs[0].shape))
    one, two = (strop.simulate(graph, frames, "pynn-nest", threads=n).spikes for n in (1, 2))
    assert one["c"].any()
    for name, spikes in one.items():
        np.testing.assert_array_equal(two[name], spikes)
    with pytest.raises(BackendError, match="threads must be a positive integer, got 0"):
        strop.build(graph, "pynn-nest", threads=0)


def test_a_frame_cannot_be_played_before_a_generator_can_spike() -> None:
    graph = one_layer([[1.0]], 0.5)
    network = strop.build(graph, "pynn-nest")
    with pytest.raises(BackendError, match="tick 1 is too early, the first that is possible is 2"):
        network.present(np.ones((1, 1)), start=1)
    assert network.present(np.ones((3, 1)), start=5) == 5 + 2 + 1 + 1


def test_synapses_beyond_the_memory_are_refused_with_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (14, 14, 32)
    layer = Convolution(shape, np.ones((5, 5, 32, 48)), (1, 1), (1, 1), ((0, 0), (0, 0)))
    graph = Graph.from_nodes(
        [Input("x", shape, "binary")],
        [Population("conv", layer.shape_out, 0.5, 0.0)],
        [("x", "conv", layer)],
        outputs=["conv"],
    )
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e6")
    with pytest.raises(CapacityError, match=r"3,840,000 pynn-nest synapses .*x -> conv.* the limit is 1.0 MB"):
        strop.build(graph, "pynn-nest")


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    strop.simulate(branched_graph(1), np.ones((2, *branched_graph(1).inputs[0].shape)), "pynn-nest")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ticks", [2, 7, 16])
def test_layers_further_apart_change_no_spike_and_a_frame_enters_in_every_tick(ticks: int) -> None:
    graph = branched_graph(1)
    frames = np.random.default_rng(1).random((23, *graph.inputs[0].shape))
    expected = evaluate(graph, {"x": frames >= 0.5})
    runner = get_backend("pynn-nest").prepare(graph, layer_ticks=ticks, timestep=0.7)
    assert isinstance(runner, PyNNRunner)
    try:
        # The second chunk starts at a tick that is no multiple of them.
        for part in (frames[:10], frames[10:]):
            found = runner.run({"x": part >= 0.5})
            start = 0 if len(part) == 10 else 10
            for name, spikes in expected.items():
                np.testing.assert_array_equal(found[name], spikes[start : start + len(part)], err_msg=name)
        network = runner.network
        assert network.dialect.layer_ticks == ticks
        assert network.dialect.ticks_per_step == 1
        delays = [row[2] for row in network.projections["a", "c"].get("delay", format="list")]
        np.testing.assert_allclose(delays, 2 * ticks * 0.7)
    finally:
        runner.close()


def test_layers_are_a_tick_apart_for_a_script_and_further_where_strop_runs_frames() -> None:
    graph = branched_graph(1)
    network = strop.build(graph, "pynn-nest")
    assert network.dialect.layer_ticks == 1
    network.close()
    options: dict[str, Any]
    for options, ticks in (({}, 16), ({"spread": 2}, 2), ({"layer_ticks": 3}, 3)):
        runner = get_backend("pynn-nest").prepare(graph, **options)
        assert isinstance(runner, PyNNRunner)
        assert runner.network.dialect.layer_ticks == ticks
        runner.close()


@pytest.mark.parametrize("options", [{"layer_ticks": 0}, {"layer_ticks": 1.5}, {"layer_ticks": 2, "spread": 2}])
def test_layer_ticks_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="layer_ticks"):
        strop.simulate(branched_graph(1), np.zeros((1, 7)), "pynn-nest", **options)
