"""`strop.to_keras`: lowered again, a graph is equal to what it was; Keras's spikes are the graph's, without a tie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

import keras
from exact_graphs import exact_graph
from graphs import image_network, skip_network
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_graphs import graphs, quarters, random_operator
from random_networks import random_frames as network_frames
from random_networks import random_network

import strop
from strop.conformance.golden import golden_case, golden_names
from strop.costs.keras_macs import model_arithmetic
from strop.costs.macs import graph_arithmetic, total
from strop.errors import NotSharpenedError
from strop.export.keras_model import exact_in_float32, write_keras
from strop.graph import (
    Composed,
    Convolution,
    Dense,
    Graph,
    Input,
    Population,
    Readout,
    Select,
    Sparse,
    SumPool,
    difference,
)
from strop.keras import InputEncoding, LinearMap, SpikingThreshold, get_sharpness, set_sharpness
from strop.verification.bounds import RoundingBound

L = keras.layers
# Not shrunk: a seed says all.
few = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
TARGETS = ("spinnaker", "float32", "int8", "loihi")


def equal_in_keras(model: Any, frames: Any) -> None:
    """Every spike and output of Keras is the oracle's, and float32 is no excuse for any."""
    report = strop.verify(model, frames, backends=["reference"])
    assert report.passed
    assert report.keras is not None
    assert (report.keras.ties, report.keras.faults) == (0, 0)
    assert not [words for words in report.reservations() if "rounding" in words]


# The graph comes back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", golden_names())
def test_golden_graphs_come_back(name: str) -> None:
    graph = golden_case(name).graph
    assert difference(strop.lower(strop.to_keras(graph)), graph) is None


@settings(few, max_examples=6)
@given(graph=graphs, target=st.sampled_from((None, *TARGETS)))
def test_random_graphs_come_back(graph: Graph, target: str | None) -> None:
    if target is not None and graph.inputs[0].encoding != "current":
        graph = strop.quantize(graph, target)
    assert difference(strop.lower(strop.to_keras(graph)), graph) is None


def test_a_graph_that_no_lowering_gives_comes_back() -> None:
    """Nodes out of order, dead ends, an input that nothing reads, names, and operators that are not simplified."""
    rng = np.random.default_rng(0)
    flat = Select((2, 3), np.arange(6))
    odd = Composed((flat, Select((6,), np.arange(6)), Composed((Dense(rng.normal(size=(6, 4))),))))
    populations = [
        Population("b/é", (4,), rng.normal(size=4), 0.0),
        Population("a", (4,), 0.5, rng.normal()),
        Population("b_é", (4,), 0.5, 0.0),
        Population("end", (4,), 0.25, 0.0),
        Population("dead", (2,), 0.5, 1.0),
    ]
    plain = Dense(np.eye(4))
    connections = [
        ("a", "end", plain),
        ("x/1", "a", odd),
        ("b/é", "end", Dense(rng.normal(size=(4, 4)))),
        ("x/1", "b/é", odd),
        ("x/1", "b_é", odd),
        ("b_é", "end", plain),
        ("a", "dead", Dense(rng.normal(size=(4, 2)))),
        ("a", "end", Sparse((4,), (4,), [3, 0], [1, 1], [0.5, -0.25])),
    ]
    dense = Dense(rng.normal(size=(4, 3)))
    unread = Readout("unread", "softmax", ("a",), (dense,))
    shown = Readout("shown", "linear", ("end", "a"), (dense, dense), rng.normal(size=3), dense_after(), True)
    graph = Graph.from_nodes(
        [Input("x/1", (2, 3), "binary", level=0.25), Input("unused", (2,), dtype="uint8", scaled_by="Rescaling")],
        populations,
        connections,
        [unread, shown],
        ["shown", "end", "shown", "a"],
        "a network/with blanks",
    )
    model = strop.to_keras(graph)
    assert difference(strop.lower(model), graph) is None
    frames = {"x/1": rng.random((9, 2, 3)).astype(np.float32), "unused": np.zeros((9, 2), np.uint8)}
    equal_in_keras(model, frames)


