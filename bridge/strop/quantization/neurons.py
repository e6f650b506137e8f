"""One population while it is quantised: the scale of every neuron, whole-number weights, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import QuantizationError
from strop.graph import Graph, Population, Projection
from strop.quantization.integers import PopulationSums, population_on_grid, projection_sums
from strop.quantization.kernels import Kernel, scale_groups
from strop.quantization.proportions import whole_multiples
from strop.quantization.records import QuantizedPopulation
from strop.running.arithmetic import Arithmetic

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


# Factors that are tried for few bits, as shares of the largest: a smaller one may round weights better.
_SHARES = np.linspace(1.0, 0.5, 33)


# With the fewest levels, larger ones as well: the heaviest weights are then cut to the largest level.
_CUTTING_SHARES = np.geomspace(8.0, 0.5, 65)
_CUT_LEVELS = 3


# Up to so many bits of a weight the factor is searched for; beyond, rounding hardly depends on it.
_SEARCHED_BITS = 10


# How far thresholds may be moved on the frames, in steps of the grid.
_REACH = 64


_TRIES = 64


_LARGEST_SUM = (1 << 51) - 1


def fits(sums: PopulationSums, arithmetic: Arithmetic) -> bool:
    """Whether the weights of a population fit a target as they are, but for the exponent of their grid."""
    if sums.wide.any():
        return False
    largest, heaviest = max(int(sums.positive.max()), int(sums.negative.max())), int(sums.heaviest.max())
    return largest <= arithmetic.largest_sum and heaviest <= arithmetic.largest_weight


class QuantizedNeurons:
    """One population while it is quantised: factors, whole-number weights and thresholds."""

    def __init__(self, graph: Graph, name: str, arithmetic: Arithmetic, sums: PopulationSums) -> None:
        self.arithmetic, self.sums = arithmetic, sums
        self.old = graph.population(name)
        self.incoming = graph.incoming(name)
        self.kernels = [Kernel.of(p.source, p.operator) for p in self.incoming]
        self.group, self.labels = scale_groups(self.kernels, self.old.size)
        self.exact = False
        self.factor = np.ones(0)
        self.ratio: tuple[IntArray, FloatArray] | None = None
        self.numbers: list[FloatArray] = []
        self.fires_from: IntArray = np.zeros(0, np.int64)
        self.positive = self.negative = np.zeros(0)

    def choose(self) -> None:
        """Choose factors and round."""
        if self.arithmetic.scale == "population":
            self.group = np.zeros_like(self.group)
            self.labels = [np.zeros_like(labels) for labels in self.labels]
        self.groups = 1 + max((int(g.max()) for g in (self.group, *self.labels) if g.size), default=0)
        self._choose_exact()
        if not self.exact:
            self._choose_proportional()
        if not self.exact and self.arithmetic.signs:
            self._choose_signs()
        elif not self.exact:
            self._choose_rounded()
        self._set_thresholds()

    def _choose_exact(self) -> None:
        """Keep weights that are whole numbers of a group's grid and fit the target."""
        if self.sums.wide.any():
            return
        finest = np.full(self.groups, 1 << 20, np.int64)
        there = self.sums.heaviest > 0
        np.minimum.at(finest, self.group[there], self.sums.exponent[there])
        finest[finest == 1 << 20] = 0
        shifted = population_on_grid(self.sums, self.old, finest[self.group])
        if not fits(shifted, self.arithmetic):
            return
        # Thresholds stay within what any input can bring, half a step beyond it.
        halves = np.abs(shifted.fires_from.astype(np.float64)) * 2.0 + 1.0
        halves = np.minimum(halves, 2.0 * np.maximum(shifted.positive, shifted.negative) + 3.0)
        if (halves >= 2.0**self.arithmetic.half_bits).any():
            return
        self.exact = True
        self.factor = np.ldexp(1.0, -finest)
        self._round()

    def _choose_proportional(self) -> None:
        """Keep weights that are whole numbers times a factor of each group, and fit the target."""
        found = whole_multiples(self.kernels, self.labels, self.groups, self.arithmetic.largest_weight)
        if found is None:
            return
        self.factor = found[0] / found[1]
        self._round()
        over = np.maximum(self.positive, self.negative) > self._largest_sum()
        over |= self._heaviest_synapses() > self.arithmetic.largest_weight
        if not over.any():
            self.exact, self.ratio = True, found

    def _choose_signs(self) -> None:
        """Take the signs of the weights; a group's factor is that with the least squared error, the mean magnitude."""
        magnitude, count = np.zeros(self.groups), np.zeros(self.groups)
        for kernel, labels in zip(self.kernels, self.labels, strict=True):
            np.add.at(magnitude, labels, kernel.per_label(np.abs(kernel.weights), np.add))
            np.add.at(count, labels, kernel.per_label((kernel.weights != 0.0).astype(np.float64), np.add))
        self.factor = np.where(magnitude > 0.0, count / np.where(magnitude > 0.0, magnitude, 1.0), 1.0)
        self.numbers = [np.sign(kernel.weights) for kernel in self.kernels]
        self.positive, self.negative = self._sums_of(self.numbers)
        largest, heaviest = np.maximum(self.positive, self.negative), self._heaviest_synapses()
        over = np.flatnonzero((largest > self._largest_sum()) | (heaviest > 1.0))
        if over.size:
            neuron = int(over[0])
            what = (
                f"several ways lead from one source to it, and their signs add up to {heaviest[neuron]:,.0f}"
                if heaviest[neuron] > 1.0
                else f"{largest[neuron]:,.0f} weights of one sign do not fit sums of {self.arithmetic.sum_bits} bits"
            )
            raise QuantizationError(f"{self.old.name}, neuron {neuron}: {what} ({self.arithmetic.name})")

    def _largest_sum(self) -> int:
        """Return the largest sum that the target holds, and whose threshold it holds too."""
        # A threshold may lie half a step beyond the largest sum.
        return min(self.arithmetic.largest_sum, _LARGEST_SUM, (1 << (self.arithmetic.half_bits - 1)) - 2)

    def _choose_rounded(self) -> None:
        arithmetic, largest_sum = self.arithmetic, self._largest_sum()
        positive, negative = self._sums_of([kernel.weights for kernel in self.kernels])
        largest = np.zeros(self.groups)
        np.maximum.at(largest, self.group, np.maximum(positive, negative))
        heaviest = np.zeros(self.groups)
        for kernel, labels in zip(self.kernels, self.labels, strict=True):
            np.maximum.at(heaviest, labels, kernel.per_label(np.abs(kernel.weights), np.maximum))
        # What meets in one synapse over several paths is no heavier than the sum.
        with np.errstate(divide="ignore"):
            ceiling = np.minimum(arithmetic.largest_weight / heaviest, largest_sum / largest)
        ceiling = np.where(largest > 0.0, ceiling, 1.0)
        self.factor = ceiling * (1.0 - 2.0**-30)
        if arithmetic.weight_bits is not None and arithmetic.weight_bits <= _SEARCHED_BITS:
            self.factor = self._searched(self.factor)
        for _ in range(_TRIES):
            self._round()
            over = np.zeros(self.groups)
            np.maximum.at(over, self.group, np.maximum(self.positive, self.negative) / largest_sum)
            np.maximum.at(over, self.group, self._heaviest_synapses() / arithmetic.largest_weight)
            too_much = over > 1.0
            if not too_much.any():
                break
            self.factor = np.where(too_much, self.factor / np.maximum(over, 1.0) * (1.0 - 2.0**-12), self.factor)
        self._refuse_what_vanished(heaviest, largest)

    def _searched(self, ceiling: FloatArray) -> FloatArray:
        """Return for each group the factor, of those tried, with the least squared error of the weights."""
        best, least = ceiling, np.full(self.groups, np.inf)
        for share in _CUTTING_SHARES if self.arithmetic.largest_weight <= _CUT_LEVELS else _SHARES:
            factor = ceiling * share
            error = np.zeros(self.groups)
            for kernel, labels in zip(self.kernels, self.labels, strict=True):
                each = kernel.per_weight(factor[labels])
                off = kernel.weights - self._whole(kernel.weights * each) / each
                np.add.at(error, labels, kernel.per_label(off**2, np.add))
            better = error < least * (1.0 - 1e-12)
            best, least = np.where(better, factor, best), np.where(better, error, least)
        return best

    def _round(self) -> None:
        self.numbers = [
            self._whole(kernel.weights * kernel.per_weight(self.factor[labels]))
            for kernel, labels in zip(self.kernels, self.labels, strict=True)
        ]
        self.positive, self.negative = self._sums_of(self.numbers)

    def _whole(self, weights: FloatArray) -> FloatArray:
        """Return scaled weights as whole numbers that the target holds."""
        most = float(self.arithmetic.largest_weight)
        return np.clip(np.rint(weights), -most, most)

    def _sums_of(self, weights: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return the sums of positive and of negative weights of each neuron; whole numbers stay exact below 2^53."""
        totals = [np.zeros(self.old.size), np.zeros(self.old.size)]
        for kernel, values in zip(self.kernels, weights, strict=True):
            for sign, total in zip((1.0, -1.0), totals, strict=True):
                operator = kernel.operator(np.maximum(sign * values, 0.0))
                total += operator.apply(np.ones((1, *operator.shape_in)))[0].reshape(-1)
        return totals[0], totals[1]

    def _heaviest_synapses(self) -> FloatArray:
        """Return the heaviest weight of each neuron where several ways lead to one synapse; 0 where only one does."""
        heaviest = np.zeros(self.old.size)
        for kernel, numbers in zip(self.kernels, self.numbers, strict=True):
            if not kernel.has_one_way:
                sums = projection_sums(kernel.operator(numbers))
                weights = np.ldexp(sums.heaviest.astype(np.float64), np.where(sums.heaviest > 0, sums.exponent, 0))
                heaviest = np.maximum(heaviest, weights)
        return heaviest

    def _refuse_what_vanished(self, heaviest: FloatArray, largest: FloatArray) -> None:
        """Refuse neurons none of whose weights is left: the target's sums are too narrow for them."""
        left = np.zeros(self.groups)
        for kernel, labels, numbers in zip(self.kernels, self.labels, self.numbers, strict=True):
            np.maximum.at(left, labels, kernel.per_label(np.abs(numbers), np.maximum))
        gone = (heaviest > 0.0) & (left == 0.0)
        gone_neurons = np.flatnonzero(gone[self.group])
        if gone_neurons.size:
            neuron = int(gone_neurons[0])
            ratio = largest[self.group[neuron]] / heaviest[self.group[neuron]]
            bits = int(np.ceil(np.log2(ratio + 1.0)))
            raise QuantizationError(
                f"{self.old.name}, neuron {neuron}: weights that add up to {ratio:,.0f} times the heaviest do not fit "
                f"sums of {self.arithmetic.sum_bits} bits ({self.arithmetic.name}); {bits} bits would do"
            )

    def _set_thresholds(self) -> None:
        """Put thresholds half-way: a neuron fires from the smallest whole number at or above the scaled one."""
        threshold, bias = self.old.threshold.reshape(-1), self.old.bias.reshape(-1)
        factor = self.factor[self.group]
        place = factor * (threshold - bias)
        whole = np.ceil(place)
        # Where a rounding of this product could decide, exact fractions do.
        close = np.abs(place - np.rint(place)) <= 2.0**-40 * (1.0 + factor * (np.abs(threshold) + np.abs(bias)))
        for n in np.flatnonzero(close):
            exact = self._exact_factor(int(n)) * (Fraction(float(threshold[n])) - Fraction(float(bias[n])))
            whole[n] = float(-((-exact.numerator) // exact.denominator))
        # A neuron that nothing can make fire, or nothing keep from it, needs no threshold further out.
        self.fires_from = np.clip(whole, -self.negative, self.positive + 1.0).astype(np.int64)

    def _exact_factor(self, neuron: int) -> Fraction:
        group = self.group[neuron]
        if self.ratio is None:
            return Fraction(float(self.factor[group]))
        return Fraction(int(self.ratio[0][group])) / Fraction(float(self.ratio[1][group]))

    def summed(self, signals: Mapping[str, npt.NDArray[Any]]) -> IntArray:
        """Return the whole-number sums of all neurons, shape (n, neurons)."""
        total: FloatArray | None = None
        for kernel, numbers in zip(self.kernels, self.numbers, strict=True):
            part = kernel.operator(numbers).apply(signals[kernel.source])
            total = part if total is None else total + part
        assert total is not None
        whole: IntArray = total.reshape(len(total), -1).astype(np.int64)
        return whole

    def move_thresholds(self, summed: IntArray, wanted: npt.NDArray[np.bool_]) -> None:
        """Move the thresholds of each group by the steps that change fewest spikes; nothing moves without need."""
        width = 2 * _REACH + 2
        counts = np.zeros((2, self.groups, width), np.int64)
        # Margin m of a frame: with a shift of o, the neuron fires iff m >= o.
        for sums, fired in zip(summed, wanted, strict=True):
            margin = np.clip(sums - self.fires_from, -_REACH - 1, _REACH) + _REACH + 1
            np.add.at(counts, (fired.astype(np.int64), self.group, margin), 1)
        below = np.cumsum(counts, axis=2)
        # Shift o = column - _REACH: wrong are those that should fire with m < o, and those that should not with m >= o.
        missed = below[1][:, :-1]
        extra = below[0][:, -1:] - below[0][:, :-1]
        wrong = missed + extra
        shifts = np.arange(-_REACH, _REACH + 1)
        least = wrong.min(axis=1, keepdims=True)
        # Of the best shifts, the smallest.
        distance = np.where(wrong == least, np.abs(shifts)[None, :], width)
        chosen = shifts[distance.argmin(axis=1)]
        moved = self.fires_from + chosen[self.group]
        self.fires_from = np.clip(moved, -self.negative, self.positive + 1.0).astype(np.int64)

    # The result -------------------------------------------------------------------------------------------------------

    def _exponents(self) -> IntArray:
        """Return the exponent of each group's grid: weights keep about the size that they had."""
        if self.arithmetic.exponent is not None:
            return np.full(self.groups, self.arithmetic.exponent, np.int64)
        exponents: IntArray = -np.rint(np.log2(self.factor)).astype(np.int64)
        return exponents

    def population(self) -> Population:
        """Return the population: thresholds half-way between whole numbers of the grid, no bias."""
        exponent = self._exponents()[self.group]
        threshold = np.ldexp(2.0 * self.fires_from - 1.0, exponent - 1).reshape(self.old.shape)
        return Population(self.old.name, self.old.shape, threshold, np.zeros(()))

    def projections(self) -> list[Projection]:
        """Return the projections: whole numbers times powers of two."""
        exponents = self._exponents()
        found = []
        for projection, kernel, labels, numbers in zip(
            self.incoming, self.kernels, self.labels, self.numbers, strict=True
        ):
            weights = np.ldexp(numbers, kernel.per_weight(exponents[labels]))
            same = weights.shape == kernel.weights.shape and np.array_equal(weights, kernel.weights)
            operator = projection.operator if same else kernel.operator(weights)
            found.append(replace(projection, operator=operator))
        return found

    def row(self, changed: int | None, frames: int) -> QuantizedPopulation:
        """Return what is reported of the population."""
        largest = max(float(self.positive.max()), float(self.negative.max()))
        heaviest = max((float(np.abs(numbers).max()) for numbers in self.numbers if numbers.size), default=0.0)
        factors = self.factor[np.unique(self.group)]
        return QuantizedPopulation(
            self.old.name,
            self.old.size,
            self.exact,
            int(heaviest).bit_length(),
            int(largest).bit_length(),
            self.arithmetic.largest_sum / largest if largest else float("inf"),
            (float(factors.min()), float(factors.max())),
            changed,
            frames * self.old.size,
        )
