"""What is broken on purpose in a Keras model made of a graph, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

import keras
from graphs import image_network, skip_network
from random_graphs import random_frames, random_graph

import strop
from strop.errors import DataError, GraphError, StropError, UnsupportedLayerError
from strop.export import keras_model
from strop.graph import (
    Dense,
    Graph,
    Input,
    Population,
    difference,
)
from strop.keras import InputEncoding, LinearMap, SpikingThreshold


def test_a_threshold_moved_by_the_least_step_is_found() -> None:
    graph = skip_network(np.random.default_rng(2))
    model = strop.to_keras(graph)
    layer = model.get_layer("c")
    values = np.asarray(layer.threshold)
    values[0] = np.nextafter(values[0], np.inf)
    layer.threshold.assign(values)
    words = difference(strop.lower(model), graph)
    assert words is not None
    assert "threshold" in words


def test_two_inputs_swapped_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = (Dense(np.eye(3)), Dense(2.0 * np.eye(3)))
    graph = Graph.from_nodes(
        [Input("x", (3,), "binary"), Input("y", (3,), "binary")],
        [Population("sum", (3,), 0.5, 0.0)],
        [("x", "sum", weights[0]), ("y", "sum", weights[1])],
        (),
        ["sum"],
    )
    strop.to_keras(graph)
    summed = keras_model._Builder._summed

    def swapped(self: Any, target: str, incoming: Any, dtype: str) -> Any:
        self.tensors["x"], self.tensors["y"] = self.tensors["y"], self.tensors["x"]
        return summed(self, target, incoming, dtype)

    monkeypatch.setattr(keras_model._Builder, "_summed", swapped)
    with pytest.raises(StropError, match="does not give this graph again"):
        strop.to_keras(graph)


def test_spikes_of_a_layer_that_computes_otherwise_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = image_network(np.random.default_rng(3))
    frames = np.random.default_rng(4).integers(0, 256, (6, 7, 6, 2)).astype(np.uint8)
    applied = LinearMap.call
    monkeypatch.setattr(LinearMap, "call", lambda self, inputs: keras.ops.flip(applied(self, inputs), axis=1))
    report = strop.verify(strop.to_keras(graph), frames, backends=[])
    assert not report.passed


def test_the_recorded_encoding_is_the_models_own() -> None:
    model = strop.to_keras(skip_network(np.random.default_rng(7), "bitplane"))
    with pytest.raises(GraphError, match="records how input 'x' is encoded"):
        strop.lower(model, "binary")
    with pytest.raises(GraphError, match="records how input 'x' is encoded"):
        strop.lower(model, "bitplane", bits=4)
    assert strop.lower(model, "bitplane") == strop.lower(model)


def test_an_encoding_stands_behind_an_input_and_reads_it_alone() -> None:
    spike = strop.keras.SpikingBReLU(sharpness=1.0)
    encoding = {"name": "x", "encoding": "binary"}
    x = keras.Input((4,), name="x")
    with pytest.raises(UnsupportedLayerError, match="read by 2 layers"):
        strop.lower(keras.Model(x, spike(keras.layers.Dense(4)(x) + InputEncoding(encoding)(x))))
    with pytest.raises(UnsupportedLayerError, match="directly behind an input"):
        strop.lower(keras.Model(x, spike(InputEncoding(encoding)(keras.layers.Dense(4)(x)))))


def test_damaged_descriptions_are_refused() -> None:
    with pytest.raises(DataError, match="no description"):
        LinearMap({"type": "Dense"})
    with pytest.raises(DataError, match="describes no input"):
        InputEncoding({"name": "x", "encoding": "morse"})
    with pytest.raises(DataError, match="means nothing"):
        SpikingThreshold(record={"place": "first"})


def test_an_operator_of_others_is_refused() -> None:
    class Mine(Dense):
        pass

    graph = skip_network(np.random.default_rng(8))
    own = replace(graph.projections[0], operator=Mine(graph.projections[0].operator.weight))
    with pytest.raises(DataError, match="cannot hold the operator Mine"):
        strop.to_keras(replace(graph, projections=(own, *graph.projections[1:])))


def test_nothing_is_written_where_no_model_can_be(tmp_path: Path) -> None:
    graph = random_graph(3)
    (tmp_path / "folder.keras").mkdir()
    for name, words in (("net.h5", ".keras"), ("nowhere/net.keras", "does not exist"), ("folder.keras", "is a folder")):
        with pytest.raises(DataError, match=words):
            strop.export(graph, "keras", tmp_path / name)
    with pytest.raises(DataError, match="leave frames out"):
        strop.export(graph, "keras", tmp_path / "net.keras", frames=random_frames(graph, 2, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.keras"]
    assert strop.lower(strop.export(graph, "keras", tmp_path / "net.keras")) == graph
