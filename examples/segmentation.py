"""A spiking segmentation network: which pixels of a cluttered scene belong to the digit?

    python examples/segmentation.py [--data mnist.npz] [--figure segmentation.png]

Scenes of 40x40 pixels hold one digit and fragments of others, as bright as it is. The network is a small U: three
max poolings down, three upsamplings back, and at each size the spikes of the way down join those of the way up, by
concatenation. The mask is spikes. Intersection over union is measured on scenes of digits that were not trained on,
beside that of a threshold on the pixels, which cannot know what is clutter.
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
SIZE, FRAGMENTS = 40, 5


def scenes(digits: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` scenes, shape (count, 40, 40, 1), float32, and the masks of their digits."""
    rng = np.random.default_rng(seed)
    frames, masks = (np.zeros((count, SIZE, SIZE), dtype=np.uint8) for _ in range(2))
    for frame, mask in zip(frames, masks, strict=True):
        for _ in range(FRAGMENTS):
            row, column = rng.integers(6, 14, 2)
            fragment = digits[rng.integers(len(digits))][row : row + 8, column : column + 8]
            top, left = rng.integers(0, SIZE - 8, 2)
            np.maximum(frame[top : top + 8, left : left + 8], fragment, out=frame[top : top + 8, left : left + 8])
        digit = digits[rng.integers(len(digits))]
        top, left = rng.integers(0, SIZE - 28 + 1, 2)
        np.maximum(frame[top : top + 28, left : left + 28], digit, out=frame[top : top + 28, left : left + 28])
        mask[top : top + 28, left : left + 28] = digit >= 128
    return frames[..., np.newaxis].astype("float32") / 255, masks[..., np.newaxis].astype("float32")


def unet() -> keras.Model:
    def spikes(x: keras.KerasTensor, filters: int, size: int, name: str) -> keras.KerasTensor:
        x = layers.Conv2D(filters, size, padding="same", use_bias=False, name=f"{name}_conv")(x)
        return SpikingBReLU(surrogate_width=1.0, name=name)(layers.BatchNormalization(momentum=0.9)(x))

    frame = keras.Input((SIZE, SIZE, 1), name="scene")
    fine = spikes(frame, 8, 5, "down_40")
    middle = spikes(layers.MaxPooling2D(2, name="pool_20")(fine), 16, 3, "down_20")
    coarse = spikes(layers.MaxPooling2D(2, name="pool_10")(middle), 32, 3, "down_10")
    x = spikes(layers.MaxPooling2D(2, name="pool_5")(coarse), 24, 3, "bottom_5")
    for name, skip, filters in (("up_10", coarse, 16), ("up_20", middle, 8)):
        x = spikes(layers.Concatenate()([layers.UpSampling2D(2)(x), skip]), filters, 3, name)
    mask = spikes(layers.Concatenate()([layers.UpSampling2D(2)(x), fine]), 1, 3, "mask")
    return keras.Model(frame, mask, name="segmentation")


def overlap(masks: np.ndarray, truth: np.ndarray) -> float:
    """Return intersection over union, the mean over the scenes."""
    masks, truth = masks > 0.5, truth > 0.5
    return float(((masks & truth).sum((1, 2, 3)) / (masks | truth).sum((1, 2, 3))).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Keras's mnist.npz; by default where Keras keeps it")
    parser.add_argument("--scenes", type=int, default=4000, help="scenes to train on")
    parser.add_argument("--epochs", type=int, default=10, help="the first third is blunt, the rest fully sharpened")
    parser.add_argument("--frames", type=int, default=30, help="scenes to verify on every backend")
    parser.add_argument("--figure", help="draw some scenes, masks and true masks to this file")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    images = load_images(options.data)
    x_train, masks_train = scenes(images.x_train, options.scenes, seed=0)
    x_test, masks_test = scenes(images.x_test, 500, seed=1)

    model = unet()
    steps = options.epochs * -(-len(x_train) // 32)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)), "dice")
    blunt = options.epochs // 3
    model.fit(x_train, masks_train, epochs=blunt, verbose=2)
    set_sharpness(model, 1.0)  # the surrogate gradient lets the thresholds go on learning
    model.fit(x_train, masks_train, initial_epoch=blunt, epochs=options.epochs, verbose=2)

    masks = model.predict(x_test, verbose=0)
    print(
        f"intersection over union on {len(x_test)} scenes: {overlap(masks, masks_test):.3f} "
        f"(a threshold on the pixels: {overlap(x_test, masks_test):.3f})"
    )
    if options.figure:
        import matplotlib.image

        rows = [np.concatenate(list(row[:8, :, :, 0]), axis=1) for row in (x_test, masks, masks_test)]
        matplotlib.image.imsave(options.figure, np.kron(np.concatenate(rows), np.ones((4, 4))), cmap="gray")

    report = strop.verify(model, x_test[: options.frames], backends=BACKENDS)
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
