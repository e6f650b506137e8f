"""`SpikingNetwork`: a graph as a `brian2.Network`.

A step of Brian2, from the source of brian2 2.9.0:

* The order within a step is `start, groups, thresholds, synapses, resets, end`, and before and after each of them
  there is a slot of its own (`core/network.py`, `Network.schedule` and `_sort_objects`).
* A threshold is the condition as written, so `v >= th` fires at equality
  (`codegen/runtime/cython_rt/templates/threshold.pyx`, `numpy_rt/templates/threshold.py_`).
* A synapse without delay is delivered in the step in which its source fired (`synapses/cspikequeue.cpp`: `push`, then
  `peek` at offset 0).
* A delay in steps is `int(delay / dt + 0.5)` (`cspikequeue.cpp`, `prepare`).

So in each step the threshold is evaluated, the potential is reset to the bias, and spikes are added to it: a delay of
d steps in the graph is one of d - 1 in Brian2, and the input of a neuron in step t decides its spike in step t + 1.
Every neuron is reset in every step, whether it fired or not: no state survives, and a frame can follow in every step.
All of that happens in one slot, one after the other (`drive.SLOT`), because users may change the order of slots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import brian2
import numpy as np
import numpy.typing as npt
from brian2.codegen.runtime.numpy_rt import NumpyCodeObject
from brian2.groups.subgroup import Subgroup

from strop.errors import BackendError
from strop.graph import Graph, Projection, synapses_of
from strop.graph.capacity import require_memory
from strop.graph.weights import joined
from strop.running.backend import Pair, checked_weights
from strop.running.encode import as_frames, encode
from strop_backends.brian2.drive import DECIDE, DELIVER, FORGET, SLOT, Drive, IntArray
from strop_backends.brian2.kernels import Kernels, kept_pairs, plan_of
from strop_backends.brian2.parts import Neurons, Part, brian2_name, layout, seconds_of
from strop_backends.brian2.preferences import EXACT, preferring
from strop_backends.brian2.rows import (
    BYTES_PER_SYNAPSE,
    STATEMENT,
    KeptRunner,
    KeptThresholder,
    RowSynapses,
    code_object_class,
    with_templates,
)


class SpikingNetwork(brian2.Network):  # type: ignore[misc]  # Brian2 ships no types
    """A `brian2.Network` of the populations of a graph, to run, monitor and extend.

    >>> network = strop.build(graph, "brian2")
    >>> monitor = brian2.SpikeMonitor(network.populations["dense_1"])
    >>> network.add(monitor)
    >>> network.present(frames)              # one frame per time step
    >>> network.run(network.duration(frames))

    One `NeuronGroup` holds all neurons (`v`, `th` and `bias`, dimensionless), and one `Synapses` object all synapses of
    one delay, so that Brian2 compiles three code objects and not a handful for each layer. Populations are `Subgroup`s.
    Stimulus spikes (bit planes, binary frames, the first layer's spikes under the host encoding) are added to the
    potentials as pulses of height one just before the threshold is evaluated, and input currents alike.

    Everything is kept and summed in float64, whatever `brian2.prefs` says (see `preferences`). Its objects are in no
    magic network; they may be run in another network: `brian2.Network(network.objects, others.objects)`.

    Parameters
    ----------
    graph : Graph
    dt : float or Brian2 time
        Length of a time step, as a number in seconds; it only sets the scale of Brian2's time.
    target : {"auto", "cython", "numpy"}
        Code-generation target; "auto" follows `brian2.prefs.codegen.target`, which is Cython where a compiler is.
    prefix : str, optional
        Prefix of all Brian2 names. By default none, and a name that another object has gets a number.
    name : str, optional
        The network's own name.
    convolutions : {"auto", "kernel", "expanded"}
        Whether a convolution is kept as its kernel (see `kernels.Kernels`) or expanded into single synapses; "auto"
        keeps kernels where the synapses would not fit into memory. What is no convolution, or is composed with a
        factor or a pool, is expanded all the same.

    Attributes
    ----------
    units : brian2.NeuronGroup
        All neurons.
    populations : dict of graph name to brian2.Subgroup
        Inputs that spike are among them; `network["dense_1"]` finds them by the graph's name, too. Their Brian2 names
        are the graph's, as far as Brian2 allows.
    synapses : list of brian2.Synapses
        One for each delay, with the weight `w`, dimensionless, in the graph's units (see `rows.RowSynapses`).
    kernels : dict of (source, target) to (Kernels, slice)
        The object that holds the kernel of a projection that is not expanded, and where in its `w`, flat.
    projections : dict of (source, target) to (brian2.Synapses, int array)
        Where a projection's synapses are: the object, and their indices in it, in the order of
        `strop.graph.synapses_of`.
    strop_clock : brian2.Clock
        Its time step is that of the frames.
    drive : Drive
        The operation that adds the presented frames to the potentials.
    """

    def __init__(
        self,
        graph: Graph,
        dt: float = 1e-3,
        target: str = "auto",
        prefix: str | None = None,
        name: str | None = None,
        convolutions: str = "auto",
    ) -> None:
        super().__init__(**({} if name is None else {"name": name}))
        dt = seconds_of(dt)
        if not re.fullmatch(r"([A-Za-z]\w*)?", prefix or "", re.ASCII):
            raise BackendError(f"brian2: prefix must be the beginning of an identifier, got {prefix!r}")
        self.graph, self.step, self._prefix = graph, float(dt), prefix
        self.code = code_object_class(target)
        self.strop_clock = brian2.Clock(dt=dt * brian2.second, name=self._name_of("strop_clock"))
        self.spans = layout(graph)
        self.populations: dict[str, Subgroup] = {}
        self.synapses: list[brian2.Synapses] = []
        self.projections: dict[Pair, tuple[brian2.Synapses, IntArray]] = {}
        self.kernels: dict[Pair, tuple[Kernels, slice]] = {}
        self._kept = kept_pairs(convolutions, self._carried())
        self._require_memory()
        with preferring(EXACT):
            self.units = self._add_neurons()
            self._add_populations()
            self._add_synapses()
            self._add_kernels()
        self.drive = Drive(graph, self.spans, self._array("v"), self.strop_clock, self._name_of("strop_drive"))
        self.add(self.drive)

    def _name_of(self, name: str) -> str:
        # Brian2 replaces the star by a number where the name is taken (core/names.py, `find_name`).
        return f"{name}*" if self._prefix is None else f"{self._prefix}{name}"

    def _array(self, name: str) -> npt.NDArray[np.float64]:
        """Return a variable of the neurons: Brian2's own array."""
        array: npt.NDArray[np.float64] = self.units.variables[name].get_value()
        return array

    def _carried(self) -> list[Projection]:
        """Return the projections that are simulated; the others are computed on the host."""
        return [p for p in self.graph.projections if p.source in self.spans and not self.spans[p.target].stimulus]

    def _expanded(self) -> list[Projection]:
        return [p for p in self._carried() if (p.source, p.target) not in self._kept]

    def _require_memory(self) -> None:
        count = sum(p.operator.synapse_count for p in self._expanded())
        require_memory(
            f"expanding {self.graph.name!r} into {count:,} Brian2 synapses",
            count * BYTES_PER_SYNAPSE + sum(found.memory for own in self._kept.values() for _, found in own),
            "Build it with convolutions='kernel', or simulate it on the 'reference' backend",
        )

    def _add_neurons(self) -> brian2.NeuronGroup:
        neurons = Neurons(
            max(span.stop for span in self.spans.values()),
            "v : 1\nth : 1 (constant)\nbias : 1 (constant)",
            threshold="v >= th",
            # Brian2 resets the neurons that fired; the operation below resets all of them.
            reset="",
            dtype=np.float64,
            clock=self.strop_clock,
            name=self._name_of("strop_units"),
            codeobj_class=self.code,
        )
        th, bias, v = (neurons.variables[name].get_value() for name in ("th", "bias", "v"))
        for name, span in self.spans.items():
            place = slice(span.start, span.stop)
            if span.stimulus:
                th[place], bias[place] = 0.5, 0.0
            else:
                population = self.graph.population(name)
                th[place], bias[place] = population.threshold.reshape(-1), population.bias.reshape(-1)
        v[:] = bias
        thresholder = neurons.thresholder["spike"]
        thresholder.when, thresholder.order, thresholder.codeobj_class = SLOT, DECIDE, with_templates(self.code)
        thresholder.__class__ = KeptThresholder
        # Nothing happens to the neurons that fired alone, and there are no equations to integrate.
        neurons.resetter["spike"].active = neurons.state_updater.active = False
        forget = neurons.run_regularly(
            "v = bias", when=SLOT, order=FORGET, name=self._name_of("strop_forget"), codeobj_class=self.code
        )
        forget.__class__ = KeptRunner
        self.add(neurons)
        return neurons

    def _add_populations(self) -> None:
        taken: set[str] = set()
        for name, span in self.spans.items():
            part = Part(self.units, span.start, span.stop, name=self._name_of(brian2_name(name, taken)))
            # It is there to be watched and connected; nothing of it runs.
            part.active = False
            self.populations[name] = part
            self.add(part)

    def _add_synapses(self) -> None:
        expanded = self._expanded()
        for delay in sorted({p.delay for p in expanded}):
            self._add_bundle(delay, [p for p in expanded if p.delay == delay])

    def _add_kernels(self) -> None:
        """Add the kernels of all projections with one delay as a single object."""
        members = [(p, found) for own in self._kept.values() for p, found in own]
        for delay in sorted({p.delay for p, _ in members}):
            own = [(p, found) for p, found in members if p.delay == delay]
            ends = np.cumsum([0, *(found.convolution.kernel.size for _, found in own)])
            kernels = Kernels(
                self.units,
                [
                    plan_of(found, self.spans[p.source], self.spans[p.target], offset)
                    for (p, found), offset in zip(own, ends.tolist(), strict=False)
                ],
                np.concatenate([found.convolution.kernel.reshape(-1) for _, found in own]),
                (delay - 1) * self.step,
                self._name_of(f"strop_kernels_{delay}"),
                with_templates(self.code),
            )
            self.add(kernels)
            for pair in dict.fromkeys((p.source, p.target) for p, _ in own):
                place = [n for n, (p, _) in enumerate(own) if (p.source, p.target) == pair]
                self.kernels[pair] = (kernels, slice(int(ends[place[0]]), int(ends[place[-1] + 1])))

    def _add_bundle(self, delay: int, members: Sequence[Projection]) -> None:
        """Add the synapses of all projections with one delay as a single `Synapses` object."""
        pairs = list(dict.fromkeys((p.source, p.target) for p in members))
        parts = []
        for source, target in pairs:
            pre, post, weight = synapses_of(self.graph, source, target)
            pre += self.spans[source].start
            post += self.spans[target].start
            parts.append((pre, post, weight))
        ends = np.cumsum([len(part[0]) for part in parts])[:-1]
        pre, post, weight = joined(parts)
        if len(pre) == 0:
            return
        # Synapses of one source neuron lie side by side, in the order of their targets: events run along memory.
        order = np.lexsort((post, pre))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        synapses = RowSynapses(
            self.units,
            self.units,
            "w : 1 (constant)",
            on_pre=STATEMENT,
            delay=(delay - 1) * self.step * brian2.second,
            dtype=np.float64,
            clock=self.strop_clock,
            name=self._name_of(f"strop_synapses_{delay}"),
            codeobj_class=NumpyCodeObject,
        )
        # Creating synapses from arrays is no inner loop: NumPy does it as fast, and nothing needs compiling.
        pre, post, weight = pre[order], post[order], weight[order]
        synapses.connect(i=pre, j=post)
        synapses.variables["w"].set_value(weight)
        synapses.codeobj_class = self.code
        for pathway in synapses._pathways:
            pathway.codeobj_class = with_templates(self.code)
            pathway.when, pathway.order = SLOT, DELIVER
        self.add(synapses)
        self.synapses.append(synapses)
        for pair, own in zip(pairs, np.split(place, ends), strict=True):
            if len(own):
                self.projections[pair] = (synapses, own)

    # For the user's script ---------------------------------------------------------------------------------------

    def present(self, frames: Any, start: int | None = None) -> None:
        """Present frames, one per time step, behind those presented before that have not entered yet.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int, optional
            Step in which the first frame enters; by default the next that is free. Population P answers frame n at
            step `start + n + depth(P)`; `drive.starts` holds the start afterwards.

        Raises
        ------
        BackendError
            If `start` is past, or frames that were presented before enter then.
        """
        self.play(encode(self.graph, as_frames(self.graph, frames)), start)

    def play(self, signals: Mapping[str, npt.NDArray[Any]], start: int | None = None) -> None:
        """Present encoded frames (see `strop.running.encode.encode`), as `present` does."""
        self.drive.load(signals, start)

    def clear(self) -> None:
        """Drop all frames that have not entered yet."""
        self.drive.clear()

    def duration(self, frames: Any = None) -> Any:
        """Return how long to run until the last population has answered, as a Brian2 time.

        Parameters
        ----------
        frames : array, or mapping of input name to array, optional
            The last of these, where they enter from the next step on; by default the last of all that were presented.
        """
        if frames is None:
            return self.drive.remaining * self.step * brian2.second
        count = len(next(iter(frames.values()))) if isinstance(frames, Mapping) else len(frames)
        return (count + self.graph.total_depth) * self.step * brian2.second

    @property
    def next_step(self) -> int:
        """Number of the step that the next run begins with."""
        return self.drive.next_step

    def weights(self) -> dict[Pair, npt.NDArray[np.float64]]:
        """Return the weights that the synapses have now, by projection, in the order of `strop.graph.synapses_of`.

        They are dimensionless, in the graph's units, and so is `w` of each of the `synapses`. Projections that are
        kept as kernels are left out: their weights are those of many synapses each, `w` of the `kernels`.
        """
        return {
            pair: np.array(synapses.variables["w"].get_value()[place], dtype=np.float64)
            for pair, (synapses, place) in self.projections.items()
        }

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights in place, between two runs or (in a network operation) between two steps.

        Parameters
        ----------
        weights : mapping of (source, target) to array, shape (synapses,)
            As `weights` returns them; projections that are not named keep theirs.
        """
        present = {pair: place for pair, (_, place) in self.projections.items()}
        for pair, values in checked_weights(weights, present, "brian2").items():
            synapses, place = self.projections[pair]
            synapses.variables["w"].get_value()[place] = values

    def __getitem__(self, item: Any) -> Any:
        """Return a population by the graph's name for it, or any object by its Brian2 name."""
        return self.populations[item] if item in self.populations else super().__getitem__(item)

    def __contains__(self, item: Any) -> bool:
        return item in self.populations or bool(super().__contains__(item))

    # Before a run ------------------------------------------------------------------------------------------------

    @property
    def sorted_objects(self) -> Any:
        """The network's objects in the order in which a step runs them."""
        if SLOT not in self.schedule:
            raise BackendError(
                f"brian2: the schedule {self.schedule} has no slot {SLOT!r}, in which the network's steps happen. Set "
                "network.schedule = None and the preference core.network.default_schedule to one that has it"
            )
        return super().sorted_objects

    def before_run(self, run_namespace: Any) -> None:
        """Refuse to run if the device or the clock has changed so that spikes would differ from the graph's."""
        self.drive.check()
        super().before_run(run_namespace)
