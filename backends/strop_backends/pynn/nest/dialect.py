"""`NestDialect`: PyNN on NEST, `iaf_psc_delta` without memory, a frame per tick.

Read in NEST 3.10.0, `models/iaf_psc_delta.cpp` and `.h`, and tried out
(`tests/unit/pynn/test_nest_rules.py`):

* `update`: `V = P30 (y0 + I_e) + P33 V + spikes`, then the threshold: a spike iff `V >= V_th`, equality
  included; all of it in float64, relative to `E_L`, which is 0 here. Spikes that arrive in a step count in
  that step; the spike they cause is stamped with the same time, so that a delay of d ticks makes it d ticks
  later than its source's.
* `P33 = exp(-h / tau_m)` and `P30 = tau_m / C_m (1 - P33)`. With `tau_m = 2^-k <= h / 1024` the exponential
  underflows to exactly 0: nothing is left over from one step to the next, whether the neuron fired or not. With
  `C_m = tau_m`, a power of two, `P30` is exactly 1: `I_e` is the bias, and `V = bias + sum of weights` is
  what the oracle computes.
* `t_ref = 0` gives 0 refractory steps. `V_reset` must be below `V_th`; with `P33 = 0` its value is never
  seen.
* Weights are in mV and may have any sign; the delay is at least one tick.
* A current that arrives in a tick is kept in `y0` at the end of `update` and counts in the next tick. A
  `step_current_generator` sends one tick ahead, and its events take their delay of at least a tick
  (`models/step_current_generator.cpp`, `update`, read in an older version of NEST, tried out in 3.10): with an
  amplitude time of T ticks and a delay of one, the value counts in tick T + 2. `I_e + y0` is the oracle's
  `bias + sum W x`, one rounding of the same two numbers.
* Amplitude times must be positive, on the grid and strictly increasing (`validate_time_`); those that have passed
  are skipped without a warning, and `set` starts from the first again. The last amplitude stays.
* In `nest.Connect`, arrays of ids with the rule `one_to_one` take one weight per synapse; a parameter that is
  given in the synapse's defaults instead costs nothing per synapse (0.4 against 0.9 microseconds with the
  label as an array).

* Time is counted in tics, 1000 to a millisecond unless told otherwise; a resolution is a whole number of them
  (`nestkernel/simulation_manager.cpp`, `set_status`). `min_delay` and `max_delay` are rounded to steps by a product
  and a comparison of floats (`nestkernel/delay_checker.cpp`, `set_min_max_delay_`; `nest_time.cpp`, `fromstamp`), so
  that a `min_delay` of 0.7 at steps of 0.7 is none: they are set a little above and below their intended values.
* Settings of a kernel stay until `ResetKernel`, which takes nodes, copies of models and changed defaults away.
  Once there are nodes, resolution, tics, threads and waveform relaxation cannot be changed. The number of threads and
  the size of buffers change no spike, seeds do not come in; grid-based and precise neurons live side by side.
* `nest.Simulate` sorts the synapses.
* It updates a node for all ticks of a least delay in one call, then delivers their spikes
  (`nestkernel/simulation_manager.cpp`, `update_`): with a least delay of 16 ticks a LeNet takes half the time. So where
  strop sets NEST up to run frames, layers are 16 ticks apart (`layer_ticks`), which no other thing depends on: frames
  still enter in every tick, neurons have no memory, and all that reaches a neuron of a frame does so in one tick.

In PyNN 0.13, `pyNN/nest`:

* Weights, biases and a cell's potential need corrections: `strop_backends.pynn.nest.cells` and `projections`.
* A `SpikeSourceArray` is a `spike_generator` with a `parrot_neuron` behind it, whose delay of `min_delay` is
  taken off the times (`standardmodels/cells.py`, `adjust_spike_times_forward`). A generator cannot spike at
  time 0, so the first possible time is `min_delay + dt`. PyNN connects the two when `run` is called, with
  NEST's default synapse; here that is done at once, with a synapse of its own.
* `setup` makes generators' times precise by default (`control.py`); here times are whole ticks, rounded by NEST.
* `run` simulates one `min_delay` past what was asked for, so that recorders have received all spikes
  (`simulator.py`). `reset` goes on in NEST's time and keeps an offset; it sets sources back to what PyNN knows of
  them, which is nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np

from strop.errors import BackendError
from strop.graph import Graph, Population, Projection
from strop_backends.pynn.common.connector import SynapseArrays
from strop_backends.pynn.common.dialect import CLAIMS, Dialect, Events, FloatArray, IntArray, Synapses, by_neuron
from strop_backends.pynn.common.processes import NEST_WITHOUT_MPI
from strop_backends.pynn.nest.cells import cell_class, refuse_in_processes, settings
from strop_backends.pynn.nest.kernel import MARK, changed_settings, check_timestep, load, set_verbosity, verbosity
from strop_backends.pynn.nest.projections import (
    PLAIN_SYNAPSE,
    projection_class,
    refuse_many_synapses,
    small_synapse,
    synapse_class,
)
from strop_backends.pynn.nest.recorder import events_of, population_class
from strop_backends.pynn.nest.warning_filter import quiet_nest


class NestDialect(Dialect):
    """NEST 3.9 or newer through PyNN."""

    name: ClassVar[str] = "pynn-nest"
    how_to_let_go: ClassVar[str] = ", nest.ResetKernel()"
    # At the peak: in NEST (40), and the arrays that they are made from, sorted.
    bytes_per_synapse: ClassVar[int] = 100
    # A neuron and its row in NEST's tables (6,000), and the first 1,024 places of its synapses to the recorder.
    bytes_per_neuron: ClassVar[int] = 15_000

    # How much NEST said before strop set it up, and whether it overwrites files; PyNN's `setup` changes both.
    given: ClassVar[Any] = None

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        with quiet_nest():
            import nest
        self.nest = nest
        self.cell, self.synapse, self.projection = cell_class(sim), synapse_class(sim), projection_class(sim)
        self.population = population_class(sim)
        self._recorded: dict[str, tuple[int, int]] = {}
        self._recorder: Any = None

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.nest`."""
        return load()

    # Setting up
    # ---------------------------------------------------------------------------------------------------

    def setup(
        self,
        timestep: float,
        longest_delay: int,
        threads: int = 1,
        spread: int = 1,
        layer_ticks: int = 1,
        **options: Any,
    ) -> None:
        """Set NEST up.

        Parameters
        ----------
        threads : int
            Number of NEST's threads.
        layer_ticks : int
            Ticks from a layer to the next, which become NEST's least delay: it works through so many ticks of a neuron
            at a time, and delivers their spikes together. A frame enters in each tick all the same.
        spread : int
            As for SpiNNaker, to try it out where every spike can be seen; NEST itself gains nothing by it.
        options
            Go to PyNN's `setup`.
        """
        if not isinstance(threads, int) or threads < 1:
            raise BackendError(f"{self.name}: threads must be a positive integer, got {threads!r}")
        check_timestep(timestep)
        self.spread_over(spread)
        if isinstance(layer_ticks, bool) or not isinstance(layer_ticks, int) or layer_ticks < 1:
            raise BackendError(f"{self.name}: layer_ticks must be a positive number of ticks, got {layer_ticks!r}")
        if spread > 1 and layer_ticks > 1:
            raise BackendError(f"{self.name}: give spread or layer_ticks; with a spread, layers are that far apart")
        self.stretched = layer_ticks if layer_ticks > 1 else 0
        ticks = longest_delay * self.layer_ticks + spread - 1
        # NEST rounds the one down and the other up to whole steps; exactly on a step the result is not defined.
        least = self._hop + 0.001
        delays = {"min_delay": least * timestep, "max_delay": max(least, ticks - 0.25) * timestep}
        settings = {"spike_precision": "on_grid", "verbosity": "error", "threads": threads, **options}
        with quiet_nest():
            claim = CLAIMS.get(self.name)
            if claim is None or not self.holds(claim.mark):
                NestDialect.given = verbosity(self.nest), self.nest.overwrite_files
            self.sim.setup(timestep=timestep, **delays, **settings)

    def process_count(self) -> tuple[int, str]:
        """NEST's, which joins MPI where it was built with it."""
        with quiet_nest():
            return int(self.sim.simulator.state.num_processes), NEST_WITHOUT_MPI

    def check_setup(self, longest_delay: int) -> None:
        """Refuse precise spike times, and a least delay of more than a tick."""
        state = self.sim.simulator.state
        with quiet_nest():
            if state.spike_precision != "on_grid":
                raise BackendError(
                    f"pyNN.nest is set up with precise spike times (PyNN's default); {self._advice(longest_delay)}"
                )
            if round(state.min_delay / self.dt) != self._hop:
                raise BackendError(
                    f"pyNN.nest is set up with a least delay of {state.min_delay} ms, a graph needs one of a time step "
                    f"({self.dt:g} ms); {self._advice(longest_delay)}"
                )

    def _advice(self, longest_delay: int) -> str:
        step, longest = f"{self.dt:g}", f"{longest_delay * self.dt:g}"
        return (
            f"call sim.setup(timestep={step}, min_delay={step}, max_delay={longest}, spike_precision='on_grid'), "
            f"max_delay being the longest delay of this graph or more"
        )

    def advice_on_delays(self, longest_delay: int) -> str:
        """Name `max_delay`."""
        return self._advice(longest_delay)

    # Occupation of the kernel
    # ---------------------------------------------------------------------------------------------------

    @property
    def kernel_mark(self) -> object:
        """The name of a copied model, which `ResetKernel`, and so PyNN's `setup`, removes."""
        with quiet_nest():
            marks = [name for name in self.nest.node_models if name.startswith(MARK)]
            if not marks:
                marks.append(f"{MARK}{uuid4().hex}")
                self.nest.CopyModel("parrot_neuron", marks[0])
        return marks[0]

    def holds(self, mark: object) -> bool:
        """Whether the kernel has not been reset since."""
        return mark in self.nest.node_models

    def size(self) -> int:
        """NEST's nodes."""
        with quiet_nest():
            return int(self.nest.network_size)

    def occupant(self, settings: bool) -> str | None:
        """Nodes, or settings that `ResetKernel` would undo."""
        with quiet_nest():
            if self.nest.network_size:
                return f"{self.nest.network_size:,} nodes in NEST's kernel"
            if not settings:
                return None
            changed = changed_settings(self.nest)
        return f"settings of NEST's kernel ({', '.join(changed)})" if changed else None

    def release(self) -> None:
        """Leave a kernel as it is when NEST has been imported."""
        with quiet_nest():
            self.sim.end()
            self.nest.ResetKernel()
            if NestDialect.given is not None:
                level, self.nest.overwrite_files = NestDialect.given
                set_verbosity(self.nest, level)
                NestDialect.given = None

    def longest_delay(self, population: Population) -> int | None:
        """The `max_delay` of `setup`, the same for all populations."""
        with quiet_nest():
            return round(float(self.sim.simulator.state.max_delay) / self.dt)

    def check_load(self, graph: Graph, carried: Sequence[Projection]) -> None:
        """Refuse a projection of more synapses than NEST numbers: 2^27 - 1 for each thread and model of synapse."""
        if self.processes.size > 1:
            refuse_in_processes(graph, self.kernel_mark)
        with quiet_nest():
            refuse_many_synapses(carried, int(self.sim.simulator.state.threads))

    @property
    def _hop(self) -> int:
        """NEST's least delay in ticks: from a generator to its parrot, and to recorders."""
        return self.stretched or 1

    @property
    def _least_delay(self) -> float:
        return self._hop * self.dt

    @property
    def epoch(self) -> object:
        """PyNN's segment, a new one after each `reset`."""
        return self.sim.simulator.state.segment_counter

    @property
    def _offset(self) -> int:
        """Ticks that NEST had run when PyNN's time was set back to 0."""
        offset: float = self.sim.simulator.state._time_offset
        return round(offset / self.dt)

    def first_free_tick(self) -> int:
        """A generator spikes one tick from now at the earliest, its parrot the least delay later."""
        with quiet_nest():
            now: float = self.sim.simulator.state.t_kernel
        return round(now / self.dt) - self._offset + 1 + self._hop

    # Building
    # -----------------------------------------------------------------------------------------------------

    def sources(self, label: str, size: int) -> Any:
        """Spike generators with their parrots."""
        with quiet_nest():
            sources = self.population(size, self.sim.SpikeSourceArray(spike_times=[]), label=label)
            sources.node_collection_source.set(settings(self.nest, "spike_generator"))
            sources.node_collection.set(settings(self.nest, "parrot_neuron"))
            synapse = {**small_synapse(int(self.nest.network_size)), "delay": self._least_delay}
            self.nest.Connect(sources.node_collection_source, sources.node_collection, "one_to_one", synapse)
            # PyNN would connect them at the first run.
            sources._deferred_parrot_connections = False
        return sources

    def neurons(self, population: Population) -> Any:
        """`iaf_psc_delta` neurons without memory: `V = bias + input`, a spike iff `V >= threshold`."""
        threshold, bias = population.threshold.reshape(-1), population.bias.reshape(-1)
        tau = 2.0 ** math.floor(math.log2(self.dt / 1024))
        with quiet_nest():
            # cm is in nF: 2^-k / 1000 * 1000 is 2^-k again, because scaling by a power of two rounds nothing.
            cell = self.cell(cm=tau / 1000, tau_m=tau, v_rest=0.0, v_reset=-1.0, v_thresh=0.0, tau_refrac=0.0)
            neurons = self.population(population.size, cell, initial_values={"v": 0.0}, label=population.name)
            neurons.node_collection.set(settings(self.nest, "iaf_psc_delta"))
            reset = np.minimum(threshold, 0.0) - 1.0
            values = zip(reset.tolist(), threshold.tolist(), bias.tolist(), strict=True)
            # Lists by name would do in one process alone (`nest/lib/hl_api_types.py`, `NodeCollection.set`).
            neurons.node_collection.set([dict(zip(("V_reset", "V_th", "I_e"), own, strict=True)) for own in values])
        return neurons

    def drive(self, population: Population, neurons: Any) -> Any:
        """A `step_current_generator` for each cell: PyNN's own multiplies by 1000, which would round."""
        with quiet_nest():
            generators = self.nest.Create("step_current_generator", population.size)
            generators.set(settings(self.nest, "step_current_generator"))
            synapse = {**PLAIN_SYNAPSE, "delay": self._least_delay}
            self.nest.Connect(generators, neurons.node_collection, "one_to_one", synapse)
            # Stimulating devices are there once for each thread, each with its times and values.
            self.bytes_per_value = 32 + 16 * int(self.sim.simulator.state.threads)
        return generators

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Set the generators' amplitudes; see the module's docstring."""
        # After the last frame the generators are silent.
        ends = np.append(ticks, ticks[-1] + self.ticks_per_step) - 1 - self._hop
        with quiet_nest():
            times = [(ends + late + self._offset) * self.dt for late in range(self.spread)]
            drive.set(
                [
                    {"amplitude_times": times[neuron % self.spread], "amplitude_values": np.append(column, 0.0)}
                    for neuron, column in enumerate(values.T)
                ]
            )

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """Whole arrays to `nest.Connect`."""
        delay = ticks * self.dt
        with quiet_nest():
            return self.projection(
                source,
                target,
                SynapseArrays(pre, post, weight, delay),
                self.synapse(weight=0.0, delay=float(np.max(delay))),
                label=f"{source.label}->{target.label}",
            )

    def play(self, population: Any, neurons: IntArray, ticks: IntArray) -> None:
        """Set the generators' times, in NEST itself."""
        with quiet_nest():
            # Whole ticks first: the difference of two times need not be a time of the grid.
            times = (ticks - self._hop + self._offset) * self.dt
            parts = by_neuron(neurons, times, population.size)
            population.node_collection_source.set([{"spike_times": part} for part in parts])

    def reset(self, ticks: int) -> None:
        """PyNN's `reset`, after all spikes under way have arrived."""
        state = self.sim.simulator.state
        given = state.t_flush
        try:
            with quiet_nest(), warnings.catch_warnings():
                # PyNN cannot promise a full reset in general; neurons without memory have one.
                warnings.filterwarnings("ignore", message="Full reset functionality is not available")
                state.t_flush = max(given, (ticks + 2) * self.dt)
                self.sim.reset()
        finally:
            state.t_flush = given

    def read_weights(self, projection: Any) -> Synapses:
        """NEST's own values."""
        found = projection.nest_connections
        pre, post, weights = projection._columns(["weight"], found)

        def write(values: FloatArray) -> None:
            with quiet_nest():
                found.set([{"weight": value} for value in values.tolist()])

        return Synapses(pre.astype(np.int64), post.astype(np.int64), weights, write)

    def make_recorder(self) -> None:
        """One recorder for all; of a low number, so that its synapses are small."""
        with quiet_nest():
            self._recorder = self.nest.Create("spike_recorder", params=settings(self.nest, "spike_recorder"))

    def record(self, populations: Mapping[str, Any]) -> None:
        """Connect the recorder to all."""
        if self._recorder is None:
            self.make_recorder()
        with quiet_nest():
            synapse = {**small_synapse(int(self._recorder.tolist()[0])), "delay": self._least_delay}
            for name, population in populations.items():
                self.nest.Connect(population.node_collection, self._recorder, syn_spec=synapse)
                # The ids of one population follow each other (`nestkernel/node_manager.cpp`, `add_node`).
                self._recorded[name] = (int(population.all_cells[0]), population.size)

    def take(self) -> dict[str, Events]:
        """Read the recorder's arrays."""
        senders, ticks = events_of(self._recorder, self.dt)
        ticks -= self._offset
        found = {}
        for name, (first, size) in self._recorded.items():
            ours = (senders >= first) & (senders < first + size)
            found[name] = (senders[ours] - first, ticks[ours])
        return found

    def run_until(self, tick: int) -> None:
        """Simulate up to `tick`; an error of NEST's becomes a `BackendError`."""
        with quiet_nest():
            try:
                super().run_until(tick)
            except self.nest.NESTError as error:
                raise BackendError(f"NEST stopped: {error}") from error
