"""Operators as Nengo transforms: its own `Dense` and `Convolution` where they compute the same, else `Sparse`.

Limits of Nengo's transforms, from nengo 4.1.0, `transforms.py` and `builder/transforms.py`:

* A `Convolution` has one of two paddings for all its axes: "valid", or "same" with the smaller half before
  (`calc_pad`, `extract_sliding_windows`), no dilation, and its reference simulator runs 1 and 2 dimensions
  (`GeneralConvInc.make_step`).
* A square `Dense` with a vector is a diagonal and is applied element by element (`build_dense`).
* `ConvolutionTranspose` is relative to a convolution with one of these paddings, without groups.

Everything is kept in float64, which is Nengo's default precision. Each of them is of a class of
`strop_backends.nengo.event_driven`, which the reference simulator runs faster.
"""

from __future__ import annotations

import math
from typing import Any

import nengo
import numpy as np

from strop.graph import Convolution, Dense, Operator, Scale, Select, SumPool, stages_of
from strop.graph.capacity import require_memory
from strop_backends.nengo.event_driven import SpikeConvolution, SpikeDense, SpikePool, SpikeSparse

# Bytes per synapse of a Sparse transform: (row, column) and value, the CSR matrix made of them, and what
# expanding an operator holds meanwhile (indices and weights, sorted).
BYTES_PER_SYNAPSE = 92


def transform_of(operator: Operator, where: str) -> Any:
    """Return the Nengo transform of an operator, or None if it connects nothing.

    Parameters
    ----------
    operator : Operator
    where : str
        The projection, for the message of a `CapacityError`.
    """
    # Nengo's signals are flat, in C order: a reshape does nothing.
    stages = [s for s in stages_of(operator) if not (isinstance(s, Select) and s.is_reshape)]
    if not stages:
        return nengo.transforms.NoTransform(operator.size_in)
    if len(stages) == 1:
        native = _native(stages[0])
        if native is not None:
            return native
    return _sparse(stages[0] if len(stages) == 1 else operator, where)


def _native(operator: Operator) -> Any:
    match operator:
        case Dense() if math.prod(operator.leading) == 1:
            return SpikeDense(operator.weight.shape[::-1], init=operator.weight.T)
        case Dense():
            # One matrix for every place is a convolution with a kernel of extent one.
            places, (inputs, outputs) = math.prod(operator.leading), operator.weight.shape
            return SpikeConvolution(
                outputs,
                (places, inputs),
                kernel_size=(1,),
                strides=(1,),
                init=operator.weight[None],
                before=(0,),
            )
        case Scale():
            factor = np.broadcast_to(operator.factor, operator.shape).reshape(-1)
            return nengo.Dense((factor.size, factor.size), init=factor)
        case Convolution() if (padding := _padding(operator)) is not None:
            return SpikeConvolution(
                operator.kernel.shape[-1],
                operator.shape_in,
                kernel_size=operator.kernel.shape[:-2],
                strides=operator.strides,
                padding=padding,
                init=operator.kernel,
                groups=operator.groups,
                before=tuple(before for before, _ in operator.padding),
            )
        case _:
            return None


def _padding(op: Convolution) -> str | None:
    """Return Nengo's word for the padding of a convolution, or None if Nengo cannot say it."""
    if op.transposed or len(op.strides) > 2 or any(d != 1 for d in op.dilation):
        return None
    if not any(before or after for before, after in op.padding):
        return "valid"
    sizes = zip(op.shape_in[:-1], op.shape_out[:-1], op.kernel.shape[:-2], op.strides, op.padding, strict=True)
    for n, outputs, size, stride, (before, after) in sizes:
        total = max((outputs - 1) * stride + size - n, 0)
        if outputs != -(-n // stride) or (before, after) != (total // 2, total - total // 2):
            return None
    return "same"


def _sparse(operator: Operator, where: str) -> Any:
    count = operator.synapse_count
    require_memory(
        f"expanding {where} into {count:,} synapses of a Nengo Sparse transform",
        count * BYTES_PER_SYNAPSE,
        "Simulate it on the 'reference' backend, which keeps convolutions as they are",
    )
    pre, post, weight = operator.to_coo()
    if len(weight) == 0:
        return None
    if isinstance(operator, SumPool):
        return SpikePool(operator, pre, post)
    indices = np.stack([post, pre], axis=1)
    return SpikeSparse((operator.size_out, operator.size_in), indices=indices, init=weight)
