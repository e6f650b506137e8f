"""Simulations beside a user's own PyNN script: its network stays, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from pynn_graphs import require
from pynn_scripts import FRAMES, GRAPH, MODULES, quietly, set_up, wrong  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.running.oracle import evaluate
from strop.running.own_process import ProcessRunner
from strop.running.registry import get_backend
from strop_backends.pynn.common.dialect import dialect_for
from strop_backends.pynn.run import PyNNRunner

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


def test_simulating_leaves_a_script_s_network_alone_and_runs_elsewhere(name: str) -> None:
    sim = set_up(name)
    network = strop.build(GRAPH, sim)
    network.record()
    runner = get_backend(name).prepare(GRAPH)
    assert isinstance(runner, PyNNRunner)
    try:
        with pytest.raises(BackendError, match="in a process of its own"):
            _ = runner.network
        signals, expected = {"x": FRAMES >= 0.5}, evaluate(GRAPH, {"x": FRAMES >= 0.5})
        for _ in range(2):
            found = runner.run(signals)
            assert all(np.array_equal(found[population], spikes) for population, spikes in expected.items())
        runner.reset()
        weights = runner.weights()
        assert list(weights) == [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c")]
        runner.set_weights({pair: 0.0 * values for pair, values in weights.items()})
        silent = runner.run(signals)["b"]
        assert (silent == silent[0]).all()
        with pytest.raises(BackendError, match="no such synapses"):
            runner.set_weights({("x", "c"): np.zeros(3)})
    finally:
        runner.close()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


def test_a_built_network_outlives_a_simulation(name: str) -> None:
    network = strop.build(GRAPH, name)
    network.record()
    strop.simulate(GRAPH, FRAMES[:2], name)
    network.sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


def test_a_simulation_leaves_nothing_behind(name: str) -> None:
    dialect = dialect_for(MODULES[name])
    assert dialect.occupant(settings=True) is None
    strop.simulate(GRAPH, FRAMES[:2], name, timestep=0.3)
    assert dialect.occupant(settings=True) is None
    with pytest.raises(BackendError, match="knows no|does not know"):
        strop.simulate(GRAPH, FRAMES[:2], name, nonsense=1)
    assert dialect.occupant(settings=True) is None


def test_a_process_of_its_own_does_not_run_the_script_again(tmp_path: Path) -> None:
    require("pynn-nest")
    script = tmp_path / "script.py"
    # No guard around it, as `multiprocessing` would need.
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np, strop, pyNN.nest as sim
            from strop.graph import Dense, Graph, Input, Population
            sim.setup(timestep=1.0, min_delay=1.0, max_delay=2.0, spike_precision="on_grid")
            cells = sim.Population(3, sim.IF_curr_exp())
            graph = Graph.from_nodes([Input("x", (1,), "binary")], [Population("y", (2,), 0.5, 0.0)],
                                     [("x", "y", Dense(np.array([[1.0, 0.25]])))], outputs=["y"])
            print("spikes", strop.simulate(graph, np.ones((4, 1)), "pynn-nest").spikes["y"].sum(axis=0).tolist())
            sim.run(2.0)
            print("time", sim.get_current_time(), cells.get("tau_m"))
            """
        ),
        encoding="utf-8",
    )
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    said = [line for line in found.stdout.splitlines() if line.startswith(("spikes", "time"))]
    assert said == ["spikes [4, 0]", "time 2.0 20.0"]


def test_a_network_that_is_closed_frees_the_simulator(name: str) -> None:
    network = strop.build(GRAPH, name)
    assert dialect_for(MODULES[name]).in_use(disposable=True)
    network.close()
    assert not network.alive
    assert dialect_for(MODULES[name]).in_use(disposable=True) is None
    network.close()
    runner = get_backend(name).prepare(GRAPH)
    try:
        assert isinstance(runner, PyNNRunner)
        assert not isinstance(runner._host(), ProcessRunner)
    finally:
        runner.close()
