"""Steps of NEURON that a script takes itself, between PyNN's runs: right ones are welcome, wrong ones are refused."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from pynn_graphs import require
from pynn_scripts import FRAMES, GRAPH, quietly, set_up, wrong  # noqa: F401
from third_party import PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop_backends.pynn.network import PyNNNetwork

pytestmark = PYNN_NEURON_IMPORT

DT = 0.5


def built() -> tuple[Any, Any, PyNNNetwork, float]:
    """Return PyNN's module, NEURON, a network that records, and when it will have answered; a third has been run."""
    require("pynn-neuron")
    sim = set_up("pynn-neuron")
    network = strop.build(GRAPH, sim)
    network.record()
    end = network.present(FRAMES)
    sim.run_until(round(end / DT / 3) * DT)
    return sim, sim.simulator.h, network, end


CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "h.dt is 0.25 ms": (lambda h: setattr(h, "dt", 0.25), lambda h: setattr(h, "dt", DT)),
    "h.secondorder is 2": (lambda h: setattr(h, "secondorder", 2), lambda h: setattr(h, "secondorder", 0)),
    "CVode is active": (lambda h: h.CVode().active(1), lambda h: (h.CVode().active(0), setattr(h, "dt", DT))),
    "sections of 'a' have been changed": (lambda h: h("forall cm = 2"), lambda h: None),
    "sections of 'a' .* nseg 3": (lambda h: h("forall nseg = 3"), lambda h: h("forall nseg = 1")),
}


@pytest.mark.parametrize("says", CHANGES)
@pytest.mark.parametrize("steps", ["fadvance", "psolve"])
def test_a_wrong_step_is_refused_and_remembered(says: str, steps: str) -> None:
    sim, h, network, end = built()
    change, back = CHANGES[says]

    def changed_step() -> None:
        # CVode takes a step as it is made active.
        change(h)
        h.fadvance() if steps == "fadvance" else sim.simulator.state.parallel_context.psolve(h.t + 2 * DT)

    try:
        with pytest.raises(RuntimeError, match=f"(?s)pynn-neuron: spikes would be wrong: {says}"):
            changed_step()
    finally:
        back(h)
    # Set back, the steps taken stay wrong.
    for use in (lambda: sim.run_until(end), network.spikes):
        with pytest.raises(BackendError, match=f"spikes would be wrong: a step was taken while {says}"):
            use()


def test_a_wrong_step_is_forgotten_with_a_reset() -> None:
    sim, h, network, end = built()
    h.dt = 0.25
    with pytest.raises(RuntimeError, match="spikes would be wrong"):
        h.fadvance()
    h.dt = DT
    sim.reset()
    end = network.present(FRAMES)
    sim.run_until(end)
    assert wrong(network, FRAMES) == 0


def test_sections_that_are_changed_between_two_runs_of_a_wave_are_refused() -> None:
    sim, h, _, end = built()
    h("forall nseg = 3")
    with pytest.raises(BackendError, match="sections of 'a' have been changed since they were built .* nseg 3"):
        sim.run_until(end)


@pytest.mark.parametrize("runs", [(3,), (1, 1, 5), (0.1, 7), (0.6, 2)])
def test_right_steps_of_a_script_are_welcome(runs: tuple[float, ...]) -> None:
    sim, h, network, end = built()
    for ticks in runs:
        h.fadvance()
        sim.run(ticks * DT)
    while h.t < end - DT / 2:
        h.fadvance()
    sim.run(DT)
    assert wrong(network, FRAMES) == 0


def test_a_wrong_step_behind_runs_of_any_length_is_seen() -> None:
    """Whatever is left of a tick when PyNN stops, the next step is looked at."""
    for ticks in (1, 2, 0.4, 0.6, 1.4, 1.6, 7):
        sim, h, _, _ = built()
        sim.run(ticks * DT)
        h.dt = 0.25
        with pytest.raises(RuntimeError, match=r"spikes would be wrong: h\.dt is 0\.25"):
            h.fadvance()
        h.dt = DT


def test_steps_of_pynn_s_runs_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes as long as a step of a small network does."""
    sim, _, network, end = built()
    seen, watch = [], network.dialect._watch
    monkeypatch.setattr(watch, "_wrong", lambda: seen.append(1) or "")
    sim.run_until(end)
    assert len(seen) <= 2
    assert wrong(network, FRAMES) == 0


def test_nothing_is_looked_at_once_the_network_is_gone() -> None:
    sim, h, network, _ = built()
    network.close()
    del network
    gc.collect()
    h.dt = 0.25
    h.fadvance()
    set_up("pynn-neuron")
    h.dt = 0.25
    h.fadvance()
    assert sim.simulator.state.current_sources == []
