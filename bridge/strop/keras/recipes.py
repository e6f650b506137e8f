"""Training recipes: networks that come out fully sharpened, on digits that are at hand and on MNIST.

They are behind `strop train` and `strop demo`, and are meant to be read as examples of the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from strop.errors import DataError, NotSharpenedError
from strop.keras.activations import SpikingBReLU
from strop.keras.decoder import SoftmaxDecode, key_generator
from strop.keras.scheduled import SimpleSharpener
from strop.keras.sharpness import get_sharpness, spiking_layers

layers = keras.layers

_NUM_CLASSES = 10
# A third of the output neurons for each class rather than a tenth: the codes of two classes then differ in some 40 %
# of the neurons, so that several of them may be wrong.
_KEY_SPARSITY = 0.3
# Adadelta with this rate, as in the Whetstone paper: it lost half as much in the last sharpening steps as Adam did.
_LEARNING_RATE = 4.0
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
        Epochs in all; at least one for each spiking layer and one more. The last one is trained fully sharpened.
    seed : int
        Of Keras, NumPy and Python; the same seed gives the same network on the same machine.
    conv : bool
        Convolution, batch normalisation, max pooling and two dense layers; otherwise three dense layers.
    verbose : int
        As in `keras.Model.fit`.
    callbacks : sequence of keras.callbacks.Callback
        In addition to the sharpener, and after it.

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
    history = _fit(model, x_train, y_train, validation, epochs, 64, verbose, callbacks)
    return _finished(model, x_test, y_test, history)


def train_mnist(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    architecture: Literal["mlp", "lenet"] = "mlp",
    epochs: int = 20,
    seed: int = 0,
    verbose: int = 0,
    callbacks: Sequence[Any] = (),
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
    architecture : "mlp" or "lenet"
        Dense layers of 256, 64 and 100 neurons; or two convolutions 5x5 of 6 and 16 filters with max pooling, and
        dense layers of 120, 84 and 100.
    epochs, seed, verbose, callbacks
        As in `train_digits`.

    Returns
    -------
    TrainedModel
        With frames of shape (n, 28, 28) for "mlp" and (n, 28, 28, 1) for "lenet".

    Raises
    ------
    DataError
        If frames or labels have another shape or range, or if there are too few epochs to sharpen in.
    NotSharpenedError
        If one of the callbacks stopped the training before the network was fully sharpened.
    """
    if architecture not in ("mlp", "lenet"):
        raise DataError(f"architecture must be 'mlp' or 'lenet', got {architecture!r}")
    frame_shape = (28, 28) if architecture == "mlp" else (28, 28, 1)
    frames, labels = _checked(x_train, y_train, frame_shape, "training")
    test_frames, test_labels = _checked(x_test, y_test, frame_shape, "test")
    held_out = len(frames) // 12
    if held_out == 0:
        raise DataError(f"{len(frames)} training frames are too few; there must be at least 12")
    keras.utils.set_random_seed(seed)
    model = _mnist_mlp(seed) if architecture == "mlp" else _mnist_lenet(seed)
    validation = frames[-held_out:], labels[-held_out:]
    history = _fit(model, frames[:-held_out], labels[:-held_out], validation, epochs, 128, verbose, callbacks)
    return _finished(model, test_frames, test_labels, history)
