"""What is more than a simulator can hold is refused before anything is built, with population, figure and limit."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynn_graphs import one_layer, require
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.cli import main
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population, Select
from strop_backends.pynn.nest.dialect import NestDialect
from strop_backends.pynn.network import PyNNNetwork
from strop_backends.pynn.run import PyNNRunner
from strop_backends.pynn.spinnaker.dialect import SpinnakerDialect, delay_slots
from strop_backends.pynn.spinnaker.fixed_point import Scaling

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]


def chain_with_a_skip(length: int, last: int = 1) -> Graph:
    """`length` units in a row, and a skip from the first of them to `last` units behind them."""
    names = [f"u{n}" for n in range(length)]
    one = Select((1,), np.zeros(1, dtype=np.int64))
    spread = Dense(np.ones((1, last)))
    return Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [*(Population(name, (1,), 0.5, 0.0) for name in names), Population("end", (last,), 1.5, 0.0)],
        [
            ("x", "u0", one),
            *((a, b, one) for a, b in pairwise(names)),
            (names[-1], "end", spread),
            (names[0], "end", spread),
        ],
        outputs=["end"],
    )


class Silent(SpinnakerDialect):
    """SpiNNaker's limits, without sPyNNaker: nothing may be asked of it before they are looked at."""

    def __init__(self, neurons_per_core: int = 256) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # there is no simulator
        self.neurons_per_core = neurons_per_core


def bare_network(graph: Graph, dialect: Any) -> PyNNNetwork:
    network = PyNNNetwork.__new__(PyNNNetwork)
    network.graph, network._tiled, network.dialect = graph, graph, dialect
    network._carried = list(graph.projections)
    return network


@pytest.mark.parametrize(("neurons", "slots"), [(256, 32), (255, 32), (64, 128), (65, 64), (2, 4096), (1, 4096)])
def test_slots_of_a_ring_buffer_are_those_of_spynnaker(neurons: int, slots: int) -> None:
    assert delay_slots(neurons) == slots


def test_a_delay_beyond_spynnaker_s_stages_is_refused() -> None:
    # sPyNNaker 7.4.1 maps 288 ticks into a core of 256 neurons, and raises at 289; 1152 and 1153 for 64.
    bare_network(chain_with_a_skip(288, last=300), Silent())._require_delays()
    with pytest.raises(BackendError, match="'u0' reach 'end' after 289 ticks, the longest .* is 288"):
        bare_network(chain_with_a_skip(289, last=300), Silent())._require_delays()
    bare_network(chain_with_a_skip(289, last=300), Silent(64))._require_delays()


def test_synapses_of_a_core_beyond_the_memory_of_a_chip_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import strop_backends.pynn.spinnaker.dialect as module

    assert module.CHIP_SDRAM == 123_469_792
    # 100 inputs to 256 neurons are 25,600 synapses of 4 bytes on the first core.
    graph = one_layer(np.ones((100, 300)), 0.5)
    monkeypatch.setattr(module, "CHIP_SDRAM", 102_400)
    Silent().check_load(graph, graph.projections)
    monkeypatch.setattr(module, "CHIP_SDRAM", 102_399)
    says = (
        r"25,600 synapses end on one core of population 'y' \(fan-in up to 100, 256 neurons\), which takes 102,400 "
        r"bytes of the 102,399 of a chip"
    )
    with pytest.raises(BackendError, match=says):
        Silent().check_load(graph, graph.projections)
    Silent(255).check_load(graph, graph.projections)


def test_spinnaker_has_a_projection_for_each_sign_and_does_not_pass_one_of_them_off_as_all() -> None:
    made: list[tuple[str, Any]] = []

    class Sim:
        FromListConnector = staticmethod(lambda table, column_names: table)
        StaticSynapse = staticmethod(lambda: None)

        @staticmethod
        def Projection(pre: Any, post: Any, table: Any, synapse: Any, receptor_type: str, label: str) -> Any:
            made.append((receptor_type, table))
            return label

        @staticmethod
        def get_time_step() -> float:
            return 1.0

    dialect = Silent()
    dialect.sim = Sim  # type: ignore[assignment]
    dialect.scaling = {"b": Scaling(1, 1, factor=2.0)}
    a, b = type("P", (), {"label": "a"}), type("P", (), {"label": "b"})
    both = dialect.project(a, b, np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.5, -0.25, 1.0]), 3)
    assert both.parts == {"excitatory": "a->b excitatory", "inhibitory": "a->b inhibitory"}
    np.testing.assert_array_equal(made[0][1], [[0, 0, 1.0, 3], [1, 1, 2.0, 3]])
    np.testing.assert_array_equal(made[1][1], [[1, 0, -0.5, 3]])
    for use in (both.get, both.set):
        with pytest.raises(BackendError, match=r"a->b is 2 projections, one for each sign .* 2 times the graph's"):
            use("weight", format="array")


