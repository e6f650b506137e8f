"""`Construction`: the populations and projections of a graph in a PyNN simulator, which `PyNNNetwork` runs.

`SpikeSourceArray`s send the input spikes, and under the host encoding those of the first layer; all other populations
are cells of the simulator. A projection with a delay of d steps in the graph has one of `d * layer_ticks - latency`
ticks here, so that all spikes of a frame arrive at a population together. Where the spikes of a frame are spread over k
ticks, neuron j of each population answers `j % k` ticks later, and the delays of its synapses are longer by that, less
the lateness of their sources. Several copies of the graph are built as one graph of so many
(`strop_backends.pynn.copies`).
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from strop.errors import BackendError
from strop.graph import Graph, Projection
from strop.graph.capacity import require_memory
from strop.graph.weights import joined
from strop.running.backend import Pair
from strop.running.stimulus import analogue_inputs, current_driven_populations, stimulus_nodes
from strop_backends.pynn.common.dialect import Dialect, FloatArray, SimulatorInUseError, dialect_for
from strop_backends.pynn.common.waves import Waves
from strop_backends.pynn.copies import FILL, checked_copies, copy_name, tiled

STANDING = "always-on"


class Construction:
    """A network that has been built; see `strop_backends.pynn.network.PyNNNetwork` for parameters and attributes."""

    def __init__(
        self,
        graph: Graph,
        sim: ModuleType | str,
        timestep: float | None = None,
        disposable: bool = False,
        copies: int | str = 1,
        **options: Any,
    ) -> None:
        self.graph = graph
        self.dialect: Dialect = dialect_for(sim)
        self.sim = self.dialect.sim
        self.processes = self.dialect.join()
        if isinstance(sim, str):
            self._require_free(timestep, disposable)
        if copies == FILL:
            copies = self.dialect.copies_that_fill(graph, options if isinstance(sim, str) else None)
        self.copies = checked_copies(copies, self.dialect.name)
        self._tiled = tiled(graph, self.copies)
        self._played, values = stimulus_nodes(self._tiled), analogue_inputs(self._tiled)
        self._carried = [p for p in self._tiled.projections if p.target not in self._played and p.source not in values]
        with self.processes.agreed():
            self._require_memory()
        longest = max((p.delay for p in self._carried), default=1)
        if not isinstance(sim, str):
            if options or timestep is not None:
                given = ", ".join(sorted({*options, *(["timestep"] if timestep is not None else [])}))
                raise BackendError(f"{sim.__name__} is set up already; the option(s) {given} come too late")
            with self.processes.agreed():
                self._build(longest, disposable)
            return
        self.dialect.setup(self.dialect.timestep if timestep is None else float(timestep), longest, **options)
        try:
            with self.processes.agreed():
                self._build(longest, disposable)
        except BaseException:
            # No caller gets a network that is half built.
            self.dialect.release()
            raise
        self.dialect.claim(disposable)

    def _build(self, longest: int, disposable: bool) -> None:
        self.dialect.check_setup(self._ticks(longest))
        self._require_delays()
        # A core, and a projection, are of one copy.
        self.dialect.check_load(self.graph, self._carried[: len(self._carried) // self.copies])
        self.dialect.tile(self.copies)
        self.kernel_mark: object = self.dialect.kernel_mark
        self.populations: dict[str, Any] = {}
        self.projections: dict[tuple[str, str], Any] = {}
        self.drives: dict[str, Any] = {}
        self._known: dict[Pair, FloatArray] = {}
        if disposable:
            self.dialect.make_recorder()
        self._add_populations()
        for pair in dict.fromkeys((p.source, p.target) for p in self._carried):
            self._connect([p for p in self._carried if (p.source, p.target) == pair])
        self._add_standing_input()
        self.start = self.count = 0
        self._waves = Waves(self.dialect)

    def _require_memory(self) -> None:
        largest = max(self._carried, key=lambda p: p.operator.synapse_count, default=None)
        if largest is None:
            return
        count = sum(p.operator.synapse_count for p in self._carried)
        # Of several processes each keeps the weights of all synapses, and its own part of them in the simulator.
        kept = 8 * count * round(self.processes.size * self.processes.share) if self.processes.size > 1 else 0
        neurons = sum(math.prod(self._tiled.signal_shape(name)) for name in self._tiled.depths)
        made = count * self.dialect.bytes_per_synapse + neurons * self.dialect.bytes_per_neuron
        require_memory(
            f"expanding {self.graph.name!r} into {count:,} {self.dialect.name} synapses "
            f"({largest.operator.synapse_count:,} of them {largest.source} -> {largest.target})",
            kept + round(made * self.processes.share),
            "Simulate it on the 'reference' backend, which keeps convolutions as they are",
        )

    def _require_free(self, timestep: float | None, disposable: bool) -> None:
        """Refuse to call PyNN's `setup` where that would drop a network of the user's."""
        dialect = self.dialect
        tick = dialect.timestep if timestep is None else float(timestep)
        if not 0 < tick < float("inf"):
            raise BackendError(f"{dialect.name}: timestep must be positive (ms), got {timestep!r}")
        found = next(filter(None, self.processes.everyone(dialect.in_use(disposable))), None)
        if found is not None:
            raise SimulatorInUseError(
                f"{dialect.name}: this script has {found}, and setting up would take that away. Build into it: "
                f"strop.build(graph, sim), with sim the module {self.sim.__name__} after your sim.setup(); or let go "
                f"of it first{dialect.how_to_let_go}. (strop.simulate and strop.verify leave it alone: they run in a "
                "process of their own)"
            )

    def _ticks(self, delay: int) -> int:
        """Return the longest delay in ticks of a projection whose delay in the graph is `delay` steps."""
        return delay * self.dialect.layer_ticks - self.dialect.latency + self.dialect.spread - 1

    def _require_delays(self) -> None:
        """Refuse a graph with delays that are too long for the simulator; before anything is built."""
        for p in self._carried:
            longest = self.dialect.longest_delay(self._tiled.population(p.target))
            ticks = self._ticks(p.delay)
            if longest is not None and ticks > longest:
                advice = self.dialect.advice_on_delays(max(self._ticks(q.delay) for q in self._carried))
                raise BackendError(
                    f"{self.dialect.name}: spikes from {p.source!r} reach {p.target!r} after {ticks:,} ticks, the "
                    f"longest delay that it holds there is {longest:,}" + (f"; {advice}" if advice else "")
                )

    def _add_populations(self) -> None:
        graph = self._tiled
        for node in graph.inputs:
            if node.spiking:
                size = int(np.prod(node.signal_shape, dtype=np.int64))
                self.populations[node.name] = self.dialect.sources(node.name, size)
        for population in graph.populations:
            if population.name in self._played:
                self.populations[population.name] = self.dialect.sources(population.name, population.size)
            else:
                self.populations[population.name] = self.dialect.neurons(population)
        for name in current_driven_populations(graph):
            self.drives[name] = self.dialect.drive(graph.population(name), self.populations[name])

    def _connect(self, members: list[Projection]) -> None:
        """Add all projections from one node to another (a graph may have several) as one PyNN projection."""
        pre, post, weight = joined([p.operator.to_coo() for p in members])
        if len(pre) == 0:
            return
        p = members[0]
        ticks: Any = p.delay * self.dialect.layer_ticks - self.dialect.latency
        if self.dialect.spread > 1:
            # Spikes that leave later travel shorter: all input of a frame arrives at a neuron in the tick in which it
            # answers.
            ticks = ticks + post % self.dialect.spread - pre % self.dialect.spread
        self._known[p.source, p.target] = weight
        self.projections[p.source, p.target] = self.dialect.project(
            self.populations[p.source], self.populations[p.target], pre, post, weight, ticks
        )

    def _add_standing_input(self) -> None:
        """Connect a source that always spikes to neurons that need an input in every step."""
        needed: dict[str, FloatArray] = {}
        for population in self._tiled.populations:
            if population.name in self._played or population.name in self.drives:
                continue  # the injected values contain the bias
            weights = self.dialect.standing_weights(population)
            # Also where bias and lift cancel: either may be changed later.
            if weights is not None and (weights.any() or population.bias.any()):
                needed[population.name] = weights
        if not needed:
            return
        self.populations[STANDING] = self.dialect.sources(STANDING, 1)
        for name, weights in needed.items():
            post = np.flatnonzero((weights != 0) | (self._tiled.population(name).bias.reshape(-1) != 0))
            # Sent one step ahead, as all other spikes to that population.
            ticks = self.dialect.layer_ticks - self.dialect.latency
            neurons = self.populations[name]
            projection = self.dialect.project(
                self.populations[STANDING], neurons, np.zeros_like(post), post, weights[post], ticks
            )
            self.dialect.attach_standing(neurons, projection, post)
            self.projections[STANDING, name] = projection

    @property
    def played(self) -> tuple[str, ...]:
        """The nodes of the graph whose spikes are the stimulus."""
        return stimulus_nodes(self.graph)

    def of_each_copy(self, name: str) -> tuple[str, ...]:
        """Return what a node of the graph is called in each copy."""
        return tuple(copy_name(name, copy) for copy in range(self.copies))

    @property
    def answering(self) -> dict[str, Any]:
        """The populations of cells, of all copies: those that are not played."""
        return {name: self.populations[name] for name in self._tiled.population_names if name not in self._played}
