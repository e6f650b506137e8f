"""`SpinnakerDialect`: PyNN on SpiNNaker through sPyNNaker 7.4, on a machine or a virtual board.

Read in sPyNNaker 7.4.1 and the C sources of its neurons (arithmetic: `strop_backends.pynn.spinnaker.fixed_point`):

* Spikes that arrive in a tick count in that tick, `V >= V_thresh` (`neuron_impl_standard.h`): a delay of d
  ticks, at least 1, makes it d ticks later than its source's. A frame can enter in every tick.
* `exp(-dt / tau_m)` is s16.15, so `tau_m = dt / 16` makes it exactly 0; with `cm = tau_m` the resistance is
  exactly 1. Both are powers of two, which s16.15 holds as they are, for time steps of 1 ms. `tau_refrac = 0`
  is no tick at all.
* Excitatory and inhibitory synapses are projections of their own; weights have no sign in memory.
* The cell is `extra_models.IFCurDelta`, PyNN's `IF_curr_delta` under another name.
* Without a file `.spynnaker.cfg` in the home folder `setup` writes one and raises
  (`spinn_utilities/config_holder.py`); for a virtual board a temporary home folder is enough.
* Convolution connectors run on populations of their own kind (`ConvolutionConnector` with
  `PopulationMachineLocalOnlyCombinedVertex`), which take no other connector. Pooling, skip connections and
  dense layers meet convolutions in most networks, so synapses are expanded here.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from strop.errors import BackendError
from strop.graph import Graph, Population, Projection, structure
from strop_backends.pynn.common.dialect import FloatArray, IntArray, by_neuron
from strop_backends.pynn.common.recording import RecordingDialect
from strop_backends.pynn.copies import FILL, copy_name
from strop_backends.pynn.spinnaker.fixed_point import Scaling
from strop_backends.pynn.spinnaker.projections import SignedProjections

# Bits that number the entries of a core's ring buffers (`pyNN/utilities/constants.py`, `MAX_RING_BUFFER_BITS`): neuron,
# sign, and the rest is the delay.
RING_BUFFER_BITS = 14
# Stages of the same length that a delay vertex adds (`delays/delay_extension_vertex.py`, `MAX_SLOTS`).
DELAY_STAGES = 8
# Neurons on a core, unless the user says fewer (`POP_TABLE_MAX_ROW_LENGTH`).
NEURONS_PER_CORE = 256
# Bytes of SDRAM that a chip's cores share (SpiNNMachine 7.4.1, `version/version_spin1.py`), and of a synapse there.
CHIP_SDRAM = 123_469_792
SYNAPSE_BYTES = 4


@contextmanager
def available_configuration() -> Iterator[None]:
    """Let sPyNNaker find a configuration: the user's, or an empty one in a temporary folder."""
    own = Path("~/.spynnaker.cfg").expanduser()
    if own.exists():
        yield
        return
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".spynnaker.cfg").write_text("[Machine]\n", encoding="utf-8")
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home


