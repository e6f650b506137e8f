"""A spiking autoencoder: every image passes through 64 spikes or silences, and spikes paint it again.

    python examples/autoencoder.py [--data mnist.npz] [--figure autoencoder.png]

The pixels that come out are spikes, too: the network ends in a population, not in a decoder. The wrong ones are counted
on images that were not trained on, beside those of two answers that need no network: an empty frame, the mean image.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
from images import load_images

import strop
from strop.keras import SpikingBReLU, set_sharpness
from strop.running.registry import available_backends

layers = keras.layers
BACKENDS = [name for name in ("reference", "brian2", "nengo", "pynn-nest") if name in available_backends()]


def spiking_dense(units: int, name: str) -> list[keras.Layer]:
    # With a surrogate gradient, layers go on learning when they have become thresholds.
    return [
        layers.Dense(units, use_bias=False, name=f"to_{name}"),
        layers.BatchNormalization(momentum=0.9, name=f"scale_{name}"),
        SpikingBReLU(surrogate_width=1.0, name=name),
    ]


def autoencoder() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            *spiking_dense(400, "parts"),
            *spiking_dense(64, "code"),
            *spiking_dense(400, "strokes"),
            *spiking_dense(28 * 28, "painting"),
            layers.Reshape((28, 28)),
        ],
        name="autoencoder",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Keras's mnist.npz; by default where Keras keeps it")
    parser.add_argument("--train-frames", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=12, help="the first third is blunt, the rest fully sharpened")
    parser.add_argument("--frames", type=int, default=200, help="frames to verify on every backend")
    parser.add_argument("--figure", help="draw some images, and what became of them, to this file")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    images = load_images(options.data, options.train_frames)
    x_train, x_test = (frames.astype("float32") / 255 for frames in (images.x_train, images.x_test))
    ink, ink_test = x_train >= 0.5, x_test >= 0.5  # what is to be painted

    model, target = autoencoder(), ink.astype("float32")
    steps = options.epochs * -(-len(x_train) // 64)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)), "mean_squared_error")
    blunt = options.epochs // 3
    model.fit(x_train, target, batch_size=64, epochs=blunt, verbose=2)
    # The painting becomes sharp at the very end: its greys tell training more than black and white would.
    set_sharpness(model, {"parts": 1.0, "code": 1.0, "strokes": 1.0})
    model.fit(x_train, target, batch_size=64, initial_epoch=blunt, epochs=options.epochs, verbose=2)
    set_sharpness(model, 1.0)

    painting = model.predict(x_test, verbose=0) > 0.5
    code = keras.Model(model.inputs, model.get_layer("code").output).predict(x_test, verbose=0)
    overlap = (painting & ink_test).sum() / (painting | ink_test).sum()
    print(f"code: {code.sum(axis=1).mean():.1f} spikes of 64 for an image")
    print(f"wrong pixels: {(painting != ink_test).mean():.2%}; intersection over union: {overlap:.3f}")
    mean_image = ink.mean(axis=0) > 0.5
    print(f"(an empty frame: {ink_test.mean():.2%}; the mean image: {(mean_image != ink_test).mean():.2%})")
    if options.figure:
        draw(x_test[:12], painting[:12], options.figure)

    report = strop.verify(model, x_test[: options.frames], backends=BACKENDS)
    print(report)
    return 0 if report.passed else 1


def draw(frames: np.ndarray, painting: np.ndarray, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = (np.concatenate(list(frames), axis=1), np.concatenate(list(painting), axis=1))
    plt.imsave(path, np.kron(np.concatenate(rows), np.ones((4, 4))), cmap="gray")


if __name__ == "__main__":
    raise SystemExit(main())
