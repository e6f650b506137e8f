"""Weights, sums and thresholds as exact whole numbers: the largest possible sums of every neuron over all inputs.

Every finite float is a whole number times a power of two. For each neuron, `PopulationSums` has the exponent of its
grid (the largest power of two that divides all its weights) and, as int64 in units of the grid, the largest sum of each
sign, the heaviest weight, and where its threshold lies. Nothing is rounded here: where a number does not fit 62 bits,
the neuron is marked as wide, and no target can hold it.

Projections with few synapses are expanded into them. Large ones are bounded from their kernels: index maps and windows
of ones carry how often each source is counted, and one product of whole numbers with the positive and one with the
negative weights gives the sums. Where several paths lead from one source to one neuron, their weights are not added up
first, so these sums may be larger than the true ones, never smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Convolution, Dense, Graph, Operator, Population, Scale, Select, SumPool, stages_of
from strop.graph.capacity import require_memory
from strop.graph.rounding.formats import lowest_bit
from strop.graph.stage_weights import stage_weights
from strop.quantization.expansion import bounded_from_kernels, expands_exactly

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

# Operators with more synapses than this are bounded from their kernels.
EXPANDED = 100_000
_BYTES_PER_SYNAPSE = 80
# Whole numbers stay below 2^62, so that the sum of two of them fits int64.
MOST_BITS = 62
# The exponent of a neuron that no synapse reaches: zero is a multiple of everything.
NO_GRID = 1 << 20


@dataclass(frozen=True)
class Sums:
    """What one projection, or all of a population, can add to each neuron, in units of `2^exponent`.

    Attributes
    ----------
    exponent : int64 array, shape (neurons,)
        Of each neuron's grid; `NO_GRID` where a neuron has no synapse.
    positive, negative : int64 array, shape (neurons,)
        Sums of the magnitudes of all weights of one sign: no input can bring more.
    heaviest : int64 array, shape (neurons,)
        Largest magnitude of a single weight.
    wide : bool array, shape (neurons,)
        Where one of these numbers does not fit 62 bits; they are 0 there.
    """

    exponent: IntArray
    positive: IntArray
    negative: IntArray
    heaviest: IntArray
    wide: BoolArray

    def on_grid(self, exponent: IntArray) -> Sums:
        """Return the same sums in units of another grid, at least as fine wherever there is a synapse."""
        shift = np.where(self.exponent == NO_GRID, 0, self.exponent - exponent)
        largest = np.maximum(self.positive, self.negative)
        wide = self.wide | (_bit_length(largest) + shift > MOST_BITS)
        shift = np.where(wide, 0, shift)
        positive, negative, heaviest = (
            np.where(wide, 0, numbers << shift) for numbers in (self.positive, self.negative, self.heaviest)
        )
        return Sums(exponent, positive, negative, heaviest, wide)


@dataclass(frozen=True)
class PopulationSums(Sums):
    """The sums of a population over all its projections, and its thresholds, neuron by neuron.

    Attributes
    ----------
    fires_from : int64 array, shape (neurons,)
        The smallest whole number at or above threshold - bias: a neuron fires iff its sum is at least this.
    meets : bool array, shape (neurons,)
        Where threshold - bias is a whole number itself, so that a sum may be equal to it.
    halves : int64 array, shape (neurons,)
        The larger magnitude of threshold and bias in units of `2^(exponent - 1)`, rounded up.
    on_halves : bool array, shape (neurons,)
        Where threshold and bias are both whole numbers of these halves.
    closeness : int64 array, shape (neurons,)
        s such that threshold - bias is at least `2^-s` away from every whole number that it is not; 0 where it meets
        one.
    """

    fires_from: IntArray
    meets: BoolArray
    halves: IntArray
    on_halves: BoolArray
    closeness: IntArray


def population_sums(graph: Graph, name: str, *, expand: bool = False) -> PopulationSums:
    """Return the largest sums, the heaviest weight and the place of the threshold of every neuron, on its own grid.

    Parameters
    ----------
    expand : bool
        See `projection_sums`.
    """
    parts = [projection_sums(projection.operator, expand=expand) for projection in graph.incoming(name)]
    own = np.minimum.reduce([part.exponent for part in parts])
    # A neuron without synapses lies on any grid: on the finest of the others.
    exponent = np.where(own == NO_GRID, own.min() if own.min() < NO_GRID else 0, own)
    parts = [part.on_grid(exponent) for part in parts]
    wide = np.logical_or.reduce([part.wide for part in parts])
    positive, negative = (
        _added([part.positive for part in parts], wide),
        _added([part.negative for part in parts], wide),
    )
    heaviest = np.maximum.reduce([part.heaviest for part in parts])
    return _placed(Sums(exponent, positive, negative, heaviest, wide), graph.population(name))


def population_on_grid(sums: PopulationSums, population: Population, exponent: IntArray) -> PopulationSums:
    """Return the sums and thresholds of a population in units of another grid, no coarser than the neurons' own."""
    return _placed(sums.on_grid(exponent), population)


