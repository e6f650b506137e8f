"""Linear NIR nodes, and those that only move values, applied to a signal; other nodes are refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from strop.errors import GraphError, UnsupportedLayerError
from strop.graph import Convolution, Dense, Scale, SumPool
from strop_backends.nir.emit import Place, as_convolution, convolution, image
from strop_backends.nir.restore import from_kernel, from_matrix
from strop_backends.nir.signals import Signal, channels_last, sum_is_exact
from strop_backends.nir.writing import graph_hint

# Types of nodes that `through_node` takes, and those at the ends of a graph.
MAPS_READ = frozenset(
    ("Affine", "AvgPool2d", "Conv1d", "Conv2d", "Delay", "Flatten", "Identity", "Input", "Linear", "Output", "Scale")
) | {"SumPool2d"}


def through_node(node: Any, signal: Signal, where: str) -> Signal:
    """Return the signal behind a linear node, or one that moves values; refuse any other by name."""
    stage = graph_hint(node.metadata).get("stage", {})
    match node:
        case nir.Linear() | nir.Affine():
            return _add(_matrix(node, stage, signal, where), node)
        case nir.Conv1d() | nir.Conv2d():
            return _add(_convolved(node, stage, signal, where), node)
        case nir.SumPool2d() | nir.AvgPool2d():
            return _pooled(node, signal, where)
        case nir.Scale():
            if np.shape(node.scale) not in ((), (1,), signal.place.shape):
                raise UnsupportedLayerError(f"{where} scales {np.shape(node.scale)}, got {signal.place.shape}")
            factor = np.empty(signal.place.size)
            factor[signal.place.reshape(-1)] = np.broadcast_to(node.scale, signal.place.shape).reshape(-1)
            if (factor == 1.0).all():
                return signal
            return signal.through(Scale(signal.shape, factor.reshape(signal.shape)), signal.place, where)
        case nir.Flatten():
            return replace(signal, place=_flatten(node, signal.place, where))
        case nir.Delay():
            steps = np.unique(node.delay)
            if len(steps) != 1 or not np.isfinite(steps).all() or steps[0] < 0:
                raise UnsupportedLayerError(f"{where} delays its values by different times; strop delays all alike")
            return replace(signal, time=signal.time + float(steps[0]))
        case _ if type(node).__name__ == "Identity":
            return signal
    raise UnsupportedLayerError(f"{where}: {reason_against(node)}")


def reason_against(node: Any) -> str:
    """Return why a node is refused whose type is none of `MAPS_READ`."""
    name = type(node).__name__
    if name == "NIRGraph":
        return "a graph within a graph; write its nodes into the outer graph"
    if name in ("CubaLIF", "CubaLI"):
        return "its synaptic current outlasts the step, strop's neurons keep no history; use Threshold, IF or LIF"
    if name in ("LI", "I"):
        return "it integrates over time and does not fire; use an Affine for the decode, Threshold for neurons"
    return (
        f"strop knows no {name}; a feed-forward network of thresholds has linear maps, pools, Flatten, and thresholds"
    )


def _add(signal: Signal, node: Any) -> Signal:
    """Return `signal` with the bias of an affine map or convolution."""
    values = getattr(node, "bias", None)
    if values is None or not np.any(values):
        return signal
    values = np.asarray(values, dtype=np.float64)
    bias = np.empty(signal.place.size)
    spread = values.reshape(-1, *(1,) * (signal.place.ndim - 1)) if signal.place.ndim > 1 else values
    bias[signal.place.reshape(-1)] = np.broadcast_to(spread, signal.place.shape).reshape(-1)
    bias = bias.reshape(signal.shape)
    if signal.bias is not None and signal.bias.any():
        total = signal.bias + bias
        if not sum_is_exact([signal.bias, bias], total):
            raise UnsupportedLayerError("two biases in a row cannot be added without rounding; use a single one")
        bias = total
    return replace(signal, bias=bias)


def _matrix(node: Any, stage: dict[str, Any], signal: Signal, where: str) -> Signal:
    weight = np.asarray(node.weight, dtype=np.float64)
    size = signal.place.size
    if weight.ndim != 2 or signal.place.ndim != 1 or weight.shape[1] != size:
        raise UnsupportedLayerError(
            f"{where} has a weight of shape {weight.shape}, what reaches it has {signal.place.shape}; strop reads "
            "matrices of shape (out, in) behind a vector"
        )
    place = np.arange(len(weight), dtype=np.int64)
    if stage.get("type") == "Bias" and np.array_equal(weight, np.eye(size)):
        return signal
    matrix = np.empty_like(weight)
    matrix[:, signal.place] = weight
    if stage.get("type") == "Order" and np.array_equal(matrix, np.eye(size)):
        return replace(signal, place=place)
    found = from_matrix(stage, matrix, signal.shape)
    if found is not None:
        return signal.through(found, place, where)
    if len(signal.shape) > 1:
        # In strop's order: the rows were permuted with the matrix.
        signal = signal.moved((size,), signal.place, where)
    return signal.through(Dense(matrix.T), place, where)


def _as_tuple(value: Any, dimensions: int) -> tuple[int, ...]:
    values = np.asarray(value).reshape(-1)
    return tuple(int(n) for n in (np.repeat(values, dimensions) if len(values) == 1 else values))


def _image_signal(signal: Signal, dimensions: int, where: str) -> Signal:
    if signal.place.ndim != dimensions + 1:
        raise UnsupportedLayerError(
            f"{where} takes tensors of {dimensions + 1} axes, channels first; what reaches it has {signal.place.shape}"
        )
    shape = channels_last(signal.place.shape)
    return signal.moved(shape, image(shape), where)


def _convolved(node: Any, stage: dict[str, Any], signal: Signal, where: str) -> Signal:
    weight = np.asarray(node.weight, dtype=np.float64)
    dimensions = weight.ndim - 2
    signal = _image_signal(signal, dimensions, where)
    if stage.get("type") == "Bias":
        channels = signal.shape[-1]
        identity = convolution(as_convolution(Dense(np.eye(channels), signal.shape[:-1])), stage)
        if np.array_equal(identity.weight, weight):
            return signal
    found = from_kernel(stage, node, signal.shape) if stage else None
    if found is None:
        size, strides, dilation = (
            weight.shape[2:],
            _as_tuple(node.stride, dimensions),
            _as_tuple(node.dilation, dimensions),
        )
        if isinstance(node.padding, (str, bytes)):
            padding = _named_padding(node.padding, size, strides, dilation, where)
        else:
            padding = tuple((n, n) for n in _as_tuple(node.padding, dimensions))
        kernel = np.moveaxis(weight, (0, 1), (-1, -2))
        try:
            found = Convolution(signal.shape, kernel, strides, dilation, padding, int(node.groups))
        except GraphError as error:
            raise UnsupportedLayerError(f"{where}: {error}") from error
    return signal.through(found, image(found.shape_out), where)


def _named_padding(name: Any, size: Any, strides: Any, dilation: Any, where: str) -> tuple[tuple[int, int], ...]:
    name = name.decode() if isinstance(name, bytes) else name
    if name == "valid":
        return tuple((0, 0) for _ in size)
    if any(s != 1 for s in strides):
        raise UnsupportedLayerError(
            f"{where} has padding 'same' with a stride, which NIR does not define; give numbers"
        )
    # As PyTorch does, whose parameters NIR's are: the larger half behind.
    totals = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
    return tuple((t // 2, t - t // 2) for t in totals)


def _pooled(node: Any, signal: Signal, where: str) -> Signal:
    signal = _image_signal(signal, 2, where)
    size, strides = _as_tuple(node.kernel_size, 2), _as_tuple(node.stride, 2)
    try:
        pool = SumPool(signal.shape, size, strides, tuple((n, n) for n in _as_tuple(node.padding, 2)))
    except GraphError as error:
        raise UnsupportedLayerError(f"{where}: {error}") from error
    signal = signal.through(pool, image(pool.shape_out), where)
    if isinstance(node, nir.AvgPool2d):
        factor = Scale(signal.shape, np.array(1.0 / math.prod(size)))
        signal = signal.through(factor, signal.place, where)
    return signal


def _flatten(node: Any, place: Place, where: str) -> Place:
    axes = place.ndim
    start, end = int(node.start_dim), int(node.end_dim)
    stated = node.input_type.get("input") if isinstance(node.input_type, dict) else None
    start, end = start % axes if -axes <= start < axes else start, end + axes if end < 0 else end
    if start >= axes and stated is not None and axes == 1:
        return place
    if not 0 <= start <= end < axes:
        raise UnsupportedLayerError(f"{where} flattens axes {start} to {end} of a tensor of {axes} axes")
    return place.reshape(*place.shape[:start], -1, *place.shape[end + 1 :])
