"""Graphs are values: equal iff their content is, in any process; copied and pickled without loss."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from strop.errors import GraphError
from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Operator,
    Population,
    Projection,
    Readout,
    Scale,
    Select,
    Sparse,
    SumPool,
    difference,
    graphs_equal,
    synapses_of,
    weights_of,
    with_weights,
)

WEIGHT = np.arange(6.0).reshape(2, 3) / 4


def network(weight: Any = WEIGHT, name: str = "network", threshold: Any = 0.5) -> Graph:
    return Graph.from_nodes(
        [Input("x", (2,), "binary")],
        [Population("a", (3,), threshold, 0.25)],
        [("x", "a", Dense(weight))],
        [Readout("out", "linear", ("a",), (Dense(np.eye(3)),))],
        ["out"],
        name,
    )


NODES: list[Any] = [
    Input("x", (2,), "bitplane", bits=4, level=0.25, step=0.5, offset=-1.0),
    Population("a", (2, 3), [0.5, 0.25, 1.0], 0.0),
    Projection("a", "b", Dense(WEIGHT), 2),
    Readout("out", "key", ("a",), (Dense(WEIGHT),), [1.0, 0.0, 2.0]),
    Dense(WEIGHT, (4,)),
    Scale((2, 3), [1.0, 2.0, 3.0]),
    Select((4,), np.array([[3, -1], [0, 1]])),
    Sparse((2,), (3,), [0, 1], [2, 0], [0.5, 0.25]),
    Composed((Scale((2,), 2.0), Dense(WEIGHT))),
    Convolution((5, 2), np.arange(12.0).reshape(3, 2, 2), (2,), (1,), ((1, 0),)),
    SumPool((4, 2), (2,), (2,), ((0, 0),)),
    network(),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: type(node).__name__)
def test_nodes_are_equal_to_their_copies_and_pickles(node: Any) -> None:
    again = pickle.loads(pickle.dumps(node))
    assert again is not node
    assert again == node
    assert hash(again) == hash(node)
    assert copy.copy(node) is node
    assert copy.deepcopy([node])[0] is node
    assert len({node, again}) == 1
    for field in fields(node):
        value = getattr(again, field.name)
        assert not isinstance(value, np.ndarray) or not value.flags.writeable


@pytest.mark.parametrize("node", NODES, ids=lambda node: type(node).__name__)
def test_pickles_do_not_carry_what_was_computed_on_the_way(node: Any) -> None:
    assert node.digest
    if isinstance(node, Operator):
        node.to_coo()
        node.apply(np.ones((1, *node.shape_in)))
    if isinstance(node, Graph):
        assert node.host_populations is not None
        assert node.synapses > 0
        assert pickle.loads(pickle.dumps(node)).depths == node.depths
    for name in ("digest", "synapses", "host_populations", "_matrix", "_paths", "is_reshape"):
        assert name not in vars(pickle.loads(pickle.dumps(node)))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Dense(WEIGHT), Dense(WEIGHT + 1e-300)),
        (Dense(np.eye(2)), Dense(np.eye(2), (1,))),
        (Dense(np.zeros((1, 2))), Dense(np.zeros((2, 1)))),
        (Dense([[1.0]]), Scale((1,), 1.0)),
        (Input("x", (2,)), Input("y", (2,))),
        (Input("x", (2,)), Input("x", (2,), level=0.25)),
        (Input("x", (1, 2)), Input("x", (12,))),
        (Projection("a", "b", Dense(WEIGHT)), Projection("a", "b", Dense(WEIGHT), 2)),
        (Population("a", (2,), 0.5, 0.25), Population("a", (2,), 0.25, 0.5)),
        (Composed((Scale((2,), 2.0), Scale((2,), 3.0))), Composed((Scale((2,), 3.0), Scale((2,), 2.0)))),
        (network(), network(name="other")),
        (network(), network(threshold=np.nextafter(0.5, 0))),
    ],
)
def test_any_difference_counts(a: Any, b: Any) -> None:
    assert a != b
    assert a.digest != b.digest


def test_how_an_array_lies_in_memory_does_not_count() -> None:
    assert Dense(np.asfortranarray(WEIGHT)) == Dense(WEIGHT)
    assert Dense(np.arange(12.0).reshape(2, 6)[:, ::2] / 8) == Dense(WEIGHT)
    assert Dense(WEIGHT.astype(">f8")) == Dense(WEIGHT)
    assert Population("a", (2, 3), 0.5, 0.0) == Population("a", (2, 3), np.full((2, 3), 0.5), np.zeros(3))
    assert Dense([[0.0]]) == Dense([[-0.0]])
    assert Input("x", (2,), offset=0, level=1) == Input("x", (2,), offset=0.0, level=1.0)


def test_digest_is_the_same_in_every_process_and_stays_so() -> None:
    """A digest may have been written down: it changes only if what a graph is made of does."""
    assert network().digest == DIGEST
    program = "import sys; sys.path.insert(0, sys.argv[1]); import test_graph_content as t; print(t.network().digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    support = Path(__file__).resolve().parents[2] / "support"
    environment["PYTHONPATH"] = os.pathsep.join([str(support), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == DIGEST


def test_fields_that_are_added_with_a_default_leave_digests_alone() -> None:
    @dataclass(frozen=True, eq=False)
    class Input(globals()["Input"]):  # type: ignore[misc]  # a later version of the class, under its name
        pitch: float | None = None

    assert Input("x", (2,)).digest == NODES[0].__class__("x", (2,)).digest
    assert Input("x", (2,), pitch=1.0).digest != Input("x", (2,)).digest


def test_graphs_read_from_files_are_equal_whatever_the_files_are_called(tmp_path: Path) -> None:
    graph = network()
    for name in ("a.strop", "b.strop"):
        graph.save(tmp_path / name)
    assert Graph.load(tmp_path / "a.strop") == Graph.load(tmp_path / "b.strop") == graph
    assert {graph: "found"}[Graph.load(tmp_path / "b.strop")] == "found"


def test_a_threshold_that_is_kept_once_is_pickled_once() -> None:
    big = Population("a", (1000, 1000), 0.5, np.zeros(1000))
    data = pickle.dumps(big)
    assert len(data) < 20_000
    again = pickle.loads(data)
    assert again == big
    assert again.threshold.shape == (1000, 1000)
    weight = np.broadcast_to(2.0, (300, 400))
    weight.flags.writeable = False
    assert pickle.loads(pickle.dumps(Dense(weight))) == Dense(weight)


def test_an_operator_whose_content_is_not_known_is_not_taken_for_another() -> None:
    class Undeclared(Dense):
        pass

    @dataclass(frozen=True, eq=False)
    class Odd(Dense):
        more: Any = frozenset({1})

    with pytest.raises(GraphError, match="content of a Undeclared is not known: declare it"):
        assert Undeclared(WEIGHT) == Undeclared(WEIGHT)
    with pytest.raises(GraphError, match=r"Odd.more: the content of a set is not known"):
        hash(Odd(WEIGHT, more={2}))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_graphs_differ_exactly_where_they_are_not_equal(seed: int) -> None:
    graph = random_graph(seed)
    assert difference(graph, random_graph(seed)) is None
    assert graph == random_graph(seed) == pickle.loads(pickle.dumps(graph))
    population = graph.populations[0]
    threshold = population.threshold.copy()
    threshold[(0,) * threshold.ndim] += 0.25
    changed = replace(graph, populations=(replace(population, threshold=threshold), *graph.populations[1:]))
    assert not graphs_equal(graph, changed)
    assert difference(graph, changed) == (f"graph.populations[0].threshold: 1 of {threshold.size:,} values differ")


# Weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_listed_by_synapse_and_can_be_replaced() -> None:
    graph = network()
    pre, post, weight = synapses_of(graph, "x", "a")
    # The weight of 0 is no synapse.
    assert (pre.tolist(), post.tolist()) == ([0, 0, 1, 1, 1], [1, 2, 0, 1, 2])
    assert weight.tolist() == [0.25, 0.5, 0.75, 1.0, 1.25]
    changed = with_weights(graph, {("x", "a"): [1, 0, 2, 0, 3]})
    assert changed.projections[0].operator.apply(np.eye(2)).tolist() == [[0, 1, 0], [2, 0, 3]]
    assert with_weights(graph, weights_of(graph)).projections[0].operator.apply(np.eye(2)).tolist() == WEIGHT.tolist()


def test_projections_that_lead_the_same_way_keep_their_own_weights() -> None:
    graph = Graph.from_nodes(
        [Input("x", (2,), "binary")],
        [Population("a", (2,), 0.5, 0.0)],
        [("x", "a", Dense(np.eye(2))), ("x", "a", Dense(np.full((2, 2), 2.0)))],
        outputs=["a"],
    )
    assert synapses_of(graph, "x", "a")[2].tolist() == [1, 1, 2, 2, 2, 2]
    changed = with_weights(graph, {("x", "a"): np.arange(6)})
    assert [p.operator.apply(np.eye(2)).tolist() for p in changed.projections] == [[[0, 0], [0, 1]], [[2, 3], [4, 5]]]


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GraphError, match="x -> a has 5 synapses, and 2 weights were given"):
        with_weights(network(), {("x", "a"): [1.0, 2.0]})
    with pytest.raises(GraphError, match="there is no projection a -> x"):
        with_weights(network(), {("a", "x"): [1.0, 2.0]})
    with pytest.raises(GraphError, match="there is no projection a -> x"):
        synapses_of(network(), "a", "x")


DIGEST = "ce00ede69b3b93a8c4c8a62a4dbb2ffc30ad91c8f4f23ecc52b284e4a3c07d89"
