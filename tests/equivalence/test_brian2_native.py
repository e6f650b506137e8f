"""The Brian2 network as a user meets it: native objects, names, monitors, extensions, both code targets."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

b2 = pytest.importorskip("brian2")

from graphs import frames_for, image_network, skip_network  # noqa: E402

import strop  # noqa: E402
from strop.errors import BackendError  # noqa: E402
from strop.graph import Dense, Graph, Input, Population  # noqa: E402
from strop.running.encode import as_frames, encode  # noqa: E402
from strop.running.oracle import evaluate  # noqa: E402
from strop.running.registry import get_backend  # noqa: E402
from strop_backends.brian2.parts import brian2_name  # noqa: E402

RNG = np.random.default_rng(3)


def test_build_returns_a_network_whose_groups_carry_the_graphs_names() -> None:
    graph = image_network(np.random.default_rng(0))
    net = strop.build(graph, "brian2", target="numpy")
    assert isinstance(net, b2.Network)
    for name in ("image", *graph.population_names):
        assert net[name] is net.populations[name]
        assert len(net[name]) == np.prod(graph.signal_shape(name))
    assert [synapses.delay for synapses in net.synapses] == [0 * b2.second]


def test_projections_hold_the_weights_of_the_graph() -> None:
    graph = skip_network(np.random.default_rng(0))
    net = strop.build(graph, "brian2", target="numpy")
    assert sorted(round(float(synapses.delay / b2.ms)) for synapses in net.synapses) == [0, 1, 2]
    for p in graph.projections:
        synapses, index = net.projections[p.source, p.target]
        pre, post, weight = p.operator.to_coo()
        np.testing.assert_array_equal(synapses.i[:][index] - net.spans[p.source].start, pre)
        np.testing.assert_array_equal(synapses.j[:][index] - net.spans[p.target].start, post)
        np.testing.assert_array_equal(synapses.w[:][index], weight)


def test_a_users_monitor_sees_each_answer_at_its_step() -> None:
    graph = skip_network(np.random.default_rng(1))
    frames = frames_for(graph, np.random.default_rng(2), 20)
    net = strop.build(graph, "brian2", target="numpy", dt=2e-3)
    monitor = b2.SpikeMonitor(net.populations["d"], codeobj_class=net.code)
    net.add(monitor)
    net.present(frames)
    net.run(net.duration(frames))
    expected = evaluate(graph, encode(graph, as_frames(graph, frames)))["d"]
    seen = np.zeros_like(expected)
    steps = np.asarray(np.round(monitor.t / (2 * b2.ms)), int) - graph.depth("d")
    keep = (steps >= 0) & (steps < 20)
    seen[steps[keep], np.asarray(monitor.i)[keep]] = True
    assert expected.any()
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("target", ["numpy", "auto"])
def test_both_code_targets_give_the_same_spikes(target: str) -> None:
    graph = image_network(np.random.default_rng(4))
    frames = frames_for(graph, np.random.default_rng(5), 30)
    expected = evaluate(graph, encode(graph, as_frames(graph, frames)))
    found = strop.simulate(graph, frames, "brian2", target=target).spikes
    assert expected["dense"].any()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_two_networks_live_side_by_side() -> None:
    graphs = [skip_network(np.random.default_rng(seed)) for seed in (1, 2)]
    nets = [strop.build(graph, "brian2", target="numpy") for graph in graphs]
    for graph, net in zip(graphs, nets, strict=True):
        np.testing.assert_array_equal(net.units.th[-5:], graph.population("d").threshold)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"target": "weave"}, "target"), ({"dt": 0.0}, "dt must be positive"), ({"dt": -1.0}, "dt must be positive")],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        strop.build(skip_network(np.random.default_rng(0)), "brian2", **options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv_1", "conv_1"),
        ("a/b-c", "a_b_c"),
        ("1st", "p_1st"),
        ("class", "p_class"),
        ("strop_units", "p_strop_units"),
        ("é", "p__"),
    ],
)
def test_names_become_identifiers_that_brian2_accepts(name: str, expected: str) -> None:
    taken: set[str] = set()
    assert brian2_name(name, taken) == expected
    assert brian2_name(name, taken) == f"{expected}_2"


def test_populations_named_as_brian2_s_own_objects_do_not_clash() -> None:
    names = ["strop_units", "strop_forget", "strop_drive", "strop_synapses_1", "strop_clock"]
    graph = Graph.from_nodes(
        [Input("x", (2,), "binary")],
        [Population(name, (2,), 0.5, 0.0) for name in names],
        [(source, target, Dense(np.eye(2))) for source, target in zip(["x", *names], names, strict=False)],
        (),
        [names[-1]],
    )
    frames = np.array([[0, 1], [1, 1], [1, 0]], np.float32)
    spikes = strop.simulate(graph, frames, "brian2", target="numpy").spikes
    for name in names:
        np.testing.assert_array_equal(spikes[name], frames > 0.5)


@pytest.mark.parametrize("target", ["numpy", "cython"])
def test_the_target_that_the_user_prefers_is_followed(target: str) -> None:
    graph = skip_network(np.random.default_rng(1))
    before = b2.prefs.codegen.target
    b2.prefs.codegen.target = target
    try:
        network = strop.build(graph, "brian2")
    finally:
        b2.prefs.codegen.target = before
    assert network.code.class_name == target


def test_other_devices_are_refused() -> None:
    b2.set_device("cpp_standalone", build_on_run=False)
    try:
        with pytest.raises(BackendError, match="runtime mode only"):
            strop.build(skip_network(np.random.default_rng(0)), "brian2")
    finally:
        b2.device.reinit()
        b2.set_device("runtime")


def test_garbage_collection_is_left_as_it_was() -> None:
    import gc

    before = gc.get_freeze_count()
    graph = skip_network(np.random.default_rng(1))
    strop.simulate(graph, frames_for(graph, RNG, 2), "brian2", target="numpy")
    # Python 3.12 itself begins with some.
    assert gc.get_freeze_count() in (0, before)


@pytest.mark.parametrize(("frozen", "calls"), [(0, 1), (375, 1), (100_000, 0)])
def test_a_run_does_not_go_through_all_objects_of_the_process(
    frozen: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 begins with 375 frozen objects; where a script has frozen its own, they stay."""
    import gc

    graph = skip_network(np.random.default_rng(1))
    with contextlib.closing(get_backend("brian2").prepare(graph, target="numpy")) as runner:
        called: list[str] = []
        monkeypatch.setattr(gc, "get_freeze_count", lambda: frozen)
        monkeypatch.setattr(gc, "freeze", lambda: called.append("freeze"))
        monkeypatch.setattr(gc, "unfreeze", lambda: called.append("unfreeze"))
        runner.run(encode(graph, as_frames(graph, frames_for(graph, RNG, 2))))
    assert called == ["freeze", "unfreeze"] * calls
