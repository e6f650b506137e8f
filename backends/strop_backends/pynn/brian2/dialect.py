"""`Brian2Dialect`: PyNN on Brian2, `IF_curr_delta` that forgets within two ticks, a frame in every second tick.

Read in PyNN 0.13, `pyNN/brian2`, and Brian2 2.9.0, and tried out (`tests/unit/pynn/test_brian2_rules.py`):

* The order within a tick is state update, threshold, synapses, reset (`brian2/core/network.py`,
  `Network.schedule`). A spike that arrives in a tick is added to `v` after the threshold, decays in the next
  tick's state update and counts there: a latency of one tick. The delay in ticks is that of the
  synapse, and 0 is possible.
* The threshold is strict, `v > v_thresh` (`cells.py`, `ThresholdNeuronGroup`).
* The reset comes after the synapses, so input that arrives in the tick in which a neuron fires is lost. Frames
  in every second tick avoid that: each population receives in one tick and fires in the next.
* The exact integrator gives `v * exp(-dt / tau_m)` where `v_rest`, `i_offset` and `i_inj` are 0. A neuron that
  did not fire is not reset, so the decay has to clear it: `tau_m` is so short that the potential after two
  ticks underflows to exactly 0 (factor f below 2^-560, f^2 below 2^-1120), while after one tick the potential
  is an ordinary float64, `f * V`.
* `v * f` rounds, and rounding is monotone: with the threshold `nextafter(f * threshold, -inf)` every
  potential that reaches the threshold fires. f is searched for just below a power of two, where the product
  keeps neighbouring floats apart: nothing below the threshold fires either, but for a potential that is
  closer than a rounding.
* A standing current would act in every tick, also in the one between; a neuron that it makes fire there would
  be reset and lose its input. So the bias arrives as a spike from a source that spikes once in each step; and a
  threshold that is not positive is lifted by a constant, which the same source adds to the potential.
* PyNN's `StepCurrentSource` adds the difference to its last amplitude to `i_inj`, cell by cell in Python
  (`electrodes.py`, `_update_current`), so that roundings of former frames stay, and the integrator scales it by
  `tau_m / c_m`, which rounds once more. So a `NetworkOperation` adds input
  values to `v` after the threshold, where a spike's weight would be added. They contain the bias and the lift of the
  threshold, summed in the oracle's order: a neuron without other input has exactly the oracle's potential.
* What a script may set around it, preferences, clocks and schedules: `strop_backends.pynn.brian2.cells`.
* `reset` restores the state of before the first run, with weights and thresholds (`simulator.py`).
* The connectors set `weight` and `delay` synapse by synapse (`projections.py`, `_convergent_connect`);
  `connect_arrays` gives `Synapses.connect` arrays. Weights of a delta cell are in mV for PyNN and in volt in
  Brian2; they are set in volt, one for a weight of 1, because a factor of 1/1000 would round, and
  `Projection.get` and `set` are in these units, too.
* Everything is generated for NumPy: compiling a handful of code objects for every population takes longer
  than it saves, and f is what NumPy's `exp` gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Population
from strop.running.backend import require_main_thread
from strop.running.collection import quick_collection
from strop_backends.pynn.brian2.log_filter import quiet_brian2
from strop_backends.pynn.common.connector import WAYS, SynapseArrays
from strop_backends.pynn.common.dialect import Dialect, Events, FloatArray, IntArray, Synapses
from strop_backends.pynn.common.parameters import Tuning

# Binary exponents of the decay over a tick: its square must underflow, its product with a potential must not.
_LEAST_EXPONENT, _LARGEST_EXPONENT = 560, 800


class Brian2Dialect(Dialect):
    """Brian2 2.9 or newer through PyNN."""

    name: ClassVar[str] = "pynn-brian2"
    timestep: ClassVar[float] = 0.1
    reset_restores: ClassVar[bool] = True
    ticks_per_step = 2
    latency = 1
    # At the peak: indices, weight and delay in Brian2 (24), the arrays that they are made from, and Brian2's own ways
    # from those to these, the delays' above all.
    bytes_per_synapse: ClassVar[int] = 155

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        import brian2

        from strop_backends.pynn.brian2 import cells

        self.brian2, self.cells = brian2, cells
        self.population, self.source, self.synapse, self.projection = cells.classes(sim)
        self._spaces: dict[str, npt.NDArray[np.int32]] = {}
        self._seen: list[tuple[str, int, npt.NDArray[np.int32]]] = []
        self._drives: list[_Drive] = []
        self._tunings: list[Tuning] = []
        self._seconds = 0.0

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.brian2`."""
        require_main_thread("brian2")
        import pyNN.brian2

        module: ModuleType = pyNN.brian2
        return module

    # Setting up
    # ---------------------------------------------------------------------------------------------------

    def setup(self, timestep: float, longest_delay: int, **options: Any) -> None:
        """Set Brian2 up; options go to PyNN's `setup`."""
        longest = longest_delay * self.ticks_per_step * timestep
        self.sim.setup(timestep=timestep, min_delay=timestep, max_delay=longest, **options)

    def check_setup(self, longest_delay: int) -> None:
        """Refuse a device that does not run here and now, and a schedule in which spikes would be wrong."""
        wrong = self._wrong_device()
        if wrong:
            raise BackendError(
                f"{self.name} runs on Brian2's runtime device, this script has {wrong}; call "
                "brian2.set_device('runtime'), or use the backend 'brian2-standalone'"
            )
        self._seconds = float(self._network.clock.dt_)
        self.check_surroundings()
        self._network.add(self.cells.Begun(self.sim.simulator.state))

    def check_surroundings(self) -> None:
        """Refuse another clock or schedule than those that the network was built for."""
        self.cells.require_surroundings(self._network, self._seconds)

    def _wrong_device(self) -> str | None:
        device = type(self.brian2.get_device()).__name__
        return f"set another device ({device})" if device != "RuntimeDevice" else None

    @property
    def _network(self) -> Any:
        return self.sim.simulator.state.network

    # Occupation of PyNN's network
    # ---------------------------------------------------------------------------------------------------

    @property
    def kernel_mark(self) -> object:
        """PyNN's network, which `setup` replaces."""
        return self._network

    def size(self) -> int:
        """Objects in PyNN's network."""
        return len(self._network.objects)

    def occupant(self, settings: bool) -> str | None:
        """Groups in PyNN's network, or a `setup` that has been called: it leaves an operation there."""
        operations = [o for o in self._network.objects if isinstance(o, self.brian2.NetworkOperation)]
        groups = len(self._network.objects) - len(operations)
        if groups:
            return f"{groups:,} groups and synapses in PyNN's Brian2 network"
        if not settings:
            return None
        if operations:
            return "set pyNN.brian2 up (sim.setup)"
        return self.cells.wrong_schedule(self._network) or self._wrong_device()

    def release(self) -> None:
        """Leave PyNN with a network that has nothing in it."""
        self.sim.end()
        self.sim.simulator.state.clear()

    # Time
    # ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> object:
        """PyNN's segment, a new one after each `reset`."""
        return self.sim.simulator.state.segment_counter

    def first_tick_after(self, time: float) -> int:
        """A tick's spikes have the time of its beginning."""
        return math.ceil(time / self.dt - 1e-6)

    def first_free_tick(self) -> int:
        """The next tick but one."""
        return self.unplayed_tick() + 1

    def unplayed_tick(self) -> int:
        """The tick that the next `run` begins with."""
        return int(self._network.clock.variables["timestep"].get_value().item())

    # Building
    # -----------------------------------------------------------------------------------------------------

    def sources(self, label: str, size: int) -> Any:
        """A `SpikeGeneratorGroup` on the clock of PyNN's network."""
        with self.cells.preferences():
            population = self.sim.Population(size, self.source(spike_times=[]), label=label)
        self.cells.independent(population.brian2_group, self._checked())
        return population

    def _checked(self) -> Any:
        """Return the check of the surroundings for this network, whatever PyNN sets up later."""
        network, seconds, require = self._network, self._seconds, self.cells.require_surroundings
        return lambda: require(network, seconds)

    def neurons(self, population: Population) -> Any:
        """`IF_curr_delta` with a decay that underflows."""
        tau, factor = decay(self._seconds)
        cell = self.sim.IF_curr_delta(
            cm=1.0, tau_m=1.0, v_rest=0.0, v_reset=0.0, v_thresh=1.0, tau_refrac=0.0, i_offset=0.0
        )
        with self.cells.preferences():
            neurons = self.population(population.size, cell, initial_values={"v": 0.0}, label=population.name)
        group = neurons.brian2_group
        variables = group.variables
        variables["tau_m"].set_value(np.full(population.size, tau))

        def write_threshold(threshold: FloatArray) -> None:
            variables["v_thresh"].set_value(np.nextafter((threshold + lift(threshold)) * factor, -np.inf))

        # Variables of the group, so that `reset` restores them with the threshold.
        graph_s = {"threshold": population.threshold, "bias": population.bias, "lift": lift(population.threshold)}
        for name, values in graph_s.items():
            variables.add_array(f"graph_{name}", size=population.size, values=values.reshape(-1), dtype=np.float64)
        own = {name: variables[f"graph_{name}"].get_value() for name in graph_s}
        neurons.tuning = Tuning(population.name, **own, lifts=lift, write_threshold=write_threshold)
        write_threshold(neurons.tuning.threshold)
        self._tunings.append(neurons.tuning)
        self.cells.independent(group, self._checked())
        return neurons

    def standing_weights(self, population: Population) -> FloatArray | None:
        """The bias, and the lift of the threshold."""
        return population.bias.reshape(-1) + lift(population.threshold.reshape(-1))

    def attach_standing(self, neurons: Any, projection: Any, post: IntArray) -> None:
        """Let changes of biases and thresholds reach the synapses that bring them."""
        neurons.tuning.standing = post
        neurons.tuning.write_standing = projection._brian2_synapses[0][0].variables["weight"].set_value

    def drive(self, population: Population, neurons: Any) -> Any:
        """The cells' potentials, to which values are added, and their `Tuning`."""
        if not self._drives:
            tick = self._network.clock.variables["timestep"].get_value()

            def feed() -> None:
                for drive in self._drives:
                    drive.add(int(tick.item()))

            # After the synapses and before the resets; a driven neuron fires, and is reset, in the other ticks.
            self._network.add(self.brian2.NetworkOperation(feed, clock=self._network.clock, when="after_synapses"))
        neurons.tuning.driven = True
        drive = _Drive(neurons.brian2_group.variables["v"].get_value(), neurons.tuning)
        self._drives.append(drive)
        return drive

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Keep the values for the ticks before those in which they count."""
        drive.due = dict(zip((ticks - self.latency).tolist(), values, strict=True))

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """Whole arrays to `Synapses.connect`."""
        # There is no spread here: one delay for all.
        delay = int(np.max(ticks)) * self.dt
        with self.cells.preferences():
            projection = self.projection(
                source,
                target,
                SynapseArrays(pre, post, weight, delay),
                self.synapse(weight=0.0, delay=delay),
                label=f"{source.label}->{target.label}",
            )
        self.cells.independent(projection._brian2_synapses[0][0], self._checked())
        return projection

    def read_weights(self, projection: Any) -> Synapses:
        """Brian2's own values, in volt."""
        synapses = projection._brian2_synapses[0][0]
        pre, post = (np.asarray(index[:], dtype=np.int64) for index in (synapses.i, synapses.j))
        weights = synapses.variables["weight"]
        return Synapses(pre, post, np.array(weights.get_value()), weights.set_value)

    def play(self, population: Any, neurons: IntArray, ticks: IntArray) -> None:
        """Set the generator's spikes, as two arrays."""
        population.brian2_group.set_spikes(neurons, ticks * self._seconds * self.brian2.second, sorted=False)

    def reset(self, ticks: int) -> None:
        """PyNN's `reset`, but thresholds and biases keep their values."""
        kept = [(tuning, tuning.threshold.copy(), tuning.bias.copy()) for tuning in self._tunings]
        super().reset(ticks)
        for tuning, threshold, bias in kept:
            tuning.change(threshold, bias)

    def record(self, populations: Mapping[str, Any]) -> None:
        """Copy the indices of those that fired at the end of each tick."""
        for name, population in populations.items():
            self._spaces[name] = population.brian2_group.variables["_spikespace"].get_value()
        clock = self._network.clock
        tick = clock.variables["timestep"].get_value()

        def keep() -> None:
            now = int(tick.item())
            for name, space in self._spaces.items():
                # The last entry counts the spikes, those before it are the neurons that fired.
                if space[-1]:
                    self._seen.append((name, now, space[: space[-1]].copy()))

        self._network.add(self.brian2.NetworkOperation(keep, clock=clock, when="end"))

    def take(self) -> dict[str, Events]:
        """Join the copied indices."""
        found = {}
        for name in self._spaces:
            ours = [(now, neurons) for owner, now, neurons in self._seen if owner == name]
            neurons = np.concatenate([np.zeros(0, dtype=np.int64), *(part for _, part in ours)])
            ticks = np.repeat(np.array([now for now, _ in ours], dtype=np.int64), [len(part) for _, part in ours])
            found[name] = (neurons, ticks)
        self._seen.clear()
        return found

    def run_until(self, tick: int) -> None:
        """Run up to `tick`; `Network.run` of Brian2 2.9 and 2.10 begins with `gc.collect()` (core/network.py)."""
        with quiet_brian2(), quick_collection():
            super().run_until(tick)


