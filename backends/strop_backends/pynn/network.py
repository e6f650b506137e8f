"""`PyNNNetwork`: a graph as PyNN populations and projections, to present frames to, record, and change weights of.

`strop_backends.pynn.construction` builds it; differences of simulators are in their `Dialect`. The host sums up input
values (encoding `current`) and injects them, one value per cell and step. Frames are dealt out to the copies of the
graph (`strop_backends.pynn.copies`), and their answers put back in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import synapses_of
from strop.graph.capacity import require_memory
from strop.running.backend import Pair, checked_weights
from strop.running.encode import as_frames, encode
from strop.running.oracle import host_spikes
from strop.running.stimulus import input_currents
from strop_backends.pynn.common.dialect import Events, FloatArray, Synapses
from strop_backends.pynn.common.gathering import all_synapses, is_recorded, recorded_events
from strop_backends.pynn.common.recorders import Window, require_answers
from strop_backends.pynn.construction import STANDING, Construction
from strop_backends.pynn.copies import deal, of_all_copies, of_the_graph, steps_of


class PyNNNetwork(Construction):
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
    copies : int or "fill"
        How many copies of the graph stand side by side: frame i goes to copy `i % copies`, and so many frames enter in
        each step. "fill": as many as a SpiNNaker board of 48 chips holds.

    Attributes
    ----------
    sim : module
        The PyNN module.
    populations : dict of name to PyNN Population
        Labelled as in the graph, `NAME@1`, `NAME@2`, ... in the second copy, the third, ... Spiking inputs are among
        them.
    projections : dict of (source, target) to PyNN Projection
        Projections that have no synapse, or that the host evaluates, are left out.
    drives : dict of name to the devices that inject values into that population
        On NEST a `NodeCollection` of step_current_generators, one for each cell.
    dialect : Dialect
    copies : int
    processes : Processes
        One, or those that `mpirun` started: each has a part of the cells, and makes the same calls as the others.
    start, count : int
        Tick in which the first of the frames last presented enters, and how many they are.
    """

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
        answering = self.answering
        for name in names or self.graph.population_names:
            for own in self.of_each_copy(name):
                if own in answering and not is_recorded(answering[own]):
                    answering[own].record("spikes")

    def present(self, frames: Any, start: int | None = None) -> float:
        """Present frames, one per step, after those presented before.

        Parameters
        ----------
        frames : array, shape (n, *input_shape)
            As for `strop.simulate`.
        start : int, optional
            Tick in which the first frame enters; by default the first that is possible, after the frames that are
            still to enter. Population P answers frame n at tick
            `start + n // copies * ticks_per_step + depth(P) * layer_ticks` (both of `dialect`), in copy `n % copies`,
            neuron j of it `j % spread` ticks later. After PyNN's `reset` time begins anew, and
            nothing is left to enter.

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
        steps = steps_of(count, self.copies)
        across = graph.total_depth * dialect.layer_ticks
        end = (steps - 1) * dialect.ticks_per_step + across + dialect.spread
        self.start, self.count = self._waves.reserve(start, steps, end), count
        played = {**signals, **host_spikes(graph, signals)}
        for name in self.played:
            raster = np.asarray(played[name], dtype=np.bool_).reshape(count, -1)
            for own, part in zip(self.of_each_copy(name), deal(raster, self.copies), strict=True):
                neurons, frames = np.nonzero(part.T)
                ticks = self._answer_tick(frames, graph.depth(name)) + neurons % dialect.spread
                dialect.play(self.populations[own], *self._waves.spikes(own, neurons, ticks))
        for name, values in input_currents(graph, signals).items():
            require_memory(
                f"driving the {values.shape[1]:,} neurons of {name!r} through {count:,} frames",
                values.size * dialect.bytes_per_value,
                "Run fewer frames at a time",
            )
            for own, part in zip(self.of_each_copy(name), deal(values, self.copies), strict=True):
                ticks = self._answer_tick(np.arange(len(part), dtype=np.int64), graph.depth(name))
                due = self._waves.values(own, part, ticks)
                # A copy that gets no frame stays silent, as it is after its last one.
                if len(due[1]):
                    dialect.inject(self.drives[own], *due)
        if STANDING in self.populations:
            ticks = self.start + np.arange(0, end, dialect.ticks_per_step, dtype=np.int64)
            dialect.play(self.populations[STANDING], *self._waves.spikes(STANDING, np.zeros_like(ticks), ticks))
        return self.start + end

    def _answer_tick(self, steps: npt.NDArray[np.int64], depth: int) -> npt.NDArray[np.int64]:
        """Return when a population answers the frames that enter at these steps."""
        return self.start + steps * self.dialect.ticks_per_step + depth * self.dialect.layer_ticks

    def reset(self) -> None:
        """Set PyNN's time back to 0, as `sim.reset()` does; no spike is under way then, and weights, thresholds and
        biases keep their values."""
        self._require_alive()
        weights = self._read_weights() if self.dialect.reset_restores else {}
        self.dialect.reset(self._ticks(self.graph.total_depth + 1) + self._waves.remaining())
        self._write_weights(weights)

    # Weights
    # ------------------------------------------------------------------------------------------------------

    def _synapses(self, pair: Pair) -> Synapses:
        return all_synapses(self.dialect.read_weights(self.projections[pair]), self.processes)

    def weights(self) -> dict[Pair, FloatArray]:
        """Return the weights that the simulator has now, in the graph's units of measure, the same in all copies; see
        `strop.running.backend.Runner.weights`."""
        self._require_alive()
        return of_the_graph(self._read_weights(), self._pairs, self.copies, self.dialect.name)

    @property
    def _pairs(self) -> list[Pair]:
        """The graph's projections that have synapses here: those of the first copy."""
        return list(self._known)[: len(self._known) // self.copies]

    def _read_weights(self) -> dict[Pair, FloatArray]:
        found: dict[Pair, FloatArray] = {}
        for pair, known in self._known.items():
            pre, post, _ = synapses_of(self._tiled, *pair)
            now = self._synapses(pair)
            weights = np.empty(len(known))
            # Several synapses between two cells are told apart by their weights, as read or written last.
            weights[np.lexsort((known, post, pre))] = now.weights[np.lexsort((now.weights, now.post, now.pre))]
            found[pair] = weights
        return found

    def set_weights(self, weights: Mapping[Pair, npt.NDArray[np.floating[Any]]]) -> None:
        """Change weights in the simulator, in all copies; see `strop.running.backend.Runner.set_weights`."""
        self._require_alive()
        present = {pair: self._known[pair] for pair in self._pairs}
        self._write_weights(of_all_copies(checked_weights(weights, present, self.dialect.name), self.copies))

    def _write_weights(self, weights: Mapping[Pair, FloatArray]) -> None:
        for pair, values in weights.items():
            pre, post, _ = synapses_of(self._tiled, *pair)
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
            Of the populations of which PyNN records all cells.

        Raises
        ------
        BackendError
            If not all answers have been recorded: too early, or because recording began, or was cleared, in between.
        """
        self._require_alive()
        count, start = self.count if count is None else count, self.start if start is None else start
        with self.processes.agreed():
            self.dialect.check_answers()
            self._require_recorded(count, start)
        return self.answers(recorded_events(self.answering, self.dialect.dt, self.processes), count, start)

    def _require_recorded(self, count: int, start: int) -> None:
        """Refuse to call neurons silent that have not answered yet, or whose spikes were not all recorded."""
        recorded = {name: own for name, own in self.answering.items() if is_recorded(own)}
        if self.processes.size == 1 and self.answering and not recorded:
            raise BackendError(
                f"{self.dialect.name}: PyNN records all spikes of no population; call network.record() before sim.run()"
            )
        if count < 1:
            raise BackendError(f"{self.dialect.name}: no frames have been presented to {self.graph.name!r}")
        dialect, late = self.dialect, (steps_of(count, self.copies) - 1) * self.dialect.ticks_per_step
        windows = {}
        for population in self.graph.populations:
            first = start + self.graph.depth(population.name) * dialect.layer_ticks
            window = Window(first, first + late + min(population.size, dialect.spread) - 1)
            windows.update(dict.fromkeys(self.of_each_copy(population.name), window))
        end = start + late + self.graph.total_depth * dialect.layer_ticks + dialect.spread
        require_answers(dialect, recorded, windows, self._waves.segment, end)

    def answers(
        self, events: Mapping[str, Events], count: int, start: int | None = None
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Sort recorded spikes by the frame that they answer, for frames that entered from tick `start` on.

        Returns
        -------
        dict of population name to bool array, shape (count, *shape)
            Of the populations whose copies all have events.
        """
        result = {}
        for population in self.graph.populations:
            own = self.of_each_copy(population.name)
            if all(name in events for name in own):
                raster = np.zeros((count, population.size), dtype=np.bool_)
                for name, part in zip(own, deal(raster, self.copies), strict=True):
                    self._mark(part, events[name], self.graph.depth(population.name), start)
                result[population.name] = raster.reshape(count, *population.shape)
        return result

    def _mark(self, raster: npt.NDArray[np.bool_], events: Events, depth: int, start: int | None) -> None:
        """Set the spikes of one population of one copy in `raster`, shape (frames of that copy, neurons)."""
        (neurons, ticks), dialect = events, self.dialect
        since = ticks - (self.start if start is None else start) - depth * dialect.layer_ticks
        frame, late = np.divmod(since, dialect.ticks_per_step)
        ours = (frame >= 0) & (frame < len(raster)) & (late == neurons % dialect.spread)
        raster[frame[ours], neurons[ours]] = True
        if np.count_nonzero(raster) != np.count_nonzero(ours):
            raise BackendError(
                f"{dialect.name}: a neuron has been recorded twice in one tick, so the clock has been set back while "
                "frames were under way (nest.biological_time = 0). sim.setup(), build the network again, and use "
                "network.reset()"
            )

    def close(self) -> None:
        """Drop the network and let go of the simulator, so that others can be built in this process."""
        if self.alive:
            self.dialect.release()

    def __repr__(self) -> str:
        counts = f"{len(self.populations)} populations, {len(self.projections)} projections"
        return f"<PyNNNetwork of {self.graph.name!r} on {self.sim.__name__}: {counts}>"
