"""A model that is not built yet is built for the frames at hand; without frames the refusal says what to do."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import strop
from strop.errors import DataError, UnsupportedLayerError
from strop.keras import SpikingBReLU


def unbuilt() -> keras.Sequential:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.layers.Conv2D(3, 3), SpikingBReLU(1.0), keras.layers.Flatten(), keras.layers.Dense(4), SpikingBReLU(1.0)]
    )


FRAMES = np.random.default_rng(0).random((20, 6, 6, 1)).astype(np.float32)


@pytest.mark.parametrize(
    "frames", [FRAMES, (FRAMES, np.zeros(20, int)), [FRAMES], {"x": FRAMES}, FRAMES.tolist()], ids=type
)
def test_lower_builds_for_frames_in_any_form(frames: object) -> None:
    model = unbuilt()
    with pytest.raises(UnsupportedLayerError, match="was never built, and no frames say for which shape"):
        strop.lower(model)
    graph = strop.lower(model, frames=frames)
    assert graph.inputs[0].shape == (6, 6, 1)
    assert [population.shape for population in graph.populations] == [(4, 4, 3), (4,)]
    assert model.built


def test_every_function_that_takes_frames_builds() -> None:
    report = strop.verify(unbuilt(), FRAMES, backends=("reference",))
    assert report.passed
    model = unbuilt()
    result = strop.simulate(model, FRAMES, "reference")
    assert result.spikes[next(iter(result.spikes))].sum() > 0
    np.testing.assert_array_equal(result.output.reshape(20, -1), model.predict(FRAMES, verbose=0))
    assert strop.inspect(unbuilt(), FRAMES).totals["neurons"] == 52


def test_frames_that_the_layers_do_not_take() -> None:
    with pytest.raises(DataError, match=r"cannot be built for frames of shape \(6,\)"):
        strop.lower(unbuilt(), frames=np.zeros((5, 6)))
