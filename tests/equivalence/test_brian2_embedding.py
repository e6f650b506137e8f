"""A Brian2 network in a user's script: whatever is done around it, no spike is lost or wrong in silence."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

b2 = pytest.importorskip("brian2")

from graphs import frames_for, image_network, skip_network  # noqa: E402

import strop  # noqa: E402
from strop.errors import BackendError  # noqa: E402
from strop.graph import Dense, Graph, Input, Population, synapses_of, weights_of, with_weights  # noqa: E402
from strop.running.encode import as_frames, encode  # noqa: E402
from strop.running.oracle import evaluate  # noqa: E402
from strop_backends.brian2.network import SpikingNetwork  # noqa: E402
from strop_backends.brian2.preferences import preferring  # noqa: E402
from strop_backends.brian2.surroundings import SURROUNDINGS  # noqa: E402

GRAPH = skip_network(np.random.default_rng(1))
FRAMES = frames_for(GRAPH, np.random.default_rng(2), 20)
LAST = "d"


@pytest.fixture(autouse=True)
def _numpy() -> Iterator[None]:
    """Compiling takes longer than all of this."""
    with preferring({"codegen.target": "numpy"}):
        yield


def built(graph: Graph = GRAPH, **options: Any) -> SpikingNetwork:
    network: SpikingNetwork = strop.build(graph, "brian2", target="numpy", **options)
    return network


def watched(network: SpikingNetwork) -> Any:
    monitor = b2.SpikeMonitor(network.units, codeobj_class=network.code)
    network.add(monitor)
    return monitor


def spikes_of(graph: Graph, frames: Any) -> dict[str, Any]:
    return evaluate(graph, encode(graph, as_frames(graph, frames)))


def assert_answered(network: SpikingNetwork, monitor: Any, frames: Any, start: int, graph: Graph | None = None) -> None:
    """Compare what a monitor saw of frames that entered from step `start` on with what was to be seen."""
    wanted = spikes_of(graph or network.graph, frames)
    steps = np.rint(np.asarray(monitor.t) / network.step).astype(int)
    assert sum(int(values.sum()) for values in wanted.values()) > 20
    for name, values in wanted.items():
        span = network.spans[name]
        first = start + network.graph.depth(name)
        seen = np.zeros((len(values), span.stop - span.start), dtype=bool)
        unit = np.asarray(monitor.i)
        own = (unit >= span.start) & (unit < span.stop) & (steps >= first) & (steps < first + len(values))
        seen[steps[own] - first, unit[own] - span.start] = True
        np.testing.assert_array_equal(seen, values.reshape(seen.shape), err_msg=name)


# Frames and time -------------------------------------------------------------------------------------------------


def test_frames_that_are_presented_before_others_have_left_follow_them() -> None:
    network = built()
    monitor = watched(network)
    network.present(FRAMES[:8])
    network.run(5 * network.step * b2.second)  # three have not entered, five are on their way
    network.present(FRAMES[8:])
    network.present(FRAMES[:4])
    network.run(network.duration())
    assert network.drive.starts == [0, 8, 20]
    assert_answered(network, monitor, FRAMES, 0)
    assert_answered(network, monitor, FRAMES[:4], 20)
    assert network.duration() == 0 * b2.second


def test_frames_enter_where_they_are_told_to_and_not_in_the_past() -> None:
    network = built()
    monitor = watched(network)
    network.present(FRAMES, start=7)
    with pytest.raises(BackendError, match="others that were presented before enter from 7 to 26"):
        network.present(FRAMES[:3], start=5)
    network.present(FRAMES[:3], start=27)
    network.run(network.duration())
    assert network.next_step == 30 + GRAPH.total_depth
    assert_answered(network, monitor, FRAMES, 7)
    assert_answered(network, monitor, FRAMES[:3], 27)
    with pytest.raises(BackendError, match="from step 0 on, which is past: the next step is 34"):
        network.present(FRAMES, start=0)


def test_frames_that_were_dropped_do_not_enter() -> None:
    network = built()
    monitor = watched(network)
    network.present(FRAMES[:9])
    network.clear()
    network.present(FRAMES[9:])
    network.run(network.duration())
    assert_answered(network, monitor, FRAMES[9:], 0)


def test_objects_join_a_network_that_is_far_in_its_time() -> None:
    """Their own clock stands at 0 then; a million steps have passed in the user's network."""
    mine = b2.NeuronGroup(2, "v : 1")
    user = b2.Network(mine)
    user.t_ = 1000.0
    user.run(3 * b2.ms)
    network = built()
    monitor = b2.SpikeMonitor(network.units)
    user.add(network.objects, monitor)
    network.present(FRAMES)
    user.run(network.duration(FRAMES))
    assert network.drive.starts == [1_000_003]
    assert_answered(network, monitor, FRAMES, 1_000_003)
    network.present(FRAMES[:5])
    user.run(network.duration(FRAMES[:5]))
    assert_answered(network, monitor, FRAMES[:5], 1_000_003 + 20 + GRAPH.total_depth)


