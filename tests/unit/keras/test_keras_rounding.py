"""Training with weights of few bits: what is rounded and when, what comes out, and that quantising changes nothing."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers as kl

import strop
from strop.errors import DataError, ModelFileError, UnsupportedLayerError
from strop.graph.stage_weights import stage_weights
from strop.keras import (
    AutoSharpener,
    Heaviside,
    SimpleSharpener,
    SoftmaxDecode,
    SpikingBReLU,
    key_generator,
    set_sharpness,
)
from strop.keras.recipes.convnet import ConvnetSettings, fit_convnet, mnist_convnet
from strop.keras.sharpening.rounding import WeightRounding, is_rounding, rounded, rounded_kernels
from strop.quantization.kernels import Kernel
from strop.quantization.quantize import quantize_report
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 96)
X = np.float32(np.eye(3)[Y] @ RNG.random((3, 6)) + 0.1 * RNG.random((96, 6)))
X = np.float32(np.rint(255.0 * X / X.max()) / 255.0)  # what eight bit planes carry
SHARP = {"sharpness": 1.0, "surrogate_width": 1.0}


def network(*, eager=True):
    """Return three layers of spikes: as argument of a layer with a bias, in a nested model, behind a normalisation."""
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((16,)), kl.Dense(12), SpikingBReLU(surrogate_width=1.0)], name="inner")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            kl.Dense(16, activation=SpikingBReLU(surrogate_width=1.0)),
            inner,
            kl.Dense(9, use_bias=False),
            kl.BatchNormalization(momentum=0.8),
            SpikingBReLU(surrogate_width=1.0),
            SoftmaxDecode(key_generator(3, 9, seed=0)),
        ]
    )
    # Tracing a graph takes longer than these few batches.
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["acc"], run_eagerly=eager)
    return model


def fit(model, *callbacks, epochs=6, **arguments):
    arguments = {"batch_size": len(X), "verbose": 0, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **arguments).history


def kernels(model):
    return [np.asarray(kernel.layer.kernel) for kernel in rounded_kernels(model)]


def whole(kernel, bits):
    """Return a kernel as whole numbers, each column by its own scale; assert that it is nothing else."""
    most = max(2 ** (bits - 1) - 1, 1)
    columns = np.float64(kernel).reshape(-1, kernel.shape[-1])
    heaviest = np.abs(columns).max(axis=0)
    found = np.full(columns.shape, np.nan)
    for n in range(most, 0, -1):
        numbers = columns * n / heaviest
        found = np.where((numbers == np.rint(numbers)).all(axis=0), numbers, found)
    assert not np.isnan(found).any()
    return found


@pytest.mark.parametrize("bits", range(1, 9))
def test_rounded_weights_are_whole_numbers_of_so_many_bits_times_a_scale(bits):
    weights = np.float32(RNG.normal(size=(40, 5)) * [1e-3, 0.03, 0.1, 1.0, 30.0])
    result = np.asarray(rounded(weights, bits))
    numbers = whole(result, bits)
    # Scales are multiples of 2^-16 and products are exact: the whole numbers come back from them.
    assert (result * 2.0**16 == np.rint(result * 2.0**16)).all()
    assert (numbers != 0).all() == (bits == 1)
    assert (np.sign(numbers) * np.sign(weights) >= 0).all()
    if bits > 1:
        error = np.square(result - weights).mean(axis=0) / np.square(weights).mean(axis=0)
        # Of normally distributed weights (Max 1960): 0.19 with 2 bits, about a quarter of it for each more.
        assert (error[1:] < 0.4 * 0.3 ** (bits - 2) + 1e-3).all()


def test_signs_have_the_mean_magnitude_and_none_is_zero():
    result = np.asarray(rounded(np.float32([[0.5, 0.0], [-0.25, -1.0], [0.0, 0.5]]), 1))
    np.testing.assert_array_equal(result, np.float32([[0.25, 0.5], [-0.25, -0.5], [0.25, 0.5]]))


def test_a_neuron_without_weights_stays_without():
    assert not np.asarray(rounded(np.zeros((4, 2), "float32"), 4)).any()


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (kl.Conv2D(3, 3), (6, 6, 2), (0, 1, 2)),
        (kl.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 2), (0, 1)),
        (kl.Conv1DTranspose(3, 3), (6, 2), (0, 2)),
        (kl.EinsumDense("ab,bc->ac", 4), (6,), (0, 1)),
    ],
)
def test_each_channel_of_a_kernel_has_its_scale(layer, shape, axes):
    model = keras.Sequential([keras.Input(shape), layer, SpikingBReLU(sharpness=1.0)])
    before = np.abs(np.asarray(layer.kernel)).mean(axis=axes, keepdims=True)
    rounding = WeightRounding(1)
    rounding.begin(model)
    rounding.end(model)
    after = np.asarray(layer.kernel)
    np.testing.assert_allclose(np.abs(after), np.broadcast_to(before, after.shape), atol=2.0**-16)
    assert strop.certify(strop.quantize(model, "int1"), "int1").holds


@pytest.mark.parametrize(("bits", "eager"), [(1, True), (3, False)])
def test_what_was_trained_with_few_bits_is_quantised_without_a_change(bits, eager, tmp_path):
    model, sharpener = network(eager=eager), AutoSharpener(weight_bits=bits)
    if not eager:
        model.evaluate(X, Y, verbose=0)  # what was traced before training must not be used in it
    history = fit(model, sharpener, validation_data=(X, Y))
    assert sharpener.best_epoch is not None
    assert f"weights of {bits} bits" in sharpener.summary
    # The network that is left is the one that was validated.
    assert model.evaluate(X, Y, verbose=0)[1] == pytest.approx(history["val_acc"][sharpener.best_epoch])
    # It is an ordinary one, and so is its file.
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    model.save(tmp_path / "net.keras")
    assert [len(whole(kernel, bits)) for kernel in kernels(keras.saving.load_model(tmp_path / "net.keras"))] == [
        6,
        16,
        12,
    ]

    graph = strop.lower(tmp_path / "net.keras")
    report = quantize_report(graph, "float64", bits, X)
    assert all(row.exact and row.weight_bits <= max(bits - 1, 1) for row in report.populations)
    assert [row.changed for row in report.populations] == [0, 0]
    assert strop.certify(report.graph, f"int{bits}").holds
    # The whole numbers are those of the kernels, whatever sign a normalisation has.
    for projection, kernel in zip(report.graph.projections[1:], kernels(model)[1:], strict=True):
        found = stage_weights(Kernel.of(projection.source, projection.operator).core)
        np.testing.assert_array_equal(np.abs(whole(np.float32(found), bits)), np.abs(whole(kernel, bits)))
    spikes = [evaluate(each, encode(each, as_frames(each, X))) for each in (graph, report.graph)]
    for name in graph.population_names:
        np.testing.assert_array_equal(spikes[0][name], spikes[1][name])
        assert spikes[0][name].any()

    # With bit planes the first layer is on the target as well, each plane with twice the weights of the one before.
    report = quantize_report(tmp_path / "net.keras", "spinnaker", frames=X, encoding="bitplane")
    assert [(row.exact, row.changed) for row in report.populations] == [(True, 0)] * 3
    assert strop.certify(report.graph, "spinnaker").holds

    # One weight that is off by a hundredth is noticed.
    kernel = rounded_kernels(model)[1].layer.kernel
    values = np.array(kernel)
    values[np.unravel_index(np.abs(values).argmax(), values.shape)] *= 1.01
    kernel.assign(values)
    assert [row.exact for row in quantize_report(model, "float64", bits).populations] == [False, True]


def one_neuron(sharpness=1.0):
    dense = kl.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((3,)), dense, SpikingBReLU(sharpness=sharpness, surrogate_width=1.0)])
    dense.kernel.assign(np.float32([[0.3], [0.3], [-0.03]]))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model, dense


def test_the_network_computes_with_rounded_weights_and_its_gradient_goes_to_those_that_are_not():
    x, target = np.ones((1, 3), np.float32), np.ones((1, 1), np.float32)
    model, dense = one_neuron()
    assert float(model.predict_on_batch(x)[0, 0]) == 1.0  # 0.57 is above the threshold
    rounding = WeightRounding(1)
    rounding.begin(model)
    assert float(model.predict_on_batch(x)[0, 0]) == 0.0  # signs times 0.21 are below
    before = np.asarray(dense.kernel)
    model.train_on_batch(x, target)
    # d/dw (s - 1)^2 with s = 0 and a slope of 1.
    np.testing.assert_allclose(np.asarray(dense.kernel) - before, 0.1 * 2.0 * x.T, rtol=1e-5)
    kernel = np.asarray(dense.kernel)
    rounding.end(model)
    np.testing.assert_array_equal(np.asarray(dense.kernel), np.asarray(rounded(kernel, 1)))


def test_a_layer_is_rounded_only_where_its_spikes_are_thresholds():
    x = np.ones((1, 3), np.float32)
    model, dense = one_neuron(sharpness=0.5)
    plain, before = model.predict_on_batch(x), np.asarray(dense.kernel)
    rounding = WeightRounding(1)
    rounding.begin(model)
    np.testing.assert_array_equal(model.predict_on_batch(x), plain)
    set_sharpness(model, 1.0)
    assert float(model.predict_on_batch(x)[0, 0]) == 0.0
    set_sharpness(model, 0.5)
    rounding.end(model)
    np.testing.assert_array_equal(np.asarray(dense.kernel), before)


def test_a_training_that_was_broken_off_is_not_lowered():
    model, _ = one_neuron()
    rounding = WeightRounding(2)
    rounding.begin(model)
    with pytest.raises(UnsupportedLayerError, match="call fit again"):
        strop.lower(model)
    rounding.end(model)
    assert not any(is_rounding(layer) for layer in model.layers)
    strop.lower(model)


def test_without_a_sharp_epoch_weights_stay_as_they_are():
    model = network()
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    with pytest.warns(UserWarning, match="without a fully sharpened epoch"):
        fit(model, AutoSharpener(weight_bits=1), stop)
    assert all(len(np.unique(np.abs(kernel[:, 0]))) > 2 for kernel in kernels(model))
    assert not any(is_rounding(layer) for layer in model._flatten_layers())


def test_resuming_goes_on_with_the_weights_that_are_not_rounded(tmp_path):
    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), AutoSharpener(tmp_path / "run", weight_bits=1), Break(), epochs=6)
    seen = []
    model, sharpener = network(), AutoSharpener(tmp_path / "run", weight_bits=1)
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append((epoch, kernels(model))))
    fit(model, sharpener, look, epochs=6)
    assert seen[0][0] == 5
    assert all(len(np.unique(np.abs(kernel[:, 0]))) > 2 for kernel in seen[0][1])
    ended = kernels(model)
    assert all(len(np.unique(np.abs(kernel[:, 0]))) == 1 for kernel in ended)
    # One that is finished only gives its best weights back, rounded.
    again = network()
    fit(again, AutoSharpener(tmp_path / "run", weight_bits=1), epochs=6)
    for found, wanted in zip(kernels(again), ended, strict=True):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ModelFileError, match="weight_bits=1, and this one has weight_bits=2"):
        fit(network(), AutoSharpener(tmp_path / "run", weight_bits=2), epochs=6)


def test_rounding_goes_with_other_sharpeners_and_leaves_the_readout_alone():
    keras.utils.set_random_seed(0)
    readout = kl.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((6,)), kl.Dense(8), SpikingBReLU(surrogate_width=1.0), readout])
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    fit(model, SimpleSharpener(1, 1), WeightRounding(1), epochs=4)
    whole(np.asarray(model.layers[0].kernel), 1)
    assert len(np.unique(np.abs(np.asarray(readout.kernel)[:, 0]))) == 8


def test_the_convnet_trains_with_few_bits(monkeypatch):
    settings = ConvnetSettings(filters=(2, 3), dense=12, width=20, batch_size=8, sharpening_epochs=0, weight_bits=2)
    model = mnist_convnet(settings, seed=0)
    # Tracing takes far longer than these two batches.
    monkeypatch.setattr(model, "compile", partial(model.compile, run_eagerly=True))
    frames, labels = RNG.random((16, 28, 28, 1), dtype=np.float32), np.arange(16) % 10
    fit_convnet(model, frames, labels, (frames, labels), settings, epochs=1)
    report = quantize_report(model, "int2")
    assert all(row.exact for row in report.populations)
    assert len(kernels(model)) == 4


@pytest.mark.parametrize("bits", [0, 9, 2.0, True, "4"])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(DataError, match="weight_bits of AutoSharpener must be a whole number from 1"):
        AutoSharpener(weight_bits=bits)


def spikes():
    return SpikingBReLU(**SHARP)


def sequence(*layers, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *layers])


def summed():
    node = keras.Input((6,))
    return keras.Model(node, spikes()(kl.Add()([kl.Dense(4)(node), kl.Dense(4)(node)])))


def joined():
    node = keras.Input((6,))
    return keras.Model(node, spikes()(kl.Concatenate()([kl.Dense(4)(node), kl.Dense(3)(node)])))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (summed, "adds up what weights of several scales bring"),
        (lambda: sequence(kl.Dense(4), kl.Dense(3), spikes()), "without spikes between them"),
        (lambda: sequence(spikes(), kl.BatchNormalization(), kl.Dense(3), spikes()), "scales spikes"),
        (lambda: sequence(kl.SeparableConv1D(3, 2), spikes(), shape=(6, 2)), r"\(SeparableConv1D\) has kernels"),
        (lambda: sequence(kl.Dense(4, dtype="mixed_float16"), spikes()), "computes in float16"),
    ],
)
def test_what_cannot_have_one_scale_per_neuron_is_refused(model, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        WeightRounding(4).begin(model())


def test_kernels_are_found_through_pools_joins_and_other_thresholds():
    assert len(rounded_kernels(joined())) == 2
    inner = sequence(kl.Conv1D(3, 2), kl.MaxPooling1D(), kl.BatchNormalization(), shape=(8, 2))
    model = sequence(
        inner, spikes(), kl.Conv1D(4, 2), Heaviside(), kl.Flatten(), kl.Dense(3, activation=spikes()), shape=(8, 2)
    )
    found = rounded_kernels(model)
    assert [type(kernel.layer).__name__ for kernel in found] == ["Conv1D", "Conv1D", "Dense"]
    assert [len(kernel.activations) for kernel in found] == [1, 0, 1]
