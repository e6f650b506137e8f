"""What a user's network is to give: labels or values as targets, with the loss and the figure that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError, UnsupportedLayerError
from strop.keras.conversion.program import program_of
from strop.keras.decoder import SoftmaxDecode

LossName = Literal["crossentropy", "binary_crossentropy", "mse", "mae"]
LOSSES: tuple[LossName, ...] = ("crossentropy", "binary_crossentropy", "mse", "mae")

_VALUES = ("mse", "mae")


@dataclass(frozen=True)
class Task:
    """What is trained for, and how it is judged."""

    loss: LossName
    from_logits: bool
    """Whether the model gives scores, with neither softmax nor sigmoid."""
    targets: NDArray[Any]
    """One for each frame: class numbers, shape (n, ...), or values of the shape of the model's output."""

    @property
    def figure(self) -> str:
        """What `score` gives: "accuracy" (more is better) or the name of the loss (less is better)."""
        return "accuracy" if self.decides else self.loss

    @property
    def decides(self) -> bool:
        """Whether the network decides between classes."""
        return self.loss == "crossentropy" or (self.loss == "binary_crossentropy" and bool(_is_whole(self.targets)))

    def keras_loss(self) -> Any:
        """Return the loss for `compile`."""
        if self.loss == "crossentropy":
            return keras.losses.SparseCategoricalCrossentropy(from_logits=self.from_logits)
        if self.loss == "binary_crossentropy":
            return keras.losses.BinaryCrossentropy(from_logits=self.from_logits)
        return {"mse": keras.losses.MeanSquaredError, "mae": keras.losses.MeanAbsoluteError}[self.loss]()

    def keras_metrics(self) -> list[Any]:
        """Return the metrics for `compile`."""
        if self.loss == "crossentropy":
            return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        if self.decides:
            return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if self.from_logits else 0.5)]
        return []

    def score(self, outputs: NDArray[Any], targets: NDArray[Any]) -> float:
        """Return the figure of a model's outputs, in float64."""
        outputs = outputs.astype(np.float64)
        if self.loss == "crossentropy":
            return float((outputs.argmax(axis=-1) == targets).mean())
        if self.decides:
            return float(((outputs >= (0.0 if self.from_logits else 0.5)) == (targets > 0.5)).mean())
        if self.loss == "binary_crossentropy":
            p = 1.0 / (1.0 + np.exp(-outputs)) if self.from_logits else outputs
            p = np.clip(p, 1e-7, 1.0 - 1e-7)
            return float(-(targets * np.log(p) + (1.0 - targets) * np.log(1.0 - p)).mean())
        difference = outputs - targets
        return float((difference**2).mean() if self.loss == "mse" else np.abs(difference).mean())


def task_of(model: Any, frames: list[NDArray[Any]], targets: Any, loss: str | None) -> Task:
    """Return what `model` is to be trained for.

    Parameters
    ----------
    model : keras.Model, built, with one output
    frames : list of array
        The frames of each input.
    targets : array, shape (n, ...), optional
        Class numbers or one-hot rows; 0 and 1; or values. None: the frames themselves, as of an autoencoder.
    loss : one of LOSSES, optional
        By default what labels and the model's last activation call for.

    Raises
    ------
    DataError
        If targets are missing, or do not fit the model's output or the loss.
    """
    if loss is not None and loss not in LOSSES:
        raise DataError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    shape, ending = _output(model)
    if targets is None:
        return _reconstruction(model, frames, shape, ending, loss)
    y = np.asarray(targets)
    if y.ndim == 0 or len(y) != len(frames[0]):
        raise DataError(f"there are {len(frames[0])} frames and labels of the shape {y.shape}: give one for each frame")
    if y.dtype.kind not in "biuf" or not np.isfinite(y.astype(np.float64)).all():
        raise DataError(f"labels must be finite numbers, got {y.dtype} of the shape {y.shape}")
    wanted = loss or _called_for(y, shape, ending)
    if wanted == "crossentropy":
        return Task("crossentropy", ending != "softmax", _class_numbers(y, shape))
    if y.shape[1:] != shape and (*y.shape[1:], 1) != shape:
        raise DataError(f"targets have the shape {y.shape}, and for {wanted} the model's output takes (n, {shape})")
    values = y.reshape(len(y), *shape).astype(np.float32)
    if wanted == "binary_crossentropy" and (values.min() < 0 or values.max() > 1):
        raise DataError(f"targets of binary_crossentropy must lie in [0, 1], got {values.min()} to {values.max()}")
    return Task(_checked(wanted), ending != "sigmoid", values)


