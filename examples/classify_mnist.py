"""Classify MNIST with a sharpened network, and hold every spike on every simulator against Keras.

    python examples/classify_mnist.py [--data mnist.npz]      # the network that lies in examples/models
    python examples/classify_mnist.py --train --out my.keras  # trained anew, by the recipe that made it

The recipe is `strop.keras.recipes.train_mnist`; `--architecture mlp` and `lenet` are smaller and quicker.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from images import Images, load_images

import strop
from strop.keras.recipes import train_mnist
from strop.running.registry import available_backends

BACKENDS = [name for name in ("reference", "brian2", "nengo", "pynn-nest") if name in available_backends()]
SHIPPED = Path(__file__).parent / "models" / "mnist_convnet.keras"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Keras's mnist.npz; by default where Keras keeps it")
    parser.add_argument("--train", action="store_true", help=f"train anew, in place of opening {SHIPPED.name}")
    parser.add_argument("--architecture", default="convnet", help="convnet, lenet or mlp")
    parser.add_argument("--train-frames", type=int, help="by default all")
    parser.add_argument("--epochs", type=int, help="by default as many as the recipe takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="save the trained model to this file (.keras)")
    parser.add_argument("--frames", type=int, default=100, help="frames to verify on every backend")
    options = parser.parse_args()

    images = load_images(options.data, options.train_frames)
    if SHIPPED.is_file() and not options.train:
        model = strop.load_model(SHIPPED)
        print(f"opened {SHIPPED.name}, which was trained on MNIST")
        if images.source != "MNIST":
            print("(what follows is its accuracy on digits of another kind; --train trains on these)")
    else:
        model = train(images, options)

    x_test = images.x_test.reshape(-1, *model.input_shape[1:]).astype("float32") / 255
    classes = model.predict(x_test, verbose=0).argmax(axis=1)
    print(f"accuracy of the sharpened network on {len(x_test)} test frames: {np.mean(classes == images.y_test):.2%}")

    report = strop.verify(model, x_test[: options.frames], images.y_test[: options.frames], backends=BACKENDS)
    print(report)
    return 0 if report.passed else 1


def train(images: Images, options: argparse.Namespace) -> object:
    given = {} if options.epochs is None else {"epochs": options.epochs}
    begin = time.perf_counter()
    trained = train_mnist(*images[1:], architecture=options.architecture, seed=options.seed, verbose=2, **given)
    print(f"trained for {time.perf_counter() - begin:.0f} s")
    if options.out:
        trained.model.save(options.out)
    return trained.model


if __name__ == "__main__":
    raise SystemExit(main())