@dataclass
class _Drive:
    """Values that are added to potentials, `due` in certain ticks."""

    v: FloatArray
    tuning: Tuning
    due: dict[int, FloatArray] = field(default_factory=dict)

    def add(self, tick: int) -> None:
        """Add the values that are due in `tick`."""
        if tick in self.due:
            self.v += (self.due[tick] + self.tuning.bias) + self.tuning.lift


@lru_cache
def decay(step: float) -> tuple[float, float]:
    """Return `(tau, factor)`: a time constant in seconds, and `exp(-dt / tau)` as NumPy computes it.

    The factor is as close below a power of two as can be found; see the module's docstring.

    Parameters
    ----------
    step : float
        Length of a tick, `dt`, in seconds.
    """
    exponents = np.arange(_LEAST_EXPONENT, _LARGEST_EXPONENT)
    nominal = step / (exponents * math.log(2.0))
    tau = nominal[:, None] * (1.0 + np.arange(-8, 9) * 2.0**-52)
    factor = np.exp(-step * 1 / tau)
    mantissa, _ = np.frexp(factor)
    best = np.unravel_index(np.argmax(np.where(mantissa < 1.0, mantissa, 0.0)), mantissa.shape)
    return float(tau[best]), float(factor[best])


def lift(threshold: FloatArray) -> FloatArray:
    """Return the lift of thresholds, so that a neuron without input stays silent: 0 where they are positive."""
    size = np.abs(threshold)
    # A power of two twice the size keeps the sum as exact as can be; small for thresholds of 0, so that
    # biases keep their bits.
    power = np.ldexp(1.0, np.frexp(np.where(size > 0, size, 2.0**-21))[1])
    lifted: FloatArray = np.where(threshold > 0, 0.0, power)
    return lifted


def connect_arrays(projection: Any, synapses: SynapseArrays) -> None:
    """Make the synapses of a PyNN projection from arrays; weights in volt."""
    from brian2.codegen.runtime.numpy_rt import NumpyCodeObject

    made = projection._brian2_synapses[0][0]
    made.codeobj_class = NumpyCodeObject
    made.connect(i=synapses.pre, j=synapses.post)
    made.variables["weight"].set_value(synapses.weight)
    made.delay = synapses.delay * projection._simulator.ms
    projection._n_connections += len(synapses.pre)


WAYS["Brian2"] = connect_arrays