class SpinnakerDialect(RecordingDialect):
    """sPyNNaker 7.4 or newer; on a machine, or on a virtual board that only maps."""

    name: ClassVar[str] = "pynn-spinnaker"
    bytes_per_synapse: ClassVar[int] = 200

    def __init__(self, sim: ModuleType) -> None:
        super().__init__(sim)
        self.scaling: Mapping[str, Scaling] = {}
        self.neurons_per_core = NEURONS_PER_CORE

    @staticmethod
    def load() -> ModuleType:
        """Import `pyNN.spiNNaker`."""
        import pyNN.spiNNaker

        module: ModuleType = pyNN.spiNNaker
        return module

    def setup(
        self,
        timestep: float,
        longest_delay: int,
        virtual: bool = False,
        board: int = 5,
        neurons_per_core: int | None = None,
        time_scale_factor: int | None = None,
        scaling: Mapping[str, Scaling] | None = None,
        spread: int = 1,
        **options: Any,
    ) -> None:
        """Set sPyNNaker up.

        Parameters
        ----------
        virtual : bool
            Only map, on virtual boards; nothing runs.
        board : int
            Version of the virtual board: 3 (4 chips) or 5 (48 chips).
        neurons_per_core : int, optional
            Fewer neurons on a core spread a frame's synaptic events over more cores; costs cores, and a copy
            of every packet for each of them. By default as many as sPyNNaker allows.
        time_scale_factor : int, optional
            How much slower than real time it runs: more cycles for a frame's events in each tick; costs only
            time.
        scaling : mapping of population name to Scaling, optional
            Ring-buffer shifts and factors; see `strop_backends.pynn.spinnaker.fixed_point.measured_scaling`. By default
            sPyNNaker's own: the largest weight times the number of synapses, which holds the sum of every frame and is
            coarse (`population_vertex.py`, `_Stats.get_max_weight`, for projections of one delay).
        spread : int
            Spread each frame's spikes over so many ticks: neuron j of a population answers `j % spread` ticks later,
            its synapses delayed accordingly. The packets of a tick, and the rows that are fetched for them (a core
            adds a row to its ring buffers when the packet comes, not when the delay is over), are so many times
            fewer; a frame enters in every `spread`-th tick. No spike changes, but a neuron whose bias alone reaches
            its threshold now fires in the ticks between, too: those spikes arrive in ticks between, which are
            not read. Delays are `spread` times as long. Needs a scaling: where the delays of a
            projection differ, sPyNNaker expects a Poisson process, and its ring buffers would saturate.
        """
        if neurons_per_core is not None and neurons_per_core < 1:
            raise BackendError(f"{self.name}: neurons_per_core must be positive, got {neurons_per_core}")
        self.spread_over(spread)
        self.scaling = scaling or {}
        self.neurons_per_core = min(neurons_per_core or NEURONS_PER_CORE, NEURONS_PER_CORE)
        with available_configuration():
            self.sim.setup(timestep=timestep, min_delay=timestep, time_scale_factor=time_scale_factor, **options)
        if virtual:
            configuration = import_module("spinn_utilities.config_holder")
            configuration.set_config("Machine", "virtual_board", "True")
            configuration.set_config("Machine", "version", str(board))
        if neurons_per_core is not None:
            self.sim.set_number_of_neurons_per_core(self.sim.extra_models.IFCurDelta, neurons_per_core)

    def copies_that_fill(self, graph: Graph, options: Mapping[str, Any] | None) -> int:
        """As many as a virtual board takes, which is mapped for it."""
        if options is None:
            raise BackendError(
                f'{self.name}: copies="fill" maps the network first, which would drop what your script has set up: '
                'find the number before sim.setup(), with get_backend("pynn-spinnaker").map(graph, copies="fill")'
            )
        mapping = import_module("strop_backends.pynn.spinnaker.mapping")
        given = {name: value for name, value in options.items() if name != "virtual"}
        return int(mapping.inspect_mapping(graph, copies=FILL, **given).copies)

    def tile(self, copies: int) -> None:
        """Every copy has the scaling of its population."""
        self.scaling = {
            copy_name(name, copy): scaling for copy in range(copies) for name, scaling in self.scaling.items()
        }

    @property
    def dt(self) -> float:
        """Length of a tick in ms."""
        return float(self.sim.get_time_step())

    @property
    def kernel_mark(self) -> object:
        """sPyNNaker makes a simulator for each setup."""
        view = import_module("spynnaker.pyNN.data").SpynnakerDataView
        found: object = view.get_timestamp_dir_path()
        return found

    def holds(self, mark: object) -> bool:
        """Whether the folder is still the same."""
        return self.kernel_mark == mark

    def longest_delay(self, population: Population) -> int | None:
        """The slots of the population's ring buffers, and eight times as many in a delay vertex before it.

        `population_vertex.py`, `__update_max_delay`, and `delay_support_adder.py`, `_check_delay_values`: fewer neurons
        on a core leave more bits for the delay.
        """
        return (1 + DELAY_STAGES) * delay_slots(min(population.size, self.neurons_per_core))

    def check_load(self, graph: Graph, carried: Sequence[Projection]) -> None:
        """Refuse a core whose synapses alone, 4 bytes each, are more than the SDRAM of a chip, and a spread of
        unknown scaling."""
        unscaled = sorted({p.target for p in carried} - set(self.scaling))
        if self.spread > 1 and unscaled:
            raise BackendError(
                f"{self.name}: a spread needs a scaling for {', '.join(unscaled)}: where delays differ, sPyNNaker "
                "expects a Poisson process and makes the ring buffers too small for a frame's spikes; "
                "give it scaling=strop_backends.pynn.spinnaker.fixed_point.measured_scaling(graph, frames)"
            )
        by_target: dict[str, IntArray] = {}
        for p in carried:
            fan_in = structure(p.operator).apply(np.ones((1, *p.operator.shape_in)))[0].reshape(-1)
            by_target[p.target] = by_target.get(p.target, np.zeros(1, dtype=np.int64)) + fan_in.astype(np.int64)
        for name, fan_in in by_target.items():
            starts = np.arange(0, len(fan_in), self.neurons_per_core)
            synapses = int(np.add.reduceat(fan_in, starts).max())
            if synapses * SYNAPSE_BYTES > CHIP_SDRAM:
                raise BackendError(
                    f"{self.name}: {synapses:,} synapses end on one core of population {name!r} (fan-in up to "
                    f"{int(fan_in.max()):,}, {min(len(fan_in), self.neurons_per_core)} neurons), which takes "
                    f"{synapses * SYNAPSE_BYTES:,} bytes of the {CHIP_SDRAM:,} of a chip; give it fewer "
                    "neurons_per_core"
                )

    def first_free_tick(self) -> int:
        """The tick behind now."""
        return round(float(self.sim.get_current_time()) / self.dt) + 1

    def neurons(self, population: Population) -> Any:
        """`IFCurDelta` without memory, scaled as asked for."""
        scaling = self.scaling.get(population.name)
        factor = 1.0 if scaling is None else scaling.factor
        tau = self.dt / 16
        cell = self.sim.extra_models.IFCurDelta(
            tau_m=tau,
            cm=tau,
            v_rest=0.0,
            v_reset=0.0,
            v_thresh=(population.threshold.reshape(-1) * factor).tolist(),
            tau_refrac=0.0,
            i_offset=(population.bias.reshape(-1) * factor).tolist(),
        )
        more = {}
        if scaling is not None:
            more["max_expected_summed_weight"] = list(scaling.expected_sums)
        return self.sim.Population(
            population.size, cell, label=population.name, initial_values={"v": 0.0}, additional_parameters=more or None
        )

    def project(
        self, source: Any, target: Any, pre: IntArray, post: IntArray, weight: FloatArray, ticks: int | IntArray
    ) -> Any:
        """A projection for each sign."""
        scaling = self.scaling.get(target.label)
        factor = 1.0 if scaling is None else scaling.factor
        parts: dict[str, Any] = {}
        for chosen, receptor in ((weight > 0, "excitatory"), (weight < 0, "inhibitory")):
            if not chosen.any():
                continue
            delay = np.broadcast_to(ticks, chosen.shape)[chosen] * self.dt
            # sPyNNaker takes weights with the sign of their receptor.
            table = np.column_stack([pre[chosen], post[chosen], weight[chosen] * factor, delay])
            parts[receptor] = self.sim.Projection(
                source,
                target,
                self.sim.FromListConnector(table, column_names=("weight", "delay")),
                self.sim.StaticSynapse(),
                receptor_type=receptor,
                label=f"{source.label}->{target.label} {receptor}",
            )
        return SignedProjections(f"{source.label}->{target.label}", parts, factor)

    def play(self, population: Any, neurons: IntArray, ticks: IntArray) -> None:
        """Set the sources' times.

        `Population.set` would store a list that the partitioner then indexes with an array (sPyNNaker 7.4.1,
        `reverse_ip_tag_multi_cast_source.py`, `_filtered_send_buffer_times`); the vertex gets the form that
        its constructor makes.
        """
        vertex = population._vertex
        vertex.send_buffer_times = vertex._validate_send_buffer_times(by_neuron(neurons, ticks, population.size))

    def spike_times(self, population: Any) -> list[FloatArray]:
        """Read the recordings back from the machine."""
        trains = population.get_data("spikes", clear=True).segments[-1].spiketrains
        return [np.asarray(train.magnitude) for train in trains]

    def run_until(self, tick: int) -> None:
        """Run, or map on a virtual board."""
        self.sim.run(tick * self.dt - float(self.sim.get_current_time()))


def delay_slots(neurons: int) -> int:
    """Return how many ticks a core's ring buffers hold, given its neurons; each has two, one for each sign."""
    # sPyNNaker numbers one neuron with a bit, too (`utility_calls.py`, `get_n_bits`).
    bits = max(1, math.ceil(math.log2(neurons)))
    return int(2 ** (RING_BUFFER_BITS - 1 - bits))
