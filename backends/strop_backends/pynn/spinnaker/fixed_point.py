"""SpiNNaker's fixed-point arithmetic: scalings, and the spikes that 16-bit weights would change, without a board.

The arithmetic of sPyNNaker 7.4 (Python: `spynnaker/pyNN/models/neuron`; C: `neural_modelling/src/neuron`):

* A weight becomes `rint(|w| 2^(15 - s))` in 16 bits without sign (`synapse_dynamics_static.py`); excitatory
  and inhibitory synapses of a population have a shift s each (`population_vertex.py`,
  `get_ring_buffer_shifts`).
* The weights that arrive in a tick are added up in a ring buffer of 16 bits, which saturates at 65535 and
  does not wrap: `process_fixed_synapses` in `synapses.c` adds in 32 bits and, where the 17th is set, stores
  65535 and counts (github.com/SpiNNakerManchester/sPyNNaker at 609df83, the version with coloured spikes; the
  oldest at hand, 001dac2, does the same). Weights have no sign there, so the order of spikes does not matter:
  the result is the smaller of the sum and 65535.
* Its value shifted left by s is the input, in s16.15 (`synapses.h`, `synapses_convert_weight_to_input`).
* `V = V_rest + R (exc - inh + I_offset)` for a neuron without memory; R is 1 for `tau_m = cm`. The spike is `V
  >= V_thresh` (`neuron_model_lif_impl.h`, `threshold_type_static.h`). Offset and threshold are s16.15,
  rounded to the nearest (`data_type.py`, `encode_as_int`).

So a population's grid is `2^(s - 15)`, and it holds sums below `2^(s + 1)`. Its weights, bias and threshold
may all be multiplied by a factor, which changes no spike of the graph, but moves them on the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from strop.errors import BackendError
from strop.graph import Graph
from strop.running.decode import classes
from strop.running.encode import Frames, encode
from strop.running.frame_source import frame_source
from strop.running.oracle import evaluate, host_spikes, terms
from strop.running.simulate import chunk_size
from strop.running.stimulus import refuse_currents, stimulus_nodes

_FRACTION_BITS = 15
_FULL = 65535
Signals = Mapping[str, npt.NDArray[Any]]
Spikes = dict[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Scaling:
    """The grid of weights of one population.

    Attributes
    ----------
    excitatory, inhibitory : int
        Left shifts of the two ring buffers, 0 or more.
    factor : float
        Weights, bias and threshold are multiplied by it.
    """

    excitatory: int
    inhibitory: int
    factor: float = 1.0

    def __post_init__(self) -> None:
        if min(self.excitatory, self.inhibitory) < 0 or max(self.excitatory, self.inhibitory) > 15:
            raise BackendError(f"ring-buffer shifts must lie in 0..15, got {self.excitatory} and {self.inhibitory}")
        if not 0 < self.factor < math.inf:
            raise BackendError(f"the factor of a scaling must be positive, got {self.factor}")

    @property
    def grid(self) -> float:
        """Distance of two neighbouring weights of the coarser kind, in the graph's unit of measure."""
        return math.ldexp(1.0, max(self.excitatory, self.inhibitory) - _FRACTION_BITS) / self.factor

    @property
    def expected_sums(self) -> tuple[float, float]:
        """The `max_expected_summed_weight` with which sPyNNaker takes these shifts: it chooses the least 2^s above
        it."""
        exc, inh = (1.5 * 2.0 ** (shift - 1) for shift in (self.excitatory, self.inhibitory))
        return exc, inh


@dataclass(frozen=True)
class LayerDifference:
    """One population of a `FixedPointReport`.

    Attributes
    ----------
    name : str
    units : int
    scaling : Scaling
    spikes : int
        Expected, over all frames.
    different : int
        Spikes and silences that would differ.
    saturated : int
        Sums that would not fit the ring buffer.
    """

    name: str
    units: int
    scaling: Scaling
    spikes: int
    different: int
    saturated: int


@dataclass(frozen=True)
class FixedPointReport:
    """The spikes and decisions that SpiNNaker's arithmetic would change.

    Attributes
    ----------
    frames : int
    layers : tuple of LayerDifference
        Each layer fed by the fixed-point layers before it.
    decisions : int or None
        Frames that would be decided differently; None where the network decides nothing.
    choice : str
        How the scaling was chosen.
    """

    frames: int
    layers: tuple[LayerDifference, ...]
    decisions: int | None
    choice: str

    @property
    def different(self) -> int:
        """Spikes and silences that would differ, in all layers."""
        return sum(layer.different for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "frames": self.frames,
            "scaling": self.choice,
            "different": self.different,
            "decisions_different": self.decisions,
            "layers": [
                {
                    "name": layer.name,
                    "units": layer.units,
                    "shifts": [layer.scaling.excitatory, layer.scaling.inhibitory],
                    "factor": layer.scaling.factor,
                    "grid": layer.scaling.grid,
                    "spikes": layer.spikes,
                    "different": layer.different,
                    "saturated": layer.saturated,
                }
                for layer in self.layers
            ],
        }

    def __str__(self) -> str:
        head = f"{self.frames:,} frames in SpiNNaker's arithmetic, scaling: {self.choice}"
        lines = [
            head,
            f"{'layer':28s} {'shifts':>7s} {'factor':>8s} {'grid':>9s} "
            f"{'spikes':>10s} {'differ':>8s} {'saturated':>9s}",
        ]
        for layer in self.layers:
            s = layer.scaling
            shifts = f"{s.excitatory}, {s.inhibitory}"
            lines.append(
                f"{layer.name:28s} {shifts:>7s} {s.factor:8.3g} {s.grid:9.2e} "
                f"{layer.spikes:10,d} {layer.different:8,d} {layer.saturated:9,d}"
            )
        decided = "" if self.decisions is None else f"; {self.decisions:,} decisions differ"
        lines.append(f"{self.different:,} spikes differ{decided}")
        return "\n".join(lines)


