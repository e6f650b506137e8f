"""Fan-in and fan-out of operators, neuron by neuron, without expanding what can be counted otherwise.

Which weights are zero and which are not is itself a linear map (`structure`): applied to ones it counts the synapses
that end at each neuron, and its transpose applied to ones those that start there. For a composition that counts paths,
and paths are synapses unless two of them join the same pair of neurons.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from strop.errors import GraphError
from strop.graph.convolution import Convolution, SumPool
from strop.graph.operator import FloatArray, IntArray, Operator
from strop.graph.operators import _EXACT_COUNT_LIMIT, Composed, Dense, Scale, Select, Sparse, stages_of


def fan_in(operator: Operator) -> IntArray:
    """Return how many synapses end at each neuron, int64 array of `operator.shape_out`; see `counts_are_exact`."""
    if _paths_meet(operator) and counts_are_exact(operator):
        _, post, _ = operator.to_coo()
        return np.bincount(post, minlength=operator.size_out).astype(np.int64).reshape(operator.shape_out)
    return _whole(structure(operator).apply(np.ones((1, *operator.shape_in)))[0])


def fan_out(operator: Operator) -> IntArray:
    """Return how many synapses start at each neuron, int64 array of `operator.shape_in`; see `counts_are_exact`."""
    if _paths_meet(operator) and counts_are_exact(operator):
        pre, _, _ = operator.to_coo()
        return np.bincount(pre, minlength=operator.size_in).astype(np.int64).reshape(operator.shape_in)
    return _whole(paths_back(operator, np.ones(operator.shape_out)))


def counts_are_exact(operator: Operator) -> bool:
    """Whether `fan_in`, `fan_out` and `synapse_count` are what `to_coo` would give, and not an upper bound.

    They are, but for compositions of millions of paths of which several join the same pair of neurons (an average pool
    in front of an overlapping convolution, at that size): those would have to be expanded, and are counted by paths.
    """
    return not _paths_meet(operator) or _path_count(operator) <= _EXACT_COUNT_LIMIT


def paths_back(operator: Operator, values: FloatArray) -> FloatArray:
    """Apply the transpose of `structure(operator)`: each neuron gets the sum over its targets.

    Parameters
    ----------
    values : array, shape `operator.shape_out`

    Returns
    -------
    array, shape `operator.shape_in`, float64
    """
    match operator:
        case Dense():
            return np.asarray(values @ (operator.weight != 0).T.astype(np.float64))
        case Scale():
            return np.asarray(values * (operator.factor != 0))
        case Select():
            kept = operator.index >= 0
            return _summed(operator.index[kept], values[kept], operator.size_in).reshape(operator.shape_in)
        case Sparse():
            carried = values.reshape(-1)[operator.post] * (operator.weight != 0)
            return _summed(operator.pre, carried, operator.size_in).reshape(operator.shape_in)
        case Composed():
            return reduce(lambda behind, stage: paths_back(stage, behind), reversed(operator.stages), values)
        case SumPool():
            sums = np.zeros(operator.shape_in)
            for _, at, read in operator.window.taps():
                sums[read] += values[at]
            return sums
        case Convolution():
            return _convolution_back(operator, values)
        case _:
            raise GraphError(f"{type(operator).__name__} has no transpose that strop knows")


def _summed(places: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Return the sum of the values of each place, float64 also where there are none."""
    return np.bincount(places, values, size).astype(np.float64)


def _convolution_back(operator: Convolution, values: FloatArray) -> FloatArray:
    per_group, filters = operator.kernel.shape[-2:]
    share = filters // operator.groups
    present = (operator.kernel != 0).astype(np.float64)
    sums = np.zeros(operator.shape_in)
    for tap, at, read in operator._taps():
        for group in range(operator.groups):
            filled, own = slice(group * share, (group + 1) * share), slice(group * per_group, (group + 1) * per_group)
            sums[(*read, own)] += values[(*at, filled)] @ present[tap][:, filled].T
    return sums


def _paths_meet(operator: Operator) -> bool:
    """Whether two paths through a composition may join the same pair of neurons.

    They cannot where the stages so far lead each neuron to at most one other, or where each output of the next stage
    takes at most one value.
    """
    stages = list(stages_of(operator))
    single = True
    for number, stage in enumerate(stages):
        one_value_each = bool((structure(stage).apply(np.ones((1, *stage.shape_in))) <= 1).all())
        if number and not single and not one_value_each:
            return True
        single = single and bool((paths_back(stage, np.ones(stage.shape_out)) <= 1).all())
    return False


def _path_count(operator: Operator) -> int:
    return round(float(structure(operator).apply(np.ones((1, *operator.shape_in))).sum()))


def _whole(counts: FloatArray) -> IntArray:
    return np.rint(counts).astype(np.int64)


def structure(operator: Operator) -> Operator:
    """Return `operator` with every non-zero weight replaced by one: what connects to what."""
    return operator.structure()
