"""The recipes: fully sharpened networks come out, as good as promised, and bad input is refused."""

import sys

import keras
import numpy as np
import pytest

from strop.errors import DataError, NotSharpenedError
from strop.keras import SoftmaxDecode, SpikingBReLU, get_sharpness
from strop.keras.recipes import load_digits, train_digits, train_mnist


@pytest.fixture(scope="module")
def digits():
    return train_digits()


def kinds(model):
    return {type(layer) for layer in model.layers}


def test_digits_come_out_fully_sharpened_and_right_in_19_of_20_cases(digits):
    assert digits.accuracy >= 0.95
    assert set(get_sharpness(digits.model).values()) == {1.0}
    assert digits.history["sharpness"][0] == 0.0
    assert digits.history["sharpness"][-1] == 1.0
    assert 4 < len(digits.history["val_accuracy"]) <= 16


def test_accuracy_is_that_of_the_model_on_the_frames_handed_over(digits):
    assert digits.x_test.shape == (360, 8, 8, 1)
    assert digits.x_test.dtype == np.float32
    assert digits.x_test.min() == 0.0
    assert digits.x_test.max() == 1.0
    classes = digits.model.predict(digits.x_test, verbose=0).argmax(axis=1)
    assert digits.accuracy == (classes == digits.y_test).mean()


def test_every_spiking_layer_of_the_digits_sends_only_zeros_and_ones_and_both(digits):
    spiking = [layer.output for layer in digits.model.layers if isinstance(layer, SpikingBReLU)]
    for spikes in keras.Model(digits.model.inputs, spiking).predict(digits.x_test, verbose=0):
        assert set(np.unique(spikes)) == {0.0, 1.0}


def test_digits_network_has_a_bit_of_everything(digits):
    expected = {
        keras.layers.Conv2D,
        keras.layers.BatchNormalization,
        keras.layers.MaxPooling2D,
        keras.layers.Dense,
        SpikingBReLU,
        SoftmaxDecode,
    }
    assert expected <= kinds(digits.model)


def test_digits_survive_saving(digits, tmp_path):
    digits.model.save(tmp_path / "digits.keras")
    loaded = keras.saving.load_model(tmp_path / "digits.keras")
    expected = digits.model.predict(digits.x_test, verbose=0)
    np.testing.assert_array_equal(loaded.predict(digits.x_test, verbose=0), expected)


def test_split_is_fixed_complete_and_stratified():
    parts, again = load_digits(), load_digits()
    assert [len(frames) for frames, _ in parts] == [1293, 144, 360]
    for (frames, labels), (same_frames, same_labels) in zip(parts, again, strict=True):
        np.testing.assert_array_equal(frames, same_frames)
        np.testing.assert_array_equal(labels, same_labels)
        counts = np.bincount(labels) / len(labels)
        assert counts.min() > 0.09
        assert counts.max() < 0.11
    np.testing.assert_array_equal(parts[0][0] * 16, np.round(parts[0][0] * 16))


class Count(keras.callbacks.Callback):
    def __init__(self, stop_after=99):
        super().__init__()
        self.epochs, self.stop_after = 0, stop_after

    def on_epoch_end(self, epoch, logs=None):
        assert "sharpness" in logs
        self.epochs += 1
        if self.epochs == self.stop_after:
            self.model.stop_training = True


def test_digits_without_convolution_and_with_callbacks_of_ones_own():
    count = Count()
    trained = train_digits(epochs=4, conv=False, callbacks=[count])
    assert set(get_sharpness(trained.model).values()) == {1.0}
    assert keras.layers.Conv2D not in kinds(trained.model)
    assert count.epochs == 4
    assert trained.accuracy >= 0.8


def test_too_few_epochs_are_refused_before_training():
    with pytest.raises(DataError, match="3 epochs are too few to sharpen 3 layers; give at least 4"):
        train_digits(epochs=3)


