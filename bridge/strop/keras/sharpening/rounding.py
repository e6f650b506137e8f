"""Training with weights that are whole numbers of few bits, times one scale per neuron or per channel of a kernel.

While a layer's spikes are thresholds, the network computes with its kernel rounded, and the gradient is passed on to
the kernel itself as if nothing had been rounded (straight-through estimation, Bengio, Léonard, Courville,
arXiv:1308.3432; for weights: Courbariaux, Bengio, David, BinaryConnect, arXiv:1511.00363). In the end the rounded
kernels take the place of those that were trained, and the model is an ordinary one again.

Scales follow from the kernel: for signs the mean magnitude (Rastegari et al., XNOR-Net, arXiv:1603.05279), else the
step that rounds normally distributed weights with the least squared error (Max, IRE Trans. Inform. Theory 6, 1960).
They are multiples of 2^-16, few enough bits for every product with a whole number to be exact in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from strop.errors import DataError, UnsupportedLayerError
from strop.keras.activations import SpikingActivation
from strop.keras.thresholds import declared_threshold
from strop.keras.walk import walk

L = keras.layers
MOST_BITS = 8
# Steps by number of bits, in standard deviations.
_STEPS = {2: 1.224, 3: 0.6508, 4: 0.3534, 5: 0.1932, 6: 0.0968, 7: 0.0476, 8: 0.0236}
_SCALE_BITS = 16
_FLOAT32_BITS = 24
# Where Keras has the outputs of a kernel's neurons; None: one scale for all of it.
_OUTPUT_AXES: dict[type, tuple[int, ...] | None] = {
    L.Dense: (-1,),
    L.Conv1D: (-1,),
    L.Conv2D: (-1,),
    L.Conv3D: (-1,),
    L.DepthwiseConv1D: (-2, -1),
    L.DepthwiseConv2D: (-2, -1),
    L.Conv1DTranspose: (-2,),
    L.Conv2DTranspose: (-2,),
    L.Conv3DTranspose: (-2,),
    L.EinsumDense: None,
}


def checked_bits(bits: Any, owner: str) -> int:
    """Return `bits` if it is a whole number from 1 to 8; anything else is a `DataError` that names `owner`."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= MOST_BITS:
        raise DataError(
            f"weight_bits of {owner} must be a whole number from 1 (signs) to {MOST_BITS}, got {bits!r}; "
            "more bits need no training: strop.quantize rounds to them"
        )
    return bits


def rounded(weights: Any, bits: int, outputs: Sequence[int] | None = (-1,)) -> Any:
    """Return weights as whole numbers of `bits` bits, the sign counted, times a scale for each output.

    >>> rounded(np.array([[0.3], [-0.1], [0.02]], "float32"), 1)     # signs times the mean magnitude
    array([[ 0.13999939], [-0.13999939], [ 0.13999939]], dtype=float32)

    Parameters
    ----------
    weights : tensor, float32
    bits : int, 1 to 8
        1 gives signs, -1 and 1; B > 1 gives whole numbers from -(2^(B-1) - 1) to 2^(B-1) - 1.
    outputs : sequence of int, optional
        Axes along which scales differ; None for one scale.

    Returns
    -------
    tensor, float32, same shape
        Every product is exact.
    """
    rank = len(weights.shape)
    kept = {axis % rank for axis in outputs or ()}
    others = tuple(axis for axis in range(rank) if axis not in kept)
    most = max(2 ** (bits - 1) - 1, 1)
    if bits == 1:
        size = ops.mean(ops.abs(weights), axis=others, keepdims=True)
    else:
        size = _STEPS[bits] * ops.sqrt(ops.mean(ops.square(weights), axis=others, keepdims=True))
    # Whole multiples of 2^-16 below 2^24 / most: products stay below 2^24 of them, and float32 holds them.
    parts = ops.clip(ops.round(size * 2.0**_SCALE_BITS), 1.0, 2.0 ** (_FLOAT32_BITS - bits + 1) - 1.0)
    scale = parts * 2.0**-_SCALE_BITS
    if bits == 1:
        return ops.where(weights >= 0.0, scale, -scale)
    return scale * ops.clip(ops.round(weights / scale), -float(most), float(most))


@dataclass
class RoundedKernel:
    """A layer whose kernel is rounded, and the activations that it drives."""

    layer: Any
    path: str
    activations: list[Any] = field(default_factory=list)

    def rounded(self, bits: int) -> Any:
        """Return the rounded kernel."""
        return rounded(ops.convert_to_tensor(self.layer.kernel), bits, _output_axes(self.layer))


