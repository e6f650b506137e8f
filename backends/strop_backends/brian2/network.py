"""A graph as a `brian2.Network`.

What a step of Brian2 does was read in brian2 2.9.0:

* The order within a step is `start, groups, thresholds, synapses, resets, end`, and before and after each of them
  there is a slot of its own (`core/network.py`, `Network.schedule` and `_sort_objects`).
* A threshold is the condition as written, so `v >= th` fires at equality
  (`codegen/runtime/cython_rt/templates/threshold.pyx`, `numpy_rt/templates/threshold.py_`).
* A synapse without delay is delivered in the slot `synapses` of the step in which its source fired
  (`synapses/synapses.py`, `SynapticPathway.push_spikes`; `synapses/cspikequeue.cpp`: `push`, then `peek` at offset 0).
* A delay in steps is `int(delay / dt + 0.5)` (`cspikequeue.cpp`, `prepare`).

So the potential is looked at in `thresholds`, set back to the bias in `after_thresholds`, and filled by spikes in
`synapses`: a projection that the graph gives a delay of d steps has a Brian2 delay of d - 1 steps, and what a unit
gathers in step t decides in step t + 1. Every unit is set back in every step, whether it fired or not: no state
survives, and a frame can follow in every step.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import brian2
import numpy as np
import numpy.typing as npt
from brian2.codegen.runtime.cython_rt import CythonCodeObject
from brian2.codegen.runtime.numpy_rt import NumpyCodeObject
from brian2.devices.device import auto_target, runtime_device
from brian2.groups.subgroup import Subgroup

from strop.capacity import require_memory
from strop.errors import BackendError
from strop.graph import Graph, Projection
from strop.reference import host_spikes

IntArray = npt.NDArray[np.int64]

# Bytes per synapse: indices and weight in Brian2 (16), its queue's table of synapses and queue (12), and the three
# arrays that they are made from, sorted (2 x 24).
BYTES_PER_SYNAPSE = 76


@dataclass(frozen=True)
class Span:
    """The place of one node among the units: `start` to `stop - 1`; `played` if its spikes come from outside."""

    start: int
    stop: int
    played: bool


def brian2_name(name: str, taken: set[str]) -> str:
    """Return `name` as an identifier that Brian2 accepts as the name of an object, different from those `taken`."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    # Names that begin with "strop_" are those of the objects that strop adds itself.
    if not clean[0].isalpha() or keyword.iskeyword(clean) or clean.startswith("strop_"):
        clean = f"p_{clean}"
    candidate, number = clean, 2
    while candidate in taken:
        candidate, number = f"{clean}_{number}", number + 1
    taken.add(candidate)
    return candidate


