"""A residual network of spikes: three blocks whose input is added to what their second convolution says of it.

    python examples/residual.py [--data mnist.npz] [--plain]

In a block, spikes go two ways: through two convolutions, and past them. Both meet, added up, at one threshold:
Keras's `Add` becomes two projections into one population. The way past is shorter, so its spikes are delayed by two
steps, and meet those of their own frame. `--plain` leaves the second way out, for comparison.
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
BLOCKS, FILTERS = 3, 12


def convolution(x: keras.KerasTensor, size: int = 3, strides: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(FILTERS, size, strides=strides, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


def spikes(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return SpikingBReLU(surrogate_width=1.0, name=name)(x)


def network(residual: bool) -> keras.Model:
    frame = keras.Input((28, 28, 1), name="frame")
    x = spikes(convolution(frame, 5, strides=2), "stem")
    for number in range(1, BLOCKS + 1):
        inside = spikes(convolution(x), f"block_{number}_inside")
        sums = convolution(inside)
        x = spikes(layers.Add()([sums, x]) if residual else sums, f"block_{number}")
    x = layers.Flatten()(layers.MaxPooling2D(2, name="pool")(x))
    classes = layers.Softmax()(layers.Dense(10, name="readout")(x))  # off the simulator
    return keras.Model(frame, classes, name="residual" if residual else "plain")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Keras's mnist.npz; by default where Keras keeps it")
    parser.add_argument("--train-frames", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=6, help="the first third is blunt, the rest fully sharpened")
    parser.add_argument("--frames", type=int, default=100, help="frames to verify on every backend")
    parser.add_argument("--plain", action="store_true", help="leave the way past the convolutions out")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    images = load_images(options.data, options.train_frames)
    x_train, x_test = (frames[..., np.newaxis].astype("float32") / 255 for frames in (images.x_train, images.x_test))

    model = network(residual=not options.plain)
    steps = options.epochs * -(-len(x_train) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    blunt = options.epochs // 3
    model.fit(x_train, images.y_train, batch_size=64, epochs=blunt, verbose=2)
    set_sharpness(model, 1.0)  # the surrogate gradient lets the thresholds go on learning
    model.fit(x_train, images.y_train, batch_size=64, initial_epoch=blunt, epochs=options.epochs, verbose=2)

    accuracy = (model.predict(x_test, verbose=0).argmax(axis=1) == images.y_test).mean()
    print(f"accuracy of the sharpened {model.name} network on {len(x_test)} test frames: {accuracy:.2%}")
    graph = strop.lower(model)
    for projection in graph.projections:
        if projection.delay > 1:
            print(f"{projection.source} -> {projection.target}: {projection.delay} steps")

    report = strop.verify(model, x_test[: options.frames], images.y_test[: options.frames], backends=BACKENDS)
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
