"""Settings of a user's own PyNN script that would change spikes are refused by name; all others change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pynn_graphs import one_layer, require
from pynn_scripts import FRAMES, GRAPH, quietly, set_up, wrong  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.running.oracle import evaluate

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


def changes(h: Any, sim: Any) -> dict[str, tuple[Any, Any]]:
    """NEURON's settings that would make spikes wrong: what sets them, and what sets them back."""
    cvode, parallel = h.CVode(), h.ParallelContext()
    return {
        "h.secondorder is 2": (lambda: setattr(h, "secondorder", 2), lambda: setattr(h, "secondorder", 0)),
        "h.dt is 0.05 ms, the network was built for 0.5 ms": (lambda: setattr(h, "dt", 0.05), lambda: None),
        "CVode is active": (lambda: cvode.active(1), lambda: cvode.active(0)),
        "NEURON has 2 threads": (lambda: parallel.nthread(2), lambda: parallel.nthread(1)),
    }


@pytest.mark.parametrize("which", range(4))
def test_neuron_s_settings_are_refused_by_name_when_they_are_changed(which: int) -> None:
    require("pynn-neuron")
    sim = set_up("pynn-neuron")
    network = strop.build(GRAPH, sim)
    network.record()
    says, (change, undo) = list(changes(sim.simulator.h, sim).items())[which]
    end = network.present(FRAMES)
    try:
        change()
        for use in (lambda: network.present(FRAMES), lambda: sim.run_until(end)):
            with pytest.raises(BackendError, match=f"spikes would be wrong: {says}"):
                use()
    finally:
        undo()


def test_brian2_s_order_and_clock_are_refused_by_name_when_they_are_changed() -> None:
    require("pynn-brian2")
    import brian2

    sim = set_up("pynn-brian2")
    network = strop.build(GRAPH, sim)
    native = sim.simulator.state.network
    end = network.present(FRAMES)
    native.schedule = ["start", "groups", "thresholds", "resets", "synapses", "end"]
    says = "the schedule start, groups, thresholds, resets, synapses, end"
    with pytest.raises(BackendError, match=says):
        network.present(FRAMES)
    with pytest.raises(brian2.core.base.BrianObjectException) as stopped:
        sim.run_until(end)
    assert says in str(stopped.value.__cause__)
    with pytest.raises(BackendError, match="the schedule"):
        strop.build(GRAPH, sim)
    # More slots do no harm.
    native.schedule = ["start", "mine", "groups", "thresholds", "synapses", "resets", "end"]
    network.present(FRAMES)
    native.schedule = None
    sim.simulator.state.dt = 0.25
    says = "dt is 0.25 ms now, the network was built for 0.5 ms"
    with pytest.raises(BackendError, match=says):
        network.present(FRAMES)
    with pytest.raises(brian2.core.base.BrianObjectException) as stopped:
        sim.run_until(end)
    assert says in str(stopped.value.__cause__)


@pytest.mark.parametrize(
    ("preference", "value"),
    [
        ("core.default_float_dtype", np.float32),
        ("codegen.loop_invariant_optimisations", False),
        ("legacy.refractory_timing", True),
        ("codegen.target", "cython"),
    ],
)
def test_brian2_s_preferences_change_nothing_and_stay(preference: str, value: Any) -> None:
    require("pynn-brian2")
    import brian2

    # Thresholds that are met to the last bit of a float64.
    weights = np.random.default_rng(5).normal(size=(1, 400))
    below, above = np.nextafter(weights[0], -np.inf), np.nextafter(weights[0], np.inf)
    graph = one_layer(np.hstack([weights] * 3), np.concatenate([below, weights[0], above]))
    given = brian2.prefs[preference]
    try:
        brian2.prefs[preference] = value
        sim = set_up("pynn-brian2", 0.1)
        network = strop.build(graph, sim)
        network.dialect.record({"y": network.populations["y"]})
        sim.run_until(network.present(np.ones((3, 1))))
        found = network.answers(network.dialect.take(), 3)["y"]
        assert brian2.prefs[preference] == value
    finally:
        brian2.prefs[preference] = given
    np.testing.assert_array_equal(found, np.tile(np.repeat([True, True, False], 400), (3, 1)))


def test_nest_s_defaults_change_nothing() -> None:
    require("pynn-nest")
    sim = set_up("pynn-nest")
    import nest

    nest.SetDefaults("iaf_psc_delta", {"V_min": 0.25, "t_ref": 5.0, "refractory_input": True, "I_e": 3.0, "E_L": -9.0})
    if "ignore_and_spike" in nest.GetDefaults("iaf_psc_delta"):  # of NEST 3.10
        nest.SetDefaults("iaf_psc_delta", {"ignore_and_spike": True})
    nest.SetDefaults("spike_generator", {"start": 3.0, "origin": 2.0, "stop": 4.0})
    nest.SetDefaults("static_synapse", {"weight": 7.0, "receptor_type": 1})
    network = strop.build(GRAPH, sim)
    network.dialect.record({name: network.populations[name] for name in GRAPH.population_names})
    sim.run_until(network.present(FRAMES))
    found = network.answers(network.dialect.take(), 12)
    for population, spikes in evaluate(GRAPH, {"x": FRAMES >= 0.5}).items():
        np.testing.assert_array_equal(found[population], spikes, err_msg=population)


@pytest.mark.parametrize(
    ("command", "says"), [("forall nseg = 3", "nseg 3"), ("forall diam = 2", "diam 2"), ("forall insert hh", "hh")]
)
def test_neuron_s_sections_that_a_command_for_all_has_changed_are_refused(command: str, says: str) -> None:
    require("pynn-neuron")
    sim = set_up("pynn-neuron")
    network = strop.build(GRAPH, sim)
    end = network.present(FRAMES)
    sim.simulator.h(command)
    for use in (lambda: network.present(FRAMES), lambda: sim.run_until(end)):
        with pytest.raises(BackendError, match=f"sections of 'a' have been changed since they were built .*{says}"):
            use()


def test_synapses_that_nest_has_forgotten_are_not_asked_for() -> None:
    """NEST ends the process otherwise, before the first run, too."""
    require("pynn-nest")
    sim = set_up("pynn-nest")
    import nest

    nest.keep_source_table = False
    network = strop.build(GRAPH, sim)
    network.record()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0
    projection = network.projections["a", "b"]
    for use in (network.weights, lambda: projection.get("weight", format="array"), lambda: projection[0].weight):
        with pytest.raises(BackendError, match="with keep_source_table=False NEST does not tell"):
            use()