class SpikingNetwork(brian2.Network):  # type: ignore[misc]  # Brian2 ships no types
    """A `brian2.Network` of the populations of a graph, to run, monitor and extend.

    >>> network = strop.build(graph, "brian2")
    >>> monitor = brian2.SpikeMonitor(network.populations["dense_1"])
    >>> network.add(monitor)
    >>> network.present(frames)              # plays the frames in, one per time step
    >>> network.run(network.duration(frames))

    One `NeuronGroup` holds all units (`v`, `th` and `bias`, dimensionless), and one `Synapses` object all synapses of
    one delay, so that Brian2 compiles four code objects and not a handful for each layer. Populations are its
    `Subgroup`s. What comes from outside (bit planes, binary frames, the first layer's spikes under the host encoding)
    reaches its units as a pulse of height one just before the threshold is looked at, and analogue currents alike.

    Parameters
    ----------
    graph : Graph
    dt : float
        Length of a time step in seconds; it only sets the unit in which Brian2 counts.
    target : {"auto", "cython", "numpy"}
        What code is generated for; "auto" follows `brian2.prefs.codegen.target`, which is Cython where a compiler is.

    Attributes
    ----------
    units : brian2.NeuronGroup
    populations : dict of graph name to brian2.Subgroup
        Inputs that spike are among them. Their Brian2 names are the graph's, as far as Brian2 allows.
    synapses : list of brian2.Synapses
        One for each delay, with the weight `w`.
    projections : dict of (source, target) to (brian2.Synapses, int array)
        Where a projection's synapses are: the object, and their indices in it.
    """

    def __init__(self, graph: Graph, dt: float = 1e-3, target: str = "auto") -> None:
        super().__init__()
        if not dt > 0:
            raise BackendError(f"brian2: dt must be positive (seconds), got {dt!r}")
        self.graph, self.step = graph, float(dt)
        self.code = _code_object_class(target)
        self.strop_clock = brian2.Clock(dt=dt * brian2.second, name="strop_clock")
        self.spans = layout(graph)
        self.populations: dict[str, Subgroup] = {}
        self.synapses: list[brian2.Synapses] = []
        self.projections: dict[tuple[str, str], tuple[brian2.Synapses, IntArray]] = {}
        self.drive = Drive(graph, self.spans)
        self._require_memory()
        self.units = self._add_units()
        self._add_populations()
        self._add_synapses()

    def _carried(self) -> list[Projection]:
        """Return the projections that become synapses; the others are computed on the host."""
        return [p for p in self.graph.projections if p.source in self.spans and not self.spans[p.target].played]

    def _require_memory(self) -> None:
        count = sum(p.operator.synapse_count for p in self._carried())
        require_memory(
            f"expanding {self.graph.name!r} into {count:,} Brian2 synapses",
            count * BYTES_PER_SYNAPSE,
            "Simulate it on the 'reference' backend, which keeps convolutions as they are",
        )

    def _add_units(self) -> brian2.NeuronGroup:
        units = brian2.NeuronGroup(
            max(span.stop for span in self.spans.values()),
            "v : 1\nth : 1 (constant)\nbias : 1 (constant)",
            threshold="v >= th",
            # Brian2 resets those that fired; here all are set back, fired or not, by the operation below.
            reset="",
            clock=self.strop_clock,
            name="strop_units",
            codeobj_class=self.code,
        )
        th, bias, v = (units.variables[name].get_value() for name in ("th", "bias", "v"))
        for name, span in self.spans.items():
            place = slice(span.start, span.stop)
            if span.played:
                th[place], bias[place] = 0.5, 0.0
            else:
                population = self.graph.population(name)
                th[place], bias[place] = population.threshold.reshape(-1), population.bias.reshape(-1)
        v[:] = bias
        units.run_regularly("v = bias", when="after_thresholds", name="strop_forget", codeobj_class=self.code)

        def deliver() -> None:
            self.drive.add_to(v, self.next_step)

        # Between two thresholds: what comes from outside joins what the synapses delivered the step before.
        self.add(
            units,
            brian2.NetworkOperation(deliver, clock=self.strop_clock, when="before_thresholds", name="strop_drive"),
        )
        return units

    def _add_populations(self) -> None:
        taken: set[str] = set()
        for name, span in self.spans.items():
            part = Subgroup(self.units, span.start, span.stop, name=brian2_name(name, taken))
            self.populations[name] = part
            self.add(part)

    def _add_synapses(self) -> None:
        carried = self._carried()
        for delay in sorted({p.delay for p in carried}):
            self._add_bundle(delay, [p for p in carried if p.delay == delay])

    def _add_bundle(self, delay: int, members: Sequence[Projection]) -> None:
        """Add the synapses of all projections with one delay as a single `Synapses` object."""
        parts, owners = [], []
        for number, p in enumerate(members):
            pre, post, weight = p.operator.to_coo()
            parts.append((pre + self.spans[p.source].start, post + self.spans[p.target].start, weight))
            owners.append(np.full(len(pre), number, dtype=np.int32))
        pre, post, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        owner = np.concatenate(owners)
        if len(pre) == 0:
            return
        # Synapses of one source unit lie side by side, in the order of their targets: events run along memory.
        order = np.lexsort((post, pre))
        pre, post, weight, owner = pre[order], post[order], weight[order], owner[order]
        synapses = brian2.Synapses(
            self.units,
            self.units,
            "w : 1 (constant)",
            on_pre="v_post += w",
            delay=(delay - 1) * self.step * brian2.second,
            clock=self.strop_clock,
            name=f"strop_synapses_{delay}",
            codeobj_class=NumpyCodeObject,
        )
        # Creating synapses from arrays is no inner loop: NumPy does it as fast, and nothing needs compiling.
        synapses.connect(i=pre, j=post)
        synapses.variables["w"].set_value(weight)
        synapses.codeobj_class = self.code
        for pathway in synapses._pathways:
            pathway.codeobj_class = self.code
        self.add(synapses)
        self.synapses.append(synapses)
        for number, p in enumerate(members):
            self.projections[p.source, p.target] = (synapses, np.flatnonzero(owner == number))

    # For the user's script ---------------------------------------------------------------------------------------

    def present(self, frames: Any, start: int | None = None) -> None:
        """Play frames in, one per time step.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int, optional
            Step in which the first frame enters; by default the next one. Population P answers frame n at step
            `start + n + depth(P)`.
        """
        from strop.encode import as_frames, encode

        self.play(encode(self.graph, as_frames(self.graph, frames)), self.next_step if start is None else start)

    def duration(self, frames: Any) -> Any:
        """Return how long to run until the last population has answered the last of `frames`, as a Brian2 time."""
        count = len(next(iter(frames.values()))) if isinstance(frames, Mapping) else len(frames)
        return (count + self.graph.total_depth) * self.step * brian2.second

    @property
    def next_step(self) -> int:
        """Number of the step that the next run begins with."""
        return int(self.strop_clock.variables["timestep"].get_value().item())

    def play(self, signals: Mapping[str, npt.NDArray[Any]], start: int) -> None:
        """Play encoded frames in (see `strop.encode.encode`), the first at step `start`."""
        self.drive.load(signals, start)


