"""Training recipes: networks that come out fully sharpened, on bundled digits, on MNIST, and a user's own.

They are behind `strop train`, `strop demo` and `strop sharpen`, and are meant to be read as examples of the method.
"""

from strop.keras.recipes.own_network import FineTuning, Sharpened, sharpen
from strop.keras.recipes.training import TrainedModel, load_digits, train_digits, train_mnist

__all__ = [
    "FineTuning",
    "Sharpened",
    "TrainedModel",
    "load_digits",
    "sharpen",
    "train_digits",
    "train_mnist",
]