class _Population:
    """Incoming weights of one population, by sign, as sparse matrices over each source."""

    def __init__(self, graph: Graph, name: str) -> None:
        population = graph.population(name)
        self.size = population.size
        self.threshold, self.bias = population.threshold.reshape(-1), population.bias.reshape(-1)
        self.weights: list[tuple[str, tuple[csr_array, csr_array]]] = []
        for p in graph.incoming(name):
            pre, post, weight = p.operator.to_coo()
            shape = (self.size, p.operator.size_in)
            signs = (weight > 0, weight < 0)
            matrices = [csr_array((np.abs(weight[k]), (post[k], pre[k])), shape=shape) for k in signs]
            self.weights.append((p.source, (matrices[0], matrices[1])))

    def sums(self, spikes: Signals, shift: int | None, sign: int, factor: float = 1.0) -> npt.NDArray[np.float64]:
        """Return summed weights of one sign (0 excitatory, 1 inhibitory), shape (n, size).

        With a shift they are on its grid: whole numbers of `2^(shift - 15)`.
        """
        total: npt.NDArray[np.float64] | None = None
        for source, pair in self.weights:
            matrix = pair[sign]
            if shift is not None:
                values = np.rint(matrix.data * (factor * math.ldexp(1.0, _FRACTION_BITS - shift)))
                if len(values) and values.max() > _FULL:
                    raise BackendError(
                        f"a weight of {matrix.data.max():.4g} x {factor:.4g} does not fit 16 bits with a ring-buffer "
                        f"shift of {shift}"
                    )
                matrix = csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
            flat = spikes[source].reshape(len(spikes[source]), -1).astype(np.float64)
            part = (matrix @ flat.T).T
            total = part if total is None else total + part
        assert total is not None
        return total

    def is_exact(self, scaling: Scaling) -> bool:
        """Whether this scaling rounds no weight, bias or threshold, and no spikes can fill a ring buffer."""
        for sign, shift in ((0, scaling.excitatory), (1, scaling.inhibitory)):
            scale = scaling.factor * math.ldexp(1.0, _FRACTION_BITS - shift)
            total = np.zeros(self.size)
            for _, pair in self.weights:
                values = pair[sign].data * scale
                if (values != np.rint(values)).any():
                    return False
                total += np.asarray(pair[sign].sum(axis=1)).reshape(-1) * scale
            if total.max(initial=0.0) > _FULL:
                return False
        constants = np.concatenate([self.threshold, self.bias]) * scaling.factor * math.ldexp(1.0, _FRACTION_BITS)
        return bool((constants == np.rint(constants)).all() and (np.abs(constants) < 2.0**31).all())

    def fires(self, spikes: Signals, scaling: Scaling) -> tuple[npt.NDArray[np.bool_], int]:
        """Return the population's spikes, shape (n, size), and how many sums saturate."""
        value = self._fixed(self.bias * scaling.factor)[None, :]
        saturated = 0
        for sign, shift in ((0, scaling.excitatory), (1, scaling.inhibitory)):
            sums = self.sums(spikes, shift, sign, scaling.factor)
            saturated += int(np.count_nonzero(sums > _FULL))
            value = value + (1 - 2 * sign) * np.minimum(sums, _FULL) * math.ldexp(1.0, shift)
        return value >= self._fixed(self.threshold * scaling.factor), saturated

    @staticmethod
    def _fixed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        fixed: npt.NDArray[np.float64] = np.rint(values * math.ldexp(1.0, _FRACTION_BITS))
        return fixed


def least_margin(graph: Graph, name: str) -> float:
    """Return how close to its threshold a neuron's potential may come and the spike still be right, at the finest grid.

    Half a step of 2^-15 for every synapse, for the bias and for the threshold.
    """
    return (terms(graph, name) + 1) * 2.0 ** -(_FRACTION_BITS + 1)


def shift_for(largest: float) -> int:
    """Return the shift that sPyNNaker takes for an expected largest sum (`get_ring_buffer_shifts`): sums
    below 2^shift.

    It leaves a bit unused: the buffer holds sums below `2^(shift + 1)`.
    """
    if largest <= 0:
        return 0
    shift = math.ceil(max(0.0, math.log2(largest)))
    return shift + 1 if 2.0**shift <= largest else shift


