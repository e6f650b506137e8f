"""The images of the examples: MNIST where it is at hand, scikit-learn's bundled digits in its place elsewhere.

Nothing is downloaded. Both come as 28x28 frames with the digit in the 20x20 pixels of the middle.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

KERAS_MNIST = Path.home() / ".keras" / "datasets" / "mnist.npz"


class Images(NamedTuple):
    """Frames of shape (n, 28, 28), uint8, and their classes, shape (n,)."""

    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_images(path: str | Path | None = None, limit: int | None = None) -> Images:
    """Return MNIST from `path`, or from where Keras keeps it, or else the bundled digits; say which.

    `limit` is the number of training frames to keep.
    """
    if path is not None and not Path(path).is_file():
        raise SystemExit(f"{path} does not exist; --data takes Keras's mnist.npz")
    file = KERAS_MNIST if path is None else Path(path)
    images = _mnist(file) if file.is_file() else _digits()
    images = images._replace(x_train=images.x_train[:limit], y_train=images.y_train[:limit])
    print(f"{images.source}: {len(images.x_train)} frames to train on, {len(images.x_test)} to test")
    return images


def _mnist(file: Path) -> Images:
    with np.load(file, allow_pickle=False) as arrays:
        return Images("MNIST", *(arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")))


def _digits() -> Images:
    """Return scikit-learn's 8x8 digits, enlarged; those to train on also shifted by a pixel or two each way."""
    from scipy.ndimage import zoom

    from strop.keras.recipes import load_digits

    print(f"(MNIST is not at {KERAS_MNIST}; give the file with --data. scikit-learn's digits take its place.)")
    (x_train, y_train), (x_more, y_more), (x_test, y_test) = load_digits()

    def enlarge(frames: np.ndarray) -> np.ndarray:
        large = zoom(frames[..., 0], (1, 2.5, 2.5), order=1)  # 20x20
        return np.pad(np.rint(255 * large).astype(np.uint8), ((0, 0), (4, 4), (4, 4)))

    frames, labels = enlarge(np.concatenate([x_train, x_more])), np.concatenate([y_train, y_more])
    shifts = [(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2), (1, 1), (-1, -1), (1, -1), (-1, 1)]
    order = np.random.default_rng(0).permutation(len(shifts) * len(frames))
    # The border is empty: what np.roll moves round is zeros.
    shifted = np.concatenate([np.roll(frames, shift, axis=(1, 2)) for shift in shifts])
    return Images("digits", shifted[order], np.tile(labels, len(shifts))[order], enlarge(x_test), y_test)
