"""Backends through PyNN: NEST, Brian2, NEURON and SpiNNaker. Hands on their four classes.

`network` builds a graph with any of them, `run` streams frames, `export` writes standalone folders. `common` has what
the simulators share; `nest`, `brian2`, `neuron` and `spinnaker` have what differs. Nothing of PyNN is imported before a
network is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from strop.graph import ENCODINGS, Graph
from strop.running.arithmetic import FLOAT64, NEURON, SPINNAKER, Arithmetic
from strop.running.backend import Backend, Runner
from strop.running.encode import Frames

if TYPE_CHECKING:
    from strop_backends.pynn.spinnaker.records import SpinnakerMapping

__all__ = ["PyNNBrian2Backend", "PyNNNestBackend", "PyNNNeuronBackend", "PyNNSpinnakerBackend"]


# On NEST: ticks from a layer to the next, and how many the longest delay may have for that.
LAYER_TICKS = 16
LONGEST_DELAY = 256


class _PyNNBackend(Backend):
    """A simulator behind PyNN."""

    encodings: ClassVar[tuple[str, ...]] = ENCODINGS
    module: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]
    # Options besides `timestep` and `copies`: those that PyNN's `setup` uses, without those that change the arithmetic.
    # PyNN itself ignores keywords that it does not know (`common.setup(..., **extra_params)`).
    options: ClassVar[frozenset[str]] = frozenset()

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `BackendError` if any of `options` is unknown."""
        known = {"timestep", "copies", *self.options}
        self.refuse_options({name: value for name, value in options.items() if name not in known}, known)

    @classmethod
    def version(cls) -> str:
        """Versions of PyNN and of the simulator; raises `ImportError` if either is missing."""
        found = []
        for distribution in ("PyNN", *cls.distributions):
            try:
                found.append(f"{distribution} {version(distribution)}")
            except PackageNotFoundError as error:
                raise ImportError(f"{distribution} is not installed") from error
        return ", ".join(found)

    def build(self, graph: Graph, simulator: ModuleType | None = None, **options: Any) -> Any:
        """Return a `strop_backends.pynn.network.PyNNNetwork`: populations and projections, to present frames to.

        Parameters
        ----------
        graph : Graph
        simulator : PyNN module, optional
            One that the user has set up; by default strop calls its `setup`.
        options
            `timestep` in ms, `copies` (see `strop_backends.pynn.network.PyNNNetwork`), and the backend's own (`threads`
            for NEST; see `options` of the class).

        Raises
        ------
        BackendError
            For an unknown option, and for a graph that exceeds a limit of the simulator.
        """
        self.check_options(options)
        from strop_backends.pynn.network import PyNNNetwork

        return PyNNNetwork(graph, simulator if simulator is not None else self.module, **options)

    def load(self) -> None:
        from strop_backends.pynn.common.dialect import dialect_for

        dialect_for(self.module)

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Build the network and return a runner; options as for `build`. In one process alone, not under `mpirun`."""
        self.check_options(options)
        from strop_backends.pynn.run import PyNNRunner

        return PyNNRunner(graph, self.module, self.name, **options)


class PyNNNestBackend(_PyNNBackend):
    """NEST through PyNN: `iaf_psc_delta` without memory, a frame per time step."""

    name: ClassVar[str] = "pynn-nest"
    summary: ClassVar[str] = "NEST through PyNN (IF_curr_delta), a frame per time step; option threads=N"
    module: ClassVar[str] = "pyNN.nest"
    options: ClassVar[frozenset[str]] = frozenset(
        {
            "threads",
            "layer_ticks",
            "verbosity",
            "spike_precision",
            "recording_precision",
            "rng_seed",
            "rng_type",
            "t_flush",
            "spread",
        }
    )
    distributions: ClassVar[tuple[str, ...]] = ("nest-simulator",)

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        """Build the network and return a runner; layers are 16 ticks apart, unless `layer_ticks` or `spread` says else.

        With `build` they are one tick apart, so that a script of the user's can add synapses of a tick.
        """
        if options.get("spread", 1) == 1:
            longest = max((p.delay for p in graph.projections), default=1)
            # A neuron keeps its input of as many ticks as the longest delay has.
            options = {"layer_ticks": max(1, min(LAYER_TICKS, LONGEST_DELAY // longest)), **options}
        return super().prepare(graph, **options)

    @property
    def arithmetic(self) -> Arithmetic:
        """float64: `V = 1 (0 + I_e) + 0 V + spikes` with exact factors; weights as they are, in no pA and no nA."""
        source = (
            "NEST 3.10.0, models/iaf_psc_delta.cpp (update; P30 = 1, P33 = 0) and nestkernel/ring_buffer.h; weights "
            "are set in NEST's own unit (strop_backends.pynn.nest.cells), not through PyNN's factors of 1000"
        )
        return replace(FLOAT64, name=self.name, source=source)

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Other time steps, threads, and a spread; see `strop.running.backend.Backend`."""
        from strop_backends.pynn.nest.surroundings import NEST_VARIATIONS

        return NEST_VARIATIONS

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Settings and networks that a script may have made before; see `strop.running.backend.Backend`."""
        from strop_backends.pynn.nest.surroundings import around_nest

        return around_nest()


class PyNNBrian2Backend(_PyNNBackend):
    """Brian2 through PyNN: `IF_curr_delta`, a frame in every second time step."""

    name: ClassVar[str] = "pynn-brian2"
    summary: ClassVar[str] = "Brian2 through PyNN (IF_curr_delta), a frame in every second time step"
    frame_interval: ClassVar[int] = 2
    module: ClassVar[str] = "pyNN.brian2"
    distributions: ClassVar[tuple[str, ...]] = ("Brian2",)

    @property
    def arithmetic(self) -> Arithmetic:
        """float64: sums in volt, one for a weight of 1, are exact; the decay `f` rounds potential and threshold alike.

        Its factor lies between 2^-800 and 2^-560, so that products are normal numbers from 2^-222 on, and what two
        steps leave over vanishes below 2^45. `round(f V) >= round(f T)` is `V >= T` for values further apart than
        2^-52 of them, and for equal ones.
        """
        return replace(
            FLOAT64,
            name=self.name,
            sum_bits=47,
            resolution=2.0**-52,
            exponents=(-222, 45),
            lift=2.0**-20,
            source=(
                "PyNN 0.13, pyNN/brian2/cells.py (v > v_thresh), and Brian2 2.9.0 (method exact: v exp(-dt / tau_m)); "
                "strop_backends.pynn.brian2.dialect"
            ),
        )

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Other time steps; see `strop.running.backend.Backend`."""
        from strop_backends.pynn.brian2.surroundings import BRIAN2_VARIATIONS

        return BRIAN2_VARIATIONS

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Settings and networks that a script may have made before; see `strop.running.backend.Backend`."""
        from strop_backends.pynn.brian2.surroundings import around_brian2

        return around_brian2()


class PyNNNeuronBackend(_PyNNBackend):
    """NEURON through PyNN: `IF_curr_exp`, frames spaced until the potential has decayed to 0."""

    name: ClassVar[str] = "pynn-neuron"
    summary: ClassVar[str] = "NEURON through PyNN (IF_curr_exp), frames spaced until nothing is left over"
    # Subtracted from thresholds, relative to them: `strop_backends.pynn.neuron.dialect.RESOLUTION`, which is not
    # imported here.
    resolution: ClassVar[float] = 2.0**-44
    module: ClassVar[str] = "pyNN.neuron"
    # Not `use_cvode`: with steps of variable length the peak of the potential is not the calculated one.
    options: ClassVar[frozenset[str]] = frozenset({"native_rng_baseseed"})
    distributions: ClassVar[tuple[str, ...]] = ("neuron",)

    @property
    def arithmetic(self) -> Arithmetic:
        """float64, an exact current, and a membrane that follows it to less than 64 roundings."""
        return replace(NEURON, name=self.name)

    def variations(self) -> Mapping[str, Mapping[str, Any]]:
        """Other time steps; see `strop.running.backend.Backend`."""
        from strop_backends.pynn.neuron.surroundings import NEURON_VARIATIONS

        return NEURON_VARIATIONS

    def surroundings(self) -> Mapping[str, Callable[[], AbstractContextManager[Any]]]:
        """Settings and networks that a script may have made before; see `strop.running.backend.Backend`."""
        from strop_backends.pynn.neuron.surroundings import around_neuron

        return around_neuron()


class PyNNSpinnakerBackend(_PyNNBackend):
    """SpiNNaker through sPyNNaker: 16-bit weights, a frame per tick; needs a machine to run."""

    name: ClassVar[str] = "pynn-spinnaker"
    summary: ClassVar[str] = "SpiNNaker through sPyNNaker (16-bit weights); option virtual=True only maps"
    encodings: ClassVar[tuple[str, ...]] = ("host", "bitplane", "binary")
    module: ClassVar[str] = "pyNN.spiNNaker"
    options: ClassVar[frozenset[str]] = frozenset(
        {"virtual", "board", "neurons_per_core", "time_scale_factor", "scaling", "spread"}
        | {"n_boards_required", "n_chips_required", "database_socket_addresses"}
    )
    distributions: ClassVar[tuple[str, ...]] = ("sPyNNaker",)
    # Not by default, because it needs a machine; named explicitly, it runs where one is configured.
    runs: ClassVar[bool] = False
    unproved: ClassVar[str] = (
        "sPyNNaker chooses the shifts of ring buffers when it maps the network, and only with a shift of 1 is nothing "
        "rounded: `strop export --target spinnaker` fixes the shift, and its folder holds the certificate"
    )

    @property
    def arithmetic(self) -> Arithmetic:
        """Whole numbers in 16-bit weights and ring buffers, each sign apart."""
        return replace(SPINNAKER, name=self.name)

    def fidelity(self, graph: Graph) -> list[tuple[str, str, str]]:
        """Return how faithfully each population runs: weights have 16 bits there.

        The margin is that of the weights alone, with every ring buffer at its finest (a shift of 0); how coarse it is
        depends on the mapping, see `strop_backends.pynn.spinnaker.fixed_point`.
        """
        from strop_backends.pynn.spinnaker.fixed_point import least_margin

        rows = []
        for name, level, reason in super().fidelity(graph):
            if name not in graph.host_populations and level != "unsupported":
                margin = least_margin(graph, name)
                level = f"exact within {margin:.1e}"
                reason = "half a step of 2^-15 for each weight, bias and threshold; coarser where sums need a shift"
            rows.append((name, level, reason))
        return rows

    def map(self, graph: Graph, frames: Frames | None = None, **options: Any) -> SpinnakerMapping:
        """Map `graph` on a virtual board; see `strop_backends.pynn.spinnaker.mapping.inspect_mapping`."""
        self.check_options(options)
        self.check(graph)
        from strop_backends.pynn.spinnaker.mapping import inspect_mapping

        return inspect_mapping(graph, frames, **options)

    def inspect_mapping(self, graph: Graph, frames: Frames | None = None, copies: int | str = 1) -> dict[str, Any]:
        """Return what `strop inspect --target spinnaker` shows: the mapping and, given frames, the fixed-point report.

        Parameters
        ----------
        copies : int or "fill"
            Copies of the network side by side; "fill": as many as a board of 48 chips holds.

        Returns
        -------
        dict
            `SpinnakerMapping.to_dict()`; with frames also "fixed_point", a list of `FixedPointReport.to_dict()`: with
            the ring-buffer shifts of the mapping, with those measured on the frames, and with factors besides.
        """
        from strop_backends.pynn.spinnaker.fixed_point import fixed_point_report, measured_scaling

        mapping = self.map(graph, frames, copies=copies)
        found = mapping.to_dict()
        if frames is not None:
            choices = {
                "sPyNNaker's own": mapping.scaling,
                "measured on these frames": measured_scaling(graph, frames),
                "measured, with factors": measured_scaling(graph, frames, fill=True),
            }
            found["fixed_point"] = [
                fixed_point_report(graph, frames, scaling, choice).to_dict() for choice, scaling in choices.items()
            ]
        return found
