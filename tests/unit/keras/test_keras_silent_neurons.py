"""Dead and stuck neurons, and the statistics of batch normalisation since the network changed."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import strop.keras
from strop.errors import DataError
from strop.keras import SpikingBReLU, SpikingSigmoid, neuron_report
from strop.keras.sharpening.batchnorm import MovingStatistics

FRAMES = np.float32([[0.0], [0.5], [1.0], [0.25]])


def identity_model(activation, weights):
    model = keras.Sequential([keras.Input((1,)), kl.Dense(len(weights), use_bias=False), activation])
    model.layers[0].kernel.assign(np.float32([weights]))
    return model


def test_dead_and_stuck_neurons_are_counted_per_layer():
    first, second = SpikingBReLU(1.0, name="a"), SpikingSigmoid(1.0, name="b")
    model = keras.Sequential([keras.Input((1,)), kl.Dense(4), first, kl.Dense(2, activation=second)])
    model.layers[0].kernel.assign(np.float32([[1, 2, 0, 0]]))
    model.layers[0].bias.assign(np.float32([0, 0, 0.49, 0.5]))
    model.layers[2].kernel.assign(np.zeros((4, 2), np.float32))
    model.layers[2].bias.assign(np.float32([-1e-6, 0.0]))
    report = neuron_report(model, FRAMES)
    assert report.frames == 4
    a, b = report.layers
    assert (a.name, b.name) == ("a", "b")
    np.testing.assert_array_equal(a.spikes, [2, 3, 0, 4])
    np.testing.assert_array_equal(b.spikes, [0, 4])
    assert (a.units, a.dead, a.stuck, a.rate) == (4, 1, 1, 9 / 16)
    assert (report.dead, report.stuck) == (2, 2)
    assert report.to_dict()["layers"][1]["dead"] == 1


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("layer", "threshold"), [(SpikingBReLU, 0.5), (SpikingSigmoid, 0.0)])
def test_neuron_fires_at_its_threshold_however_sharp_it_is(layer, threshold, sharpness):
    model = identity_model(layer(sharpness), [1.0])
    step = np.float32(1e-3)
    frames = np.float32([[threshold - step], [threshold], [threshold + step]])
    np.testing.assert_array_equal(neuron_report(model, frames).layers[0].spikes, [2])


def test_batches_of_any_size_give_the_same_counts_and_bytes_are_scaled():
    model = identity_model(SpikingBReLU(1.0), [1.0, 0.5, 0.0])
    frames = np.random.default_rng(0).integers(0, 256, (50, 1)).astype(np.uint8)
    expected = neuron_report(model, frames / np.float32(255))
    assert 0 < expected.layers[0].spikes[0] < 50
    for size in (1, 7, 50, 64):
        np.testing.assert_array_equal(
            neuron_report(model, frames, batch_size=size).layers[0].spikes[0], (frames > 127).sum()
        )


def test_convolutions_tell_filters_from_neurons():
    model = keras.Sequential([keras.Input((4, 4, 1)), kl.Conv2D(3, 1), SpikingBReLU(1.0, name="c")])
    model.layers[0].kernel.assign(np.float32([[[[1.0, 0.0, 0.0]]]]))
    model.layers[0].bias.assign(np.float32([0.0, 0.0, 1.0]))
    frames = np.zeros((5, 4, 4, 1), np.float32)
    frames[0, 1, 1] = 1.0
    (layer,) = neuron_report(model, frames).layers
    assert (layer.units, layer.dead, layer.stuck) == (48, 15 + 16, 16)
    assert (layer.channels, layer.dead_channels, layer.stuck_channels) == (3, 1, 1)
    assert "(filters: 1 of 3 dead, 1 stuck)" in str(neuron_report(model, frames))


def test_shared_layers_and_several_inputs_are_followed():
    shared = SpikingBReLU(1.0, name="shared")
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    joined = kl.Concatenate()([shared(a), shared(b), shared(a * 0.0)])
    model = keras.Model([a, b], joined)
    frames = [np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)]
    narrow, wide = neuron_report(model, frames).layers
    assert (narrow.name, narrow.frames, narrow.dead, narrow.stuck) == ("shared#1", 8, 0, 0)
    assert (wide.name, wide.frames, wide.dead, wide.stuck) == ("shared#2", 4, 3, 0)
    np.testing.assert_array_equal(narrow.spikes, [4, 4])


def test_looking_on_leaves_the_model_as_it_was():
    model = identity_model(SpikingBReLU(1.0, name="s"), [1.0])
    before = model.predict(FRAMES, verbose=0)
    neuron_report(model, FRAMES)
    assert model.layers[1].observer is None
    np.testing.assert_array_equal(model.predict(FRAMES, verbose=0), before)
    with pytest.raises(ValueError):
        neuron_report(model, np.zeros((3, 5), np.float32))
    assert model.layers[1].observer is None


def test_what_cannot_be_reported_on_is_refused():
    with pytest.raises(DataError, match="has no spiking activation to report on"):
        neuron_report(keras.Sequential([keras.Input((1,)), kl.Dense(2)]), FRAMES)
    model = identity_model(SpikingBReLU(), [1.0])
    with pytest.raises(DataError, match="at least one"):
        neuron_report(model, FRAMES[:0])
    with pytest.raises(DataError, match="arrays of frames"):
        neuron_report(model, 3.0)


def trained(model, batches):
    for batch in batches:
        model(batch, training=True)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_statistics_are_those_of_the_batches_since_the_restart(momentum):
    rng = np.random.default_rng(0)
    norm = kl.BatchNormalization(momentum=momentum)
    model = keras.Sequential([keras.Input((3,)), norm])
    trained(model, rng.normal(50, 9, (20, 8, 3)).astype(np.float32))  # what was before
    statistics = MovingStatistics(model)
    statistics.restart()
    batches = rng.normal(1, 2, (7, 8, 3)).astype(np.float32)
    weights = momentum ** np.arange(6, -1, -1.0)
    weights /= weights.sum()
    trained(model, batches[:3])
    statistics.settle(3)
    trained(model, batches[3:])
    statistics.settle(4)
    np.testing.assert_allclose(np.asarray(norm.moving_mean), weights @ batches.mean(axis=1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.asarray(norm.moving_variance), weights @ batches.var(axis=1), rtol=1e-3, atol=1e-3)


def test_shared_normalisation_is_updated_twice_per_batch():
    norm = kl.BatchNormalization(momentum=0.9)
    inner_in = keras.Input((3,))
    inner = keras.Model(inner_in, norm(inner_in))
    i = keras.Input((3,))
    model = keras.Model(i, kl.Add()([inner(i), inner(i + 0.0)]))
    norm.moving_mean.assign([100.0] * 3)
    statistics = MovingStatistics(model)
    batch = np.random.default_rng(0).normal(1, 2, (8, 3)).astype(np.float32)
    trained(model, [batch] * 2)
    statistics.settle(2)
    np.testing.assert_allclose(np.asarray(norm.moving_mean), batch.mean(axis=0), rtol=1e-3, atol=1e-3)


def test_statistics_that_are_frozen_or_cannot_be_counted_stay():
    norm = kl.BatchNormalization()
    norm.trainable = False
    model = keras.Sequential([keras.Input((3,)), norm])
    norm.moving_mean.assign([1.0, 2.0, 3.0])
    statistics = MovingStatistics(model)
    trained(model, np.zeros((5, 8, 3), np.float32))
    statistics.settle(5)
    np.testing.assert_allclose(np.asarray(norm.moving_mean), [1, 2, 3], rtol=1e-5)

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = kl.BatchNormalization(momentum=0.5)

        def call(self, x, training=False):
            return self.norm(x, training=training)

    model = Own()
    trained(model, np.ones((1, 8, 3), np.float32))
    statistics = MovingStatistics(model)
    trained(model, np.ones((2, 8, 3), np.float32))
    statistics.settle(2)
    np.testing.assert_allclose(np.asarray(model.norm.moving_mean), [0.875] * 3)


def test_the_old_names_warn_and_work():
    for old, new in (("unit_report", "neuron_report"), ("UnitReport", "NeuronReport")):
        with pytest.warns(DeprecationWarning, match=rf"strop\.keras\.{old} is strop\.keras\.{new} now"):
            assert getattr(strop.keras, old) is getattr(strop.keras, new)
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(strop.keras, "no_such_name")  # noqa: B009  # as a user's typo
    sharpener = strop.keras.AutoSharpener()
    with pytest.warns(DeprecationWarning, match=r"AutoSharpener\.neurons"):
        assert sharpener.units is sharpener.neurons
