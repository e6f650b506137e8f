"""Networks that are in the battery for the sake of lines that no usual architecture reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from strop.keras import Heaviside, SoftmaxDecode, SpikingBReLU, SpikingSigmoid, key_generator

L = keras.layers
ops = keras.ops
Built = Any


def new_spike() -> Any:
    return SpikingBReLU(1.0)


def new_sign() -> Any:
    return Heaviside(0.0, -1.0, 1.0)


def random_bytes(count: int, *shape: int, seed: int = 5) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def images_of_bytes() -> Built:
    x = inputs = keras.Input((5, 6, 1))
    x = new_spike()(L.Conv2D(3, 3, 2, "same")(x))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.Flatten()(x))), {
        "frames": random_bytes(16, 5, 6),
        "chunk": 6,
    }


def bytes_in_planes() -> Built:
    x = inputs = keras.Input((4, 5, 2))
    x = new_spike()(L.Conv2D(3, 2)(x))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x))), {"frames": random_bytes(16, 40), "encoding": "bitplane"}


def planes_of_four_bits() -> Built:
    x = inputs = keras.Input((6,))
    x = new_spike()(L.Dense(5)(x))
    frames = (np.random.default_rng(3).integers(0, 16, (16, 6)) * 0.125 - 1.0).astype(np.float32)
    return keras.Model(inputs, L.Dense(3)(x)), {
        "frames": frames,
        "encoding": "bitplane",
        "bits": 4,
        "step": 0.125,
        "offset": -1.0,
        "chunk": 5,
    }


def planes_of_two_inputs() -> Built:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = new_spike()(L.Dense(5)(L.Concatenate()([a, b])))
    rng = np.random.default_rng(4)
    frames = [rng.integers(0, 8, (16, 4)) / np.float32(7), rng.integers(0, 256, (16, 3)) / np.float32(255)]
    return keras.Model([a, b], L.Dense(3)(x)), {
        "frames": [f.astype(np.float32) for f in frames],
        "encoding": "bitplane",
        "bits": {"a": 3, "b": 8},
    }


def true_and_false() -> Built:
    inputs = keras.Input((6,))
    frames = np.random.default_rng(6).random((16, 6)) < 0.5
    return keras.Model(inputs, new_spike()(L.Dense(4)(inputs))), {"frames": frames, "encoding": "binary"}


def with_evidence() -> Built:
    x = inputs = keras.Input((5, 4, 1))
    x = L.MaxPooling2D(2)(new_spike()(L.Conv2D(3, 2, padding="same")(x)))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.Flatten()(x))), {"evidence": True, "chunk": 6}


def rescaled() -> Built:
    inputs = keras.Input((4, 3, 2))
    x = L.Rescaling(2.0, -1.0)(inputs)
    x = L.Normalization(mean=[0.25, -0.5], variance=[0.5, 2.0])(x)
    return keras.Model(inputs, new_spike()(L.Conv2D(3, 2)(x))), {"encoding": "current", "coarse": False}


def normalised_spikes() -> Built:
    """Normalisation behind activations, before a pool (OR and AND), and before linear layers."""
    x = inputs = keras.Input((6, 7, 1))
    x = L.BatchNormalization(epsilon=0.25)(new_spike()(L.Conv2D(4, 2)(x)))
    x = L.MaxPooling2D(2)(x)
    y = L.GlobalMaxPooling2D(keepdims=True)(L.BatchNormalization()(new_sign()(L.Conv2D(3, 2)(x))))
    x = L.AveragePooling2D(2, padding="same")(new_sign()(L.Conv2D(2, 2, padding="same")(x)))
    x = new_spike()(L.Dense(5)(L.Concatenate()([L.Flatten()(x), L.Flatten()(y)])))
    return keras.Model(inputs, L.Dense(3)(L.BatchNormalization(center=False)(x)))


def deep_pools() -> Built:
    """Max pools in a row before the activation, concatenated with what was not pooled."""
    x = inputs = keras.Input((8, 6, 1))
    x = L.Conv2D(3, 2, padding="same")(x)
    a = L.MaxPooling2D(2)(L.MaxPooling2D(2, 1, padding="same")(x))
    b = L.BatchNormalization()(L.MaxPooling2D(2)(L.Conv2D(2, 3, padding="same")(inputs)))
    c = L.Conv2D(2, 2, 2)(inputs)
    x = new_spike()(L.Concatenate()([a, b, c]))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))


def channels_first_pools() -> Built:
    """Channels first: pools before the activation, global pools, a dense layer on channels."""
    first: dict[str, Any] = {"data_format": "channels_first"}
    x = inputs = keras.Input((2, 7, 11))
    x = L.BatchNormalization(axis=1)(L.MaxPooling2D(2, **first)(L.Conv2D(3, 2, padding="same", **first)(x)))
    x = SpikingSigmoid(1.0)(x)
    y = L.GlobalAveragePooling2D(keepdims=True, **first)(new_spike()(L.Conv2D(3, 2, padding="same", **first)(x)))
    x = new_spike()(L.Add()([x, y]))
    z = L.GlobalMaxPooling2D(**first)(x)
    x = L.Flatten(**first)(L.UpSampling2D((1, 2), **first)(x))
    return keras.Model(inputs, L.Dense(3)(L.Concatenate()([x, z])))


def merges_of_signs() -> Built:
    """Maximum, minimum and products of signals whose levels differ: sums over subsets of their bits."""
    inputs = keras.Input((6,))
    a, b = (new_spike()(L.Dense(5)(inputs)) for _ in range(2))
    c, d = (new_sign()(L.Dense(5)(inputs)) for _ in range(2))
    parts = [L.Maximum()([a, c]), L.Minimum()([a, b, d]), L.Multiply()([c, d, a]), L.Multiply()([a, b])]
    parts += [L.Minimum()([c, d]), L.Maximum()([c, d]), L.Subtract()([a, c]), L.Maximum()([a, b, d, c])]
    parts += [L.Maximum()([1.0 - a, 1.0 - b]), L.Minimum()([-c, -d]), L.Average()([a, b, c])]
    x = new_spike()(L.Dense(6)(L.Concatenate()(parts)))
    return keras.Model(inputs, L.Dense(3)(x))


def comparisons() -> Built:
    """Every comparison of `keras.ops`, with a number and between signals, on sums that meet the numbers."""
    inputs = keras.Input((6,))
    dense = L.Dense(4)
    x = dense(inputs)
    y = L.Dense(4)(inputs)
    parts = [ops.cast(x >= 0.25, "float32"), ops.cast(x > 0.25, "float32"), ops.cast(x < 0.25, "float32")]
    parts += [ops.cast(x <= 0.25, "float32"), ops.cast(ops.less(0.5, x), "float32")]
    parts += [ops.cast(ops.greater_equal(0.5, x), "float32"), ops.cast(x >= y, "float32"), ops.cast(x < y, "float32")]
    parts += [ops.heaviside(x, np.float32(1.0)), ops.heaviside(x, np.float32(0.0)), ops.where(x > 0.0, 0.5, -0.25)]
    x = new_spike()(L.Dense(5)(ops.concatenate(parts, axis=-1)))
    return keras.Model(inputs, L.Dense(3)(x)), {"levels": 4}


def arithmetic() -> Built:
    """Sums, differences, products and quotients with constants, on both sides; reductions."""
    inputs = keras.Input((3, 4))
    x = new_spike()(L.Dense(4)(2.0 * inputs - 0.5))
    y = new_sign()(L.Dense(4)((1.0 - inputs) / 2.0))
    z = ops.negative(x) + y * np.asarray([0.5, -1.0, 2.0, 0.25], np.float32)
    z = new_spike()(L.Dense(4)(z - x + 0.25))
    pooled = [
        ops.sum(z, axis=1),
        ops.mean(y, axis=-1),
        ops.max(x, axis=1),
        ops.squeeze(ops.sum(z, 2, keepdims=True), 2),
    ]
    x = new_spike()(L.Dense(5)(ops.concatenate(pooled, axis=-1)))
    return keras.Model(inputs, L.Dense(3)(x))


def moves() -> Built:
    """Operations that move values about."""
    inputs = keras.Input((3, 4))
    x = new_spike()(L.Dense(4)(inputs))
    y = ops.flip(ops.transpose(ops.roll(x, 1, axis=2), (0, 2, 1)), axis=1)
    y = ops.reshape(ops.pad(y, ((0, 0), (1, 0), (0, 2))), (-1, 25))
    z = ops.concatenate(
        [y[:, 3:], ops.reshape(ops.stack([x, x], axis=1), (-1, 24)), ops.reshape(x[:, 1], (-1, 4))], axis=1
    )
    x = new_spike()(L.Dense(5)(ops.repeat(ops.tile(ops.expand_dims(z, 1), (1, 2, 1)), 2, axis=2)))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(ops.swapaxes(x, 1, 2))))


def sequences() -> Built:
    x = inputs = keras.Input((9, 2))
    x = new_spike()(L.Conv1D(3, 3, padding="causal", dilation_rate=2)(x))
    x = new_spike()(L.SeparableConv1D(4, 2, padding="same", depth_multiplier=2)(x))
    x = new_spike()(L.Conv1DTranspose(3, 3, 2, "same")(x))
    x = new_spike()(L.DepthwiseConv1D(2, 2, depth_multiplier=2)(L.Cropping1D((1, 2))(L.UpSampling1D(2)(x))))
    x = L.AveragePooling1D(3, 2, "same")(L.ZeroPadding1D((2, 1))(x))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalMaxPooling1D()(new_spike()(x))))


def adaptive_pools() -> Built:
    x = inputs = keras.Input((7, 5, 1))
    x = new_spike()(L.Conv2D(3, 2)(x))
    a = L.AdaptiveMaxPooling2D((3, 2))(x)
    b = L.AdaptiveAveragePooling2D((3, 2))(x)
    c = new_spike()(L.AdaptiveMaxPooling2D((3, 2))(L.Conv2D(2, 2)(inputs)))
    x = new_spike()(L.Concatenate()([a, b, c]))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))


def transposed_kernels() -> Built:
    """Transposed convolutions, strided and dilated, `same` and `valid`, channels first too; grouped convolutions."""
    x = inputs = keras.Input((4, 5, 2))
    a = new_spike()(L.Conv2DTranspose(3, (3, 2), (2, 1), "valid")(x))
    b = new_spike()(L.Conv2DTranspose(2, 3, 1, "same", dilation_rate=2)(x))
    c = new_spike()(L.Conv2D(4, (3, 2), padding="same", groups=2, use_bias=False)(x))
    d = new_spike()(L.Conv2D(2, (1, 3), dilation_rate=(1, 2), padding="same")(x))
    e = new_spike()(L.Conv2DTranspose(2, 2, 3, "same")(x))
    parts = [L.Flatten()(part) for part in (a, b, c, d, e)]
    return keras.Model(inputs, L.Dense(3)(L.Concatenate()(parts)))


def images_moved() -> Built:
    x = inputs = keras.Input((6, 5, 1))
    x = new_spike()(L.Conv2D(2, 2)(L.ZeroPadding2D(((1, 0), (0, 2)))(x)))
    x = L.CenterCrop(4, 3)(L.Resizing(12, 12, "nearest")(x))
    x = L.Permute((3, 1, 2))(x)
    x = new_spike()(L.Conv2D(3, 2)(L.Reshape((4, 6, 1))(x)))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(L.Cropping2D(((1, 0), (0, 2)))(x))))


def repeated_vector() -> Built:
    inputs = keras.Input((5,))
    x = L.RepeatVector(3)(new_spike()(L.Dense(4)(inputs)))
    x = new_spike()(L.EinsumDense("...x,xy->...y", (4,), bias_axes="y")(x))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))


def decoder_with_temperature() -> Built:
    x = inputs = keras.Input((6,))
    x = new_spike()(L.Dense(12)(new_spike()(L.Dense(8)(x))))
    return keras.Model(inputs, SoftmaxDecode(key_generator(4, 12, seed=1))(x)), {"chunk": 4}


def decided_in_spikes() -> Built:
    """Logits of eighths: equal ones are common, and the lower class must win."""
    x = inputs = keras.Input((6,))
    x = new_spike()(L.Dense(8)(x))
    return keras.Model(inputs, L.Dense(4)(x)), {"decision": "spikes", "frames": random_bytes(40, 6) / np.float32(255)}


def decided_by_pools() -> Built:
    """Logits behind an average pool: two matrices in a row, whose products lie on no grid that is known."""
    x = inputs = keras.Input((4, 4, 1))
    x = new_spike()(L.Conv2D(3, 2)(x))
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x))), {"decision": "spikes"}


def spikes_flattened() -> Built:
    """The end only moves spikes: a read-out of kind "spikes"; and an output that is read twice."""
    x = inputs = keras.Input((4, 5, 1))
    x = new_spike()(L.Conv2D(2, 2)(x))
    return keras.Model(
        inputs, [L.Flatten()(x), x, L.Dense(2)(L.Flatten()(x)), L.Flatten()(new_sign()(L.Conv2D(1, 2)(x)))]
    )


def film() -> Built:
    """TimeDistributed twice over, of layers and of a model."""
    x = inputs = keras.Input((2, 3, 4, 1))
    x = L.TimeDistributed(L.TimeDistributed(L.Dense(3, activation=new_spike())))(x)
    inner = keras.Sequential([L.Input((3, 4, 3)), L.Conv2D(2, 2), new_sign()])
    x = L.TimeDistributed(inner)(x)
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(new_spike()(L.Dense(4)(L.Flatten()(x))))))


def stack_of_layers() -> Built:
    """A Sequential model, with a nested one that is shared, layers that vanish, and an activation as an argument."""
    inner = keras.Sequential([L.Input((6,)), L.Dense(6, activation=new_spike(), name="first_dense"), L.Dropout(0.5)])
    model = keras.Sequential([L.Input((5,)), L.Dense(6), L.Activation(new_spike()), inner, L.GaussianNoise(0.2)])
    model.add(L.Dense(3))
    model.add(L.Softmax())
    return model


def shared_twice() -> Built:
    inputs = keras.Input((6,))
    dense, spike = L.Dense(6, name="shared"), SpikingBReLU(1.0, name="again")
    x = spike(dense(spike(dense(inputs))))
    return keras.Model(inputs, L.Dense(3)(L.SpectralNormalization(L.Dense(4, activation=new_spike()))(x)))


def dictionary() -> Built:
    a, b = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    x = new_spike()(L.Concatenate()([L.Dense(5)(a), L.Dense(4)(b)]))
    rng = np.random.default_rng(7)
    frames = {name: (rng.integers(0, 9, (16, n)) / 8).astype(np.float32) for name, n in (("left", 4), ("right", 3))}
    return keras.Model({"left": a, "right": b}, L.Dense(3)(x)), {"frames": frames}


def named_outputs() -> Built:
    """One-hot labels, frames in float64 without their axis of one channel, two outputs by name."""
    x = inputs = keras.Input((4, 3, 1))
    x = new_spike()(L.Conv2D(3, 2)(x))
    scores = ops.softmax(L.Dense(3)(L.Flatten()(x)))
    frames = np.random.default_rng(9).integers(0, 9, (16, 4, 3)) / 8
    return keras.Model(inputs, {"class": scores, "map": x}), {
        "frames": frames,
        "labels": np.eye(3)[np.arange(16) % 3].astype(int),
    }


def constants_with_a_batch_axis() -> Built:
    inputs = keras.Input((4,))
    x = L.Dense(4)(inputs) + np.float32([[0.25, -0.5, 0.0, 0.125]])
    x = new_sign()(x)
    y = L.Maximum()([x, -x])  # the same whatever the spike
    return keras.Model(inputs, L.Dense(3)(new_spike()(L.Dense(5)(L.Concatenate()([x, y, L.Maximum()([x])])))))


def decided_by_factors() -> Built:
    """Logits that are scaled spikes; the comparison needs the factors' grid."""
    inputs = keras.Input((5,))
    x = new_spike()(L.Dense(4)(inputs))
    return keras.Model(inputs, x * np.float32([0.5, 1.0, 0.75, -0.25]) + 0.125), {"decision": "spikes"}


def shown_by_none() -> Built:
    """All spikes are inside a wrapped model, of which Keras shows the values behind them alone."""
    x = inputs = keras.Input((3, 4))
    inner = keras.Sequential([L.Input((4,)), L.Dense(5), new_spike(), L.Dense(2)])
    return keras.Model(inputs, L.Flatten()(L.TimeDistributed(inner)(x)))


MODELS: tuple[Callable[[], Built], ...] = (
    images_of_bytes,
    bytes_in_planes,
    planes_of_four_bits,
    planes_of_two_inputs,
    true_and_false,
    with_evidence,
    rescaled,
    normalised_spikes,
    deep_pools,
    channels_first_pools,
    merges_of_signs,
    comparisons,
    arithmetic,
    moves,
    sequences,
    adaptive_pools,
    transposed_kernels,
    images_moved,
    repeated_vector,
    decoder_with_temperature,
    decided_in_spikes,
    decided_by_pools,
    spikes_flattened,
    film,
    stack_of_layers,
    shared_twice,
    dictionary,
    shown_by_none,
    named_outputs,
    constants_with_a_batch_axis,
    decided_by_factors,
)
