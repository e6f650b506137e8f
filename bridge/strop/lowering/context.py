"""State of a lowering: the nodes so far, and the record that relates Keras's layers to the graph's populations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strop.graph import Graph, Input, Operator, Population, Readout, Select
from strop.graph.rounding.evaluation import Stage
from strop.graph.rounding.formats import FLOAT64
from strop.graph.rounding.stages import InFormat
from strop.lowering.readout_signal import ReadoutSignal, after_map
from strop.lowering.recorded_order import in_recorded_order
from strop.lowering.refusal import Refusal
from strop.lowering.signal import ONE, ZERO, FloatArray, Levels, Pooled, Shape, Signal, Term, flat_index, total

# Called with the context, the path of an output and its signal; returns the spikes of the winning class, or None.
WinnerOf = Callable[["Context", str, Signal], Signal | None]


@dataclass(frozen=True, eq=False)
class Observation:
    """Which layer output of the Keras model shows the spikes of a population.

    Attributes
    ----------
    visit : int
        Number of the layer call, in the order in which the model is walked, whose output shows them.
    population : str
    channels_first : bool
        Whether Keras's tensor has its channels on the first axis.
    levels : tuple of two arrays
        Keras's values are `shift + scale * spike`, for (scale, shift).
    steps : tuple of int
        Its slice of the first axis of Keras's tensor, under a TimeDistributed; and of the second, under two.
    values : tuple of float
        Allowed values of `(Keras's value - shift) / scale`; 0.5 or more is a spike.
    """

    visit: int
    population: str
    channels_first: bool
    levels: tuple[FloatArray, FloatArray]
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Lowering:
    """A graph, and its relation to the Keras model that it was lowered from.

    Attributes
    ----------
    graph : Graph
    observations : tuple of Observation
    computed : dict of population or read-out name to Stage
        The float32 computation in Keras of a population's potential, or of a read-out's logits.
    encoded : frozenset of str
        Inputs whose frames the model encodes itself (`strop.keras.InputEncoding`): it takes them as they are.
    """

    graph: Graph
    observations: tuple[Observation, ...]
    computed: dict[str, Stage]
    encoded: frozenset[str] = frozenset()


@dataclass
class Context:
    """Collects nodes while a model is walked; handlers see it as their second argument."""

    path: str = ""
    visit: int = -1
    inputs: list[Input] = field(default_factory=list)
    populations: list[Population] = field(default_factory=list)
    connections: list[tuple[str, str, Operator]] = field(default_factory=list)
    readouts: list[Readout] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    computed: dict[str, Stage] = field(default_factory=dict)
    encoded: set[str] = field(default_factory=set)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def unique(self, name: str) -> str:
        """Return `name`, with a number behind it if it is taken (a shared layer is called more than once)."""
        name = "_".join(name.split())
        candidate, number = name, 2
        while candidate in self._names:
            candidate, number = f"{name}_{number}", number + 1
        self._names.add(candidate)
        return candidate

    def spiking(self, signal: Signal, threshold: float, low: float = 0.0, high: float = 1.0) -> Signal:
        """Turn a signal into spikes: a population that fires where `signal >= threshold`.

        The values `low` and `high` that Keras's activation gives are `low + (high - low) * spike`: the change of
        variable goes into the weights and biases of what follows, with the zeros of a padding left zero.
        """
        if signal.pooled is not None:
            spikes = self._pooled_spikes(signal, signal.pooled, threshold)
        else:
            spikes = self.populate(self.path, signal, np.asarray(threshold))
        scale, shift = np.asarray(high - low), np.asarray(low)
        self._observe(spikes.terms[0].source, signal.channels_first, scale, shift)
        return spikes if (low, high) == (0.0, 1.0) else spikes.recoded(scale, shift)

    def populate(self, name: str, signal: Signal, threshold: FloatArray) -> Signal:
        """Add a population for an affine signal; return its spikes as a signal. Adds no `Observation`."""
        name = self.unique(name)
        self.populations.append(Population(name, signal.shape, threshold, signal.offset))
        identity = Select(signal.shape, flat_index(signal.shape))
        for term in signal.terms:
            self.connections.append((term.source, name, term.operator or identity))
        self.computed[name] = signal.stage
        return bits((Term(name),), signal.shape, signal.channels_first)

    def _observe(
        self, population: str, channels_first: bool, scale: FloatArray = ONE, shift: FloatArray = ZERO
    ) -> None:
        self.observations.append(Observation(self.visit, population, channels_first, (scale, shift)))

    def counted(
        self, signals: list[Signal], least: FloatArray, scale: FloatArray = ONE, shift: FloatArray = ZERO
    ) -> Signal:
        """Add a population that fires where at least `least` of several bits do: OR, or AND.

        Keras shows `shift + scale * bit`, and that is what is returned.
        """
        result = self.populate(self.path, total(signals), least - 0.5)
        if scale.all():
            self._observe(result.terms[0].source, result.channels_first, scale, shift)
        plain = bool((scale == 1.0).all()) and not shift.any()
        return result if plain else result.recoded(scale, shift)

    # Max pooling ------------------------------------------------------------------------------------------------
    #
    # With h(x) = [x >= t] and a maximum over a window: h(max a_i) = OR h(a_i), because max a_i >= t iff some a_i >= t.
    # Behind a factor g < 0: g max a_i + b >= t  iff  g a_i + b >= t for every i: AND. With g = 0 it is [b >= t].

    def pooled_bits(self, signal: Signal, windows: Operator) -> Signal:
        """Max-pool a two-valued signal: OR of its bits where `scale > 0`, AND where `scale < 0`; one population."""
        levels = signal.levels
        assert levels is not None
        scale = _common(windows, levels.scale)
        shift = _common(windows, levels.shift)
        if scale is None or shift is None:
            raise Refusal(
                "it pools spikes that a layer before it scaled differently within one window",
                "pool the spikes before they are normalised or padded",
            )
        source = bits(levels.terms, signal.shape, signal.channels_first)
        result = self._combine(self.path, source, windows, scale)
        name = result.terms[0].source
        # Where the scale is zero both values are the same, and Keras's output does not show the bit.
        if scale.all():
            self._observe(name, signal.channels_first, scale, shift)
        return result if levels.plain else result.recoded(scale, shift)

    def _pooled_spikes(self, signal: Signal, pooled: Pooled, threshold: float) -> Signal:
        """Carry the threshold to the far side of a max pool: threshold first, then OR (AND where the scale is < 0)."""
        shape = pooled.base.shape
        scale = _spread(pooled.windows, pooled.scale)
        shift = _spread(pooled.windows, pooled.shift)
        if scale is None or shift is None:
            raise Refusal(
                "a normalisation between an overlapping max pool and this activation differs from place to place",
                "normalise per channel, or put the activation before the pooling",
            )
        scale, shift = np.broadcast_to(scale, shape), np.broadcast_to(shift, shape)
        size = _spread(pooled.windows, pooled.shift_size)
        before = pooled.base
        if not (scale == 1.0).all() or shift.any():
            size = np.abs(shift) if size is None else size
            before = before.scaled(scale, shift, size, roundings=pooled.roundings, plain=pooled.plain)
        before_pool = self.populate(f"{self.path}/before_pool", before, np.asarray(threshold))
        signs = np.broadcast_to(pooled.scale, signal.shape)
        result = self._combine(self.path, before_pool, pooled.windows, signs)
        return replace_order(result, signal.channels_first)

    def _combine(self, name: str, source: Signal, windows: Operator, scale: FloatArray) -> Signal:
        """Add a population that is the OR of its window where `scale > 0`, the AND where `scale < 0`."""
        members = windows.apply(np.ones((1, *windows.shape_in)))[0]
        threshold = np.where(scale < 0, members - 0.5, 0.5)
        return self.populate(name, source.linear(windows), threshold)

    # End of the model -------------------------------------------------------------------------------------------

    def finish(self, name: str, signal: Signal, winner_of: WinnerOf | None = None) -> None:
        """Make `signal` an output of the graph; `winner_of` turns a decision between classes into spikes, if wanted."""
        shown = signal.in_keras_order()
        ending = shown if isinstance(shown, ReadoutSignal) else None
        signal = shown if ending is None else ending.summed
        if signal.pooled is not None:
            raise Refusal(
                "the model ends in a max pool of values that are not spikes", "end it in a spiking activation"
            )
        analogue = [term.source for term in signal.terms if any(term.source == node.name for node in self.inputs)]
        if analogue:
            if ending is not None and ending.refusal is not None:
                raise ending.refusal
            raise Refusal(
                f"the output reads the input {analogue[0]!r} without a spiking activation in between",
                "let every path from an input to an output pass a spiking activation",
            )
        winner = None if winner_of is None else winner_of(self, name, shown)
        signal = winner or signal
        plain = signal.levels is not None and signal.levels.plain and ending is None and winner is None
        if plain and len(signal.terms) == 1 and signal.terms[0].operator is None:
            self.outputs.append(signal.terms[0].source)
            return
        if ending is not None and ending.record is not None and winner is None:
            self.outputs.append(self.recorded_readout(ending))
            return
        kind = "spikes" if plain else "linear" if ending is None else ending.kind
        identity = Select(signal.shape, flat_index(signal.shape))
        readout = Readout(
            self.unique(name),
            kind if winner is None else "winner",
            tuple(term.source for term in signal.terms),
            tuple(term.operator or identity for term in signal.terms),
            signal.offset,
            after_map(ending) if ending is not None and winner is None else None,
            ending is not None and ending.argmax,
        )
        self.readouts.append(readout)
        self.computed[readout.name] = signal.stage
        self.outputs.append(readout.name)

    def recorded_readout(self, signal: ReadoutSignal) -> str:
        """Add the read-out that a model records, once; return its name."""
        assert signal.record is not None
        name = str(signal.record["name"])
        if self.records.get(name) is not signal.record:
            name = self.unique(name)
            logits = signal.summed
            identity = Select(logits.shape, flat_index(logits.shape))
            sources = tuple(term.source for term in logits.terms)
            operators = tuple(term.operator or identity for term in logits.terms)
            found = Readout(name, signal.kind, sources, operators, logits.offset, after_map(signal), signal.argmax)
            self.readouts.append(found)
            self.computed[name] = InFormat(logits.stage, FLOAT64) if logits.wide else logits.stage
            self.records[name] = signal.record
        return name

    def lowering(self, name: str) -> Lowering:
        """Return the collected graph, and the record."""
        populations, connections, readouts = in_recorded_order(
            self.populations, self.connections, self.readouts, self.records
        )
        titles = [str(record["graph"]) for record in self.records.values() if "graph" in record]
        name = titles[0] if titles else "_".join(name.split())
        graph = Graph.from_nodes(self.inputs, populations, connections, readouts, self.outputs, name)
        return Lowering(graph, tuple(self.observations), dict(self.computed), frozenset(self.encoded))


def bits(terms: tuple[Term, ...], shape: Shape, channels_first: bool) -> Signal:
    """Return the signal of spikes behind index maps."""
    return Signal(shape, terms, channels_first=channels_first, levels=Levels(terms))


def replace_order(signal: Signal, channels_first: bool) -> Signal:
    """Return the spikes of `signal`, with Keras's order of axes set anew."""
    return bits(signal.terms, signal.shape, channels_first)


def _common(windows: Operator, values: FloatArray) -> FloatArray | None:
    """Return the one value that the members of each window share, shape `windows.shape_out`; None if they differ."""
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), windows.shape_out)
    pre, post, _ = windows.to_coo()
    flat = np.broadcast_to(values, windows.shape_in).reshape(-1)
    result = np.zeros(windows.size_out)
    result[post] = flat[pre]
    return result.reshape(windows.shape_out) if (result[post] == flat[pre]).all() else None


def _spread(windows: Operator, values: FloatArray) -> FloatArray | None:
    """Return for each window member the value that its windows share, shape `windows.shape_in`; None if they differ."""
    if values.size == 1:
        return values.reshape(())
    pre, post, _ = windows.to_coo()
    flat = np.broadcast_to(values, windows.shape_out).reshape(-1)
    result = np.zeros(windows.size_in)
    result[pre] = flat[post]
    return result.reshape(windows.shape_in) if (result[pre] == flat[post]).all() else None
