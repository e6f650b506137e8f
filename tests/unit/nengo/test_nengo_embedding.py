"""A Nengo network in a user's own script: parents' configurations, several simulators, resets, copies, weights."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from graphs import frames_for, image_network, skip_network

import strop
from strop.errors import BackendError
from strop.graph import Graph, weights_of, with_weights
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop_backends.nengo import load_nengo

try:
    nengo = load_nengo()
except ImportError:
    pytest.skip("nengo is not installed", allow_module_level=True)

from strop_backends.nengo import network as network_module
from strop_backends.nengo.network import SpikingNetwork
from strop_backends.nengo.surroundings import CONFIGURED, configured, rc

GRAPH = skip_network(np.random.default_rng(1))
FRAMES = frames_for(GRAPH, np.random.default_rng(2), 20)


@pytest.fixture(autouse=True)
def _no_decoder_cache() -> Iterator[None]:
    """Another process that builds at the same time would have Nengo warn of its cache's lock."""
    with rc("decoder_cache", "enabled", "False"):
        yield


def built(graph: Graph = GRAPH, **options: Any) -> SpikingNetwork:
    network: SpikingNetwork = strop.build(graph, "nengo", **{"probes": True, **options})
    return network


def simulator(network: Any, **options: Any) -> Any:
    return nengo.Simulator(network, progress_bar=False, **options)


def assert_played(sim: Any, network: SpikingNetwork, parts: dict[int, Any], graph: Graph | None = None) -> None:
    """Compare all that a simulator recorded with the frames in `parts`, by the step in which they entered."""
    for start, frames in parts.items():
        wanted = evaluate(graph or network.graph, encode(network.graph, as_frames(network.graph, frames)))
        assert sum(int(values.sum()) for values in wanted.values()) > 10
        for name, values in wanted.items():
            seen = sim.data[network.probed[name]][start : start + len(frames)] > 0.5
            np.testing.assert_array_equal(seen, values.reshape(len(frames), -1), err_msg=f"{name} from {start}")


# Configurations that are inherited -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGURED)
@pytest.mark.parametrize("optimize", [False, True])
def test_a_parents_configuration_changes_nothing(name: str, optimize: bool) -> None:
    with nengo.Network(seed=4) as parent:
        for kind, values in CONFIGURED[name].items():
            for key, value in values.items():
                setattr(parent.config[kind], key, value)
        with nengo.Network():
            network = built()
    network.present(FRAMES)
    with simulator(parent, optimize=optimize) as sim:
        sim.run_steps(20)
    assert_played(sim, network, {0: FRAMES})


@pytest.mark.parametrize(
    ("kind", "given", "by_hand"),
    [
        ("Node", "NODE", {"output", "label"}),
        ("Probe", "PROBE", {"target", "label"}),
        ("Ensemble", "ENSEMBLE", {"n_neurons", "dimensions", "encoders", "gain", "bias", "neuron_type", "label"}),
        ("Connection", "CONNECTION", {"pre", "post", "transform", "label"}),
    ],
)
def test_every_parameter_of_every_object_is_given(kind: str, given: str, by_hand: set[str]) -> None:
    """Whatever Nengo adds to these classes, a configuration could set it: then this says so."""
    signature = inspect.signature(getattr(nengo, kind).__init__)
    takes = set(signature.parameters) - {"self", "add_to_container"}
    assert takes == set(getattr(network_module, given)) | by_hand


def test_what_a_user_adds_still_follows_the_parents_configuration() -> None:
    with nengo.Network() as parent:
        parent.config[nengo.Probe].sample_every = 0.004
        network = built()
        with network:
            mine = nengo.Probe(network.populations["a"].neurons)
    assert mine.sample_every == 0.004
    assert network.probed["a"].sample_every is None


def test_simulating_within_a_users_network_adds_nothing_to_it() -> None:
    with configured(CONFIGURED["noisy ensembles"]) as parent:
        spikes = strop.simulate(GRAPH, FRAMES, "nengo").spikes
    assert parent.networks == []
    assert spikes["d"].any()


def test_32_bits_are_refused_when_the_simulator_is_made() -> None:
    network = built()
    nengo.rc.set("precision", "bits", "32")
    try:
        with pytest.raises(BackendError, match="float32, which rounds weights"):
            simulator(network)
    finally:
        nengo.rc.set("precision", "bits", "64")


