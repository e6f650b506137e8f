"""Settings drawn at random around random networks, in the user's own process: every spike is that of the reference.

The networks come to their thresholds exactly, in float64 and not in float32, so that whatever a setting rounds, adds or
delays is seen. `pytest tests/equivalence/test_surroundings.py --backend brian2`
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any

import numpy as np
import pytest
from exact_graphs import exact_graph
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import strop
from strop.conformance.golden import Case, golden_case
from strop.errors import BackendError, StropError
from strop.graph import Graph, weights_of, with_weights
from strop.running.backend import Backend, Runner
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.running.registry import get_backend

FRAMES = 12
# A failure is described by what was drawn; to shrink it, simulating on and on, takes minutes.
QUICK = settings(
    max_examples=12,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)],
)


def expected(graph: Graph, frames: Any) -> dict[str, Any]:
    return evaluate(graph, encode(graph, as_frames(graph, frames)))


def drawn_case(data: st.DataObject, backend: Backend) -> tuple[Graph, dict[str, Any]]:
    """Draw a network that the backend runs exactly, and frames."""
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    encoding = data.draw(st.sampled_from(backend.encodings), "encoding")
    graph, frames = exact_graph(seed, encoding, FRAMES)
    case = Case("drawn", "", "float64", graph, frames, expected(graph, frames))
    assume(not case.missing(backend))
    return graph, frames


def drawn_names(data: st.DataObject, names: Sequence[str]) -> list[str]:
    """Draw some of the names, each of them half of the times, in any order."""
    wanted = data.draw(st.tuples(*[st.booleans()] * len(names)), "which")
    chosen = [name for name, yes in zip(names, wanted, strict=True) if yes]
    return data.draw(st.permutations(chosen), "surroundings")


@cache
def accepted(backend: str) -> list[str]:
    """Return the surroundings in which a backend runs at all; the conformance suite holds it to what it refuses."""
    engine, names = get_backend(backend), []
    graph = golden_case("dense").graph
    for name, around in sorted(engine.surroundings().items()):
        with around():
            try:
                engine.prepare(graph).close()
            except StropError:
                continue
            names.append(name)
    return names


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, spikes in wanted.items():
        np.testing.assert_array_equal(found[name].reshape(spikes.shape), spikes, err_msg=name)


def offers(runner: Runner, method: str) -> bool:
    return getattr(type(runner), method) is not getattr(Runner, method)


def test_a_runner_in_any_surroundings(backend: str) -> None:
    """In a minute at most: a simulator whose kernel is set up anew for each of them gets fewer examples."""
    quick = QUICK if backend in SCRIPTS else settings(QUICK, max_examples=5)

    @quick
    @given(data=st.data())
    def test(data: st.DataObject) -> None:
        run_in_drawn_surroundings(backend, data)

    test()


def run_in_drawn_surroundings(backend: str, data: st.DataObject) -> None:
    """Some of them at once, some options, and then runs, resets and changes of weights in any order.

    Where one kernel serves the whole process, what brings it about would undo what another one did: one at a time.
    """
    engine = get_backend(backend)
    graph, frames = drawn_case(data, engine)
    around, options = engine.surroundings(), engine.variations()
    names = drawn_names(data, accepted(backend))[: None if backend in SCRIPTS else 1]
    chosen = dict(options[data.draw(st.sampled_from(sorted(options)), "option")]) if options else {}
    if data.draw(st.booleans(), "options") is False:
        chosen = {}
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(around[name]())
        runner = engine.prepare(graph, **{**chosen, **engine.weight_options})
        stack.callback(runner.close)
        built = graph
        for deed in data.draw(st.lists(st.sampled_from(["run", "part", "reset", "weights"]), min_size=1, max_size=4)):
            if deed == "reset" and offers(runner, "reset"):
                runner.reset()
            elif deed == "weights" and offers(runner, "set_weights"):
                graph = _other_weights(data, built, runner)
            rows = slice(None) if deed != "part" else slice(*sorted(data.draw(st.tuples(*[st.integers(0, 6)] * 2))))
            rows = rows if rows.start is None or rows.start < rows.stop else slice(3, 4)
            part = {name: values[rows] for name, values in frames.items()}
            assert_equal(runner.run(encode(graph, as_frames(graph, part))), expected(graph, part))


def _other_weights(data: st.DataObject, graph: Graph, runner: Runner) -> Graph:
    """Halve, double and silence synapses at random; return the graph that was built with those weights."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "weights"))
    now = runner.weights()
    weights = {pair: values * rng.choice([0.0, 0.5, 1.0, 2.0], len(values)) for pair, values in now.items()}
    runner.set_weights(weights)
    return with_weights(graph, weights)


# Native objects in a script ---------------------------------------------------------------------------------------


