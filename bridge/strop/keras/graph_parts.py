"""The nodes of a graph as Keras layers: how frames enter, populations, read-outs.

`strop.to_keras` builds models of them. Together with Keras's own linear layers, and `LinearMap`, they say all that a
graph says, so that `strop.lower` gives an equal graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from strop.errors import DataError, GraphError
from strop.graph import READOUT_KINDS, Input, Operator
from strop.keras.activations import SpikingActivation
from strop.keras.linear_map import Description, LinearMap

FloatArray = npt.NDArray[np.float64]


def record_of(given: Mapping[str, Any] | None, owner: str) -> dict[str, Any]:
    """Return what a layer records of the node that it was made from, checked.

    Parameters
    ----------
    given : mapping or None
        `name` of the node; `place` among the graph's populations or read-outs; `projections`, the places of those that
        end there; `graph`, the graph's name.

    Raises
    ------
    DataError
        If something else is in it.
    """
    record = dict(given or {})
    kinds: dict[str, Any] = {"name": str, "graph": str, "place": int, "projections": (list, tuple)}
    for key, value in record.items():
        places = value if key == "projections" else ()
        if key not in kinds or not isinstance(value, kinds[key]) or not all(isinstance(n, int) for n in places):
            raise DataError(f"the record of layer {owner!r} holds {key!r}: {value!r}, which means nothing")
    return record


@keras.saving.register_keras_serializable(package="strop")
class InputEncoding(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Frames as a graph's input sends them: values, spikes at or above a level, or bit planes side by side.

    It stands directly behind an Input. `strop.lower` gives the graph's input this encoding, whatever the frames'
    own encoding would be.

    Parameters
    ----------
    node : mapping
        `name`, `encoding`, `bits`, `level`, `step`, `offset` and `scaled_by` of `strop.graph.Input`.
    **kwargs
        `name`, `dtype` as for every Keras layer.

    Raises
    ------
    DataError
        If these describe no input.
    """

    def __init__(self, node: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._fields = (dict(node),)
        self.input_node((1,))

    def input_node(self, shape: tuple[int, ...], dtype: str = "float32") -> Input:
        """Return the input node for frames of this shape and dtype."""
        try:
            return Input(shape=shape, dtype=dtype, **self._fields[0])
        except (TypeError, GraphError) as error:
            raise DataError(f"layer {self.name!r} describes no input: {error}") from error

    def call(self, inputs: Any) -> Any:
        """Encode a batch of frames; 0 and 1 for spikes, in the layer's compute dtype."""
        node = self.input_node((1,))
        if node.encoding == "binary":
            x = ops.cast(inputs, "float32")
            return ops.cast(x >= node.level, self.compute_dtype)
        if node.encoding != "bitplane":
            return ops.cast(inputs, self.compute_dtype)
        # In float64: float32 does not tell all planes of 24 bits apart once they are divided.
        most = float((1 << node.bits) - 1)
        steps = (ops.cast(inputs, "float64") - node.offset) / (1.0 / most if node.step is None else node.step)
        numbers = ops.clip(ops.round(steps), 0.0, most)
        planes = [ops.mod(ops.floor(numbers / 2.0**k), 2.0) for k in range(node.bits)]
        shape = (-1, *inputs.shape[1:-1], inputs.shape[-1] * node.bits)
        return ops.cast(ops.reshape(ops.stack(planes, axis=-1), shape), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return a JSON-able config."""
        return {**super().get_config(), "node": dict(self._fields[0])}


@keras.saving.register_keras_serializable(package="strop")
class SpikingThreshold(SpikingActivation):
    """Threshold neurons with a threshold and a bias each: at full sharpness a spike iff `x + bias >= threshold`.

    Below full sharpness it is `SpikingBReLU` moved there: a ramp of width one around each threshold, which sharpens.
    The bias is trained. The threshold is a weight that is not: to move it, train the bias.

    Parameters
    ----------
    threshold_shape, bias_shape : tuple of int
        Shapes that broadcast to a frame's; the values are weights, 0.5 and 0 at first.
    sharpness, surrogate_width : float, in [0, 1]
        As in `SpikingActivation`.
    record : mapping, optional
        Of the graph's population (see `record_of`).
    **kwargs
        `name`, `dtype`, `trainable` as for every Keras layer.
    """

    _default_name: ClassVar[str] = "spiking_threshold"

    def __init__(
        self,
        threshold_shape: tuple[int, ...] = (),
        bias_shape: tuple[int, ...] = (),
        sharpness: float = 0.0,
        *,
        surrogate_width: float = 0.0,
        record: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(sharpness, surrogate_width=surrogate_width, **kwargs)
        self._record = (record_of(record, self.name),)
        self.bias = self.add_weight(name="bias", shape=tuple(bias_shape), initializer="zeros")
        self._threshold = self.add_weight(
            name="threshold",
            shape=tuple(threshold_shape),
            initializer=keras.initializers.Constant(0.5),
            trainable=False,
        )

    @property
    def threshold(self) -> Any:  # type: ignore[override]  # one number for the other activations
        """The threshold of each neuron, a weight."""
        return self._threshold

    @property
    def record(self) -> dict[str, Any]:
        """What is recorded of the graph's population."""
        return self._record[0]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Add the bias, and apply the threshold; see `SpikingActivation.call`."""
        return super().call(ops.add(inputs, self.bias), training)

    def _smooth(self, x: Any, sharpness: Any, width: Any) -> Any:
        x = ops.clip(x - ops.cast(self.threshold, x.dtype) + 0.5, 0.0, 1.0)
        return ops.clip(x + (x - 0.5) * (sharpness / width), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the config with the sharpness as it is now."""
        shapes = {"threshold_shape": list(self._threshold.shape), "bias_shape": list(self.bias.shape)}
        return {**super().get_config(), **shapes, **({"record": dict(self.record)} if self.record else {})}


# Functions of Keras behind the kinds of read-outs; a key is decoded by the softmax of its products.
_FUNCTIONS = {"key": "softmax", "linear": "linear"}


@keras.saving.register_keras_serializable(package="strop")
class SpikeReadout(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Read-out of a graph, behind the linear maps that add up its logits: bias, function, and what comes after.

    Parameters
    ----------
    kind : str
        Of `strop.graph.Readout`.
    bias_shape : tuple of int
        Shape that broadcasts to the logits'; the values are a weight, 0 at first.
    after : strop.graph.Operator, or its description, optional
        Linear map of the function's values.
    argmax : bool
        Whether the output is the index of the largest value along the last axis.
    record : mapping, optional
        Of the graph's read-out (see `record_of`).
    **kwargs
        `name`, `dtype`, `trainable` as for every Keras layer.

    Raises
    ------
    DataError
        If there is no such kind.
    """

    def __init__(
        self,
        kind: str,
        bias_shape: tuple[int, ...] = (),
        after: Operator | Description | None = None,
        argmax: bool = False,
        *,
        record: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in READOUT_KINDS:
            raise DataError(f"kind of layer {self.name!r} must be one of {', '.join(READOUT_KINDS)}, got {kind!r}")
        self.kind, self.argmax = kind, bool(argmax)
        self._record = (record_of(record, self.name),)
        self.bias = self.add_weight(name="bias", shape=tuple(bias_shape), initializer="zeros")
        self.after = None if after is None else LinearMap(after, dtype=self.dtype_policy, trainable=False, name="after")

    @property
    def record(self) -> dict[str, Any]:
        """What is recorded of the graph's read-out."""
        return self._record[0]

    def call(self, inputs: Any) -> Any:
        """Return the read-out's values; class numbers (int32) with `argmax`."""
        x = ops.add(inputs, self.bias)
        if self.kind in ("spikes", "winner"):
            x = ops.cast(x >= 0.5, self.compute_dtype)
        else:
            x = getattr(keras.activations, _FUNCTIONS.get(self.kind, self.kind))(x)
            x = x if self.after is None else self.after(x)
        return ops.argmax(x, axis=-1) if self.argmax else x

    def get_config(self) -> dict[str, Any]:
        """Return a JSON-able config."""
        own = {
            "kind": self.kind,
            "bias_shape": list(self.bias.shape),
            "after": None if self.after is None else dict(self.after.description),
            "argmax": self.argmax,
        }
        return {**super().get_config(), **own, **({"record": dict(self.record)} if self.record else {})}


@keras.saving.register_keras_serializable(package="strop")
class FirstOf(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """The first of its inputs, as it is; the others are nodes of a graph that lead to no output."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "autocast": False})

    def call(self, inputs: Any) -> Any:
        """Return the first input."""
        return inputs[0]
