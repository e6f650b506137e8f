"""The graph: depths and delays, and every way in which one can be malformed."""

from __future__ import annotations

import numpy as np
import pytest

from strop.errors import GraphError
from strop.graph import Dense, Graph, Input, Population, Projection, Readout, Select

EYE = Dense(np.eye(2))


def units(name: str, **changes: object) -> Population:
    return Population(**{"name": name, "shape": (2,), "threshold": 0.5, "bias": 0.0, **changes})


def skip_graph() -> Graph:
    """x -> a -> b -> c, and a -> c: the skip waits one step longer."""
    return Graph.from_nodes(
        [Input("x", (2,))],
        [units("a"), units("b"), units("c")],
        [("x", "a", EYE), ("a", "b", EYE), ("b", "c", EYE), ("a", "c", EYE)],
        [Readout("out", "linear", ("c",), (EYE,), [0.0, 1.0])],
        ["out"],
    )


def test_delays_are_differences_of_depths() -> None:
    graph = skip_graph()
    assert [graph.depth(name) for name in ("x", "a", "b", "c")] == [0, 1, 2, 3]
    assert {(p.source, p.target): p.delay for p in graph.projections}["a", "c"] == 2
    assert (graph.total_depth, graph.neurons, graph.synapses) == (3, 6, 8)


def test_only_populations_that_inputs_alone_feed_are_evaluated_by_the_host() -> None:
    assert skip_graph().host_populations == {"a"}


@pytest.mark.parametrize(
    ("connections", "host"),
    [
        ([("x", "a"), ("a", "b"), ("b", "c"), ("x", "c")], {"a", "b", "c"}),
        ([("x", "a"), ("a", "b"), ("x", "b"), ("b", "c")], {"a", "b"}),
        ([("x", "a"), ("x", "b"), ("b", "c"), ("a", "c")], {"a", "b"}),
        ([("x", "a"), ("x", "b"), ("x", "c"), ("a", "c")], {"a", "b", "c"}),
        ([("x", "a"), ("a", "b"), ("x", "c"), ("a", "c")], {"a", "c"}),
        ([("x", "a"), ("y", "b"), ("a", "b"), ("b", "c")], {"a"}),
        ([("y", "a"), ("a", "b"), ("x", "b"), ("b", "c")], {"a", "b"}),
    ],
)
def test_where_an_input_meets_spikes_the_host_evaluates_all_that_leads_there(
    connections: list[tuple[str, str]], host: set[str]
) -> None:
    """Whatever feeds a population on the host is on the host too; `y` is an input that spikes."""
    inputs = [Input("x", (2,)), Input("y", (2,), "binary")]
    used = {source for source, _ in connections}
    graph = Graph.from_nodes(
        [node for node in inputs if node.name in used],
        [units("a"), units("b"), units("c")],
        [(source, target, EYE) for source, target in connections],
        outputs=["c"],
    )
    assert graph.host_populations == host
    for name in host:
        assert {p.source for p in graph.incoming(name)} <= host | {"x", "y"}


def test_thresholds_and_biases_broadcast_and_are_read_only() -> None:
    population = units("a", shape=(2, 3), bias=[1.0, 2.0, 3.0])
    assert population.bias.shape == (2, 3)
    assert population.bias[1].tolist() == [1.0, 2.0, 3.0]
    assert not population.bias.flags.writeable
    assert not population.threshold.flags.writeable


X = Input("x", (2,))
GOOD = {
    "inputs": (X,),
    "populations": (units("a"), units("b")),
    "projections": (Projection("x", "a", EYE), Projection("a", "b", EYE)),
    "outputs": ("b",),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ()}, "at least one input"),
        ({"populations": (units("a"), units("a"))}, "unique.*a"),
        ({"populations": (units("b"), units("a"))}, "topological order"),
        ({"projections": (Projection("x", "a", EYE),)}, "'b' has no incoming"),
        ({"projections": (Projection("z", "a", EYE), Projection("a", "b", EYE))}, "no node 'z'"),
        (
            {"projections": (*(Projection("x", n, EYE) for n in "ab"), Projection("a", "c", EYE))},
            "no population 'c'",
        ),
        ({"projections": (Projection("x", "a", Dense(np.ones((3, 2)))), Projection("a", "b", EYE))}, "takes"),
        (
            {"projections": (Projection("x", "a", Dense(np.ones((2, 3)))), Projection("a", "b", EYE))},
            "target",
        ),
        ({"projections": (Projection("x", "a", EYE), Projection("a", "b", EYE, 2))}, "delay must be 1"),
        ({"outputs": ()}, "outputs"),
        ({"outputs": ("nope",)}, "nope"),
        ({"readouts": (Readout("r", "linear", ("x",), (EYE,)),), "outputs": ("r",)}, "no population"),
        (
            {"readouts": (Readout("r", "linear", ("b",), (Dense(np.ones((3, 1))),)),), "outputs": ("r",)},
            "fit",
        ),
    ],
)
def test_malformed_graphs_are_refused(change: dict[str, object], message: str) -> None:
    assert Graph(**GOOD).total_depth == 2
    with pytest.raises(GraphError, match=message):
        Graph(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: units("a b"), "name without blanks"),
        (lambda: units("a", bias=np.ones(3)), "does not fit"),
        (lambda: units("a", threshold=np.inf), "not finite"),
        (lambda: units("a", shape=(0,)), "positive"),
        (lambda: Projection("a", "b", EYE, 0), "delay"),
        (lambda: Input("x", (2,), "rate"), "encoding"),
        (lambda: Input("x", (2,), bits=0), "bits"),
        (lambda: Readout("r", "argmin", ("a",), (EYE,)), "kind"),
        (lambda: Readout("r", "linear", ("a", "b"), (EYE,)), "one operator"),
        (lambda: Readout("r", "softmax", ("a",), (EYE,), after=Dense(np.ones((3, 1)))), "what comes after"),
        (
            lambda: Readout("r", "softmax", ("a",), (EYE,), after=Select((2,), np.array(1)), argmax=True),
            "no largest among several",
        ),
        (lambda: Readout("r", "linear", ("a", "b"), (EYE, Dense(np.ones((2, 3))))), "differ"),
        (lambda: skip_graph().population("nope"), "there are: a, b, c"),
    ],
)
def test_malformed_nodes_are_refused(make: object, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()  # type: ignore[operator]