def _checked(loss: str) -> LossName:
    return next(known for known in LOSSES if known == loss)


def _output(model: Any) -> tuple[tuple[int, ...], str]:
    """Return the shape of a frame's output, and what the model ends in: "softmax", "sigmoid" or ""."""
    program = program_of(model)
    if len(program.outputs) != 1:
        raise UnsupportedLayerError(
            f"model {model.name!r} has {len(program.outputs)} outputs: convert it with strop.keras.from_relu and train "
            "it with your own losses and AutoSharpener (docs/own-network.md)"
        )
    producers = program.producers()
    value = program.outputs[0]
    step = producers.get(id(value))
    while step is not None and step.kind == "same" and len(step.inputs) == 1:
        step = producers.get(id(step.inputs[0]))
    ending = None if step is None else step.activation or step.operation
    if isinstance(ending, keras.layers.Activation):
        ending = ending.activation
    soft = isinstance(ending, SoftmaxDecode | keras.layers.Softmax) or ending is keras.activations.softmax
    name = "softmax" if soft else "sigmoid" if ending is keras.activations.sigmoid else ""
    return tuple(value.shape[1:]), name


def _called_for(y: NDArray[Any], shape: tuple[int, ...], ending: str) -> str:
    if ending == "sigmoid" and (y.shape[1:] == shape or (*y.shape[1:], 1) == shape):
        return "binary_crossentropy"
    if ending == "softmax" or (_is_whole(y) and shape[-1] > 1):
        return "crossentropy"
    if shape == (1,) and _is_whole(y) and y.min() >= 0 and y.max() <= 1:
        return "binary_crossentropy"
    raise DataError(
        "labels are no class numbers for the model's output of the shape "
        f"{shape}: for regression give the loss, mse or mae (--loss)"
    )


def _reconstruction(
    model: Any, frames: list[NDArray[Any]], shape: tuple[int, ...], ending: str, loss: str | None
) -> Task:
    if len(frames) != 1 or frames[0].shape[1:] != shape or ending == "softmax" or loss == "crossentropy":
        raise DataError(
            f"there are no labels ('y'), and model {model.name!r}, with outputs of the shape {shape}, is no "
            "autoencoder that could do without"
        )
    inside = frames[0].min() >= 0 and frames[0].max() <= 1
    chosen = loss or ("binary_crossentropy" if ending == "sigmoid" and inside else "mse")
    if chosen == "binary_crossentropy" and not inside:
        raise DataError("frames beyond 0 to 1 are no targets of binary_crossentropy: give the loss mse")
    return Task(_checked(chosen), ending != "sigmoid", frames[0].astype(np.float32))


def _class_numbers(y: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return labels as class numbers, of the shape (n, *shape[:-1])."""
    classes = shape[-1]
    if y.shape[1:] == shape and classes > 1:
        right = ((y == 0) | (y == 1)).all(axis=-1) & (y.sum(axis=-1) == 1)
        if not right.all():
            raise DataError(f"row {int(np.flatnonzero(~right.reshape(-1))[0])} of the labels is not one-hot")
        numbers: NDArray[np.int64] = y.argmax(axis=-1).astype(np.int64)
        return numbers
    if y.shape[1:] == (1, *shape[:-1]) or y.shape[1:] == (*shape[:-1], 1):
        y = y.reshape(len(y), *shape[:-1])
    if y.shape[1:] != shape[:-1]:
        raise DataError(
            f"labels have the shape {y.shape}: give class numbers, shape (n{''.join(f', {d}' for d in shape[:-1])}), "
            f"or one-hot rows of {classes}"
        )
    right = (y == np.floor(y)) & (y >= 0) & (y < classes)
    if not right.all():
        where = int(np.flatnonzero(~right.reshape(-1))[0])
        raise DataError(
            f"label {y.reshape(-1)[where].item()!r} at index {where} is none of the {classes} classes, 0 to "
            f"{classes - 1}: number the classes from 0"
        )
    return y.astype(np.int64)


def _is_whole(y: NDArray[Any]) -> bool:
    return bool((y == np.floor(y)).all())
