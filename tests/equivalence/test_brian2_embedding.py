"""A Brian2 network in a user's script: whatever is done around it, no spike is lost or wrong in silence."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

b2 = pytest.importorskip("brian2")

from brian2.utils.logger import catch_logs  # noqa: E402
from brian2_scripts import FRAMES, GRAPH, assert_answered, built, compile_nothing, spikes_of, watched  # noqa: E402, F401

import strop  # noqa: E402
from strop.errors import BackendError  # noqa: E402
from strop.graph import Dense, Graph, Input, Population  # noqa: E402
from strop.running.encode import as_frames, encode  # noqa: E402
from strop_backends.brian2.surroundings import SURROUNDINGS  # noqa: E402

LAST = "d"


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


@pytest.mark.parametrize("again", ["restored", "presented anew"])
def test_a_step_that_an_exception_interrupts_is_not_run_twice(again: str) -> None:
    network = built()
    monitor = watched(network)
    raised: list[int] = []

    def stumble() -> None:
        if network.next_step == 5 and not raised:
            raised.append(5)
            raise ZeroDivisionError

    network.add(b2.NetworkOperation(stumble, clock=network.strop_clock, when="end"))
    network.present(FRAMES)
    network.store()
    with pytest.raises(ZeroDivisionError):
        network.run(network.duration())
    for _ in range(2):
        with pytest.raises(BackendError, match="step 5 was interrupted by an exception and is begun again"):
            network.run(network.duration())
    if again == "restored":
        network.restore()
    else:
        network.clear()
        network.present(FRAMES)
    network.run(network.duration())
    assert_answered(network, monitor, FRAMES, 0 if again == "restored" else 5)


@pytest.mark.parametrize("move", [-2, 1, 7])
def test_a_clock_that_a_script_sets_while_frames_are_under_way_is_refused(move: int) -> None:
    network = built()
    monitor = watched(network)
    network.present(FRAMES)
    network.run(5 * network.step * b2.second)
    then = network.t_
    network.t_ += move * network.step
    for _ in range(2):
        with pytest.raises(BackendError, match=f"the clock has been set from step 5 to step {5 + move} while frames"):
            network.run(network.duration())
    network.t_ = then
    with pytest.raises(BackendError, match=f"the clock has been set from step 5 to step {5 + move} while frames"):
        network.run(network.duration())
    network.clear()
    network.present(FRAMES)
    begin = network.next_step
    network.run(network.duration())
    assert_answered(network, monitor, FRAMES, begin)
    # With no frame under way nothing can be lost.
    network.t_ += 3 * network.step
    begin = network.next_step + 3
    network.present(FRAMES)
    network.run(network.duration())
    assert network.drive.starts[-1] == begin
    assert_answered(network, monitor, FRAMES, begin)


def test_an_exception_before_a_step_begins_and_a_stop_behind_it_do_no_harm() -> None:
    network = built()
    monitor = watched(network)
    raised: list[int] = []

    def stumble() -> None:
        if network.next_step == 5 and not raised:
            raised.append(5)
            raise ZeroDivisionError
        if network.next_step == 9:
            network.stop()

    network.add(b2.NetworkOperation(stumble, clock=network.strop_clock, when="start"))
    network.present(FRAMES)
    with pytest.raises(ZeroDivisionError):
        network.run(network.duration())
    for _ in range(3):
        network.run(network.duration())
    assert_answered(network, monitor, FRAMES, 0)


def test_a_start_that_is_no_whole_number_is_refused() -> None:
    network = built()
    for start in (7.5, 3.0, "3", True, 10**20):
        with pytest.raises(BackendError, match="brian2: start must be a whole number of steps, got"):
            network.present(FRAMES, start=start)


def test_a_step_may_be_given_as_a_time_of_brian2() -> None:
    network = built(dt=0.1 * b2.ms)
    monitor = watched(network)
    network.present(FRAMES)
    network.run(network.duration())
    assert network.step == 1e-4
    assert_answered(network, monitor, FRAMES, 0)
    for dt in (0, -1.0, float("nan"), float("inf"), "x", None, 1 * b2.mV, [1e-3, 1e-3]):
        with pytest.raises(BackendError, match="dt must be positive"):
            built(dt=dt)


@pytest.mark.parametrize("given", ["in the script", "as the namespace"])
def test_a_script_may_have_any_variables(given: str) -> None:
    w, v, th, bias, v_post, N, dt, i = 3, "x", np.ones(3), 2.0, None, 1, 1 * b2.mV, {}
    names = {"w": w, "v": v, "th": th, "bias": bias, "v_post": v_post, "N": N, "dt": dt, "i": i}
    network = built()
    monitor = watched(network)
    network.present(FRAMES)
    with catch_logs() as said:
        network.run(network.duration(), **({"namespace": names} if given == "as the namespace" else {}))
    assert_answered(network, monitor, FRAMES, 0)
    assert said == []


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
