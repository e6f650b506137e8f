"""`NeuronDialect`: PyNN on NEURON, `IF_curr_exp` in spaced mode, a frame in every fourth tick.

There is no delta cell, so the factor from summed weight to membrane potential is calculated from the cell's
equations. Read in PyNN 0.13, `pyNN/neuron`, and tried out in NEURON 9
(`tests/unit/pynn/test_neuron_rules.py`):

* A weight is added to a current, `i' = -i / tau_syn` (`nmodl/expisyn.mod`), solved by `cnexp`: over a tick it
  is multiplied by `exp(-dt / tau_syn)`. With `tau_syn = dt / 1024` that is exactly 0, so the current lasts
  one tick, whatever its size: all neurons that fire for a frame cross the threshold in the same tick, and the next
  layer's input is as synchronous as this one's. (With a slower current strong inputs would cross earlier than weak
  ones, and no margin could be stated for the next layer.)
* The membrane takes a backward Euler step: `V' = (V + (dt / cm) I) / (1 + dt / tau_m)`. So the peak, one tick
  after the arrival, is `I * dt / (cm (1 + dt / tau_m))`: proportional to the summed weight. With `tau_m = dt
  / 2^20` a 2^-20th is left over after a tick, a 2^-80th after four: nothing that float64 could see. `cm =
  2^20 dt / (1 + 2^20)` makes the factor 2^-20. (A factor of 1 would take a millionth of that capacitance, and
  is then met to 9e-13 only; here to 2^-52.)
* The threshold is strict, and it is a `WATCH` (`nmodl/reset.mod`, `ResetRefrac`): it fires when the condition
  *becomes* true. A neuron at rest must be below it, so thresholds that are not positive are lifted, and that
  constant and the bias arrive as a spike from a source that spikes once in each step.
* After a spike the membrane is clamped to `v_reset` for `tau_refrac`, a tick: one spike per frame.
* The factor is that but for the roundings of the area, `cm` and the currents' units. Thresholds are lowered
  by a part in 2^44, some hundred times those roundings, so that a potential that reaches the threshold fires:
  a part of what they are or of what they are with their lift, whichever is larger. An injected current and
  one that spikes bring are each rounded before they are added up, and can cancel to a threshold that is far smaller
  than both; so injected currents are raised by a part in 2^45 of themselves.
  **What it resolves**: a potential that is less than `2^-44 * threshold` below its threshold fires, too
  (6e-14 for a threshold of 1).
* Input values are the `amp` of an `IClamp`, played from a `Vector`: an event for each time
  (`nrncvode/vrecord.cpp`, `VecPlayStep::deliver`), so that a value set at T lifts the membrane in the step from T
  to T + dt, as a spike that arrives at T does. A tick later it is set to 0 again. It contains the bias and the
  lift of the threshold. (PyNN's `StepCurrentSource` is such a clamp with loops in Python over all its times;
  `electrodes.py`.) `Vector.play` is read when the simulation is initialised, as the times of a `VecStim` are.
* A `VecStim` takes its times when the simulation is initialised (`nmodl/vecstim.mod`): frames are presented
  before the first `run`, or after a reset. Times are met to half a step (`nrncvode/netcvode.cpp`,
  `deliver_net_events`), so that the roundings in `t`, which is a running sum, do not matter.
* Settings of a script that change spikes, tried out one by one: `secondorder` (another integration of the
  membrane), `dt` after the cells were made, CVode (steps of a variable length), more than one thread (NEURON stops:
  its least delay is 0 here), CoreNEURON (which takes PyNN's mechanisms only where they are compiled for it). Each of
  them is refused by name, whenever PyNN runs and in each step that a script takes itself (`watch.py`). Nothing
  depends on `celsius`, `steps_per_ms`, `tstop`, the queue, the cache, the compression of spikes, `condition_order` or
  PyNN's `min_delay`.
* In several processes a neuron lives in one of them. Spikes are exchanged with their times, in float64, after intervals
  no longer than the least delay between processes, three ticks here (`nrniv/netpar.cpp`, `set_mindelay`,
  `nrn_spike_exchange`). PyNN stops in those that have a delay below `min_delay` (`simulator.py`, `_pre_run`).
* PyNN's `setup` forgets cells but does not take them away, and keeps every projection (`projections.py`,
  `_projections`): networks built before are simulated along. A runner removes its own.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from strop.errors import BackendError, BackendMissingError
from strop.graph import Population
from strop_backends.pynn.common.connector import SynapseArrays
from strop_backends.pynn.common.dialect import CLAIMS, FloatArray, IntArray, Synapses
from strop_backends.pynn.common.parameters import Tuning, tuned_classes
from strop_backends.pynn.common.processes import launched, neuron_advice, prepare_neuron
from strop_backends.pynn.common.recording import RecordingDialect
from strop_backends.pynn.neuron.cells import (
    LEAK,
    PEAK,
    RESOLUTION,
    capacitance,
    changed,
    foreign,
    lift,
    lowered,
    shape_of,
    strip,
)
from strop_backends.pynn.neuron.projections import projection_class
from strop_backends.pynn.neuron.watch import Watch

# NEURON's own `dt` and steps in a millisecond (`nrnoc/init.cpp`; 1 / dt in PyNN).
_STEP = (0.025, 40.0)
# PyNN's `default_maxstep` (`neuron/simulator.py`).
_MAXSTEP = 10.0


class NeuronDialect(RecordingDialect):
    """NEURON 8 or newer through PyNN."""

    name: ClassVar[str] = "pynn-neuron"
    timestep: ClassVar[float] = 0.1
    ticks_per_step = 4
    latency = 1
    # A NetCon, and PyNN's Connection and its place in two dictionaries.
    bytes_per_synapse: ClassVar[int] = 1500
    # Time and value, of the current and of its end; and the currents of all cells once more.
    bytes_per_value: int = 48

    # `dt` and `steps_per_ms` of before strop set NEURON up.
    given: ClassVar[tuple[float, float]] = _STEP

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        self.population, _ = tuned_classes(sim)
        self.projection = projection_class(sim)
        self.h = sim.simulator.h
        self._neurons: list[Any] = []
        self._sources: list[Any] = []
        self._built_for = 0.0
        self._watch: Watch | None = None
        self._shape: tuple[Any, ...] = ()

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.neuron`; PyNN compiles its mechanisms where that has not been done."""
        # NEURON looks for a display while it is imported, and warns where there is none (`neuron/__init__.py`); what
        # the user has set stands.
        given = os.environ.get("NEURON_MODULE_OPTIONS")
        os.environ.setdefault("NEURON_MODULE_OPTIONS", "-nogui")
        path = os.environ.get("PATH", "")
        prepare_neuron()
        # PyNN looks for nrnivmodl on the PATH, where an environment that is not activated has not put it.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.filterwarnings("ignore", message="mpi4py not available")
                import pyNN.neuron
        except (OSError, TypeError) as error:
            # TypeError: PyNN did not find nrnivmodl, and goes on with a path of None.
            raise BackendMissingError(
                f"PyNN's mechanisms for NEURON are not compiled ({error}); run nrnivmodl in the folder "
                "pyNN/neuron/nmodl, or put nrnivmodl and a C compiler on the PATH"
            ) from error
        finally:
            os.environ["PATH"] = path
            if given is None:
                del os.environ["NEURON_MODULE_OPTIONS"]
        module: ModuleType = pyNN.neuron
        return module

    # Setting up
    # ---------------------------------------------------------------------------------------------------

    def process_count(self) -> tuple[int, str]:
        """NEURON's, and whether it found libmpi."""
        count = int(self.sim.simulator.state.parallel_context.nhost())
        return count, neuron_advice() if count == 1 < launched() else ""

    def setup(self, timestep: float, longest_delay: int, **options: Any) -> None:
        """Set NEURON up; options go to PyNN's `setup`."""
        claim = CLAIMS.get(self.name)
        if claim is None or not self.holds(claim.mark):
            NeuronDialect.given = (self.h.dt, self.h.steps_per_ms)
        longest = longest_delay * self.ticks_per_step * timestep
        self.sim.setup(timestep=timestep, min_delay=timestep, max_delay=longest, **options)

    def check_setup(self, longest_delay: int) -> None:
        """Refuse settings that change spikes, now and whenever PyNN runs."""
        self._built_for = self.dt
        state = self.sim.simulator.state
        # PyNN lets ranks send spikes in compressed form, at most 65,535 at once, or NEURON stops (`nrniv/netpar.cpp`).
        state.parallel_context.spike_compress(0)
        # In ms; PyNN lets NEURON look for spikes no later than that, and NEURON wants it to be a time step at least.
        state.default_maxstep = max(_MAXSTEP, self.ticks_per_step * self.dt)
        self._refuse(self._wrong(self._built_for))
        # In one process PyNN leaves it at that; of several some stop, and others wait for them.
        least = self.ticks_per_step - self.latency
        if self.processes.size > 1 and state.min_delay != "auto" and state.min_delay > least * self.dt:
            raise BackendError(
                f"{self.name}: in several processes min_delay must be at most {least} time steps, it is"
                f" {state.min_delay:g} ms; call sim.setup(timestep={self.dt:g}, min_delay={self.dt:g})"
            )
        self._watch = Watch(self.sim, self._check_before_run, self._wrong_now)

    def _check_before_run(self) -> None:
        with self.processes.agreed():
            wrong = self._spoilt or self._wrong_now()
            self._refuse(wrong or ("" if self.sim.simulator.state.running else self._changed_cells()))

    def check_answers(self) -> None:
        """Refuse spikes of a network that took a wrong step."""
        self._refuse(self._spoilt)

    @property
    def _spoilt(self) -> str:
        return self._watch.spoilt if self._watch else ""

    def _wrong_now(self) -> str:
        """Settings, and sections that a command for all of them, as `forall nseg = 3`, has changed."""
        return self._wrong(self._built_for) or self._changed_cells(ends=True)

    def _changed_cells(self, *, ends: bool = False) -> str:
        return next(filter(None, (changed(neurons, self._shape, ends=ends) for neurons in self._neurons)), "")

    def check_surroundings(self) -> None:
        """Refuse settings that change spikes, and frames while the simulation is under way."""
        self._refuse(self._wrong(self._built_for) or self._changed_cells())
        if self.sim.simulator.state.running:
            raise BackendError(f"{self.name}: present frames before the first sim.run(), or after sim.reset()")

    def _refuse(self, wrong: str) -> None:
        if wrong:
            raise BackendError(f"{self.name}: spikes would be wrong: {wrong}")

    def _wrong(self, dt: float) -> str:
        """Describe settings that make spikes wrong in a network built for steps of `dt` ms; empty if there are none."""
        state, h = self.sim.simulator.state, self.h
        threads = int(state.parallel_context.nthread())
        wrong = {
            f"h.dt is {h.dt:g} ms, the network was built for {dt:g} ms": h.dt != dt,
            f"h.secondorder is {h.secondorder:g}, it must be 0": h.secondorder != 0,
            "CVode is active (use_cvode), steps must have one length": bool(state.cvode.active()),
            f"NEURON has {threads} threads, it must have 1 (ParallelContext.nthread)": threads != 1,
            "CoreNEURON is enabled": bool(getattr(sys.modules.get("neuron.coreneuron"), "enable", False)),
        }
        return "; ".join(what for what, is_so in wrong.items() if is_so)

    # Occupation of NEURON
    # ---------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Sections and connections."""
        return sum(1 for _ in self.h.allsec()) + int(self.h.List("NetCon").count())

    def occupant(self, settings: bool) -> str | None:
        """Sections and connections, also those that are not PyNN's; or another `dt`."""
        counts = foreign(self.h, self.sim.simulator.dummy)
        if any(counts):
            # Connections and cells refer to each other, and so outlive their populations for a while.
            gc.collect()
            counts = foreign(self.h, self.sim.simulator.dummy)
        if any(counts):
            return f"{counts[0]:,} sections and {counts[1]:,} connections in NEURON"
        if not settings:
            return None
        return self._wrong(self.h.dt) or ("set NEURON's dt" if (self.h.dt, self.h.steps_per_ms) != _STEP else None)

    def release(self) -> None:
        """Remove the network, and set the time step back."""
        self.sim.end()
        self.sim.simulator.initializer.clear()
        self.sim.simulator.state.clear()
        self._take_cells_away()
        self.h.dt, self.h.steps_per_ms = NeuronDialect.given
        self.sim.simulator.state.default_maxstep = _MAXSTEP
        NeuronDialect.given = _STEP

    def discard(self, populations: Iterable[Any]) -> None:
        """Also take the cells away, which NEURON would simulate along."""
        self._take_cells_away()
        super().discard(populations)

    def _take_cells_away(self) -> None:
        from pyNN.neuron.projections import _projections

        if self._watch is not None:
            self._watch.end()
        _projections[:] = [p for p in _projections if not any(p.post is neurons for neurons in self._neurons)]
        for own in (cell for cells in [*self._neurons, *self._sources] for cell in cells.local_cells):
            strip(own._cell)
            object.__setattr__(own, "_cell", None)
        self._neurons.clear()
        self._sources.clear()

    # Time
    # ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> object:
        """PyNN's segment, a new one after each `reset`."""
        return self.sim.simulator.state.segment_counter

    def first_free_tick(self) -> int:
        """The tick behind now."""
        return round(float(self.sim.get_current_time()) / self.dt) + 1

    def rewind(self) -> None:
        """Initialise again, so that sources take new times."""
        if self.sim.simulator.state.running:
            self.sim.simulator.state.reset()

    # Building
    # -----------------------------------------------------------------------------------------------------

    def sources(self, label: str, size: int) -> Any:
        """PyNN's own."""
        sources = super().sources(label, size)
        self._sources.append(sources)
        return sources

    def neurons(self, population: Population) -> Any:
        """`IF_curr_exp` with a current that lasts one tick."""
        dt = self.dt
        threshold, bias = population.threshold.reshape(-1).copy(), population.bias.reshape(-1).copy()
        cell = self.sim.IF_curr_exp(
            cm=capacitance(dt),
            tau_m=dt / LEAK,
            v_rest=0.0,
            v_reset=0.0,
            v_thresh=lowered(threshold) * PEAK,
            tau_refrac=dt,
            tau_syn_E=dt / 1024,
            tau_syn_I=dt / 1024,
            i_offset=0.0,
        )
        neurons = self.population(population.size, cell, initial_values={"v": 0.0}, label=population.name)

        def write_threshold(threshold: FloatArray) -> None:
            levels = (lowered(threshold) * PEAK)[neurons._mask_local]
            for own, value in zip(neurons.local_cells, levels, strict=True):
                own._cell.v_thresh = value

        neurons.tuning = Tuning(population.name, threshold, bias, lift(threshold), lift, write_threshold)
        self._neurons.append(neurons)
        if not self._shape and neurons.local_cells.size:
            self._shape = shape_of(neurons.local_cells[0]._cell)
        return neurons

    def attach_standing(self, neurons: Any, projection: Any, post: IntArray) -> None:
        """Let changes of biases and thresholds reach the synapses that bring them."""
        by_neuron = {c.postsynaptic_index: c for c in projection.connections}

        def write_standing(values: FloatArray) -> None:
            for neuron, value in zip(post.tolist(), values, strict=True):
                if neurons._mask_local[neuron]:
                    by_neuron[neuron].weight = value

        neurons.tuning.standing, neurons.tuning.write_standing = post, write_standing

    def drive(self, population: Population, neurons: Any) -> Any:
        """An `IClamp` in each cell, with the vectors of its amplitudes and times."""
        h = self.sim.simulator.h
        parts = []
        for cell in neurons.local_cells:
            clamp = h.IClamp(0.5, sec=cell._cell)
            clamp.delay, clamp.dur, clamp.amp = 0.0, 1e12, 0.0
            parts.append((clamp, h.Vector(), h.Vector()))
        neurons.tuning.driven = True
        return parts, neurons

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Fill the vectors: each value in the tick before the one in which it counts, then 0."""
        parts, neurons = drive
        tuning = neurons.tuning
        currents = np.zeros((values.shape[1], 2 * len(ticks)))
        given = values + tuning.bias
        # What spikes bring can cancel this but for a threshold that is far smaller; see the module's docstring.
        currents[:, ::2] = (given + tuning.lift + RESOLUTION / 2 * np.abs(given)).T
        start = ticks - self.latency
        times = np.stack([start, start + 1], axis=1).reshape(-1) * self.dt
        for (clamp, amplitude, when), current in zip(parts, currents[neurons._mask_local], strict=True):
            amplitude.from_python(current)
            when.from_python(times)
            amplitude.play(clamp._ref_amp, when)
        tuning.frozen = "the values injected into them contain the biases; set them before any frame is presented"

    def standing_weights(self, population: Population) -> FloatArray | None:
        """The bias, and the lift of the threshold."""
        return population.bias.reshape(-1) + lift(population.threshold.reshape(-1))

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """PyNN's own list connector: NEURON takes its synapses one by one."""
        # There is no spread here: one delay for all.
        delay = int(np.max(ticks)) * self.dt
        return self.projection(
            source,
            target,
            SynapseArrays(pre, post, weight, delay),
            self.sim.StaticSynapse(weight=0.0, delay=delay),
            receptor_type="excitatory",
            label=f"{source.label}->{target.label}",
        )

    def read_weights(self, projection: Any) -> Synapses:
        """The weight of each `NetCon`."""
        connections = list(projection.connections)
        table = np.array([(c.presynaptic_index, c.postsynaptic_index, c.weight) for c in connections], dtype=np.float64)
        pre, post, weights = table.reshape(-1, 3).T

        def write(values: FloatArray) -> None:
            for connection, value in zip(connections, values.tolist(), strict=True):
                connection.weight = value

        return Synapses(pre.astype(np.int64), post.astype(np.int64), weights, write)

    def spike_times(self, population: Any) -> list[FloatArray]:
        """Read the cells' vectors, and empty them."""
        vectors = [cell._cell.spike_times for cell in population.local_cells]
        # (`Vector.as_numpy` leaves a view behind for good: `nrnpython/nrnpy_hoc.cpp`.)
        times = [vector.to_python(np.empty(int(vector.size()))) for vector in vectors]
        for vector in vectors:
            vector.resize(0)
        return times
