"""`PyNNNetwork`: a graph as PyNN populations and projections. Differences of simulators are in their `Dialect`.

`SpikeSourceArray`s send the input spikes, and under the host encoding those of the first layer; all other populations
are cells of the simulator. The host sums up input values (encoding `current`) and injects them, one value per cell and
step. A projection with a delay of d steps in the graph has one of `d * ticks_per_step - latency` ticks here, so that
all spikes of a frame arrive at a population together. Where the spikes of a frame are spread over k ticks, neuron j of
each population answers `j % k` ticks later, and the delays of its synapses are longer by that, less the lateness of
their sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph, Projection, synapses_of
from strop.graph.capacity import require_memory
from strop.running.backend import Pair, checked_weights
from strop.running.encode import as_frames, encode
from strop.running.oracle import host_spikes
from strop.running.stimulus import analogue_inputs, current_driven_populations, input_currents, stimulus_nodes
from strop_backends.pynn.common.dialect import Dialect, Events, FloatArray, SimulatorInUseError, Synapses, dialect_for
from strop_backends.pynn.common.gathering import all_synapses, is_recorded, recorded_events
from strop_backends.pynn.common.waves import Waves

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
    disposable : bool
        Whether the network may be lost to the next one that strop sets up.

    Attributes
    ----------
    sim : module
        The PyNN module.
    populations : dict of graph name to PyNN Population
        Labelled as in the graph. Spiking inputs are among them.
    projections : dict of (source, target) to PyNN Projection
        Projections that have no synapse, or that the host evaluates, are left out.
    drives : dict of graph name to the devices that inject values into that population
        On NEST a `NodeCollection` of step_current_generators, one for each cell.
    dialect : Dialect
    processes : Processes
        One, or those that `mpirun` started: each has a part of the cells, and makes the same calls as the others.
    start, count : int
        Tick in which the first of the frames last presented enters, and how many they are.
    """

    def __init__(
        self,
        graph: Graph,
        sim: ModuleType | str,
        timestep: float | None = None,
        disposable: bool = False,
        **options: Any,
    ) -> None:
        self.graph = graph
        self.dialect: Dialect = dialect_for(sim)
        self.sim = self.dialect.sim
        self.processes = self.dialect.join()
        self.played = stimulus_nodes(graph)
        values = analogue_inputs(graph)
        self._carried = [p for p in graph.projections if p.target not in self.played and p.source not in values]
        with self.processes.agreed():
            self._require_memory()
        longest = max((p.delay for p in self._carried), default=1)
        if not isinstance(sim, str):
            if options or timestep is not None:
                given = ", ".join(sorted({*options, *(["timestep"] if timestep is not None else [])}))
                raise BackendError(f"{sim.__name__} is set up already; the option(s) {given} come too late")
            with self.processes.agreed():
                self._build(longest)
            return
        self._set_up(longest, timestep, disposable, options)
        try:
            with self.processes.agreed():
                self._build(longest)
        except BaseException:
            # No caller gets a network that is half built.
            self.dialect.release()
            raise
        self.dialect.claim(disposable)

    # Building
    # -----------------------------------------------------------------------------------------------------

    def _build(self, longest: int) -> None:
        self.dialect.check_setup(self._ticks(longest))
        self._require_delays()
        self.dialect.check_load(self.graph, self._carried)
        self.kernel_mark: object = self.dialect.kernel_mark
        self.populations: dict[str, Any] = {}
        self.projections: dict[tuple[str, str], Any] = {}
        self.drives: dict[str, Any] = {}
        self._known: dict[Pair, FloatArray] = {}
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
        require_memory(
            f"expanding {self.graph.name!r} into {count:,} {self.dialect.name} synapses "
            f"({largest.operator.synapse_count:,} of them {largest.source} -> {largest.target})",
            kept + round(count * self.dialect.bytes_per_synapse * self.processes.share),
            "Simulate it on the 'reference' backend, which keeps convolutions as they are",
        )

    def _set_up(self, longest: int, timestep: float | None, disposable: bool, options: dict[str, Any]) -> None:
        """Call PyNN's `setup`, unless that would drop a network of the user's."""
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
        dialect.setup(tick, longest, **options)

    def _ticks(self, delay: int) -> int:
        """Return the longest delay in ticks of a projection whose delay in the graph is `delay` steps."""
        return delay * self.dialect.ticks_per_step - self.dialect.latency + self.dialect.spread - 1

    def _require_delays(self) -> None:
        """Refuse a graph with delays that are too long for the simulator; before anything is built."""
        for p in self._carried:
            longest = self.dialect.longest_delay(self.graph.population(p.target))
            ticks = self._ticks(p.delay)
            if longest is not None and ticks > longest:
                advice = self.dialect.advice_on_delays(max(self._ticks(q.delay) for q in self._carried))
                raise BackendError(
                    f"{self.dialect.name}: spikes from {p.source!r} reach {p.target!r} after {ticks:,} ticks, the "
                    f"longest delay that it holds there is {longest:,}" + (f"; {advice}" if advice else "")
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
                self.populations[population.name] = self.dialect.neurons(population)
        for name in current_driven_populations(graph):
            self.drives[name] = self.dialect.drive(graph.population(name), self.populations[name])

    def _connect(self, members: list[Projection]) -> None:
        """Add all projections from one node to another (a graph may have several) as one PyNN projection."""
        parts = zip(*(p.operator.to_coo() for p in members), strict=True)
        pre, post, weight = (np.concatenate(column) for column in parts)
        if len(pre) == 0:
            return
        p = members[0]
        ticks: Any = p.delay * self.dialect.ticks_per_step - self.dialect.latency
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
        for population in self.graph.populations:
            if population.name in self.played or population.name in self.drives:
                continue  # the injected values contain the bias
            weights = self.dialect.standing_weights(population)
            # Also where bias and lift cancel: either may be changed later.
            if weights is not None and (weights.any() or population.bias.any()):
                needed[population.name] = weights
        if not needed:
            return
        self.populations[STANDING] = self.dialect.sources(STANDING, 1)
        for name, weights in needed.items():
            post = np.flatnonzero((weights != 0) | (self.graph.population(name).bias.reshape(-1) != 0))
            # Sent one step ahead, as all other spikes to that population.
            ticks = self.dialect.ticks_per_step - self.dialect.latency
            neurons = self.populations[name]
            projection = self.dialect.project(
                self.populations[STANDING], neurons, np.zeros_like(post), post, weights[post], ticks
            )
            self.dialect.attach_standing(neurons, projection, post)
            self.projections[STANDING, name] = projection

    # Running
    # ------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the simulator still holds this network: the next `setup()`, or NEST's `ResetKernel()`, drops it."""
        return self.kernel_mark is not None and self.dialect.holds(self.kernel_mark)

    def _require_alive(self) -> None:
        if not self.alive:
            raise BackendError(
                f"{self.dialect.name} no longer holds this network of {self.graph.name!r}: the simulator has been set "
                "up or reset since (sim.setup(), nest.ResetKernel(), strop.build by name). Build it again: "
                "strop.build(graph, sim)"
            )

    def record(self, *names: str) -> None:
        """Let PyNN record the spikes of these populations, of all cells if none is named; see `spikes`."""
        self._require_alive()
        for name in names or self.graph.population_names:
            if name not in self.played and not is_recorded(self.populations[name]):
                self.populations[name].record("spikes")

    def present(self, frames: Any, start: int | None = None) -> float:
        """Present frames, one per step, after those presented before.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int, optional
            Tick in which the first frame enters; by default the first that is possible, after the frames that are
            still to enter. Population P answers frame n at tick `start + (n + depth(P)) * ticks_per_step`, neuron j of
            it `j % spread` ticks later. After PyNN's `reset` time begins anew, and nothing is left to enter.

        Returns
        -------
        float
            Time in ms at which the last population has answered, for `sim.run_until`.

        Raises
        ------
        BackendError
            If the simulator no longer holds the network, if one of its settings would make spikes wrong, or if a frame
            would enter in the past or between frames presented before.
        """
        signals = encode(self.graph, as_frames(self.graph, frames))
        return self.play(signals, start) * self.dialect.dt

    def play(self, signals: Mapping[str, npt.NDArray[Any]], start: int | None = None) -> int:
        """Present encoded frames; return the tick after the last answer."""
        with self.processes.agreed():
            return self._play(signals, start)

    def _play(self, signals: Mapping[str, npt.NDArray[Any]], start: int | None) -> int:
        self._require_alive()
        dialect, graph = self.dialect, self.graph
        dialect.check_surroundings()
        count = len(next(iter(signals.values())))
        end = (count - 1 + graph.total_depth) * dialect.ticks_per_step + dialect.spread
        self.start, self.count = self._waves.reserve(start, count, end), count
        played = {**signals, **host_spikes(graph, signals)}
        for name in self.played:
            raster = np.asarray(played[name], dtype=np.bool_).reshape(count, -1)
            neurons, frames = np.nonzero(raster.T)
            ticks = self.start + (frames + graph.depth(name)) * dialect.ticks_per_step + neurons % dialect.spread
            dialect.play(self.populations[name], *self._waves.spikes(name, neurons, ticks))
        for name, values in input_currents(graph, signals).items():
            require_memory(
                f"driving the {values.shape[1]:,} neurons of {name!r} through {count:,} frames",
                values.size * dialect.bytes_per_value,
                "Run fewer frames at a time",
            )
            ticks = self.start + (np.arange(count, dtype=np.int64) + graph.depth(name)) * dialect.ticks_per_step
            dialect.inject(self.drives[name], *self._waves.values(name, values, ticks))
        if STANDING in self.populations:
            ticks = self.start + np.arange(count + graph.total_depth, dtype=np.int64) * dialect.ticks_per_step
            dialect.play(self.populations[STANDING], *self._waves.spikes(STANDING, np.zeros_like(ticks), ticks))
        return self.start + end

    def reset(self) -> None:
        """Set PyNN's time back to 0, as `sim.reset()` does; no spike is under way then, and weights, thresholds and
        biases keep their values."""
        self._require_alive()
        weights = self.weights() if self.dialect.reset_restores else {}
        self.dialect.reset(self._ticks(self.graph.total_depth + 1) + self._waves.remaining())
        self.set_weights(weights)

    # Weights
    # ------------------------------------------------------------------------------------------------------

    def _synapses(self, pair: Pair) -> Synapses:
        return all_synapses(self.dialect.read_weights(self.projections[pair]), self.processes)

    def weights(self) -> dict[Pair, FloatArray]:
        """Return the weights that the simulator has now, in the graph's units of measure; see
        `strop.running.backend.Runner.weights`."""
        self._require_alive()
        found: dict[Pair, FloatArray] = {}
        for pair, known in self._known.items():
            pre, post, _ = synapses_of(self.graph, *pair)
            now = self._synapses(pair)
            weights = np.empty(len(known))
            # Several synapses between two cells are told apart by their weights, as read or written last.
            weights[np.lexsort((known, post, pre))] = now.weights[np.lexsort((now.weights, now.post, now.pre))]
            found[pair] = weights
        return found

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights in the simulator; see `strop.running.backend.Runner.set_weights`."""
        self._require_alive()
        checked = checked_weights(weights, self._known, self.dialect.name)
        for pair, values in checked.items():
            pre, post, _ = synapses_of(self.graph, *pair)
            now = self._synapses(pair)
            ordered = np.empty(len(values))
            order = np.lexsort((self._known[pair], post, pre))
            ordered[np.lexsort((now.weights, now.post, now.pre))] = values[order]
            now.write(ordered)
            self._known[pair] = values

    def spikes(self, count: int | None = None, start: int | None = None) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the answers to each frame of the populations that PyNN records; in several processes, in each of them.

        >>> network.record()
        >>> sim.run_until(network.present(frames))
        >>> network.spikes()["dense_1"].shape  # (n, *shape)

        Parameters
        ----------
        count, start : int, optional
            How many frames, the first of which entered in tick `start`; by default those of the last `present`.

        Returns
        -------
        dict of population name to bool array, shape (count, *shape)
        """
        self._require_alive()
        simulated = {name: self.populations[name] for name in self.graph.population_names if name not in self.played}
        events = recorded_events(simulated, self.dialect.dt, self.processes)
        return self.answers(events, self.count if count is None else count, start)

    def answers(
        self, events: Mapping[str, Events], count: int, start: int | None = None
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Sort recorded spikes by the frame that they answer, for frames that entered from tick `start` on.

        Returns
        -------
        dict of population name to bool array, shape (count, *shape)
        """
        graph, dialect = self.graph, self.dialect
        result = {}
        for name, (neurons, ticks) in events.items():
            population = graph.population(name)
            raster = np.zeros((count, population.size), dtype=np.bool_)
            step, late = np.divmod(ticks - (self.start if start is None else start), dialect.ticks_per_step)
            frame = step - graph.depth(name)
            ours = (frame >= 0) & (frame < count) & (late == neurons % dialect.spread)
            raster[frame[ours], neurons[ours]] = True
            result[name] = raster.reshape(count, *population.shape)
        return result

    def close(self) -> None:
        """Drop the network and let go of the simulator, so that others can be built in this process."""
        if self.alive:
            self.dialect.release()

    def __repr__(self) -> str:
        counts = f"{len(self.populations)} populations, {len(self.projections)} projections"
        return f"<PyNNNetwork of {self.graph.name!r} on {self.sim.__name__}: {counts}>"
