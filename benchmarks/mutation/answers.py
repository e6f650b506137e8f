"""Networks that are in the battery for what they answer: ties, outputs and frames of every kind."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from architectures import Built, new_sign, new_spike, random_bytes
from random_networks import randomise

from strop.keras import Heaviside, SpikingSigmoid

L = keras.layers
ops = keras.ops


def _cancelling(units: int, frames: int, cancelling: int) -> Built:
    """Sums that cancel but for their float32 roundings, in so many frames: ties or faults."""
    inputs = keras.Input((60,))
    x = SpikingSigmoid(1.0)(L.Dense(units, use_bias=False)(inputs))
    x = SpikingSigmoid(1.0)(L.Dense(9)(x))
    model = keras.Model(inputs, L.Dense(3)(x))
    rng = np.random.default_rng(8)
    randomise(model, rng)
    first = rng.normal(0, 1, (30, units)).astype(np.float32)
    model.layers[1].kernel.assign(np.concatenate([first, -first]))
    half = rng.integers(1, 255, (frames, 30)).astype(np.float32) / np.float32(255)
    given = np.concatenate([half, half], axis=1)
    given[cancelling:] += rng.normal(0, 0.1, (frames - cancelling, 60)).astype(np.float32)
    return model, {"frames": given, "own_weights": True}


def near_thresholds() -> Built:
    """A tie or two, as many as a verification lets pass."""
    return _cancelling(3, 40, 1)


def ties_by_construction() -> Built:
    """More ties than rounding leaves by chance: it must fail."""
    model, options = _cancelling(40, 40, 20)
    return model, {**options, "kind": "planted"}


def ties_under_strict() -> Built:
    model, options = _cancelling(3, 40, 2)
    return model, {**options, "strict": True, "kind": "planted"}


def answers_of_every_kind() -> Built:
    """Functions at the end that are read-outs."""
    inputs = keras.Input((6,))
    x = new_spike()(L.Dense(7)(inputs))
    kinds = ("sigmoid", "hard_sigmoid", "log_sigmoid", "tanh", "hard_tanh", "relu", "relu6", "softplus", "softsign")
    outputs = [L.Dense(2, activation=kind)(x) for kind in kinds]
    outputs += [L.Dense(3, activation="log_softmax")(x), ops.log_softmax(L.Dense(3)(x)), ops.sigmoid(L.Dense(1)(x))]
    outputs += [L.Softmax(axis=1)(L.Reshape((3, 2))(L.Dense(6)(x))), L.ReLU()(L.Dense(2)(x)), ops.tanh(L.Dense(2)(x))]
    return keras.Model(inputs, outputs), {"labels": None, "chunk": 7}


def answers_moved() -> Built:
    """What may follow a read-out: moves, averages, sums, factors, an argmax."""
    inputs = keras.Input((6,))
    x = new_spike()(L.Dense(7)(inputs))
    a, b = (L.Dense(4, activation="softmax")(x) for _ in range(2))
    c = L.Dense(4, activation="sigmoid")(x)
    outputs = [
        L.Average()([a, b]),
        L.Reshape((2, 2))(L.Dropout(0.5)(a)),
        L.Concatenate()([a, b]),
        ops.argmax(a, axis=-1),
    ]
    outputs += [L.Concatenate()([c, L.Dense(2, activation="sigmoid")(x)]), c[:, 1:], 0.5 * b, a - b]
    outputs += [ops.argmax(L.Average()([a, b]), axis=-1), ops.mean(L.Reshape((2, 2))(c), axis=1), L.Add()([c, c])]
    outputs += [ops.argmax(L.Dense(5)(x), axis=1), ops.flip(a, axis=1)]
    return keras.Model(inputs, outputs)


def yes_or_no() -> Built:
    """The standard binary classifier, and its decision in one spike."""
    inputs = keras.Input((6,))
    return keras.Model(inputs, L.Dense(1, activation="sigmoid")(new_spike()(L.Dense(7)(inputs)))), {
        "decision": "spikes",
        "labels": np.arange(16) % 2,
    }


def yes_or_no_outside() -> Built:
    inputs = keras.Input((6,))
    x = new_spike()(L.Dense(7)(inputs))
    y, z = (L.Dense(1, activation="sigmoid")(x) for _ in range(2))
    return keras.Model(inputs, L.Average()([y, z])), {"labels": np.arange(16) % 2}


def class_numbers() -> Built:
    inputs = keras.Input((6,))
    x = new_spike()(L.Dense(7)(inputs))
    return keras.Model(inputs, ops.argmax(L.Dense(4)(x), axis=-1)), {"labels": np.arange(16) % 4, "decision": "spikes"}


def other_values() -> Built:
    """Functions of two-valued signals: two other values."""
    inputs = keras.Input((6,))
    x = new_sign()(L.Dense(5)(inputs))
    y = Heaviside(0.1, 0.5, 2.0)(L.Dense(5)(inputs))
    parts = [ops.relu(x), ops.abs(x - 0.5), ops.clip(x, -0.5, 0.25), ops.tanh(y), ops.exp(x), 1.0 / y, ops.sqrt(y)]
    parts += [L.ReLU()(-x), L.LeakyReLU()(x), ops.maximum(x, 0.25), ops.square(y), (ops.sign(x) + 1) / 2, L.PReLU()(x)]
    x = new_spike()(L.Dense(6)(L.Concatenate()(parts)))
    return keras.Model(inputs, L.Dense(3)(x)), {"coarse": False}


def three_values() -> Built:
    """A sign with 0 at 0, where sums are 0 often; constants and mirrors around."""
    inputs = keras.Input((4, 3))
    x = ops.sign(L.Dense(4)(inputs))
    x = ops.sign(L.Dense(5)(ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=1.0)))
    y = ops.pad(new_spike()(L.Dense(4)(inputs)), ((0, 0), (1, 0), (2, 1)), mode="reflect")
    return keras.Model(
        inputs, L.Dense(3)(L.Concatenate()([L.Flatten()(new_spike()(L.Dense(3)(x))), L.Flatten()(y)]))
    ), {"levels": 2}


def whole_numbers() -> Built:
    x = inputs = keras.Input((4, 5, 1), dtype="uint8")
    x = new_spike()(L.Conv2D(3, 2)(L.Rescaling(1 / 127.5, -1.0)(x)))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x))), {"frames": random_bytes(16, 4, 5, 1), "chunk": 6}


def whole_numbers_in_planes() -> Built:
    x = inputs = keras.Input((4, 3), dtype="uint8")
    x = new_spike()(L.Dense(4)(ops.cast(x, "float32") / 255.0))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x))), {"frames": random_bytes(16, 4, 3), "encoding": "bitplane"}


def scaled_by_itself() -> Built:
    """A model that scales its frames, and frames of 0 to 255 as floats; big-endian, for good measure."""
    x = inputs = keras.Input((4, 3))
    x = new_spike()(L.Dense(4)(L.Rescaling(1 / 255)(x)))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x))), {"frames": random_bytes(16, 4, 3).astype(">f4")}


def scaled_by_itself_bytes() -> Built:
    model, _ = scaled_by_itself()
    return model, {"frames": random_bytes(16, 4, 3)}


def beside_spikes() -> Built:
    """The input itself meets spikes: the host evaluates all that leads there."""
    x = inputs = keras.Input((5, 4, 1))
    y = new_spike()(L.Conv2D(2, 3, padding="same")(x))
    x = new_spike()(L.Conv2D(3, 2)(L.Concatenate()([inputs, y])))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(new_spike()(L.Conv2D(2, 2)(x)))))


def labels_of_two_outputs() -> Built:
    a = keras.Input((5,), name="frame")
    x = new_spike()(L.Dense(7)(a))
    outputs = {"kind": L.Dense(3, activation="softmax")(x), "size": L.Dense(2, activation="softmax")(x)}
    labels = {"kind": np.arange(16) % 3, "size": np.arange(16) % 2}
    return keras.Model(a, outputs), {"labels": labels, "chunk": 6}


MODELS: tuple[Callable[[], Built], ...] = (
    answers_of_every_kind,
    answers_moved,
    yes_or_no,
    yes_or_no_outside,
    class_numbers,
    other_values,
    three_values,
    whole_numbers,
    whole_numbers_in_planes,
    scaled_by_itself,
    scaled_by_itself_bytes,
    beside_spikes,
    labels_of_two_outputs,
    near_thresholds,
    ties_by_construction,
    ties_under_strict,
)