def test_a_spread_without_a_scaling_is_refused() -> None:
    graph = one_layer(np.ones((2, 2)), 0.5)
    dialect = Silent()
    dialect.check_load(graph, graph.projections)
    dialect.spread_over(2)
    with pytest.raises(BackendError, match="a spread needs a scaling for y"):
        dialect.check_load(graph, graph.projections)
    dialect.scaling = {"y": Scaling(1, 1)}
    dialect.check_load(graph, graph.projections)


def test_nest_refuses_a_delay_beyond_what_the_user_set_up_and_builds_nothing() -> None:
    require("pynn-nest")
    from strop_backends.pynn.nest.kernel import load
    from strop_backends.pynn.nest.warning_filter import quiet_nest

    sim = load()
    graph = chain_with_a_skip(5)
    for longest, fits in ((5.0, True), (4.0, False)):
        with quiet_nest():
            sim.setup(timestep=1.0, min_delay=1.0, max_delay=longest, spike_precision="on_grid", verbosity="error")
        if fits:
            assert len(strop.build(graph, sim).projections) == 7
            continue
        with pytest.raises(BackendError, match="'u0' reach 'end' after 5 ticks, the longest .* there is 4"):
            strop.build(graph, sim)
        assert NestDialect(sim).nest.network_size == 0


def test_nest_refuses_more_synapses_than_it_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pynn-nest")
    import strop_backends.pynn.nest.projections as module

    assert module._MOST_SYNAPSES == 134_217_727
    monkeypatch.setattr(module, "_MOST_SYNAPSES", 5)
    graph = one_layer(np.ones((3, 2)), 0.5)
    with pytest.raises(BackendError, match="6 synapses lead from 'x' to 'y', NEST holds 5 of one kind"):
        strop.build(graph, "pynn-nest")
    assert strop.simulate(graph, np.ones((2, 3)), "pynn-nest", threads=2).spikes["y"].all()


def test_nest_refuses_neurons_whose_spikes_it_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 691,000 nodes on a thread, spikes of those behind number 524,287 went astray, without an error.
    require("pynn-nest")
    import strop_backends.pynn.nest.projections as module

    assert module._MOST_NODES == 524_287
    monkeypatch.setattr(module, "_MOST_NODES", 8)
    graph = chain_with_a_skip(6)
    with pytest.raises(BackendError, match=r"loses those of others; the last neuron of 'u1' is node 10 .*: threads=2"):
        strop.build(graph, "pynn-nest")
    assert strop.simulate(graph, np.ones((2, 1)), "pynn-nest", threads=4).spikes["end"].all()


@pytest.mark.parametrize("name", ["pynn-nest", "pynn-brian2", "pynn-neuron"])
def test_a_simulator_that_dies_in_the_second_chunk_leaves_no_result(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require(name)
    graph = one_layer([[1.0]], 0.5)
    graph.save(tmp_path / "net.strop")
    np.savez(tmp_path / "d.npz", x=np.ones((5, 1), dtype=np.float32))
    # `strop.simulate` is a function, too.
    monkeypatch.setattr(sys.modules["strop.running.simulate"], "_CHUNK_FRAMES", 3)
    command = ["predict", str(tmp_path / "net.strop"), "--data", str(tmp_path / "d.npz"), "--backend", name]
    before = sorted(path.name for path in tmp_path.iterdir())

    seen: list[int] = []
    run = PyNNRunner.run

    def die(self: PyNNRunner, signals: Any) -> Any:
        seen.append(len(signals["x"]))
        if len(seen) == 2:

            def fall_over(tick: int) -> None:
                raise RuntimeError("out of ticks")

            monkeypatch.setattr(self.network.dialect, "run_until", fall_over)
        return run(self, signals)

    monkeypatch.setattr(PyNNRunner, "run", die)
    with pytest.raises(SystemExit) as end:
        main([*command, "--out", str(tmp_path / "p.npz")])
    assert (end.value.code, seen) == (2, [3, 2])
    assert f"{name} stopped in the middle of 2 frames: RuntimeError: out of ticks" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_runner_goes_on_with_a_new_network_after_its_simulator_died(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pynn-nest")
    runner = strop.running.registry.get_backend("pynn-nest").prepare(one_layer([[1.0]], 0.5))
    assert isinstance(runner, PyNNRunner)
    signals = {"x": np.array([[True], [False], [True]])}

    def fall_over(tick: int) -> None:
        raise RuntimeError("out of ticks")

    monkeypatch.setattr(runner.network.dialect, "run_until", fall_over)
    with pytest.raises(BackendError, match="stopped in the middle of 3 frames"):
        runner.run(signals)
    np.testing.assert_array_equal(runner.run(signals)["y"][:, 0], [True, False, True])
    runner.close()


def test_an_export_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_over(*arguments: Any) -> Any:
        raise RuntimeError("the disk is full")

    # The last thing that each target writes is its README.
    for module in ("strop.export.script", "strop_backends.pynn.export"):
        monkeypatch.setattr(import_module(module), "describe", fall_over)
    for target in ("pynn", "spinnaker"):
        with pytest.raises(RuntimeError, match="the disk is full"):
            strop.export(one_layer([[1.0]], 0.5), target, tmp_path / target, frames=np.ones((2, 1)))
    assert list(tmp_path.iterdir()) == []
