"""Training recipes: networks that come out fully sharpened, on digits that are at hand and on MNIST.

They are behind `strop train` and `strop demo`, and are meant to be read as examples of the method.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.errors import DataError, NotSharpenedError
from strop.keras.activations import SpikingBReLU
from strop.keras.decoder import SoftmaxDecode, key_generator
from strop.keras.recipes.convnet import ConvnetSettings, fit_convnet, mnist_convnet
from strop.keras.sharpening.auto import AutoSharpener
from strop.keras.sharpening.rounding import checked_bits
from strop.keras.sharpness import get_sharpness, spiking_layers

layers = keras.layers

_NUM_CLASSES = 10
# A third of the output neurons for each class rather than a tenth: the codes of two classes then differ in some 40 %
# of the neurons, so that several of them may be wrong.
_KEY_SPARSITY = 0.3
# With a surrogate gradient as wide as the smooth slope, thresholds go on learning and make up for the sharpening.
_SURROGATE_WIDTH = 1.0
_LEARNING_RATE = 0.002
_CONVNET_EPOCHS = 16
_VALIDATION_DIGITS, _TEST_DIGITS = 144, 360


@dataclass(frozen=True)
class TrainedModel:
    """A fully sharpened network, and the frames on which it was tested."""

    model: Any
    """The Keras model; every spiking activation has sharpness 1."""
    x_test: NDArray[np.float32]
    """Test frames, shape (n, *input_shape), in [0, 1]."""
    y_test: NDArray[np.int64]
    """Their classes, shape (n,)."""
    history: dict[str, list[float]]
    """One number per epoch for each of Keras's logs, the sharpness of every layer included."""
    accuracy: float
    """Fraction of the test frames that the sharpened network gets right."""


def train_digits(
    *,
    epochs: int = 16,
    seed: int = 0,
    conv: bool = True,
    verbose: int = 0,
    callbacks: Sequence[Any] = (),
    weight_bits: int | None = None,
) -> TrainedModel:
    """Train and sharpen a small network on scikit-learn's bundled 8x8 digits; nothing is downloaded.

    >>> trained = train_digits()
    >>> strop.verify(trained.model, trained.x_test)

    1,293 digits, shifted by a pixel in each direction to make five times as many, are trained on; 144 give the
    validation figures in the history; 360 are looked at once, when the network is finished. The split is always the
    same, stratified by class.

    Parameters
    ----------
    epochs : int
        The most that are trained; at least one for each spiking layer and one more. Training stops earlier when it
        is done.
    seed : int
        Of Keras, NumPy and Python; the same seed gives the same network on the same machine.
    conv : bool
        Convolution, batch normalisation, max pooling and two dense layers; otherwise three dense layers.
    verbose : int
        As in `keras.Model.fit`.
    callbacks : sequence of keras.callbacks.Callback
        In addition to the sharpener, and after it.
    weight_bits : int, 1 to 8, optional
        Train weights of so few bits, as `AutoSharpener` does.

    Returns
    -------
    TrainedModel
        With frames of shape (360, 8, 8, 1).

    Raises
    ------
    DataError
        If there are too few epochs to sharpen in.
    NotSharpenedError
        If one of the callbacks stopped the training before the network was fully sharpened.
    """
    keras.utils.set_random_seed(seed)
    (x_train, y_train), validation, (x_test, y_test) = load_digits()
    shifts = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    x_train = np.concatenate([_shifted(x_train, *shift) for shift in shifts])
    y_train = np.tile(y_train, len(shifts))
    model = _digits_convnet(seed) if conv else _digits_mlp(seed)
    history = _fit(model, x_train, y_train, validation, epochs, 64, verbose, callbacks, weight_bits)
    return _finished(model, x_test, y_test, history)


