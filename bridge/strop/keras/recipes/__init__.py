"""Training recipes: networks that come out fully sharpened, on digits that are at hand and on MNIST.

They are behind `strop train` and `strop demo`, and are meant to be read as examples of the method.
"""

from strop.keras.recipes.training import TrainedModel, load_digits, train_digits, train_mnist

__all__ = ["TrainedModel", "load_digits", "train_digits", "train_mnist"]
