"""Sharpeners that follow a plan: a fixed number of steps per layer, or given epochs for each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from strop.errors import DataError
from strop.keras.sharpening.sharpener import Sharpener, whole_number


class SimpleSharpener(Sharpener):
    """Sharpen each layer in a fixed number of equal steps, one per epoch or one per batch.

    >>> model.fit(x, y, epochs=30, callbacks=[SimpleSharpener(start_epoch=5, steps=4)])

    By epochs, the first step is taken at the end of epoch `start_epoch`, and the epoch after it is the first
    to train with a sharper layer; by batches, after the first batch of epoch `start_epoch`. With three layers
    and four steps the model is fully sharpened after twelve steps, or after four if not `bottom_up`.

    Parameters
    ----------
    start_epoch : int, >= 0
        Epoch (counted from 0) in which sharpening begins.
    steps : int, >= 1
        Steps from smooth to threshold, for each layer.
    epochs : bool
        Step at the end of each epoch; otherwise after each batch.
    bottom_up : bool
        One layer after the other, starting at the input; otherwise all at once.
    verbose : bool
        Print the sharpness after each epoch.
    reset : bool
        Start from sharpness 0 rather than from what the layers have.

    Raises
    ------
    DataError
        If a number is out of range.
    """

    def __init__(
        self,
        start_epoch: int,
        steps: int = 4,
        epochs: bool = True,
        bottom_up: bool = True,
        verbose: bool = False,
        *,
        reset: bool = False,
    ) -> None:
        super().__init__(bottom_up=bottom_up, verbose=verbose, reset=reset)
        self.start_epoch = whole_number("start_epoch", start_epoch, minimum=0)
        self.steps = whole_number("steps", steps, minimum=1)
        self.epochs = epochs

    def _after_batch(self, taken: int) -> None:
        if not self.epochs and self.epoch >= self.start_epoch:
            self._take(taken)

    def _after_epoch(self, logs: dict[str, Any]) -> None:
        if self.epochs and self.epoch >= self.start_epoch:
            self._take(1)

    def _take(self, steps: int) -> None:
        values = list(self._values)
        for _ in range(steps):
            unfinished = [index for index, value in enumerate(values) if value < 1.0]
            for index in unfinished[:1] if self.bottom_up else unfinished:
                values[index] = self._next_step(values[index])
        self._write(values)

    def _next_step(self, value: float) -> float:
        # The steps are counted afresh from the sharpness, not summed up: no rounding error can pile up, and a
        # layer that starts between two steps joins in. 1e-4 is far above float32 rounding, far below
        # any step.
        taken = math.floor(value * self.steps + 1e-4) + 1
        return 1.0 if taken >= self.steps else taken / self.steps


class ScheduledSharpener(Sharpener):
    """Sharpen each layer, batch by batch, over the epochs that a schedule gives it.

    >>> ScheduledSharpener([(4, 8), (8, 12), (12, 14)])
    >>> ScheduledSharpener(start=4, duration=4, intermission=1)    # as many layers as the model has

    A layer with ``(start, stop)`` moves from its first batch of epoch `start` on, in equal steps, and is
    exactly at 1.0 with the last batch of epoch ``stop - 1``. Epochs count from 0, and 0 is a valid start. If
    Keras does not know how many batches an epoch has (a generator, in its first epoch), the layers step at
    the end of the epoch instead.

    Parameters
    ----------
    schedule : sequence of (start, stop), optional
        For each spiking layer, from input to output; ``0 <= start < stop``.
    num_layers, start, duration, intermission : int
        In place of `schedule`, see `gen_schedule`; `num_layers` defaults to what the model has,
        `intermission` to 0.
    bottom_up : bool
        For a generated schedule: one layer after the other; otherwise all layers over the same epochs.
    verbose : bool
        Print the sharpness after each epoch.
    reset : bool
        Start from sharpness 0 rather than from what the layers have.

    Raises
    ------
    DataError
        If the schedule is not well formed, or (when training begins) has not one entry per spiking layer.
    """

    def __init__(
        self,
        schedule: Sequence[tuple[int, int]] | None = None,
        num_layers: int | None = None,
        start: int | None = None,
        duration: int | None = None,
        intermission: int | None = None,
        bottom_up: bool = True,
        verbose: bool = False,
        *,
        reset: bool = False,
    ) -> None:
        super().__init__(bottom_up=bottom_up, verbose=verbose, reset=reset)
        self.schedule: list[tuple[int, int]] | None = None
        self._plan: tuple[int, int, int] | None = None
        self._active: list[tuple[int, int]] = []
        if schedule is not None:
            if any(value is not None for value in (num_layers, start, duration, intermission)):
                raise DataError("give either a schedule or start, duration and intermission, not both")
            self.schedule = _checked_schedule(schedule)
        elif start is None or duration is None:
            raise DataError("ScheduledSharpener needs a schedule, or start and duration to make one")
        else:
            self._plan = (start, duration, intermission or 0)
            generated = self._generate(1 if num_layers is None else num_layers, self._plan)
            if num_layers is not None:  # otherwise it was only made to check the figures; the model has the count
                self.schedule = generated

    @staticmethod
    def gen_schedule(num_layers: int, start: int, duration: int, intermission: int = 0) -> list[tuple[int, int]]:
        """Make a bottom-up schedule.

        >>> ScheduledSharpener.gen_schedule(3, start=10, duration=4, intermission=1)
        [(10, 14), (15, 19), (20, 24)]

        Parameters
        ----------
        num_layers : int, >= 1
        start : int, >= 0
            Epoch, counted from 0, in which the first layer begins to sharpen.
        duration : int, >= 1
            Epochs over which each layer is sharpened.
        intermission : int, >= 0
            Epochs between one layer and the next.

        Returns
        -------
        list of (start, stop), one for each layer
        """
        whole_number("num_layers", num_layers, minimum=1)
        whole_number("start", start, minimum=0)
        whole_number("duration", duration, minimum=1)
        whole_number("intermission", intermission, minimum=0)
        begins = [start + index * (duration + intermission) for index in range(num_layers)]
        return [(begin, begin + duration) for begin in begins]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the spiking layers and match the schedule to them."""
        super().on_train_begin(logs)
        count = len(self._layers)
        if self.schedule is not None:
            self._active = self.schedule
        elif self._plan is not None:
            self._active = self._generate(count, self._plan)
        if len(self._active) != count:
            listed = ", ".join(self._names)
            raise DataError(f"the schedule has {len(self._active)} entries for {count} layers: {listed}")

    def _generate(self, count: int, plan: tuple[int, int, int]) -> list[tuple[int, int]]:
        generated = self.gen_schedule(count, *plan)
        return generated if self.bottom_up else generated[:1] * count

    def _before_epoch(self) -> None:
        self._follow(0, 1)  # taken up again after a layer's epochs: it has to be sharp at once

    def _after_batch(self, taken: int) -> None:
        if self.batches_per_epoch:
            self._follow(min(self._batches_done, self.batches_per_epoch), self.batches_per_epoch)

    def _after_epoch(self, logs: dict[str, Any]) -> None:
        self._follow(1, 1)

    def _follow(self, done: int, batches: int) -> None:
        """Bring all layers to where the schedule has them after `done` of the `batches` of this epoch."""
        values = []
        for (start, stop), value in zip(self._active, self._values, strict=True):
            taken, whole = (self.epoch - start) * batches + done, (stop - start) * batches
            values.append(max(value, 1.0 if taken >= whole else taken / whole))
        self._write(values)


def _checked_schedule(schedule: Any) -> list[tuple[int, int]]:
    try:
        pairs = [(start, stop) for start, stop in schedule]
    except (TypeError, ValueError) as error:
        raise DataError(f"a schedule is a list of (start, stop) epochs, got {schedule!r}") from error
    if not pairs:
        raise DataError("the schedule is empty: it needs one (start, stop) for each spiking layer")
    for index, (start, stop) in enumerate(pairs):
        whole_number(f"start of entry {index} of the schedule", start, minimum=0)
        whole_number(f"stop of entry {index} of the schedule (above its start)", stop, minimum=start + 1)
    return pairs
