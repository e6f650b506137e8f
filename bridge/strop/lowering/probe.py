"""What Keras itself says: the values that its own layers give for real frames, at every observed population."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from strop.encode import FrameDict
from strop.errors import StropError
from strop.lowering.context import Lowering, Observation
from strop.lowering.walk import walk

# So many frames of each chunk go through the model as a whole, too, to see that the walk did the same.
_COMPARED = 8


class KerasProbe:
    """Runs a Keras model and reads the spikes of its layers.

    Parameters
    ----------
    model : keras.Model
    lowering : Lowering
        From `strop.lowering.trace(model)`: says which calls show which population.
    """

    def __init__(self, model: keras.Model, lowering: Lowering) -> None:
        self.model, self.lowering = model, lowering
        by_visit: dict[int, list[Observation]] = {}
        for observation in lowering.observations:
            by_visit.setdefault(observation.visit, []).append(observation)
        self._in_order = [observation for visit in sorted(by_visit) for observation in by_visit[visit]]
        self._walker = _Walker(model, by_visit)

    @property
    def observed(self) -> frozenset[str]:
        """Names of the populations whose spikes Keras shows."""
        return frozenset(observation.population for observation in self.lowering.observations)

    def run(self, frames: FrameDict) -> tuple[dict[str, npt.NDArray[np.bool_]], list[npt.NDArray[Any]]]:
        """Return the spikes of every observed population, shape `(n, *shape)`, and the model's outputs.

        The layers are called in a compiled function, as `model.predict` calls them: Keras 3.15 on TensorFlow gives
        other results layer by layer in eager mode (for channels-first convolutions whose width equals their filters,
        `keras/src/backend/tensorflow/numpy.py`, `add`, adds the bias along the wrong axis).

        Raises
        ------
        StropError
            If a spiking layer gives values that are not the two that it should, or the walk along the layers does
            not give what the model gives: then one of them was changed behind strop's back.
            If Keras cannot compute the model at all (TensorFlow 2.21 fails on a separable convolution of one filter
            and one channel, kernel 1x1: "could not create a primitive descriptor").
        """
        inputs = zip(self.lowering.graph.inputs, self.model.inputs, strict=True)
        # A model of whole numbers is given such, as the user gives it.
        arrays = [frames[node.name].astype(tensor.dtype, copy=False) for node, tensor in inputs]
        try:
            shown, outputs, direct = self._walker.predict_on_batch(arrays[0] if len(arrays) == 1 else arrays)
        except Exception as error:  # each backend of Keras has its own
            raise StropError(
                f"Keras itself fails to compute model {self.model.name!r} on these frames, so there is nothing to hold "
                f"spikes against; see whether model.predict does: {type(error).__name__}: {_reason(error)}"
            ) from error
        spikes = {
            observation.population: self._read(observation, np.asarray(values))
            for observation, values in zip(self._in_order, shown, strict=True)
        }
        outputs = [np.asarray(output) for output in outputs]
        self._check_walk(outputs, [np.asarray(output) for output in direct])
        return spikes, outputs

    def _read(self, observation: Observation, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        for step in observation.steps:
            values = values[:, step]
        if observation.channels_first and values.ndim > 2:
            values = np.moveaxis(values, 1, -1)
        scale, shift = observation.levels
        levels = (values - shift) / scale
        fired: npt.NDArray[np.bool_] = levels >= 0.5
        distances = [np.abs(levels - value) for value in observation.values]
        foreign = np.minimum.reduce(distances) > 1e-3
        if foreign.any():
            raise StropError(
                f"the layer of population {observation.population!r} gives values that are no spikes, for example "
                f"{float(values[foreign][0])!r}"
            )
        return fired

    def _check_walk(self, outputs: list[npt.NDArray[Any]], direct: list[npt.NDArray[Any]]) -> None:
        for ours, theirs in zip(outputs, direct, strict=True):
            if not np.allclose(ours[: len(theirs)], theirs, atol=1e-4):
                raise StropError(
                    f"model {self.model.name!r} gives another output than its layers one after the other: "
                    "it does something that strop does not see"
                )


def _as_made(model: keras.Model, arrays: list[Any]) -> Any:
    """Return the arrays in the structure that the model was made with, a dictionary say: Keras warns of any other."""
    # A Sequential model, which has one input, may not know it yet.
    return arrays[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, arrays)


def _reason(error: Exception) -> str:
    """Return the line of a long message that says most: TensorFlow's begin with a trace of calls."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("File ", "Detected at", "[[", "Graph execution"))]
    return max(telling or lines or ["no message"], key=len)[:300]


class _Walker(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """Calls a model's layers one by one; returns what the observed ones gave, the outputs, and some of the model's."""

    def __init__(self, model: keras.Model, by_visit: dict[int, list[Observation]]) -> None:
        super().__init__(name="walker")
        # In a list in a tuple, Keras does not take the model for a layer of its own and leaves it as it is.
        self._walked = ((model,), by_visit)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        # `training` is there for Keras to pass on: augmentation takes itself to be in training unless it is told.
        (model,), by_visit = self._walked
        shown: list[Any] = []
        count = -1

        def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal count
            count += 1
            # As Keras does where a model runs in inference: what was written down when the layer was called gives way.
            outputs = operation(*args, **{**kwargs, "training": False} if "training" in kwargs else kwargs)
            shown.extend(outputs for _ in by_visit.get(count, ()))
            return outputs

        arrays = keras.tree.flatten(inputs)
        outputs = walk(model, arrays, visit)
        some = [array[:_COMPARED] for array in arrays]
        return shown, outputs, keras.tree.flatten(model(_as_made(model, some)))
