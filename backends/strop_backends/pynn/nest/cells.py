"""`classes`: PyNN's delta cell, synapse and projection for NEST, with values in the graph's units of measure.

PyNN 0.13 multiplies weights by 1000 when they are set and, for this cell, by `receptor_scale = 1e-3` when they are
made (`nest/projections.py`, `nest/standardmodels/synapses.py` and `cells.py`): two roundings, and `Projection.get`
and `set` each undo one of them alone. Here a weight, a threshold (`v_thresh`) and a bias (`i_offset`) are the numbers
that NEST keeps (`weight`, `V_th`, `I_e`), which are the graph's, to the last bit.

PyNN also keeps the list of a projection's synapses; NEST sorts synapses when the simulation starts
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
from strop_backends.pynn.common.connector import WAYS, SynapseArrays
from strop_backends.pynn.common.synapse_lists import matrix_of, rows_of
from strop_backends.pynn.nest.warning_filter import quiet_nest

# Every parameter of NEST's models (3.10, `models/` and `nestkernel/`) that could change a spike, besides those that
# are set for each neuron: `nest.SetDefaults` of a script, done before, would change them. Older versions lack some.
_DEVICE = {"start": 0.0, "stop": np.finfo(np.float64).max, "origin": 0.0, "frozen": False}
_NEURON = {"frozen": False, "ignore_and_spike": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "iaf_psc_delta": {**_NEURON, "V_min": -np.finfo(np.float64).max, "refractory_input": False},
    "parrot_neuron": {**_NEURON, "flush_event_send_interval": np.inf},
    # With precise times, PyNN's choice, a time that is above a step by a rounding goes to the next step; without, it
    # is rounded to the nearest tic (`models/spike_generator.cpp`, `nestkernel/nest_time.h`).
    "spike_generator": {
        **_DEVICE,
        "precise_times": False,
        "allow_offgrid_times": False,
        "shift_now_spikes": False,
        "spike_times": np.zeros(0),
        "spike_weights": np.zeros(0),
        "spike_multiplicities": np.zeros(0, dtype=np.int64),
    },
    "step_current_generator": {
        **_DEVICE,
        "allow_offgrid_times": False,
        "amplitude_times": np.zeros(0),
        "amplitude_values": np.zeros(0),
    },
    # Not `time_in_steps`, which cannot be set once NEST has run: its value is looked up.
    "spike_recorder": {**_DEVICE, "record_to": "memory"},
}
# Synapses to parrots and to recorders; the weight has no effect there, a port of 1 would silence a parrot
# (`models/parrot_neuron.cpp`, `handle`).
PLAIN_SYNAPSE: dict[str, Any] = {"synapse_model": "static_synapse", "weight": 1.0, "receptor_type": 0}


def settings(nest: Any, model: str) -> dict[str, Any]:
    """Return the parameters to set explicitly on nodes of `model`, those that this version of NEST has."""
    known = nest.GetDefaults(model)
    if known.get("synaptic_elements"):
        raise BackendError(
            f"NEST's defaults of {model!r} ask for structural plasticity (synaptic_elements), which would add synapses "
            "to the network; take them back with nest.SetDefaults, or use a copy of the model (nest.CopyModel)"
        )
    return {name: value for name, value in SETTINGS[model].items() if name in known}


@lru_cache
def classes(sim: ModuleType) -> tuple[type, type, type]:
    """Return the delta cell, its synapse and its projection for `sim`, the module `pyNN.nest`."""
    import nest
    from pyNN.standardmodels import build_translations

    base: Any = sim

    class DeltaCell(base.IF_curr_delta):  # type: ignore[misc]  # the module is known only at run time
        __doc__ = base.IF_curr_delta.__doc__
        variable_map: ClassVar = {"v": "V_m"}
        scale_factors: ClassVar = {"v": 1}
        translations: ClassVar = {
            **base.IF_curr_delta.translations,
            # PyNN keeps it in nA, and bias / 1000 * 1000 need not be the bias again.
            **build_translations(("i_offset", "I_e")),
        }

        def translate(self, parameters: Any, copy: bool = True) -> Any:
            """Let `v_reset` follow `v_thresh`, below which NEST wants it; nothing is left of it in the next step."""
            names = set(parameters.keys())
            for name in names & {"v_thresh", "i_offset"}:
                if not np.isfinite(parameters[name].evaluate()).all():
                    raise BackendError(f"pynn-nest: {name} must be finite")
            if "v_thresh" in names and "v_reset" not in names:
                parameters.update(v_reset=np.minimum(parameters["v_thresh"].evaluate(), 0.0) - 1.0)
            return super().translate(parameters, copy)

    class DeltaSynapse(base.StaticSynapse):  # type: ignore[misc]
        __doc__ = base.StaticSynapse.__doc__
        translations: ClassVar = build_translations(("weight", "weight"), ("delay", "delay"))

    class DeltaConnection(base.simulator.Connection):  # type: ignore[misc]
        """One synapse, its weight in the graph's unit: the one that is `nth` from one cell to another."""

        def __init__(self, parent: Any, pre: int, post: int, nth: int) -> None:
            self.parent, self.presynaptic_index, self.postsynaptic_index, self._nth = parent, pre, post, nth

        def id(self) -> Any:
            """NEST's synapse, as it is numbered now."""
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

    class DeltaProjection(base.Projection):  # type: ignore[misc]
        """A projection whose weights are the graph's, read and written with `get` and `set`."""

        @property
        def nest_connections(self) -> Any:
            """NEST's synapses of this projection, as they are now."""
            if not self._sources:
                return []
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
                return [DeltaConnection(self, *place) for place in places[index]]
            return DeltaConnection(self, *places[index])

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
                        found.set({name: values.tolist()})

        def _get_attributes_as_list(self, names: Sequence[str]) -> list[tuple[float, ...]]:
            pre, post, *values = self._columns(
                [n for n in names if n not in ("presynaptic_index", "postsynaptic_index")]
            )
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

    return DeltaCell, DeltaSynapse, DeltaProjection


def connect_arrays(projection: Any, synapses: SynapseArrays) -> None:
    """Make the synapses of a PyNN projection in one call of `nest.Connect`."""
    import nest

    model = projection.nest_synapse_model
    pre = _ids(projection.pre)[synapses.pre]
    # The label is how PyNN finds its synapses again; as a default of the model it costs nothing per synapse.
    defaults: dict[str, Any] = {"synapse_label": projection.nest_synapse_label}
    single: dict[str, Any] = {"synapse_model": model, "weight": synapses.weight, "receptor_type": 0}
    (defaults if isinstance(synapses.delay, float) else single)["delay"] = synapses.delay
    nest.SetDefaults(model, defaults)
    nest.Connect(pre, _ids(projection.post)[synapses.post], "one_to_one", single)
    projection._sources.update(np.unique(pre).tolist())
    projection._simulator.state.stale_connection_cache = True


WAYS["NEST"] = connect_arrays


def _ids(population: Any) -> npt.NDArray[np.int64]:
    return np.asarray(population.node_collection.tolist(), dtype=np.int64)
