"""`AdaptiveSharpener`: sharpens while the training loss stays low, and waits while it rises."""

from __future__ import annotations

import math
from typing import Any

from strop.errors import StropError
from strop.keras.sharpening.course import growth
from strop.keras.sharpening.sharpener import Sharpener, number_between, whole_number


class AdaptiveSharpener(Sharpener):
    """Sharpen by the training loss: pause when it rises, go on when it no longer falls.

    >>> model.fit(x, y, epochs=200, callbacks=[AdaptiveSharpener(min_init_epochs=10)])

    After `min_init_epochs` the sharpener waits until the loss has not fallen by `sig_decrease` for more than
    `patience` epochs, then sharpens batch by batch, until the loss at the end of an epoch is `sig_increase`
    above that at the last such turn; then it waits again. Bottom-up, a layer that reaches 1.0 ends the
    sharpening of its epoch, so that the network meets the new threshold before the next layer moves.

    Give `fit` plenty of epochs: training stops by itself when the model is fully sharpened.

    Parameters
    ----------
    min_init_epochs : int, >= 1
        Epochs before sharpening may begin.
    rate, cz_rate : float, in (0, 1]
        Sharpness gained per epoch, below and from `critical` on.
    critical : float, in [0, 1]
        Sharpness at which the critical zone begins.
    first_layer_relative_rate : float, > 0
        Factor on the rate of the first layer, bottom-up.
    patience : int, >= 0
        Epochs without a significant improvement to sit out before sharpening.
    sig_increase, sig_decrease : float, > 0
        Relative change of the loss that counts, 0.15 for 15 %.
    bottom_up : bool
        One layer after the other, starting at the input; otherwise all at once.
    verbose : bool
        Print sharpness, loss and decision after each epoch.
    monitor : str
        The entry of Keras's logs to listen to.
    reset : bool
        Start from sharpness 0 rather than from what the layers have.

    Raises
    ------
    DataError
        If a number is out of range.
    StropError
        If the logs have no entry `monitor`.
    """

    def __init__(
        self,
        min_init_epochs: int = 10,
        rate: float = 0.25,
        cz_rate: float = 0.126,
        critical: float = 0.75,
        first_layer_relative_rate: float = 1.0,
        patience: int = 1,
        sig_increase: float = 0.15,
        sig_decrease: float = 0.15,
        bottom_up: bool = True,
        verbose: bool = False,
        *,
        monitor: str = "loss",
        reset: bool = False,
    ) -> None:
        super().__init__(bottom_up=bottom_up, verbose=verbose, reset=reset)
        self.min_init_epochs = whole_number("min_init_epochs", min_init_epochs, minimum=1)
        self.rate = number_between("rate", rate, 0.0, 1.0)
        self.cz_rate = number_between("cz_rate", cz_rate, 0.0, 1.0)
        self.critical = 0.0 if critical == 0 else number_between("critical", critical, 0.0, 1.0)
        self.first_layer_relative_rate = number_between(
            "first_layer_relative_rate", first_layer_relative_rate, 0.0, math.inf
        )
        self.patience = whole_number("patience", patience, minimum=0)
        self.sig_increase = number_between("sig_increase", sig_increase, 0.0, math.inf)
        self.sig_decrease = number_between("sig_decrease", sig_decrease, 0.0, math.inf)
        self.monitor = monitor
        self.sharpening = False
        self.reference_loss: float | None = None
        self._loss = math.nan
        self._idle_epochs = 0
        self._layer_done = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start listening afresh: the losses of an earlier training say nothing about this one."""
        super().on_train_begin(logs)
        self.sharpening = False
        self.reference_loss = None
        self._idle_epochs = 0

    def _before_epoch(self) -> None:
        self._layer_done = False

    def _after_batch(self, taken: int) -> None:
        lowest = self._lowest_unfinished()
        if not self.sharpening or self._layer_done or lowest is None or not self.batches_per_epoch:
            return
        values = list(self._values)
        share = taken / self.batches_per_epoch
        if self.bottom_up:
            factor = self.first_layer_relative_rate if lowest == 0 else 1.0
            values[lowest] = self._sharper(values[lowest], share * factor)
            self._layer_done = values[lowest] == 1.0
        else:
            values = [self._sharper(value, share) for value in values]
        self._write(values)

    def _sharper(self, value: float, share: float) -> float:
        raised = value + share * (self.cz_rate if value >= self.critical else self.rate)
        # A remainder that small is the rounding of many small steps, and would cost an epoch of its own.
        return 1.0 if raised > 1.0 - 1e-3 * self.cz_rate else raised

    def _after_epoch(self, logs: dict[str, Any]) -> None:
        if self.monitor not in logs:
            raise StropError(
                f"AdaptiveSharpener listens to {self.monitor!r}, which this training does not log; "
                f"it logs {', '.join(logs) or 'nothing'}"
            )
        self._loss = float(logs[self.monitor])
        if self.reference_loss is None or self.epoch < self.min_init_epochs - 1:
            self.reference_loss = self._loss
            return
        change = growth(self._loss, self.reference_loss)
        if change <= -self.sig_decrease:
            self._turn(self.sharpening)
        elif self.sharpening and change >= self.sig_increase:
            self._turn(False)
        else:
            self._idle_epochs += 1
            if not self.sharpening and self._idle_epochs > self.patience and math.isfinite(self._loss):
                self._turn(True)

    def _turn(self, sharpening: bool) -> None:
        """Sharpen from here on or wait; later losses are compared with the one of this epoch."""
        self.sharpening = sharpening
        self.reference_loss = self._loss
        self._idle_epochs = 0

    def _remark(self) -> str:
        return f"; {self.monitor} {self._loss:.4g}, {'sharpening' if self.sharpening else 'waiting'}"