@pytest.mark.parametrize("dt", [1e-4, 0.3e-3, 1.0, 13.7])
def test_any_step_will_do(dt: float) -> None:
    network = built()
    network.present(FRAMES, start=3)
    with simulator(network, dt=dt) as sim:
        sim.run_steps(23)
    assert_played(sim, network, {3: FRAMES})


def test_simulating_draws_no_random_number() -> None:
    before = np.random.get_state()  # noqa: NPY002  # Nengo draws from it
    strop.simulate(GRAPH, FRAMES, "nengo")
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_one_population_may_be_probed_by_its_name() -> None:
    assert list(built(probes="d").probed) == ["d"]


# Frames ----------------------------------------------------------------------------------------------------------


def test_frames_that_are_presented_while_it_runs_enter_next() -> None:
    network = built()
    network.present(FRAMES)
    with simulator(network) as sim:
        sim.run_steps(20)
        network.present(FRAMES[:7])
        sim.run_steps(9)
        network.present(FRAMES[7:])
        sim.run_steps(13)
    assert_played(sim, network, {0: FRAMES, 20: FRAMES[:7], 29: FRAMES[7:]})


def test_frames_that_are_presented_before_others_have_entered_follow_them() -> None:
    network = built()
    network.present(FRAMES[:8])
    with simulator(network) as sim:
        sim.run_steps(5)
        network.present(FRAMES[8:])
        network.present(FRAMES[:4], start=21)
        sim.run_steps(20)
    assert_played(sim, network, {0: FRAMES, 21: FRAMES[:4]})


def test_frames_that_were_dropped_do_not_enter() -> None:
    network = built()
    network.present(FRAMES[:9])
    with simulator(network) as sim:
        sim.run_steps(4)
        network.clear()
        network.present(FRAMES[9:])
        sim.run_steps(11)
    assert_played(sim, network, {0: FRAMES[:4], 4: FRAMES[9:]})


def test_frames_do_not_enter_in_the_past_or_two_at_once() -> None:
    network = built()
    network.present(FRAMES, start=2)
    with pytest.raises(BackendError, match="presented before enter from 2 to 21"):
        network.present(FRAMES, start=21)
    with simulator(network) as sim:
        sim.run_steps(22)
        network.present(FRAMES, start=5)
        with pytest.raises(BackendError, match="from step 5 on, which is past: the next step is 22"):
            sim.run_steps(1)


def test_a_start_that_is_no_whole_number_is_refused() -> None:
    network = built()
    for start in (7.5, 3.0, "3", True, 10**20):
        with pytest.raises(BackendError, match="nengo: start must be a whole number of steps, got"):
            network.present(FRAMES, start=start)  # type: ignore[arg-type]


def test_frames_that_are_presented_within_a_step_are_refused() -> None:
    """Some inputs would have been read already, and others not."""
    graph = two_inputs()
    network = built(graph)
    frames = {node.name: np.ones((3, *node.shape), np.float32) for node in graph.inputs}
    first, second = (node.output for node in network.inputs.values())
    states = [playback.make_state((0,), (playback.size,), 0.001) for playback in (first, second)]
    steps = [
        playback.make_step((0,), (playback.size,), 0.001, None, state)
        for playback, state in zip((first, second), states, strict=True)
    ]
    network.present(frames)
    assert steps[0](0.001).all()
    with pytest.raises(BackendError, match="presented within a step"):
        network.present(frames)
    assert steps[1](0.001).all()
    network.present(frames)
    assert [bool(np.all(step(0.001 * n))) for n in range(2, 9) for step in steps] == [True] * 10 + [False] * 4


def two_inputs() -> Graph:
    from strop.conformance import golden_case

    return golden_case("two_inputs_two_outputs").graph


# Simulators ------------------------------------------------------------------------------------------------------


def test_a_reset_simulator_plays_the_last_frames_anew_or_others() -> None:
    network = built()
    network.present(FRAMES)
    with simulator(network) as sim:
        sim.run_steps(20)
        sim.reset()
        sim.run_steps(20)
        assert_played(sim, network, {0: FRAMES})
        sim.reset()
        network.present(FRAMES[::-1])
        sim.run_steps(20)
        assert_played(sim, network, {0: FRAMES[::-1]})


@pytest.mark.parametrize("optimize", [False, True])
def test_several_simulators_of_one_network_play_all_frames(optimize: bool) -> None:
    network = built()
    network.present(FRAMES)
    with simulator(network, optimize=optimize) as first, simulator(network, dt=0.01) as second:
        first.run_steps(20)
        second.run_steps(13)
        network.present(FRAMES[:6])
        first.run_steps(6)
        network.present(FRAMES[6:])
        second.run_steps(27)
        first.run_steps(14)
        with simulator(network) as third:
            third.run_steps(14)
    assert_played(first, network, {0: FRAMES, 20: FRAMES[:6], 26: FRAMES[6:]})
    assert_played(second, network, {0: FRAMES, 20: FRAMES[:6], 26: FRAMES[6:]})
    assert_played(third, network, {0: FRAMES[6:]})


