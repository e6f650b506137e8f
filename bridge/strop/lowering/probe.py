"""`KerasProbe`: spikes of every observed population, and the outputs, as Keras itself computes them for frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from strop.errors import StropError
from strop.lowering.context import Lowering, Observation
from strop.lowering.layer_outputs import walker_of


class KerasProbe:
    """Runs a Keras model and reads the spikes of its layers.

    Parameters
    ----------
    model : keras.Model
    lowering : Lowering
        From `strop.lowering.trace(model)`: says which calls show which population.

    Raises
    ------
    StropError
        If `model.predict` is not what its layers compute, because its class overrides it.
    """

    def __init__(self, model: keras.Model, lowering: Lowering) -> None:
        _refuse_other_predictions(model)
        self.model, self.lowering = model, lowering
        self._visits = sorted({observation.visit for observation in lowering.observations})
        self._walker = walker_of(model, self._visits)

    @property
    def wide(self) -> frozenset[str]:
        """Names of the inputs that Keras takes in float64, where `model.predict` rounds no frame to float32."""
        inputs = zip(self.lowering.graph.inputs, self.model.inputs, strict=True)
        return frozenset(node.name for node, tensor in inputs if tensor.dtype == "float64")

    @property
    def observed(self) -> frozenset[str]:
        """Names of the populations whose spikes Keras shows."""
        return frozenset(observation.population for observation in self.lowering.observations)

    def run(
        self, frames: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[dict[str, npt.NDArray[np.bool_]], list[npt.NDArray[Any]]]:
        """Return the spikes of every observed population, shape `(n, *shape)`, and the outputs of the model itself.

        The layers are called in a compiled function, as `model.predict` calls them: Keras 3.15 on TensorFlow gives
        other results layer by layer in eager mode (for channels-first convolutions whose width equals their filters,
        `keras/src/backend/tensorflow/numpy.py`, `add`, adds the bias along the wrong axis).

        Parameters
        ----------
        frames : mapping of input name to array, shape (n, *input_shape), in the dtype of the model's input
            From `strop.lowering.keras_frames.keras_frames`.

        Raises
        ------
        StropError
            If a spiking layer gives values that are not the two that it should, or the walk along the layers does
            not give what the model gives: then one of them was changed behind strop's back.
            If Keras cannot compute the model at all (TensorFlow 2.21 fails on a separable convolution of one filter
            and one channel, kernel 1x1: "could not create a primitive descriptor").
        """
        inputs = zip(self.lowering.graph.inputs, self.model.inputs, strict=True)
        # A model whose input takes whole numbers gets whole numbers.
        arrays = [frames[node.name].astype(tensor.dtype, copy=False) for node, tensor in inputs]
        try:
            shown, outputs, direct = self._walker(arrays)
        except Exception as error:  # each backend of Keras has its own
            raise StropError(
                f"Keras itself fails to compute model {self.model.name!r} on these frames, so there is nothing to "
                f"compare spikes with; check whether model.predict works: {type(error).__name__}: {_reason(error)}"
            ) from error
        self._check_observed()
        values = dict(zip(self._visits, shown, strict=True))
        spikes = {
            observation.population: self._read(observation, values[observation.visit])
            for observation in self.lowering.observations
        }
        self._check_walk(outputs, direct)
        return spikes, direct

    def _check_observed(self) -> None:
        """Check that every layer that spikes is compared, however it was lowered."""
        unseen = [path for visit, path in self._walker.firing.items() if visit not in self._visits]
        if unseen:
            raise StropError(
                f"layer {unseen[0]!r} spikes, and the lowering does not say which population its spikes are: nothing "
                "would be compared there. Do not trust this lowering, and please report it"
            )

    def _read(self, observation: Observation, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        for step in observation.steps:
            values = values[:, step]
        if observation.channels_first and values.ndim > 2:
            values = np.moveaxis(values, 1, -1)
        scale, shift = observation.levels
        if (scale == 1.0).all() and not shift.any() and set(observation.values) >= {0.0, 1.0}:
            ones = values == 1.0
            if np.array_equal(ones, values != 0.0):
                return np.ascontiguousarray(ones)
        levels = (values - shift) / scale
        fired: npt.NDArray[np.bool_] = levels >= 0.5
        distances = [np.abs(levels - value) for value in observation.values]
        # Written so that a NaN is foreign.
        foreign = ~(np.minimum.reduce(distances) <= 1e-3)
        if foreign.any():
            raise StropError(
                f"the layer of population {observation.population!r} gives values that are no spikes, for example "
                f"{float(values[foreign][0])!r}"
            )
        return fired

    def _check_walk(self, outputs: list[npt.NDArray[Any]], direct: list[npt.NDArray[Any]]) -> None:
        for ours, theirs in zip(outputs, direct, strict=True):
            if not np.allclose(ours, theirs, atol=1e-4, equal_nan=True):
                raise StropError(
                    f"model {self.model.name!r} gives another output than its layers one after the other: "
                    "it does something that strop does not see"
                )


def _refuse_other_predictions(model: keras.Model) -> None:
    for name in ("predict", "predict_step", "predict_on_batch", "make_predict_function", "__call__"):
        if getattr(type(model), name, None) is not getattr(keras.Model, name, None):
            raise StropError(
                f"model {model.name!r} ({type(model).__name__}) overrides {name}(), so it predicts something else than "
                "its layers compute: verify keras.Model(model.inputs, model.outputs)"
            )


def _reason(error: Exception) -> str:
    """Return the line of a long message that says most: TensorFlow's begin with a trace of calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("File ", "Detected at", "[[", "Graph execution"))]
    return max(telling or lines or ["no message"], key=len)[:300]