def train_mnist(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    architecture: Literal["mlp", "lenet", "convnet"] = "mlp",
    epochs: int | None = None,
    seed: int = 0,
    verbose: int = 0,
    callbacks: Sequence[Any] = (),
    weight_bits: int | None = None,
) -> TrainedModel:
    """Train and sharpen a network of the Whetstone paper's kind on MNIST, or on other ten classes of 28x28 frames.

    >>> data = np.load("mnist.npz")
    >>> train_mnist(data["x_train"], data["y_train"], data["x_test"], data["y_test"])

    The last twelfth of the training frames gives the validation figures in the history. The test frames are looked at
    once, when the network is finished.

    Parameters
    ----------
    x_train, x_test : array, shape (n, 28, 28) or (n, 28, 28, 1), uint8 or float in [0, 1]
        uint8 is scaled by 1/255.
    y_train, y_test : array of int, shape (n,), 0 to 9
    architecture : "mlp", "lenet" or "convnet"
        Dense layers of 256, 64 and 100 neurons; or two convolutions 5x5 of 6 and 16 filters with max pooling, and
        dense layers of 120, 84 and 100; or what `strop.keras.recipes.convnet` makes of 32 and 64 filters, the most
        accurate.
    epochs : int, optional
        By default as many as the architecture needs. "convnet" trains exactly as many: its learning rate falls to zero
        in the last one.
    seed, verbose, callbacks, weight_bits
        As in `train_digits`.

    Returns
    -------
    TrainedModel
        With frames of shape (n, 28, 28) for "mlp" and (n, 28, 28, 1) for the others.

    Raises
    ------
    DataError
        If frames or labels have another shape or range, or if there are too few epochs to sharpen in.
    NotSharpenedError
        If one of the callbacks stopped the training before the network was fully sharpened.
    """
    if architecture not in ("mlp", "lenet", "convnet"):
        raise DataError(f"architecture must be 'mlp', 'lenet' or 'convnet', got {architecture!r}")
    frame_shape = (28, 28) if architecture == "mlp" else (28, 28, 1)
    frames, labels = _checked(x_train, y_train, frame_shape, "training")
    test_frames, test_labels = _checked(x_test, y_test, frame_shape, "test")
    held_out = len(frames) // 12
    if held_out == 0:
        raise DataError(f"{len(frames)} training frames are too few; there must be at least 12")
    keras.utils.set_random_seed(seed)
    training = frames[:-held_out], labels[:-held_out]
    validation = frames[-held_out:], labels[-held_out:]
    if architecture == "convnet":
        settings = ConvnetSettings(weight_bits=0 if weight_bits is None else checked_bits(weight_bits, "train_mnist"))
        model = mnist_convnet(settings, seed)
        history = fit_convnet(
            model,
            *training,
            validation,
            settings,
            epochs=_CONVNET_EPOCHS if epochs is None else epochs,
            verbose=verbose,
            callbacks=callbacks,
        )
    else:
        model = _mnist_mlp(seed) if architecture == "mlp" else _mnist_lenet(seed)
        history = _fit(
            model, *training, validation, 24 if epochs is None else epochs, 128, verbose, callbacks, weight_bits
        )
    return _finished(model, test_frames, test_labels, history)


