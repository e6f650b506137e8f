"""Weights, thresholds and biases through PyNN's own interface: the graph's numbers, to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pynn_graphs import branched_graph, one_layer, require
from third_party import BRIAN2_IMPORT, PYNN_NEURON_IMPORT

import strop
from strop.errors import BackendError
from strop.graph import Dense, Graph, Input, Population, with_weights
from strop.running.oracle import evaluate
from strop_backends.pynn.network import PyNNNetwork

pytestmark = [BRIAN2_IMPORT, PYNN_NEURON_IMPORT]

# Numbers that a factor of 1000 or 1/1000 would round.
WEIGHTS = np.random.default_rng(8).normal(size=(7, 6))
WEIGHTS[2, 3] = WEIGHTS[4, 0] = 0.0
GRAPH = one_layer(WEIGHTS, np.linspace(0.1, 0.9, 6), np.linspace(-0.3, 0.37, 6))


@pytest.fixture(autouse=True)
def _quietly() -> Iterator[None]:
    from strop_backends.pynn.nest.warning_filter import quiet_nest

    with quiet_nest():
        warnings.filterwarnings("ignore", message="Full reset functionality is not available")
        yield


def assert_spikes_of(graph: Graph, network: PyNNNetwork) -> None:
    """Run the frames from the start, and compare with `graph`."""
    network.reset()
    network.record()
    frames = np.random.default_rng(9).random((30, *graph.inputs[0].shape))
    expected = evaluate(graph, {"x": frames >= 0.5})
    network.sim.run_until(network.present(frames))
    found = network.spikes()
    for population, spikes in expected.items():
        assert 0.02 < spikes.mean() < 0.98, "the comparison says something"
        np.testing.assert_array_equal(found[population], spikes, err_msg=population)


def test_an_array_that_is_read_is_the_graph_s_and_written_back_it_changes_nothing(name: str) -> None:
    network = strop.build(GRAPH, name)
    projection = network.projections["x", "y"]
    for _ in range(3):
        array = projection.get("weight", format="array")
        np.testing.assert_array_equal(np.nan_to_num(array), WEIGHTS)
        assert np.isnan(array[2, 3])
        projection.set(weight=array)
    assert_spikes_of(GRAPH, network)
    # NEST sorts its synapses when it starts.
    np.testing.assert_array_equal(np.nan_to_num(projection.get("weight", format="array")), WEIGHTS)
    projection.set(weight=array)
    assert_spikes_of(GRAPH, network)


def test_a_list_that_is_read_is_in_the_order_in_which_it_is_written(name: str) -> None:
    network = strop.build(GRAPH, name)
    projection = network.projections["x", "y"]
    rows = projection.get(["weight", "delay"], format="list")
    assert [(int(i), int(j), w) for i, j, w, _ in rows] == [
        (i, j, WEIGHTS[i, j]) for i, j in np.argwhere(WEIGHTS != 0).tolist()
    ]
    assert len({delay for *_, delay in rows}) == 1
    alone = projection.get("weight", format="list", with_address=False)
    assert alone == [row[2] for row in rows]
    projection.set(weight=alone)
    np.testing.assert_array_equal(np.nan_to_num(projection.get("weight", format="array")), WEIGHTS)
    assert_spikes_of(GRAPH, network)


def test_each_connection_has_the_graph_s_weight(name: str) -> None:
    network = strop.build(GRAPH, name)
    projection = network.projections["x", "y"]
    weights = sorted(float(np.ravel(c.weight)[0]) for c in projection.connections)
    assert weights == sorted(WEIGHTS[WEIGHTS != 0].tolist())
    changed = next(iter(projection.connections))
    changed.weight = 0.625
    assert 0.625 in projection.get("weight", format="array")


def test_threads_hand_out_synapses_in_any_order_and_weights_go_where_they_belong() -> None:
    require("pynn-nest")
    rng = np.random.default_rng(4)
    graph = one_layer(rng.normal(size=(60, 50)), 0.5)
    network = strop.build(graph, "pynn-nest", threads=4)
    projection = network.projections["x", "y"]
    for _ in range(12):
        array = rng.normal(size=(60, 50))
        projection.set(weight=array)
        np.testing.assert_array_equal(projection.get("weight", format="array"), array)
        network.set_weights({("x", "y"): array[::-1].reshape(-1)})
        np.testing.assert_array_equal(network.weights()["x", "y"], array[::-1].reshape(-1))
        np.testing.assert_array_equal(projection.get("weight", format="array"), array[::-1])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lesion_gives_the_spikes_of_the_graph_without_these_synapses(name: str, threads: int) -> None:
    if threads > 1 and name != "pynn-nest":
        pytest.skip("only NEST has threads")
    graph = branched_graph(3)
    network = strop.build(graph, name, **({"threads": threads} if threads > 1 else {}))
    rng = np.random.default_rng(2)
    for pair in (("x", "a"), ("a", "c")):
        array = network.projections[pair].get("weight", format="array")
        network.projections[pair].set(weight=np.where(rng.random(array.shape) < 0.5, 0.0, array))
    lesioned = with_weights(graph, network.weights())
    assert lesioned != graph
    assert (network.weights()["x", "a"] == 0).sum() > 5
    assert_spikes_of(lesioned, network)


def test_plasticity_step_by_step_gives_the_spikes_of_the_weights_that_are_there(name: str) -> None:
    network = strop.build(GRAPH, name)
    projection = network.projections["x", "y"]
    for step in range(3):
        array = projection.get("weight", format="array")
        projection.set(weight=array + 0.05 * (step + 1))
        assert_spikes_of(with_weights(GRAPH, network.weights()), network)


def test_one_number_for_all_and_what_is_not_finite(name: str) -> None:
    network = strop.build(GRAPH, name)
    projection = network.projections["x", "y"]
    projection.set(weight=0.123)
    assert (projection.get("weight", format="array")[WEIGHTS != 0] == 0.123).all()
    before = network.weights()
    with pytest.raises(BackendError, match=r"weight of x->y must be finite"):
        projection.set(weight=np.full(WEIGHTS.shape, np.inf))
    np.testing.assert_array_equal(network.weights()["x", "y"], before["x", "y"])


def test_several_synapses_of_two_cells_are_told_apart(name: str) -> None:
    graph = Graph.from_nodes(
        [Input("x", (2,), "binary")],
        [Population("y", (2,), 0.5, 0.0)],
        [("x", "y", Dense(np.array([[0.75, -0.5], [0.0, 0.25]]))), ("x", "y", Dense(np.eye(2)))],
        outputs=["y"],
    )
    network = strop.build(graph, name)
    weights = network.weights()["x", "y"]
    np.testing.assert_array_equal(network.weights()["x", "y"], weights)
    changed = weights * np.array([1.0, -2.0, 0.5, -3.0, 0.0])
    network.set_weights({("x", "y"): changed})
    np.testing.assert_array_equal(network.weights()["x", "y"], changed)
    summed = network.projections["x", "y"].get("weight", format="array")
    np.testing.assert_array_equal(np.nan_to_num(summed), [[0.75 - 3.0, 1.0], [0.0, 0.125]])


def test_thresholds_and_biases_are_the_graph_s(name: str) -> None:
    network = strop.build(GRAPH, name)
    units, population = network.populations["y"], GRAPH.population("y")
    np.testing.assert_array_equal(units.get("v_thresh"), population.threshold)
    np.testing.assert_array_equal(units.get("i_offset"), population.bias)
    np.testing.assert_array_equal(units[1:4].get("i_offset"), population.bias[1:4])
    assert units[2].v_thresh == population.threshold[2]
    units.set(v_thresh=population.threshold, i_offset=population.bias)
    assert_spikes_of(GRAPH, network)


def test_changed_thresholds_and_biases_give_the_spikes_of_the_graph_that_has_them(name: str) -> None:
    network = strop.build(GRAPH, name)
    units = network.populations["y"]
    units.set(v_thresh=0.3)
    units[2:4].set(v_thresh=[-0.125, 0.7], i_offset=0.2)
    units[0].i_offset = -0.1
    threshold = np.array([0.3, 0.3, -0.125, 0.7, 0.3, 0.3])
    bias = GRAPH.population("y").bias.copy()
    bias[2:4], bias[0] = 0.2, -0.1
    np.testing.assert_array_equal(units.get("v_thresh"), threshold)
    np.testing.assert_array_equal(units.get("i_offset"), bias)
    changed = replace(GRAPH, populations=(Population("y", (6,), threshold, bias),))
    assert_spikes_of(changed, network)
    with pytest.raises(BackendError, match="must be finite"):
        units.set(v_thresh=float("nan"))


def test_what_was_changed_stays_after_a_reset(name: str) -> None:
    network = strop.build(GRAPH, name)
    units, projection = network.populations["y"], network.projections["x", "y"]
    network.record()
    network.sim.run_until(network.present(np.ones((3, 7))))
    threshold, weights = np.linspace(0.15, 0.8, 6), 1.25 * WEIGHTS
    units.set(v_thresh=threshold)
    projection.set(weight=np.where(WEIGHTS != 0, weights, np.nan))
    changed = replace(one_layer(weights, threshold, GRAPH.population("y").bias), name=GRAPH.name)
    for _ in range(2):
        assert_spikes_of(changed, network)


@pytest.mark.parametrize("simulator", ["pynn-brian2", "pynn-neuron"])
def test_a_bias_where_the_network_has_no_source_for_it_is_refused(simulator: str) -> None:
    require(simulator)
    network = strop.build(one_layer([[1.0, 1.0]], 0.5), simulator)
    units = network.populations["y"]
    with pytest.raises(BackendError, match="neuron 1 of 'y' was built without a bias"):
        units.set(i_offset=[0.0, 0.25])
    assert units.get("i_offset") == 0.0
    units.set(v_thresh=0.75)
    assert units.get("v_thresh") == 0.75


def test_a_bias_that_the_lift_of_a_threshold_cancels_can_be_changed(name: str) -> None:
    # On Brian2 and NEURON, thresholds of 0 or less are lifted, here by as much as the bias takes away.
    graph = one_layer([[1.0], [-0.5]], [-0.25], [-0.5])
    network = strop.build(graph, name)
    network.populations["y"].set(v_thresh=-0.125, i_offset=-1.0)
    assert_spikes_of(one_layer([[1.0], [-0.5]], [-0.125], [-1.0]), network)
