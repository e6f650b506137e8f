"""The MNIST network's settings, and the sharpening that goes with it."""

import dataclasses

import keras
import numpy as np
import pytest

from strop.errors import DataError
from strop.keras import SoftmaxDecode, get_sharpness
from strop.keras.recipes.convnet import ConvnetSettings, fit_convnet, mnist_convnet

SMALL = ConvnetSettings(filters=(2, 3), dense=12, width=20, batch_size=4)


def frames(count):
    rng = np.random.default_rng(0)
    return rng.random((count, 28, 28, 1), dtype=np.float32), (np.arange(count) % 10).astype(np.int64)


def fitted(settings, epochs):
    keras.utils.set_random_seed(0)
    model = mnist_convnet(settings, seed=0)
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(get_sharpness(model)))
    # 160 frames in batches of 4: 40 batches an epoch, so that sharpening moves twice in each.
    history = fit_convnet(model, *frames(160), frames(20), settings, epochs=epochs, callbacks=[callback])
    return model, history, [list(sharpness.values()) for sharpness in seen]


def test_layers_sharpen_one_after_the_other_and_training_goes_on():
    _, history, sharpness = fitted(dataclasses.replace(SMALL, blunt_epochs=1, sharpening_epochs=0.5), 5)
    assert sharpness == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert history["sharpness"] == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert len(history["val_accuracy"]) == 5


def test_thresholds_from_the_first_batch():
    _, _, sharpness = fitted(dataclasses.replace(SMALL, sharpening_epochs=0), 1)
    assert sharpness == [[1, 1, 1, 1]]


def test_learning_rate_falls_to_zero_in_the_last_batch():
    model, _, _ = fitted(SMALL, 4)
    assert float(model.optimizer.learning_rate) < 1e-6
    assert int(model.optimizer.iterations.value) == 4 * 40
    model, _, _ = fitted(dataclasses.replace(SMALL, schedule="constant", optimizer="adadelta", learning_rate=2.0), 4)
    assert float(model.optimizer.learning_rate) == 2.0


def test_settings_are_what_the_network_is_made_of():
    model = mnist_convnet(ConvnetSettings(), seed=3)
    decoder = model.layers[-1]
    assert isinstance(decoder, SoftmaxDecode)
    assert decoder.key.shape == (10, 200)
    assert decoder.temperature == 16
    np.testing.assert_array_equal(decoder.key.sum(axis=1), 60)
    assert model.count_params() < 1_000_000
    dense = mnist_convnet(dataclasses.replace(SMALL, width=0), seed=3)
    assert dense.layers[-1].units == 10
    assert len(get_sharpness(dense)) == 3


def test_epochs_that_end_before_the_sharpening_are_refused():
    with pytest.raises(DataError, match="2 epochs are too few to sharpen 4 layers; give at least 4"):
        fitted(SMALL, 2)
