"""The proof that lowering tests share: a model, random weights under which something happens, and no fault."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from random_networks import random_frames, randomise

import strop


def prove(model: keras.Model, seed: int = 0, *, encoding: str = "host", coarse: bool = False) -> strop.Report:
    """Verify on the reference backend; assert that spikes and silence both occur, and that there is no fault."""
    for attempt in range(20):  # the first random weights under which something fires, and something does not
        rng = np.random.default_rng((seed, attempt))
        randomise(model, rng, coarse=coarse)
        frames = random_frames(model, rng, 40, levels=8 if coarse else 255)
        spikes = strop.simulate(strop.lower(model, encoding), frames, "reference").spikes.values()
        if all(0 < np.count_nonzero(fired) < fired.size for fired in spikes):
            break
    else:
        pytest.fail("nothing is proved by a network that is all silent or all firing")
    report = strop.verify(model, frames, backends=("reference",), encoding=encoding)
    assert report.keras is not None
    assert report.keras.layers
    assert report.passed, str(report)
    return report


def sequential(shape: tuple[int, ...], *layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.layers.Input(shape), *layers])
