"""The table of docs/layers.md, row by row: every public layer of Keras does what its row says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove, sequential  # noqa: E402

import strop  # noqa: E402
from strop.errors import UnsupportedLayerError  # noqa: E402
from strop.graph.equality import difference  # noqa: E402
from strop.keras import Heaviside, SpikingBReLU  # noqa: E402
from strop.lowering.refusal import Refusal  # noqa: E402
from strop.lowering.rules import handler_for  # noqa: E402
from strop.reader.not_carried import REASONS  # noqa: E402

L = keras.layers
TABLE = Path(__file__).resolve().parents[3] / "docs" / "layers.md"
FILM = {1: (7, 3), 2: (6, 5, 3), 3: (4, 5, 4, 3)}
IMAGE = FILM[2]


def rows() -> dict[str, tuple[str, str]]:
    """Return (claim, how or why) for every name in the first table of the page."""
    section = TABLE.read_text(encoding="utf-8").split("## Every layer of Keras 3")[1].split("\n## ")[0]
    found: dict[str, tuple[str, str]] = {}
    for line in filter(lambda line: line.startswith("|"), section.splitlines()):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", cells[0]):
            assert name not in found, f"{name} is listed twice"
            found[name] = (cells[1], cells[2])
    return found


ROWS = rows()
NAMES = [name for name in dir(L) if not name.startswith("_")]
CLASSES = {name: getattr(L, name) for name in NAMES if isinstance(getattr(L, name), type)}
CLAIMED = {claim: [name for name in CLASSES if ROWS.get(name, ("",))[0] == claim] for claim in ("carried", "vanishes")}
REFUSED = [name for name in CLASSES if ROWS.get(name, ("",))[0] == "refused"]


def test_every_public_name_is_in_the_table_with_a_claim() -> None:
    assert len(NAMES) > 140
    assert [name for name in NAMES if name not in ROWS] == []
    assert {claim for claim, _ in ROWS.values()} == {"carried", "vanishes", "refused", "no layer"}
    assert sorted(name for name in CLASSES if ROWS[name][0] == "refused") == sorted(set(REASONS) & set(CLASSES))


def test_aliases_share_a_row() -> None:
    for name, cls in CLASSES.items():
        assert {ROWS[other] for other in CLASSES if CLASSES[other] is cls} == {ROWS[name]}, name


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


def rank(name: str) -> int:
    return int(re.search(r"([123])D", name)[1])  # type: ignore[index]


def behind(shape: tuple[int, ...], layer: keras.layers.Layer, units: int = 4) -> keras.Model:
    """The layer on spikes, and a layer of spikes behind it."""
    return sequential(shape, L.Dense(units), spike(), layer, L.Flatten(), L.Dense(6), spike())


def rectified(cls: type) -> keras.Model:
    """The rectifier on signs, and a layer of spikes behind it."""
    return sequential((5,), L.Dense(7), Heaviside(0.0, -1.0, 1.0), cls(), L.Dense(6), spike())


def merge(cls: type) -> keras.Model:
    x = keras.Input((5,))
    pair = [spike()(L.Dense(8)(x)), spike()(L.Dense(8)(x))]
    return keras.Model(x, spike()(L.Dense(6)(cls()(pair))))


def wide(name: str) -> Callable[[], keras.Model]:
    cls = CLASSES[name]
    shape = FILM[rank(name)]
    if "Global" in name:
        return lambda: behind(shape, cls())
    if "Adaptive" in name:
        return lambda: behind(shape, cls((2, 3, 2)[: rank(name)]))
    if name.startswith("Depthwise"):
        return lambda: sequential(shape, cls(2, depth_multiplier=2), spike())
    if "Conv" in name:
        return lambda: sequential(shape, cls(3, 2), spike(), cls(2, 2, padding="same"), spike())
    if "Pool" in name:
        return lambda: behind(shape, cls(2))
    return lambda: behind(shape, cls(2 if name.startswith("Up") else 1))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "InputLayer": lambda: keras.Sequential([L.InputLayer((5,)), L.Dense(7), spike()]),
    "Dense": lambda: sequential((5,), L.Dense(7), spike()),
    "EinsumDense": lambda: sequential((4, 5), L.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d"), spike()),
    "BatchNormalization": lambda: behind((5,), L.BatchNormalization()),
    "Normalization": lambda: sequential(
        (2,), L.Normalization(mean=[0.3, 0.6], variance=[0.2, 0.1]), L.Dense(7), spike()
    ),
    "Rescaling": lambda: sequential((5,), L.Rescaling(2.0, -0.5), L.Dense(7), spike()),
    "SpectralNormalization": lambda: sequential(IMAGE, L.SpectralNormalization(L.Conv2D(3, 2)), spike()),
    "Activation": lambda: sequential((5,), L.Dense(7), L.Activation(spike())),
    "Softmax": lambda: sequential((5,), L.Dense(7), spike(), L.Dense(4), L.Softmax()),
    "Flatten": lambda: behind(IMAGE, L.Flatten()),
    "Reshape": lambda: behind(IMAGE, L.Reshape((-1, 8))),
    "Permute": lambda: behind(IMAGE, L.Permute((3, 1, 2))),
    "RepeatVector": lambda: behind((5,), L.RepeatVector(3)),
    "Resizing": lambda: behind(IMAGE, L.Resizing(12, 5, "nearest")),
    "CenterCrop": lambda: behind(IMAGE, L.CenterCrop(3, 2)),
    "TimeDistributed": lambda: sequential((3, 5), L.TimeDistributed(L.Dense(6)), spike()),
    **{name: lambda name=name: merge(CLASSES[name]) for name in ("Add", "Subtract", "Average", "Concatenate")},
    **{name: lambda name=name: merge(CLASSES[name]) for name in ("Maximum", "Minimum", "Multiply")},
    **{name: lambda name=name: rectified(CLASSES[name]) for name in ("ReLU", "LeakyReLU", "ELU", "PReLU")},
}


@pytest.mark.parametrize("name", [name for name in CLAIMED["carried"] if CLASSES[name].__name__ == name])
def test_carried_layers_equal_keras(name: str) -> None:
    model = (MODELS[name] if name in MODELS else wide(name))()
    assert any(type(layer) is CLASSES[name] for layer in model._flatten_layers(include_self=False))
    prove(model)


FACTOR, RATE = ("factor", 0.5), ("rate", 0.5)
OPTIONS: dict[str, tuple[tuple[str, float], ...]] = {
    **dict.fromkeys(("RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomHue"), (FACTOR,)),
    **dict.fromkeys(("RandomRotation", "RandomSaturation", "RandomSharpness"), (FACTOR,)),
    **dict.fromkeys(("AlphaDropout", "Dropout", "GaussianDropout"), (RATE,)),
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), (RATE,)),
    "ActivityRegularization": (("l2", 0.1),),
    "GaussianNoise": (("stddev", 1.0),),
    "RandomPosterization": (("factor", 3),),
    "RandomTranslation": (("height_factor", 0.5), ("width_factor", 0.5)),
    "RandomZoom": (("height_factor", 0.5),),
}


@pytest.mark.parametrize("name", CLAIMED["vanishes"])
def test_layers_that_vanish_leave_the_graph_as_it_is(name: str) -> None:
    """The graph is that of the model without the layer, and the layer gives its frames back in inference."""
    shape = FILM[rank(name)] if re.search("[123]D", name) else IMAGE
    inputs = keras.Input(shape)
    layer, dense, activation = CLASSES[name](**dict(OPTIONS.get(name, ()))), L.Dense(6), spike()
    activation.build(shape)
    bare = keras.Model(inputs, activation(dense(inputs)), name="model")
    model = keras.Model(inputs, activation(dense(layer(inputs))), name="model")
    assert difference(strop.lower(model), strop.lower(bare)) is None
    frames = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    given = keras.ops.convert_to_numpy(layer(frames, training=False) if layer._call_has_training_arg else layer(frames))
    np.testing.assert_array_equal(given, frames)


def on_spikes(layer: keras.layers.Layer, shape: tuple[int, ...] = IMAGE, dtype: str = "float32") -> keras.Model:
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, layer(x))


def calls(layer: keras.layers.Layer, *shapes: tuple[int, ...], listed: bool = True) -> keras.Model:
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs) if listed else layer(*inputs))


def saved_model_layer(folder: Path) -> keras.Model:
    sequential((5,), L.Dense(3)).export(folder, verbose=False)
    return on_spikes(L.TFSMLayer(folder, call_endpoint="serve", name="it"), (5,))


class Own(L.Layer):
    def call(self, x: Any) -> Any:
        return x


class OwnWrapper(L.Wrapper):
    def call(self, x: Any) -> Any:
        return self.layer(x)


REFUSED_MODELS: dict[str, Callable[[], keras.Model]] = {
    **{name: lambda name=name: on_spikes(CLASSES[name](3, name="it"), (4, 3)) for name in ("GRU", "LSTM", "SimpleRNN")},
    **{
        name: lambda name=name: on_spikes(CLASSES[name](2, 2, name="it"), (2, *FILM[rank(name)]))
        for name in ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
    },
    "RNN": lambda: on_spikes(L.RNN(L.SimpleRNNCell(3), name="it"), (4, 3)),
    "Bidirectional": lambda: on_spikes(L.Bidirectional(L.GRU(3), name="it"), (4, 3)),
    "SimpleRNNCell": lambda: calls(L.SimpleRNNCell(3, name="it"), (4,), (3,), listed=False),
    "GRUCell": lambda: calls(L.GRUCell(3, name="it"), (4,), (3,), listed=False),
    "Attention": lambda: calls(L.Attention(name="it"), (4, 3), (4, 3)),
    "AdditiveAttention": lambda: calls(L.AdditiveAttention(name="it"), (4, 3), (4, 3)),
    "GroupNormalization": lambda: on_spikes(L.GroupNormalization(3, name="it")),
    "Dot": lambda: calls(L.Dot(1, name="it"), (3,), (3,)),
    "MultiHeadAttention": lambda: calls(L.MultiHeadAttention(1, 2, name="it"), (4, 3), (4, 3), listed=False),
    "GroupQueryAttention": lambda: calls(L.GroupQueryAttention(2, 2, 1, name="it"), (4, 3), (4, 3), listed=False),
    "CategoryEncoding": lambda: on_spikes(L.CategoryEncoding(3, name="it"), (3,), "int32"),
    "Discretization": lambda: on_spikes(L.Discretization([0.2, 0.7], name="it"), (3,)),
    "Embedding": lambda: on_spikes(L.Embedding(5, 2, name="it"), (3,), "int32"),
    "ReversibleEmbedding": lambda: on_spikes(L.ReversibleEmbedding(5, 2, name="it"), (3,), "int32"),
    "Hashing": lambda: on_spikes(L.Hashing(5, name="it"), (3,), "int32"),
    "IntegerLookup": lambda: on_spikes(L.IntegerLookup(vocabulary=[1, 2], name="it"), (3,), "int32"),
    "StringLookup": lambda: on_spikes(L.StringLookup(vocabulary=["a", "b"], name="it"), (3,), "string"),
    "Lambda": lambda: on_spikes(L.Lambda(lambda x: 2 * x, name="it"), (3,)),
    "Layer": lambda: on_spikes(Own(name="it"), (3,)),
    "Wrapper": lambda: on_spikes(OwnWrapper(L.Dense(3), name="it"), (3,)),
    "Pipeline": lambda: on_spikes(L.Pipeline([L.Rescaling(2.0)], name="it")),
    "RandomCrop": lambda: on_spikes(L.RandomCrop(3, 3, name="it")),
    "MelSpectrogram": lambda: on_spikes(L.MelSpectrogram(fft_length=64, sequence_stride=16, name="it"), (128,)),
    "STFTSpectrogram": lambda: on_spikes(
        L.STFTSpectrogram(frame_length=16, frame_step=8, fft_length=16, name="it"), (128, 1)
    ),
}
# Built for pipelines of data, for other frameworks, or called in ways that no functional model has: looked up alone.
BARE = {
    *("Equalization", "FlaxLayer", "HashedCrossing", "JaxLayer", "LSTMCell", "MaxNumBoundingBoxes", "StackedRNNCells"),
    *("TextVectorization", "TorchModuleWrapper"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_layers_are_refused_with_the_reason_of_the_table(name: str, tmp_path: Path) -> None:
    reason, advice = REASONS[name]
    assert ROWS[name][1] == f"{reason}: {advice}"
    cls = CLASSES[name]
    if name in BARE:
        with pytest.raises(Refusal) as bare:
            handler_for(cls.__new__(cls))
        assert (bare.value.reason, bare.value.advice) == (reason, advice)
        return
    make = REFUSED_MODELS.get(name, lambda: on_spikes(cls(name="it")))
    model = saved_model_layer(tmp_path) if name == "TFSMLayer" else make()
    with pytest.raises(UnsupportedLayerError) as caught:
        strop.lower(model)
    assert "layer 'it'" in str(caught.value)
    if name in ("Layer", "Wrapper"):  # abstract: what derives from them has a call of its own
        assert "What to do" in str(caught.value)
    else:
        assert reason in str(caught.value)
        assert advice in str(caught.value)
