"""The whole way of a user's own network: convert it, fine-tune it, sharpen it. `strop sharpen` stands on it."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError, NotSharpenedError
from strop.keras.conversion.convert import build, from_relu
from strop.keras.copies import copied
from strop.keras.recipes.training_task import Task, task_of
from strop.keras.sharpening.auto import AutoSharpener
from strop.keras.sharpness import get_sharpness, set_sharpness, spiking_layers

# By default as many epochs as make so many steps, within limits.
_STEPS, _LEAST, _MOST = 3500, 8, 30
# Fewer frames than this validate too few to choose an epoch by.
_SMALL = 10_000
# Epochs beyond one for each layer, so that what is sharp can still learn.
_SPARE = 8
_BATCH = 256


@dataclass(frozen=True)
class FineTuning:
    """Settings of the training; the defaults are what `strop sharpen` uses."""

    learning_rate: float = 0.006
    """Of Adam."""
    schedule: Literal["cosine", "constant"] = "cosine"
    percentile: float = 95.0
    normalise: bool = True
    surrogate_width: float = 1.0


@dataclass(frozen=True)
class Sharpened:
    """A network that came in with ReLU, as thresholds."""

    model: Any
    """Fully sharpened."""
    task: Task
    figures: dict[str, float]
    """On the test frames: "before", "swapped" and "sharpened", in the order of the work."""
    x_test: list[NDArray[Any]]
    """The test frames of each input; nothing was trained on them or chosen by them."""
    y_test: NDArray[Any]
    history: dict[str, list[float]]
    """One number per epoch for each of Keras's logs, epochs before an interruption included."""
    seconds: float
    """Of the training, since the last interruption."""
    summary: str
    """What the sharpener says."""


def sharpen(
    model: Any,
    frames: Any,
    labels: Any = None,
    *,
    test: tuple[Any, Any] | None = None,
    head: Literal["linear", "nhot"] = "linear",
    loss: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    weight_bits: int | None = None,
    settings: FineTuning | None = None,
    check: Callable[[Any], Any] | None = None,
    verbose: int = 0,
    callbacks: Sequence[Any] = (),
) -> Sharpened:
    """Convert a network with `from_relu`, fine-tune and sharpen it; return it with what it was worth at each step.

    >>> sharpened = sharpen(keras.models.load_model("cnn.keras"), x, y)
    >>> sharpened.figures
    {'before': 0.9912, 'swapped': 0.987, 'sharpened': 0.9893}

    A tenth of the frames, drawn by the seed, tests, and a tenth validates; neither is trained on. With `test`, all
    frames are for training and validation (a twelfth).

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, with one output. It stays as it is. One that has spiking activations already is
        sharpened as it is.
    frames : array, shape (n, *input_shape), or a list of them for several inputs
        As the model takes them.
    labels : array, shape (n, ...), optional
        See `strop.keras.recipes.training_task.task_of`.
    test : (frames, labels), optional
    head, seed
        As in `from_relu`.
    loss : "crossentropy", "binary_crossentropy", "mse" or "mae", optional
    epochs : int, optional
        The most that are trained.
    checkpoint : path, optional
        Folder of `AutoSharpener`: the same call goes on where it was interrupted.
    weight_bits : int, 1 to 8, optional
        Train weights of so few bits (`AutoSharpener`).
    settings : FineTuning, optional
    check : callable, optional
        Gets the network before it is trained, with every activation a threshold; what it raises ends the work.
    verbose, callbacks
        As in `keras.Model.fit`.

    Raises
    ------
    UnsupportedLayerError
        If a layer has no counterpart, or the model has several outputs.
    DataError
        If frames or labels do not fit, or the epochs are too few.
    NotSharpenedError
        If the model is sharp already, or something stopped the training before it was.
    """
    settings = settings or FineTuning()
    x = _listed(frames)
    build(model, x[0])
    spiking = spiking_layers(model)
    if spiking and all(layer.sharpness >= 1.0 for layer in spiking):
        raise NotSharpenedError(
            f"model {model.name!r} is fully sharpened already ({len(spiking)} spiking activations): lower or verify it "
            "as it is"
        )
    keras.utils.set_random_seed(seed)
    task = task_of(model, x, labels, loss)
    (x, y), validation, (x_test, y_test) = _split(x, task.targets, _test(model, test, loss), seed)
    figures = {"before": _score(model, task, x_test, y_test)}
    if spiking:
        ready = copied(model)
    else:
        ready = _converted(model, x, head, seed, settings)
        # The decoder of an n-hot code gives probabilities.
        task = dataclasses.replace(task, from_logits=task.from_logits and head == "linear")
    if check is not None:
        _checked(ready, check)
    figures["swapped"] = _score(ready, task, x_test, y_test)
    sharpener = AutoSharpener(checkpoint, monitor=_monitor(task, y), verbose=False, weight_bits=weight_bits)
    begin = time.perf_counter()
    _fit(ready, task, (x, y), validation, _epochs(epochs, ready, len(y)), settings, [sharpener, *callbacks], verbose)
    seconds = time.perf_counter() - begin
    figures["sharpened"] = _score(ready, task, x_test, y_test)
    history = _history(sharpener.records)
    return Sharpened(ready, task, figures, x_test, y_test, history, seconds, sharpener.summary)