def test_a_start_that_turns_out_to_be_past_is_refused_when_it_does() -> None:
    user = b2.Network()
    user.t_ = 5.0
    network = built()
    user.add(network.objects)
    network.present(FRAMES, start=0)
    with pytest.raises(BackendError, match="from step 0 on, which is past: the next step is 5,000"):
        user.run(10 * b2.ms)


def test_store_and_restore_bring_back_the_frames_that_waited(tmp_path: Path) -> None:
    network = built()
    monitor = watched(network)
    network.present(FRAMES)
    network.run(6 * network.step * b2.second)
    network.store()
    network.store(filename=str(tmp_path / "state"))
    network.run(network.duration())
    assert_answered(network, monitor, FRAMES, 0)
    for source in ({}, {"filename": str(tmp_path / "state")}):
        network.restore(**source)
        assert network.next_step == 6
        network.run(network.duration())
        assert_answered(network, monitor, FRAMES, 0)
    network.restore()
    network.clear()
    network.present(FRAMES[::-1])
    network.run(network.duration())
    assert network.drive.starts == [0, 6]
    assert_answered(network, monitor, FRAMES[::-1], 6)


@pytest.mark.parametrize("other", [0.1e-3, 1e-3, 3e-3, 0.7e-3])
def test_other_clocks_in_the_network_do_not_matter(other: float) -> None:
    network = built(dt=1e-3)
    monitor = watched(network)
    network.add(b2.NeuronGroup(3, "dx/dt = 1/second : 1", dt=other * b2.second, name="others"))
    network.present(FRAMES)
    network.run(network.duration() / 2)
    network.run(network.duration())
    assert_answered(network, monitor, FRAMES, 0)


def test_a_clock_that_is_set_to_another_step_is_refused() -> None:
    network = built()
    network.strop_clock.dt = 0.5 * b2.ms
    with pytest.raises(BackendError, match=r"built for steps of 0.001 s, and its clock has been set to 0.0005 s"):
        network.run(1 * b2.ms)


# Preferences, schedules, devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_a_network_is_the_graph_in_all_surroundings(surrounding: str) -> None:
    """Built and run in them; in thirds of an integer, which float32 has not."""
    with SURROUNDINGS[surrounding]():
        network = built(sums_of_thirds())
        monitor = watched(network)
        network.present(np.ones((9, 3), np.float32))
        network.run(network.duration())
    assert_answered(network, monitor, np.ones((9, 3), np.float32), 0)
    assert all(values.dtype == np.float64 for values in network.weights().values())


def sums_of_thirds() -> Graph:
    """Units that lie one float64 below, at and above their thresholds, and would not be told apart in float32."""
    third = 1 / 3
    threshold = [third, np.nextafter(third, 1), np.nextafter(third, 0)]
    return Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("a", (3,), threshold, 0.0), Population("b", (3,), 0.5 + np.array([0, 1e-12, -1e-12]), 0.0)],
        [("x", "a", Dense(np.eye(3) * third)), ("a", "b", Dense(np.full((3, 3), 0.25)))],
        (),
        ["b"],
    )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_schedule_that_is_set_later_does_not_matter(order: int) -> None:
    slots = [["synapses", "thresholds"], ["thresholds", "synapses"], ["end", "synapses", "mine", "thresholds", "start"]]
    network = built()
    monitor = watched(network)
    network.schedule = [*slots[order], *({"start", "groups", "resets", "end"} - set(slots[order]))]
    network.present(FRAMES)
    network.run(network.duration())
    assert_answered(network, monitor, FRAMES, 0)


def test_a_schedule_without_thresholds_is_refused() -> None:
    network = built()
    network.schedule = ["start", "groups", "synapses", "resets", "end"]
    with pytest.raises(BackendError, match="has no slot 'thresholds'"):
        network.run(1 * b2.ms)


