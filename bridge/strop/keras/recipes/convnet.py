"""The convolutional network for MNIST: two convolutions, two dense layers, trained as thresholds nearly from the start.

What was tried on the way to these settings, and what each was worth, is in ``docs/mnist.md``; every figure there
can be printed by ``benchmarks/mnist_training.py``, which hands other `ConvnetSettings` to the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError
from strop.keras.activations import SpikingBReLU
from strop.keras.decoder import SoftmaxDecode, key_generator
from strop.keras.sharpening.rounding import WeightRounding
from strop.keras.sharpening.sharpener import Sharpener
from strop.keras.sharpness import set_sharpness, spiking_layers

layers = keras.layers
_CLASSES = 10


@dataclass(frozen=True)
class ConvnetSettings:
    """Architecture and training settings; the defaults are the recipe."""

    filters: tuple[int, int] = (32, 64)
    kernel_size: int = 5
    dense: int = 512
    """Neurons of the first dense layer."""
    width: int = 200
    """Neurons of the n-hot code, 20 for each class; 0 puts a dense read-out with softmax in its place."""
    sparsity: float = 0.3
    """Part of the code's neurons that stand for a class."""
    temperature: float = 16.0
    """Of the decoder. At 1 a handful of right neurons satisfies the loss, and the rest of the code is not learnt."""
    dropout: float = 0.4
    """Behind each dense layer of spikes."""
    convolution_dropout: float = 0.25
    """Between the convolutions and the dense layers."""
    optimizer: Literal["adam", "sgd", "adadelta"] = "adam"
    learning_rate: float = 0.008
    schedule: Literal["cosine", "constant"] = "cosine"
    """Half an epoch of warming up and half a cosine to zero, or none."""
    batch_size: int = 128
    momentum: float = 0.95
    """Of the moving statistics of batch normalisation."""
    surrogate_width: float = 1.0
    """Of the activations: thresholds go on learning. 0 is the method as it was published."""
    blunt_epochs: float = 1.0
    """Epochs before the first layer is sharpened."""
    sharpening_epochs: float = 0.5
    """Epochs that each layer takes from 0 to 1, one after the other; 0 trains thresholds from the first batch."""
    weight_bits: int = 0
    """Bits of a weight, the sign counted, as in `AutoSharpener`; 0 trains weights that are not rounded."""


def mnist_convnet(settings: ConvnetSettings, seed: int) -> Any:
    """Return the network, untrained and smooth: frames of shape (28, 28, 1) to probabilities of shape (10,)."""

    # Named, because Keras counts layers in the order in which they are made, over the whole process.
    def spiking(depth: int) -> list[Any]:
        return [
            layers.BatchNormalization(momentum=settings.momentum, name=f"norm{depth}"),
            SpikingBReLU(surrogate_width=settings.surrogate_width, name=f"spikes{depth}"),
        ]

    def convolution(depth: int, filters: int) -> list[Any]:
        # Pooled before the threshold, which is the same as OR behind it, on a quarter of the values.
        convolved = layers.Conv2D(filters, settings.kernel_size, use_bias=False, name=f"conv{depth}")
        return [convolved, layers.MaxPooling2D(name=f"pool{depth}"), *spiking(depth)]

    def dense(depth: int, neurons: int) -> list[Any]:
        return [
            layers.Dense(neurons, use_bias=False, name=f"dense{depth}"),
            *spiking(depth),
            layers.Dropout(settings.dropout, name=f"dropout{depth}"),
        ]

    if settings.width:
        key = key_generator(_CLASSES, settings.width, seed=seed, sparsity=settings.sparsity)
        decoder = SoftmaxDecode(key, temperature=settings.temperature, name="decoder")
        readout = [*dense(4, settings.width), decoder]
    else:
        readout = [layers.Dense(_CLASSES, activation="softmax", name="classes")]
    first, second = settings.filters
    flattened = [layers.Flatten(name="flatten"), layers.Dropout(settings.convolution_dropout, name="dropout2")]
    body = [*convolution(1, first), *convolution(2, second), *flattened, *dense(3, settings.dense)]
    return keras.Sequential([keras.Input((28, 28, 1), name="image"), *body, *readout], name="mnist_convnet")


def fit_convnet(
    model: Any,
    frames: NDArray[np.float32],
    labels: NDArray[np.int64],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    settings: ConvnetSettings,
    *,
    epochs: int,
    verbose: int = 0,
    callbacks: Sequence[Any] = (),
) -> dict[str, list[float]]:
    """Train `model` for exactly `epochs`, sharpened in the first of them, and return Keras's history.

    Raises
    ------
    DataError
        If sharpening would not end an epoch before the training does.
    """
    sharpener = _EarlySharpener(settings.blunt_epochs, settings.sharpening_epochs)
    rounding = [WeightRounding(settings.weight_bits)] if settings.weight_bits else []
    count = len(spiking_layers(model))
    needed = 1 + settings.blunt_epochs + count * settings.sharpening_epochs if settings.sharpening_epochs else 1
    if epochs < needed:
        raise DataError(f"{epochs} epochs are too few to sharpen {count} layers; give at least {int(np.ceil(needed))}")
    model.compile(
        _optimizer(settings, epochs * -(-len(frames) // settings.batch_size)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    if not settings.sharpening_epochs:
        set_sharpness(model, 1.0)
    fitted = model.fit(
        frames,
        labels,
        batch_size=settings.batch_size,
        epochs=epochs,
        validation_data=validation,
        callbacks=[sharpener, *rounding, *callbacks],
        verbose=verbose,
    )
    return {name: [float(value) for value in values] for name, values in fitted.history.items()}


def _optimizer(settings: ConvnetSettings, batches: int) -> Any:
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        # Ends at zero, so that the last epochs settle: no choice between epochs is left to make.
        warm = min(200, max(1, batches // 10))
        rate = keras.optimizers.schedules.CosineDecay(
            0.1 * rate, batches - warm, alpha=0.0, warmup_target=rate, warmup_steps=warm
        )
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9)
    return {"adam": keras.optimizers.Adam, "adadelta": keras.optimizers.Adadelta}[settings.optimizer](rate)


class _EarlySharpener(Sharpener):
    """Layer k, from the input on, sharpens evenly during `length` epochs from epoch `start + k * length` on.

    It does not end the training: with a surrogate gradient, most of what is to be learnt is learnt by thresholds.
    """

    def __init__(self, start: float, length: float) -> None:
        super().__init__()
        self._start, self._length = start, length

    def _after_batch(self, taken: int) -> None:
        if not self._length or not self.batches_per_epoch or self.fully_sharpened:
            return
        # Every twentieth batch: each step costs a write to every layer, and is small enough.
        if self._batches_done % 20 and self._batches_done != self.batches_per_epoch:
            return
        epoch = self.epoch + self._batches_done / self.batches_per_epoch
        due = [(epoch - self._start) / self._length - index for index in range(len(self._values))]
        self._write([max(old, min(1.0, new)) for old, new in zip(self._values, due, strict=True)])

    def _done(self) -> bool:
        return False
