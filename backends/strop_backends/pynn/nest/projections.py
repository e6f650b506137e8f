"""`projection_class`: PyNN's projection for NEST, its synapse and its connection, with weights as the graph has them.

PyNN scales weights on their way to NEST and back, see `strop_backends.pynn.nest.cells`; here they are NEST's own. PyNN
also keeps the list of a projection's synapses; NEST sorts synapses when the simulation starts
(`nestkernel/connection_manager.cpp`, `sort_connections`), after which such a list names others, and with several
threads they come in another order each time. So each answer here asks NEST anew, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Projection
from strop_backends.pynn.common.connector import WAYS, SynapseArrays
from strop_backends.pynn.common.synapse_lists import matrix_of, rows_of
from strop_backends.pynn.nest.warning_filter import quiet_nest

# Synapses from devices; a port of 1 would silence a parrot (`models/parrot_neuron.cpp`, `handle`).
PLAIN_SYNAPSE: dict[str, Any] = {"synapse_model": "static_synapse", "weight": 1.0, "receptor_type": 0}
# Synapses in a call of `nest.Connect`, which copies what it is given, three times at once.
_BLOCK = 1_000_000
# The last number that a synapse of `_hpc` can name a node of its thread by (`nestkernel/target_identifier.h`,
# `TargetIdentifierIndex`: 16 bits, less two).
_LAST_INDEX = 2**16 - 3

# 27 bits number the synapses of a model on a thread, and the last number means none (`nestkernel/nest_types.h`,
# `NUM_BITS_LCID`, `invalid_lcid`).
_MOST_SYNAPSES = 2**27 - 1
# 19 bits number the nodes of a thread that spikes come from, and NEST compares with the last number in a debug build
# alone (`nestkernel/target_data.h`, `set_source_lid`): spikes of those behind go another way, without an error.
_MOST_NODES = 2**19 - 1


def refuse_many_synapses(carried: Sequence[Projection], threads: int) -> None:
    """Raise `BackendError` for a projection of more synapses than NEST numbers."""
    limit = _MOST_SYNAPSES * threads
    for p in carried:
        count = p.operator.synapse_count
        if count > limit:
            raise BackendError(
                f"pynn-nest: {count:,} synapses lead from {p.source!r} to {p.target!r}, NEST holds {limit:,} of one "
                "kind on this number of threads; give it more (threads=N)"
            )


def refuse_far_sources(population: Any) -> None:
    """Raise `BackendError` if NEST would lose spikes of a population, because too many nodes come before it."""
    import nest

    threads = int(nest.total_num_virtual_procs)
    last = int(population.all_cells[-1])
    # `VPManager::node_id_to_lid`, from 0 on.
    if -(-last // threads) > _MOST_NODES:
        raise BackendError(
            f"pynn-nest: NEST tells {_MOST_NODES:,} nodes of a thread apart as sources of spikes, and loses those of "
            f"others; the last neuron of {population.label!r} is node {last:,} on {threads} thread(s). Give it more: "
            f"threads={-(-last // _MOST_NODES)}"
        )


def small_synapse(last: int) -> dict[str, Any]:
    """Return a synapse for parrots and recorders, which take no weight, to nodes up to number `last`.

    Where a device is at one end, NEST keeps the synapses of each node at the other end in a vector of their own, and a
    vector begins with 1,024 places (`nestkernel/target_table_devices.h`, `libnestutil/block_vector.h`, NEST 3.10):
    32 kB for a neuron with one recorder. These synapses take 8 bytes of the 32.
    """
    model = "static_synapse_hom_w_hpc" if last <= _LAST_INDEX else "static_synapse_hom_w"
    return {"synapse_model": model, "receptor_type": 0}


@lru_cache
def synapse_class(sim: ModuleType) -> type:
    """Return the synapse of a delta cell for `sim`, the module `pyNN.nest`."""
    from pyNN.standardmodels import build_translations

    base: Any = sim

    class DeltaSynapse(base.StaticSynapse):  # type: ignore[misc]
        __doc__ = base.StaticSynapse.__doc__
        translations: ClassVar = build_translations(("weight", "weight"), ("delay", "delay"))

    return DeltaSynapse


def _require_table() -> None:
    """Refuse to look synapses up where NEST has forgotten them, in which case it ends the process."""
    import nest

    if not nest.keep_source_table:
        raise BackendError(
            "pynn-nest: with keep_source_table=False NEST does not tell which synapses it has; set it to True before "
            "the first run to read or change weights"
        )


def _connection_class(sim: Any) -> Any:
    import nest

    class DeltaConnection(sim.simulator.Connection):  # type: ignore[misc]
        """One synapse, its weight in the graph's unit: the one that is `nth` from one cell to another."""

        def __init__(self, parent: Any, pre: int, post: int, nth: int) -> None:
            self.parent, self.presynaptic_index, self.postsynaptic_index, self._nth = parent, pre, post, nth

        def id(self) -> Any:
            """NEST's synapse, as it is numbered now."""
            _require_table()
            with quiet_nest():
                return nest.GetConnections(
                    nest.NodeCollection([int(self.parent.pre.all_cells[self.presynaptic_index])]),
                    nest.NodeCollection([int(self.parent.post.all_cells[self.postsynaptic_index])]),
                    synapse_model=self.parent.nest_synapse_model,
                    synapse_label=self.parent.nest_synapse_label,
                )[self._nth]

        def _get(self, name: str) -> float:
            with quiet_nest():
                return float(np.atleast_1d(self.id().get(name))[0])

        def _set(self, name: str, value: float) -> None:
            with quiet_nest():
                self.id().set({name: float(value)})

        weight = property(lambda self: self._get("weight"), lambda self, value: self._set("weight", value))
        delay = property(lambda self: self._get("delay"), lambda self, value: self._set("delay", value))

    return DeltaConnection