def _placed(sums: Sums, population: Population) -> PopulationSums:
    """Add the place of the threshold of every neuron."""
    wide = sums.wide.copy()
    places = _thresholds(population, sums.exponent, wide)
    return PopulationSums(sums.exponent, sums.positive, sums.negative, sums.heaviest, wide, *places)


def projection_sums(operator: Operator, *, expand: bool = False) -> Sums:
    """Return the largest sums behind an operator, for sources that send single spikes in any pattern.

    Parameters
    ----------
    operator : Operator
    expand : bool
        Expand kernels of any size into synapses.

    Raises
    ------
    CapacityError
        If the operator must be expanded, because it has more than one stage with weights, and memory does not suffice.
    """
    stages = list(stages_of(operator))
    kernels = bounded_from_kernels(operator)
    if kernels and not expand and operator.synapse_count > EXPANDED:
        return _of_stages(operator, stages)
    if len(stages) > 1 and not expand and not expands_exactly(operator, stages):
        return _of_stages(operator, stages) if kernels else _unknown(operator.size_out)
    require_memory(
        f"expanding {operator.synapse_count:,} synapses for their exact sums",
        operator.synapse_count * _BYTES_PER_SYNAPSE,
    )
    _, post, weight = operator.to_coo()
    return _of_synapses(operator.size_out, post, weight)


def _unknown(size: int) -> Sums:
    """Return the sums of neurons of which nothing is known: all of them wide."""
    none = np.zeros(size, np.int64)
    return Sums(none, none, none, none, np.ones(size, bool))


def whole_numbers(weights: FloatArray, exponent: npt.NDArray[Any]) -> tuple[IntArray, BoolArray]:
    """Return `weights / 2^exponent` as int64 (0 where it does not fit 62 bits), and where it fits.

    Parameters
    ----------
    weights : array
    exponent : int array that broadcasts to it
        At most `lowest_bit` of each weight, so that nothing is rounded.
    """
    fits = (weights == 0.0) | (np.frexp(weights)[1] - exponent <= MOST_BITS)
    kept = np.where(fits, weights, 0.0)
    # In two steps: the power of two itself may not be a float64.
    shift = np.where(fits & (weights != 0.0), -np.asarray(exponent), 0).astype(np.int64)
    half = shift // 2
    return np.ldexp(np.ldexp(kept, half), shift - half).astype(np.int64), fits