def test_missing_scikit_learn_is_named_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'strop\[keras\]'"):
        load_digits()


def stripes(count, dtype=np.uint8):
    """Return 28x28 frames of ten classes, one bright band each, and their labels."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 10
    frames = rng.integers(0, 60, (count, 28, 28))
    for frame, label in zip(frames, labels, strict=True):
        frame[2 * label : 2 * label + 4] += 180
    return (frames.astype(np.uint8) if dtype == np.uint8 else frames.astype(dtype) / dtype(255)), labels


@pytest.mark.parametrize(
    ("architecture", "epochs", "shape", "layers"),
    [("mlp", 6, (28, 28), 3), ("lenet", 7, (28, 28, 1), 5), ("convnet", 5, (28, 28, 1), 4)],
)
def test_mnist_recipe_learns_bands_fully_sharpened(architecture, epochs, shape, layers):
    trained = train_mnist(*stripes(600), *stripes(60), architecture=architecture, epochs=epochs)
    assert trained.x_test.shape == (60, *shape)
    assert trained.x_test.dtype == np.float32
    assert trained.x_test.max() <= 1.0
    assert list(get_sharpness(trained.model).values()) == [1.0] * layers
    assert trained.accuracy >= 0.8
    assert len(trained.history["loss"]) == epochs


def test_same_frames_and_seed_give_the_same_network_bytes_or_floats():
    def train(dtype, seed):
        return train_mnist(*stripes(48, dtype), *stripes(12, dtype), epochs=4, seed=seed)

    first, same, other = train(np.uint8, 1), train(np.float32, 1), train(np.uint8, 2)
    np.testing.assert_array_equal(first.x_test, same.x_test)
    outputs = [trained.model.predict(first.x_test, verbose=0) for trained in (first, same, other)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - outputs[2]).max() > 0.1


def test_callback_that_stops_early_cannot_pass_off_a_blunt_network():
    with pytest.raises(NotSharpenedError, match=r"before layer 'spiking_brelu.*' was fully sharpened"):
        train_mnist(*stripes(48), *stripes(12), epochs=5, callbacks=[Count(stop_after=2)])


FRAMES, LABELS = stripes(24)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x_train": FRAMES[:, :27]}, r"training frames must have shape .* got \(24, 27, 28\)"),
        ({"x_test": FRAMES.reshape(24, 784)}, r"test frames must have shape"),
        ({"x_test": FRAMES[:0], "y_test": LABELS[:0]}, r"test frames must have shape .* got \(0, 28, 28\)"),
        ({"y_train": LABELS[:-1]}, "training labels must be 24 integers"),
        ({"y_train": LABELS + 0.5}, "training labels must be 24 integers"),
        ({"y_test": LABELS - 1}, "test labels must lie in 0 to 9, got -1 to 8"),
        ({"y_test": LABELS + 1}, "test labels must lie in 0 to 9, got 1 to 10"),
        ({"x_train": FRAMES.astype(np.float32)}, "training frames of floats must lie in"),
        ({"x_train": np.full((24, 28, 28), np.nan)}, "training frames of floats must lie in"),
        ({"x_train": FRAMES[:11], "y_train": LABELS[:11]}, "11 training frames are too few"),
        ({"architecture": "vgg"}, "architecture must be 'mlp', 'lenet' or 'convnet', got 'vgg'"),
        ({"architecture": "lenet", "epochs": 5}, "5 epochs are too few to sharpen 5 layers"),
        ({"architecture": "convnet", "epochs": 3}, "3 epochs are too few to sharpen 4 layers; give at least 4"),
    ],
)
def test_what_mnist_cannot_be_is_refused_with_the_reason(changes, match):
    good = {"x_train": FRAMES, "y_train": LABELS, "x_test": FRAMES, "y_test": LABELS}
    with pytest.raises(DataError, match=match):
        train_mnist(**{**good, **changes})
