"""What each choice in the MNIST recipe is worth, on validation frames: the rows of docs/mnist.md.

    python benchmarks/mnist_training.py --data mnist.npz --epochs 7 --filters 16 32 --learning-rate 0.003

Every option is a field of `strop.keras.recipes.convnet.ConvnetSettings`; what is not given stays as the recipe has it.
The last 5,000 training frames validate, as in the recipe. The test frames are never looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from strop.keras.recipes.convnet import ConvnetSettings, fit_convnet, mnist_convnet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Keras's mnist.npz")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    for field in dataclasses.fields(ConvnetSettings):
        option = "--" + field.name.replace("_", "-")
        if field.name == "filters":
            parser.add_argument(option, type=int, nargs=2, default=field.default)
        else:
            parser.add_argument(option, type=type(field.default), default=field.default)
    options = vars(parser.parse_args())
    data, epochs, seed = (options.pop(name) for name in ("data", "epochs", "seed"))
    settings = ConvnetSettings(**{**options, "filters": tuple(options["filters"])})

    with np.load(data) as file:
        frames, labels = file["x_train"].astype("float32")[..., None] / 255, file["y_train"].astype("int64")
    keras.utils.set_random_seed(seed)
    model = mnist_convnet(settings, seed)
    begin = time.perf_counter()
    history = fit_convnet(
        model,
        frames[:-5000],
        labels[:-5000],
        (frames[-5000:], labels[-5000:]),
        settings,
        epochs=epochs,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=_print)],
    )
    changed = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    }
    accuracy, sharpness = history["val_accuracy"], history["sharpness"][-1]
    print(
        f"{changed or 'the recipe'}, {epochs} epochs, seed {seed}: validation {100 * accuracy[-1]:.2f} % "
        f"(last three epochs {', '.join(f'{100 * value:.2f}' for value in accuracy[-3:])}), sharpness {sharpness:g}, "
        f"{time.perf_counter() - begin:.0f} s"
    )


def _print(epoch: int, logs: dict[str, float]) -> None:
    print(f"epoch {epoch + 1}: loss {logs['loss']:.4f}, validation {100 * logs['val_accuracy']:.2f} %", flush=True)


if __name__ == "__main__":
    main()