class WeightRounding(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Round the kernels in front of spiking activations while a model trains, and for good in the end.

    The kernel of a layer is rounded from where the activation that it drives is fully sharpened; biases and batch
    normalisations are not. Place it behind the sharpener.

    Parameters
    ----------
    bits : int, 1 to 8
        Bits of a weight, its sign counted; 1 gives signs, -1 and 1, times a scale.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = checked_bits(bits, type(self).__name__)
        self.kernels: list[RoundedKernel] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Round from now on."""
        self.begin(self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the rounded kernels in place of those that were trained."""
        self.end(self.model)

    def begin(self, model: Any) -> None:
        """Let the layers of `model` compute with rounded kernels where their spikes are thresholds.

        Raises
        ------
        UnsupportedLayerError
            If an activation is driven by more than one kernel, or by one that cannot be rounded.
        """
        self.kernels = rounded_kernels(model)
        for kernel in self.kernels:
            # Not by `setattr`, which would track it as state of the layer.
            vars(kernel.layer)["call"] = _RoundedCall(kernel, self.bits)
        _forget_traces(model)

    def end(self, model: Any, *, keep: bool = True) -> None:
        """Let the layers compute with their kernels again: with the rounded ones, if `keep`."""
        synchronise = getattr(model, "jax_state_sync", None)
        if synchronise is not None:
            synchronise()
        for kernel in self.kernels:
            vars(kernel.layer).pop("call", None)
            if keep and _is_sharp(kernel):
                kernel.layer.kernel.assign(kernel.rounded(self.bits))
        _forget_traces(model)


class _RoundedCall:
    """`layer.call` with another value for the kernel: the rounded one, through which the gradient passes."""

    def __init__(self, kernel: RoundedKernel, bits: int) -> None:
        self.kernel, self.bits = kernel, bits

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        layer = self.kernel.layer
        weights = ops.convert_to_tensor(layer.kernel)
        whole = ops.stop_gradient(self.kernel.rounded(self.bits))
        for activation in self.kernel.activations:
            whole = ops.where(activation._sharpness >= 1.0, whole, ops.stop_gradient(weights))
        # In this order the sum is `whole` to the last bit: the bracket is exactly zero.
        passed = whole + (weights - ops.stop_gradient(weights))
        values = [(variable, variable.value) for variable in layer.variables if variable is not layer.kernel]
        with keras.StatelessScope([*values, (layer.kernel, passed)]):
            return type(layer).call(layer, *args, **kwargs)


def is_rounding(layer: Any) -> bool:
    """Whether a training with rounded weights was begun on a layer and not ended."""
    return isinstance(vars(layer).get("call"), _RoundedCall)


def rounded_kernels(model: Any) -> list[RoundedKernel]:
    """Return the kernels in front of the spiking activations of `model`, each once.

    Raises
    ------
    UnsupportedLayerError
        As for `WeightRounding.begin`.
    """
    search = _Search()
    walk(model, [_Way() for _ in model.inputs], search.visit)
    return list(search.found.values())


@dataclass(frozen=True)
class _Way:
    """What lies between a tensor and the spikes before it."""

    kernels: tuple[RoundedKernel, ...] = ()
    trouble: str = ""
    """Why spikes behind it cannot have weights of few bits."""
    spikes: bool = False


class _Search:
    """Follows the tensors of a model from kernels to activations."""

    def __init__(self) -> None:
        self.found: dict[int, RoundedKernel] = {}
        self._known: dict[int, RoundedKernel] = {}

    def visit(self, operation: Any, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what lies before the outputs of an operation."""
        ways = [way for way in keras.tree.flatten((args, kwargs)) if isinstance(way, _Way)]
        while isinstance(operation, L.TimeDistributed):
            operation = operation.layer
        if isinstance(operation, keras.Model):
            return walk(operation, ways, self.visit, f"{path}/")
        way = self._behind(operation, path, _joined(operation, path, ways))
        activation = operation if _is_threshold(operation) else getattr(operation, "activation", None)
        if _is_threshold(activation):
            way = self._closed(activation, path, way)
        nodes = getattr(operation, "_inbound_nodes", ())
        return [way] * (len(nodes[0].outputs) if nodes else 1)

    def _behind(self, operation: Any, path: str, way: _Way) -> _Way:
        if type(operation) in _OUTPUT_AXES:
            kernel = self._known.setdefault(id(operation), RoundedKernel(operation, path))
            trouble = way.trouble
            if way.kernels and not trouble:
                trouble = f"{path} follows {way.kernels[0].path} without spikes between them"
            if operation.compute_dtype != "float32" or operation.kernel.dtype != "float32":
                trouble = trouble or f"{path} computes in {operation.compute_dtype}, not in float32"
            return _Way((kernel,), trouble)
        if any(variable.name.endswith("kernel") for variable in getattr(operation, "trainable_variables", ())):
            unknown = RoundedKernel(operation, path)
            return _Way((unknown,), f"{path} ({type(operation).__name__}) has kernels that are not rounded")
        if isinstance(operation, L.BatchNormalization) and way.spikes and not way.kernels:
            return _Way((), f"{path} scales spikes, so that their weights are no whole numbers of one scale", True)
        return way

    def _closed(self, activation: Any, path: str, way: _Way) -> _Way:
        if way.trouble and way.kernels:
            raise UnsupportedLayerError(f"weights in front of {path} cannot be trained to few bits: {way.trouble}")
        for kernel in way.kernels:
            self.found.setdefault(id(kernel.layer), kernel)
            if isinstance(activation, SpikingActivation) and activation not in kernel.activations:
                kernel.activations.append(activation)
        return _Way(spikes=True)


def _joined(operation: Any, path: str, ways: Sequence[_Way]) -> _Way:
    kernels = tuple({id(kernel): kernel for way in ways for kernel in way.kernels}.values())
    trouble = next((way.trouble for way in ways if way.trouble), "")
    if len(ways) > 1 and kernels and not trouble and not isinstance(operation, L.Concatenate):
        trouble = f"{path} adds up what weights of several scales bring"
    return _Way(kernels, trouble, any(way.spikes for way in ways))


def _is_threshold(activation: Any) -> bool:
    return isinstance(activation, SpikingActivation) or declared_threshold(activation) is not None


def _output_axes(layer: Any) -> tuple[int, ...] | None:
    return _OUTPUT_AXES[type(layer)]


def _is_sharp(kernel: RoundedKernel) -> bool:
    return all(activation.sharpness >= 1.0 for activation in kernel.activations)


def _forget_traces(model: Any) -> None:
    """Have Keras compile anew what it runs in training, evaluation and prediction."""
    model.test_function = model.predict_function = None
    if model.train_function is not None:
        model.make_train_function(force=True)
