"""`AutoSharpener`: sharpening without settings; begin, pace and end follow from the losses of the training.

It watches the losses, asks `strop.keras.sharpening.course` what to do, keeps the best fully sharpened weights, and
saves its state with the model, so that an interrupted training can go on.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError, ModelFileError
from strop.keras.sharpening.batchnorm import MovingStatistics
from strop.keras.sharpening.checkpoint import TrainingCheckpoint
from strop.keras.sharpening.course import HARD, SURROGATE, Budget, Course, Phase, Tempo, falls, moves
from strop.keras.sharpening.rounding import WeightRounding, checked_bits
from strop.keras.sharpening.sharpener import Sharpener
from strop.keras.sharpening.silent_neurons import NeuronReport, neuron_report, validation_frames

_HIGHER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "iou", "r2")
# From this width of the surrogate on, a threshold learns about as well as the smooth activation did.
_USEFUL_SURROGATE = 0.25
_COOLING = 0.2


class AutoSharpener(Sharpener):
    """Sharpen a network without any figure to set: begin, pace and end follow from how it learns.

    >>> sharpener = AutoSharpener(checkpoint="run")
    >>> model.fit(x, y, epochs=200, validation_data=(x_val, y_val), callbacks=[sharpener, CSVLogger("run.csv")])
    >>> print(sharpener.summary)
    fully sharpened: val_accuracy 0.9791 in epoch 31, after 38 epochs
    layer             neurons    dead   stuck    rate
    ...

    Training goes through three phases. *Blunt*, until the validation loss (the loss, where nothing is validated) no
    longer falls. *Sharpening*, one layer after the other from the input on: a step at the beginning of each epoch,
    larger ones while the loss stays calm, and none while it recovers from a rise. *Sharp*, until there has been no new
    best epoch for a while. Then training stops and the weights of the best fully sharpened epoch come back. Weights
    that were not fully sharpened never do.

    `epochs` of `fit` is the limit, not the plan: give plenty. If they are few the sharpener hurries, and if they cannot
    suffice (one for each spiking layer, and one more) it says so before the first one.

    With activations whose `surrogate_width` is above 0, which go on learning as thresholds, the sharpener is quick and
    trains longer fully sharpened: the better way (``docs/training.md``). A constant learning rate then falls to a
    fifth, twice, when nothing better comes or the end of `epochs` is near, and is put back at the end. Where the
    optimiser has a schedule, or another callback changes the rate, it is left alone, and its end is waited for.

    Each epoch adds ``sharpness_<layer>`` and their mean ``sharpness`` to Keras's `logs`, so place it *first* in
    the list: Keras hands one dictionary down the list, and a `CSVLogger` or `TensorBoard` placed before the
    sharpener writes it too early. `History` and the progress bar are always last.

    The moving statistics of batch normalisation are freed from the smooth network's (`MovingStatistics`) before each
    validation.

    Parameters
    ----------
    checkpoint : str or path-like, optional
        Folder in which the model, its optimiser and the state of the sharpening are saved after every epoch. A training
        that finds it goes on behind the last finished epoch (the random order of the frames is another one), and one
        that is finished only gets the best weights back. Delete the folder to train anew.
    monitor : str
        Entry of the logs by which the best epoch is chosen; by default validation accuracy, else validation loss,
        else accuracy, else loss.
    anneal : bool
        Whether the sharpener may lower a constant learning rate.
    mode : "auto", "min" or "max"
        Whether less or more of it is better; "auto" goes by its name.
    frames : array, shape (n, *input_shape), optional
        For the report of dead and stuck neurons at the end; by default up to 2,048 frames of the validation data.
    verbose : bool, optional
        Print a line per epoch. By default only the summary is printed, and only if `fit` prints as well; False
        prints nothing.
    reset : bool
        Start from sharpness 0 rather than from what the layers have (but not from what a checkpoint has).
    weight_bits : int, 1 to 8, optional
        Train weights of so few bits, the sign counted: each layer computes with its kernel rounded from where its
        spikes are thresholds, and the model ends with kernels that are whole numbers times one scale per neuron (per
        channel of a convolution). `strop.quantize` then changes neither a weight nor a spike. 1 gives signs, -1 and 1.

    Raises
    ------
    DataError
        If the epochs cannot suffice, or the logs have no entry `monitor`.
    ModelFileError
        If the checkpoint is that of another model, or of another number of bits.
    UnsupportedLayerError
        With `weight_bits`, if an activation is driven by more than one kernel, or by one that cannot be rounded.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str] | None = None,
        *,
        monitor: str = "auto",
        mode: Literal["auto", "min", "max"] = "auto",
        anneal: bool = True,
        frames: Any = None,
        verbose: bool | None = None,
        reset: bool = False,
        weight_bits: int | None = None,
    ) -> None:
        super().__init__(bottom_up=True, verbose=bool(verbose), reset=reset)
        if mode not in ("auto", "min", "max"):
            raise DataError(f"mode of AutoSharpener must be 'auto', 'min' or 'max', got {mode!r}")
        self.checkpoint = None if checkpoint is None else TrainingCheckpoint(checkpoint)
        self.monitor, self.mode, self.anneal, self.frames = monitor, mode, anneal, frames
        self.weight_bits = None if weight_bits is None else checked_bits(weight_bits, "AutoSharpener")
        self._rounding = None if weight_bits is None else WeightRounding(weight_bits)
        self._says_summary = verbose
        self._forget()

    def _forget(self) -> None:
        self.best_epoch: int | None = None
        """The epoch whose weights were kept, from 0."""
        self.best: dict[str, float] = {}
        """Its logs."""
        self.finished = False
        """Whether the sharpener ended the training, not `epochs` or another callback."""
        self.records: list[dict[str, float]] = []
        """The logs of every epoch, those before an interruption included."""
        self.neurons: NeuronReport | None = None
        """Dead and stuck neurons of the sharpened network, once training has ended."""
        self._course = Course()
        self._tempo: Tempo = HARD
        self._budget = Budget(0, 1)
        self._joined = False
        self._by: str | None = None
        self._best_weights: list[NDArray[Any]] | None = None
        self._frames: Any = None
        self._rate: float | None = None
        self._first_rate: float | None = None
        self._rate_is_managed = False
        self._validated = False
        self._gathering = False
        self._settled = True
        self._resumed = False

    @property
    def phase(self) -> Phase:
        """The phase of the training: "blunt", "sharpening" or "sharp"."""
        return self._course.phase

    @property
    def units(self) -> NeuronReport | None:
        """Old name of `neurons`, until 0.3."""
        warnings.warn("AutoSharpener.units is AutoSharpener.neurons now", DeprecationWarning, stacklevel=2)
        return self.neurons

    @property
    def summary(self) -> str:
        """Result of the training: the best epoch, and the dead and stuck neurons of each layer."""
        if self.best_epoch is None:
            return f"not fully sharpened after {self.epoch + 1} epochs: {self._unfinished()}"
        figure = f"{self._by} {self.best[self._by]:.4g} in epoch {self.best_epoch}" if self._by else "?"
        ending = "" if self.finished else "; more epochs may bring more"
        report = "" if self.neurons is None else f"\n{self.neurons}"
        weights = "" if self.weight_bits is None else f", weights of {self.weight_bits} bits"
        return f"fully sharpened{weights}: {figure}, after {self.epoch + 1} epochs{ending}{report}"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the layers; take up what the checkpoint has."""
        self._forget()
        super().on_train_begin(logs)
        self._tempo = SURROGATE if min(layer.surrogate_width for layer in self._layers) >= _USEFUL_SURROGATE else HARD
        state = None if self.checkpoint is None else self.checkpoint.read()
        if self.checkpoint is not None and state is not None:
            self._resume(self.checkpoint, state)
        self._statistics = MovingStatistics(self.model)
        if self._rounding is not None:
            self._rounding.begin(self.model)

    def _before_epoch(self) -> None:
        if not self._joined:
            self._joined = True
            self._leave_first_epoch_to_fit()
            self._budget = Budget(self._budget.first if self._resumed else self.epoch, self.params["epochs"])
            self._check_epochs()
            # A model that comes without the sharpener's state tells the phase by its sharpness.
            self._course.before_first_epoch(self.epoch, self._values, self._tempo, self._budget)
            # Other callbacks may have taken the model back to an epoch before the one that was saved here.
            self.records = [record for record in self.records if record["epoch"] < self.epoch]
        values = self._course.next_values(self._values)
        # What was gathered is an average over another network if anything has moved.
        if values != self._values or not self._gathering:
            self._gathering = self._course.phase != "blunt"
            self._statistics.restart()
        self._settled = False
        self._write(values)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Bring the batch statistics up to date before Keras validates an epoch."""
        self._settle()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            if self._gathering:
                self._synchronise()
                self._statistics.settle(self._batches_done)

    def _after_epoch(self, logs: dict[str, Any]) -> None:
        self._settle()
        numbers = {name: float(value) for name, value in logs.items() if _is_number(value)}
        self.records.append({"epoch": self.epoch, **numbers})
        self._validated |= "val_loss" in numbers
        self._check_monitor(numbers)
        rate, before = self._learning_rate(), self._rate
        self._first_rate = rate if self._first_rate is None else self._first_rate
        self._rate_is_managed |= moves(rate, before)
        self._rate = rate
        if self._epoch_began_sharp:
            if self._frames is None and self.frames is None:
                self._frames = validation_frames(self.model)
            self._after_sharp_epoch(self._keep_if_best(numbers), falls(rate, before))
        watched = numbers.get("val_loss" if self._validated else "loss")
        loss = numbers.get("loss", math.nan)
        self._course.after_epoch(self.epoch, self._values, loss, watched, self._tempo, self._budget)
        if self.checkpoint is not None:
            self.checkpoint.write(self.model, self.epoch, self.best_epoch, self._state())

    def _after_sharp_epoch(self, improved: bool, falling: bool) -> None:
        can_cool = self.anneal and self._rate is not None and not self._rate_is_managed
        decision = self._course.after_sharp_epoch(self.epoch, improved, falling, can_cool, self._tempo, self._budget)
        self.finished = decision == "stop"
        if decision == "cool" and self._rate is not None:
            self._rate_is_managed = not self._set_learning_rate(self._rate * _COOLING)
            self._rate = self._learning_rate()

    def _done(self) -> bool:
        return self.finished

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Bring the best fully sharpened weights back, and say how it went."""
        if self._best_weights is not None:
            self._synchronise()
            self.model.set_weights(self._best_weights)
            self._read()
        if self._rounding is not None:
            # Without a fully sharpened epoch training has to go on, with the weights as they are.
            self._rounding.end(self.model, keep=self._best_weights is not None)
        if self._course.cooled and self._first_rate is not None:
            self._set_learning_rate(self._first_rate)
        self._leave_first_epoch_to_fit()
        frames = self._frames if self.frames is None else self.frames
        if frames is not None:
            self.neurons = neuron_report(self.model, frames)
        prints = self.verbose if self._says_summary is not None else bool((self.params or {}).get("verbose"))
        if prints:
            print(self.summary)
        if self.best_epoch is None:
            unfinished = sum(value < 1.0 for value in self._values)
            warnings.warn(
                f"training ended without a fully sharpened epoch ({self._unfinished()}); the network needs at least "
                f"{unfinished + 1} more epochs: call fit again with initial_epoch={self.epoch + 1} and more epochs",
                UserWarning,
                stacklevel=2,
            )

    def _leave_first_epoch_to_fit(self) -> None:
        # Only once: the next `fit` of this model starts by its own argument.
        if self._resumed:
            self.model._initial_epoch = None

    def _check_epochs(self) -> None:
        unfinished = sum(value < 1.0 for value in self._values)
        missing = unfinished + 1 - (self._budget.total - self.epoch)
        if missing > 0:
            raise DataError(
                f"epochs={self._budget.total} leaves {self._budget.total - self.epoch} epochs to sharpen {unfinished} "
                f"layers, which takes at least {unfinished + 1}: give epochs={self._budget.total + missing} or "
                "many more, training stops when it is done"
            )

    def _keep_if_best(self, numbers: dict[str, float]) -> bool:
        if self._validated and "val_loss" not in numbers:  # `validation_freq` leaves epochs out
            return False
        if self._by is None:
            self._by = self._figure(numbers)
        if self._by not in numbers:
            return False
        if self.best and self._rank(self._by, numbers) <= self._rank(self._by, self.best):
            return False
        self.best_epoch, self.best = self.epoch, numbers
        self._synchronise()
        self._best_weights = self.model.get_weights()
        return True

    def _figure(self, numbers: Mapping[str, float]) -> str:
        """Return by which entry of the logs the best epoch is chosen."""
        if self.monitor != "auto":
            return self.monitor
        candidates = [name for name in numbers if name.startswith("val_") == self._validated]
        accuracies = [name for name in candidates if "acc" in name]
        # With several outputs no accuracy speaks for all of them; the loss does.
        return accuracies[0] if len(accuracies) == 1 else "val_loss" if self._validated else "loss"

    def _check_monitor(self, numbers: Mapping[str, float]) -> None:
        later = self.monitor.startswith("val_") and "val_loss" not in numbers and not self._epoch_began_sharp
        if self.monitor != "auto" and self.monitor not in numbers and not later and not self._by:
            raise DataError(
                f"AutoSharpener goes by {self.monitor!r}, which this training does not log; "
                f"it logs {', '.join(numbers)}"
            )

    def _rank(self, name: str, numbers: Mapping[str, float]) -> tuple[float, float]:
        """Return what is larger for the better epoch: the figure, and among equals the loss."""
        upwards = self.mode == "max" or (self.mode == "auto" and any(part in name for part in _HIGHER_IS_BETTER))
        loss = numbers.get("val_loss" if name.startswith("val_") else "loss", math.inf)
        pair = (numbers[name] if upwards else -numbers[name], -loss)
        return pair[0] if math.isfinite(pair[0]) else -math.inf, pair[1] if math.isfinite(pair[1]) else -math.inf

    def _learning_rate(self) -> float | None:
        try:
            return float(self.model.optimizer.learning_rate)
        except (AttributeError, TypeError, ValueError):  # an optimiser of the user's own
            return None

    def _set_learning_rate(self, rate: float) -> bool:
        """Set the learning rate; return False where the optimiser has a schedule of its own."""
        self._synchronise()
        try:
            self.model.optimizer.learning_rate = rate
        except TypeError:
            return False
        return True

    def _unfinished(self) -> str:
        return ", ".join(f"{name} is at {value:.3g}" for name, value in self.sharpness.items() if value < 1.0) or (
            "no whole epoch was trained fully sharpened"
        )

    def _state(self) -> dict[str, Any]:
        return {
            "layers": self._names,
            "finished": self.finished,
            "weight_bits": self.weight_bits,
            "first_epoch": self._budget.first,
            "course": dataclasses.asdict(self._course),
            "learning_rate": [self._first_rate, self._rate, self._rate_is_managed],
            "validated": self._validated,
            "by": self._by,
            "best": self.best,
            "records": self.records,
        }

    def _resume(self, checkpoint: TrainingCheckpoint, state: dict[str, Any]) -> None:
        try:
            # Not by their names: Keras numbers layers on, and the same code run twice in a process makes others.
            if len(state["layers"]) != len(self._names):
                raise ModelFileError(
                    f"checkpoint {checkpoint.folder} is of a model with the spiking layers "
                    f"{', '.join(state['layers'])}, and this one has {', '.join(self._names)}; give another folder"
                )
            if state.get("weight_bits") != self.weight_bits:
                raise ModelFileError(
                    f"checkpoint {checkpoint.folder} is of a training with weight_bits={state.get('weight_bits')}, "
                    f"and this one has weight_bits={self.weight_bits}; give another folder"
                )
            self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
            self.finished, self.best, self.records = state["finished"], state["best"], state["records"]
            self._by, self._validated = state["by"], state["validated"]
            self._first_rate, self._rate, self._rate_is_managed = state["learning_rate"]
            self._course = Course(**state["course"])
            self._budget = Budget(state["first_epoch"], self.params["epochs"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"the state in {checkpoint.folder} is incomplete ({error}); delete it to start again"
            ) from error
        if self.best_epoch is not None:
            checkpoint.load(self.model, self.best_epoch)
            self._best_weights = self.model.get_weights()
        checkpoint.load(self.model, self.epoch)
        self._read()
        self._resumed = True
        # What `BackupAndRestore` of Keras (3.8 to 3.15) does: `fit` reads it right after this, and has no other way.
        self.model._initial_epoch = self.params["epochs"] if self.finished else self.epoch + 1

    def _remark(self) -> str:
        if self.phase == "sharpening":
            return "; recovering" if self._course.holding else f"; sharpening by {self._course.pace:.2g} per epoch"
        return "; blunt" if self.phase == "blunt" else f"; sharp, best so far in epoch {self.best_epoch}"


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.number)
