"""What ordinary networks are worth before and after `strop sharpen`: the tables of docs/own-network.md.

    python benchmarks/own_network.py                                   # the digits
    python benchmarks/own_network.py --data mnist.npz                  # MNIST, as many frames as you have time for
    python benchmarks/own_network.py --data mnist.npz --frames 20000 --networks cnn --epochs 12

Each network is trained with Adam and its activations as they are, then goes through `strop.keras.recipes.sharpen`, with
default settings, on the same training frames. The test frames are looked at once for each figure.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from strop.keras.recipes import load_digits, sharpen

L = keras.layers
Shape = tuple[int, int, int]


def mlp(shape: Shape) -> Any:
    """Two hidden layers, with dropout."""
    hidden = [L.Dense(256, activation="relu"), L.Dropout(0.2), L.Dense(128, activation="relu"), L.Dropout(0.2)]
    return keras.Sequential([keras.Input(shape), L.Flatten(), *hidden, L.Dense(10, activation="softmax")])


def cnn(shape: Shape) -> Any:
    """The plain convolutional network of Keras's own MNIST example, with a dense layer."""
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(32, 3, activation="relu"),
            L.MaxPooling2D(2),
            L.Conv2D(64, 3, activation="relu", padding="same"),
            L.MaxPooling2D(2, padding="same"),
            L.Flatten(),
            L.Dropout(0.3),
            L.Dense(128, activation="relu"),
            L.Dropout(0.3),
            L.Dense(10, activation="softmax"),
        ]
    )


def normalised(shape: Shape) -> Any:
    """Four convolutions and a dense layer, each with batch normalisation, scores as outputs."""

    def block(filters: int) -> list[Any]:
        return [L.Conv2D(filters, 3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU()]

    dense = [L.Dense(128), L.BatchNormalization(), L.ReLU(), L.Dropout(0.4)]
    convolutions = [*block(16), *block(16), L.MaxPooling2D(2), *block(32), *block(32), L.MaxPooling2D(2)]
    return keras.Sequential([keras.Input(shape), *convolutions, L.Flatten(), *dense, L.Dense(10)])


def residual(shape: Shape) -> Any:
    """Three residual blocks."""

    def convolved(x: Any, filters: int, size: int, strides: int) -> Any:
        return L.BatchNormalization()(L.Conv2D(filters, size, strides, padding="same", use_bias=False)(x))

    image = keras.Input(shape)
    x = L.ReLU()(convolved(image, 16, 3, 1))
    for filters, strides in ((16, 1), (32, 2), (32, 1)):
        y = convolved(L.ReLU()(convolved(x, filters, 3, strides)), filters, 3, 1)
        x = x if strides == 1 else convolved(x, filters, 1, strides)
        x = L.ReLU()(L.Add()([x, y]))
    return keras.Model(image, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def lenet(shape: Shape) -> Any:
    """LeNet with tanh and average pools."""
    padding = "valid" if shape[0] > 10 else "same"
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(6, 5, padding="same", activation="tanh"),
            L.AveragePooling2D(2),
            L.Conv2D(16, 5, padding=padding, activation="tanh"),
            L.AveragePooling2D(2),
            L.Flatten(),
            L.Dense(120, activation="tanh"),
            L.Dense(84, activation="tanh"),
            L.Dense(10, activation="softmax"),
        ]
    )


def autoencoder(shape: Shape) -> Any:
    """A convolutional autoencoder that halves height and width twice."""
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Conv2D(32, 3, 2, padding="same", activation="relu"),
            L.Conv2D(32, 3, 2, padding="same", activation="relu"),
            L.Conv2DTranspose(32, 3, 2, padding="same", activation="relu"),
            L.Conv2DTranspose(32, 3, 2, padding="same", activation="relu"),
            L.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )


NETWORKS: dict[str, Callable[[Shape], Any]] = {
    function.__name__: function for function in (mlp, cnn, normalised, residual, lenet, autoencoder)
}


def _data(path: Path | None, frames: int | None) -> tuple[Any, Any, tuple[Any, Any]]:
    if path is None:
        (x, y), (x_val, y_val), test = load_digits()
        return np.concatenate([x, x_val])[:frames], np.concatenate([y, y_val])[:frames], test
    with np.load(path) as file:
        x, x_test = (file[name].astype("float32")[..., None] / 255 for name in ("x_train", "x_test"))
        return x[:frames], file["y_train"][:frames].astype("int64"), (x_test, file["y_test"].astype("int64"))


def _trained(name: str, x: Any, y: Any, epochs: int, seed: int) -> tuple[Any, float]:
    """Return an ordinary network, and the seconds that its training took."""
    keras.utils.set_random_seed(seed)
    model = NETWORKS[name](x.shape[1:])
    if name == "autoencoder":
        y, loss = x, "mse"
    else:
        logits = model.layers[-1].activation is keras.activations.linear
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile("adam", loss)
    begin = time.perf_counter()
    model.fit(x, y, epochs=epochs, batch_size=32 if len(x) < 10_000 else 128, verbose=0)
    return model, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Keras's mnist.npz; without it the digits of scikit-learn")
    parser.add_argument("--frames", type=int, help="train on the first so many")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--epochs", type=int, help="of the ordinary training [30 for the digits, else 10]")
    parser.add_argument("--sharpening-epochs", type=int, help="at most [what strop sharpen takes by default]")
    parser.add_argument("--head", choices=["linear", "nhot"], default="linear")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="folder for the models")
    options = parser.parse_args()
    x, y, test = _data(options.data, options.frames)
    epochs = options.epochs or (30 if options.data is None else 10)
    print("| network | figure | before | swapped | sharpened | training, s | sharpening, s |")
    print("|---|---|---|---|---|---|---|")
    for name in options.networks:
        model, seconds = _trained(name, x, y, epochs, options.seed)
        own = name == "autoencoder"
        result = sharpen(
            model,
            x,
            None if own else y,
            test=(test[0], None) if own else test,
            head="linear" if own else options.head,
            loss="mse" if own else None,
            epochs=options.sharpening_epochs,
            seed=options.seed,
        )
        figures = [f"{value:.5f}" if own else f"{100 * value:.2f} %" for value in result.figures.values()]
        cells = (name, result.task.figure, *figures, f"{seconds:.0f}", f"{result.seconds:.0f}")
        print(f"| {' | '.join(cells)} |", flush=True)
        if options.save is not None:
            model.save(options.save / f"{name}.keras")
            result.model.save(options.save / f"{name}_sharpened.keras")


if __name__ == "__main__":
    main()
