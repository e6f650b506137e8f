"""The new model: bounded activations, and weights rescaled so that it still computes what the old one did.

What a weight cannot take up (the wish of an activation behind a sum, say) becomes a `Rescaling`, which costs nothing on
a simulator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from strop.keras.conversion.measure import Measured, Moments
from strop.keras.conversion.nhot import NhotHead, nhot_layers
from strop.keras.conversion.program import Program, Step, replaced
from strop.keras.conversion.ramps import Ramp
from strop.keras.conversion.scales import Scales
from strop.keras.copies import use_weights

L = keras.layers

_LINEAR_OPTIONS_DROPPED = ("lora_rank", "lora_alpha", "quantization_config")


class Rebuilt:
    """Builds the new model of a program.

    Parameters
    ----------
    program : Program
    measured : Measured
    normalise : bool
        Whether every activation gets a batch normalisation in front of it.
    surrogate_width : float
        Of the spiking activations.
    head : NhotHead, optional
        What takes the place of the last dense layer.
    """

    def __init__(
        self, program: Program, measured: Measured, normalise: bool, surrogate_width: float, head: NhotHead | None
    ) -> None:
        self.program, self.measured, self.normalise = program, measured, normalise
        self.surrogate_width, self.head = surrogate_width, head
        self.scales = Scales(program, measured.ramps)
        self._producers, self._consumers = program.producers(), program.consumers()
        self._made: dict[Any, Any] = {}
        names = Counter(step.path.rsplit("/", 1)[-1] for step in {step.key: step for step in program.steps}.values())
        self._unique = {name for name, count in names.items() if count == 1}
        self._taken: Counter[str] = Counter()

    def model(self) -> Any:
        """Return it."""
        values: dict[int, Any] = {}

        def entered(tensor: Any) -> Any:
            name = tensor._keras_history.operation.name
            values[id(tensor)] = keras.Input(batch_shape=tensor.shape, dtype=_float32(tensor.dtype), name=name)
            return values[id(tensor)]

        inputs = keras.tree.map_structure(entered, self.program.inputs_as(self.program.inputs))
        for step in self.program.steps:
            results = self._outputs(step, values)
            values.update((id(key), result) for key, result in zip(step.outputs, results, strict=True))
        flat = [self._plain(tensor, values[id(tensor)], "output") for tensor in self.program.outputs]
        outputs = self.program.outputs_as(flat)
        return keras.Model(inputs, outputs, name=self.program.model.name)

    def _outputs(self, step: Step, values: dict[int, Any]) -> list[Any]:
        if self.head is not None and step is self.head.step:
            return [_chained(self._layer(step, "", self._nhot), values[id(step.inputs[0])])]
        if self.head is not None and step is self.head.softmax:
            return [values[id(step.inputs[0])]]
        if step.kind == "activation":
            return [self._activation(step, values[id(step.inputs[0])])]
        if step.kind == "other":
            values = {**values, **{id(v): self._plain(v, values[id(v)], f"{step.path}_input") for v in step.inputs}}
        args, kwargs = replaced((step.args, step.kwargs), values)
        layer = self._layer(step, "", lambda name: self._clone(step, name))
        results: list[Any] = keras.tree.flatten(layer(*args, **kwargs))
        if step.kind == "linear":
            self._write(layer, step, self._weights_of_linear)
        elif step.kind == "norm":
            self._write(layer, step, self._weights_of_norm)
        elif isinstance(layer, L.Layer):
            self._write(layer, step, lambda step, layer: _arrays(step.operation.weights))
        return results

    # Layers that stay -------------------------------------------------------------------------------------------------

    def _clone(self, step: Step, name: str) -> Any:
        operation = step.operation
        if not isinstance(operation, keras.Operation):  # a function: a kept activation behind another layer
            return L.Activation(operation, name=name, dtype="float32")
        if not isinstance(operation, L.Layer):
            return type(operation).from_config(operation.get_config())
        config = {key: value for key, value in operation.get_config().items() if not key.endswith("_constraint")}
        # Some layers (SpatialDropout) take no `trainable`.
        config |= {key: value for key, value in (("name", name), ("dtype", "float32")) if key in config}
        cls = type(operation)
        if step.kind == "linear":
            config = {key: value for key, value in config.items() if key not in _LINEAR_OPTIONS_DROPPED}
            config["activation"] = None
        elif step.kind == "norm":
            config |= {"scale": True, "center": True}
        elif isinstance(operation, L.AlphaDropout):  # it puts a value between spikes that is neither of the two
            cls, config = L.Dropout, {key: config[key] for key in ("name", "dtype", "rate", "seed", "noise_shape")}
        elif isinstance(operation, L.GaussianNoise):
            config["stddev"] = config["stddev"] / self.scales.of(step.inputs[0])
        clone = cls.from_config(config)
        clone.trainable = True
        if step.activation is not None:
            clone.activation = step.activation
        return clone

    def _write(self, layer: Any, step: Step, weights: Callable[[Step, Any], list[NDArray[Any]]]) -> None:
        """Set the weights of a new layer, once."""
        if ("written", step.key) not in self._made:
            self._made["written", step.key] = True
            layer.set_weights([np.asarray(array, np.float32) for array in weights(step, layer)])
            use_weights(layer)

    def _weights_of_linear(self, step: Step, layer: Any) -> list[NDArray[Any]]:
        before, after = self.scales.of(step.inputs[0]), self.scales.of(step.outputs[0])
        old, factor = step.operation, before / after
        arrays = [_array(kernel) for kernel in _kernels(old)]
        arrays[-1] = arrays[-1] * factor  # of a separable convolution, the pointwise one
        if getattr(old, "bias", None) is not None:
            arrays.append(_array(old.bias) / after - self._folded_start(step))
        return arrays

    def _weights_of_norm(self, step: Step, layer: Any) -> list[NDArray[Any]]:
        old = step.operation
        before, after = self.scales.of(step.inputs[0]), self.scales.of(step.outputs[0])
        moments = Moments(_array(old.moving_mean), _array(old.moving_variance))
        slope = np.ones_like(moments.mean) if old.gamma is None else _array(old.gamma)
        offset = np.zeros_like(moments.mean) if old.beta is None else _array(old.beta)
        slope = slope / np.sqrt(moments.variance + old.epsilon) * before / after  # of what now comes in
        mean, variance = moments.mean / before, moments.variance / before**2
        gamma = slope * np.sqrt(variance + layer.epsilon)
        return [gamma, offset / after - self._folded_start(step), mean, variance]

    # Activations ------------------------------------------------------------------------------------------------------

    def _activation(self, step: Step, x: Any) -> Any:
        ramp = self.measured.ramps[step.key]
        assert ramp.width is not None
        before, after = self.scales.of(step.inputs[0]), self.scales.of(step.outputs[0])
        if self._is_normalised(step.inputs[0]) or not self.normalise:
            folded = self._folds(step)
            shift = 0.0 if folded else -ramp.start / ramp.width
            x = self._rescaled(x, before / ramp.width, shift, f"{step.path}_scale")
        else:
            moments = self.measured.moments[id(step.inputs[0])]
            axis = self.program.channel_axis(step.inputs[0])
            norm = self._layer(
                step, "_norm", lambda name: L.BatchNormalization(axis, momentum=0.9, name=name, dtype="float32")
            )
            x = norm(x)
            self._write_norm(step, norm, moments, ramp, before)
        x = self._layer(step, "_spikes", lambda name: self._spiking(ramp, name))(x)
        return self._rescaled(x, (ramp.high - ramp.low) / after, ramp.low / after, f"{step.path}_values")

    def _spiking(self, ramp: Ramp, name: str) -> Any:
        return ramp.layer(surrogate_width=self.surrogate_width, name=name, dtype="float32")

    def _write_norm(self, step: Step, norm: Any, moments: Moments, ramp: Ramp, before: float) -> None:
        assert ramp.width is not None
        mean, variance = moments.mean / before, moments.variance / before**2
        gamma = np.sqrt(variance + norm.epsilon) * before / ramp.width
        beta = (moments.mean - ramp.start) / ramp.width
        norm.set_weights([np.asarray(array, np.float32) for array in (gamma, beta, mean, variance)])

    def _is_normalised(self, value: Any) -> bool:
        """Whether a batch normalisation stands right in front, pools and the like aside."""
        step = self._producers.get(id(value))
        if step is None:
            return False
        return step.kind == "norm" or (
            step.kind == "same" and len(step.inputs) == 1 and self._is_normalised(step.inputs[0])
        )

    def _folds(self, step: Step) -> bool:
        """Whether the start of a ramp goes into the bias of what is in front of it, and nothing else sees that."""
        value = step.inputs[0]
        producer = self._producers.get(id(value))
        if producer is None or not (producer.kind == "norm" or getattr(producer.operation, "bias", None) is not None):
            return False
        alone = sum(other.key == producer.key for other in self.program.steps) == 1
        ends = any(value is output for output in self.program.outputs)
        width = self.measured.ramps[step.key].width
        return alone and len(self._consumers[id(value)]) == 1 and not ends and self.scales.of(value) == width

    def _folded_start(self, step: Step) -> float:
        """Return what the bias of a linear layer or normalisation takes over from the ramp behind it."""
        for other in self._consumers[id(step.outputs[0])]:
            kept = other.kind == "activation" and (self._is_normalised(other.inputs[0]) or not self.normalise)
            if kept and self._folds(other):
                ramp = self.measured.ramps[other.key]
                assert ramp.width is not None
                return ramp.start / ramp.width
        return 0.0

    # Rescaling, names -------------------------------------------------------------------------------------------------

    def _plain(self, symbol: Any, value: Any, path: str) -> Any:
        """Return a tensor as the old model has it."""
        return self._rescaled(value, self.scales.of(symbol), 0.0, path)

    def _rescaled(self, value: Any, scale: float, offset: float, path: str) -> Any:
        if scale == 1.0 and offset == 0.0:
            return value
        return L.Rescaling(scale, offset, name=self._name(path, ""), dtype="float32")(value)

    def _nhot(self, name: str) -> list[Any]:
        assert self.head is not None
        scale = self.scales.of(self.head.step.inputs[0])
        return nhot_layers(self.head, self.measured.scores, scale, self.surrogate_width, name)

    def _layer(self, step: Step, suffix: str, make: Callable[[str], Any]) -> Any:
        """Return the layer of a step's key, made where it is not there yet."""
        key = (suffix, step.key)
        if key not in self._made:
            self._made[key] = make(self._name(step.path, suffix))
        return self._made[key]

    def _name(self, path: str, suffix: str) -> str:
        last = path.rsplit("/", 1)[-1]
        name = (last if last in self._unique or "/" not in path else path.replace("/", "_")) + suffix
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}_{self._taken[name] - 1}"


def _chained(layers: list[Any], value: Any) -> Any:
    for layer in layers:
        value = layer(value)
    return value


def _kernels(layer: Any) -> list[Any]:
    if hasattr(layer, "pointwise_kernel"):
        return [layer.depthwise_kernel, layer.pointwise_kernel]
    return [layer.kernel]


def _arrays(variables: Any) -> list[NDArray[Any]]:
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _array(variable: Any) -> NDArray[np.float64]:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _float32(dtype: str) -> str:
    return "float32" if dtype in ("float16", "bfloat16", "float64") else dtype
