"""Weights of bit planes: the operator that turns the planes of whole numbers back into values."""

from __future__ import annotations

import numpy as np

from strop.graph import Dense


def plane_weights(shape: tuple[int, ...], bits: int, step: float | None = None) -> Dense:
    """Return the operator that turns bit planes back into values: plane k of a channel weighs `step * 2^k`.

    Parameters
    ----------
    step : float, optional
        By default `1 / (2^bits - 1)`.
    """
    numbers = 2.0 ** np.arange(bits)
    weights = (numbers / ((1 << bits) - 1) if step is None else numbers * step)[:, None]
    return Dense(np.kron(np.eye(shape[-1]), weights).astype(np.float64), shape[:-1])