def brian2_script(data: st.DataObject, graph: Graph, frames: Any) -> None:
    """A user's own network, clocks, schedule and objects; frames presented while it runs, and states restored."""
    import brian2 as b2

    from strop_backends.brian2.surroundings import SURROUNDINGS

    names = drawn_names(data, sorted(SURROUNDINGS))
    step = data.draw(st.sampled_from([1e-3, 1e-4, 0.3e-3, 2.0]), "dt")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(SURROUNDINGS[name]())
        network = strop.build(graph, "brian2", target="numpy", dt=step)
        monitor = b2.SpikeMonitor(network.units, codeobj_class=network.code)
        clock = b2.Clock(data.draw(st.sampled_from([0.5, 1.0, 3.0]), "other clock") * step * b2.second)
        mine = b2.NetworkOperation(lambda: None, clock=clock, when=data.draw(st.sampled_from(["start", "end"])))
        user = network if data.draw(st.booleans(), "in strop's own network") else b2.Network(network.objects)
        user.add(monitor, mine)
        begin = data.draw(st.sampled_from([0, 1, 1_000_000]), "steps that have passed")
        user.t_ = begin * step
        for _ in range(data.draw(st.integers(1, 3), "presentations")):
            network.present(frames)
            user.run(data.draw(st.integers(1, 3 * FRAMES), "steps") * step * b2.second, namespace={})
        user.store()
        for _ in range(2):
            user.run(network.duration() + step * b2.second, namespace={})
            step_of = np.rint(np.asarray(monitor.t, np.float64) / step).astype(np.int64)
            for start in network.drive.starts:
                found = {}
                for name, spikes in expected(graph, frames).items():
                    span, first = network.spans[name], start + graph.depth(name)
                    found[name] = np.zeros((FRAMES, span.stop - span.start), dtype=bool)
                    unit = np.asarray(monitor.i)
                    own = (unit >= span.start) & (unit < span.stop) & (step_of >= first) & (step_of < first + FRAMES)
                    found[name][step_of[own] - first, unit[own] - span.start] = True
                    assert spikes.shape[0] == FRAMES
                assert_equal(found, expected(graph, frames))
            user.restore()


def nengo_script(data: st.DataObject, graph: Graph, frames: Any) -> None:
    """Parents with a configuration of any kind, several simulators, resets; frames presented while they run."""
    from strop_backends.nengo import load_nengo

    nengo = load_nengo()
    from strop_backends.nengo.surroundings import CONFIGURED, rc

    names = drawn_names(data, sorted(CONFIGURED))
    depth = data.draw(st.integers(1, 2), "parents")
    with ExitStack() as stack:
        parents = [stack.enter_context(nengo.Network(seed=n)) for n in range(depth)]
        for name in names:
            for kind, values in CONFIGURED[name].items():
                for key, value in values.items():
                    setattr(parents[data.draw(st.integers(0, depth - 1))].config[kind], key, value)
        network = strop.build(graph, "nengo", probes=True, adjustable=data.draw(st.booleans(), "adjustable"))
    step = data.draw(st.sampled_from([1e-3, 1e-4, 0.3e-3, 2.0]), "dt")
    wanted = expected(graph, frames)
    network.present(frames)
    # Another process that builds at the same time would have Nengo warn of its cache's lock.
    with rc("decoder_cache", "enabled", "False"), ExitStack() as stack:
        sims = [
            stack.enter_context(
                nengo.Simulator(parents[0], dt=step, progress_bar=False, optimize=data.draw(st.booleans(), "optimize"))
            )
            for _ in range(data.draw(st.integers(1, 2), "simulators"))
        ]
        if data.draw(st.booleans(), "32 bits"):
            # What makes spikes wrong is refused, whether these frames would show it or not.
            with rc("precision", "bits", "32"), pytest.raises(BackendError, match="float32, which rounds weights"):
                nengo.Simulator(parents[0], dt=step, progress_bar=False)
        for sim in sims:
            sim.run_steps(data.draw(st.integers(1, FRAMES), "steps"), progress_bar=False)
            if data.draw(st.booleans(), "reset"):
                sim.reset()
            sim.run_steps(2 * FRAMES, progress_bar=False)
            for name, probe in network.probed.items():
                found = sim.data[probe][:FRAMES] > 0.5
                np.testing.assert_array_equal(found, wanted[name].reshape(FRAMES, -1), err_msg=name)
                assert sim.data[probe].shape[0] == sim.n_steps
        network.present({name: values[::-1] for name, values in frames.items()})
        sim = stack.enter_context(nengo.Simulator(parents[0], dt=step, progress_bar=False))
        sim.run_steps(FRAMES + 3, progress_bar=False)
        for name, probe in network.probed.items():
            np.testing.assert_array_equal(sim.data[probe][:FRAMES] > 0.5, wanted[name][::-1].reshape(FRAMES, -1))


SCRIPTS = {"brian2": brian2_script, "nengo": nengo_script}


@QUICK
@given(data=st.data())
def test_native_objects_in_any_script(backend: str, data: st.DataObject) -> None:
    if backend not in SCRIPTS:
        pytest.skip(f"no script is drawn here for the native objects of {backend}")
    SCRIPTS[backend](data, *drawn_case(data, get_backend(backend)))


def test_the_networks_that_are_drawn_would_show_float32() -> None:
    """In most of them float32 weights give other spikes, and in all together units fire and stay silent."""
    shown, rates = 0, []
    for seed in range(20):
        graph, frames = exact_graph(seed, "binary", FRAMES)
        wanted = expected(graph, frames)
        rounded = with_weights(
            graph, {pair: values.astype(np.float32).astype(np.float64) for pair, values in weights_of(graph).items()}
        )
        shown += any((spikes != wanted[name]).any() for name, spikes in expected(rounded, frames).items())
        rates += [spikes.mean() for spikes in wanted.values()]
    assert shown >= 10
    assert 0.2 < np.mean(rates) < 0.9
