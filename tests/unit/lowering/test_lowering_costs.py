"""What Keras's layers would compute per frame, counted by hand; the decision as spikes; a trained network's events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import sequential  # noqa: E402
from random_networks import random_frames, random_network, randomise  # noqa: E402

import strop  # noqa: E402
from strop.cli.data_files import read_data  # noqa: E402
from strop.costs.keras_macs import model_arithmetic  # noqa: E402
from strop.costs.macs import graph_arithmetic  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator  # noqa: E402

L = keras.layers


@pytest.mark.parametrize(
    ("shape", "layer", "macs", "additions"),
    [
        ((7,), L.Dense(5), 35, 5),
        ((7,), L.Dense(5, use_bias=False), 35, 0),
        ((3, 7), L.Dense(5), 3 * 35, 15),
        ((7,), L.Dense(5, activation=SpikingBReLU(1.0)), 35, 5 + 5),
        ((4, 6), L.EinsumDense("abc,cd->abd", (4, 5), bias_axes="d"), 4 * 6 * 5, 20),
        ((4, 6), L.EinsumDense("...c,cd->...d", 5), 4 * 6 * 5, 0),
        ((8, 8, 3), L.Conv2D(4, 3), 6 * 6 * 9 * 3 * 4, 6 * 6 * 4),
        ((8, 8, 3), L.Conv2D(4, 3, padding="same"), 8 * 8 * 9 * 3 * 4, 8 * 8 * 4),
        ((8, 8, 3), L.Conv2D(4, 3, strides=2), 3 * 3 * 9 * 3 * 4, 3 * 3 * 4),
        ((8, 9, 3), L.Conv2D(4, 3, strides=2, padding="same", use_bias=False), 4 * 5 * 9 * 3 * 4, 0),
        ((8, 8, 4), L.Conv2D(6, 3, groups=2, use_bias=False), 6 * 6 * 9 * 2 * 6, 0),
        ((8, 8, 3), L.Conv2D(4, 3, dilation_rate=2, use_bias=False), 4 * 4 * 9 * 3 * 4, 0),
        ((3, 8, 8), L.Conv2D(4, 3, data_format="channels_first", use_bias=False), 6 * 6 * 9 * 3 * 4, 0),
        ((9, 2), L.Conv1D(3, 4, padding="causal", use_bias=False), 9 * 4 * 2 * 3, 0),
        ((4, 4, 4, 2), L.Conv3D(3, 2, use_bias=False), 27 * 8 * 2 * 3, 0),
        ((8, 8, 3), L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), 6 * 6 * 9 * 3 * 2, 0),
        ((8, 8, 3), L.SeparableConv2D(5, 3, use_bias=False), 6 * 6 * (9 * 3 + 3 * 5), 0),
        ((4, 4, 3), L.Conv2DTranspose(2, 3, strides=2, use_bias=False), 4 * 4 * 9 * 3 * 2, 0),
        ((8, 8, 3), L.MaxPooling2D(2), 0, 4 * 4 * 3 * 3),
        ((7, 7, 3), L.MaxPooling2D(3, 2, "same"), 0, 4 * 4 * 3 * 8),
        ((8, 8, 3), L.AveragePooling2D(2), 4 * 4 * 3, 4 * 4 * 3 * 3),
        ((8, 8, 3), L.GlobalMaxPooling2D(), 0, 3 * 63),
        ((3, 8, 8), L.GlobalAveragePooling2D(data_format="channels_first"), 3, 3 * 63),
        ((8, 8, 3), L.BatchNormalization(), 192, 0),
        ((8, 8, 3), SpikingBReLU(1.0), 0, 192),
        ((8, 8, 3), L.Flatten(), 0, 0),
        ((5, 7), L.TimeDistributed(L.Dense(3)), 5 * 21, 15),
        ((20,), SoftmaxDecode(key_generator(4, 20, seed=0)), 80, 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_operations_of_one_layer(shape: tuple[int, ...], layer: keras.layers.Layer, macs: int, additions: int) -> None:
    found = model_arithmetic(sequential(shape, layer))
    assert (sum(part.macs for part in found), sum(part.additions for part in found)) == (macs, additions)


def test_operations_of_merging_layers() -> None:
    x = keras.Input((6,))
    y = L.Dense(6, use_bias=False)(x)
    z = L.Add()([x, y, y]) + L.Multiply()([x, y])
    found = model_arithmetic(keras.Model(x, L.Average()([z, x])))
    counted = sorted((part.kind, part.macs, part.additions) for part in found)
    # The symbolic `+` goes by the name of the layer that does the same.
    assert counted == [("Add", 0, 6), ("Add", 0, 12), ("Average", 6, 6), ("Dense", 36, 0), ("Multiply", 6, 0)]


def test_counting_leaves_no_trace_on_the_model() -> None:
    model = random_network(3)
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    before = [np.array(w) for w in model.get_weights()]
    assert sum(part.macs for part in model_arithmetic(model)) > 0
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def network() -> keras.Model:
    model = sequential(
        (8, 8, 1),
        L.Conv2D(4, 3),
        SpikingBReLU(1.0, name="edges"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(20),
        SpikingBReLU(1.0, name="dense"),
        SoftmaxDecode(key_generator(4, 20, seed=0), name="decode"),
    )
    randomise(model, np.random.default_rng(0))
    return model


def test_the_graph_has_the_multiply_accumulates_of_its_layers() -> None:
    model = network()
    ours = sum(part.macs for part in model_arithmetic(model))
    assert ours == 36 * 9 * 4 + 36 * 20 + 20 * 4
    assert sum(part.macs for part in graph_arithmetic(strop.lower(model))) == ours
    found = strop.inspect(model)
    assert found.arithmetic["dense"]["counted"] == "keras"
    assert found.arithmetic["dense"]["macs"] == ours
    assert found.arithmetic["host"]["macs"] == 36 * 9 * 4
    assert found.arithmetic["readout"]["macs"] == 80
    assert strop.inspect(model, encoding="bitplane").arithmetic["host"]["macs"] == 0


def test_inspecting_shows_what_a_decision_as_spikes_costs() -> None:
    model = network()
    frames = random_frames(model, np.random.default_rng(1), 30)
    host, spikes = (strop.inspect(model, frames, decision=decision) for decision in ("host", "spikes"))
    assert host.decision["where"] == "host"
    assert host.decision["neurons"] == host.decision["synapses"] == 0
    assert spikes.decision["where"] == "spikes"
    assert spikes.decision["populations"] == ["decode/beats", "decode/winner"]
    assert spikes.decision["neurons"] == 4 * 3 + 4 == spikes.totals["neurons"] - host.totals["neurons"]
    assert spikes.decision["synapses"] == spikes.totals["synapses"] - host.totals["synapses"] > 12
    assert spikes.decision["steps"] == 2 == spikes.totals["depth"] - host.totals["depth"]
    assert host.activity is not None
    assert spikes.activity is not None
    more = spikes.activity["synaptic_events_per_frame"] - host.activity["synaptic_events_per_frame"]
    assert spikes.decision["synaptic_events_per_frame"] == pytest.approx(more)
    assert more > 0
    assert spikes.arithmetic["readout"]["layers"] == []
    assert spikes.activity["readout_additions_per_frame"] == 0
    assert host.activity["readout_additions_per_frame"] > 0
    assert "decision as spikes: 16 neurons" in str(spikes)
    assert "decision as spikes" not in str(host)


def test_lenet_causes_48921_synaptic_events_per_frame(shared: Path) -> None:
    """On the whole MNIST test set; the figure is that of a prototype which was written independently."""
    model = strop.load_model(shared / "models" / "doryta-lenet-mnist-6-16")
    frames, _ = read_data(shared / "data" / "mnist.npz")
    found = strop.inspect(model, frames)
    assert found.activity is not None
    assert found.activity["frames"] == 10_000
    assert round(found.activity["synaptic_events_per_frame"]) == 48_921
    convolutions = 28 * 28 * 25 * 6 + 10 * 10 * 25 * 6 * 16
    assert found.arithmetic["dense"]["macs"] == convolutions + 400 * 120 + 120 * 84 + 84 * 100 + 100 * 10
    assert found.arithmetic["host"]["macs"] == 28 * 28 * 25 * 6


def spikes(*layers: object) -> object:
    return keras.Sequential([L.Input((7,)), *layers])


@pytest.mark.parametrize(
    ("shape", "compute", "macs", "additions"),
    [
        ((4, 3), lambda x: x + x, 0, 12),
        ((4, 3), lambda x: 1.0 - x, 0, 12),
        ((4, 3), lambda x: 0.5 * x, 12, 0),
        ((4, 3), lambda x: x >= 0.5, 0, 12),
        ((4, 3), lambda x: keras.ops.maximum(x, x), 0, 12),
        ((4, 3), lambda x: keras.ops.sum(x, axis=1), 0, 9),
        ((4, 3), lambda x: keras.ops.mean(x, axis=(1, 2), keepdims=True), 1, 11),
        ((4, 3), lambda x: x[:, 1:], 0, 0),
        # Windows of 7 places into 3: 0-2, 2-4, 4-6, of three members each.
        ((7, 2), lambda x: L.AdaptiveMaxPooling1D(3)(x), 0, 3 * 2 * 2),
        ((7, 2), lambda x: L.AdaptiveAveragePooling1D(3)(x), 6, 3 * 2 * 2),
        ((7,), lambda x: L.SpectralNormalization(L.Dense(5))(x), 35, 5),
        ((4, 7), lambda x: L.TimeDistributed(spikes(L.Dense(5), SpikingBReLU(1.0), L.Dense(2)))(x), 4 * 45, 4 * 12),
    ],
)
def test_operations_and_newer_layers_are_counted_by_hand(shape, compute, macs, additions) -> None:
    inputs = keras.Input(shape)
    found = model_arithmetic(keras.Model(inputs, compute(inputs)))
    assert sum(part.macs for part in found) == macs
    assert sum(part.additions for part in found) == additions
