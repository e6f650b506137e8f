"""What a user's network is trained for: labels in their forms, the loss that they call for, figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="strop.keras trains with Keras")

from strop.errors import DataError, UnsupportedLayerError  # noqa: E402
from strop.keras.recipes.training_task import task_of  # noqa: E402

L = keras.layers
FRAMES = [np.linspace(0.0, 1.0, 24, dtype=np.float32).reshape(6, 4)]
NUMBERS = np.array([0, 1, 2, 2, 1, 0])


def network(outputs: int, activation: str | None = None) -> Any:
    return keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(outputs, activation=activation)])


@pytest.mark.parametrize(
    "labels",
    [NUMBERS, NUMBERS.astype(float), NUMBERS[:, None], np.eye(3)[NUMBERS], list(NUMBERS)],
    ids=["numbers", "floats", "column", "one-hot", "list"],
)
def test_labels_of_every_form_become_class_numbers(labels: Any) -> None:
    task = task_of(network(3, "softmax"), FRAMES, labels, None)
    assert (task.loss, task.from_logits, task.figure) == ("crossentropy", False, "accuracy")
    np.testing.assert_array_equal(task.targets, NUMBERS)


@pytest.mark.parametrize(
    ("outputs", "activation", "labels", "loss", "found"),
    [
        (3, None, NUMBERS, None, ("crossentropy", True, "accuracy")),
        (1, "sigmoid", NUMBERS % 2, None, ("binary_crossentropy", False, "accuracy")),
        (1, None, NUMBERS % 2, None, ("binary_crossentropy", True, "accuracy")),
        (3, "sigmoid", np.eye(3)[NUMBERS], None, ("binary_crossentropy", False, "accuracy")),
        (1, None, NUMBERS / 7, "mse", ("mse", True, "mse")),
        (2, None, np.stack([NUMBERS, NUMBERS], 1) / 7, "mae", ("mae", True, "mae")),
        (4, "sigmoid", None, None, ("binary_crossentropy", False, "binary_crossentropy")),
        (4, None, None, None, ("mse", True, "mse")),
        (4, "sigmoid", None, "mse", ("mse", False, "mse")),
    ],
)
def test_the_loss_follows_from_labels_and_model(
    outputs: int, activation: str | None, labels: Any, loss: str | None, found: tuple[str, bool, str]
) -> None:
    task = task_of(network(outputs, activation), FRAMES, labels, loss)
    assert (task.loss, task.from_logits, task.figure) == found


def test_a_softmax_of_its_own_layer_and_behind_moves_is_seen() -> None:
    layers = [keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(3), L.Softmax(), L.Reshape((3,))]
    assert not task_of(keras.Sequential(layers), FRAMES, NUMBERS, None).from_logits


@pytest.mark.parametrize(
    ("outputs", "activation", "labels", "loss", "words"),
    [
        (3, "softmax", None, None, r"no labels \('y'\)"),
        (3, "softmax", NUMBERS[:5], None, "6 frames and labels of the shape"),
        (3, "softmax", NUMBERS + 1, None, "label 3 at index 2 is none of the 3 classes"),
        (3, "softmax", NUMBERS + 0.5, None, "label 0.5 at index 0"),
        (3, "softmax", np.ones((6, 3)), None, "row 0 of the labels is not one-hot"),
        (3, "softmax", np.array(list("abcabc")), None, "labels must be finite numbers"),
        (3, "softmax", NUMBERS, "hinge", "loss must be one of"),
        (1, None, NUMBERS / 7, None, "for regression give the loss"),
        (2, None, NUMBERS / 7, "mse", "for mse the model's output takes"),
        (1, "sigmoid", NUMBERS, None, r"must lie in \[0, 1\], got 0.0 to 2.0"),
    ],
)
def test_what_does_not_fit_is_refused(outputs: int, activation: Any, labels: Any, loss: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        task_of(network(outputs, activation), FRAMES, labels, loss)


def test_several_outputs_are_refused() -> None:
    image = keras.Input((4,))
    hidden = L.Dense(3, activation="relu")(image)
    with pytest.raises(UnsupportedLayerError, match="has 2 outputs"):
        task_of(keras.Model(image, [L.Dense(2)(hidden), L.Dense(2)(hidden)]), FRAMES, NUMBERS, None)


def test_figures_are_those_of_keras() -> None:
    outputs = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], np.float32)
    task = task_of(network(3, "softmax"), FRAMES, NUMBERS, None)
    assert task.score(outputs, np.array([1, 2])) == 0.5
    for loss in ("mse", "mae", "binary_crossentropy"):
        for activation in (None, "sigmoid"):
            values = np.array([[0.0, 1.0, 0.5], [1.0, 0.25, 0.0]], np.float32)
            other = task_of(network(3, activation), [np.zeros((2, 4), np.float32)], values, loss)
            assert not other.decides
            expected = float(np.mean(other.keras_loss()(values, outputs)))
            assert other.score(outputs, values) == pytest.approx(expected, rel=1e-4)
