"""Moving statistics of batch normalisation after a sharpening step, without the smooth network's share.

Inference uses moving averages of the means and variances that training saw. Right after a layer below has become a
threshold they still remember the smooth network, for hundreds of batches at Keras's default momentum. No data is
needed to take that out: the average over k batches is ``m**k`` times what it began with plus what the batches gave,
so the part of the batches alone follows from the two ends. It is the bias correction of Adam (Kingma, Ba,
arXiv:1412.6980, section 3), applied to the layers' own averages.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from strop.errors import UnsupportedLayerError

_FORGOTTEN = 1e-3


class MovingStatistics:
    """The moving means and variances of a model, averaged over nothing but the batches since `restart`.

    Covers each `BatchNormalization` whose updates per batch can be counted: those of Sequential and functional models,
    however nested. Others are left as Keras keeps them.

    Parameters
    ----------
    model : keras.Model, built
    """

    def __init__(self, model: Any) -> None:
        self._averages = [
            _Average(variable, float(layer.momentum) ** calls)
            for layer, calls in _normalisations(model).items()
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

    def restart(self) -> None:
        """Forget everything up to now."""
        for average in self._averages:
            average.restart()

    def settle(self, batches: int) -> None:
        """Set the statistics to the averages since `restart`, after `batches` more batches."""
        for average in self._averages:
            average.settle(batches)


class _Average:
    """One moving average: what the batches since the restart gave, and their share in it."""

    def __init__(self, variable: Any, momentum: float) -> None:
        self.variable, self.momentum = variable, momentum
        self.restart()

    def restart(self) -> None:
        self.last = self._read()
        self.gathered = np.zeros_like(self.last)
        self.share = 0.0

    def settle(self, batches: int) -> None:
        if batches <= 0 or self.share > 1.0 - _FORGOTTEN:
            return
        decay = self.momentum**batches
        now = self._read()
        self.gathered = decay * self.gathered + (now - decay * self.last)
        self.share = decay * self.share + (1.0 - decay)
        if self.share <= 0.0:  # momentum 1: the statistics never move
            return
        # A mean of variances can fall below the least of them only by rounding, and below zero only so.
        low = 0.0 if now.min() >= 0.0 and self.last.min() >= 0.0 and self._is_variance else -np.inf
        settled = np.maximum(self.gathered / self.share, low).astype(np.float32)
        self.variable.assign(settled)
        self.last = settled.astype(np.float64)

    @property
    def _is_variance(self) -> bool:
        return "variance" in str(self.variable.name)

    def _read(self) -> NDArray[np.float64]:
        return np.asarray(keras.ops.convert_to_numpy(self.variable.value), np.float64)


def _normalisations(model: Any) -> dict[Any, int]:
    """Return each batch normalisation of `model` with how often a forward pass calls it; none where unknown."""
    from strop.keras.walk import walk

    calls: Counter[Any] = Counter()

    def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(operation, keras.layers.BatchNormalization):
            calls[operation] += 1
        return operation.compute_output_spec(*args, **kwargs)

    try:
        walk(model, list(model.inputs), visit)
    except (UnsupportedLayerError, AttributeError):  # a subclassed model: its calls cannot be counted
        return {}
    return dict(calls)
