"""What a network's activations reach on frames: the width of each ramp, and the statistics in front of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import DataError
from strop.keras.conversion.nhot import scores
from strop.keras.conversion.program import Program, Step
from strop.keras.conversion.ramps import Ramp

_BATCH = 64
# Values of each activation that are kept of a batch, to find the percentile of.
_KEPT = 20_000


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel, shape (channels,), float64."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What was found on the frames."""

    ramps: dict[Any, Ramp]
    """The counterpart of each activation, its width in place."""
    moments: dict[int, Moments]
    """Of the inputs of activations, by the `id` of the symbolic tensor."""
    scores: NDArray[np.float64]
    """Of the head, without bias, shape (n, classes); (0, 0) where there is none to replace."""


def measure(program: Program, frames: list[NDArray[Any]], percentile: float, head: Step | None = None) -> Measured:
    """Run `frames` and measure all activations.

    Parameters
    ----------
    program : Program
    frames : list of array, shape (n, *input_shape)
        One for each input.
    percentile : float, in (0, 100]
        Of the activations above zero: so far the ramp reaches.
    head : Step, optional
        The dense layer of which the scores are kept.

    Raises
    ------
    DataError
        If the model gives values that are not finite on these frames.
    """
    sums: dict[int, _Sums] = defaultdict(_Sums)
    kept: dict[Any, list[NDArray[Any]]] = defaultdict(list)
    found: list[NDArray[np.float64]] = []
    for begin in range(0, len(frames[0]), _BATCH):
        batch = [keras.ops.convert_to_tensor(array[begin : begin + _BATCH]) for array in frames]
        for step, values in program.run(batch):
            if step is head:
                found.append(scores(step, values[0]))
            if step.kind != "activation":
                continue
            before = _array(values[0])
            if not np.isfinite(before).all():
                raise DataError(f"{step.where} gets values that are not finite from these frames: did it diverge?")
            sums[id(step.inputs[0])].add(before, program.channel_axis(step.inputs[0]))
            kept[step.key].append(_positive(step, values[0]))
    ramps = {step.key: _measured(step, kept[step.key], percentile) for step in program.activations}
    moments = {key: total.moments() for key, total in sums.items()}
    return Measured(ramps, moments, np.concatenate(found) if found else np.zeros((0, 0)))


def _positive(step: Step, before: Any) -> NDArray[Any]:
    after = _array(step.operation(before)).reshape(-1)
    after = after[after > 0.0]
    return after[:: max(1, len(after) // _KEPT)]


def _measured(step: Step, values: list[NDArray[Any]], percentile: float) -> Ramp:
    assert step.ramp is not None
    positive = np.concatenate(values)
    # A layer that never fired says nothing; one as wide as in the textbook can learn.
    reach = float(np.percentile(positive, percentile)) if len(positive) else 1.0
    return step.ramp.measured(reach)


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(value))


class _Sums:
    def __init__(self) -> None:
        self.count = 0
        self.first: Any = 0.0
        self.second: Any = 0.0

    def add(self, values: NDArray[Any], axis: int) -> None:
        rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis]).astype(np.float64)
        self.count += len(rows)
        self.first = self.first + rows.sum(axis=0)
        self.second = self.second + (rows**2).sum(axis=0)

    def moments(self) -> Moments:
        mean = self.first / self.count
        return Moments(mean, np.maximum(self.second / self.count - mean**2, 0.0))