def _bit_length(values: IntArray) -> IntArray:
    """Return the bits of non-negative whole numbers, at most one too many."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _added(parts: Sequence[IntArray], wide: BoolArray) -> IntArray:
    """Return the sum of whole numbers below 2^62; marks in `wide` where it is not below 2^62 itself."""
    total = np.zeros_like(parts[0])
    for part in parts:
        total = total + np.where(wide, 0, part)
        wide |= total >= 1 << MOST_BITS
        total = np.where(wide, 0, total)
    return total


# Thresholds -----------------------------------------------------------------------------------------------------------


def _thresholds(
    population: Population, exponent: IntArray, wide: BoolArray
) -> tuple[IntArray, BoolArray, IntArray, BoolArray, IntArray]:
    """Return the last five attributes of `PopulationSums`; marks in `wide` what does not fit."""
    keys = np.stack([population.threshold.reshape(-1), population.bias.reshape(-1), exponent.astype(np.float64)])
    # Few are different: a bias for each channel, one threshold. Python's whole numbers hold them all.
    unique, where = np.unique(keys, axis=1, return_inverse=True)
    rows = [_threshold(float(threshold), float(bias), int(e)) for threshold, bias, e in unique.T]
    fits = np.array([max(abs(row[0]), row[2]) < 1 << MOST_BITS for row in rows])
    where = where.reshape(-1)
    wide |= ~fits[where]
    kept = [row if fit else (0, False, 0, False, 0) for row, fit in zip(rows, fits, strict=True)]
    fires_from, halves, closeness = (np.array([row[n] for row in kept], dtype=np.int64)[where] for n in (0, 2, 4))
    meets, on_halves = (np.array([row[n] for row in kept], dtype=bool)[where] for n in (1, 3))
    return fires_from, meets, halves, on_halves, closeness


def _threshold(threshold: float, bias: float, exponent: int) -> tuple[int, bool, int, bool, int]:
    """Return `fires_from`, `meets`, `halves`, `on_halves` and `closeness` of one neuron."""
    (t, t_shift), (b, b_shift) = _scaled(threshold, exponent), _scaled(bias, exponent)
    shift = max(t_shift, b_shift)
    difference = (t << (shift - t_shift)) - (b << (shift - b_shift))
    whole, rest = difference >> shift, difference & ((1 << shift) - 1)
    distance = min(rest, (1 << shift) - rest)
    closeness = 0 if rest == 0 else shift - (distance.bit_length() - 1)
    halves = max(-((-2 * abs(number)) >> by) for number, by in ((t, t_shift), (b, b_shift)))
    on_halves = all((2 * number) & ((1 << by) - 1) == 0 for number, by in ((t, t_shift), (b, b_shift)))
    return whole + (rest != 0), rest == 0, halves, on_halves, closeness


def _scaled(value: float, exponent: int) -> tuple[int, int]:
    """Return (n, s) with `value / 2^exponent = n / 2^s`."""
    number, denominator = value.as_integer_ratio()
    shift = denominator.bit_length() - 1 + exponent
    return (number, shift) if shift >= 0 else (number << -shift, 0)


# Sums -----------------------------------------------------------------------------------------------------------------


def _of_synapses(size: int, post: IntArray, weight: FloatArray) -> Sums:
    """Return the sums of single synapses, exactly."""
    exponent = np.full(size, NO_GRID, np.int64)
    np.minimum.at(exponent, post, lowest_bit(weight).astype(np.int64))
    numbers, fits = whole_numbers(weight, exponent[post])
    wide = np.zeros(size, bool)
    wide[post[~fits]] = True
    # Sums of magnitudes in floating point, rounded up, tell where int64 might overflow.
    rough = np.bincount(post, np.abs(numbers).astype(np.float64), size) * (1.0 + 2.0**-20)
    wide |= rough >= 2.0**MOST_BITS
    numbers = np.where(wide[post], 0, numbers)
    positive, negative, heaviest = (np.zeros(size, np.int64) for _ in range(3))
    np.add.at(positive, post, np.maximum(numbers, 0))
    np.add.at(negative, post, np.maximum(-numbers, 0))
    np.maximum.at(heaviest, post, np.abs(numbers))
    return Sums(exponent, positive, negative, heaviest, wide)


def _of_stages(operator: Operator, stages: Sequence[Operator]) -> Sums:
    """Return bounds on the sums from kernels, for index maps and windows of ones around at most one kernel."""
    times = np.ones(operator.shape_in, np.int64)
    # Whether every source has one way to a neuron at most: then a synapse weighs what the kernel says.
    single = True
    sums: tuple[Any, ...] | None = None
    for stage in stages:
        if sums is not None:
            single &= isinstance(stage, Select)
            sums = _picked_all(stage, sums) if isinstance(stage, Select) else _pooled(stage, sums)
        elif isinstance(stage, Select):
            single &= reads_once(stage)
            times = _picked(stage, times, 0)
        elif isinstance(stage, SumPool):
            single &= reads_once(stage)
            times = _windows_added(stage, times)
        else:
            sums = _weighted(stage, times)
    if sums is None:
        there = times > 0
        sums = (np.where(there, 0, NO_GRID), times, np.zeros_like(times), there.astype(np.int64), ~np.ones_like(there))
    exponent, positive, negative, heaviest, wide = (values.reshape(-1) for values in sums)
    if not single:
        heaviest = np.maximum(positive, negative)
    return Sums(exponent, positive, negative, heaviest, wide.astype(bool))


def reads_once(stage: Operator) -> bool:
    """Whether an index map, or a window of ones, reads no value twice."""
    if isinstance(stage, SumPool):
        return all(a >= b for a, b in zip(stage.strides, stage.size, strict=True))
    assert isinstance(stage, Select)
    read = stage.index[stage.index >= 0]
    return len(np.unique(read)) == len(read)


def _picked(stage: Select, values: npt.NDArray[Any], missing: int) -> npt.NDArray[Any]:
    picked = values.reshape(-1)[np.maximum(stage.index, 0)]
    return np.where(stage.index < 0, np.asarray(missing, values.dtype), picked)


def _picked_all(stage: Select, sums: Sequence[npt.NDArray[Any]]) -> tuple[Any, ...]:
    return tuple(_picked(stage, values, missing) for values, missing in zip(sums, (NO_GRID, 0, 0, 0, 0), strict=True))


def _windows_added(stage: SumPool, values: IntArray) -> IntArray:
    total = np.zeros(stage.shape_out, np.int64)
    for _, at, read in stage.window.taps():
        total[at] += values[read]
    return total


def _pooled(stage: Operator, sums: Sequence[npt.NDArray[Any]]) -> tuple[Any, ...]:
    """Return sums behind a window of ones; within a window all must have one grid, the finest."""
    assert isinstance(stage, SumPool)
    exponent, positive, negative, heaviest, wide = sums
    finest = np.full(stage.shape_out, NO_GRID, np.int64)
    touched = np.zeros(stage.shape_out, bool)
    for _, at, read in stage.window.taps():
        finest[at] = np.minimum(finest[at], exponent[read])
        touched[at] |= wide[read]
    plus, minus, heavy = (np.zeros(stage.shape_out, np.int64) for _ in range(3))
    for _, at, read in stage.window.taps():
        shift = np.where(exponent[read] == NO_GRID, 0, exponent[read] - finest[at])
        length = _bit_length(np.maximum(positive[read], negative[read]))
        # 2^20 places in a window at most: their sum stays within 62 bits.
        fits = length + shift <= MOST_BITS - 20
        touched[at] |= ~fits
        for total, part in ((plus, positive), (minus, negative)):
            total[at] += np.where(fits, part[read] << np.where(fits, shift, 0), 0)
        heavy[at] = np.maximum(heavy[at], np.where(fits, heaviest[read] << np.where(fits, shift, 0), 0))
    return finest, plus, minus, heavy, touched


def _weighted(stage: Operator, times: IntArray) -> tuple[Any, ...]:
    """Return the sums behind the stage that has weights, when each value before it is counted `times` times."""
    exponent = _output_grids(stage)
    numbers, fits = whole_numbers(stage_weights(stage), exponent)
    rough = stage.absolute().apply(times[None].astype(np.float64))[0]
    grid = np.broadcast_to(_over_outputs(stage, exponent), stage.shape_out)
    with np.errstate(over="ignore"):
        size = np.ldexp(rough * (1.0 + 2.0**-20), np.where(grid == NO_GRID, 0, -grid).astype(np.int64))
    unfit = np.broadcast_to(
        _over_outputs(stage, np.asarray(~fits.all(axis=_summed_axes(stage), keepdims=True))), stage.shape_out
    )
    wide = unfit | ~(size < 2.0**MOST_BITS)
    # What is wide in one neuron may be sound in the next of the same kernel: numbers that fit are kept.
    positive = _product(stage, np.maximum(numbers, 0), times)
    negative = _product(stage, np.maximum(-numbers, 0), times)
    heaviest = _over_outputs(stage, np.abs(numbers).max(axis=_summed_axes(stage), keepdims=True))
    there = positive + negative > 0
    heavy = np.where(there, np.broadcast_to(heaviest, stage.shape_out), 0)
    none = np.where(wide, 0, 1)
    return np.where(there | wide, grid, NO_GRID), positive * none, negative * none, heavy * none, wide


def _summed_axes(stage: Operator) -> tuple[int, ...]:
    """Return the axes of a stage's weights that one neuron sums over."""
    match stage:
        case Dense():
            return (0,)
        case Convolution():
            return tuple(range(stage.kernel.ndim - 1))
        case _:
            return ()


