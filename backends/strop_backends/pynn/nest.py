"""PyNN on NEST: `iaf_psc_delta` without memory, a frame per tick.

Read in NEST 3.10.0, `models/iaf_psc_delta.cpp` and `.h`, and tried out
(`tests/unit/pynn/test_nest_rules.py`):

* `update`: `V = P30 (y0 + I_e) + P33 V + spikes`, then the threshold: a spike iff `V >= V_th`, equality
  included; all of it in float64, relative to `E_L`, which is 0 here. Spikes that arrive in a step decide in
  that step; the spike they cause is stamped with the same time, so that a delay of d ticks makes it d ticks
  later than its source's.
* `P33 = exp(-h / tau_m)` and `P30 = tau_m / C_m (1 - P33)`. With `tau_m = 2^-k <= h / 1024` the exponential
  underflows to exactly 0: nothing is left over from one step to the next, whether the unit fired or not. With
  `C_m = tau_m`, a power of two, `P30` is exactly 1: `I_e` is the bias, and `V = bias + sum of weights` is
  what the oracle computes.
* `t_ref = 0` gives 0 refractory steps. `V_reset` must be below `V_th`; with `P33 = 0` its value is never
  seen.
* Weights are in mV and may have any sign; the delay is at least one tick.
* A current that arrives in a tick is kept in `y0` at the end of `update` and counts in the next tick. A
  `step_current_generator` sends one tick ahead, and its events take their delay of at least a tick
  (`models/step_current_generator.cpp`, `update`, read in an older version of NEST, tried out in 3.10): with an
  amplitude time of T ticks and a delay of one, the value decides in tick T + 2. `I_e + y0` is the oracle's
  `bias + sum W x`, one rounding of the same two numbers.
* Amplitude times must be positive, on the grid and strictly increasing (`validate_time_`); those that have passed
  are skipped without a word, and `set` starts from the first again. The last amplitude stays.
* In `nest.Connect`, arrays of ids with the rule `one_to_one` take one weight per synapse; a parameter that is
  given in the synapse's defaults instead costs nothing per synapse (0.4 against 0.9 microseconds with the
  label as an array).

In PyNN 0.13, `pyNN/nest`:

* Weights are multiplied by 1000 and, for the delta cell, by `receptor_scale = 1e-3` (`projections.py`,
  `standardmodels/cells.py`): two roundings, so arrays go in without PyNN's translation. `Projection.get`
  undoes the first factor alone and answers in thousandths of mV; `DeltaProjection` answers in mV.
* `IF_curr_delta` names no `variable_map`, so its initial `v` cannot be set (a warning for each population)
  and `v` cannot be recorded; `DeltaCell` names it.
* A `SpikeSourceArray` is a `spike_generator` with a `parrot_neuron` behind it, whose delay of `min_delay` is
  taken off the times (`standardmodels/cells.py`, `adjust_spike_times_forward`). A generator cannot spike at
  time 0, so the first time that can be played is `min_delay + dt`.
* `run` simulates one `min_delay` past what was asked for, so that recorders have got everything
  (`simulator.py`).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph, Population, Projection
from strop_backends.pynn.connector import WAYS, SynapseArrays
from strop_backends.pynn.dialect import Dialect, Events, FloatArray, IntArray, by_unit

# 27 bits number the synapses of a model on a thread, and the last number means none (`nestkernel/nest_types.h`,
# `NUM_BITS_LCID`, `invalid_lcid`).
_MOST_SYNAPSES = 2**27 - 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what PyNN 0.13 makes NEST 3.10 warn of at every call, and what no user of strop can act
    on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Provided for backward compatibility only")
        warnings.filterwarnings("ignore", message=r"\s*(Get|Set)Status\(\) is deprecated")
        warnings.filterwarnings(
            "ignore", message=r"Cannot find nest-config|Problem running cmake|Unable to (compile|install)"
        )
        yield


def load() -> ModuleType:
    """Import `pyNN.nest` without NEST's banner on standard output."""
    given = os.environ.get("PYNEST_QUIET")
    os.environ["PYNEST_QUIET"] = "1"
    try:
        with _quiet():
            import pyNN.nest
    finally:
        if given is None:
            del os.environ["PYNEST_QUIET"]
    module: ModuleType = pyNN.nest
    return module