def test_a_later_simulator_begins_anew() -> None:
    """Also where one stands by that was never run, and the one before was stopped half-way."""
    network = built()
    with simulator(network) as idle:
        for frames, steps in ((FRAMES, 12), (FRAMES[::-1], 20)):
            network.present(frames)
            with simulator(network) as sim:
                sim.run_steps(steps)
            assert_played(sim, network, {0: frames[:steps]})
        idle.run_steps(20)
    assert_played(idle, network, {0: FRAMES[::-1]})


def test_frames_that_all_have_played_are_not_kept() -> None:
    network = built()
    with simulator(network) as sim:
        for _ in range(5):
            network.present(FRAMES)
            sim.run_steps(20)
    assert len(network.frames.waves) == 1


# Copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [lambda n: n.copy(), lambda n: pickle.loads(pickle.dumps(n))])
@pytest.mark.parametrize("adjustable", [False, True])
def test_copies_are_networks_of_their_own(copied: Callable[[Any], Any], adjustable: bool) -> None:
    network = built(adjustable=adjustable)
    network.present(FRAMES)
    again = copied(network)
    assert again.graph == GRAPH
    network.present(FRAMES[:5])
    again.present(FRAMES[::-1])
    with simulator(network) as sim, simulator(again) as other:
        sim.run_steps(25)
        other.run_steps(40)
    assert_played(sim, network, {0: FRAMES, 20: FRAMES[:5]})
    assert_played(other, again, {0: FRAMES, 20: FRAMES[::-1]})


def test_two_networks_run_in_one() -> None:
    with nengo.Network() as parent:
        networks = [built(prefix="left."), built(prefix="right.", name="right")]
    assert [network.label for network in networks] == ["left.network", "right"]
    assert {e.label for e in networks[1].ensembles} == {f"right.{name}" for name in GRAPH.population_names}
    for network, frames in zip(networks, (FRAMES, FRAMES[::-1]), strict=True):
        network.present(frames)
    with simulator(parent) as sim:
        sim.run_steps(20)
    assert_played(sim, networks[0], {0: FRAMES})
    assert_played(sim, networks[1], {0: FRAMES[::-1]})


# Weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimize", [False, True])
def test_weights_are_a_simulators_own(optimize: bool) -> None:
    graph = image_network(np.random.default_rng(0))
    frames = frames_for(graph, np.random.default_rng(3), 20)
    network = built(graph, adjustable=True)
    network.present(frames)
    with simulator(network, optimize=optimize) as sim, simulator(network) as untouched:
        weights = network.weights(sim)
        for pair, values in weights_of(graph).items():
            np.testing.assert_array_equal(weights[pair], values)
        lesioned = {pair: np.where(np.arange(len(v)) % 3, v, -2 * v) for pair, v in weights.items()}
        changed = with_weights(graph, lesioned)
        sim.run_steps(20)
        untouched.run_steps(20)
        network.set_weights(sim, lesioned)
        network.present(frames)
        sim.run_steps(20)
        untouched.run_steps(20)
        assert_played(sim, network, {0: frames})
        assert_played(sim, network, {20: frames}, changed)
        assert_played(untouched, network, {0: frames, 20: frames})
        for pair, values in network.weights(sim).items():
            np.testing.assert_array_equal(values, lesioned[pair])
        sim.reset()
        np.testing.assert_array_equal(network.weights(sim)["image", "conv"], weights["image", "conv"])
    signals = encode(graph, as_frames(graph, frames))
    assert any((evaluate(graph, signals)[n] != s).any() for n, s in evaluate(changed, signals).items())


def test_weights_that_cannot_be_reached_are_refused() -> None:
    network = built()
    with simulator(network) as sim:
        with pytest.raises(BackendError, match="build it with adjustable=True"):
            network.weights(sim)
        with pytest.raises(BackendError, match="made for another network"):
            built(adjustable=True).weights(sim)
    adjustable = built(adjustable=True)
    with simulator(adjustable) as sim:
        pass
    with pytest.raises(BackendError, match="the simulator is closed"):
        adjustable.set_weights(sim, weights_of(GRAPH))
