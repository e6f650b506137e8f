"""`strop.quantize`: a graph in whole numbers, scaled neuron by neuron so that no input can overflow a target.

Every neuron may be scaled by a positive factor of its own without changing a spike. So each gets the factor with which
its weights, rounded to whole numbers, fill the target's weights and sums best; its threshold then goes half-way between
two whole numbers, where no sum can meet it. What is whole already (pools, votes, a graph that was quantised before) is
kept as it is where it fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import QuantizationError
from strop.graph import Graph, Population, Projection
from strop.quantization.integers import PopulationSums, population_sums, projection_sums
from strop.quantization.kernels import Kernel, scale_groups
from strop.quantization.targets import arithmetic_of
from strop.running.arithmetic import Arithmetic
from strop.running.decode import classes
from strop.running.encode import FrameDict, as_frames, encode
from strop.running.frames import Frames, frames_and_labels
from strop.running.labels import labels_by_output
from strop.running.model_argument import ModelOrGraph, keys_of, model_or_graph
from strop.running.oracle import fires, potential

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Factors that are tried for few bits, as shares of the largest: a smaller one may round weights better.
_SHARES = np.linspace(1.0, 0.5, 33)
# Up to so many bits of a weight the factor is searched for; beyond, rounding hardly depends on it.
_SEARCHED_BITS = 10
# How far thresholds may be moved on the frames, in steps of the grid.
_REACH = 64
_TRIES = 64
# Thresholds half-way between whole numbers are float64: numbers of halves below 2^53.
_HALVES_BITS = 53
_LARGEST_SUM = (1 << 51) - 1


@dataclass(frozen=True)
class QuantizedPopulation:
    """What became of one population.

    Attributes
    ----------
    name : str
    neurons : int
    exact : bool
        Whether its weights were whole numbers that fit, so that nothing was rounded.
    weight_bits, sum_bits : int
        Bits of the heaviest weight and of the largest possible sum, without sign.
    headroom : float
        The target's largest sum by the largest that is possible.
    scale : tuple of float
        Smallest and largest factor that weights were multiplied by before they were rounded.
    changed : int or None
        Spikes and silences that differ on the frames, each layer fed by the quantised ones before it.
    compared : int
        Neurons times frames.
    """

    name: str
    neurons: int
    exact: bool
    weight_bits: int
    sum_bits: int
    headroom: float
    scale: tuple[float, float]
    changed: int | None = None
    compared: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "neurons": self.neurons,
            "exact": self.exact,
            "weight_bits": self.weight_bits,
            "sum_bits": self.sum_bits,
            "headroom": self.headroom,
            "scale": list(self.scale),
            "changed": self.changed,
            "compared": self.compared,
        }


@dataclass(frozen=True)
class Quantization:
    """A quantised graph, and what quantising it changed.

    Attributes
    ----------
    graph : Graph
    arithmetic : Arithmetic
    populations : tuple of QuantizedPopulation
    frames : int
    decisions : int or None
        Frames that are decided differently; None without frames or decision.
    accuracy : tuple of float or None
        Before and after, where there are labels.
    """

    graph: Graph
    arithmetic: Arithmetic
    populations: tuple[QuantizedPopulation, ...]
    frames: int = 0
    decisions: int | None = None
    accuracy: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "target": self.arithmetic.to_dict(),
            "populations": [population.to_dict() for population in self.populations],
            "frames": self.frames,
            "decisions_changed": self.decisions,
            "accuracy": None if self.accuracy is None else list(self.accuracy),
        }


def quantize(
    model: ModelOrGraph,
    target: str | Arithmetic,
    weight_bits: int | None = None,
    frames: Frames | None = None,
    *,
    encoding: str = "host",
) -> Graph:
    """Return a graph in whole numbers that fits the arithmetic of `target`, whatever its input.

    >>> quantised = strop.quantize(model, "spinnaker", frames=x_train[:1000])
    >>> strop.certify(quantised, "spinnaker").holds
    True

    Parameters
    ----------
    model : Graph, keras.Model or path
        A model is lowered first.
    target : str or Arithmetic
        "float64", "float32", "spinnaker", "neuron", "loihi", "truenorth", "int8" and other "intN", or a backend.
    weight_bits : int, optional
        Fewer bits for a weight than the target has, its sign counted.
    frames : array, shape (n, *input_shape), optional
        Thresholds are then moved to where they change fewest spikes on these frames.
    encoding : str
        How a model is lowered, see `strop.lower`.

    Raises
    ------
    QuantizationError
        If a neuron cannot fit: it says which, and how many bits would do.
    """
    return quantize_report(model, target, weight_bits, frames, encoding=encoding).graph


def quantize_report(
    model: ModelOrGraph,
    target: str | Arithmetic,
    weight_bits: int | None = None,
    frames: Frames | None = None,
    labels: Any = None,
    *,
    encoding: str = "host",
) -> Quantization:
    """Quantise as `quantize` does, and say what it changed.

    Parameters
    ----------
    labels : array of class numbers, shape (n,), optional
        For the accuracies before and after.
    """
    arithmetic = arithmetic_of(target, weight_bits)
    given = model_or_graph(model, "strop.quantize")
    if isinstance(given, Graph):
        graph = given
    else:
        from strop.lowering import lower  # Keras, only where there is a model

        graph = lower(given, encoding)
    refuse_values(graph)
    refuse_other_grids(graph, arithmetic)
    taken = None if frames is None else frames_and_labels(graph, frames, labels, keys_of(given, graph)[0])
    ready = None if taken is None else as_frames(graph, taken.frames)
    work = _Work(graph, arithmetic, ready)
    for population in graph.populations:
        work.add(population)
    truth = None
    if taken is not None:
        truths, _ = labels_by_output(graph, taken.labels, taken.count)
        truth = None if truths is None else truths[0]
    return work.finish(truth)


def refuse_values(graph: Graph) -> None:
    """Raise `QuantizationError` if analogue values reach a population that is not evaluated on the host."""
    analogue = {node.name for node in graph.inputs if not node.spiking}
    for projection in graph.projections:
        if projection.source in analogue and projection.target not in graph.host_populations:
            raise QuantizationError(
                f"{projection.target} is driven by the values of {projection.source!r}, which are no whole numbers: "
                "use the encoding 'host', 'bitplane' or 'binary'"
            )


def refuse_other_grids(graph: Graph, arithmetic: Arithmetic) -> None:
    """Raise `QuantizationError` if a graph was quantised before, and does not fit this arithmetic."""
    simulated = [name for name in graph.population_names if name not in graph.host_populations]
    found = {name: population_sums(graph, name) for name in simulated}
    rounded = [name for name, sums in found.items() if not _is_trivial(sums)]
    if not rounded or not all(is_quantized(sums) for sums in found.values()):
        return
    for name in rounded:
        if not fits(found[name], arithmetic):
            raise QuantizationError(
                f"the graph is quantised already, and {name} does not fit {arithmetic.name}: sums up to "
                f"{int(max(found[name].positive.max(), found[name].negative.max())):,}, weights up to "
                f"{int(found[name].heaviest.max()):,}. Quantise the network that it was made from"
            )


def is_quantized(sums: PopulationSums) -> bool:
    """Whether all thresholds of a population lie half-way between whole numbers, and its sums are below 2^53."""
    return bool((~sums.wide & (sums.closeness == 1)).all() and max(sums.positive.max(), sums.negative.max()) < 1 << 53)


def _is_trivial(sums: PopulationSums) -> bool:
    """Whether all weights are one: a pool, a vote."""
    return bool((sums.heaviest <= 1).all())


def fits(sums: PopulationSums, arithmetic: Arithmetic) -> bool:
    """Whether the weights of a population fit a target as they are, but for the exponent of their grid."""
    if sums.wide.any():
        return False
    largest, heaviest = max(int(sums.positive.max()), int(sums.negative.max())), int(sums.heaviest.max())
    return largest <= arithmetic.largest_sum and heaviest <= arithmetic.largest_weight


class _Work:
    """Populations that are quantised one after the other, in the graph's order."""

    def __init__(self, graph: Graph, arithmetic: Arithmetic, frames: FrameDict | None) -> None:
        self.graph, self.arithmetic, self.frames = graph, arithmetic, frames
        self.populations: list[Population] = []
        self.projections: list[Projection] = []
        self.rows: list[QuantizedPopulation] = []
        self.before: dict[str, npt.NDArray[Any]] = {}
        self.after: dict[str, npt.NDArray[Any]] = {}
        if frames is not None:
            self.before = encode(graph, frames)
            self.after = dict(self.before)

    def add(self, population: Population) -> None:
        """Quantise one population."""
        incoming = self.graph.incoming(population.name)
        if population.name in self.graph.host_populations:
            self.populations.append(population)
            self.projections += incoming
            if self.frames is not None:
                spikes = fires(population, potential(self.graph, population.name, self.before))
                self.before[population.name] = self.after[population.name] = spikes
            return
        neurons = _Neurons(self.graph, population.name, self.arithmetic)
        neurons.choose()
        changed = None
        if self.frames is not None:
            wanted = fires(population, potential(self.graph, population.name, self.before))
            summed = neurons.summed(self.after)
            if not neurons.exact:
                neurons.move_thresholds(summed, wanted.reshape(len(wanted), -1))
            spikes = (summed >= neurons.fires_from).reshape(wanted.shape)
            self.before[population.name], self.after[population.name] = wanted, spikes
            changed = int(np.count_nonzero(wanted != spikes))
        self.populations.append(neurons.population())
        self.projections += neurons.projections()
        self.rows.append(neurons.row(changed, 0 if self.frames is None else len(self.after[population.name])))

    def finish(self, truth: IntArray | None) -> Quantization:
        """Return the graph, and what changed."""
        graph = replace(self.graph, populations=tuple(self.populations), projections=tuple(self.projections))
        if self.frames is None:
            return Quantization(graph, self.arithmetic, tuple(self.rows))
        spikes = [{name: found[name] for name in graph.population_names} for found in (self.before, self.after)]
        decided = [classes(graph, each) for each in spikes]
        count = len(next(iter(self.frames.values())))
        if decided[0] is None or decided[1] is None:
            return Quantization(graph, self.arithmetic, tuple(self.rows), count)
        changed = int(np.count_nonzero(decided[0] != decided[1]))
        accuracy = None
        if truth is not None:
            accuracy = (float((decided[0] == truth).mean()), float((decided[1] == truth).mean()))
        return Quantization(graph, self.arithmetic, tuple(self.rows), count, changed, accuracy)


