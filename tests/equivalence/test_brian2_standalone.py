"""Brian2's C++ standalone mode: one program for many networks, and the user's device left as it was."""

from __future__ import annotations

import numpy as np
import pytest

b2 = pytest.importorskip("brian2")

from graphs import frames_for, image_network, skip_network  # noqa: E402

import strop  # noqa: E402
from strop.errors import BackendError, CapacityError  # noqa: E402
from strop.running.encode import as_frames, encode  # noqa: E402
from strop.running.oracle import evaluate  # noqa: E402
from strop.running.registry import available_backends, get_backend, runnable  # noqa: E402
from strop_backends.brian2 import cpp_standalone  # noqa: E402


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        cpp_standalone.require_compiler()
    except BackendError as error:
        pytest.skip(str(error))


def test_the_users_device_clock_and_compiler_flags_are_left_as_they_were() -> None:
    cpp_standalone._compiled.cache_clear()
    user = b2.devices.cpp_standalone.device.cpp_standalone_device
    flags = b2.prefs.codegen.cpp.extra_compile_args_gcc
    b2.set_device("cpp_standalone", build_on_run=False, directory="mine")
    try:
        b2.defaultclock.dt = 0.25 * b2.ms
        mine = b2.NeuronGroup(3, "v : 1")
        before = dict(user.arrays)
        frames = np.random.default_rng(0).integers(0, 256, (5, 7, 6, 2)).astype(np.uint8)
        # It is compiled here, while the user's device is the current one.
        graph = image_network(np.random.default_rng(0))
        assert cpp_standalone._compiled.cache_info().currsize == 0
        result = strop.simulate(graph, frames, "brian2-standalone", frames_at_once=100)
        assert cpp_standalone._compiled.cache_info().currsize == 1
        assert result.spikes["conv"].any()
        assert b2.get_device() is user
        assert user.build_on_run is False
        assert user.build_options == {"directory": "mine"}
        assert before.keys() == dict(user.arrays).keys(), "what the user is building has got nothing of ours"
        assert float(b2.defaultclock.dt / b2.ms) == 0.25
        assert len(mine) == 3
    finally:
        b2.device.reinit()
        b2.set_device("runtime")
        b2.defaultclock.dt = 0.1 * b2.ms
    assert b2.prefs.codegen.cpp.extra_compile_args_gcc == flags


def test_networks_of_a_size_share_a_program_and_live_side_by_side() -> None:
    graphs = [skip_network(np.random.default_rng(seed), "current") for seed in (1, 2)]
    runners = [get_backend("brian2-standalone").prepare(graph) for graph in graphs]
    assert runners[0].program is runners[1].program
    assert runners[0].folder != runners[1].folder
    for graph, runner in zip(graphs, runners, strict=True):
        signals = encode(graph, as_frames(graph, frames_for(graph, np.random.default_rng(3), 20)))
        expected = evaluate(graph, signals)
        assert 0 < expected["d"].mean() < 1
        for rows in (slice(0, 20), slice(3, 4), slice(4, 20)):
            found = runner.run({"x": signals["x"][rows]})
            for name, spikes in expected.items():
                np.testing.assert_array_equal(found[name], spikes[rows], err_msg=name)
    for runner in runners:
        runner.close()
        assert not runner.folder.exists()
    assert runners[0].program.main.is_file(), "the program stays for the next network"


def test_more_frames_than_the_program_takes_are_run_in_parts() -> None:
    graph = skip_network(np.random.default_rng(4))
    frames = frames_for(graph, np.random.default_rng(5), 250)
    runner = get_backend("brian2-standalone").prepare(graph, frames_at_once=100)
    assert runner.count == 128 - graph.total_depth < 250
    signals = encode(graph, as_frames(graph, frames))
    found, expected = runner.run(signals), evaluate(graph, signals)
    runner.close()
    assert expected["d"].any()
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = skip_network(np.random.default_rng(1))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match="no 'no-such-compiler' on the PATH.*use the backend 'brian2'"):
        get_backend("brian2-standalone").prepare(graph)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendError, match="there is no 'make' on the PATH"):
        get_backend("brian2-standalone").prepare(graph)


def test_what_does_not_fit_or_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = skip_network(np.random.default_rng(1))
    for wrong in (0, -3, 2.5):
        with pytest.raises(BackendError, match="frames_at_once must be a positive integer"):
            get_backend("brian2-standalone").prepare(graph, frames_at_once=wrong)
    with pytest.raises(BackendError, match=r"does not know the option\(s\) target"):
        strop.build(graph, "brian2-standalone", target="numpy")
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e6")
    with pytest.raises(CapacityError, match=r"a C\+\+ program for 1,024 neurons .* is 1.0 MB.*frames_at_once"):
        get_backend("brian2-standalone").prepare(graph)
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e4")
    with pytest.raises(CapacityError, match="Brian2 synapses needs about .*convolutions='kernel'"):
        get_backend("brian2-standalone").prepare(graph)


def test_it_runs_only_where_it_is_asked_for() -> None:
    assert "brian2-standalone" in available_backends()
    assert not runnable("brian2-standalone")