def dense_after() -> Dense:
    return Dense(np.arange(12.0).reshape(3, 4))


def test_layers_of_keras_are_taken_where_they_say_it() -> None:
    rng = np.random.default_rng(1)
    image = (6, 6, 2)
    ones, none = (1, 1), ((0, 0), (0, 0))
    same = Convolution(image, rng.normal(size=(3, 3, 2, 4)), ones, ones, ((1, 1), (1, 1)))
    deep = Convolution(same.shape_out, rng.normal(size=(2, 2, 1, 4)), (2, 2), ones, none, 4)
    turn = Select(deep.shape_out, np.arange(36).reshape(3, 3, 4).transpose(2, 0, 1))
    flat = Select(deep.shape_out, np.arange(36))
    back = Convolution(deep.shape_out, rng.normal(size=(3, 3, 4, 2)), (2, 2), ones, none, 1, True, (0, 0))
    uneven = Convolution(image, rng.normal(size=(3, 3, 2, 4)), ones, ones, ((2, 0), (1, 1)))
    found = {
        "same": same,
        "deep": deep,
        "turned": turn,
        "dense": Composed((flat, Dense(rng.normal(size=(36, 3))))),
        "back": back,
        "uneven": uneven,
        "pool": SumPool(image, (2, 2), (2, 2), none),
    }
    sources = {
        "same": "x",
        "deep": "same",
        "turned": "deep",
        "dense": "deep",
        "back": "deep",
        "uneven": "x",
        "pool": "x",
    }
    graph = Graph.from_nodes(
        [Input("x", image, "binary")],
        [Population(name, operator.shape_out, 0.5, 0.0) for name, operator in found.items()],
        [(sources[name], name, operator) for name, operator in found.items()],
        (),
        ["dense", "turned", "back", "uneven", "pool"],
    )
    model = strop.to_keras(graph)
    kinds = {layer.name: type(layer) for layer in model.layers if layer.name not in ("x", *found)}
    assert kinds == {
        "x_frames": InputEncoding,
        "same_conv2d": L.Conv2D,
        "deep_depthwiseconv2d": L.DepthwiseConv2D,
        "turned_permute": L.Permute,
        "dense_flatten": L.Flatten,
        "dense_dense": L.Dense,
        "back_conv2dtranspose": L.Conv2DTranspose,
        "uneven_map": LinearMap,
        "pool_map": LinearMap,
    }
    equal_in_keras(model, rng.random((5, *image)).astype(np.float32))


def test_the_decision_in_spikes_is_that_of_the_network() -> None:
    x = keras.Input((5,), name="x")
    hidden = strop.keras.SpikingBReLU(sharpness=1.0, name="hidden")(L.Dense(6)(x))
    model = keras.Model(x, L.Dense(3, activation="softmax", name="out")(hidden), name="net")
    again = strop.to_keras(strop.lower(model))
    assert strop.lower(again, decision="spikes") == strop.lower(model, decision="spikes")
    # Without a recorded encoding, another one can still be chosen.
    assert strop.lower(again, "bitplane").inputs == strop.lower(model, "bitplane").inputs


# Spikes -------------------------------------------------------------------------------------------------------------