class _Neurons:
    """One population while it is quantised: factors, whole-number weights and thresholds."""

    def __init__(self, graph: Graph, name: str, arithmetic: Arithmetic) -> None:
        self.graph, self.arithmetic = graph, arithmetic
        self.old = graph.population(name)
        self.incoming = graph.incoming(name)
        self.sums = population_sums(graph, name)
        self.kernels = [Kernel.of(p.source, p.operator) for p in self.incoming]
        self.group, self.labels = scale_groups(self.kernels, self.old.size)
        self.exact = False
        self.factor = np.ones(0)
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
        shifted = self.sums.on_grid(finest[self.group])
        if shifted.wide.any() or not fits(replace(self.sums, **_numbers(shifted)), self.arithmetic):
            return
        # Thresholds stay within what any input can bring, half a step beyond it.
        halves = np.abs(self.sums.fires_from.astype(np.float64)) * 2.0 + 1.0
        halves = np.minimum(halves, 2.0 * np.maximum(shifted.positive, shifted.negative) + 3.0)
        if (halves >= 2.0 ** min(self.arithmetic.threshold_bits or _HALVES_BITS, _HALVES_BITS)).any():
            return
        self.exact = True
        self.factor = np.ldexp(1.0, -finest)
        self._round()

    def _choose_rounded(self) -> None:
        arithmetic, largest_sum = self.arithmetic, min(self.arithmetic.largest_sum, _LARGEST_SUM)
        if self.arithmetic.threshold_bits is not None:
            # A threshold may lie half a step beyond the largest sum.
            largest_sum = min(largest_sum, (1 << (self.arithmetic.threshold_bits - 1)) - 2)
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
        for share in _SHARES:
            factor = ceiling * share
            error = np.zeros(self.groups)
            for kernel, labels in zip(self.kernels, self.labels, strict=True):
                each = kernel.per_weight(factor[labels])
                weights = kernel.weights
                np.add.at(error, labels, kernel.per_label((weights - np.rint(weights * each) / each) ** 2, np.add))
            better = error < least * (1.0 - 1e-12)
            best, least = np.where(better, factor, best), np.where(better, error, least)
        return best

    def _round(self) -> None:
        self.numbers = [
            np.rint(kernel.weights * kernel.per_weight(self.factor[labels]))
            for kernel, labels in zip(self.kernels, self.labels, strict=True)
        ]
        self.positive, self.negative = self._sums_of(self.numbers)

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
            exact = Fraction(float(factor[n])) * (Fraction(float(threshold[n])) - Fraction(float(bias[n])))
            whole[n] = float(-((-exact.numerator) // exact.denominator))
        # A neuron that nothing can make fire, or nothing keep from it, needs no threshold further out.
        self.fires_from = np.clip(whole, -self.negative, self.positive + 1.0).astype(np.int64)

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


def _numbers(sums: Any) -> dict[str, Any]:
    return {"positive": sums.positive, "negative": sums.negative, "heaviest": sums.heaviest, "wide": sums.wide}
