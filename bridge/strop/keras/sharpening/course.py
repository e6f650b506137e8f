"""When to sharpen and how fast: the decisions of `AutoSharpener`, epoch by epoch, as plain arithmetic.

Three phases: *blunt* until the network has learned what it can, *sharpening* layer by layer, *sharp* until training
fully sharpened brings nothing more. What is decided after an epoch takes effect when the next one begins, so each
epoch is trained, validated and logged with one sharpness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Phase = Literal["blunt", "sharpening", "sharp"]
Decision = Literal["go on", "cool", "stop"]

# From here on a layer goes to 1 at once: slopes steeper than 1 / (1 - 0.85) have rare and huge gradients, which undo
# more than they teach.
_NEARLY_SHARP = 0.85
_SLOWEST = 0.1
# Relative fall of the learning rate from one epoch to the next that counts as being on a schedule.
_FALLING = 1e-3


@dataclass(frozen=True)
class Tempo:
    """Pace and patience of the sharpening: one set without, one with a surrogate gradient; not meant to be set."""

    improvement: float
    """Relative fall of the watched loss that counts as learning, in the blunt phase and while waiting."""
    blunt_patience: int
    """Epochs without it after which the blunt phase ends."""
    blunt_share: float
    """Part of all epochs that the blunt phase may take."""
    pace: float
    """Sharpness per epoch to begin with."""
    fastest: float
    """Sharpness per epoch that is never exceeded, unless the epochs run out."""
    tolerance: float
    """Relative rise of the training loss from which on sharpening waits."""
    sharp_share: float
    """Part of all epochs that is left for training fully sharpened."""
    sharp_patience: int
    """Fully sharpened epochs without a new best one after which the learning rate falls, or training ends."""
    coolings: int
    """How often the learning rate falls in the sharp phase, where no schedule or callback lowers it."""
    cooling_epochs: int
    """Epochs that each of these falls is given at least, if the end of the epochs is near."""


# Below a threshold without a surrogate nothing learns any more: be sure of each layer before the next one moves.
HARD = Tempo(
    improvement=0.02,
    blunt_patience=2,
    blunt_share=0.3,
    pace=0.25,
    fastest=0.5,
    tolerance=0.2,
    sharp_share=0.1,
    sharp_patience=3,
    coolings=0,
    cooling_epochs=0,
)
# With a surrogate all layers go on learning: the sharp phase makes up for a quick sharpening.
SURROGATE = Tempo(
    improvement=0.1,
    blunt_patience=1,
    blunt_share=0.2,
    pace=1.0,
    fastest=1.0,
    tolerance=1.0,
    sharp_share=0.5,
    sharp_patience=4,
    coolings=2,
    cooling_epochs=3,
)


@dataclass(frozen=True)
class Budget:
    """The epochs there are."""

    first: int
    """The first epoch of the training, from 0."""
    total: int
    """One more than the last epoch."""

    def begin_of_sharpening(self, tempo: Tempo) -> int:
        """Return the epoch in which sharpening begins at the latest."""
        return self.first + max(1, int((self.total - self.first) * tempo.blunt_share))

    def begin_of_sharp(self, tempo: Tempo) -> int:
        """Return the epoch that must begin fully sharpened."""
        return self.total - max(1, round((self.total - self.first) * tempo.sharp_share))


@dataclass
class Course:
    """Where the training stands; plain numbers, so that it can be saved and taken up again."""

    phase: Phase = "blunt"
    pace: float = 0.0
    """Sharpness gained per epoch, summed over the layers."""
    holding: bool = False
    """While sharpening: whether the network is given time to recover."""
    hurried: bool = False
    """Whether the end of the epochs ever forced a faster pace than the network would have had."""
    reference: float | None = None
    """Blunt: the least watched loss. Sharpening: the training loss at the last turn."""
    previous: float | None = None
    """The training loss of the epoch before."""
    waited: int = 0
    """Epochs without an improvement."""
    cooled: int = 0
    """How often the learning rate has fallen."""

    def after_epoch(
        self, epoch: int, values: list[float], loss: float, watched: float | None, tempo: Tempo, budget: Budget
    ) -> None:
        """Decide what the next epoch does, blunt or sharpening.

        Parameters
        ----------
        epoch : int
            The epoch that has ended.
        values : list of float
            The sharpness of each layer in it.
        loss : float
            Its training loss.
        watched : float, optional
            Its validation loss, or the training loss where there is none; None where it was not validated.
        tempo, budget
        """
        if all(value >= 1.0 for value in values):
            if self.phase != "sharp":
                self.phase, self.waited = "sharp", 0
            return
        if self.phase == "blunt":
            self._blunt(epoch, loss, watched, tempo, budget)
        elif self.holding:
            self._hold(loss, tempo)
        else:
            self._move(loss, tempo)
        self.previous = loss
        self._keep_up(epoch + 1, values, tempo, budget)

    def before_first_epoch(self, epoch: int, values: list[float], tempo: Tempo, budget: Budget) -> None:
        """Join in where the layers are."""
        if all(value >= 1.0 for value in values):
            self.phase = "sharp"
        elif self.phase != "sharpening" and max(values) > 0.0:
            self._begin(tempo)
        self._keep_up(epoch, values, tempo, budget)

    def after_sharp_epoch(
        self, epoch: int, improved: bool, falling: bool, can_cool: bool, tempo: Tempo, budget: Budget
    ) -> Decision:
        """Decide what follows a fully sharpened epoch.

        Parameters
        ----------
        epoch : int
        improved : bool
            Whether it was the best so far.
        falling : bool
            Whether the learning rate came down in it: then better ones are to be expected, and it is not counted.
        can_cool : bool
            Whether the learning rate is the sharpener's to lower.
        """
        self.waited = 0 if improved or falling else self.waited + 1
        stagnant, left = self.waited >= tempo.sharp_patience, budget.total - (epoch + 1)
        coolings = tempo.coolings - self.cooled if can_cool else 0
        if coolings > 0 and left > 0 and (stagnant or left <= coolings * tempo.cooling_epochs):
            self.cooled, self.waited = self.cooled + 1, 0
            return "cool"
        return "stop" if stagnant else "go on"

    def next_values(self, values: list[float]) -> list[float]:
        """Return the sharpness of the epoch that begins, from that of the one before."""
        if self.phase != "sharpening" or self.holding:
            return values
        # A rounding short of sharp is sharp: it must not take a step that the last epochs do not have.
        values = [1.0 if value > _NEARLY_SHARP else value for value in values]
        stepped, left = list(values), self.pace
        for index, value in enumerate(values):
            if value >= 1.0:
                continue
            raised = value + left
            stepped[index] = 1.0 if raised > _NEARLY_SHARP else raised
            left -= stepped[index] - value
            if not self.hurried or left <= 1e-9:  # one layer at a time, unless there is no time
                break
        return stepped

    def _begin(self, tempo: Tempo) -> None:
        self.phase, self.pace, self.holding, self.waited = "sharpening", tempo.pace, False, 0
        self.reference = None

    def _blunt(self, epoch: int, loss: float, watched: float | None, tempo: Tempo, budget: Budget) -> None:
        if watched is not None:
            if self.reference is None or watched < self.reference - tempo.improvement * abs(self.reference):
                self.reference, self.waited = watched, 0
            else:
                self.waited += 1
        if self.waited >= tempo.blunt_patience or epoch + 1 >= budget.begin_of_sharpening(tempo):
            self._begin(tempo)
            self.reference = loss

    def _move(self, loss: float, tempo: Tempo) -> None:
        damage = growth(loss, self.reference)
        if damage > tempo.tolerance:
            self.holding, self.pace = True, max(self.pace / 2.0, _SLOWEST)
        elif damage < tempo.tolerance / 3.0:
            self.pace = min(self.pace * 1.5, max(tempo.fastest, self.pace))
        self.reference = loss if self.reference is None else min(loss, self.reference)

    def _hold(self, loss: float, tempo: Tempo) -> None:
        recovered = growth(loss, self.reference) <= tempo.tolerance / 2.0
        if recovered or growth(loss, self.previous) > -tempo.improvement:
            self.holding, self.reference = False, loss

    def _keep_up(self, epoch: int, values: list[float], tempo: Tempo, budget: Budget) -> None:
        """Speed up where the layers would not be sharp in time; `epoch` is the one that comes."""
        if self.phase == "sharp":
            return
        remaining = sum(1.0 - value for value in values)
        steps = budget.begin_of_sharp(tempo) - epoch + 1  # each at the beginning of an epoch
        unfinished = sum(value < 1.0 for value in values)
        if self.phase == "blunt" and steps > unfinished:
            return
        if self.phase == "blunt":
            self._begin(tempo)
        # Whole steps: a layer never shares one with the next, so each takes its own number of them.
        if steps <= sum(math.ceil((1.0 - value) / self.pace) for value in values):
            self.holding = False
            self.pace = max(self.pace, remaining / max(steps, 1))
            self.hurried = True


def growth(loss: float, reference: float | None) -> float:
    """Return by which part of `reference` the loss has grown; what is not finite has grown without end."""
    if reference is None:
        return 0.0
    if not math.isfinite(loss):
        return math.inf
    if loss == reference:
        return 0.0
    if reference == 0.0:
        return math.copysign(math.inf, loss)
    return (loss - reference) / abs(reference)


def falls(rate: float | None, before: float | None) -> bool:
    """Return whether a learning rate has come down since the epoch before."""
    return rate is not None and before is not None and rate < before * (1.0 - _FALLING)


def moves(rate: float | None, before: float | None) -> bool:
    """Return whether a learning rate has changed since the epoch before."""
    return falls(rate, before) or falls(before, rate)
