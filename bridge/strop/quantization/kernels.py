"""Operators as index maps and windows of ones around one stage with weights, whose outputs share scales in groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Convolution, Dense, Operator, Scale, Select, Sparse, SumPool, stages_of
from strop.graph.capacity import require_memory
from strop.graph.compose import compose
from strop.graph.stage_weights import stage_weights, with_stage_weights
from strop.quantization.integers import reads_once

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_BYTES_PER_SYNAPSE = 80


@dataclass(frozen=True)
class Kernel:
    """One projection's operator, taken apart.

    Attributes
    ----------
    source : str
    before, after : tuple of Operator
        Index maps and windows of ones.
    core : Dense, Convolution, Scale or Sparse
        The one stage with weights; a Scale of ones where the operator has none.
    """

    source: str
    before: tuple[Operator, ...]
    core: Operator
    after: tuple[Operator, ...]

    @classmethod
    def of(cls, source: str, operator: Operator) -> Kernel:
        """Take an operator apart; several stages with weights are merged into one, or expanded into synapses.

        Raises
        ------
        CapacityError
            If it must be expanded and memory does not suffice.
        """
        stages = _merged(list(stages_of(operator)))
        weighted = [n for n, stage in enumerate(stages) if not isinstance(stage, (Select, SumPool))]
        if not weighted:
            return cls(source, tuple(stages), Scale(operator.shape_out, np.ones(())), ())
        if len(weighted) == 1:
            place = weighted[0]
            return cls(source, tuple(stages[:place]), stages[place], tuple(stages[place + 1 :]))
        count = operator.synapse_count
        require_memory(f"merging the {len(weighted)} kernels of {count:,} synapses", count * _BYTES_PER_SYNAPSE)
        return cls(source, (), Sparse(operator.shape_in, operator.shape_out, *operator.to_coo()), ())

    @property
    def has_one_way(self) -> bool:
        """Whether one way at most leads from a source to a neuron, so that a synapse has the weight of the kernel."""
        return all(reads_once(stage) for stage in self.before) and not any(
            isinstance(stage, SumPool) for stage in self.after
        )

    @property
    def weights(self) -> FloatArray:
        """The weights of the core."""
        weights = stage_weights(self.core)
        return np.broadcast_to(weights, self.core.shape) if isinstance(self.core, Scale) else weights

    def operator(self, weights: FloatArray) -> Operator:
        """Return the whole operator with other weights in its core."""
        core = with_stage_weights(self.core, weights)
        return compose(*self.before, core, *self.after) or Select(
            core.shape_in, np.arange(core.size_in).reshape(core.shape_in)
        )

    @property
    def label_count(self) -> int:
        """How many parts of the core can have a scale of their own."""
        return self.core.shape_out[-1] if isinstance(self.core, (Dense, Convolution)) else self.core.size_out

    @property
    def labels(self) -> IntArray:
        """Which part each output of the core belongs to, shape `core.shape_out`."""
        shape = self.core.shape_out
        if isinstance(self.core, (Dense, Convolution)):
            return np.broadcast_to(np.arange(shape[-1]), shape)
        return np.arange(self.core.size_out).reshape(shape)

    def per_weight(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values, one for each label, as an array that broadcasts to the weights."""
        match self.core:
            case Sparse():
                return values[self.core.post]
            case Scale():
                return values.reshape(self.core.shape)
            case _:
                return values

    def per_label(self, values: FloatArray, reduce: np.ufunc) -> FloatArray:
        """Return values, one for each weight, reduced to one for each label (`np.add`, `np.maximum`)."""
        match self.core:
            case Sparse():
                result = np.zeros(self.label_count)
                reduce.at(result, self.core.post, values)
                return result
            case Scale():
                return values.reshape(-1)
            case _:
                return np.asarray(reduce.reduce(values.reshape(-1, values.shape[-1]), axis=0))

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return which neurons read which labels: pairs (neuron, label)."""
        labels = self.labels.reshape((1, *self.core.shape_out)).astype(np.float64) + 1.0
        values = [labels]
        for stage in self.after:
            if isinstance(stage, Select):
                values = [stage.apply(each) for each in values]
            else:
                assert isinstance(stage, SumPool)
                values = [part for each in values for part in _in_windows(stage, each)]
        neurons, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for each in values:
            flat = each.reshape(-1)
            there = np.flatnonzero(flat)
            neurons.append(there)
            found.append(flat[there].astype(np.int64) - 1)
        return np.concatenate(neurons), np.concatenate(found)


def scale_groups(kernels: Sequence[Kernel], size: int) -> tuple[IntArray, list[IntArray]]:
    """Return the group of each neuron and of each label of each kernel: members of a group must share a scale.

    Parameters
    ----------
    kernels : sequence of Kernel
        All that feed one population.
    size : int
        Number of its neurons.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    starts, total = [], size
    for kernel in kernels:
        neurons, labels = kernel.edges()
        rows.append(neurons)
        columns.append(labels + total)
        starts.append(total)
        total += kernel.label_count
    row, column = np.concatenate(rows), np.concatenate(columns)
    links = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(total, total))
    _, found = connected_components(links, directed=False)
    found = found.astype(np.int64)
    return found[:size], [found[a : a + k.label_count] for a, k in zip(starts, kernels, strict=True)]


