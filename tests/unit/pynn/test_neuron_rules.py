"""What `strop_backends.pynn.neuron.dialect` claims of NEURON and PyNN, each claim tried out."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from exact_graphs import exact_graph
from pynn_graphs import one_layer, require
from third_party import PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.graph import Graph
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend

pytestmark = PYNN_NEURON_IMPORT


@pytest.fixture(autouse=True)
def _neuron() -> None:
    require("pynn-neuron")


@pytest.mark.parametrize("timestep", [0.1, 0.25, 1.0])
def test_the_peak_is_the_summed_weight_times_the_factor_from_the_equations(timestep: float) -> None:
    from strop_backends.pynn.neuron.cells import PEAK

    sums = np.array([0.3, 1.7, -2.0, 1e-3])
    network = strop.build(one_layer([sums / 2, sums / 2], 100.0), "pynn-neuron", timestep=timestep)
    network.populations["y"].record("v")
    network.sim.run_until(network.present(np.ones((1, 2))))
    v = network.populations["y"].get_data().segments[0].filter(name="v")[0].magnitude
    peak = np.where(sums > 0, v.max(axis=0), v.min(axis=0))
    np.testing.assert_allclose(peak, sums * PEAK, rtol=1e-15, atol=0)
    # What is left over four ticks later, when the next frame arrives.
    at = int(np.argmax(np.abs(v[:, 0])))
    assert np.all(np.abs(v[at + 1]) > 0)
    assert v.shape[0] > at


def test_it_resolves_what_it_says() -> None:
    from strop_backends.pynn.neuron.cells import RESOLUTION

    below = 0.5 * (1.0 - 2.0 * RESOLUTION)
    spikes = strop.simulate(one_layer([[0.5, below]], 0.5), np.ones((3, 1)), "pynn-neuron").spikes["y"]
    np.testing.assert_array_equal(spikes, [[True, False]] * 3)


@pytest.mark.parametrize("seed", [6, 35, 84, 94])
def test_currents_that_cancel_to_a_threshold_fire(seed: int) -> None:
    """Most neurons meet their thresholds: of -0.12495, lifted by 0.125, or of 0.00003, in sums of numbers up to 5."""
    graph, frames = exact_graph(seed, "current", 12)
    wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))
    found = strop.simulate(graph, frames, "pynn-neuron").spikes
    for name, spikes in wanted.items():
        np.testing.assert_array_equal(found[name].reshape(spikes.shape), spikes, err_msg=name)


@pytest.mark.parametrize("threshold", [0.0, 1e-300, -1.0, -0.5, -np.nextafter(1.0, 0.0), -np.nextafter(0.5, 0.0), 3.0])
def test_a_neuron_at_rest_is_below_its_threshold(threshold: float) -> None:
    from strop_backends.pynn.neuron.cells import PEAK, RESOLUTION, lift, lowered

    level, raised = lowered(np.array([threshold])), threshold + lift(np.array([threshold]))
    assert 0.0 < level[0] * PEAK < raised[0] * PEAK
    assert raised[0] - level[0] <= RESOLUTION * max(abs(threshold), raised[0]) * (1 + 1e-3)


def gaps(resolutions: list[float]) -> Graph:
    """One unit for each: its potential is so far below its threshold of 0.5, and the last one hits it."""
    return one_layer([[0.5 - gap for gap in resolutions] + [0.5]], 0.5)


def test_what_it_does_not_resolve_is_a_tie_and_not_a_fault() -> None:
    report = strop.verify(gaps([2.0**-47, 2.0**-30]), np.ones((2, 1)), backends=["pynn-neuron"])
    assert report.passed
    layer = report.backends["pynn-neuron"].layers[0]
    assert (layer.spikes, layer.ties, layer.faults) == (4, 2, 0)


def test_too_many_ties_are_no_pass_and_no_faults() -> None:
    report = strop.verify(gaps([2.0**-47, 2.0**-30]), np.ones((3, 1)), backends=["pynn-neuron"])
    assert not report.passed
    layer = report.backends["pynn-neuron"].layers[0]
    assert (layer.spikes, layer.ties, layer.faults) == (6, 3, 0)


def test_a_coarser_cell_than_is_stated_has_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    import strop_backends.pynn.neuron.cells as module

    monkeypatch.setattr(module, "RESOLUTION", 2.0**-20)
    report = strop.verify(gaps([2.0**-47, 2.0**-30]), np.ones((3, 1)), backends=["pynn-neuron"])
    assert not report.passed
    layer = report.backends["pynn-neuron"].layers[0]
    assert (layer.spikes, layer.ties, layer.faults) == (9, 3, 3)


def test_it_states_what_it_resolves() -> None:
    from strop_backends.pynn.neuron.cells import RESOLUTION

    engine = get_backend("pynn-neuron")
    assert engine.resolution == RESOLUTION
    _, level, reason = engine.fidelity(gaps([2.0**-47]))[0]
    assert level == "exact within 5.8e-14"
    assert "pynn-neuron resolves 5.7e-14" in reason
    # Halves: nothing lies closer to the threshold than one of them.
    assert engine.fidelity(one_layer([[0.5, 1.0]], 0.5))[0][1] == "exact"


@pytest.mark.parametrize("given", [None, "-nogui -nopython"])
def test_the_import_says_nothing_of_a_display_and_leaves_the_users_options(given: str | None) -> None:
    program = (
        "import os, warnings; warnings.simplefilter('ignore'); "
        "from strop_backends.pynn.neuron.dialect import NeuronDialect; NeuronDialect.load(); "
        "print('options', os.environ.get('NEURON_MODULE_OPTIONS'))"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "NEURON_MODULE_OPTIONS")}
    if given is not None:
        environment["NEURON_MODULE_OPTIONS"] = given
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"options {given}\n"
    assert "DISPLAY" not in done.stderr


def test_frames_come_before_the_run() -> None:
    network = strop.build(one_layer([[1.0]], 0.5), "pynn-neuron")
    network.sim.run_until(network.present(np.ones((2, 1))))
    with pytest.raises(BackendError, match=r"present frames before the first sim\.run\(\)"):
        network.present(np.ones((1, 1)))
