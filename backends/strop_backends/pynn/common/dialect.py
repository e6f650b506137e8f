"""`Dialect`: what differs between PyNN simulators - clock, cell, how synapses and spikes get in and out.

`strop_backends.pynn.network` and `strop_backends.pynn.run` are written once, against `Dialect`. The dialects of `nest`,
`brian2`, `neuron` and `spinnaker` set up one simulator each, so that a neuron fires iff its potential reaches its
threshold. `dialect_for` finds the dialect of a PyNN module; `CLAIMS` keeps which simulators strop itself has set up.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Graph, Population, Projection
from strop_backends.pynn.common.processes import ON_PURPOSE, Processes, join

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
# Spikes of one population: neuron (flat index) and tick of each.
Events = tuple[IntArray, IntArray]

# Name of a PyNN module -> module and class of its dialect.
DIALECTS = {
    "pyNN.nest": ("strop_backends.pynn.nest.dialect", "NestDialect"),
    "pyNN.brian2": ("strop_backends.pynn.brian2.dialect", "Brian2Dialect"),
    "pyNN.neuron": ("strop_backends.pynn.neuron.dialect", "NeuronDialect"),
    "pyNN.spiNNaker": ("strop_backends.pynn.spinnaker.dialect", "SpinnakerDialect"),
    "spynnaker.pyNN": ("strop_backends.pynn.spinnaker.dialect", "SpinnakerDialect"),
}


@dataclass(frozen=True)
class Claim:
    """A record that strop has set a simulator up.

    Attributes
    ----------
    mark : object
        The simulator's `kernel_mark` then.
    size : int
        How many objects it held when the network was ready.
    disposable : bool
        Whether the network is a runner's, which builds it again if it is lost.
    """

    mark: object
    size: int
    disposable: bool


@dataclass(frozen=True)
class Synapses:
    """A projection's synapses, as they are in the simulator.

    Attributes
    ----------
    pre, post : int64 arrays, shape (synapses,)
        Cells before and behind.
    weights : float64 array, shape (synapses,)
    write : callable
        Takes weights in the same order, and sets them.
    """

    pre: IntArray
    post: IntArray
    weights: FloatArray
    write: Callable[[FloatArray], None]


# Name of a dialect -> strop's last claim.
CLAIMS: dict[str, Claim] = {}


class SimulatorInUseError(BackendError):
    """Setting the simulator up would drop a network or settings of the user's."""


