"""A binarised network: activations -1 or +1, weights -1 or +1; nothing was sharpened, everything is a threshold.

    python examples/binarised.py [--data mnist.npz]

The sign function is an ordinary Python function with a straight-through gradient; `declare_threshold` says what it
computes. In the spiking network, +1 is a spike and -1 is silence: strop puts the difference into weights and biases. It
also minds the border of convolutions with padding "same", where Keras pads with 0, which is neither.

Training keeps real weights behind the binary ones. What is deployed is a plain Keras network with their signs.
"""

from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np
from images import load_images
from keras import layers, ops

import strop
from strop.keras import declare_threshold
from strop.running.registry import available_backends

BACKENDS = [name for name in ("reference", "brian2", "nengo", "pynn-nest") if name in available_backends()]


@keras.saving.register_keras_serializable(package="binarised")
def sign(x: Any) -> Any:
    """Return +1 where `x >= 0` and -1 elsewhere; the gradient is that of clip(x, -1, 1)."""
    ramp = ops.clip(x, -1.0, 1.0)
    return ops.stop_gradient(ops.where(x >= 0, 1.0, -1.0)) + (ramp - ops.stop_gradient(ramp))


declare_threshold(sign, at=0.0, low=-1.0, high=1.0)


class BinaryConv2D(layers.Conv2D):
    def call(self, inputs: Any) -> Any:
        return ops.conv(inputs, sign(self.kernel), padding=self.padding)


class BinaryDense(layers.Dense):
    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, sign(self.kernel))


def network(convolution: type = layers.Conv2D, dense: type = layers.Dense) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(2.0, -1.0),  # pixels from -1 to 1
            convolution(16, 3, padding="same", use_bias=False),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation(sign, name="edges"),
            convolution(32, 3, padding="same", use_bias=False),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation(sign, name="parts"),
            layers.Flatten(),
            dense(128, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation(sign, name="whole"),
            dense(10, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Softmax(),
        ],
        name="binarised",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Keras's mnist.npz; by default where Keras keeps it")
    parser.add_argument("--train-frames", type=int, default=12000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--frames", type=int, default=100, help="frames to verify on every backend")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    images = load_images(options.data, options.train_frames)
    x_train, x_test = (frames[..., np.newaxis].astype("float32") / 255 for frames in (images.x_train, images.x_test))

    training = network(BinaryConv2D, BinaryDense)
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, options.epochs * -(-len(x_train) // 64))
    training.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    training.fit(x_train, images.y_train, batch_size=64, epochs=options.epochs, verbose=2)

    model = network()
    for trained, plain in zip(training.layers, model.layers, strict=True):
        binary = isinstance(trained, BinaryConv2D | BinaryDense)
        plain.set_weights([np.where(w >= 0, 1.0, -1.0) if binary else w for w in trained.get_weights()])
    weights = np.concatenate([layer.kernel.numpy().ravel() for layer in model.layers if hasattr(layer, "kernel")])
    accuracy = (model.predict(x_test, verbose=0).argmax(axis=1) == images.y_test).mean()
    print(
        f"accuracy on {len(x_test)} test frames: {accuracy:.2%}; {len(weights):,} weights, all of "
        f"{sorted(set(weights.tolist()))}: {len(weights) / 8192:.1f} KiB"
    )

    report = strop.verify(model, x_test[: options.frames], images.y_test[: options.frames], backends=BACKENDS)
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