@lru_cache
def projection_class(sim: ModuleType) -> type:
    """Return the projection for `sim`, the module `pyNN.nest`."""
    base: Any = sim

    class DeltaProjection(_SynapsesOfNest, base.Projection):  # type: ignore[misc]
        """A projection whose weights are the graph's, read and written with `get` and `set`."""

        connection_class = _connection_class(sim)

    return DeltaProjection


class _SynapsesOfNest:
    """What PyNN asks a projection for, answered by NEST."""

    connection_class: Any
    pre: Any
    post: Any
    label: str
    shape: tuple[int, int]
    nest_synapse_model: str
    nest_synapse_label: int
    _sources: set[int]

    @property
    def nest_connections(self) -> Any:
        """NEST's synapses of this projection, as they are now."""
        import nest

        if not self._sources:
            return []
        _require_table()
        with quiet_nest():
            return nest.GetConnections(
                nest.NodeCollection(sorted(self._sources)),
                synapse_model=self.nest_synapse_model,
                synapse_label=self.nest_synapse_label,
            )

    def __len__(self) -> int:
        return len(self.nest_connections)

    def __getitem__(self, index: Any) -> Any:
        pre, post = (column.astype(np.int64) for column in self._columns([]))
        order = np.lexsort((post, pre))
        pairs = list(zip(pre[order].tolist(), post[order].tolist(), strict=True))
        first = {pair: n for n, pair in reversed(list(enumerate(pairs)))}
        places = [(*pair, n - first[pair]) for n, pair in enumerate(pairs)]
        if isinstance(index, slice):
            return [self.connection_class(self, *place) for place in places[index]]
        return self.connection_class(self, *places[index])

    @property
    def connections(self) -> Iterator[Any]:
        return iter(self[:])

    def _columns(self, names: Sequence[str], found: Any = None) -> list[npt.NDArray[Any]]:
        """Return NEST's own values, one array per name; cells as indices."""
        found = self.nest_connections if found is None else found
        with quiet_nest():
            values = found.get(["source", "target", *names]) if found else {}
        first = {"source": self.pre.all_cells[0], "target": self.post.all_cells[0]}
        return [
            np.atleast_1d(np.asarray(values.get(name, ()), dtype=np.float64)) - int(first.get(name, 0))
            for name in ("source", "target", *names)
        ]

    def _set_attributes(self, parameter_space: Any) -> None:
        """Write matrices of weights or delays, shape `(pre.size, post.size)`; nan where there is no synapse."""
        parameter_space.evaluate(simplify=False)
        found = self.nest_connections
        pre, post = (column.astype(np.int64) for column in self._columns([], found))
        with quiet_nest():
            for name, matrix in parameter_space.items():
                values = np.broadcast_to(np.asarray(matrix, dtype=np.float64), self.shape)[pre, post]
                if not np.isfinite(values).all():
                    raise BackendError(f"pynn-nest: {name} of {self.label} must be finite")
                if len(values):
                    # A list by name would do in one process alone (`SynapseCollection.set`).
                    found.set([{name: value} for value in values.tolist()])

    def _get_attributes_as_list(self, names: Sequence[str]) -> list[tuple[float, ...]]:
        pre, post, *values = self._columns([n for n in names if n not in ("presynaptic_index", "postsynaptic_index")])
        order = iter(values)
        special = {"presynaptic_index": pre, "postsynaptic_index": post}
        columns = [special[n] if n in special else next(order) for n in names]
        return rows_of(pre, post, columns)

    def _get_attributes_as_arrays(
        self, names: Sequence[str], multiple_synapses: str = "sum"
    ) -> list[npt.NDArray[np.float64]]:
        pre, post, *values = self._columns([n.removesuffix("s") for n in names])
        place = (pre.astype(np.int64), post.astype(np.int64))
        return [matrix_of(column, place, self.shape, multiple_synapses) for column in values]


def connect_arrays(projection: Any, synapses: SynapseArrays) -> None:
    """Make the synapses of a PyNN projection, a block of them in one call of `nest.Connect`."""
    import nest

    refuse_far_sources(projection.pre)
    model = projection.nest_synapse_model
    sources, targets = _ids(projection.pre), _ids(projection.post)
    # The label is how PyNN finds its synapses again; as a default of the model it costs nothing per synapse.
    defaults: dict[str, Any] = {"synapse_label": projection.nest_synapse_label}
    delay = synapses.delay
    if isinstance(delay, float):
        defaults["delay"] = delay
    nest.SetDefaults(model, defaults)
    for begin in range(0, len(synapses.pre), _BLOCK):
        own = slice(begin, begin + _BLOCK)
        single = {"synapse_model": model, "weight": synapses.weight[own], "receptor_type": 0}
        if not isinstance(delay, float):
            single["delay"] = delay[own]
        nest.Connect(sources[synapses.pre[own]], targets[synapses.post[own]], "one_to_one", single)
    projection._sources.update(sources[np.unique(synapses.pre)].tolist())
    projection._simulator.state.stale_connection_cache = True


WAYS["NEST"] = connect_arrays


def _ids(population: Any) -> npt.NDArray[np.int64]:
    # PyNN's own numbers; NEST looks at the whole state of each neuron to name it (`NodeCollection.tolist`).
    numbers: npt.NDArray[np.int64] = population.all_cells.astype(np.int64)
    return numbers
