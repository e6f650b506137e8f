"""Composition of operators, with the few simplifications that keep graphs small: merged index maps, folded factors."""

from __future__ import annotations

import numpy as np

from strop.errors import GraphError
from strop.graph.convolution import Convolution
from strop.graph.operator import Operator
from strop.graph.operators import Composed, Dense, Scale, Select, stages_of
from strop.graph.stage_weights import stage_weights, with_stage_weights


def compose(*operators: Operator | None) -> Operator | None:
    """Return the operator that applies `operators` one after the other, simplified; None stands for the identity.

    Two index maps become one, a map that moves nothing disappears, and a factor that varies along the channels
    alone is folded into the kernel of the dense or convolutional operator beside it. Folding multiplies single
    weights, so bounds that are made of absolute values stay as they were.
    """
    stages: list[Operator] = []
    for operator in operators:
        for stage in stages_of(operator):
            if stages and stages[-1].shape_out != stage.shape_in:
                raise GraphError(f"cannot compose: {stages[-1].shape_out} does not fit {stage.shape_in}")
            stages.append(stage)
            while len(stages) > 1 and (merged := _merge(stages[-2], stages[-1])) is not None:
                stages[-2:] = [merged]
            if _is_identity(stages[-1]):
                stages.pop()
    if not stages:
        return None
    return stages[0] if len(stages) == 1 else Composed(tuple(stages))


def _is_identity(operator: Operator) -> bool:
    if isinstance(operator, Select):
        return operator.shape_in == operator.shape_out and operator.is_reshape
    return isinstance(operator, Scale) and bool((operator.factor == 1.0).all())


def _merge(first: Operator, second: Operator) -> Operator | None:
    """Return one operator that does what `first`, then `second` do, or None where they stay apart."""
    match first, second:
        case Select(), Select():
            flat = first.index.reshape(-1)
            index = np.where(second.index >= 0, flat[np.maximum(second.index, 0)], -1)
            return Select(first.shape_in, index)
        case Scale(), Scale():
            return Scale(first.shape, first.factor * second.factor)
        case ((Dense() | Convolution()), Scale()) if (factor := second.per_channel) is not None:
            return with_stage_weights(first, stage_weights(first) * factor)
        case Scale(), Dense() if (factor := first.per_channel) is not None:
            return with_stage_weights(second, second.weight * factor[:, None])
        case Scale(), Convolution() if (factor := first.per_channel) is not None:
            per_group, filters = second.kernel.shape[-2:]
            # Filter f reads the input channels of its own group.
            group = np.arange(filters) // (filters // second.groups)
            channel = group[None, :] * per_group + np.arange(per_group)[:, None]
            return with_stage_weights(second, second.kernel * factor[channel])
        case Dense(), Convolution() if _one_source_each(first) and second.groups == 1:
            return _widened(first, second)
        case _:
            return None


def _one_source_each(dense: Dense) -> bool:
    """Whether every input of `dense` feeds one output, as the bit planes of a channel do."""
    return bool((np.count_nonzero(dense.weight, axis=1) <= 1).all())


def _widened(dense: Dense, convolution: Convolution) -> Convolution:
    """Fold a product over the channels into the convolution behind it (each new weight is one product)."""
    kernel = np.einsum("ic,...co->...io", dense.weight, convolution.kernel)
    return Convolution(
        (*convolution.shape_in[:-1], dense.weight.shape[0]),
        kernel,
        convolution.strides,
        convolution.dilation,
        convolution.padding,
        1,
        convolution.transposed,
        convolution.output_padding,
    )
