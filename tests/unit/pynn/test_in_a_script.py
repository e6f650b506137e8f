"""A network in a user's own PyNN script: right whatever surrounds it, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pynn_graphs import require
from pynn_scripts import FRAMES, GRAPH, MODULES, quietly, set_up, wrong  # noqa: F401
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.running.oracle import evaluate
from strop_backends.pynn.common.dialect import SimulatorInUseError, dialect_for
from strop_backends.pynn.network import PyNNNetwork

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]

# Time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.01, 0.05, 0.1, 0.2, 0.3, 0.6, 0.7, 0.013, 0.25, 1.0, 3.0])
def test_spikes_do_not_depend_on_the_time_step(name: str, step: float) -> None:
    found = strop.simulate(GRAPH, FRAMES, name, timestep=step).spikes
    for population, spikes in evaluate(GRAPH, {"x": FRAMES >= 0.5}).items():
        np.testing.assert_array_equal(found[population], spikes, err_msg=population)


@pytest.mark.parametrize("step", [0.1, 0.3, 0.5])
def test_spikes_do_not_depend_on_the_time_step_that_the_script_has_set(name: str, step: float) -> None:
    sim = set_up(name, step)
    network = strop.build(GRAPH, sim)
    network.record()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


def test_nest_is_right_a_million_steps_later() -> None:
    require("pynn-nest")
    sim = set_up("pynn-nest", 0.1)
    network = strop.build(GRAPH, sim)
    sim.run(10**6 * 0.1)
    assert recorded_wrong(network) == 0
    assert network.start > 10**6


def test_neuron_is_right_a_hundred_thousand_steps_later() -> None:
    require("pynn-neuron")
    sim = set_up("pynn-neuron", 0.1)
    network = strop.build(GRAPH, sim)
    assert recorded_wrong(network, start=10**5) == 0


def test_brian2_sorts_times_into_ticks_far_from_zero() -> None:
    require("pynn-brian2")
    # As its `before_run` does, which the sources' times go through.
    for step in (0.1, 0.3, 0.7, 0.013):
        ticks = 2 * 10**9 + np.arange(1000)
        seconds = step * 1e-3
        np.testing.assert_array_equal(((ticks * seconds + 1e-3 * seconds) / seconds).astype(np.int32), ticks)
    sim = set_up("pynn-brian2", 0.3)
    network = strop.build(GRAPH, sim)
    sim.run(3000 * 0.3)
    assert recorded_wrong(network) == 0


def recorded_wrong(network: PyNNNetwork, start: int | None = None) -> int:
    """Present the frames, and count wrong spikes in strop's own recording from now on."""
    dialect = network.dialect
    dialect.record({name: network.populations[name] for name in GRAPH.population_names})
    dialect.run_until(network.play({"x": FRAMES >= 0.5}, start))
    found, expected = network.answers(dialect.take(), len(FRAMES)), evaluate(GRAPH, {"x": FRAMES >= 0.5})
    assert all(0 < spikes.mean() < 1 for spikes in expected.values())
    return sum(int((found[population] != spikes).sum()) for population, spikes in expected.items())


@pytest.mark.parametrize("step", [0.0005, 0.00125, 1 / 3, 0.1 + 1e-6])
def test_nest_refuses_a_time_step_that_it_cannot_count(step: float) -> None:
    require("pynn-nest")
    with pytest.raises(BackendError, match=r"NEST counts in tics of 0.001 ms.*for example 0\.\d+"):
        strop.build(GRAPH, "pynn-nest", timestep=step)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_step_that_is_none_is_refused(name: str, step: float) -> None:
    with pytest.raises(BackendError, match="timestep must be positive"):
        strop.build(GRAPH, name, timestep=step)


def test_a_setup_that_lacks_something_is_told_all_that_it_needs() -> None:
    require("pynn-nest")
    sim = dialect_for("pyNN.nest").sim
    says = r"sim.setup\(timestep=0.1, min_delay=0.1, max_delay=0.2, spike_precision='on_grid'\)"
    for options in ({}, {"spike_precision": "on_grid"}, {"min_delay": 0.2, "spike_precision": "on_grid"}):
        sim.setup(**options)
        with pytest.raises(BackendError, match=says):
            strop.build(GRAPH, sim)
    sim.setup(timestep=0.1, min_delay=0.1, max_delay=0.2, spike_precision="on_grid")
    assert strop.build(GRAPH, sim).alive


# Presenting, running, resetting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [0, 1, 2, 3, 4, 5, 6, 7, 11])
def test_frames_that_are_presented_before_the_last_have_entered_queue(name: str, pause: int) -> None:
    if name == "pynn-neuron":
        pytest.skip("NEURON takes frames before the first run only")
    sim = set_up(name)
    network = strop.build(GRAPH, sim)
    network.record()
    waves = [FRAMES[:5], FRAMES[5:6], FRAMES[6:]]
    starts, end = [], 0.0
    for wave in waves:
        end = network.present(wave)
        starts.append(network.start)
        sim.run(pause * sim.get_time_step())
    sim.run_until(end)
    for wave, start in zip(waves, starts, strict=True):
        expected = evaluate(GRAPH, {"x": wave >= 0.5})
        found = network.spikes(len(wave), start)
        assert all(np.array_equal(found[population], spikes) for population, spikes in expected.items())