def _converted(model: Any, x: list[NDArray[Any]], head: Any, seed: int, settings: FineTuning) -> Any:
    return from_relu(
        model,
        x if len(x) > 1 else x[0],
        head,
        percentile=settings.percentile,
        normalise=settings.normalise,
        surrogate_width=settings.surrogate_width,
        seed=seed,
    )


def _checked(model: Any, check: Callable[[Any], Any]) -> None:
    values = get_sharpness(model)
    set_sharpness(model, 1.0)
    try:
        check(model)
    finally:
        set_sharpness(model, values)


def _listed(frames: Any) -> list[NDArray[Any]]:
    parts = frames if isinstance(frames, list) else list(frames.values()) if isinstance(frames, Mapping) else [frames]
    return [np.asarray(part) for part in parts]


def _test(model: Any, test: tuple[Any, Any] | None, loss: str | None) -> tuple[list[NDArray[Any]], NDArray[Any]] | None:
    if test is None:
        return None
    x = _listed(test[0])
    return x, task_of(model, x, test[1], loss).targets


def _split(x: list[NDArray[Any]], y: NDArray[Any], test: Any, seed: int) -> tuple[Any, Any, Any]:
    """Return training, validation and test frames and targets."""
    order = np.random.default_rng(seed).permutation(len(y))
    share = 12 if test is not None else 10
    held = len(y) // share
    if held < 1:
        raise DataError(f"{len(y)} frames are too few to hold some out; there must be at least {share}")

    def picked(index: NDArray[Any]) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        return [array[index] for array in x], y[index]

    first = held if test is None else 0
    testing = picked(np.sort(order[:first])) if test is None else test
    return picked(order[first + held :]), picked(order[first : first + held]), testing


def _score(model: Any, task: Task, x: list[NDArray[Any]], y: NDArray[Any]) -> float:
    outputs = []
    for begin in range(0, len(y), _BATCH):  # not `predict`, which compiles each model anew
        batch = [array[begin : begin + _BATCH] for array in x]
        flat = keras.tree.flatten(model(_inputs_as(model, batch), training=False))
        outputs.append(np.asarray(keras.ops.convert_to_numpy(flat[0])))
    return task.score(np.concatenate(outputs), y)


def _monitor(task: Task, y: NDArray[Any]) -> str:
    # A hundred frames cannot tell good epochs from lucky ones; the loss of all training frames can.
    return "auto" if len(y) >= _SMALL or not task.decides else "loss"


def _epochs(epochs: int | None, model: Any, count: int) -> int:
    layers = len(spiking_layers(model))
    if epochs is None:
        steps = -(-count // _batch_size(count))
        return max(min(max(round(_STEPS / steps), _LEAST), _MOST), layers + _SPARE)
    return epochs


def _batch_size(count: int) -> int:
    """Return a power of two that makes some 200 steps of an epoch or more."""
    return int(2 ** np.clip(np.floor(np.log2(max(count, 1) / 200.0)), 4, 7))


def _fit(
    model: Any,
    task: Task,
    training: tuple[list[NDArray[Any]], NDArray[Any]],
    validation: tuple[list[NDArray[Any]], NDArray[Any]],
    epochs: int,
    settings: FineTuning,
    callbacks: list[Any],
    verbose: int,
) -> None:
    count = len(training[1])
    batch = _batch_size(count)
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-count // batch), alpha=0.01)
    model.compile(keras.optimizers.Adam(rate), task.keras_loss(), metrics=task.keras_metrics())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training ended without a fully sharpened epoch", UserWarning)
        model.fit(
            _inputs_as(model, training[0]),
            training[1],
            batch_size=batch,
            epochs=epochs,
            validation_data=(_inputs_as(model, validation[0]), validation[1]),
            validation_batch_size=_BATCH,
            callbacks=callbacks,
            verbose=verbose,
        )
    blunt = {name: value for name, value in get_sharpness(model).items() if value < 1.0}
    if blunt:
        name, value = next(iter(blunt.items()))
        raise NotSharpenedError(f"training ended before layer {name!r} was fully sharpened (sharpness {value:g})")


def _inputs_as(model: Any, x: list[NDArray[Any]]) -> Any:
    """Return the frames of each input in the structure in which the model takes its inputs."""
    return x[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, x)


def _history(records: list[dict[str, float]]) -> dict[str, list[float]]:
    names = [name for name in (records[0] if records else {}) if name != "epoch"]
    return {name: [record[name] for record in records if name in record] for name in names}
