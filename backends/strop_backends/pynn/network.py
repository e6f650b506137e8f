"""A graph as PyNN populations and projections, on whichever simulator; what differs is in the `Dialect`.

Input spikes, and the first layer's under the host encoding, are played in by `SpikeSourceArray`s; all other
populations are cells of the simulator. Values (encoding `current`) are summed up on the host and let into each
cell, one value per cell and step. A projection that the graph gives a delay of d steps has one of
`d * ticks_per_step - latency` ticks, so that all spikes of a frame reach a population together. Where a wave is
spread over k ticks, unit j of each population answers `j % k` ticks later, and what leads to it takes so much
longer, less what its source was late.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.capacity import require_memory
from strop.encode import as_frames, encode
from strop.errors import BackendError
from strop.graph import Graph, Projection
from strop.portable import driven_populations, driving_values, played_nodes
from strop.reference import host_spikes
from strop_backends.pynn.dialect import Dialect, Events, FloatArray, dialect_for

STANDING = "always-on"


class PyNNNetwork:
    """The populations and projections of a graph, to run, record and extend with PyNN.

    >>> import pyNN.nest as sim
    >>> sim.setup(timestep=1.0, min_delay=1.0, spike_precision="on_grid")
    >>> network = strop.build(graph, sim)
    >>> network.populations["dense_1"].record("spikes")
    >>> sim.run_until(network.present(frames))
    >>> network.populations["dense_1"].get_data("spikes")

    Parameters
    ----------
    graph : Graph
    sim : PyNN module or its name
        A module has been set up by the user. A name ("pyNN.nest") lets strop call `setup`.
    timestep : float, optional
        Length of a tick in ms, where strop sets up.
    options
        For PyNN's `setup`, where strop calls it; see the simulator's dialect.

    Attributes
    ----------
    sim : module
        The PyNN module.
    populations : dict of graph name to PyNN Population
        Labelled as in the graph. Spiking inputs are among them.
    projections : dict of (source, target) to PyNN Projection
        Projections that have no synapse, or that the host evaluates, are left out.
    drives : dict of graph name to what lets values into that population
        On NEST a `NodeCollection` of step_current_generators, one for each cell.
    dialect : Dialect
    """

    def __init__(self, graph: Graph, sim: ModuleType | str, timestep: float | None = None, **options: Any) -> None:
        self.graph = graph
        self.dialect: Dialect = dialect_for(sim)
        self.sim = self.dialect.sim
        self.played = played_nodes(graph)
        self._carried = [p for p in graph.projections if p.target not in self.played and not _analogue(graph, p.source)]
        self._require_memory()
        if isinstance(sim, str):
            tick = self.dialect.timestep if timestep is None else float(timestep)
            if not tick > 0:
                raise BackendError(f"{self.dialect.name}: timestep must be positive (ms), got {timestep!r}")
            longest = max((p.delay for p in self._carried), default=1) * self.dialect.ticks_per_step
            self.dialect.setup(tick, longest * tick, **options)
        elif options or timestep is not None:
            given = ", ".join(sorted({*options, *(["timestep"] if timestep is not None else [])}))
            raise BackendError(f"{sim.__name__} is set up already; the option(s) {given} come too late")
        self.dialect.check_setup()
        self._require_delays()
        self.dialect.check_load(graph, self._carried)
        self.kernel_mark = self.dialect.kernel_mark
        self.populations: dict[str, Any] = {}
        self.projections: dict[tuple[str, str], Any] = {}
        self.drives: dict[str, Any] = {}
        self._add_populations()
        for pair in dict.fromkeys((p.source, p.target) for p in self._carried):
            self._connect([p for p in self._carried if (p.source, p.target) == pair])
        self._add_standing_input()

    # Building
    # -----------------------------------------------------------------------------------------------------

    def _require_memory(self) -> None:
        largest = max(self._carried, key=lambda p: p.operator.synapse_count, default=None)
        if largest is None:
            return
        count = sum(p.operator.synapse_count for p in self._carried)
        require_memory(
            f"expanding {self.graph.name!r} into {count:,} {self.dialect.name} synapses "
            f"({largest.operator.synapse_count:,} of them {largest.source} -> {largest.target})",
            count * self.dialect.bytes_per_synapse,
            "Simulate it on the 'reference' backend, which keeps convolutions as they are",
        )

    def _require_delays(self) -> None:
        """Refuse a graph whose delays the simulator does not hold; before anything is built."""
        for p in self._carried:
            longest = self.dialect.longest_delay(self.graph.population(p.target))
            ticks = p.delay * self.dialect.ticks_per_step - self.dialect.latency + self.dialect.spread - 1
            if longest is not None and ticks > longest:
                raise BackendError(
                    f"{self.dialect.name}: spikes from {p.source!r} reach {p.target!r} after {ticks:,} ticks, the "
                    f"longest delay that it holds there is {longest:,}"
                )

    def _add_populations(self) -> None:
        graph = self.graph
        for node in graph.inputs:
            if node.spiking:
                size = int(np.prod(node.signal_shape, dtype=np.int64))
                self.populations[node.name] = self.dialect.sources(node.name, size)
        for population in graph.populations:
            if population.name in self.played:
                self.populations[population.name] = self.dialect.sources(population.name, population.size)
            else:
                self.populations[population.name] = self.dialect.units(population)
        for name in driven_populations(graph):
            self.drives[name] = self.dialect.drive(graph.population(name), self.populations[name])

    def _connect(self, members: list[Projection]) -> None:
        """Add all that leads from one node to another (a network may add up two ways) as one PyNN projection."""
        parts = zip(*(p.operator.to_coo() for p in members), strict=True)
        pre, post, weight = (np.concatenate(column) for column in parts)
        if len(pre) == 0:
            return
        p = members[0]
        ticks: Any = p.delay * self.dialect.ticks_per_step - self.dialect.latency
        if self.dialect.spread > 1:
            # What leaves later travels shorter: all that a unit gets of a frame reaches it in the tick in which it
            # answers.
            ticks = ticks + post % self.dialect.spread - pre % self.dialect.spread
        self.projections[p.source, p.target] = self.dialect.project(
            self.populations[p.source], self.populations[p.target], pre, post, weight, ticks
        )

    def _add_standing_input(self) -> None:
        """Give units what they need in every step, from one source that always spikes."""
        needed: dict[str, FloatArray] = {}
        for population in self.graph.populations:
            if population.name in self.played or population.name in self.drives:
                continue  # what drives a unit brings its bias, too
            weights = self.dialect.standing_weights(population)
            if weights is not None and weights.any():
                needed[population.name] = weights
        if not needed:
            return
        self.populations[STANDING] = self.dialect.sources(STANDING, 1)
        for name, weights in needed.items():
            post = np.flatnonzero(weights)
            # Sent one step ahead, as any other spike for that population.
            ticks = self.dialect.ticks_per_step - self.dialect.latency
            self.projections[STANDING, name] = self.dialect.project(
                self.populations[STANDING], self.populations[name], np.zeros_like(post), post, weights[post], ticks
            )

    # Running
    # ------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the simulator still holds this network: the next `setup()` drops it."""
        return self.dialect.kernel_mark is self.kernel_mark

    def present(self, frames: Any, start: int | None = None) -> float:
        """Play frames in, one per step, in place of those played before.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int, optional
            Tick in which the first frame enters; by default the first that is possible. Population P answers
            frame n at tick `start + (n + depth(P)) * ticks_per_step`, unit j of it `j % spread` ticks later.

        Returns
        -------
        float
            Time in ms at which the last population has answered, for `sim.run_until`.
        """
        signals = encode(self.graph, as_frames(self.graph, frames))
        return self.play(signals, start) * self.dialect.dt

    def play(self, signals: Mapping[str, npt.NDArray[Any]], start: int | None = None) -> int:
        """Play encoded frames in; returns the tick after the last answer."""
        dialect, graph = self.dialect, self.graph
        first = dialect.first_free_tick()
        if start is None:
            start = first
        elif start < first:
            raise BackendError(f"{dialect.name}: tick {start} is too early, the first that can be played is {first}")
        self.start = start
        count = len(next(iter(signals.values())))
        played = {**signals, **host_spikes(graph, signals)}
        for name in self.played:
            raster = np.asarray(played[name], dtype=np.bool_).reshape(count, -1)
            units, frames = np.nonzero(raster.T)
            ticks = start + (frames + graph.depth(name)) * dialect.ticks_per_step + units % dialect.spread
            dialect.play(self.populations[name], units, ticks)
        for name, values in driving_values(graph, signals).items():
            require_memory(
                f"driving the {values.shape[1]:,} units of {name!r} through {count:,} frames",
                values.size * dialect.bytes_per_value,
                "Run fewer frames at a time",
            )
            ticks = start + (np.arange(count, dtype=np.int64) + graph.depth(name)) * dialect.ticks_per_step
            dialect.inject(self.drives[name], values, ticks)
        if STANDING in self.populations:
            steps = np.arange(count + graph.total_depth, dtype=np.int64)
            dialect.play(self.populations[STANDING], np.zeros_like(steps), start + steps * dialect.ticks_per_step)
        return start + (count - 1 + graph.total_depth) * dialect.ticks_per_step + dialect.spread

    def answers(self, events: Mapping[str, Events], count: int) -> dict[str, npt.NDArray[np.bool_]]:
        """Sort recorded spikes by the frame that they answer.

        Returns
        -------
        dict of population name to bool array, shape (count, *shape)
        """
        graph, dialect = self.graph, self.dialect
        result = {}
        for name, (units, ticks) in events.items():
            population = graph.population(name)
            raster = np.zeros((count, population.size), dtype=np.bool_)
            step, late = np.divmod(ticks - self.start, dialect.ticks_per_step)
            frame = step - graph.depth(name)
            ours = (frame >= 0) & (frame < count) & (late == units % dialect.spread)
            raster[frame[ours], units[ours]] = True
            result[name] = raster.reshape(count, *population.shape)
        return result

    def __repr__(self) -> str:
        return (
            f"<PyNNNetwork of {self.graph.name!r} on {self.sim.__name__}: {len(self.populations)} populations, "
            f"{len(self.projections)} projections>"
        )


def _analogue(graph: Graph, name: str) -> bool:
    return any(node.name == name and not node.spiking for node in graph.inputs)
