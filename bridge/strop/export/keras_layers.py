"""Operators as Keras layers: Keras's own where the lowering makes the very same operator of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

import strop.lowering.layers  # noqa: F401  (registers the handlers)
from strop.graph import Convolution, Dense, Operator, Select, stages_of
from strop.keras import LinearMap
from strop.lowering.context import Context
from strop.lowering.rules import handler_for
from strop.lowering.signal import Signal, Term, flat_index

L = keras.layers
FloatArray = npt.NDArray[np.float64]


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that is not taken: the given one, or that with a number behind it."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def layers_of(operator: Operator, dtype: str, target: str, taken: set[str]) -> list[Any]:
    """Return built layers that are applied one after the other; none for a map that moves nothing.

    Parameters
    ----------
    dtype : str
        In which they compute, and hold their weights.
    target : str
        What their names begin with: the layer of the node that they lead to.
    taken : set of str
        Names of other layers; those of these layers are added.
    """
    before = set(taken)
    chain = []
    for stage in stages_of(operator):
        layer = _of_stage(stage, dtype, target, taken)
        if layer is not None:
            taken.add(layer.name)
            chain.append(layer)
    if lowered(chain, operator.shape_in) != operator:
        taken.intersection_update(before)
        chain = [_held(operator, dtype, target, taken)]
        taken.add(chain[0].name)
    return chain


def lowered(layers: list[Any], shape: tuple[int, ...]) -> Operator:
    """Return the operator that `strop.lower` makes of layers one behind the other, for frames of a shape."""
    signal = Signal(shape, (Term("frames"),))
    for layer in layers:
        signal = handler_for(layer)(layer, Context(), signal)
    found = signal.terms[0].operator
    return Select(shape, flat_index(shape)) if found is None else found


def _held(operator: Operator, dtype: str, target: str, taken: set[str]) -> Any:
    layer = LinearMap(operator, dtype=dtype, name=free_name(f"{target}_map", taken))
    layer.build((None, *operator.shape_in))
    return layer


def _of_stage(stage: Operator, dtype: str, target: str, taken: set[str]) -> Any:
    """Return a built layer for one stage, or None for a map that moves nothing."""
    if isinstance(stage, Select) and stage.is_reshape and stage.shape_in == stage.shape_out:
        return None
    for cls, args, options, weights in _candidates(stage):
        name = free_name(f"{target}_{cls.__name__.lower()}", taken)
        # Keras refuses some of its own arguments: strides beside dilation, for example.
        with contextlib.suppress(ValueError):
            layer = cls(*args, **options, dtype=dtype, name=name)
            layer.build((None, *stage.shape_in))
            layer.set_weights(weights)
            if lowered([layer], stage.shape_in) == stage:
                return layer
    return _held(stage, dtype, target, taken)


# A layer's class, its arguments, and its weights.
_Candidate = tuple[Any, tuple[Any, ...], dict[str, Any], list[FloatArray]]


def _candidates(stage: Operator) -> Iterator[_Candidate]:
    """Yield layers of Keras's own that may be the stage: what makes them, and their weights."""
    match stage:
        case Dense():
            yield L.Dense, (stage.weight.shape[1],), {"use_bias": False}, [stage.weight]
        case Select():
            yield from _moves(stage)
        case Convolution():
            yield from _convolutions(stage)


def _moves(stage: Select) -> Iterator[_Candidate]:
    if stage.is_reshape:
        if len(stage.shape_out) == 1:
            yield L.Flatten, (), {"data_format": "channels_last"}, []
        yield L.Reshape, (stage.shape_out,), {}, []
        return
    rank = len(stage.shape_in)
    if (stage.index < 0).any() or stage.index.size != stage.size_in or rank != len(stage.shape_out):
        return
    # The order of axes, read off the steps of the index.
    steps = [math.prod(stage.shape_in[axis + 1 :]) for axis in range(rank)]
    firsts = [
        int(stage.index[(0,) * axis + (min(1, n - 1),) + (0,) * (rank - axis - 1)])
        for axis, n in enumerate(stage.shape_out)
    ]
    order = [steps.index(first) for first, n in zip(firsts, stage.shape_out, strict=True) if first in steps and n > 1]
    if len(order) == rank and len(set(order)) == rank:
        yield L.Permute, (tuple(axis + 1 for axis in order),), {}, []


def _convolutions(stage: Convolution) -> Iterator[_Candidate]:
    rank, size = len(stage.strides), stage.kernel.shape[:-2]
    if stage.groups == stage.kernel.shape[-2] == 1 and (math.prod(size) == 1 or max(stage.strides) > 1):
        return  # TensorFlow 2.21 on CPUs fails on some of these, and gives wrong numbers for others
    filters = stage.kernel.shape[-1]
    common = {
        "strides": stage.strides,
        "dilation_rate": stage.dilation,
        "use_bias": False,
        "data_format": "channels_last",
    }
    if stage.transposed:
        if stage.groups == 1:
            cls = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)[rank - 1]
            kernel = np.swapaxes(stage.kernel, -1, -2)
            for padding in ("valid", "same"):
                yield cls, (filters, size), {"padding": padding, **common}, [kernel]
        return
    paddings: tuple[str, ...] = ("valid", "same") if rank > 1 else ("valid", "same", "causal")
    if not any(map(any, stage.padding)):
        paddings = ("valid",)
    for padding in paddings:
        if stage.groups == stage.shape_in[-1] > 1 and rank < 3 and len(set(stage.strides)) == 1:
            cls = (L.DepthwiseConv1D, L.DepthwiseConv2D)[rank - 1]
            kernel = stage.kernel.reshape(*size, stage.groups, -1)
            yield cls, (size,), {"depth_multiplier": kernel.shape[-1], "padding": padding, **common}, [kernel]
        elif stage.groups == 1:
            cls = (L.Conv1D, L.Conv2D, L.Conv3D)[rank - 1]
            yield cls, (filters, size), {"padding": padding, **common}, [stage.kernel]