def load_digits() -> tuple[
    tuple[NDArray[np.float32], NDArray[np.int64]],
    tuple[NDArray[np.float32], NDArray[np.int64]],
    tuple[NDArray[np.float32], NDArray[np.int64]],
]:
    """Return scikit-learn's digits as (frames, labels) for training, validation and test, always split the same.

    Returns
    -------
    three pairs (frames, labels)
        1,293, 144 and 360 frames of shape (8, 8, 1), float32, multiples of 1/16 in [0, 1]; stratified by class.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as bundled
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(
            f"the digits come with scikit-learn ({error}); install it with: pip install 'strop[keras]'"
        ) from error
    digits = bundled()
    frames = (digits.images / 16.0).astype(np.float32)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    rest, x_test, rest_labels, y_test = train_test_split(
        frames, labels, test_size=_TEST_DIGITS, random_state=0, stratify=labels
    )
    x_train, x_val, y_train, y_val = train_test_split(
        rest, rest_labels, test_size=_VALIDATION_DIGITS, random_state=0, stratify=rest_labels
    )
    return (x_train, y_train), (x_val, y_val), (x_test, y_test)


def _digits_convnet(seed: int) -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *_convolution_block(32, 3, padding="same"),
            layers.Flatten(),
            layers.Dropout(0.2),
            *_dense_block(256),
            layers.Dropout(0.2),
            *_readout(200, seed, dropout=0.2),
        ],
        name="digits_convnet",
    )


def _digits_mlp(seed: int) -> Any:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            *_dense_block(256),
            layers.Dropout(0.2),
            *_dense_block(256),
            layers.Dropout(0.2),
            *_readout(200, seed, dropout=0.2),
        ],
        name="digits_mlp",
    )


def _mnist_mlp(seed: int) -> Any:
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            *_dense_block(256),
            layers.Dropout(0.2),
            *_dense_block(64),
            *_readout(100, seed, dropout=0.4, temperature=8.0),
        ],
        name="mnist_mlp",
    )


def _mnist_lenet(seed: int) -> Any:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *_convolution_block(6, 5, padding="same"),
            *_convolution_block(16, 5, padding="valid"),
            layers.Flatten(),
            *_dense_block(120),
            *_dense_block(84),
            *_readout(100, seed, dropout=0.4, temperature=8.0),
        ],
        name="mnist_lenet",
    )


def _convolution_block(filters: int, size: int, padding: str) -> list[Any]:
    convolution = layers.Conv2D(filters, size, padding=padding, use_bias=False)
    return [convolution, *_spikes(), layers.MaxPooling2D()]


def _dense_block(neurons: int) -> list[Any]:
    return [layers.Dense(neurons, use_bias=False), *_spikes()]


def _spikes() -> list[Any]:
    # The statistics of batch normalisation have to follow within an epoch when a layer below becomes a threshold.
    return [layers.BatchNormalization(momentum=0.9), SpikingBReLU(surrogate_width=_SURROGATE_WIDTH)]


def _readout(width: int, seed: int, dropout: float, temperature: float = 1.0) -> list[Any]:
    # The softmax is sure long before each neuron is, and would leave many next to their threshold, to tip over when
    # the last layer becomes sharp. Without a part of the spikes, the other neurons have to be right by themselves.
    key = key_generator(_NUM_CLASSES, width, seed=seed, sparsity=_KEY_SPARSITY)
    return [*_dense_block(width), layers.Dropout(dropout), SoftmaxDecode(key, temperature=temperature)]


def _fit(
    model: Any,
    frames: NDArray[np.float32],
    labels: NDArray[np.int64],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    epochs: int,
    batch_size: int,
    verbose: int,
    callbacks: Sequence[Any],
    weight_bits: int | None = None,
) -> dict[str, list[float]]:
    """Train for at most `epochs`, restore the best fully sharpened one, and return the history."""
    count = len(spiking_layers(model))
    if epochs < count + 1:
        raise DataError(f"{epochs} epochs are too few to sharpen {count} layers; give at least {count + 1}")
    # 144 digits cannot tell good epochs from lucky ones; the loss of all training frames under dropout can.
    sharpener = AutoSharpener(
        monitor="loss" if len(validation[0]) < 1000 else "auto", verbose=False, weight_bits=weight_bits
    )
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    with warnings.catch_warnings():
        # `_finished` makes an error of it.
        warnings.filterwarnings("ignore", "training ended without a fully sharpened epoch", UserWarning)
        fitted = model.fit(
            frames,
            labels,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation,
            callbacks=[sharpener, *callbacks],
            verbose=verbose,
        )
    return {name: [float(value) for value in values] for name, values in fitted.history.items()}


def _finished(
    model: Any, x_test: NDArray[np.float32], y_test: NDArray[np.int64], history: dict[str, list[float]]
) -> TrainedModel:
    blunt = {name: value for name, value in get_sharpness(model).items() if value < 1.0}
    if blunt:
        name, value = next(iter(blunt.items()))
        raise NotSharpenedError(
            f"training ended before layer {name!r} was fully sharpened (sharpness {value:g}); "
            "let it run to the end, without callbacks that stop it"
        )
    classes = model.predict(x_test, verbose=0).argmax(axis=-1)
    return TrainedModel(model, x_test, y_test, history, float((classes == y_test).mean()))


def _shifted(frames: NDArray[np.float32], down: int, right: int) -> NDArray[np.float32]:
    """Return the frames moved by `down` and `right` pixels, with zeros moving in."""
    room = np.pad(frames, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = frames.shape[1:3]
    return room[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def _checked(
    frames: ArrayLike, labels: ArrayLike, shape: tuple[int, ...], what: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return frames of `shape` as float32 in [0, 1] and labels as int64, or raise a `DataError` that names `what`."""
    x, y = np.asarray(frames), np.asarray(labels)
    if x.ndim < 3 or x.shape[1:3] != (28, 28) or x.shape[3:] not in ((), (1,)) or len(x) == 0:
        raise DataError(f"{what} frames must have shape (n, 28, 28) or (n, 28, 28, 1), got {x.shape}")
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{what} labels must be {len(x)} integers, got {y.dtype} of shape {y.shape}")
    if y.min() < 0 or y.max() >= _NUM_CLASSES:
        raise DataError(f"{what} labels must lie in 0 to {_NUM_CLASSES - 1}, got {y.min()} to {y.max()}")
    x = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.astype(np.float32)
    if not (x.min() >= 0 and x.max() <= 1):  # also refuses NaN
        raise DataError(f"{what} frames of floats must lie in [0, 1]; leave uint8 frames as they are")
    return x.reshape(len(x), *shape), y.astype(np.int64)
