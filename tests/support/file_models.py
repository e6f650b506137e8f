"""Models that hold every layer of the table of docs/model-files.md, built alike with Keras 3 and with Keras 2.

Each group is one model with a branch for every layer, so that a file of it tests them all. Weights and frames are
multiples of 1/8: sums are exact, thresholds are hit, and what is read must answer to the last bit as the writer did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# A layer of a branch, made with a library's `layers`.
Make = Callable[[Any], Any]


@dataclass(frozen=True)
class Library:
    """Keras 3 or Keras 2: the module, and what the two do not have in common."""

    keras: Any
    tensors: Any
    """`keras.ops`, or `tensorflow` for Keras 2."""
    spike: Callable[[], Any]
    """Makes a spiking activation, sharp, that opens as `SpikingBReLU`."""
    number: int
    """The version of Keras."""

    @property
    def layers(self) -> Any:
        return self.keras.layers

    def model(self, inputs: Any, outputs: Any) -> Any:
        return self.keras.Model(inputs, outputs)


VECTOR, SEQUENCE, IMAGE, VOLUME = (6,), (7, 3), (6, 5, 3), (4, 5, 4, 3)
SHAPES = {"1D": SEQUENCE, "2D": IMAGE, "3D": VOLUME}

ON_VECTORS: dict[str, Make] = {
    "Activation": lambda layers: layers.Activation("linear"),
    "ActivityRegularization": lambda layers: layers.ActivityRegularization(l2=0.1),
    "AlphaDropout": lambda layers: layers.AlphaDropout(0.5),
    "BatchNormalization": lambda layers: layers.BatchNormalization(momentum=0.9, epsilon=0.125),
    "Dense": lambda layers: layers.Dense(4),
    "Dropout": lambda layers: layers.Dropout(0.5, seed=3),
    "GaussianDropout": lambda layers: layers.GaussianDropout(0.5),
    "GaussianNoise": lambda layers: layers.GaussianNoise(1.0),
    "Identity": lambda layers: layers.Identity(),
    "Normalization": lambda layers: layers.Normalization(mean=0.25, variance=4.0),
    "Permute": lambda layers: layers.Permute((1,)),
    "RepeatVector": lambda layers: layers.RepeatVector(3),
    "Rescaling": lambda layers: layers.Rescaling(0.5, -0.25),
    "Reshape": lambda layers: layers.Reshape((2, -1)),
}
ON_IMAGES: dict[str, Make] = {
    "CenterCrop": lambda layers: layers.CenterCrop(3, 2),
    "EinsumDense": lambda layers: layers.EinsumDense("abcd,de->abce", (6, 5, 4), bias_axes="e"),
    "Flatten": lambda layers: layers.Flatten(),
    "Resizing": lambda layers: layers.Resizing(12, 5, "nearest"),
    "SpectralNormalization": lambda layers: layers.SpectralNormalization(layers.Conv2D(2, 2)),
    "TimeDistributed": lambda layers: layers.TimeDistributed(layers.Dense(3)),
}
MERGED = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
AUGMENTATION_OPTIONS: dict[str, dict[str, Any]] = {
    **{f"Random{name}": {"factor": 0.5} for name in ("Brightness", "ColorDegeneration", "Contrast", "Hue")},
    **{f"Random{name}": {"factor": 0.5} for name in ("Rotation", "Saturation", "Sharpness")},
    "RandomFlip": {"mode": "horizontal", "seed": 5},
    "RandomPosterization": {"factor": 3},
    "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
    "RandomZoom": {"height_factor": 0.5},
}


def _of_rank(name: str) -> tuple[tuple[int, ...], Make]:
    """Return the shape of frames and the layer, for one whose name ends in its rank."""
    rank = re.search(r"[123]D", name)
    assert rank is not None, name
    shape = SHAPES[rank[0]]
    extents = len(shape) - 1

    def make(layers: Any) -> Any:
        cls = getattr(layers, name)
        if "Global" in name:
            return cls()
        if "Adaptive" in name:
            return cls((2, 3, 2)[:extents] if extents > 1 else 2)
        if name.startswith("Depthwise"):
            return cls(2, depth_multiplier=2)
        if "Conv" in name:
            return cls(2, 2, strides=2 if "Transpose" in name else 1, padding="same")
        if "SpatialDropout" in name:
            return cls(0.5)
        if "ZeroPadding" in name and extents == 2:
            return cls(((1, 0), (0, 2)))
        return cls(2 if "Pool" in name or name.startswith("Up") else 1)

    return shape, make


def branch(name: str) -> tuple[tuple[int, ...], Make]:
    """Return the shape of the frames that a layer is shown, and how it is made."""
    if name in ON_VECTORS:
        return VECTOR, ON_VECTORS[name]
    if name in ON_IMAGES:
        return IMAGE, ON_IMAGES[name]
    if re.search(r"[123]D", name):
        return _of_rank(name)
    return IMAGE, lambda layers: getattr(layers, name)(**AUGMENTATION_OPTIONS.get(name, {}))


def branches(library: Library, shape: tuple[int, ...], makers: dict[str, Make]) -> Any:
    """One model on frames of `shape` with an output for each layer: bits, the layer, a read-out of spikes."""
    layers = library.layers
    frames = library.keras.Input(shape, name="frames")
    bits = library.spike()(layers.Dense(4 if shape == VECTOR else 3, name="first")(frames))
    outputs = []
    for name, make in makers.items():
        layer = make(layers)
        setattr(layer, "name" if library.number == 3 else "_name", f"the_{name.lower()}")
        behind = layers.Flatten(name=f"{name}_flat")(layer(bits))
        outputs.append(library.spike()(layers.Dense(3, name=f"{name}_out")(behind)))
    return library.model(frames, outputs)


def merged(library: Library) -> Any:
    layers = library.layers
    frames = library.keras.Input(VECTOR, name="frames")
    pair = [library.spike()(layers.Dense(5, name=name)(frames)) for name in ("left", "right")]
    outputs = []
    for name in MERGED:
        joined = getattr(layers, name)(name=f"the_{name.lower()}")(pair)
        outputs.append(library.spike()(layers.Dense(3, name=f"{name}_out")(joined)))
    return library.model(frames, outputs)


# Structures -----------------------------------------------------------------------------------------------------------


def chain(library: Library) -> Any:
    """A Sequential model; the read-out is a softmax."""
    layers = library.layers
    return library.keras.Sequential(
        [
            library.keras.Input(VECTOR),
            layers.Dense(8, name="first"),
            library.spike(),
            layers.Dense(5, name="last"),
            layers.Softmax(name="softmax"),
        ]
    )


def nested(library: Library) -> Any:
    """Models in models, one of them called twice, a frozen layer in it, and a layer that is shared."""
    layers, keras = library.layers, library.keras
    start = keras.Input((8,))
    frozen = layers.Dense(8, name="frozen")
    frozen.trainable = False
    inner = library.model(start, library.spike()(layers.Dense(8, name="inner_last")(library.spike()(frozen(start)))))
    tail = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="tail_first"), library.spike()])
    frames = keras.Input(VECTOR)
    shared = layers.Dense(8, name="shared")
    x = library.spike()(layers.Dense(8, name="first")(frames))
    y = inner(inner(library.spike()(shared(x))))
    z = library.spike()(shared(tail(y)))
    return library.model(frames, library.spike()(layers.Dense(3, name="out")(layers.Add(name="skip")([x, y, z]))))


def dictionaries(library: Library) -> Any:
    """Inputs and outputs in dictionaries, and a nested model that takes one."""
    layers, keras = library.layers, library.keras
    inside = {"p": keras.Input((4,), name="p"), "q": keras.Input((4,), name="q")}
    inner = library.model(inside, layers.Add(name="both")([inside["p"], inside["q"]]))
    left, right = keras.Input((5,), name="left"), keras.Input((3,), name="right")
    bits = {
        "p": library.spike()(layers.Dense(4, name="on_left")(left)),
        "q": library.spike()(layers.Dense(4, name="on_right")(right)),
    }
    outputs = {
        "sum": library.spike()(layers.Dense(3, name="of_sum")(inner(bits))),
        "alone": library.spike()(layers.Dense(2, name="of_one")(bits["p"])),
    }
    return library.model({"left": left, "right": right}, outputs)


def slices(library: Library) -> Any:
    """TimeDistributed around a layer and around a model, with a frozen layer in it."""
    layers, keras = library.layers, library.keras
    frozen = layers.Dense(4, name="frozen")
    frozen.trainable = False
    per_slice = keras.Sequential([keras.Input((5, 3)), layers.Flatten(), frozen, layers.Dense(3, name="behind")])
    frames = keras.Input(IMAGE)
    x = library.spike()(layers.TimeDistributed(per_slice, name="model_on_slices")(frames))
    x = library.spike()(layers.TimeDistributed(layers.Dense(4, name="inside"), name="layer_on_slices")(x))
    return library.model(frames, x)


def adapted(library: Library) -> Any:
    """Normalization whose statistics are weights."""
    layers = library.layers
    norm = layers.Normalization(name="adapted")
    norm.adapt(np.random.default_rng(0).integers(0, 9, (200, 6)).astype(np.float32) / 8)
    frames = library.keras.Input(VECTOR)
    return library.model(frames, library.spike()(layers.Dense(5, name="out")(norm(frames))))


STRUCTURES: dict[str, Callable[[Library], Any]] = {
    "Sequential models": chain,
    "nested, shared and frozen": nested,
    "dictionaries": dictionaries,
    "TimeDistributed models": slices,
    "adapted Normalization": adapted,
    "merging layers": merged,
}


# Operations -----------------------------------------------------------------------------------------------------------


def arithmetic(library: Library) -> Any:
    """Operations with constants on either side, comparisons, and `where`."""
    layers, t = library.layers, library.tensors
    frames = library.keras.Input(VECTOR)
    x = layers.Dense(4, name="first")(2 * frames - 1)
    steps = [x >= 0.5, x > 0.25, x <= 0.5, x < 0.25, x < np.arange(4, dtype=np.float32).mean()]
    bits = [t.cast(step, "float32") for step in steps]
    signs = t.where(x >= 0.5, 1.0, -1.0)
    total = bits[0] + bits[1] - 0.5 * bits[2] + (1 - bits[3]) / 2.0
    weighted = -signs * np.array([1.0, 0.5, -2.0, 0.125], dtype=np.float32)
    both = t.maximum(bits[0], bits[4]) + t.minimum(bits[1], bits[2])
    joined = layers.Concatenate(name="joined")([total, weighted, both, bits[0] * bits[4]])
    return library.model(frames, library.spike()(layers.Dense(3, name="out")(joined)))


def moves(library: Library) -> Any:
    """Operations that move values, and sums over axes."""
    layers, t = library.layers, library.tensors
    frames = library.keras.Input(IMAGE)
    x = library.spike()(layers.Dense(4, name="first")(frames))
    three = library.number == 3
    names = {"axis": -1}
    parts = [
        x[:, 1:, ::2],
        x[:, :, -1],
        x[..., 1:3] if three else x[:, :, :, 1:3],  # Keras 2 cannot write an ellipsis into .keras
        t.reshape(x, (-1, 12, 10)),
        t.transpose(x, (0, 2, 1, 3)),
        (t.concatenate if three else t.concat)([x, x], **names),
        t.stack([x, x], axis=1),
        t.expand_dims(x, 1),
        t.squeeze(t.expand_dims(x, 1), axis=1),
        t.flip(x, (1,)) if three else t.reverse(x, axis=[1]),
        t.roll(x, 2, axis=1),
        t.repeat(x, 2, axis=2),
        t.tile(x, (1, 2, 1, 1)),
        t.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0))),
        t.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="reflect" if three else "REFLECT"),
        (t.sum if three else t.reduce_sum)(x, axis=(1, 2)),
        (t.mean if three else t.reduce_mean)(x, axis=2, keepdims=True),
        (t.max if three else t.reduce_max)(x, axis=1),
    ]
    flat = [layers.Flatten(name=f"flat_{number}")(part) for number, part in enumerate(parts)]
    joined = layers.Concatenate(name="joined")(flat)
    return library.model(frames, library.spike()(layers.Dense(3, name="out")(joined)))


OPERATIONS: dict[str, Callable[[Library], Any]] = {"arithmetic": arithmetic, "moves": moves}


# Weights and frames ---------------------------------------------------------------------------------------------------


def readouts(model: Any) -> list[Any]:
    """Return the layers that give each output of `branches` and of `merged` by itself; none for other models."""
    found = [layer for layer in model.layers if layer.name.endswith("_out")]
    return found if len(found) == len(model.outputs) else []


def randomise(model: Any, rng: np.random.Generator, only: Sequence[Any] = ()) -> None:
    """Make weights, of some layers or all, random multiples of 1/8, but sharpness and statistics; either Keras."""
    for layer in only or _layers(model):
        if "adapted" in layer.name or "spiking" in type(layer).__name__.lower() or hasattr(layer, "layers"):
            continue
        values = []
        for old in layer.get_weights():
            new = np.round(rng.normal(0.0, 0.6, old.shape) * 8) / 8
            values.append(new.astype(np.float32) if old.dtype == np.float32 else old)
        if "batch" in type(layer).__name__.lower():
            values[-1] = np.abs(values[-1]) + np.float32(0.125)
        if values:
            layer.set_weights(values)


def _layers(model: Any) -> list[Any]:
    found = []
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        found += _layers(inner) if hasattr(inner, "layers") else [layer]
    return found


def frames_for(model: Any, rng: np.random.Generator, count: int = 24) -> list[Any]:
    """Return frames for each input, in the order of `model.inputs`: multiples of 1/8 in [0, 1]."""
    return [rng.integers(0, 9, (count, *tensor.shape[1:])).astype(np.float32) / 8 for tensor in model.inputs]
