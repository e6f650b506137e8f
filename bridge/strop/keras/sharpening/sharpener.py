"""`Sharpener`, the base of the sharpening callbacks: spiking layers, their sharpness, stopping and logging.

A sharpener is an ordinary Keras callback. The state of the sharpening is the sharpness of the layers itself,
never a counter beside it, so training may be interrupted, saved and taken up again anywhere.
"""

from __future__ import annotations

from typing import Any

import keras

from strop.errors import DataError, StropError
from strop.keras.sharpness import named_spiking_layers


class Sharpener(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Base of the sharpening callbacks.

    Training stops at the end of the first epoch that began with every layer fully sharpened, so that what can
    still learn (layers above the last activation, the statistics of batch normalisation) has a whole epoch to
    settle.

    The sharpness with which an epoch ended (and was validated) is put into Keras's `logs`:
    ``sharpness_<layer>`` for each layer and their mean ``sharpness``. The progress bar and `History` always
    see them; a `CSVLogger`, `ModelCheckpoint` or the like sees them if it stands *after* the sharpener in the
    list of callbacks.

    Parameters
    ----------
    bottom_up : bool
        Sharpen one layer at a time, starting at the input; otherwise all at once.
    verbose : bool
        Print the sharpness after each epoch.
    reset : bool
        Start from sharpness 0. By default a sharpener goes on from what the layers have, and never blunts
        one.
    """

    def __init__(self, *, bottom_up: bool = True, verbose: bool = False, reset: bool = False) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.verbose = verbose
        self.reset = reset
        self.epoch = 0
        self.batches_per_epoch: int | None = None
        self._names: list[str] = []
        self._layers: list[Any] = []
        self._values: list[float] = []
        self._batches_done = 0
        self._epoch_began_sharp = False

    @property
    def sharpness(self) -> dict[str, float]:
        """The sharpness of each spiking layer by name, from input to output."""
        return dict(zip(self._names, self._values, strict=True))

    @property
    def fully_sharpened(self) -> bool:
        """Whether every spiking layer is a threshold now."""
        return all(value >= 1.0 for value in self._values)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the spiking layers and read their sharpness; a model without any is refused."""
        layers = named_spiking_layers(self.model)
        if not layers:
            raise StropError(
                f"model {self.model.name!r} has no spiking activation to sharpen; "
                "use strop.keras.SpikingBReLU or SpikingSigmoid as activations"
            )
        self._names, self._layers = list(layers), list(layers.values())
        self._read()
        if self.reset:
            self._write([0.0] * len(self._layers))
        self.batches_per_epoch = (self.params or {}).get("steps")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note which epoch it is (from 0) and whether it begins fully sharpened."""
        self.epoch = epoch
        self._batches_done = 0
        self._read()
        self._before_epoch()
        self._epoch_began_sharp = self.fully_sharpened

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sharpen after a batch, where the sharpener works by batches."""
        # `batch`, not the number of calls: with `steps_per_execution` one call stands for several batches.
        taken, self._batches_done = batch + 1 - self._batches_done, batch + 1
        self._after_batch(taken)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the sharpness, sharpen where the sharpener works by epochs, and stop when done."""
        if logs is not None:
            logs.update({f"sharpness_{name}": value for name, value in self.sharpness.items()})
            logs["sharpness"] = sum(self._values) / len(self._values)
        if self.batches_per_epoch is None:
            self.batches_per_epoch = self._batches_done or None
        self._after_epoch(logs or {})
        if self._done():
            self.model.stop_training = True
        if self.verbose:
            listed = " ".join(f"{name}={value:.3g}" for name, value in self.sharpness.items())
            print(f"epoch {epoch}: sharpness {listed}{self._remark()}")

    def _before_epoch(self) -> None:
        """Sharpen before the first batch of an epoch."""

    def _after_batch(self, taken: int) -> None:
        """Sharpen after `taken` more batches; `self._batches_done` of this epoch are done."""

    def _after_epoch(self, logs: dict[str, Any]) -> None:
        """Sharpen after an epoch."""

    def _done(self) -> bool:
        """Return whether training stops after this epoch."""
        return self._epoch_began_sharp

    def _remark(self) -> str:
        """Return what else the verbose line says."""
        return ""

    def _lowest_unfinished(self) -> int | None:
        """Return the index of the first layer that is not yet a threshold, or None."""
        return next((index for index, value in enumerate(self._values) if value < 1.0), None)

    def _read(self) -> None:
        self._values = [layer.sharpness for layer in self._layers]

    def _write(self, values: list[float]) -> None:
        """Set the sharpness of all layers, touching only those that change."""
        if values == self._values:
            return
        self._synchronise()
        for layer, old, new in zip(self._layers, self._values, values, strict=True):
            if new != old:
                layer.sharpness = new
        self._values = list(values)

    def _synchronise(self) -> None:
        # On JAX the weights live in the training loop between epochs; what is assigned to a layer is lost
        # unless the loop is told to read the weights again.
        synchronise = getattr(self.model, "jax_state_sync", None)
        if synchronise is not None:
            synchronise()


def whole_number(what: str, value: Any, *, minimum: int) -> int:
    """Return `value` if it is an int of at least `minimum`; anything else is a `DataError`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise DataError(f"{what} must be a whole number of at least {minimum}, got {value!r}")
    return value


def number_between(what: str, value: Any, low: float, high: float) -> float:
    """Return `value` as a float if ``low < value <= high``; anything else is a `DataError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
        raise DataError(f"{what} must be a number above {low:g} and at most {high:g}, got {value!r}")
    return float(value)
