"""Transforms that follow spikes give what all weights give, whoever fires; and pruned models lose nothing."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_frames, random_graph

import strop
from strop.graph import Convolution, Dense, Graph, Input, Operator, Population, SumPool
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop_backends.nengo import load_nengo

try:
    nengo = load_nengo()
except ImportError:
    pytest.skip("nengo is not installed", allow_module_level=True)

from strop_backends.nengo import event_driven
from strop_backends.nengo.network import SpikingNetwork
from strop_backends.nengo.pruning import prune
from strop_backends.nengo.run import NengoRunner
from strop_backends.nengo.transforms import transform_of


@pytest.fixture(autouse=True)
def event_driven_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_driven, "_SMALL", 0)


def draws(seed: int) -> Operator:
    """Return an operator of whole-number weights, whose sums are exact in any order."""
    rng = np.random.default_rng(seed)

    def whole(*shape: int) -> Any:
        return rng.integers(-4, 5, shape).astype(float)

    groups = int(rng.integers(1, 3))
    axes = int(rng.integers(1, 3))
    spatial = tuple(int(n) for n in rng.integers(4, 9, axes))
    strides = tuple(int(n) for n in rng.integers(1, 3, axes))
    valid = ((0, 0),) * axes
    kernel = whole(*(3,) * axes, 2, 3 * groups)
    kinds: list[Operator] = [
        Dense(whole(int(rng.integers(1, 40)), int(rng.integers(1, 9)))),
        Dense(whole(3, 4), (5,)),
        Convolution((*spatial, 2 * groups), kernel, strides, (1,) * axes, valid, groups),
        Convolution((*spatial, 2 * groups), kernel, (1,) * axes, (1,) * axes, ((1, 1),) * axes, groups),
        Convolution((*spatial, 2 * groups), kernel, strides, (1,) * axes, ((2, 0),) * axes, groups),
        Convolution((*spatial, 2 * groups), kernel, strides, (2,) * axes, ((2, 2),) * axes, groups),
        Convolution((*spatial, 2 * groups), kernel, strides, (1,) * axes, valid, groups, transposed=True),
        SumPool((*spatial, 3), (2,) * axes, strides, ((0, 1),) * axes),
    ]
    return kinds[int(rng.integers(len(kinds)))]


def product_of(operator: Operator) -> Any:
    transform = transform_of(operator, "here")
    weights = transform.sample()
    return transform.product(weights.allocate() if isinstance(transform, nengo.Sparse) else weights)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.2, 0.6, 1.0]), st.sampled_from([1.0, 2.0]))
def test_what_is_added_up_is_the_sum_of_all_weights_whoever_fires(seed: int, share: float, height: float) -> None:
    operator, rng = draws(seed), np.random.default_rng(seed)
    product = product_of(operator)
    # The same function, step after step: nothing of a step may stay in its memory.
    for fired in (rng.random(operator.size_in) < share, rng.random(operator.size_in) < 0.1, np.zeros(operator.size_in)):
        x = height * np.asarray(fired, np.float64)
        wanted = operator.apply(x.reshape(1, *operator.shape_in)).reshape(-1)
        np.testing.assert_array_equal(product(x.copy()), wanted)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.2, 1.0])
def test_a_large_convolution_is_taken_in_blocks_of_lines(share: float) -> None:
    rng = np.random.default_rng(1)
    kernel = rng.integers(-4, 5, (5, 5, 8, 6)).astype(float)
    operator = Convolution((60, 50, 8), kernel, (1, 1), (1, 1), ((2, 2), (2, 2)))
    x = (rng.random(operator.size_in) < share).astype(float)
    wanted = operator.apply(x.reshape(1, *operator.shape_in)).reshape(-1)
    np.testing.assert_array_equal(product_of(operator)(x), wanted)


def test_large_matrices_are_multiplied_in_pieces() -> None:
    rng = np.random.default_rng(2)
    operator = Dense(rng.integers(-4, 5, (900, 700)).astype(float))
    product = product_of(operator)
    for share in (0.0, 0.1, 0.9):
        x = (rng.random(900) < share).astype(float)
        np.testing.assert_array_equal(product(x), x @ operator.weight)


# Pruned models -----------------------------------------------------------------------------------------------------


def signals_of(seed: int) -> tuple[Graph, Any]:
    graph = random_graph(seed)
    return graph, encode(graph, as_frames(graph, random_frames(graph, 12, seed)))


@pytest.mark.parametrize("seed", range(8))
def test_a_pruned_model_gives_every_spike_of_the_whole_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, signals = signals_of(seed)
    with closing(NengoRunner(graph)) as pruned:
        steps, ours = len(pruned.simulator._steps), pruned.run(signals)
    monkeypatch.setattr("strop_backends.nengo.run.prune", lambda model, network: 0)
    with closing(NengoRunner(graph)) as whole:
        assert steps < len(whole.simulator._steps)
        theirs = whole.run(signals)
    wanted = evaluate(graph, signals)
    for name in graph.population_names:
        np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_array_equal(ours[name], wanted[name])


def small_network() -> SpikingNetwork:
    graph = Graph.from_nodes(
        (Input("x", (2,), "binary"),), (Population("p", (2,), 0.5, 0.0),), [("x", "p", Dense(np.eye(2)))], outputs=["p"]
    )
    with nengo.Network(add_to_container=False):
        network = SpikingNetwork(graph)
    network.present(np.array([[1, 0], [0, 1]], np.float32))
    return network


def current_of(network: SpikingNetwork, *, pruned: bool) -> list[list[float]]:
    model = nengo.builder.Model(dt=1e-3)
    model.build(network)
    if pruned:
        assert prune(model, network) > 0
    currents = []
    with nengo.Simulator(None, seed=1, model=model, progress_bar=False, optimize=False) as sim:
        for _ in range(2):
            sim.step()
            currents.append(sim.signals[sim.model.sig[network.populations["p"].neurons]["in"]].tolist())
    return currents


@pytest.mark.parametrize("pruned", [False, True])
def test_what_is_not_idle_stays(pruned: bool) -> None:
    network = small_network()
    with network:
        # Into the ensemble: its encoders multiply. Into its neurons, with weights.
        nengo.Connection(nengo.Node([0.25]), network.populations["p"], synapse=None)
        nengo.Connection(nengo.Node([8.0]), network.populations["p"].neurons[:1], synapse=None)
    assert current_of(network, pruned=pruned) == [[9.25, 0.25], [8.25, 1.25]]


def test_neurons_whose_gains_are_not_one_keep_them() -> None:
    network = small_network()
    network.populations["p"].gain = np.array([2.0, 3.0])
    assert current_of(network, pruned=True) == current_of(network, pruned=False) == [[2.0, 0.0], [0.0, 3.0]]


def test_a_stimulus_that_neurons_repeat_is_still_their_output() -> None:
    graph = strop.Graph.from_nodes(
        (Input("x", (2,)),),
        (Population("host", (2,), 0.5, 0.0), Population("p", (1,), 1.5, 0.0)),
        [("x", "host", Dense(np.eye(2))), ("host", "p", Dense(np.ones((2, 1))))],
        outputs=["p"],
    )
    frames = np.array([[1, 0], [1, 1], [0, 0], [1, 1]], np.float32)
    with closing(NengoRunner(graph)) as runner:
        spikes = runner.run(encode(graph, as_frames(graph, frames)))
        kinds = [type(op).__name__ for op in runner.simulator.model.operators]
    assert spikes["host"].tolist() == [[True, False], [True, True], [False, False], [True, True]]
    assert spikes["p"].ravel().tolist() == [False, True, False, True]
    assert kinds.count("SimNeurons") == 1, "the host's population is simulated"
