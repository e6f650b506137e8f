"""Every spike of random networks in a user's own PyNN script, whatever the script has set and does.

The surroundings are drawn (`pynn_surroundings.py`), and so is what the script does: presenting, running on in pieces,
resetting, writing back the weights that it reads, cutting synapses, changing thresholds and biases, a second network.
`STROP_EXAMPLES` says how many of them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pynn_graphs import branched_graph, require
from pynn_surroundings import surrounded, surroundings
from random_graphs import random_frames, random_graph
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.graph import Graph, with_weights
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop_backends.pynn.network import PyNNNetwork

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]

BACKENDS = ("pynn-nest", "pynn-brian2", "pynn-neuron")
EXAMPLES = int(os.environ.get("STROP_EXAMPLES", "12"))


@pytest.fixture(params=BACKENDS)
def simulator(request: pytest.FixtureRequest) -> str:
    chosen = request.config.getoption("--backend")
    if chosen and request.param not in chosen:
        pytest.skip(f"only {', '.join(chosen)} was asked for")
    require(request.param)
    return request.param


class Script:
    """A user's script with one network: what it does, and what it must see."""

    def __init__(self, sim: Any, graph: Graph, seed: int) -> None:
        self.sim, self.graph, self.rng = sim, graph, np.random.default_rng(seed)
        self.network: PyNNNetwork = strop.build(graph, sim)
        self.network.record()
        self.waves: list[tuple[int, dict[str, Any]]] = []

    def present(self) -> float:
        """Present some frames; remember what they must give."""
        count = int(self.rng.integers(1, 9))
        frames = random_frames(self.graph, count, int(self.rng.integers(2**31)))
        end = self.network.present(frames)
        self.waves.append((self.network.start, evaluate(self.graph, encode(self.graph, as_frames(self.graph, frames)))))
        return end

    def check(self) -> None:
        """Compare every spike of all waves."""
        for start, expected in self.waves:
            found = self.network.spikes(len(next(iter(expected.values()))), start)
            for name, spikes in found.items():
                np.testing.assert_array_equal(spikes, expected[name], err_msg=f"{name}, wave from tick {start}")

    def write_weights_back(self, as_list: bool) -> None:
        """Through PyNN: `get`, then `set`; the same weights are there then."""
        for (source, _), projection in self.network.projections.items():
            if as_list:
                rows = projection.get("weight", format="list")
                if len({row[:2] for row in rows}) == len(rows):  # PyNN takes no list for several synapses of two cells
                    projection.set(weight=[row[2] for row in rows])
                continue
            before = projection.get("weight", format="array", multiple_synapses="max")
            same = projection.get("weight", format="array", multiple_synapses="min")
            if np.array_equal(before, same, equal_nan=True) and source != "always-on":
                projection.set(weight=before)

    def cut(self) -> None:
        """A lesion through PyNN: some of a projection's synapses weigh 0 then."""
        weights = self.network.weights()
        for pair, values in weights.items():
            projection = self.network.projections[pair]
            if len(projection) != np.isfinite(projection.get("weight", format="array")).sum():
                continue
            array = projection.get("weight", format="array")
            kept = self.rng.random(array.shape) < 0.7
            projection.set(weight=np.where(kept, array, 0.0))
            after = self.network.weights()[pair]
            assert ((after == 0) | (after == values)).all()
        self.read_back()

    def read_back(self) -> None:
        """Let the graph be the one that the simulator has the weights of."""
        now = with_weights(self.network.graph, self.network.weights())
        self.graph = replace(now, populations=self.graph.populations)

    def tune(self) -> None:
        """Other thresholds and biases through PyNN, of the same sign."""
        changed = []
        for population in self.graph.populations:
            units = self.network.populations[population.name]
            if population.name in self.network.played or population.name in self.network.drives:
                changed.append(population)
                continue
            threshold, bias = population.threshold.reshape(-1), population.bias.reshape(-1)
            np.testing.assert_array_equal(np.broadcast_to(units.get("v_thresh"), threshold.shape), threshold)
            np.testing.assert_array_equal(np.broadcast_to(units.get("i_offset"), bias.shape), bias)
            threshold, bias = threshold * self.rng.choice([0.5, 1.0, 2.0], threshold.shape), bias * 2.0
            units.set(v_thresh=threshold, i_offset=bias)
            shape = population.shape
            changed.append(replace(population, threshold=threshold.reshape(shape), bias=bias.reshape(shape)))
        self.graph = replace(self.graph, populations=tuple(changed))


ACTIONS = ("present", "run", "run a little", "write back", "write back a list", "cut", "tune", "reset", "again")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    seed = draw(st.integers(0, 2**32 - 1))
    return branched_graph(seed) if draw(st.booleans()) else random_graph(seed)


# Shrinking would take minutes, and says no more than the draws do.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(data=st.data())
def test_spikes_are_right_whatever_the_script_does(simulator: str, data: st.DataObject) -> None:
    graph, second = data.draw(graphs()), data.draw(st.none() | graphs())
    drawn = data.draw(surroundings(simulator))
    actions = data.draw(st.lists(st.sampled_from(ACTIONS), min_size=2, max_size=6))
    with surrounded(simulator, drawn) as sim:
        try:
            scripts = [Script(sim, g, n) for n, g in enumerate(filter(None, (graph, second)))]
        except BackendError as refusal:
            if "max_delay" not in str(refusal):
                raise
            return  # a delay that `setup` did not allow for
        again = simulator != "pynn-neuron"
        end = max(script.present() for script in scripts)
        for action in actions:
            end = act(action, scripts, end, again)
        finish(scripts, end)


def act(action: str, scripts: list[Script], end: float, again: bool) -> float:
    """Do one thing; return until when the simulation has to run for all answers."""
    sim = scripts[0].sim
    if action == "present" and again:
        return max(end, *(script.present() for script in scripts))
    if action == "run a little" and again:
        sim.run_until(min(end, sim.get_current_time() + 3 * sim.get_time_step()))
    elif action == "write back":
        for script in scripts:
            script.write_weights_back(as_list=False)
    elif action == "write back a list":
        for script in scripts:
            script.write_weights_back(as_list=True)
    elif action in ("run", "cut", "tune", "reset", "again"):
        finish(scripts, end)
        if action == "run" and again:
            return max(script.present() for script in scripts)
        if action == "reset":
            sim.reset()
        else:
            scripts[0].network.reset()
        for script in scripts:
            script.waves.clear()
        if action == "cut":
            for script in scripts:
                script.cut()
        elif action == "tune":
            for script in scripts:
                script.tune()
        elif action == "reset":
            # PyNN's `reset` takes weights back to what they were before the first run, on Brian2.
            for script in scripts:
                script.read_back()
        return max(script.present() for script in scripts)
    return end


def finish(scripts: list[Script], end: float) -> None:
    """Run until all has been answered, and compare."""
    scripts[0].sim.run_until(end)
    for script in scripts:
        script.check()
