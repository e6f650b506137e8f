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
        self._by_visit: dict[int, list[Observation]] = {}
        for observation in lowering.observations:
            self._by_visit.setdefault(observation.visit, []).append(observation)

    @property
    def observed(self) -> frozenset[str]:
        """Names of the populations whose spikes Keras shows."""
        return frozenset(observation.population for observation in self.lowering.observations)

    def run(self, frames: FrameDict) -> tuple[dict[str, npt.NDArray[np.bool_]], list[npt.NDArray[Any]]]:
        """Return the spikes of every observed population, shape `(n, *shape)`, and the model's outputs.

        Raises
        ------
        StropError
            If a spiking layer gives values that are not the two that it should, or the walk along the layers does
            not give what the model gives: then one of them was changed behind strop's back.
        """
        spikes: dict[str, npt.NDArray[np.bool_]] = {}
        count = -1

        def visit(operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            nonlocal count
            count += 1
            outputs = operation(*args, **kwargs)
            for observation in self._by_visit.get(count, ()):
                spikes[observation.population] = self._read(observation, path, outputs)
            return outputs

        arrays = [frames[node.name] for node in self.lowering.graph.inputs]
        outputs = [
            np.asarray(keras.ops.convert_to_numpy(output))
            for output in walk(self.model, [keras.ops.convert_to_tensor(array) for array in arrays], visit)
        ]
        self._check_walk(arrays, outputs)
        return spikes, outputs

    def _read(self, observation: Observation, path: str, outputs: Any) -> npt.NDArray[np.bool_]:
        values = np.asarray(keras.ops.convert_to_numpy(outputs))
        if observation.channels_first and values.ndim > 2:
            values = np.moveaxis(values, 1, -1)
        scale, shift = observation.levels
        levels = (values - shift) / scale
        fired: npt.NDArray[np.bool_] = levels >= 0.5
        if not np.allclose(levels, fired, atol=1e-3):
            raise StropError(f"layer {path!r} gives values that are no spikes, for example {values[levels != fired][0]}")
        return fired

    def _check_walk(self, arrays: list[npt.NDArray[Any]], outputs: list[npt.NDArray[Any]]) -> None:
        part = [array[:8] for array in arrays]
        direct = keras.tree.flatten(self.model(part[0] if len(part) == 1 else part, training=False))
        for ours, theirs in zip(outputs, direct, strict=True):
            if not np.allclose(ours[:8], keras.ops.convert_to_numpy(theirs), atol=1e-4):
                raise StropError(
                    f"model {self.model.name!r} gives another output than its layers one after the other: "
                    "it does something that strop does not see"
                )