@pytest.mark.parametrize(("when", "order"), [("thresholds", -5), ("thresholds", 5), ("synapses", 0), ("end", 0)])
def test_a_users_own_objects_may_be_anywhere_in_a_step(when: str, order: int) -> None:
    network = built()
    monitor = watched(network)
    seen: list[float] = []
    network.add(b2.NetworkOperation(lambda: seen.append(1.0), clock=network.strop_clock, when=when, order=order))
    mine = b2.NeuronGroup(5, "x : 1", threshold="x > 2", reset="x = 0", clock=network.strop_clock)
    heard = b2.Synapses(network.populations[LAST], mine, on_pre="x_post += 1", clock=network.strop_clock)
    heard.connect(j="i")
    network.add(mine, heard)
    network.present(FRAMES)
    network.run(network.duration())
    assert len(seen) == 20 + GRAPH.total_depth
    assert_answered(network, monitor, FRAMES, 0)


def test_a_device_that_is_set_later_is_refused() -> None:
    network = built()
    b2.set_device("cpp_standalone", build_on_run=False)
    try:
        with pytest.raises(BackendError, match="was set after the network had been built"):
            network.run(1 * b2.ms)
    finally:
        b2.device.reinit()
        b2.set_device("runtime")


def test_magic_runs_take_no_notice_of_a_network() -> None:
    network = built()
    # A monitor of the user's own is picked up, where a variable of its own holds it.
    monitors = [watched(network)]
    units, synapses, part = network.units, network.synapses[0], network.populations[LAST]
    mine = b2.NeuronGroup(2, "v : 1", name="mine")
    b2.run(1 * b2.ms)
    assert mine.t == 1 * b2.ms
    network.present(FRAMES)
    network.run(network.duration())
    assert_answered(network, monitors[0], FRAMES, 0)
    assert len(units) > len(part)
    assert len(synapses) > 0


def test_nothing_random_is_drawn() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002  # Brian2 draws from it
    network = built()
    network.present(FRAMES)
    network.run(network.duration())
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]  # noqa: NPY002


# Several networks ------------------------------------------------------------------------------------------------


def test_two_networks_run_in_one() -> None:
    networks = [built(), built(), built(dt=0.4e-3)]
    monitors = [b2.SpikeMonitor(network.units) for network in networks]
    together = b2.Network([network.objects for network in networks], monitors)
    for number, network in enumerate(networks):
        network.present(FRAMES[number:])
    together.run(networks[0].duration(FRAMES))
    for number, (network, monitor) in enumerate(zip(networks, monitors, strict=True)):
        assert_answered(network, monitor, FRAMES[number:], 0)
        assert network[LAST] is network.populations[LAST]
        assert LAST in network
    assert len({network.strop_clock.name for network in networks}) == 3


def test_names_begin_with_what_the_user_says() -> None:
    network = built(prefix="left_", name="left")
    assert network.name == "left"
    assert network.populations[LAST].name == f"left_{LAST}"
    assert all(obj.name.startswith("left_") for obj in network)
    with pytest.raises(BackendError, match="prefix must be the beginning of an identifier"):
        built(prefix="1 b")


def test_a_network_that_is_never_run_says_nothing(tmp_path: Path) -> None:
    GRAPH.save(tmp_path / "g.strop")
    program = (
        "import gc, strop, sys; graph = strop.Graph.load(sys.argv[1])\n"
        "network = strop.build(graph, 'brian2', target='numpy'); del network; gc.collect(); print('done')"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "g.strop")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
    assert "getting deleted" not in done.stderr
    gc.collect()


# Weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_read_and_changed_in_the_graphs_units() -> None:
    graph = image_network(np.random.default_rng(0))
    frames = frames_for(graph, np.random.default_rng(3), 20)
    network = built(graph)
    monitor = watched(network)
    weights, wanted = network.weights(), weights_of(graph)
    assert len(weights) > 1
    for pair, values in weights.items():
        np.testing.assert_array_equal(values, wanted[pair])
        synapses, place = network.projections[pair]
        np.testing.assert_array_equal(synapses.w[:][place], values)
        pre, post, _ = synapses_of(graph, *pair)
        np.testing.assert_array_equal(synapses.i[:][place] - network.spans[pair[0]].start, pre)
        np.testing.assert_array_equal(synapses.j[:][place] - network.spans[pair[1]].start, post)
    network.present(frames)
    network.run(network.duration())
    lesioned = {pair: np.where(np.arange(len(values)) % 3, values, -2 * values) for pair, values in weights.items()}
    network.set_weights(lesioned)
    network.present(frames)
    network.run(network.duration())
    changed = with_weights(graph, lesioned)
    assert any((spikes_of(graph, frames)[n] != s).any() for n, s in spikes_of(changed, frames).items())
    assert_answered(network, monitor, frames, 0)
    assert_answered(network, monitor, frames, network.drive.starts[1], changed)


