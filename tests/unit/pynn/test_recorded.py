"""`network.spikes()` calls no neuron silent that is not recorded: it has all answers, or says what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pynn_graphs import require
from pynn_scripts import FRAMES, GRAPH, quietly, set_up, wrong  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


def built(name: str, **more: Any) -> tuple[Any, Any]:
    sim = set_up(name, **more)
    return sim, strop.build(GRAPH, sim)


def test_frames_that_have_not_been_answered_yet(name: str) -> None:
    sim, network = built(name)
    with pytest.raises(BackendError, match="records all spikes of no population"):
        network.spikes()
    network.record()
    with pytest.raises(BackendError, match="no frames have been presented"):
        network.spikes()
    end = network.present(FRAMES)
    for until in (0.0, 3.0, end - 2 * sim.get_time_step()):
        sim.run_until(until)
        with pytest.raises(BackendError, match=rf"first sim.run_until\({end:g}\)"):
            network.spikes()
    sim.run_until(end)
    assert wrong(network, FRAMES) == 0


def test_neurons_that_are_recorded_too_late(name: str) -> None:
    sim, network = built(name)
    end = network.present(FRAMES)
    sim.run_until(4.0)
    network.record()
    sim.run_until(end)
    with pytest.raises(BackendError, match=r"'a' answers the first of these frames in tick \d, and is recorded since"):
        network.spikes()
    network.reset()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


def test_a_population_of_which_some_cells_are_recorded(name: str) -> None:
    sim, network = built(name)
    network.populations["a"][0:1].record("spikes")
    network.record("b")
    sim.run_until(network.present(FRAMES))
    assert list(network.spikes()) == ["b"]
    sim, network = built(name)
    network.populations["a"][0:1].record("spikes")
    network.record()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


@pytest.mark.filterwarnings("ignore:Recorded at least one spike after t_stop")  # NEST is ahead of PyNN
def test_spikes_that_were_cleared_in_the_middle(name: str) -> None:
    sim, network = built(name)
    network.record()
    end = network.present(FRAMES)
    sim.run_until(5.0)
    network.populations["b"].get_data("spikes", clear=True)
    sim.run_until(end)
    with pytest.raises(BackendError, match=r"'b' answers .*get_data\(clear=True\) where no frame is on its way"):
        network.spikes()


def test_spikes_of_before_a_reset_are_there_until_others_are_presented(name: str) -> None:
    sim, network = built(name, **({"t_flush": 20.0} if name == "pynn-nest" else {}))
    network.record()
    sim.run_until(network.present(FRAMES))
    sim.reset()
    assert wrong(network, FRAMES) == 0
    end = network.present(FRAMES[:3])
    with pytest.raises(BackendError, match="has not run tick"):
        network.spikes()
    sim.run_until(end)
    sim.reset()
    sim.run(20.0)
    with pytest.raises(BackendError, match="since they were presented"):
        network.spikes()


@pytest.mark.parametrize(
    ("model", "defaults"),
    [
        ("spike_recorder", {"start": 3.0}),
        ("spike_recorder", {"stop": 4.0}),
        ("spike_recorder", {"origin": 2.0}),
        ("spike_recorder", {"time_in_steps": True}),
        ("static_synapse", {"receptor_type": 1, "delay": 2.0}),
    ],
)
def test_nest_s_defaults_change_nothing_that_pynn_records(model: str, defaults: dict[str, Any]) -> None:
    require("pynn-nest")
    sim = set_up("pynn-nest")
    import nest

    nest.SetDefaults(model, defaults)
    network = strop.build(GRAPH, sim)
    network.record()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


def test_nest_runs_without_pynn_in_between() -> None:
    require("pynn-nest")
    sim, network = built("pynn-nest")
    import nest

    network.record()
    nest.Simulate(3.5)
    end = network.present(FRAMES)
    nest.Simulate(4.0)
    sim.run(1.0)
    network.populations["x"].record("spikes")
    nest.Simulate(0.5)
    sim.run_until(end)
    assert wrong(network, FRAMES) == 0


def test_neuron_run_by_its_own_commands_is_not_taken_for_silence() -> None:
    require("pynn-neuron")
    sim, network = built("pynn-neuron")
    h = sim.simulator.h
    network.record()
    end = network.present(FRAMES)
    h.finitialize(-65)
    while h.t < end:
        h.fadvance()
    with pytest.raises(BackendError, match="a run of the simulator itself, without PyNN, does not count"):
        network.spikes()
    network.reset()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


@pytest.mark.filterwarnings("ignore:Recorded at least one spike after t_stop")  # NEST is ahead of PyNN
def test_what_was_recorded_and_cleared_makes_room_for_the_next_frames(name: str) -> None:
    sim, network = built(name)
    network.record()
    for frames in (FRAMES[:7], FRAMES[7:]):
        if name == "pynn-neuron":
            network.reset()
        sim.run_until(network.present(frames) + 2 * sim.get_time_step())
        assert wrong(network, np.asarray(frames)) == 0
        for population in GRAPH.population_names:
            network.populations[population].get_data("spikes", clear=True)


def test_nothing_is_missing_where_the_host_evaluates_all(name: str) -> None:
    graph = Graph.from_nodes(
        [Input("x", (2,), "host")], [Population("a", (2,), 0.5, 0.0)], [("x", "a", Dense(np.eye(2)))], outputs=["a"]
    )
    network = strop.build(graph, name)
    network.record()
    network.sim.run_until(network.present(np.ones((3, 2))))
    assert network.spikes() == {}
