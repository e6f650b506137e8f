"""PyNN on Brian2: `IF_curr_delta` that forgets within two ticks, a frame in every second tick.

Read in PyNN 0.13, `pyNN/brian2`, and Brian2 2.9.0, and tried out (`tests/unit/pynn/test_brian2_rules.py`):

* The order within a tick is state update, threshold, synapses, reset (`brian2/core/network.py`,
  `Network.schedule`). A spike that arrives in a tick is added to `v` behind the threshold, decays through the
  next tick's state update and decides there: a latency of one tick. The delay in ticks is that of the
  synapse, and 0 is possible.
* The threshold is strict, `v > v_thresh` (`cells.py`, `ThresholdNeuronGroup`).
* The reset stands behind the synapses, so what reaches a unit in the tick in which it fires is lost. Frames
  in every second tick avoid that: each population receives in one tick and fires in the next.
* The exact integrator gives `v * exp(-dt / tau_m)` where `v_rest`, `i_offset` and `i_inj` are 0. A unit that
  did not fire is not reset, so the decay has to clear it: `tau_m` is so short that what is left after two
  ticks underflows to exactly 0 (factor f below 2^-560, f^2 below 2^-1120), while after one tick the potential
  is an ordinary float64, `f * V`.
* `v * f` rounds, and rounding is monotone: with the threshold `nextafter(f * threshold, -inf)` every
  potential that reaches the threshold fires. f is searched for just below a power of two, where the product
  keeps neighbouring floats apart: nothing below the threshold fires either, but for a potential that is
  closer than a rounding.
* A standing current would act in every tick, also in the one between; a unit that it makes fire there would
  be reset and lose its input. So the bias comes as a spike from a source that spikes once in each step; and a
  threshold that is not positive is lifted by a constant that the same source makes up for.
* PyNN's `StepCurrentSource` adds the difference to its last amplitude to `i_inj`, cell by cell in Python
  (`electrodes.py`, `_update_current`), so that roundings of former frames stay, and the integrator scales it by
  `tau_m / c_m`, which rounds once more. So a value that drives a unit is
  added to `v` behind the threshold, where a spike's weight would be, by a `NetworkOperation`. It brings the bias
  and what the threshold was lifted by, summed in the oracle's order: a unit that nothing else reaches has the
  oracle's very potential.
* A `SpikeSourceArray` is made without a clock and runs on Brian2's default clock (`cells.py`,
  `SpikeGeneratorGroup`), so do its synapses: that clock's step must be the timestep. It is 0.1 ms, as PyNN's
  default.
* The connectors set `weight` and `delay` synapse by synapse (`projections.py`, `_convergent_connect`);
  `connect_arrays` gives `Synapses.connect` arrays. Weights of a delta cell are in mV for PyNN and in volt in
  Brian2; they are set in volt, one for a weight of 1, because a factor of 1/1000 would round:
  `Projection.get("weight")` answers with 1000 mV for it.
* Everything is generated for NumPy: compiling a handful of code objects for every population takes longer
  than it saves, and f is what NumPy's `exp` gives.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Population
from strop_backends.pynn.connector import WAYS, SynapseArrays
from strop_backends.pynn.dialect import Dialect, Events, FloatArray, IntArray

# Binary exponents of the decay over a tick: its square must underflow, what it leaves of a potential must
# not.
_LEAST_EXPONENT, _LARGEST_EXPONENT = 560, 800


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back Brian2's note that PyNN let it choose the integrator (it chooses the exact one)."""
    logger = logging.getLogger("brian2.stateupdaters.base")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class Brian2Dialect(Dialect):
    """Brian2 2.9 or newer through PyNN."""

    name: ClassVar[str] = "pynn-brian2"
    timestep: ClassVar[float] = 0.1
    ticks_per_step = 2
    latency = 1
    # Indices, weight and delay in Brian2 (24) and its queue (12), the array that numbers them (4), and the
    # source arrays.
    bytes_per_synapse: ClassVar[int] = 24 + 12 + 4 + 48

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        import brian2

        self.brian2 = brian2
        self._spaces: dict[str, npt.NDArray[np.int32]] = {}
        self._seen: list[tuple[str, int, npt.NDArray[np.int32]]] = []
        self._drives: list[_Drive] = []

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.brian2`."""
        import pyNN.brian2

        module: ModuleType = pyNN.brian2
        return module

    def setup(self, timestep: float, longest_delay: float, **options: Any) -> None:
        """Set Brian2 up; options go to PyNN's `setup`."""
        # PyNN's spike sources follow this clock.
        self.brian2.defaultclock.dt = timestep * self.brian2.ms
        self.sim.setup(timestep=timestep, min_delay=timestep, max_delay=longest_delay, **options)

    def check_setup(self) -> None:
        """Refuse a timestep that is not the one of Brian2's default clock."""
        default = float(self.brian2.defaultclock.dt / self.brian2.ms)
        if not math.isclose(default, self.dt):
            raise BackendError(
                f"pyNN.brian2 is set up with a timestep of {self.dt} ms, but its spike sources follow Brian2's default "
                f"clock ({default} ms); set brian2.defaultclock.dt to the timestep before sim.setup()"
            )

    @property
    def _network(self) -> Any:
        return self.sim.simulator.state.network

    def first_free_tick(self) -> int:
        """The next tick but one."""
        return round(float(self._network.clock.t / self.brian2.ms) / self.dt) + 1

    def sources(self, label: str, size: int) -> Any:
        """A `SpikeGeneratorGroup`."""
        population = super().sources(label, size)
        _use_numpy(population.brian2_group)
        return population

    def units(self, population: Population) -> Any:
        """`IF_curr_delta` with a decay that underflows."""
        volt = self.brian2.volt
        tau, factor = decay(self.dt)
        lifted = population.threshold.reshape(-1) + _lift(population)
        cell = self.sim.IF_curr_delta(
            cm=1.0, tau_m=1.0, v_rest=0.0, v_reset=0.0, v_thresh=1.0, tau_refrac=0.0, i_offset=0.0
        )
        units = self.sim.Population(population.size, cell, initial_values={"v": 0.0}, label=population.name)
        group = units.brian2_group
        group.tau_m = tau * self.brian2.second
        group.v_thresh = np.nextafter(lifted * factor, -np.inf) * volt
        _use_numpy(group)
        return units

    def standing_weights(self, population: Population) -> FloatArray | None:
        """The bias, and what the threshold was lifted by."""
        return population.bias.reshape(-1) + _lift(population)

    def drive(self, population: Population, units: Any) -> Any:
        """The cells' potentials, and what each value is added to."""
        if not self._drives:
            tick = self._network.clock.variables["timestep"].get_value()

            def feed() -> None:
                for drive in self._drives:
                    drive.add(int(tick.item()))

            # Behind the synapses and before the resets, which no driven unit meets: it fires in the other ticks.
            self._network.add(self.brian2.NetworkOperation(feed, clock=self._network.clock, when="after_synapses"))
        drive = _Drive(
            units.brian2_group.variables["v"].get_value(),
            population.bias.reshape(-1),
            _lift(population),
            self.ticks_per_step,
        )
        self._drives.append(drive)
        return drive

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Keep the values for the ticks before those in which they decide."""
        drive.first, drive.values = int(ticks[0]) - self.latency, values

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """Whole arrays to `Synapses.connect`."""
        # Nothing is spread here: one delay for all.
        delay = int(np.max(ticks)) * self.dt
        return self.sim.Projection(
            source,
            target,
            SynapseArrays(pre, post, weight, delay),
            self.sim.StaticSynapse(weight=0.0, delay=delay),
            label=f"{source.label}->{target.label}",
        )

    def play(self, population: Any, units: IntArray, ticks: IntArray) -> None:
        """Set the generator's spikes, as two arrays."""
        population.brian2_group.set_spikes(units, ticks * self.dt * self.brian2.ms, sorted=False)

    def record(self, populations: Mapping[str, Any]) -> None:
        """Copy the indices of those that fired at the end of each tick."""
        for name, population in populations.items():
            self._spaces[name] = population.brian2_group.variables["_spikespace"].get_value()
        clock = self._network.clock
        tick = clock.variables["timestep"].get_value()

        def keep() -> None:
            now = int(tick.item())
            for name, space in self._spaces.items():
                # The last entry counts the spikes, those before it are the units that fired.
                if space[-1]:
                    self._seen.append((name, now, space[: space[-1]].copy()))

        self._network.add(self.brian2.NetworkOperation(keep, clock=clock, when="end"))

    def take(self) -> dict[str, Events]:
        """Join what was copied."""
        found = {}
        for name in self._spaces:
            ours = [(now, units) for owner, now, units in self._seen if owner == name]
            units = np.concatenate([np.zeros(0, dtype=np.int64), *(part for _, part in ours)])
            ticks = np.repeat(np.array([now for now, _ in ours], dtype=np.int64), [len(part) for _, part in ours])
            found[name] = (units, ticks)
        self._seen.clear()
        return found

    def run_until(self, tick: int) -> None:
        """Run up to `tick`."""
        with _quiet():
            super().run_until(tick)


@dataclass
class _Drive:
    """Values that are added to potentials: row r in tick `first + r * interval`."""

    v: FloatArray
    bias: FloatArray
    lift: FloatArray
    interval: int
    first: int = 0
    values: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, tick: int) -> None:
        """Add what is due in `tick`."""
        row, between = divmod(tick - self.first, self.interval)
        if between == 0 and 0 <= row < len(self.values):
            self.v += (self.values[row] + self.bias) + self.lift


@lru_cache
def decay(dt: float) -> tuple[float, float]:
    """Return `(tau, factor)`: a time constant in seconds, and `exp(-dt / tau)` as NumPy computes it.

    The factor is as close below a power of two as can be found; see the module's docstring.

    Parameters
    ----------
    dt : float
        In ms.
    """
    step = dt * 1e-3
    exponents = np.arange(_LEAST_EXPONENT, _LARGEST_EXPONENT)
    nominal = step / (exponents * math.log(2.0))
    tau = nominal[:, None] * (1.0 + np.arange(-8, 9) * 2.0**-52)
    factor = np.exp(-step * 1 / tau)
    mantissa, _ = np.frexp(factor)
    best = np.unravel_index(np.argmax(np.where(mantissa < 1.0, mantissa, 0.0)), mantissa.shape)
    return float(tau[best]), float(factor[best])


def _lift(population: Population) -> FloatArray:
    """Return what is added to thresholds so that a unit without input stays silent: 0 where they are
    positive."""
    threshold = population.threshold.reshape(-1)
    size = np.abs(threshold)
    # A power of two twice the size keeps the sum as exact as can be; small for thresholds of 0, so that
    # biases keep their bits.
    power = 2.0 ** (np.floor(np.log2(np.where(size > 0, size, 2.0**-21))) + 1.0)
    lift: FloatArray = np.where(threshold > 0, 0.0, power)
    return lift


def connect_arrays(projection: Any, synapses: SynapseArrays) -> None:
    """Make the synapses of a PyNN projection from arrays; weights in volt."""
    import brian2
    from brian2.codegen.runtime.numpy_rt import NumpyCodeObject

    made = projection._brian2_synapses[0][0]
    made.codeobj_class = NumpyCodeObject
    made.connect(i=synapses.pre, j=synapses.post)
    made.weight = synapses.weight * brian2.volt
    made.delay = synapses.delay * brian2.ms
    _use_numpy(made)
    projection._n_connections += len(synapses.pre)


WAYS["Brian2"] = connect_arrays


def _use_numpy(group: Any) -> None:
    from brian2.codegen.runtime.numpy_rt import NumpyCodeObject

    for part in (group, *group.contained_objects):
        part.codeobj_class = NumpyCodeObject
