"""Operations of `keras.ops` in functional models, each against Keras on random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove  # noqa: E402

import strop  # noqa: E402
from strop.errors import UnsupportedLayerError  # noqa: E402
from strop.keras import Heaviside, SpikingBReLU  # noqa: E402

L = keras.layers
ops = keras.ops
Change = Callable[[Any], Any]


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


def spikes(x: Any) -> Any:
    return spike()(L.Conv2D(3, 2, padding="same")(x))


def signs(x: Any) -> Any:
    return Heaviside(0.0, -1.0, 1.0)(L.Conv2D(3, 2, padding="same")(x))


def model(change: Change) -> keras.Model:
    """The change, and a layer of spikes behind it."""
    inputs = keras.Input((6, 5, 2))
    return keras.Model(inputs, spike()(L.Dense(4)(L.Flatten()(change(inputs)))))


def pooled_means(x: Any) -> Any:
    y = spikes(x)
    flat = L.Flatten()(y)
    alone = [ops.mean(flat, axis=1, keepdims=True), ops.max(flat, axis=-1, keepdims=True)]
    return L.Concatenate()([ops.mean(y, axis=(1, 2)), ops.sum(y, axis=[1, -2]), ops.max(y, axis=(1, 2)), *alone])


EXACT: dict[str, Change] = {
    "slices": lambda x: spikes(x)[:, 1:, ::2],
    "reshape, transpose": lambda x: ops.transpose(ops.reshape(spikes(x), (-1, 6, 15)), (0, 2, 1)),
    "concatenate, stack": lambda x: ops.stack([spikes(x), ops.concatenate([spikes(x)[:, :2], spikes(x)[:, :4]], 1)], 2),
    "bits and signs, moved and joined": lambda x: ops.concatenate(
        [ops.transpose(spikes(x), (0, 2, 1, 3)), signs(x)[:, :5]], 2
    ),
    "zero padding of signs": lambda x: L.Conv2D(2, 2)(ops.pad(signs(x), ((0, 0), (1, 0), (2, 1), (0, 0)))),
    "reflected": lambda x: L.Conv2D(2, 2)(ops.pad(spikes(x), ((0, 0), (1, 1), (2, 1), (0, 0)), mode="reflect")),
    "flip, roll, repeat, tile": lambda x: ops.tile(
        ops.repeat(ops.roll(ops.flip(spikes(x), axis=1), 2, axis=2), 2, axis=1), (1, 1, 2, 1)
    ),
    "negated before a max pool": lambda x: L.MaxPooling2D(2)(1.0 - spikes(x)),
    "factors and shifts": lambda x: (2 * spikes(x) - 1) / 3.0 + spikes(x) * 0.5 - spikes(x) * -1,
    "constants along an axis": lambda x: (
        -spikes(x) * np.float32([1, -2, 0.5]) + np.float32([[0.1], [0.2], [0], [1], [2]])
    ),
    "taken, without a gradient": lambda x: ops.stop_gradient(ops.take(spikes(x), [3, 1, 1, -1], axis=1)),
    "product of signs": lambda x: signs(x) * signs(x),
    "sum, mean, max": pooled_means,
    "greater": lambda x: ops.cast(L.Conv2D(3, 2)(x) > 0.25, "float32"),
    "less": lambda x: ops.cast(L.Conv2D(3, 2)(x) < 0.25, "float32"),
    "less or equal, turned round": lambda x: ops.cast(ops.greater_equal(0.25, L.Conv2D(3, 2)(x)), "float32"),
    "one signal against another": lambda x: ops.cast(L.Conv2D(3, 2)(x) >= L.Conv2D(3, 2)(x), "float32"),
    "where": lambda x: L.Conv2D(2, 2, padding="same")(ops.where(L.Conv2D(3, 2)(x) >= 0, 1.0, -1.0)),
}


@pytest.mark.parametrize("name", EXACT)
def test_operations_are_carried_over_exactly(name: str) -> None:
    prove(model(EXACT[name]), coarse=name in ("greater", "less", "where"))


def test_strict_and_other_comparisons_differ_on_the_threshold() -> None:
    x = keras.Input((3,))
    outputs = [ops.cast(compare(x * 1.0, 0.5), "float32") for compare in (ops.greater, ops.greater_equal, ops.less)]
    graph = strop.lower(keras.Model(x, outputs))
    result = strop.simulate(graph, np.float32([[0.25, 0.5, 0.75]]), "reference")
    assert [spikes.astype(int).tolist() for spikes in result.output[:2]] == [[[0, 0, 1]], [[0, 1, 1]]]
    np.testing.assert_array_equal(result.output[2], [[1.0, 0.0, 0.0]])


REFUSED: dict[str, tuple[Change, str]] = {
    "flip of the batch": (lambda x: ops.flip(spikes(x), axis=0), "from one frame of a batch to another"),
    "reshape into the batch": (lambda x: ops.reshape(spikes(x), (-1, 3)), "from one frame of a batch to another"),
    "one frame twice": (lambda x: ops.take(spikes(x), [0, 0], axis=0), "from one frame of a batch to another"),
    "square": (lambda x: ops.square(L.Conv2D(3, 2)(x)), "no exact spiking form of Square"),
    "product of sums": (lambda x: L.Conv2D(3, 2)(x) * L.Conv2D(3, 2)(x), "not spikes"),
    "quotient": (lambda x: spikes(x) / spikes(x), "quotient"),
    "clipping": (lambda x: ops.maximum(L.Conv2D(3, 2)(x), 0.0), "neither a factor nor a shift"),
    "half precision": (lambda x: ops.cast(spikes(x), "float16"), "casts to float16"),
    "over the batch": (lambda x: ops.broadcast_to(ops.mean(spikes(x), axis=(0,)), (1, 6, 5, 3)), "batch axis"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operations_that_are_not_exact_are_refused(name: str) -> None:
    change, message = REFUSED[name]
    inputs = keras.Input((6, 5, 2))
    with pytest.raises(UnsupportedLayerError, match=message):
        strop.lower(keras.Model(inputs, change(inputs)))