@dataclass(frozen=True)
class _Pulses:
    """Spikes that are played in, chunk by chunk: those of row r are `units[ends[r]:ends[r + 1]]`."""

    first: int
    units: IntArray
    ends: IntArray

    def add_to(self, v: npt.NDArray[np.float64], step: int) -> None:
        row = step - self.first
        if 0 <= row < len(self.ends) - 1:
            v[self.units[self.ends[row] : self.ends[row + 1]]] += 1.0


@dataclass(frozen=True)
class _Currents:
    """Analogue values that are played in: row r of `values` arrives at step `first + r`."""

    first: int
    place: slice
    values: npt.NDArray[np.float64]

    def add_to(self, v: npt.NDArray[np.float64], step: int) -> None:
        row = step - self.first
        if 0 <= row < len(self.values):
            v[self.place] += self.values[row]


class Drive:
    """What reaches units from outside, step by step: pulses of height one, or analogue currents."""

    def __init__(self, graph: Graph, spans: Mapping[str, Span]) -> None:
        self.graph, self.spans = graph, spans
        self._currents = {
            population.name: [p for p in graph.incoming(population.name) if p.source not in spans]
            for population in graph.populations
            if not spans[population.name].played
        }
        self._loaded: list[_Pulses | _Currents] = []

    def load(self, signals: Mapping[str, npt.NDArray[Any]], start: int) -> None:
        """Take encoded frames, the first of which enters at step `start`, in place of those taken before."""
        count = len(next(iter(signals.values())))
        played = {**signals, **host_spikes(self.graph, signals)}
        self._loaded = []
        for name, span in self.spans.items():
            first = start + self.graph.depth(name)
            if span.played:
                row, unit = np.nonzero(played[name].reshape(count, -1))
                ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))])
                self._loaded.append(_Pulses(first, unit + span.start, ends))
            elif self._currents[name]:
                parts = [p.operator.apply(signals[p.source]) for p in self._currents[name]]
                values = np.sum(parts, axis=0)
                self._loaded.append(_Currents(first, slice(span.start, span.stop), values.reshape(count, -1)))

    def add_to(self, v: npt.NDArray[np.float64], step: int) -> None:
        """Add what arrives in `step` to the potentials."""
        for part in self._loaded:
            part.add_to(v, step)


def layout(graph: Graph) -> dict[str, Span]:
    """Return where each spiking node lies among the units."""
    spans: dict[str, Span] = {}
    end = 0
    inputs = [node.name for node in graph.inputs if node.spiking]
    for name in [*inputs, *graph.population_names]:
        size = int(np.prod(graph.signal_shape(name), dtype=np.int64))
        spans[name] = Span(end, end + size, name in inputs or name in graph.host_populations)
        end += size
    return spans


def _code_object_class(target: str) -> Any:
    device = brian2.get_device()
    if device is not runtime_device:
        raise BackendError(
            f"brian2: the device {type(device).__name__} is set; strop's network runs in runtime mode only. Call "
            "brian2.device.reinit() and brian2.set_device('runtime') before building it"
        )
    if target == "auto":
        # What the user chose for everything holds here too.
        target = str(brian2.prefs.codegen.target)
    if target == "auto":
        return auto_target()
    classes = {"cython": CythonCodeObject, "numpy": NumpyCodeObject}
    if target not in classes:
        raise BackendError(f"brian2: target must be 'auto', 'cython' or 'numpy', got {target!r}")
    if target == "cython" and not CythonCodeObject.is_available():
        raise BackendError("brian2: no working C++ compiler was found for target='cython'; use target='numpy'")
    return classes[target]