@settings(few, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_linear_maps_are_those_of_the_graph(seed: int) -> None:
    rng = np.random.default_rng(seed)
    operator = random_operator(rng, tuple(int(n) for n in rng.integers(1, 6, int(rng.integers(1, 5)))))
    x = quarters(rng, (3, *operator.shape_in))
    for dtype in ("float32", "float64"):
        layer = LinearMap(operator, dtype=dtype)
        np.testing.assert_array_equal(np.asarray(layer(x)), operator.apply(x))
        assert layer.operator == operator


def test_lists_of_many_synapses_are_added_up_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strop.keras.linear_map._LARGEST_MATRIX", 0)
    operator = Sparse((2, 3), (4,), [0, 5, 2, 3], [1, 1, 0, 3], [0.5, 2.0, -1.0, 0.25])
    x = np.random.default_rng(0).integers(-3, 4, (5, 2, 3)).astype(float)
    np.testing.assert_array_equal(np.asarray(LinearMap(operator, dtype="float64")(x)), operator.apply(x))


@settings(few, max_examples=2)
@given(seed=st.integers(0, 2**32 - 1))
def test_thresholds_that_are_met_exactly_are_no_ties(seed: int) -> None:
    graph, frames = exact_graph(seed, None, 6)
    equal_in_keras(strop.to_keras(graph), frames)


@settings(few, max_examples=2)
@given(seed=st.integers(0, 2**32 - 1), target=st.sampled_from(TARGETS))
def test_quantised_networks_have_no_tie(seed: int, target: str) -> None:
    encoding = ("host", "bitplane", "binary")[seed % 3]
    network = random_network(seed)
    frames = network_frames(network, np.random.default_rng(seed), 6, encoding=encoding)
    graph = strop.quantize(network, target, encoding=encoding)
    model = strop.to_keras(graph)
    assert strop.lower(model) == graph
    equal_in_keras(model, frames)


def test_what_float32_cannot_add_up_is_added_in_float64() -> None:
    large = 2.0**24
    graph = Graph.from_nodes(
        [Input("x", (3,), "binary")],
        [Population("wide", (1,), large + 1.0, 0.0), Population("small", (1,), 7.5, 0.0)],
        [("x", "wide", Dense([[large], [1.0], [-1.0]])), ("x", "small", Dense([[8.0], [1.0], [-1.0]]))],
        (),
        ["wide", "small"],
    )
    assert exact_in_float32(graph) == {"small"}
    model = strop.to_keras(graph)
    assert model.get_layer("wide").dtype == "float64"
    assert model.get_layer("small").dtype == "float32"
    frames = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0]], np.float32)
    wide, small = model.predict_on_batch(frames)
    assert wide[:, 0].tolist() == [1, 0, 0, 0]
    assert small[:, 0].tolist() == [1, 1, 1, 0]
    equal_in_keras(model, frames)


@pytest.mark.parametrize("bits", [1, 12, 24])
def test_bit_planes_are_made_in_the_model(bits: int) -> None:
    node = Input("x", (2, 3), "bitplane", bits, step=0.125, offset=-1.0)
    layer = InputEncoding({"name": "x", "encoding": "bitplane", "bits": bits, "step": 0.125, "offset": -1.0})
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, (4, 2, 3))
    frames = node.plane_values(numbers).astype(np.float32)
    found = np.asarray(layer(frames)).reshape(4, 2, 3, bits)
    shown = np.rint((frames.astype(np.float64) + 1.0) / 0.125).astype(np.int64)
    np.testing.assert_array_equal((found * 2.0 ** np.arange(bits)).sum(axis=-1), shown)


def test_a_layer_that_computes_in_float64_is_judged_in_float64() -> None:
    """A difference that only float32 would excuse is a fault there; where float32 takes part, it is a tie."""
    graph = Graph.from_nodes(
        [Input("x", (1,), "binary")],
        [Population("a", (1,), 1.0, 0.0)],
        [("x", "a", Dense([[1.0 - 2.0**-30]]))],
        (),
        ["a"],
    )
    lowering = strop.lowering.trace(strop.to_keras(graph))
    assert RoundingBound(graph, lowering.computed).error("a", {"x": np.ones((1, 1), bool)}) == 0.0
    x = keras.Input((1,), name="x")
    dense, spike = L.Dense(1, use_bias=False), SpikingThreshold((1,), (1,), 1.0, dtype="float64", name="a")
    mixed = keras.Model(x, spike(dense(x)))
    whole = keras.Model(x, L.Dense(1, use_bias=False, activation=spike)(x))
    for model in (mixed, whole):
        model.set_weights([np.array([[0.1]]), *model.get_weights()[1:]])
        lowering = strop.lowering.trace(model)
        name = lowering.graph.population_names[0]
        error = RoundingBound(lowering.graph, lowering.computed).error(name, {"x": np.full((1, 1), 0.3)})
        assert error > 1e-9