def _in_windows(stage: SumPool, labels: FloatArray) -> list[FloatArray]:
    """Return the labels that each window adds up: one array where all in it are the same, else one for each tap."""
    parts = []
    for _, at, read in stage.window.taps():
        part = np.zeros((1, *stage.shape_out))
        part[(slice(None), *at)] = labels[(slice(None), *read)]
        parts.append(part)
    if not parts:
        return []
    largest = np.maximum.reduce(parts)
    same = all(((part == largest) | (part == 0.0)).all() for part in parts)
    return [largest] if same else parts


def _merged(stages: list[Operator]) -> list[Operator]:
    """Return stages with a convolution and a product over its channels behind it (a separable one) made one."""
    result: list[Operator] = []
    for stage in stages:
        matrix = _over_channels(stage)
        last = result[-1] if result else None
        if matrix is not None and isinstance(last, Convolution):
            result[-1] = _product(last, matrix)
        elif matrix is not None and isinstance(last, Dense) and last.shape_out == stage.shape_in:
            result[-1] = Dense(last.weight @ matrix, last.leading)
        else:
            result.append(stage)
    return result


def _over_channels(stage: Operator) -> FloatArray | None:
    """Return the matrix of a stage that only mixes channels, the same at each place, else None."""
    match stage:
        case Dense() if stage.leading:
            return stage.weight
        case Convolution() if (
            stage.groups == 1
            and not stage.transposed
            and set(stage.kernel.shape[:-2]) == {1}
            and set(stage.strides) == {1}
            and all(pads == (0, 0) for pads in stage.padding)
        ):
            return stage.kernel.reshape(stage.kernel.shape[-2:])
        case Scale() if (factor := stage.per_channel) is not None:
            return np.diag(factor)
        case _:
            return None


def _product(first: Convolution, matrix: FloatArray) -> Convolution:
    """Return a convolution followed by a matrix over its channels, as one convolution."""
    per_group, filters = first.kernel.shape[-2:]
    share = filters // first.groups
    channels = first.shape_in[-1]
    kernel = np.zeros((*first.kernel.shape[:-2], channels, matrix.shape[1]))
    for group in range(first.groups):
        rows = slice(group * per_group, (group + 1) * per_group)
        columns = slice(group * share, (group + 1) * share)
        kernel[..., rows, :] = first.kernel[..., columns] @ matrix[columns]
    return Convolution(
        first.shape_in,
        kernel,
        first.strides,
        first.dilation,
        first.padding,
        1,
        first.transposed,
        first.output_padding,
    )