def test_brian2s_own_interface_changes_weights_too() -> None:
    network = built()
    monitor = watched(network)
    for synapses in network.synapses:
        synapses.w = "w * 2"
    doubled = with_weights(GRAPH, {pair: 2 * values for pair, values in weights_of(GRAPH).items()})
    network.present(FRAMES)
    network.run(network.duration())
    for pair, values in network.weights().items():
        np.testing.assert_array_equal(values, weights_of(doubled)[pair])
    played = {name: spikes for name, spikes in spikes_of(GRAPH, FRAMES).items() if network.spans[name].stimulus}
    assert not played, "all populations are simulated here"
    assert_answered(network, monitor, FRAMES, 0, doubled)


def test_weights_that_an_operation_changes_count_from_the_next_step_on() -> None:
    """A unit decides in step t with the weights of step t - 1, whatever they were when its frame entered."""
    network = built()
    monitor = watched(network)
    silent = {pair: np.zeros(len(values)) for pair, values in network.weights().items()}

    @b2.network_operation(clock=network.strop_clock, when="end")
    def learn(t: Any) -> None:
        if int(np.rint(t / network.strop_clock.dt)) == 9:
            network.set_weights(silent)

    network.add(learn)
    network.present(FRAMES)
    network.run(network.duration())
    before, after = spikes_of(GRAPH, FRAMES), spikes_of(with_weights(GRAPH, silent), FRAMES)
    steps, unit = np.rint(np.asarray(monitor.t) / network.step).astype(int), np.asarray(monitor.i)
    first, span = network.graph.depth("a"), network.spans["a"]
    seen = np.zeros((20, 9), dtype=bool)
    own = (unit >= span.start) & (unit < span.stop) & (steps >= first) & (steps < first + 20)
    seen[steps[own] - first, unit[own] - span.start] = True
    # Steps 1 to 10 of the first layer belong to frames 0 to 9.
    np.testing.assert_array_equal(seen[:10], before["a"][:10])
    np.testing.assert_array_equal(seen[10:], after["a"][10:])
    assert (before["a"][10:] != after["a"][10:]).any()


def test_projections_that_lead_the_same_way_are_both_there() -> None:
    graph = Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("a", (3,), 0.5, 0.0), Population("b", (3,), 1.0, 0.0)],
        [
            ("x", "a", Dense(np.eye(3))),
            ("a", "b", Dense(np.eye(3) * 0.5)),
            ("a", "b", Dense(np.roll(np.eye(3), 1, 0) * 0.5)),
        ],
        outputs=["b"],
    )
    network = built(graph)
    assert network.weights()["a", "b"].tolist() == [0.5] * 6
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2, (30, 3)).astype(np.float32)
    monitor = watched(network)
    network.present(frames)
    network.run(network.duration())
    assert_answered(network, monitor, frames, 0)


def test_a_run_that_is_stopped_from_outside_is_named_and_leaves_nothing_behind() -> None:
    from strop.running.registry import get_backend

    runner: Any = get_backend("brian2").prepare(GRAPH, target="numpy")
    signals = encode(GRAPH, as_frames(GRAPH, FRAMES))
    stop = b2.NetworkOperation(b2.stop, clock=runner.network.strop_clock)
    runner.network.add(stop)
    with pytest.raises(BackendError, match="stopped from outside after 1 of"):
        runner.run(signals)
    stop.active = False
    found = runner.run(signals)
    for name, spikes in spikes_of(GRAPH, FRAMES).items():
        np.testing.assert_array_equal(found[name], spikes)


def test_a_folder_to_take_away_takes_no_notice_of_a_file_of_preferences(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 2, (20, 3)).astype(np.float32)
    out = strop.export(sums_of_thirds(), "brian2", tmp_path / "out", frames=frames)
    (out / "brian_preferences").write_text(
        "core.default_float_dtype = float32\n"
        "core.network.default_schedule = ['synapses', 'end', 'start', 'groups', 'thresholds', 'resets']\n"
    )
    command = [sys.executable, "-W", "ignore", "run.py"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every spike is as expected" in done.stdout
