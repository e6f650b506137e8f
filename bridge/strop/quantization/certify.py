"""`strop.certify`: the proof that a graph gives the same spikes for all inputs in a target's arithmetic.

The theorem. Let every weight of a neuron be a whole number times `2^g`, and let P and N be the sums of its positive and
of its negative weights in these units. Whatever spikes arrive, and in whatever order they are added up, every partial
sum lies between -N and P. If a target holds every whole number of that size, every sum is exact. If in addition no sum
can be equal to the threshold, or the target fires at equality as the graph does, the neuron spikes if and only if the
graph's neuron does. By induction along the graph that holds for all spikes of all layers, if every spike is delivered
once and delays are kept. The proof is done in whole numbers, see `strop.quantization.integers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import version
from typing import Literal

import numpy as np
import numpy.typing as npt

from strop.errors import CapacityError
from strop.graph import Graph
from strop.graph.rounding.formats import lowest_bit
from strop.quantization.certificate import Certificate, PopulationProof, Reason
from strop.quantization.expansion import bounded_from_kernels
from strop.quantization.floating import FloatingSums, floating_sums
from strop.quantization.integers import (
    EXPANDED,
    MOST_BITS,
    PopulationSums,
    population_on_grid,
    population_sums,
    whole_numbers,
)
from strop.quantization.targets import arithmetic_of
from strop.running.arithmetic import Arithmetic
from strop.running.model_argument import ModelOrGraph, as_graph
from strop.running.stimulus import current_driven_populations

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Pattern = dict[str, list[int]]
# The neurons where something does not hold, and the reason for one of them.
Check = tuple[BoolArray, Callable[[int], Reason]]

# A grid is made finer for the sake of a threshold by so many powers of two at most.
MOST_FINER = 32
# `certify_to_first_gap` expands no projection with more synapses.
MOST_EXPANDED = 5_000_000
# Neurons of a population whose sums are searched for one that is equal to the threshold, and the largest such search.
_SEARCHED_NEURONS = 4096
_SEARCHED_STEPS = 1 << 33


def certify(model: ModelOrGraph, target: str | Arithmetic, *, expand: bool = False) -> Certificate:
    """Prove that a graph gives the same spikes for all inputs in the arithmetic of `target`, or say where not.

    >>> certificate = strop.certify(quantised, "spinnaker")
    >>> certificate.holds
    True

    Parameters
    ----------
    model : Graph, keras.Model or path
        A model is lowered as `strop.lower(model)` does.
    target : str or Arithmetic
        As for `strop.quantize`.
    expand : bool
        Expand kernels of any size into synapses: where several paths lead to one synapse, sums are then the exact ones.

    Raises
    ------
    BackendMissingError
        If nothing is known by the target's name.
    """
    arithmetic = arithmetic_of(target)
    graph = as_graph(model, "strop.certify")
    proofs = tuple(_prove(graph, name, arithmetic, expand) for name in graph.population_names)
    return Certificate(graph.digest, arithmetic.to_dict(), proofs, version("strop"))


def certify_to_first_gap(graph: Graph, arithmetic: Arithmetic) -> Certificate:
    """Return the certificate up to the first population that is not proved: all of it where everything is.

    Raises
    ------
    CapacityError
        If more synapses than `MOST_EXPANDED` would have to be expanded; `certify` tries.
    """
    proofs: list[PopulationProof] = []
    for name in graph.population_names:
        if name not in graph.host_populations:
            for projection in graph.incoming(name):
                count = projection.operator.synapse_count
                if count > MOST_EXPANDED and not bounded_from_kernels(projection.operator):
                    raise CapacityError(
                        f"not tried: {count:,} synapses of {projection.source} -> {name} would have to be expanded; "
                        "strop.certify does that"
                    )
        proofs.append(_prove(graph, name, arithmetic, False))
        if proofs[-1].reasons:
            break
    return Certificate(graph.digest, arithmetic.to_dict(), tuple(proofs), version("strop"))


def _prove(graph: Graph, name: str, arithmetic: Arithmetic, expand: bool) -> PopulationProof:
    size = graph.population(name).size
    if name in graph.host_populations:
        return PopulationProof(name, size, True)
    driven_by = current_driven_populations(graph).get(name)
    if driven_by:
        reason = Reason(0, f"it is driven by the values of {driven_by[0].source!r}, which are no whole numbers")
        return PopulationProof(name, size, False, reasons=(reason,), failing=size)
    sums = _on_target_grid(graph, name, arithmetic, expand)
    failing = np.zeros(size, bool)
    reasons = []
    for bad, explain in _checks(graph, name, sums, arithmetic):
        if bad.any():
            reasons.append(explain(int(np.flatnonzero(bad)[0])))
            failing |= bad
    largest = max(int(sums.positive.max()), int(sums.negative.max()))
    return PopulationProof(
        name,
        size,
        False,
        (int(sums.exponent.min()), int(sums.exponent.max())),
        int(sums.positive.max()),
        int(sums.negative.max()),
        int(sums.heaviest.max()),
        MOST_BITS + 1 if sums.wide.any() else largest.bit_length(),
        arithmetic.sum_bits,
        _distance(sums),
        tuple(reasons),
        int(failing.sum()),
    )


def _on_target_grid(graph: Graph, name: str, arithmetic: Arithmetic, expand: bool) -> PopulationSums:
    """Return the sums in units of the grid that the target has; a finer grid than the target's stays, and fails.

    Where the target's grid is free, and thresholds must be whole numbers of its halves, it is as fine as they need.
    """
    sums = population_sums(graph, name, expand=expand)
    wanted = sums.exponent
    if arithmetic.exponent is not None:
        wanted = np.minimum(wanted, arithmetic.exponent)
    elif arithmetic.threshold_bits is not None:
        population = graph.population(name)
        halves = np.minimum(lowest_bit(population.threshold), lowest_bit(population.bias)).reshape(-1) + 1.0
        finer = np.minimum(wanted, halves)
        wanted = np.where(wanted - finer > MOST_FINER, wanted, finer).astype(np.int64)
    if arithmetic.exponent is None and arithmetic.scale == "population":
        wanted = np.full_like(wanted, wanted.min())
    return population_on_grid(sums, graph.population(name), wanted)


def _distance(sums: PopulationSums) -> str:
    if sums.meets.any():
        return "0"
    closest = int(sums.closeness.max())
    return f"1/{1 << closest}" if closest <= MOST_BITS else f"2^-{closest}"


def _checks(graph: Graph, name: str, sums: PopulationSums, arithmetic: Arithmetic) -> Iterator[Check]:
    """Yield each thing that must hold: the neurons where it does not, and the reason for one of them."""
    row = _Row(graph, name, sums)
    yield (
        sums.wide,
        lambda j: Reason(j, f"its whole numbers need more than {MOST_BITS} bits, or are products that float64 rounds"),
    )
    sound = ~sums.wide
    yield from _weight_checks(sound, row, sums, arithmetic)
    yield from _threshold_checks(sound, sums, arithmetic)
    floating = None if arithmetic.digits is None else floating_sums(graph.population(name), sums, arithmetic)
    if floating is not None:
        yield from _floating_checks(sound, floating, arithmetic)
    yield from _comparison_checks(sound, row, sums, arithmetic, floating)


def _weight_checks(sound: BoolArray, row: _Row, sums: PopulationSums, arithmetic: Arithmetic) -> Iterator[Check]:
    """Whether the target holds every weight, and every sum of weights."""
    if arithmetic.exponent is not None:
        finer = sound & (sums.exponent < arithmetic.exponent)
        yield (
            finer,
            lambda j: Reason(
                j,
                f"its weights are multiples of 2^{sums.exponent[j]}, the grid of {arithmetic.name} is "
                f"2^{arithmetic.exponent}: they would be rounded",
            ),
        )
    yield (
        sound & (sums.heaviest > arithmetic.largest_weight),
        lambda j: Reason(
            j,
            f"its heaviest weight is {sums.heaviest[j]:,}, which takes {int(sums.heaviest[j]).bit_length()} bits of "
            f"{arithmetic.largest_weight.bit_length()}",
            row.heaviest(j),
        ),
    )
    for sign, values in (("positive", sums.positive), ("negative", sums.negative)):
        yield (
            sound & (values > arithmetic.largest_sum),
            lambda j, sign=sign, values=values: Reason(  # type: ignore[misc]
                j,
                f"its {sign} weights add up to {values[j]:,}, which takes {int(values[j]).bit_length()} bits of "
                f"{arithmetic.sum_bits}",
                row.all_of(j, sign),
            ),
        )


def _threshold_checks(sound: BoolArray, sums: PopulationSums, arithmetic: Arithmetic) -> Iterator[Check]:
    """Whether the target holds every threshold and bias, where it has a grid for them."""
    if arithmetic.threshold_bits is None:
        return
    yield (
        sound & ~sums.on_halves,
        lambda j: Reason(
            j, f"its threshold or bias is no multiple of half the grid, and would be rounded by {arithmetic.name}"
        ),
    )
    limit = 1 << arithmetic.threshold_bits
    yield (
        sound & (sums.halves >= limit),
        lambda j: Reason(j, f"its threshold or bias is {sums.halves[j]:,} halves of the grid, of less than {limit:,}"),
    )


def _floating_checks(sound: BoolArray, floating: FloatingSums, arithmetic: Arithmetic) -> Iterator[Check]:
    """Whether a floating-point target adds bias and weights without a rounding, and holds the threshold."""
    digits = f"{arithmetic.digits} digits of {arithmetic.name}"
    also = "" if arithmetic.lift is None else ", and the constant that raises its threshold,"
    yield (
        sound & ~floating.exact,
        lambda j: Reason(j, f"its weights and its bias{also} are no whole numbers of one grid within the {digits}"),
    )
    yield sound & ~floating.held, lambda j: Reason(j, f"its threshold is no number of the {digits}")


def _comparison_checks(
    sound: BoolArray, row: _Row, sums: PopulationSums, arithmetic: Arithmetic, floating: FloatingSums | None
) -> Iterator[Check]:
    """Whether the target tells every sum from the threshold, as the graph does."""
    if arithmetic.resolution:
        lift = np.zeros_like(sums.positive) if floating is None else floating.lift
        yield (
            sound & ~_is_resolved(sums, lift, arithmetic),
            lambda j: Reason(
                j, f"sums this large are told apart only {arithmetic.resolution:.1e} of their size from the threshold"
            ),
        )
    if arithmetic.comparator == ">":
        yield (
            row.meeting(sound & sums.meets),
            lambda j: Reason(
                j, f"a sum can be equal to the threshold, and {arithmetic.name} fires only above it", row.equal(j)
            ),
        )


def _is_resolved(sums: PopulationSums, lift: IntArray, arithmetic: Arithmetic) -> BoolArray:
    """Whether every sum that is not equal to the threshold is further from it than the target blurs."""
    resolution = Fraction(arithmetic.resolution)
    keys = np.stack([sums.positive + sums.negative, sums.halves, lift, sums.closeness])
    unique, where = np.unique(keys, axis=1, return_inverse=True)
    # A sum that is no whole threshold is a whole number; what meets its threshold is at least 1 away where it differs.
    resolved = [
        Fraction(1, 1 << int(closeness)) > resolution * (int(size) + int(halves) + int(raised) + 1)
        for size, halves, raised, closeness in unique.T
    ]
    return np.array(resolved)[where.reshape(-1)]


class _Row:
    """The synapses of single neurons, for the patterns that show what goes wrong."""

    def __init__(self, graph: Graph, name: str, sums: PopulationSums) -> None:
        self.graph, self.name, self.sums = graph, name, sums
        self._found: dict[int, Pattern] = {}
        self._synapses: list[tuple[str, IntArray, IntArray, npt.NDArray[np.float64]]] | None = None

    def _of(self, neuron: int) -> list[tuple[str, IntArray, IntArray]] | None:
        """Return (source, flat indices, whole-number weights) of one neuron; None where there are too many synapses."""
        incoming = self.graph.incoming(self.name)
        if sum(p.operator.synapse_count for p in incoming) > EXPANDED:
            return None
        if self._synapses is None:
            self._synapses = [(p.source, *p.operator.to_coo()) for p in incoming]
        found = []
        for source, pre, post, weight in self._synapses:
            own = post == neuron
            numbers, _ = whole_numbers(weight[own], self.sums.exponent[neuron])
            found.append((source, pre[own], numbers))
        return found

    def _pattern(self, neuron: int, chosen: Callable[[IntArray], BoolArray]) -> Pattern | None:
        rows = self._of(neuron)
        if rows is None:
            return None
        pattern: Pattern = {}
        for source, pre, numbers in rows:
            pattern.setdefault(source, [])
            pattern[source] = sorted({*pattern[source], *(int(n) for n in pre[chosen(numbers)])})
        return pattern

    def all_of(self, neuron: int, sign: str) -> Pattern | None:
        """Return the spikes that bring all weights of one sign."""
        return self._pattern(neuron, lambda numbers: numbers > 0 if sign == "positive" else numbers < 0)

    def heaviest(self, neuron: int) -> Pattern | None:
        """Return the spike that brings the heaviest weight."""
        largest = self.sums.heaviest[neuron]
        return self._pattern(neuron, lambda numbers: np.abs(numbers) == largest)

    def meeting(self, candidates: BoolArray) -> BoolArray:
        """Return which neurons may have a sum equal to their threshold; where that takes too long, it may be."""
        result = candidates.copy()
        within = (self.sums.fires_from >= -self.sums.negative) & (self.sums.fires_from <= self.sums.positive)
        result &= within
        if int(result.sum()) <= _SEARCHED_NEURONS:
            for neuron in np.flatnonzero(result):
                reachable = self._reaches(int(neuron))
                if reachable is False:
                    result[neuron] = False
                elif isinstance(reachable, dict):
                    self._found[int(neuron)] = reachable
        return result

    def equal(self, neuron: int) -> Pattern | None:
        """Return spikes whose sum is equal to the threshold, where they were found."""
        return self._found.get(neuron)

    def _reaches(self, neuron: int) -> Pattern | Literal[False] | None:
        """Return spikes whose sum is `fires_from`, False if there are none, None if that is too long a search."""
        rows = self._of(neuron)
        if rows is None:
            return None
        weights: dict[tuple[str, int], int] = {}
        for source, pre, numbers in rows:
            for place, number in zip(pre, numbers, strict=True):
                key = (source, int(place))
                weights[key] = weights.get(key, 0) + int(number)
        items = [(key, number) for key, number in weights.items() if number]
        span = sum(abs(number) for _, number in items)
        if span * max(len(items), 1) > _SEARCHED_STEPS:
            return None
        low = sum(number for _, number in items if number < 0)
        target = int(self.sums.fires_from[neuron]) - low
        # Bit k of a set: the sum low + k can be reached with the weights so far.
        sets = [1]
        for _, number in items:
            sets.append(sets[-1] | (sets[-1] << abs(number)))
        if target < 0 or not sets[-1] >> target & 1:
            return False
        pattern: Pattern = {source: [] for source, *_ in rows}
        for (key, number), before in zip(reversed(items), reversed(sets[:-1]), strict=True):
            taken = not before >> target & 1
            target -= abs(number) if taken else 0
            # A negative weight that is taken here cancels the part of `low` that counts it as spiking.
            if taken == (number > 0):
                pattern[key[0]].append(key[1])
        return {source: sorted(places) for source, places in pattern.items()}