def test_frames_queue_before_the_first_run(name: str) -> None:
    sim = set_up(name)
    network = strop.build(GRAPH, sim)
    network.record()
    network.present(FRAMES[:7])
    start = network.start
    sim.run_until(network.present(FRAMES[7:]))
    assert network.start == start + 7 * network.dialect.ticks_per_step
    assert wrong(network, FRAMES, count=12, start=start) == 0


def test_a_start_that_is_no_whole_number_is_refused(name: str) -> None:
    sim = set_up(name)
    network = strop.build(GRAPH, sim)
    for start in (7.5, 40.0, "40", True, 10**20):
        with pytest.raises(BackendError, match=f"start must be a whole number of steps, got {start!r}"):
            network.present(FRAMES, start=start)  # type: ignore[arg-type]
    network.record()
    sim.run_until(network.present(FRAMES, start=np.int64(40)))
    assert network.start == 40
    assert wrong(network, FRAMES) == 0


def test_frames_in_the_past_or_in_each_other_s_way_are_refused(name: str) -> None:
    sim = set_up(name)
    network = strop.build(GRAPH, sim)
    network.record()
    interval = network.dialect.ticks_per_step
    end = network.present(FRAMES)
    start = network.start
    for wanted in (start, start + 1, start + 12 * interval - 1):
        with pytest.raises(BackendError, match=f"the next can enter in tick {start + 12 * interval}"):
            network.present(FRAMES, start=wanted)
    if interval > 1:
        with pytest.raises(BackendError, match=rf"start in tick {start + 12 * interval} or {start + 13 * interval}"):
            network.present(FRAMES, start=start + 12 * interval + 1)
    with pytest.raises(BackendError, match=r"tick -3 is too early, the first that is possible is \d"):
        network.present(FRAMES, start=-3)
    sim.run_until(end)
    # What was refused has changed nothing.
    assert wrong(network, FRAMES, count=12, start=start) == 0


def test_a_reset_begins_anew(name: str) -> None:
    sim = set_up(name, **({"t_flush": 20.0} if name == "pynn-nest" else {}))
    network = strop.build(GRAPH, sim)
    network.record()
    first = None
    for reset in (sim.reset, network.reset, sim.reset):
        network.present(FRAMES[:9])
        # In the middle of a wave: what is under way is not to be seen afterwards.
        sim.run_until(5 * sim.get_time_step())
        reset()
        assert sim.get_current_time() == 0
        sim.run_until(network.present(FRAMES))
        first = first or network.start
        assert network.start == first
        assert wrong(network, FRAMES) == 0
        sim.reset()


def test_a_tick_that_an_exception_interrupts_is_not_run_twice() -> None:
    require("pynn-brian2")
    import brian2

    sim = set_up("pynn-brian2")
    network = strop.build(GRAPH, sim)
    network.record()
    native, raised = sim.simulator.state.network, []

    def stumble() -> None:
        if native.clock.t_ > 4e-3 and not raised:
            raised.append(True)
            raise ZeroDivisionError

    native.add(brian2.NetworkOperation(stumble, clock=native.clock, when="end"))
    end = network.present(FRAMES)
    with pytest.raises(ZeroDivisionError):
        sim.run_until(end)
    for _ in range(2):
        with pytest.raises(BackendError, match="tick 9 was interrupted by an exception and is begun again"):
            sim.run_until(end)
    network.reset()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0
    # A state of the user's that is restored is no interruption.
    native.store("mine")
    sim.run_until(network.present(FRAMES[:1]))
    for _ in range(2):
        native.restore("mine")
        sim.run(sim.get_time_step())


@pytest.mark.parametrize("move", [-2, 1, 6])
def test_a_clock_of_brian2_that_a_script_sets_is_refused(move: int) -> None:
    require("pynn-brian2")
    sim = set_up("pynn-brian2")
    network = strop.build(GRAPH, sim)
    network.record()
    end, step = network.present(FRAMES), sim.get_time_step()
    sim.run_until(8 * step)
    native = sim.simulator.state.network
    then = native.t_
    native.t_ += move * step * 1e-3
    for _ in range(2):
        with pytest.raises(BackendError, match=f"the clock has been set from tick 8 to tick {8 + move}"):
            sim.run(3 * step)
    native.t_ = then
    with pytest.raises(BackendError, match=f"the clock has been set from tick 8 to tick {8 + move}"):
        sim.run_until(end)
    sim.reset()
    sim.run_until(network.present(FRAMES))
    assert wrong(network, FRAMES) == 0


