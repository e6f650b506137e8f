"""Frames that need a second look: none is missed, and the bounds of single neurons are those of their layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from strop.graph import Composed, Convolution, Dense, Graph, Input, Operator, Population, Scale, Select, SumPool
from strop.graph.rounding.pairs import Pairs, error_at, window_of
from strop.graph.rounding.stages import Affine, Constant, Linear, Recoded, Source, Stage, Sum
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate
from strop.verification import near as near_module
from strop.verification.bounds import RoundingBound, graph_stages, undecided
from strop.verification.comparison import Comparison
from strop.verification.near import Near

RNG = np.random.default_rng(3)
FRAMES = 30

VALID, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))


def kernel(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32).astype(np.float64)


OPERATORS: dict[str, Operator] = {
    "dense": Dense(kernel(5, 7)),
    "dense of places": Dense(kernel(4, 3), (3, 2)),
    "convolution": Convolution((7, 6, 4), kernel(3, 3, 4, 5), (1, 1), (1, 1), VALID),
    "padded, strided and dilated": Convolution((7, 6, 4), kernel(3, 2, 4, 5), (2, 1), (1, 2), ((1, 2), (2, 0))),
    "grouped": Convolution((6, 6, 4), kernel(3, 3, 2, 6), (1, 1), (1, 1), SAME, 2),
    "of one axis": Convolution((9, 2), kernel(4, 2, 3), (2,), (1,), ((1, 1),)),
    "of three axes": Convolution((4, 4, 4, 1), kernel(2, 2, 2, 1, 2), (1, 1, 1), (1, 1, 1), ((1, 0),) * 3),
    "pool": SumPool((6, 5, 3), (2, 3), (2, 1), ((0, 1), (1, 1))),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_window_holds_the_terms_of_the_sum(name: str) -> None:
    operator = OPERATORS[name]
    neurons = np.arange(operator.size_out)
    found = window_of(operator, neurons)
    assert found is not None
    places, weight = found
    matrix = np.zeros((operator.size_out, operator.size_in))
    rows = np.broadcast_to(neurons[:, None], places.shape)
    np.add.at(matrix, (rows[places >= 0], places[places >= 0]), weight[places >= 0])
    pre, post, expected = operator.to_coo()
    wanted = np.zeros_like(matrix)
    wanted[post, pre] = expected
    np.testing.assert_array_equal(matrix, wanted)


def stages() -> dict[str, tuple[Stage, tuple[int, ...]]]:
    """Return stages as lowering records them, on a source of shape (7, 6, 4), with the shapes of their results."""
    shape, flat = (7, 6, 4), 7 * 6 * 4
    convolution = OPERATORS["convolution"]
    wide = convolution.shape_out
    source, linear = Source("s"), Linear(Source("s"), convolution)
    padded = np.full((9, 8, 4), -1)
    padded[1:-1, 1:-1] = np.arange(flat).reshape(shape)
    scale, shift = kernel(4), kernel(5)
    behind = Convolution((9, 8, 4), kernel(3, 3, 4, 5), (1, 1), (1, 1), VALID)
    return {
        "a sum": (linear, wide),
        "a sum and a bias": (Sum((linear, Constant(kernel(5)))), wide),
        "two sums and a bias": (Sum((linear, Linear(source, convolution.absolute()), Constant(kernel(*wide)))), wide),
        "normalised": (Affine(linear, kernel(5), shift, np.abs(shift), 6), wide),
        "two levels": (Linear(Recoded(source, scale, shift[:4]), convolution), wide),
        "two blurred levels": (Linear(Recoded(source, scale, shift[:4], np.full(4, 1e-5)), convolution), wide),
        "a map before": (Linear(Linear(source, Select(shape, padded)), behind), (7, 6, 5)),
        "a map in one": (Linear(source, Composed((Select(shape, padded), behind))), (7, 6, 5)),
        "flat": (Linear(source, Composed((Select(shape, np.arange(flat)[::-1]), Dense(kernel(flat, 3))))), (3,)),
    }


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("name", stages())
def test_the_bound_of_a_neuron_is_that_of_its_layer(name: str, spiking: bool) -> None:
    stage, shape = stages()[name]
    values = RNG.random((FRAMES, 7, 6, 4))
    signals = {"s": values < 0.2 if spiking else values}
    to_all = Composed((Select((7, 6, 4), np.arange(168)), Dense(np.ones((168, 1)))))
    nodes = ((Input("s", (7, 6, 4), "current"),), (Population("p", (1,), 0.5, 0.0),))
    graph = Graph.from_nodes(*nodes, [("s", "p", to_all)], outputs=["p"])
    size = int(np.prod(shape))
    pairs = Pairs(RNG.integers(0, FRAMES, 200), RNG.integers(0, size, 200), shape)
    whole = np.broadcast_to(RoundingBound(graph, {"p": stage}).error("p", signals), (FRAMES, *shape))
    expected = whole.reshape(FRAMES, -1)[pairs.rows, pairs.neurons]
    error = error_at(stage, pairs, signals)
    assert error is not None
    assert (error >= expected).all()
    positive = expected > 0
    assert positive.sum() > 50
    assert (error[positive] <= expected[positive] * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    "stage",
    [
        Linear(Source("s"), Composed((Scale((7, 6, 4), 0.3), OPERATORS["convolution"]))),
        Linear(Source("s"), Convolution((7, 6, 4), kernel(2, 2, 4, 5), (2, 2), (1, 1), VALID, transposed=True)),
        Linear(Linear(Source("s"), OPERATORS["convolution"]), OPERATORS["convolution"].absolute()),
    ],
    ids=["a factor before", "transposed", "two sums"],
)
def test_what_is_not_known_is_left_to_whole_layers(stage: Stage) -> None:
    pairs = Pairs(np.array([0]), np.array([0]), (5, 4, 5))
    assert error_at(stage, pairs, {"s": np.ones((1, 7, 6, 4), bool)}) is None


def network(spread: float) -> tuple[Graph, Mapping[str, Any], Mapping[str, Any]]:
    """Return a network, its signals and spikes; some thresholds lie at potentials, up to a distance of `spread`."""
    shape = (8, 8, 2)
    nodes = (Input("x", shape, "binary"),)
    first = Convolution(shape, kernel(3, 3, 2, 4), (1, 1), (1, 1), VALID)
    second = Composed((Select((6, 6, 4), np.arange(144)), Dense(kernel(144, 20))))
    frames = (RNG.random((FRAMES, *shape)) < 0.4).astype(np.float32)
    thresholds: dict[str, Any] = {"a": np.full((6, 6, 4), 0.5), "b": np.full(20, 0.5)}

    def made() -> Graph:
        populations = tuple(Population(name, value.shape, value, 0.125) for name, value in thresholds.items())
        return Graph.from_nodes(nodes, populations, [("x", "a", first), ("a", "b", second)], outputs=["b"])

    for name in thresholds:
        potentials: dict[str, Any] = {}
        graph = made()
        signals = encode(graph, as_frames(graph, frames))
        spikes = evaluate(graph, signals, lambda key, value, kept=potentials: kept.update({key: value}))
        value = potentials[name].reshape(FRAMES, -1)
        chosen = RNG.choice(value.shape[1], value.shape[1] // 3, replace=False)
        rows = RNG.integers(0, FRAMES // 2, len(chosen))
        moved = thresholds[name].reshape(-1).copy()
        moved[chosen] = value[rows, chosen] + spread * RNG.normal(size=len(chosen))
        thresholds[name] = moved.reshape(thresholds[name].shape)
    graph = made()
    spikes = evaluate(graph, signals)
    return graph, signals, spikes


def looked_at(graph: Graph, signals: Any) -> tuple[Near, Any]:
    bound = RoundingBound(graph, graph_stages(graph))
    near = Near(graph, bound, signals, FRAMES)
    return near, evaluate(graph, signals, None, near.glance)


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-4, 1e-3])
def test_every_frame_with_an_undecided_neuron_gets_a_second_look_and_few_others(spread: float) -> None:
    graph, signals, spikes = network(spread)
    near, oracle = looked_at(graph, signals)
    bound = RoundingBound(graph, graph_stages(graph))
    undecided_frames, glanced = np.zeros(FRAMES, bool), np.zeros(FRAMES, bool)

    def look(name: str, potentials: Any) -> None:
        margin = np.abs(potentials - graph.population(name).threshold)
        open_ = undecided(margin, bound.error(name, {**signals, **spikes}))
        undecided_frames[:] |= open_.reshape(FRAMES, -1).any(axis=1)
        ceiling = undecided(margin, bound.ceilings(signals)[name])
        glanced[:] |= ceiling.reshape(FRAMES, -1).any(axis=1)

    evaluate(graph, signals, look)
    found = near.frames(oracle)
    assert found[undecided_frames].all(), "a frame was missed"
    assert not found[~glanced].any()
    assert found.sum() <= undecided_frames.sum() + 1
    assert glanced.sum() > 0
    if spread <= 1e-6:
        assert undecided_frames.sum() > 0


def test_a_comparison_counts_the_same_as_with_a_second_look_at_everything() -> None:
    graph, signals, spikes = network(3e-7)
    near, oracle = looked_at(graph, signals)
    bound = RoundingBound(graph, graph_stages(graph))
    observed = {name: value.copy() for name, value in spikes.items()}
    observed["b"][3, :4] ^= True
    counted = []
    for frames in (near.frames(oracle), np.ones(FRAMES, bool)):
        comparison = Comparison(graph, "keras", bound)
        comparison.compare(observed, oracle, signals, frames)
        counted.append([layer.to_dict() for layer in comparison.layers.values()])
    assert counted[0] == counted[1]
    assert sum(layer["undecided"] for layer in counted[0]) > 0
    assert sum(layer["faults"] for layer in counted[0]) > 0


def test_a_bound_that_is_too_small_would_miss_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, signals, _ = network(1e-7)
    near, oracle = looked_at(graph, signals)
    right = near.frames(oracle)
    monkeypatch.setattr(near_module, "error_at", lambda *args: 1e-3 * error_at(*args))
    assert near.frames(oracle).sum() < right.sum()


def test_where_only_whole_layers_can_tell_every_frame_that_was_glanced_at_is_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, signals, _ = network(1e-3)
    near, oracle = looked_at(graph, signals)
    few = near.frames(oracle).sum()
    monkeypatch.setattr(near_module, "error_at", lambda *args: None)
    assert near.frames(oracle).sum() > few


@pytest.mark.parametrize("most", [0, 1, 40])
def test_of_many_neurons_near_their_thresholds_frames_are_kept_alone(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, signals, _ = network(1e-6)
    near, oracle = looked_at(graph, signals)
    few = near.frames(oracle)
    monkeypatch.setattr(near_module, "_MOST_PAIRS", most)
    near, oracle = looked_at(graph, signals)
    assert all(sum(len(rows) for rows, _, _ in found) <= most for found in near._found.values())
    assert near.frames(oracle)[few].all()
