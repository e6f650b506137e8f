"""PyNN on NEURON: `IF_curr_exp` in spaced mode, a frame in every fourth tick.

There is no delta cell, so the factor from summed weight to membrane potential is calculated from the cell's
equations. Read in PyNN 0.13, `pyNN/neuron`, and tried out in NEURON 9
(`tests/unit/pynn/test_neuron_rules.py`):

* A weight is added to a current, `i' = -i / tau_syn` (`nmodl/expisyn.mod`), solved by `cnexp`: over a tick it
  is multiplied by `exp(-dt / tau_syn)`. With `tau_syn = dt / 1024` that is exactly 0, so the current lasts
  one tick, whatever its size: all spikes of a wave cross the threshold in the same tick, and the next wave is
  as synchronous as this one was. (With a slower current strong inputs would cross earlier than weak ones, and
  no margin could be stated for the layer behind.)
* The membrane takes a backward Euler step: `V' = (V + (dt / cm) I) / (1 + dt / tau_m)`. So the peak, one tick
  behind the arrival, is `I * dt / (cm (1 + dt / tau_m))`: proportional to the summed weight. With `tau_m = dt
  / 2^20` a 2^-20th is left over after a tick, a 2^-80th after four: nothing that float64 could see. `cm =
  2^20 dt / (1 + 2^20)` makes the factor 2^-20. (A factor of 1 would take a millionth of that capacitance, and
  is then met to 9e-13 only; here to 2^-52.)
* The threshold is strict, and it is a `WATCH` (`nmodl/reset.mod`, `ResetRefrac`): it fires when the condition
  *becomes* true. A unit at rest must be below it, so thresholds that are not positive are lifted, and that
  constant and the bias come as a spike from a source that spikes once in each step.
* After a spike the membrane is clamped to `v_reset` for `tau_refrac`, a tick: one spike per frame.
* The factor is that but for the roundings of the area, `cm` and the currents' units. Thresholds are lowered
  by a part in 2^44, some hundred times those roundings, so that a potential that reaches the threshold fires.
  **What it resolves**: a potential that is less than `2^-44 * threshold` below its threshold fires, too
  (6e-14 for a threshold of 1).
* Values that drive a unit are the `amp` of an `IClamp`, played from a `Vector`: an event for each time
  (`nrncvode/vrecord.cpp`, `VecPlayStep::deliver`), so that a value set at T lifts the membrane in the step from T
  to T + dt, as a spike that arrives at T does. A tick later it is set to 0 again. It brings the bias and what the
  threshold was lifted by. (PyNN's `StepCurrentSource` is such a clamp with loops in Python over all its times;
  `electrodes.py`.) `Vector.play` is read when the simulation is initialised, as the times of a `VecStim` are.
* A `VecStim` takes its times when the simulation is initialised (`nmodl/vecstim.mod`): frames are presented
  before the first `run`, or after a reset.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from strop.errors import BackendError, BackendMissingError
from strop.graph import Population
from strop_backends.pynn.connector import SynapseArrays
from strop_backends.pynn.dialect import Dialect, Events, FloatArray, IntArray

# What is taken off a threshold, relative to it: more than the roundings on the way to the membrane.
RESOLUTION = 2.0**-44
# Membrane time constants in a tick: what is left over after a tick is the inverse.
_LEAK = 2.0**20
# Membrane potential in mV for a summed weight of 1 nA.
PEAK = 2.0**-20


class NeuronDialect(Dialect):
    """NEURON 8 or newer through PyNN."""

    name: ClassVar[str] = "pynn-neuron"
    timestep: ClassVar[float] = 0.1
    ticks_per_step = 4
    latency = 1
    # A NetCon, and PyNN's Connection and its place in two dictionaries.
    bytes_per_synapse: ClassVar[int] = 1500
    # Time and value, of the current and of its end; and the currents of all cells once more.
    bytes_per_value: int = 48

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        self._recorded: dict[str, Any] = {}

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.neuron`; PyNN compiles its mechanisms where that has not been done."""
        # NEURON looks for a display while it is imported, and warns where there is none (`neuron/__init__.py`); what
        # the user has set stands.
        given = os.environ.get("NEURON_MODULE_OPTIONS")
        os.environ.setdefault("NEURON_MODULE_OPTIONS", "-nogui")
        path = os.environ.get("PATH", "")
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

    def setup(self, timestep: float, longest_delay: float, **options: Any) -> None:
        """Set NEURON up; options go to PyNN's `setup`."""
        self.sim.setup(timestep=timestep, min_delay=timestep, max_delay=longest_delay, **options)

    def first_free_tick(self) -> int:
        """The tick behind now."""
        return round(float(self.sim.get_current_time()) / self.dt) + 1

    def rewind(self) -> None:
        """Initialise again, so that sources take new times."""
        if self.sim.simulator.state.running:
            self.sim.simulator.state.reset()

    def units(self, population: Population) -> Any:
        """`IF_curr_exp` with a current that lasts one tick."""
        dt = self.dt
        lifted = population.threshold.reshape(-1) + _lift(population)
        cell = self.sim.IF_curr_exp(
            cm=capacitance(dt),
            tau_m=dt / _LEAK,
            v_rest=0.0,
            v_reset=0.0,
            v_thresh=lifted * (PEAK * (1.0 - RESOLUTION)),
            tau_refrac=dt,
            tau_syn_E=dt / 1024,
            tau_syn_I=dt / 1024,
            i_offset=0.0,
        )
        return self.sim.Population(population.size, cell, initial_values={"v": 0.0}, label=population.name)

    def drive(self, population: Population, units: Any) -> Any:
        """An `IClamp` in each cell, with the vectors that it is played from."""
        h = self.sim.simulator.h
        parts = []
        for cell in units.all_cells:
            clamp = h.IClamp(0.5, sec=cell._cell)
            clamp.delay, clamp.dur, clamp.amp = 0.0, 1e12, 0.0
            parts.append((clamp, h.Vector(), h.Vector()))
        return parts, population.bias.reshape(-1), _lift(population)

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Fill the vectors: each value in the tick before the one in which it decides, then nothing."""
        parts, bias, lift = drive
        currents = np.zeros((values.shape[1], 2 * len(ticks)))
        currents[:, ::2] = ((values + bias) + lift).T
        start = ticks - self.latency
        times = np.stack([start, start + 1], axis=1).reshape(-1) * self.dt
        for (clamp, amplitude, when), current in zip(parts, currents, strict=True):
            amplitude.from_python(current)
            when.from_python(times)
            amplitude.play(clamp._ref_amp, when)

    def standing_weights(self, population: Population) -> FloatArray | None:
        """The bias, and what the threshold was lifted by."""
        return population.bias.reshape(-1) + _lift(population)

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """PyNN's own list connector: NEURON takes its synapses one by one."""
        # Nothing is spread here: one delay for all.
        delay = int(np.max(ticks)) * self.dt
        return self.sim.Projection(
            source,
            target,
            SynapseArrays(pre, post, weight, delay),
            self.sim.StaticSynapse(weight=0.0, delay=delay),
            receptor_type="excitatory",
            label=f"{source.label}->{target.label}",
        )

    def play(self, population: Any, units: IntArray, ticks: IntArray) -> None:
        """Set the sources' times; refused while the simulation is under way."""
        if self.sim.simulator.state.running:
            raise BackendError(f"{self.name}: present frames before the first sim.run(), or after sim.reset()")
        super().play(population, units, ticks)

    def record(self, populations: Mapping[str, Any]) -> None:
        """Let PyNN record spikes."""
        for name, population in populations.items():
            population.record("spikes")
            self._recorded[name] = population

    def take(self) -> dict[str, Events]:
        """Read the cells' vectors, and empty them."""
        found = {}
        for name, population in self._recorded.items():
            vectors = [cell._cell.spike_times for cell in population.all_cells]
            times = [np.array(vector.as_numpy()) for vector in vectors]
            units = np.repeat(np.arange(len(times), dtype=np.int64), [len(part) for part in times])
            found[name] = (units, np.rint(np.concatenate(times) / self.dt).astype(np.int64))
            for vector in vectors:
                vector.resize(0)
        return found


def capacitance(dt: float) -> float:
    """Return the capacitance in nF for which a current of 1 nA over one tick of `dt` ms lifts the membrane by
    `PEAK` mV."""
    return dt / (PEAK * (1.0 + _LEAK))


def _lift(population: Population) -> FloatArray:
    """Return what is added to thresholds so that a unit without input is below them: 0 where they are
    positive."""
    threshold = population.threshold.reshape(-1)
    size = np.where(threshold == 0, 0.5, np.abs(threshold))
    lift: FloatArray = np.where(threshold > 0, 0.0, 2.0 ** (np.floor(np.log2(size)) + 1.0))
    return lift