@pytest.mark.parametrize("ticks", [1, 5, 16])
def test_a_clock_of_nest_that_a_script_sets_back_is_refused(ticks: int) -> None:
    require("pynn-nest")
    sim = set_up("pynn-nest")
    import nest

    network = strop.build(GRAPH, sim)
    network.record()
    end = network.present(FRAMES)
    sim.run(ticks * sim.get_time_step())
    nest.biological_time = 0.0
    for _ in range(2):
        with pytest.raises(BackendError, match="NEST's clock has been set back"):
            sim.run_until(end)


def test_a_clock_of_nest_that_is_set_back_before_a_run_of_nest_s_own_is_noticed() -> None:
    require("pynn-nest")
    sim = set_up("pynn-nest")
    import nest

    network = strop.build(GRAPH, sim)
    network.record()
    end = network.present(FRAMES)
    sim.run(10 * sim.get_time_step())
    nest.biological_time = 0.0
    nest.Simulate(sim.get_time_step())
    sim.run_until(end)
    with pytest.raises(BackendError, match="recorded twice in one tick, so the clock has been set back"):
        network.spikes()


def test_brian2_resets_networks_that_were_built_after_its_first_run() -> None:
    require("pynn-brian2")
    sim = set_up("pynn-brian2")
    networks = [strop.build(GRAPH, sim)]
    networks[0].record()
    sim.run_until(networks[0].present(FRAMES))
    networks.append(strop.build(GRAPH, sim))
    networks[1].record()
    sim.run_until(networks[1].present(FRAMES))
    assert [wrong(network, FRAMES) for network in networks] == [0, 0]
    for reset in (sim.reset, networks[1].reset):
        reset()
        sim.run_until(max(network.present(FRAMES) for network in networks))
        assert [wrong(network, FRAMES) for network in networks] == [0, 0]


# Whose simulator ---------------------------------------------------------------------------------------------------


def test_a_network_that_the_simulator_has_lost_says_so(name: str) -> None:
    sim = set_up(name)
    network = strop.build(GRAPH, sim)
    network.record()
    set_up(name)
    assert not network.alive
    for use in (lambda: network.present(FRAMES), network.spikes, network.weights, network.reset, network.record):
        with pytest.raises(BackendError, match=r"no longer holds this network.*Build it again"):
            use()
    again = strop.build(GRAPH, sim)
    again.record()
    sim.run_until(again.present(FRAMES))
    assert wrong(again, FRAMES) == 0


def test_a_kernel_that_was_reset_and_filled_again_is_not_taken_for_the_old_one() -> None:
    require("pynn-nest")
    sim = set_up("pynn-nest")
    import nest

    network = strop.build(GRAPH, sim)
    nest.ResetKernel()
    nest.Create("spike_generator", 300)
    assert not network.alive
    with pytest.raises(BackendError, match="no longer holds this network"):
        network.present(FRAMES)


def test_building_by_name_does_not_take_a_script_s_network_away(name: str) -> None:
    sim = set_up(name)
    cells = sim.Population(2, sim.IF_curr_exp())
    with pytest.raises(
        SimulatorInUseError, match=rf"Build into it: strop.build\(graph, sim\), with sim.*{sim.__name__}"
    ):
        strop.build(GRAPH, name)
    sim.run(1.0)
    assert cells.size == 2
    network = strop.build(GRAPH, sim)
    assert network.alive


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rng_seed", 77),
        ("rng_type", "Philox_32"),
        ("print_time", True),
        ("use_wfr", False),
        ("keep_source_table", False),
        ("min_delay", 0.2),
        ("resolution", 0.05),
    ],
)
def test_settings_of_nest_s_kernel_are_not_taken_away(setting: str, value: Any) -> None:
    require("pynn-nest")
    dialect = dialect_for("pyNN.nest")
    nest = dialect.nest  # type: ignore[attr-defined]  # NEST's dialect has it
    assert dialect.in_use(disposable=True) is None
    try:
        nest.set(**({"max_delay": 3.0} if setting == "min_delay" else {}), **{setting: value})
        assert setting in str(dialect.in_use(disposable=True))
    finally:
        nest.ResetKernel()


def test_what_nest_says_and_overwrites_is_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    require("pynn-nest")
    nest = dialect_for("pyNN.nest").nest  # type: ignore[attr-defined]  # as above
    given = nest.verbosity, nest.overwrite_files
    try:
        for level, overwrite in ((nest.VerbosityLevel.WARNING, True), (nest.VerbosityLevel.FATAL, False)):
            nest.verbosity, nest.overwrite_files = level, overwrite
            for _ in range(2):
                strop.simulate(GRAPH, FRAMES[:2], "pynn-nest")
                assert (nest.verbosity, nest.overwrite_files) == (level, overwrite)
    finally:
        nest.verbosity, nest.overwrite_files = given
