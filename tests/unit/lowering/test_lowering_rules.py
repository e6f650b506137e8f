"""Every lowering rule against Keras itself, on random weights: all spikes of all layers must be equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove, sequential  # noqa: E402

import strop  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU, SpikingSigmoid, key_generator  # noqa: E402

L = keras.layers
Layers = Callable[[], list[keras.layers.Layer]]


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


CASES: dict[str, tuple[tuple[int, ...], Layers]] = {
    "dense": ((7,), lambda: [L.Dense(5), spike(), L.Dense(4), spike()]),
    "dense without bias": (
        (7,),
        lambda: [L.Dense(9, use_bias=False), SpikingSigmoid(1.0), L.Dense(4), spike()],
    ),
    "dense over the last axis": ((3, 4, 5), lambda: [L.Dense(6), spike(), L.Dense(2), spike()]),
    "activation argument": (
        (7,),
        lambda: [L.Dense(5, activation=spike()), L.Dense(4, activation=SpikingSigmoid(1.0))],
    ),
    "linear activation": ((7,), lambda: [L.Dense(5), L.Activation("linear"), L.Activation(spike())]),
    "two linear layers": ((7,), lambda: [L.Dense(6), spike(), L.Dense(5), L.Dense(4), spike()]),
    "convolution same": (
        (9, 8, 2),
        lambda: [L.Conv2D(4, 3, padding="same"), spike(), L.Conv2D(3, (2, 4)), spike()],
    ),
    "convolution strided": (
        (9, 8, 2),
        lambda: [L.Conv2D(4, 3, 2, "same"), spike(), L.Conv2D(3, 2, 3), spike()],
    ),
    "convolution dilated": (
        (9, 8, 2),
        lambda: [L.Conv2D(4, 3, dilation_rate=(2, 3), padding="same"), spike()],
    ),
    "convolution grouped": (
        (6, 6, 4),
        lambda: [L.Conv2D(6, 3, groups=2), spike(), L.Conv2D(4, 2, groups=2), spike()],
    ),
    "same padding, even kernel": (
        (5, 7, 1),
        lambda: [L.Conv2D(3, (4, 2), padding="same", strides=(2, 2)), spike()],
    ),
    "max pool of spikes": (
        (8, 8, 2),
        lambda: [L.Conv2D(3, 3), spike(), L.MaxPooling2D(2), L.Conv2D(2, 2), spike()],
    ),
    "max pool same, overlapping": (
        (7, 7, 1),
        lambda: [L.Conv2D(3, 2), spike(), L.MaxPooling2D(3, 2, padding="same"), L.Conv2D(2, 2), spike()],
    ),
    "max pool before activation": ((8, 8, 2), lambda: [L.Conv2D(3, 3), L.MaxPooling2D(2), spike()]),
    "max pool, then normalisation of both signs, then activation": (
        (9, 9, 2),
        lambda: [L.Conv2D(8, 3), L.MaxPooling2D(3, 2, padding="same"), L.BatchNormalization(), spike()],
    ),
    "two max pools before activation": (
        (9, 9, 1),
        lambda: [L.Conv2D(3, 2), L.MaxPooling2D(2, 1), L.MaxPooling2D(3, 2), spike()],
    ),
    "max pool, flatten, normalisation": (
        (6, 6, 2),
        lambda: [L.Conv2D(4, 3), L.MaxPooling2D(2), L.Flatten(), L.BatchNormalization(), spike()],
    ),
    "max pool of normalised spikes": (
        (8, 8, 1),
        lambda: [L.Conv2D(6, 3), spike(), L.BatchNormalization(), L.MaxPooling2D(2), L.Conv2D(3, 2), spike()],
    ),
    "average pool": (
        (8, 9, 1),
        lambda: [L.Conv2D(4, 2), spike(), L.AveragePooling2D(3, 2, "same"), L.Conv2D(3, 2), spike()],
    ),
    "average pool of four": (
        (8, 9, 1),
        lambda: [L.Conv2D(4, 2), spike(), L.AveragePooling2D(2), L.Conv2D(3, 2), spike()],
    ),
    "average pool before activation": (
        (8, 8, 1),
        lambda: [L.Conv2D(4, 3), L.AveragePooling2D(2), SpikingSigmoid(1.0)],
    ),
    "global max pool": (
        (6, 6, 1),
        lambda: [L.Conv2D(6, 5), spike(), L.GlobalMaxPooling2D(), L.Dense(4), spike()],
    ),
    "global max pool before activation": (
        (6, 6, 1),
        lambda: [L.Conv2D(6, 4), L.GlobalMaxPooling2D(), spike()],
    ),
    "global average pool, kept axes": (
        (6, 6, 1),
        lambda: [L.Conv2D(6, 2), spike(), L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(4, 1), spike()],
    ),
    "normalisation before activation": ((6, 5, 2), lambda: [L.Conv2D(4, 3), L.BatchNormalization(), spike()]),
    "normalisation behind activation, same padding": (
        (6, 5, 2),
        lambda: [L.Conv2D(4, 3), spike(), L.BatchNormalization(), L.Conv2D(3, 3, padding="same"), spike()],
    ),
    "normalisation of the input": ((6, 5, 2), lambda: [L.BatchNormalization(), L.Conv2D(4, 3), spike()]),
    "normalisation without scale": ((6,), lambda: [L.Dense(8), L.BatchNormalization(scale=False), spike()]),
    "normalisation without centre": ((6,), lambda: [L.Dense(8), L.BatchNormalization(center=False), spike()]),
    "normalisation along rows": ((6, 5, 2), lambda: [L.Conv2D(4, 1), L.BatchNormalization(axis=1), spike()]),
    "normalisation behind flatten": (
        (4, 4, 2),
        lambda: [L.Conv2D(3, 2), spike(), L.Flatten(), L.BatchNormalization(), L.Dense(5), spike()],
    ),
    "two normalisations": (
        (6,),
        lambda: [L.Dense(8), L.BatchNormalization(), L.BatchNormalization(), spike()],
    ),
    "padding, cropping, upsampling": (
        (5, 4, 1),
        lambda: [
            L.Conv2D(3, 2),
            spike(),
            L.ZeroPadding2D(((1, 0), (2, 1))),
            L.UpSampling2D((2, 3)),
            L.Cropping2D(((1, 2), (0, 3))),
            L.Conv2D(2, 3),
            spike(),
        ],
    ),
    "padding before max pool": (
        (5, 4, 1),
        lambda: [L.Conv2D(3, 2), spike(), L.ZeroPadding2D(1), L.MaxPooling2D(2), L.Conv2D(2, 2), spike()],
    ),
    "reshape and permute": (
        (4, 6, 1),
        lambda: [L.Conv2D(2, 2), spike(), L.Permute((3, 1, 2)), L.Reshape((-1, 10)), L.Dense(3), spike()],
    ),
    "permute, then flatten": (
        (4, 6, 1),
        lambda: [L.Conv2D(2, 2), spike(), L.Permute((2, 3, 1)), L.Flatten(), L.Dense(5), spike()],
    ),
    "what only training needs": (
        (6, 6, 1),
        lambda: [
            L.GaussianNoise(0.5),
            L.Conv2D(3, 2),
            L.Dropout(0.5),
            spike(),
            L.SpatialDropout2D(0.5),
            L.GaussianDropout(0.5),
            L.ActivityRegularization(1e-3),
            L.Conv2D(2, 2),
            spike(),
        ],
    ),
    "decoder": ((6,), lambda: [L.Dense(20), spike(), SoftmaxDecode(key_generator(4, 20, seed=1))]),
    "linear read-out": ((6,), lambda: [L.Dense(20), spike(), L.Dense(4)]),
    "softmax read-out": ((6,), lambda: [L.Dense(20), spike(), L.Dense(4, activation="softmax")]),
    "softmax layer": ((6,), lambda: [L.Dense(20), spike(), L.Dense(4), L.Softmax()]),
    "global average as read-out": ((6, 6, 1), lambda: [L.Conv2D(4, 3), spike(), L.GlobalAveragePooling2D()]),
    "spikes rearranged as output": ((6, 6, 1), lambda: [L.Conv2D(4, 3), spike(), L.Flatten()]),
    "activation of spikes": ((6,), lambda: [L.Dense(9), spike(), spike()]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_layers_are_carried_over_exactly(name: str, seed: int) -> None:
    shape, layers = CASES[name]
    prove(sequential(shape, *layers()), seed)


# Averages of numbers that are no powers of two: a mean that hits a threshold is rounded to either side of it.
ROUNDED = {"average pool", "global average pool, kept axes"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in ROUNDED])
def test_layers_are_carried_over_exactly_on_a_coarse_grid_where_thresholds_are_hit(name: str) -> None:
    shape, layers = CASES[name]
    prove(sequential(shape, *layers()), 2, coarse=True)


@pytest.mark.parametrize("name", [name for name, (shape, _) in CASES.items() if len(shape) == 3])
def test_image_layers_are_carried_over_exactly_channels_first(name: str) -> None:
    """The same networks with every `data_format` turned round (and normalisation along the channels)."""
    shape, layers = CASES[name]
    turned = []
    for layer in layers():
        config = layer.get_config()
        if config.get("data_format") == "channels_last" and not isinstance(layer, L.Flatten):
            config["data_format"] = "channels_first"
        if isinstance(layer, L.BatchNormalization):
            config["axis"] = 1
        turned.append(type(layer).from_config(config))
    if name in ("dense over the last axis", "max pool, flatten, normalisation", "reshape and permute"):
        pytest.skip("its shapes do not fit channels first")
    prove(sequential((shape[2], *shape[:2]), *turned))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_flatten_orders_values_as_keras_does(data_format: str) -> None:
    layers = [
        L.Conv2D(4, 2, data_format=data_format),
        spike(),
        L.Flatten(data_format=data_format),
        L.Dense(5),
        spike(),
    ]
    prove(sequential((3, 5, 4), *layers))


def test_population_of_a_channels_first_layer_is_channels_last() -> None:
    model = sequential((2, 6, 5), L.Conv2D(3, 2, data_format="channels_first"), spike())
    graph = strop.lower(model)
    assert graph.populations[0].shape == (5, 4, 3)


def residual() -> keras.Model:
    x = inputs = keras.Input((7, 6, 2))
    a = spike()(L.Conv2D(3, 3, padding="same")(x))
    b = spike()(L.Conv2D(3, 3, padding="same")(a))
    b = spike()(L.Conv2D(3, 3, padding="same")(b))
    c = spike()(L.Add()([L.Conv2D(3, 1)(b), a]))
    return keras.Model(inputs, spike()(L.Conv2D(2, 2)(c + a)))


def concatenated() -> keras.Model:
    x = inputs = keras.Input((8, 8, 1))
    a = spike()(L.Conv2D(2, 3, padding="same")(x))
    b = L.UpSampling2D(2)(spike()(L.Conv2D(3, 3, strides=2, padding="same")(a)))
    joined = L.Concatenate()([a, b, a])
    pooled = L.MaxPooling2D(2)(joined)
    rows = L.Concatenate(axis=1)([pooled, pooled])
    return keras.Model(inputs, spike()(L.Dense(3)(L.Flatten()(rows))))


def concatenated_levels() -> keras.Model:
    x = inputs = keras.Input((8, 8, 1))
    a = L.BatchNormalization()(spike()(L.Conv2D(3, 3)(x)))
    b = spike()(L.Conv2D(2, 3)(x))
    pooled = L.MaxPooling2D(2)(L.Concatenate()([a, b]))
    return keras.Model(inputs, spike()(L.Conv2D(3, 2)(pooled)))


def broadcast_add() -> keras.Model:
    x = inputs = keras.Input((5, 5, 2))
    a = spike()(L.Conv2D(3, 2)(x))
    b = L.GlobalAveragePooling2D(keepdims=True)(a)
    return keras.Model(inputs, spike()(L.Add()([L.Conv2D(3, 1)(a), L.Conv2D(3, 1)(b)])))


def shared_layer() -> keras.Model:
    x = inputs = keras.Input((6,))
    layer, activation = L.Dense(6), spike()
    return keras.Model(inputs, activation(layer(activation(layer(x)))))


def nested() -> keras.Model:
    def encoder(channels: int) -> keras.Model:
        i = keras.Input((6, 6, channels))
        return keras.Model(i, L.MaxPooling2D(2, 1, padding="same")(spike()(L.Conv2D(2, 3, padding="same")(i))))

    inner = encoder(2)
    x = inputs = keras.Input((6, 6, 1))
    y = inner(inner(encoder(1)(x)))
    tail = keras.Sequential([L.Input((6, 6, 2)), L.Flatten(), L.Dense(5), spike()])
    return keras.Model(inputs, tail(y))


def two_inputs_two_outputs() -> keras.Model:
    a, b = keras.Input((5,), name="left"), keras.Input((4, 4, 1), name="right")
    p = spike()(L.Dense(6)(a))
    q = L.Flatten()(spike()(L.Conv2D(2, 2)(b)))
    both = spike()(L.Dense(7)(L.Concatenate()([p, q])))
    return keras.Model([a, b], [L.Dense(3, activation="softmax")(both), q])


@pytest.mark.parametrize(
    "make",
    [
        residual,
        concatenated,
        concatenated_levels,
        broadcast_add,
        shared_layer,
        nested,
        two_inputs_two_outputs,
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_topologies_are_carried_over_exactly(make: Callable[[], keras.Model], seed: int) -> None:
    prove(make(), seed, coarse=seed == 2)


def test_shared_and_nested_layers_get_names_of_their_own() -> None:
    assert len(set(strop.lower(shared_layer()).population_names)) == 2
    names = strop.lower(nested()).population_names
    assert len(set(names)) == len(names) == 7
    assert all("/" in name for name in names)


def test_skip_connections_become_delays() -> None:
    graph = strop.lower(residual())
    delays = sorted(p.delay for p in graph.projections)
    assert delays == [1, 1, 1, 1, 1, 3, 4]  # a reaches c after 3 steps, and the last layer after 4


def test_lowering_leaves_the_model_as_it_was() -> None:
    model = nested()
    before = model.to_json(), [np.array(w) for w in model.get_weights()], len(model.layers[1]._inbound_nodes)
    strop.verify(model, np.random.default_rng(0).random((4, 6, 6, 1), np.float32), backends=("reference",))
    after = model.to_json(), model.get_weights(), len(model.layers[1]._inbound_nodes)
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))


def test_batch_normalisation_keeps_epsilon_inside_the_root() -> None:
    """The original's merge added Keras's epsilon outside the root, which flips spikes: the folded weights show it."""
    model = sequential((1,), L.Dense(1), L.BatchNormalization(epsilon=0.25), spike())
    dense, normalisation, _ = model.layers
    dense.set_weights([np.array([[1.0]]), np.array([0.0])])
    normalisation.set_weights([np.array([1.0]), np.array([0.0]), np.array([0.0]), np.array([0.75])])
    weight = strop.lower(model).projections[0].operator.to_coo()[2]
    assert weight.tolist() == [1.0]  # 1 / sqrt(0.75 + 0.25); outside the root it would be 1 / (sqrt(0.75) + 0.25)


def test_and_is_what_a_negative_factor_behind_a_max_pool_needs() -> None:
    model = sequential((2, 1, 1), L.Conv2D(1, 1), L.MaxPooling2D((2, 1)), L.BatchNormalization(), spike())
    model.layers[0].set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    gamma = -np.sqrt(1.0 + model.layers[2].epsilon).reshape(1)
    model.layers[2].set_weights([gamma, np.ones(1), np.zeros(1), np.ones(1)])
    frames = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32).reshape(4, 2, 1, 1)
    graph = strop.lower(model)
    assert graph.populations[-1].threshold.reshape(-1).tolist() == [1.5]
    spikes = strop.simulate(graph, frames, "reference").spikes[graph.populations[-1].name]
    assert spikes.reshape(-1).tolist() == [True, False, False, False]


def test_a_factor_of_zero_behind_a_max_pool_leaves_the_shift() -> None:
    model = sequential((4, 4, 1), L.Conv2D(2, 1), L.MaxPooling2D(2), L.BatchNormalization(), spike())
    model.layers[2].set_weights([np.zeros(2), np.array([0.5, 0.25]), np.zeros(2), np.ones(2)])
    frames = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
    report = strop.verify(model, frames, backends=("reference",))
    assert report.passed
    assert [layer.spikes for layer in report.keras.layers] == [3 * 4]


@pytest.mark.parametrize("encoding", ["bitplane", "binary", "current"])
def test_encodings_are_exact(encoding: str) -> None:
    layers = [L.Conv2D(3, 3, padding="same"), spike(), L.MaxPooling2D(2), L.Flatten(), L.Dense(5), spike()]
    prove(sequential((6, 6, 2), *layers), 3, encoding=encoding)


@pytest.mark.parametrize("encoding", ["bitplane", "binary", "current"])
def test_populations_fed_by_input_and_spikes_run_under_the_other_encodings(encoding: str) -> None:
    x = inputs = keras.Input((6, 6, 1))
    y = spike()(L.Conv2D(2, 3, padding="same")(x))
    z = spike()(L.Conv2D(3, 3)(L.Concatenate()([x, y])))
    prove(keras.Model(inputs, z), 1, encoding=encoding)


def test_bit_planes_are_folded_into_the_kernel() -> None:
    graph = strop.lower(sequential((5, 5, 2), L.Conv2D(3, 3), spike()), encoding="bitplane")
    operator = graph.projections[0].operator
    assert type(operator).__name__ == "Convolution"
    assert operator.shape_in == (5, 5, 16)