class NestDialect(Dialect):
    """NEST 3.9 or newer through PyNN."""

    name: ClassVar[str] = "pynn-nest"
    # What NEST keeps (40), the arrays in its units of ids, and the three that they are made from, sorted.
    bytes_per_synapse: ClassVar[int] = 40 + 16 + 48

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        with _quiet():
            import nest
        self.nest = nest
        self.cell, self.projection = _classes(sim)
        self._recorded: dict[str, tuple[int, int]] = {}
        self._recorder: Any = None

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.nest`."""
        return load()

    def setup(self, timestep: float, longest_delay: float, threads: int = 1, spread: int = 1, **options: Any) -> None:
        """Set NEST up.

        Parameters
        ----------
        threads : int
            Number of NEST's threads.
        spread : int
            As for SpiNNaker, to try it out where every spike can be seen; NEST itself gains nothing by it.
        options
            Go to PyNN's `setup`.
        """
        if not isinstance(threads, int) or threads < 1:
            raise BackendError(f"{self.name}: threads must be a positive integer, got {threads!r}")
        self.spread_over(spread)
        longest_delay = longest_delay * spread + (spread - 1) * timestep
        settings = {"spike_precision": "on_grid", "verbosity": "error", "threads": threads, **options}
        with _quiet():
            self.sim.setup(timestep=timestep, min_delay=timestep, max_delay=longest_delay, **settings)

    def check_setup(self) -> None:
        """Refuse precise spike times, and a least delay of more than a tick."""
        state = self.sim.simulator.state
        with _quiet():
            if state.spike_precision != "on_grid":
                raise BackendError(
                    "pyNN.nest is set up with precise spike times; call sim.setup(..., spike_precision='on_grid')"
                )
            if state.min_delay > self.dt:
                raise BackendError(
                    f"pyNN.nest is set up with a least delay of {state.min_delay} ms, a graph needs one of a time step "
                    f"({self.dt} ms); call sim.setup(timestep={self.dt}, min_delay={self.dt})"
                )

    def longest_delay(self, population: Population) -> int | None:
        """What `setup` was told, the same for all."""
        with _quiet():
            return round(float(self.sim.simulator.state.max_delay) / self.dt)

    def check_load(self, graph: Graph, carried: Sequence[Projection]) -> None:
        """Refuse a projection of more synapses than NEST numbers: 2^27 - 1 for each thread and model of synapse."""
        with _quiet():
            limit = _MOST_SYNAPSES * int(self.sim.simulator.state.threads)
        for p in carried:
            count = p.operator.synapse_count
            if count > limit:
                raise BackendError(
                    f"{self.name}: {count:,} synapses lead from {p.source!r} to {p.target!r}, NEST holds {limit:,} of "
                    "one kind on this number of threads; give it more (threads=N)"
                )

    def first_free_tick(self) -> int:
        """A generator spikes one tick from now at the earliest, its parrot one least delay later."""
        state = self.sim.simulator.state
        with _quiet():
            now: float = state.t_kernel - state._time_offset
            return round((now + float(state.min_delay)) / self.dt) + 1

    def sources(self, label: str, size: int) -> Any:
        """Spike generators with their parrots."""
        with _quiet():
            return super().sources(label, size)

    def units(self, population: Population) -> Any:
        """`iaf_psc_delta` units that keep nothing: `V = bias + input`, a spike iff `V >= threshold`."""
        threshold, bias = population.threshold.reshape(-1), population.bias.reshape(-1)
        tau = 2.0 ** math.floor(math.log2(self.dt / 1024))
        reset = float(min(threshold.min(), 0.0)) - 1.0
        first = float(threshold[0])
        with _quiet():
            # cm is in nF: 2^-k / 1000 * 1000 is 2^-k again, because scaling by a power of two rounds nothing.
            cell = self.cell(
                cm=tau / 1000, tau_m=tau, v_rest=0.0, v_reset=reset, v_thresh=first, tau_refrac=0.0, i_offset=0.0
            )
            units = self.sim.Population(population.size, cell, initial_values={"v": 0.0}, label=population.name)
            # Set in NEST itself: PyNN keeps i_offset in nA, and bias / 1000 * 1000 need not be the bias
            # again.
            units.node_collection.set(V_th=threshold.tolist(), I_e=bias.tolist())
        return units

    def drive(self, population: Population, units: Any) -> Any:
        """A `step_current_generator` for each cell: PyNN's own multiplies by 1000, which would round."""
        with _quiet():
            generators = self.nest.Create("step_current_generator", population.size)
            synapse = {"synapse_model": "static_synapse", "weight": 1.0, "delay": self.dt}
            self.nest.Connect(generators, units.node_collection, "one_to_one", synapse)
            # Stimulating devices are there once for each thread, each with its times and values.
            self.bytes_per_value = 32 + 16 * int(self.sim.simulator.state.threads)
        return generators

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Set the generators' amplitudes; see the module's docstring."""
        # Nothing is asked after the last frame: the generators fall silent.
        ends = np.append(ticks, ticks[-1] + self.ticks_per_step) - 2
        with _quiet():
            offset = self.sim.simulator.state._time_offset
            times = [(ends + late) * self.dt + offset for late in range(self.spread)]
            drive.set(
                [
                    {"amplitude_times": times[unit % self.spread], "amplitude_values": np.append(column, 0.0)}
                    for unit, column in enumerate(values.T)
                ]
            )

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """Whole arrays to `nest.Connect`."""
        delay = ticks * self.dt
        with _quiet():
            return self.projection(
                source,
                target,
                SynapseArrays(pre, post, weight, delay),
                self.sim.StaticSynapse(weight=0.0, delay=float(np.max(delay))),
                label=f"{source.label}->{target.label}",
            )

    def play(self, population: Any, units: IntArray, ticks: IntArray) -> None:
        """Set the generators' times, in NEST itself."""
        state = self.sim.simulator.state
        with _quiet():
            times = ticks * self.dt - state.min_delay + state._time_offset
            parts = by_unit(units, times, population.size)
            population.node_collection_source.set([{"spike_times": part} for part in parts])

    def record(self, populations: Mapping[str, Any]) -> None:
        """Connect one recorder to all."""
        nest = self.nest
        with _quiet():
            self._recorder = nest.Create("spike_recorder")
            for name, population in populations.items():
                ids = population.node_collection
                nest.Connect(ids, self._recorder, syn_spec={"delay": self.dt})
                # The ids of one population follow each other (`nestkernel/node_manager.cpp`, `add_node`).
                self._recorded[name] = (int(population.all_cells[0]), population.size)

    def take(self) -> dict[str, Events]:
        """Read the recorder's arrays."""
        events = self._recorder.get("events")
        self._recorder.n_events = 0
        senders = np.asarray(events["senders"], dtype=np.int64)
        offset = self.sim.simulator.state._time_offset
        ticks = np.rint((np.asarray(events["times"]) - offset) / self.dt).astype(np.int64)
        found = {}
        for name, (first, size) in self._recorded.items():
            ours = (senders >= first) & (senders < first + size)
            found[name] = (senders[ours] - first, ticks[ours])
        return found

    def run_until(self, tick: int) -> None:
        """Simulate up to `tick`; an error of NEST's becomes a `BackendError`."""
        with _quiet():
            try:
                super().run_until(tick)
            except self.nest.NESTError as error:
                raise BackendError(f"NEST stopped: {error}") from error


def connect_arrays(projection: Any, synapses: SynapseArrays) -> None:
    """Make the synapses of a PyNN projection in one call of `nest.Connect`."""
    import nest

    model = projection.nest_synapse_model
    pre = _ids(projection.pre)[synapses.pre]
    # The label is how PyNN finds its synapses again; as a default of the model it costs nothing per synapse.
    defaults: dict[str, Any] = {"synapse_label": projection.nest_synapse_label}
    single: dict[str, Any] = {"synapse_model": model, "weight": synapses.weight}
    (defaults if isinstance(synapses.delay, float) else single)["delay"] = synapses.delay
    nest.SetDefaults(model, defaults)
    nest.Connect(pre, _ids(projection.post)[synapses.post], "one_to_one", single)
    projection._sources.update(np.unique(pre).tolist())
    projection._simulator.state.stale_connection_cache = True


WAYS["NEST"] = connect_arrays


def _ids(population: Any) -> IntArray:
    return np.asarray(population.node_collection.tolist(), dtype=np.int64)


def _classes(sim: ModuleType) -> tuple[type, type]:
    """Return the delta cell and the projection of `sim`, with what PyNN left out; see the module's
    docstring."""

    class DeltaCell(sim.IF_curr_delta):  # type: ignore[name-defined,misc]  # the module is known only at run time
        __doc__ = sim.IF_curr_delta.__doc__
        variable_map: ClassVar = {"v": "V_m"}
        scale_factors: ClassVar = {"v": 1}

    class DeltaProjection(sim.Projection):  # type: ignore[name-defined,misc]
        """A projection that gives weights in mV, the unit of NEST's delta cell."""

        def _columns(self, names: Sequence[str]) -> list[npt.NDArray[Any]]:
            """Return NEST's own values, one array per name; cells as indices."""
            with _quiet():
                found = self.nest_connections.get(["source", "target", *names]) if self.nest_connections else {}
            first = {"source": self.pre.all_cells[0], "target": self.post.all_cells[0]}
            return [
                np.atleast_1d(np.asarray(found.get(name, ()), dtype=np.float64)) - int(first.get(name, 0))
                for name in ("source", "target", *names)
            ]

        def _get_attributes_as_list(self, names: Sequence[str]) -> list[tuple[float, ...]]:
            pre, post, *values = self._columns([n for n in names if not n.endswith("_index")])
            order = iter(values)
            special = {"presynaptic_index": pre, "postsynaptic_index": post}
            columns = [special[n] if n in special else next(order) for n in names]
            return list(zip(*(column.tolist() for column in columns), strict=True))

        def _get_attributes_as_arrays(
            self, names: Sequence[str], multiple_synapses: str = "sum"
        ) -> list[npt.NDArray[np.float64]]:
            if multiple_synapses != "sum":
                arrays: list[npt.NDArray[np.float64]] = super()._get_attributes_as_arrays(names, multiple_synapses)
                return arrays
            pre, post, *values = self._columns([n.removesuffix("s") for n in names])
            place = (pre.astype(np.int64), post.astype(np.int64))
            arrays = []
            for column in values:
                array = np.full((self.pre.size, self.post.size), np.nan)
                array[place] = 0.0
                np.add.at(array, place, column)
                arrays.append(array)
            return arrays

    return DeltaCell, DeltaProjection
