"""The proof that lowering tests share: a model, random weights under which something happens, and no fault."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from random_networks import random_frames, randomise

import strop
from strop.lowering.keras_frames import keras_frames
from strop.running.encode import as_frames


def prove(model: keras.Model, seed: int = 0, *, encoding: str = "host", coarse: bool = False) -> strop.Report:
    """Verify on the reference backend; assert that spikes and silence both occur, and that there is no fault."""
    for attempt in range(20):  # the first random weights under which something fires, and something does not
        rng = np.random.default_rng((seed, attempt))
        randomise(model, rng, coarse=coarse)
        frames = random_frames(model, rng, 40, levels=8 if coarse else 255, encoding=encoding)
        graph = strop.lower(model, encoding)
        result = strop.simulate(graph, frames, "reference")
        if all(0 < np.count_nonzero(fired) < fired.size for fired in result.spikes.values()):
            break
    else:
        pytest.fail("nothing is proved by a network that is all silent or all firing")
    report = strop.verify(model, frames, backends=("reference",), encoding=encoding)
    assert report.keras is not None
    assert report.keras.layers
    assert report.passed, str(report)
    if report.keras.ties == 0:
        shown = keras_frames(graph, as_frames(graph, frames))
        _assert_outputs_equal(model, [shown[node.name] for node in graph.inputs], result.output)
    return report


def _assert_outputs_equal(model: keras.Model, frames: list[np.ndarray], ours: object) -> None:
    """What comes out is what Keras gives: values of a read-out, or spikes in their order."""
    # Called directly, which is faster; but there Keras 3.15 on TensorFlow misplaces biases of channels-first layers.
    compiled = any(getattr(layer, "data_format", None) == "channels_first" for layer in model._flatten_layers())
    inputs = frames[0] if len(frames) == 1 else keras.tree.pack_sequence_as(model.input, frames)
    outputs = model.predict(inputs, verbose=0) if compiled else model(inputs, training=False)
    answers = ours if isinstance(ours, list) else [ours]
    for mine, theirs in zip(answers, keras.tree.flatten(outputs), strict=True):
        expected = keras.ops.convert_to_numpy(theirs)
        assert mine.shape == expected.shape
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)


def sequential(shape: tuple[int, ...], *layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.layers.Input(shape), *layers])
