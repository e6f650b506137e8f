"""`cell_class`: PyNN's delta cell for NEST, with values in the graph's units of measure; `settings` of NEST's models.

PyNN 0.13 multiplies weights by 1000 when they are set and, for this cell, by `receptor_scale = 1e-3` when they are
made (`nest/projections.py`, `nest/standardmodels/synapses.py` and `cells.py`): two roundings, and `Projection.get`
and `set` each undo one of them alone. Here a threshold (`v_thresh`), a bias (`i_offset`) and a weight (in
`strop_backends.pynn.nest.projections`) are the numbers that NEST keeps (`V_th`, `I_e`, `weight`), which are the
graph's, to the last bit.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from strop.errors import BackendError
from strop.graph import Graph

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


def settings(nest: Any, model: str) -> dict[str, Any]:
    """Return the parameters to set explicitly on nodes of `model`, those that this version of NEST has."""
    known = nest.GetDefaults(model)
    if known.get("synaptic_elements"):
        raise BackendError(
            f"NEST's defaults of {model!r} ask for structural plasticity (synaptic_elements), which would add synapses "
            "to the network; take them back with nest.SetDefaults, or use a copy of the model (nest.CopyModel)"
        )
    return {name: value for name, value in SETTINGS[model].items() if name in known}


# The kernel in which strop has built a network over processes.
_kernels: set[object] = set()


def refuse_in_processes(graph: Graph, kernel: object) -> None:
    """Raise `BackendError` for what goes wrong where NEST runs in several processes, and in one does not.

    PyNN 0.13 fails where a population has one cell, which is not here: its mask is an array without an axis
    (`nest/populations.py`, `_create_cells`). And in NEST 3.10.0 the third network in a row, each after a `ResetKernel`,
    had spikes that its graph has not; what is left of those before has not been found out.
    """
    single = [n.name for n in graph.inputs if n.spiking and np.prod(n.signal_shape) == 1]
    single += [population.name for population in graph.populations if population.size == 1]
    if single:
        raise BackendError(f"pynn-nest: PyNN has no population of one cell in several processes, as {single[0]!r} is")
    if _kernels and kernel not in _kernels:
        raise BackendError(
            "pynn-nest: in several processes a network that is built behind a second sim.setup(), or a reset of NEST's "
            "kernel, may have spikes too many; start mpirun once for each, or build all networks after one sim.setup()"
        )
    _kernels.add(kernel)


@lru_cache
def cell_class(sim: ModuleType) -> type:
    """Return the delta cell for `sim`, the module `pyNN.nest`."""
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

    return DeltaCell
