"""Convolutions that Brian2 keeps as kernels: every spike, and every sum, as with single synapses."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest

b2 = pytest.importorskip("brian2")

from brian2_scripts import assert_answered, assert_restored, compile_nothing, watched  # noqa: E402, F401
from graphs import frames_for, image_network  # noqa: E402
from random_graphs import quarters, random_convolution  # noqa: E402

import strop  # noqa: E402
from strop.conformance.checks import assert_equal, signals_of  # noqa: E402
from strop.conformance.golden import golden_case, golden_names  # noqa: E402
from strop.errors import BackendError, CapacityError  # noqa: E402
from strop.graph import (  # noqa: E402
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Population,
    Projection,
    Select,
    SumPool,
    compose,
)
from strop.running.encode import as_frames, encode  # noqa: E402
from strop.running.oracle import evaluate  # noqa: E402
from strop.running.registry import get_backend  # noqa: E402
from strop_backends.brian2 import Brian2Backend  # noqa: E402
from strop_backends.brian2.kernels import kept  # noqa: E402


def channels_first(shape: tuple[int, ...]) -> Any:
    """For each value of channels-last frames of `shape`, its place in channels-first ones."""
    return np.moveaxis(np.arange(math.prod(shape)).reshape(shape[-1], *shape[:-1]), 0, -1)


def convolutional(seed: int) -> Graph:
    """x -> a -> b -> c and a -> c: convolutions of all kinds, behind and before index maps, with a skip connection."""
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    shape = (*(int(n) for n in rng.integers(3, 6, axes)), int(rng.integers(1, 5)))
    first: Operator = random_convolution(rng, shape)
    out = first.shape_out
    given: tuple[int, ...] = shape
    if rng.random() < 0.5:
        given = (shape[-1], *shape[:-1])
        first = compose(Select(given, channels_first(shape)), first) or first
    if rng.random() < 0.5:
        last = np.moveaxis(np.arange(math.prod(out)).reshape(out), -1, 0)
        cropped = np.where(rng.random(last.shape) < 0.2, -1, last)
        first = compose(first, Select(out, cropped)) or first
        out = cropped.shape
    second = random_convolution(rng, out)
    third = random_convolution(rng, second.shape_out)
    size, mixed = math.prod(out), math.prod(third.shape_out)
    skip = compose(Select(out, np.arange(size)), Dense(quarters(rng, (size, mixed))))
    assert skip is not None
    skip = compose(skip, Select((mixed,), np.arange(mixed).reshape(third.shape_out)))
    return Graph.from_nodes(
        [Input("x", given, "binary")],
        [
            Population(name, operator.shape_out, quarters(rng, operator.shape_out, 2), quarters(rng, (), 1))
            for name, operator in (("a", first), ("b", second), ("c", third))
        ],
        [("x", "a", first), ("a", "b", second), ("b", "c", third), ("a", "c", skip)],
        (),
        ["c"],
    )


def assert_spikes(graph: Graph, frames: Any, **options: Any) -> int:
    wanted = evaluate(graph, encode(graph, as_frames(graph, frames)))
    found = strop.simulate(graph, frames, "brian2", **options).spikes
    for name, spikes in wanted.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)
    return sum(int(spikes.sum()) for spikes in wanted.values())


@pytest.mark.parametrize("target", ["numpy", "cython"])
def test_random_convolutions_give_every_spike_of_the_graph(target: str) -> None:
    """Sums of quarters are exact: a wrong weight, place or tap shows."""
    spikes, transposed, grouped = 0, False, False
    for seed in range(8):
        graph = convolutional(seed)
        frames = (np.random.default_rng(seed).random((6, *graph.inputs[0].shape)) < 0.5).astype(np.float32)
        network = strop.build(graph, "brian2", target="numpy", convolutions="kernel")
        assert set(network.kernels) == {("x", "a"), ("a", "b"), ("b", "c")}
        assert set(network.projections) == {("a", "c")}
        spikes += assert_spikes(graph, frames, target=target, convolutions="kernel")
        operators = [p.operator for p in graph.projections if isinstance(p.operator, Convolution)]
        transposed |= any(op.transposed for op in operators)
        grouped |= any(op.groups > 1 for op in operators)
    assert spikes > 1000
    assert transposed
    assert grouped


def test_a_matrix_for_every_place_is_a_kernel_too() -> None:
    rng = np.random.default_rng(0)
    graph = chain(Dense(quarters(rng, (3, 5)), (4, 6)))
    network = strop.build(graph, "brian2", target="numpy", convolutions="kernel")
    kernels, place = network.kernels["x", "a"]
    assert (kernels.w[:].size, place) == (15, slice(0, 15))
    assert assert_spikes(graph, rng.integers(0, 2, (9, 4, 6, 3)), target="numpy", convolutions="kernel") > 50


def chain(operator: Operator, threshold: float = 0.25) -> Graph:
    return Graph.from_nodes(
        [Input("x", operator.shape_in, "binary")],
        [Population("a", operator.shape_out, threshold, 0.0)],
        [("x", "a", operator)],
        (),
        ["a"],
    )


def plain(rng: np.random.Generator) -> Convolution:
    return Convolution((6, 5, 2), quarters(rng, (3, 3, 2, 4)), (1, 1), (1, 1), ((1, 1), (1, 1)))


def test_what_is_no_plain_convolution_is_expanded_and_named(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    convolution = plain(rng)
    pooled = Composed((convolution, SumPool(convolution.shape_out, (2, 2), (2, 2), ((0, 0), (0, 0)))))
    twice = Composed((convolution, Select(convolution.shape_out, np.zeros((4,), np.int64))))
    for operator in (pooled, twice, Dense(np.eye(3)), SumPool((4, 4, 2), (2, 2), (2, 2), ((0, 0), (0, 0)))):
        assert kept(operator) is None
        graph = chain(operator)
        frames = rng.integers(0, 2, (5, *operator.shape_in))
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="strop.brian2"):
            assert_spikes(graph, frames, target="numpy", convolutions="kernel")
        named = [record for record in caplog.records if "x -> a is expanded" in record.getMessage()]
        assert bool(named) == (operator in (pooled, twice))


def test_two_convolutions_between_the_same_populations_add_up() -> None:
    rng = np.random.default_rng(2)
    first, second = plain(rng), plain(rng)
    shape = first.shape_out
    graph = Graph.from_nodes(
        [Input("x", first.shape_in, "binary")],
        [Population("a", shape, 0.25, 0.0)],
        [("x", "a", first), ("x", "a", second)],
        (),
        ["a"],
    )
    assert assert_spikes(graph, rng.integers(0, 2, (9, *first.shape_in)), target="numpy", convolutions="kernel") > 50


def test_kernels_are_kept_by_themselves_where_synapses_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chain(Convolution((40, 40, 8), np.ones((5, 5, 8, 8)), (1, 1), (1, 1), ((2, 2), (2, 2))))
    assert strop.build(chain(plain(np.random.default_rng(0))), "brian2", target="numpy").kernels == {}
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "1e7")
    assert set(strop.build(graph, "brian2", target="numpy").kernels) == {("x", "a")}
    with pytest.raises(CapacityError, match="Build it with convolutions='kernel'"):
        strop.build(graph, "brian2", target="numpy", convolutions="expanded")
    with pytest.raises(BackendError, match="convolutions must be 'auto', 'kernel' or 'expanded', got 'all'"):
        strop.build(graph, "brian2", target="numpy", convolutions="all")


def test_a_kernel_in_a_script_of_ones_own() -> None:
    """Its weights are read and written as those of any Brian2 object; spikes on their way are stored and restored."""
    graph = image_network(np.random.default_rng(4))
    frames = frames_for(graph, np.random.default_rng(5), 20)
    network = strop.build(graph, "brian2", target="numpy", convolutions="kernel")
    kernels, place = network.kernels["image", "conv"]
    assert isinstance(kernels, b2.Group)
    monitor = watched(network)
    assert_restored(network, monitor, frames, 5)
    network.clear()
    kernels.w[place] = -kernels.w[place]
    start = network.next_step
    network.present(frames)
    network.run(network.duration())
    conv, (p, *rest) = graph.population("conv"), graph.projections
    assert (p.source, p.target) == ("image", "conv")
    flipped = Graph(
        graph.inputs,
        graph.populations,
        (Projection("image", conv.name, p.operator.with_kernel(-p.operator.kernel), p.delay), *rest),
        graph.readouts,
        graph.outputs,
    )
    assert_answered(network, monitor, frames, start, flipped)
    assert ("image", "conv") not in network.weights()


@pytest.mark.parametrize("mistake", ["flipped", "shifted", "one weight"])
def test_verification_catches_a_wrong_kernel(mistake: str) -> None:
    class Wrong(Brian2Backend):
        def prepare(self, graph: Graph, **options: Any) -> Any:
            runner = super().prepare(graph, target="numpy", convolutions="kernel", **options)
            ((kernels, _),) = runner.network.kernels.values()
            weight = kernels.variables["w"].get_value()
            if mistake == "flipped":
                weight[:] = weight[::-1].copy()
            elif mistake == "shifted":
                weight[:] = np.roll(weight, 8)
            else:
                weight[len(weight) // 2] += 2.0
            return runner

    rng = np.random.default_rng(3)
    graph = chain(plain(rng))
    frames = rng.integers(0, 2, (20, 6, 5, 2)).astype(np.float32)
    report = strop.verify(graph, frames, backends=[Wrong()])
    assert not report.passed
    right = strop.verify(graph, frames, backends=["brian2"], options={"brian2": {"convolutions": "kernel"}})
    assert right.passed


def test_the_golden_cases_of_the_conformance_suite_with_kernels() -> None:
    run = 0
    for case in map(golden_case, golden_names()):
        if any(kept(p.operator) for p in case.graph.projections):
            runner: Any = get_backend("brian2").prepare(case.graph, target="numpy", convolutions="kernel")
            assert_equal(case, runner.run(signals_of(case)))
            run += bool(runner.network.kernels)
    assert run >= 10


def test_the_backend_offers_kernels_to_the_conformance_suite() -> None:
    backend = get_backend("brian2")
    assert backend.variations()["kernels"] == {"convolutions": "kernel"}
    assert backend.weight_options == {"convolutions": "expanded"}