class Dialect(ABC):
    """One PyNN simulator, with the network that is being built in it.

    A *tick* is a time step of the simulator, a *step* one of the graph, in which every population answers a
    frame.

    Attributes
    ----------
    ticks_per_step : int
        Ticks from one frame to the next.
    layer_ticks : int
        Ticks from a population's answer to that of the population behind it: `ticks_per_step`, or more.
    latency : int
        Ticks from the arrival of a spike to the spike that it causes.
    spread : int
        Ticks over which the spikes of one population's answer to a frame are spread; 1 where they come together.
    bytes_per_synapse, bytes_per_neuron : int
        Bytes per synapse and neuron while the network is built, at the peak, for the estimate of memory.
    bytes_per_value : int
        Bytes per input value of a neuron and step, besides the value itself.
    """

    name: ClassVar[str]
    # For the message that the simulator is in use.
    how_to_let_go: ClassVar[str] = ""
    # Whether PyNN's `reset` restores the weights of before the first run.
    reset_restores: ClassVar[bool] = False
    timestep: ClassVar[float] = 1.0
    ticks_per_step: int = 1
    # Layers further apart than frames; 0 where they are not.
    stretched: int = 0
    latency: int = 0
    spread: int = 1
    bytes_per_synapse: ClassVar[int] = 120
    bytes_per_neuron: ClassVar[int] = 1000
    bytes_per_value: int = 16

    def __init__(self, sim: ModuleType) -> None:
        self.sim = sim
        self.processes = Processes(None)

    # Processes
    # ---------------------------------------------------------------------------------------------------

    def join(self) -> Processes:
        """Return the processes that simulate together; `BackendError` if `mpirun` started some that do not."""
        self.processes = join(self.name, *self.process_count(), BackendError)
        return self.processes

    def process_count(self) -> tuple[int, str]:
        """Return how many processes the simulator counts, and why it could be one where `mpirun` started several."""
        return 1, f"It knows nothing of MPI: start it once; {ON_PURPOSE}"

    @property
    def layer_ticks(self) -> int:
        """Ticks from one population to the next."""
        return self.stretched or self.ticks_per_step

    # Setting up
    # ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def setup(self, timestep: float, longest_delay: int, **options: Any) -> None:
        """Call PyNN's `setup`; the time step in ms, the delay in steps of the graph; `options` are the user's."""

    def spread_over(self, ticks: int) -> None:
        """Spread each population's spikes over `ticks`, with so many times as long from one frame to the next."""
        if not isinstance(ticks, int) or ticks < 1:
            raise BackendError(f"{self.name}: spread must be a positive number of ticks, got {ticks!r}")
        self.spread, self.ticks_per_step = ticks, ticks * type(self).ticks_per_step

    def check_setup(self, longest_delay: int) -> None:
        """Raise `BackendError` if the simulator, as it is set up, cannot run a graph.

        Parameters
        ----------
        longest_delay : int
            Of the graph, in ticks; for the message.
        """
        return None

    def check_surroundings(self) -> None:
        """Raise `BackendError` if a setting that changes spikes has changed since the network was built, or if no input
        can be presented at this moment."""
        return None

    def check_answers(self) -> None:
        """Raise `BackendError` if the spikes that have been recorded are wrong."""
        return None

    def advice_on_delays(self, longest_delay: int) -> str:
        """Return advice on how to let the simulator hold delays of so many ticks; empty where there is none."""
        return ""

    def longest_delay(self, population: Population) -> int | None:
        """Return the longest delay in ticks of a synapse that ends in `population`; None where there is no limit."""
        return None

    def check_load(self, graph: Graph, carried: Sequence[Projection]) -> None:
        """Raise `BackendError` if `carried`, the projections that the simulator gets, are more than it can hold.

        Nothing is expanded to find out. `strop.graph.capacity` checks the memory of this machine.
        """
        return None

    def copies_that_fill(self, graph: Graph, options: Mapping[str, Any] | None) -> int:
        """Return how many copies of `graph` fill the machine, for `copies="fill"`.

        Parameters
        ----------
        options : mapping, optional
            Those for `setup`; None where the user has set the simulator up.
        """
        raise BackendError(f'{self.name}: copies="fill" fills a board of SpiNNaker; give a number of copies here')

    def tile(self, copies: int) -> None:
        """Get ready for so many copies of each population; see `strop_backends.pynn.copies`."""
        return None

    @property
    def dt(self) -> float:
        """Length of a tick in ms."""
        return float(self.sim.get_time_step())

    @property
    def epoch(self) -> object:
        """A value that changes with each `reset`, which sets PyNN's time back to 0."""
        return None

    # Occupation: PyNN keeps one network per process and simulator, and `setup` drops it
    # ---------------------------------------------------------------------------------------------------

    @property
    def kernel_mark(self) -> object:
        """An object that the next `setup()` replaces: all of PyNN's networks live in one kernel."""
        return self.sim.simulator.state.recorders

    def holds(self, mark: object) -> bool:
        """Whether the simulator has not been set up again since it had this `kernel_mark`."""
        return self.kernel_mark is mark

    def size(self) -> int:
        """Return how many objects the simulator holds, to tell whether any has been added."""
        return 0

    def occupant(self, settings: bool) -> str | None:
        """Describe the network or settings that `setup` would drop, whoever made them; None if there are none.

        Parameters
        ----------
        settings : bool
            Whether settings count, too, where nothing has been built yet.
        """
        return None

    def release(self) -> None:
        """Remove strop's own network, and restore the simulator's state of before."""
        self.sim.end()

    def discard(self, populations: Iterable[Any]) -> None:
        """Let Python free the populations of a network that the simulator has dropped, and that nobody needs any more.

        A cell of PyNN knows its population (`ID.parent`), and a population keeps its cells in an array of objects
        (`all_cells`). Arrays take no part in Python's search for cycles, so each population would stay for ever (PyNN
        0.13, `common/populations.py`).
        """
        for population in populations:
            for cell in population.all_cells:
                cell.parent = None

    def claim(self, disposable: bool) -> None:
        """Record that strop has set the simulator up; a disposable network is held by a runner alone."""
        CLAIMS[self.name] = Claim(self.kernel_mark, self.size(), disposable)

    def in_use(self, disposable: bool) -> str | None:
        """Describe what would be lost if strop set the simulator up now, or return None.

        Parameters
        ----------
        disposable : bool
            For a runner: a network of `strop.build` must not be lost, either, nor settings that the user has made
            before building anything.
        """
        claim = CLAIMS.get(self.name)
        if claim is None or not self.holds(claim.mark):
            return self.occupant(settings=disposable)
        if not disposable or (claim.disposable and self.size() <= claim.size):
            return None
        return "a network that strop.build has set up"

    # Time
    # ---------------------------------------------------------------------------------------------------

    def first_tick_after(self, time: float) -> int:
        """Return the first tick whose spikes come after `time`, in ms of PyNN's."""
        return math.floor(time / self.dt + 1e-6) + 1

    @abstractmethod
    def first_free_tick(self) -> int:
        """Return the first tick in which a source can still be told to spike."""

    def unplayed_tick(self) -> int:
        """Return the first tick that has not been simulated yet: input presented for it is still to come."""
        return self.first_free_tick()

    # Building
    # -----------------------------------------------------------------------------------------------------

    def sources(self, label: str, size: int) -> Any:
        """Return a population of spike sources, silent so far."""
        return self.sim.Population(size, self.sim.SpikeSourceArray(spike_times=[]), label=label)

    @abstractmethod
    def neurons(self, population: Population) -> Any:
        """Return a PyNN population that fires as `population` does."""

    @abstractmethod
    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """Return a PyNN projection with these synapses, `ticks` of delay: one number for all, or one for each."""

    def standing_weights(self, population: Population) -> FloatArray | None:
        """Return the weights of the input that every neuron gets in each step, shape `(size,)`, or None where none is
        needed: biases that are not part of the cell, and compensation for lifted thresholds."""
        return None

    def attach_standing(self, neurons: Any, projection: Any, post: IntArray) -> None:
        """Remember the projection that brings `standing_weights` to `neurons`; its synapses end at `post`, in order."""
        return None

    def drive(self, population: Population, neurons: Any) -> Any:
        """Return the devices that inject a value of its own into each of `neurons` in each step; `inject` sets them."""
        raise BackendError(
            f"{self.name}: population {population.name!r} is driven by values, its cells take spikes alone. Lower the "
            "model with encoding='host', 'bitplane' or 'binary'"
        )

    # Running
    # ------------------------------------------------------------------------------------------------------

    def inject(self, drive: Any, values: FloatArray, ticks: IntArray) -> None:
        """Set the values to inject, in place of those before.

        Parameters
        ----------
        drive
            What `drive` returned.
        values : array, shape (n, size)
            Added to the bias and the weights of the spikes that arrive.
        ticks : array, shape (n,)
            Ticks in which the first neuron tests its threshold with them, ascending, at least `ticks_per_step` apart.
        """
        raise NotImplementedError(f"{self.name} has no drive")

    def play(self, population: Any, neurons: IntArray, ticks: IntArray) -> None:
        """Set the spikes of sources, in place of those before; ascending by `neurons`, then by `ticks`."""
        from pyNN.parameters import Sequence

        parts = [Sequence(part) for part in by_neuron(neurons, ticks * self.dt, population.size)]
        # PyNN takes a list of length one for a single list of times (`pyNN/parameters.py`).
        population.set(spike_times=parts if len(parts) > 1 else parts[0])

    def reset(self, ticks: int) -> None:
        """Call PyNN's `reset`; `ticks` is how long spikes may still be under way."""
        self.sim.reset()

    def read_weights(self, projection: Any) -> Synapses:
        """Return a projection's synapses, in an order that holds for this one answer."""
        raise BackendError(f"{self.name}: weights cannot be read from the simulator")

    def make_recorder(self) -> None:
        """Prepare for `record`, before there are neurons; a runner calls both."""
        return None

    @abstractmethod
    def record(self, populations: Mapping[str, Any]) -> None:
        """Record all spikes of these populations from now on."""

    @abstractmethod
    def take(self) -> dict[str, Events]:
        """Return the spikes recorded since the last call, and discard them."""

    def rewind(self) -> None:
        """Go back to the start of the simulation, where the simulator accepts new input only there."""
        return None

    def run_until(self, tick: int) -> None:
        """Advance the simulation to the beginning of `tick`."""
        self.sim.run_until(tick * self.dt)


def by_neuron(neurons: IntArray, values: npt.NDArray[Any], size: int) -> list[npt.NDArray[Any]]:
    """Split `values` into one array for each of `size` neurons; `neurons` must ascend."""
    return np.split(values, np.searchsorted(neurons, np.arange(1, size)))


def dialect_for(sim: ModuleType | str) -> Dialect:
    """Return the dialect of a PyNN module, or of the name of one.

    Raises
    ------
    BackendError
        For a module that is no PyNN simulator, or one that strop has no dialect for.
    ImportError
        If the simulator is not installed.
    """
    name = sim if isinstance(sim, str) else sim.__name__
    if name not in DIALECTS:
        raise BackendError(
            f"{name!r} is no PyNN simulator that strop can build for; it can: {', '.join(sorted(DIALECTS))}"
        )
    module, cls = DIALECTS[name]
    found: type[Dialect] = getattr(import_module(module), cls)
    return found(found.load() if isinstance(sim, str) else sim)  # type: ignore[attr-defined]  # each has its own