# Models of Keras ----------------------------------------------------------------------------------------------------


def test_files_load_with_strop_and_with_keras_alone(tmp_path: Path) -> None:
    names = ("bitplane_of_five_bits", "composed_average_convolution", "sparse")
    for name in names:
        graph = golden_case(name).graph
        path = write_keras(graph, tmp_path / f"{name}.keras")
        assert strop.lower(path) == graph
        assert strop.lower(keras.saving.load_model(path, safe_mode=True)) == graph
    assert len(list(tmp_path.iterdir())) == len(names)


def test_the_model_can_be_trained_further() -> None:
    rng = np.random.default_rng(5)
    graph = Graph.from_nodes(
        [Input("x", (8,), "binary")],
        [Population("a", (16,), 0.5, 0.0), Population("b", (12,), 0.5, 0.0)],
        [("x", "a", Dense(rng.normal(size=(8, 16)))), ("a", "b", Dense(rng.normal(size=(16, 12)) / 2))],
        [Readout("out", "softmax", ("b",), (Dense(rng.normal(size=(12, 2)) / 4),))],
        ["out"],
    )
    model = strop.to_keras(strop.quantize(graph, "int8"))
    assert get_sharpness(model) == {"a": 1.0, "b": 1.0}
    x = rng.integers(0, 2, (256, 8)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 1).astype(int)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    kernel = np.asarray(model.get_layer("a_dense").kernel)
    losses = model.fit(x, y, batch_size=64, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert (np.asarray(model.get_layer("a_dense").kernel) != kernel).any()
    trained = strop.lower(model)
    assert trained.population_names == graph.population_names
    assert trained != graph
    assert strop.lower(strop.to_keras(trained)) == trained
    set_sharpness(model, {"a": 0.5})
    with pytest.raises(NotSharpenedError, match="'a'"):
        strop.lower(model)


def test_layers_can_be_added() -> None:
    """What the model records of its order no longer holds then, and does no harm."""
    graph = skip_network(np.random.default_rng(6))
    model = strop.to_keras(graph)
    x = model.get_layer("d").output
    longer = keras.Model(model.input, strop.keras.SpikingBReLU(sharpness=1.0, name="more")(L.Dense(4)(x)))
    found = strop.lower(longer)
    assert set(found.population_names) == {*graph.population_names, "more"}
    assert found.inputs == graph.inputs


def test_sharpening_passes_through_a_ramp_around_each_threshold() -> None:
    layer = SpikingThreshold((2,), (2,), 0.0)
    layer.threshold.assign([1.0, -2.0])
    layer.bias.assign([0.0, 1.0])
    x = np.array([[0.5, -3.5], [1.0, -3.0], [1.5, -2.5]], np.float32)
    np.testing.assert_allclose(np.asarray(layer(x)), [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
    layer.sharpness = 1.0
    np.testing.assert_array_equal(np.asarray(layer(x)), [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])


def test_the_layers_cost_what_the_graph_costs() -> None:
    for graph in (skip_network(np.random.default_rng(9)), image_network(np.random.default_rng(9), "bitplane")):
        graph = replace(graph, readouts=(), outputs=graph.population_names[-1:])
        layers, nodes = total(model_arithmetic(strop.to_keras(graph))), total(graph_arithmetic(graph))
        assert (layers.macs, layers.additions) == (nodes.macs, nodes.additions)