def exact_scaling(graph: Graph) -> dict[str, Scaling] | None:
    """Return the scaling under which nothing is rounded and nothing can saturate, for graphs of `strop.quantize`.

    Ring-buffer shifts of 1: weights are whole numbers of 2^-14, of each sign at most 65535 in a neuron's sum, and
    thresholds and biases of 2^-15. None where a population is not like that.
    """
    scaling = Scaling(1, 1)
    populations = _carried(graph)
    return dict.fromkeys(populations, scaling) if all(p.is_exact(scaling) for p in populations.values()) else None


def measured_scaling(graph: Graph, frames: Frames, headroom: float = 1.25, fill: bool = False) -> dict[str, Scaling]:
    """Return the finest scaling that holds all sums of these frames.

    Parameters
    ----------
    frames : array, shape (n, *input_shape)
        Frames on which the largest sums are measured.
    headroom : float
        By how much other frames may exceed them.
    fill : bool
        Also multiply every population by the factor that fills its ring buffers to the last bit.
    """
    if not headroom >= 1:
        raise BackendError(f"headroom must be at least 1, got {headroom}")
    populations = _carried(graph)
    largest = {name: [0.0, 0.0] for name in populations}
    for chunk in frame_source(graph, frames).chunks(chunk_size(graph)):
        signals = encode(graph, chunk.frames)
        spikes: Signals = {**signals, **evaluate(graph, signals)}
        for name, population in populations.items():
            for sign in (0, 1):
                found = float(population.sums(spikes, None, sign).max(initial=0.0))
                largest[name][sign] = max(largest[name][sign], found)
    result = {}
    for name, population in populations.items():
        # A single weight must fit, too, whether or not it was ever used.
        need = [
            max(
                headroom * largest[name][sign],
                *(float(pair[sign].max()) if pair[sign].nnz else 0.0 for _, pair in population.weights),
            )
            for sign in (0, 1)
        ]
        if fill and max(need) > 0:
            # All but the last of 65536 values, for the roundings of the weights that are summed.
            result[name] = Scaling(0, 0, 2.0 * (1.0 - 2.0**-8) / max(need))
        else:
            # Half of the largest sum: the buffer holds twice the sum that the shift is chosen for.
            exc, inh = (shift_for(value * (1.0 + 2.0**-8) / 2.0) for value in need)
            result[name] = Scaling(exc, inh)
    return result


def fixed_point_report(
    graph: Graph, frames: Frames, scaling: Mapping[str, Scaling], choice: str = "given"
) -> FixedPointReport:
    """Return how many spikes and decisions would differ on `frames` in SpiNNaker's arithmetic.

    Parameters
    ----------
    frames : array, shape (n, *input_shape)
    scaling : mapping of population name to Scaling
        From a mapping (`SpinnakerMapping.scaling`) or from `measured_scaling`.
    choice : str
        Its name in the report.
    """
    populations = _carried(graph)
    missing = [name for name in populations if name not in scaling]
    if missing:
        raise BackendError(f"no scaling is given for {', '.join(missing)}")
    counts = {name: [0, 0, 0] for name in populations}
    total, decisions = 0, 0
    decides = True
    for chunk in frame_source(graph, frames).chunks(chunk_size(graph)):
        signals = encode(graph, chunk.frames)
        expected = evaluate(graph, signals)
        known: dict[str, npt.NDArray[Any]] = {**signals, **host_spikes(graph, signals)}
        for name, population in populations.items():
            fired, saturated = population.fires(known, scaling[name])
            known[name] = fired.reshape(expected[name].shape)
            counts[name][0] += int(expected[name].sum())
            counts[name][1] += int(np.count_nonzero(known[name] != expected[name]))
            counts[name][2] += saturated
        ours = classes(graph, {name: known[name] for name in graph.population_names})
        theirs = classes(graph, expected)
        if ours is None or theirs is None:
            decides = False
        else:
            decisions += int(np.count_nonzero(ours != theirs))
        total += chunk.count
    layers = tuple(LayerDifference(name, populations[name].size, scaling[name], *counts[name]) for name in populations)
    return FixedPointReport(total, layers, decisions if decides else None, choice)


def fixed_point_spikes(graph: Graph, frames: Frames, scaling: Mapping[str, Scaling]) -> Spikes:
    """Return the spikes of each population that SpiNNaker simulates, shape (n, *shape), each fed by those before
    it."""
    populations = _carried(graph)
    parts: list[Spikes] = []
    for chunk in frame_source(graph, frames).chunks(chunk_size(graph)):
        signals = encode(graph, chunk.frames)
        known: dict[str, npt.NDArray[Any]] = {**signals, **host_spikes(graph, signals)}
        for name, population in populations.items():
            fired, _ = population.fires(known, scaling[name])
            known[name] = fired.reshape(len(fired), *graph.population(name).shape)
        parts.append({name: known[name] for name in populations})
    return {name: np.concatenate([part[name] for part in parts]) for name in populations}


def _carried(graph: Graph) -> dict[str, _Population]:
    refuse_currents(graph, "SpiNNaker")
    played = stimulus_nodes(graph)
    return {name: _Population(graph, name) for name in graph.population_names if name not in played}