def _output_grids(stage: Operator) -> IntArray:
    """Return the exponent of each output's grid, as an array that broadcasts against the stage's weights."""
    bits = lowest_bit(stage_weights(stage))
    bits = bits.min(axis=_summed_axes(stage), keepdims=True) if _summed_axes(stage) else bits
    return np.where(np.isinf(bits), NO_GRID, bits).astype(np.int64)


def _over_outputs(stage: Operator, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values per output of the stage's weights, with axes summed over of extent 1, against its outputs."""
    return values.reshape(-1) if _summed_axes(stage) else values


def _product(stage: Operator, weights: IntArray, times: IntArray) -> IntArray:
    """Return `stage` with whole numbers for weights, applied to whole numbers; shape `shape_out`."""
    match stage:
        case Dense():
            return (times.reshape(-1, times.shape[-1]) @ weights).reshape(stage.shape_out)
        case Scale():
            return np.broadcast_to(weights, stage.shape) * times
        case Convolution():
            result = np.zeros(stage.shape_out, np.int64)
            per_group, filters = weights.shape[-2:]
            share = filters // stage.groups
            for tap, at, read in stage._taps():
                for group in range(stage.groups):
                    source = times[(*read, slice(group * per_group, (group + 1) * per_group))]
                    outputs = slice(group * share, (group + 1) * share)
                    result[(*at, outputs)] += source @ weights[tap][:, outputs]
            return result
        case _:
            raise TypeError(f"{type(stage).__name__} has no kernel")
