"""`strop.quantize`: a graph in whole numbers, scaled neuron by neuron so that no input can overflow a target.

Every neuron may be scaled by a positive factor of its own without changing a spike. So each gets the factor with which
its weights, rounded to whole numbers, fill the target's weights and sums best; its threshold then goes half-way between
two whole numbers, where no sum can meet it. What is whole already (pools, votes, a graph that was quantised before) is
kept as it is where it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import QuantizationError
from strop.graph import Graph, Population, Projection
from strop.quantization.integers import PopulationSums, population_sums
from strop.quantization.neurons import QuantizedNeurons, fits
from strop.quantization.records import Quantization, QuantizedPopulation
from strop.quantization.targets import arithmetic_of
from strop.running.arithmetic import Arithmetic
from strop.running.decode import classes
from strop.running.encode import FrameDict, as_frames, encode
from strop.running.frames import Frames, frames_and_labels
from strop.running.labels import labels_by_output
from strop.running.model_argument import ModelOrGraph, keys_of, model_or_graph
from strop.running.oracle import fires, potential
from strop.running.stimulus import current_driven_populations

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


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

        graph = lower(given, encoding, frames=frames)
    refuse_values(graph)
    simulated = [name for name in graph.population_names if name not in graph.host_populations]
    sums = {name: population_sums(graph, name) for name in simulated}
    refuse_other_grids(sums, arithmetic)
    taken = None if frames is None else frames_and_labels(graph, frames, labels, keys_of(given, graph)[0])
    ready = None if taken is None else as_frames(graph, taken.frames)
    work = _Work(graph, arithmetic, sums, ready)
    for population in graph.populations:
        work.add(population)
    truth = None
    if taken is not None:
        truths, _ = labels_by_output(graph, taken.labels, taken.count)
        truth = None if truths is None else truths[0]
    return work.finish(truth)


def refuse_values(graph: Graph) -> None:
    """Raise `QuantizationError` if analogue values reach a population that is not evaluated on the host."""
    for name, projections in current_driven_populations(graph).items():
        raise QuantizationError(
            f"{name} is driven by the values of {projections[0].source!r}, which are no whole numbers: "
            "use the encoding 'host', 'bitplane' or 'binary'"
        )


def refuse_other_grids(found: Mapping[str, PopulationSums], arithmetic: Arithmetic) -> None:
    """Raise `QuantizationError` if a graph with these sums was quantised before, and does not fit this arithmetic."""
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


class _Work:
    """Populations that are quantised one after the other, in the graph's order."""

    def __init__(
        self, graph: Graph, arithmetic: Arithmetic, sums: Mapping[str, PopulationSums], frames: FrameDict | None
    ) -> None:
        self.graph, self.arithmetic, self.sums, self.frames = graph, arithmetic, sums, frames
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
        neurons = QuantizedNeurons(self.graph, population.name, self.arithmetic, self.sums[population.name])
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
