"""`projection_class`: PyNN's projection for NEURON, with weights that can be read and written in every format.

A `NetCon` keeps the graph's weight as it is. But PyNN 0.13 lists synapses by postsynaptic cell and takes a list by
presynaptic cell (`neuron/projections.py`, `connections`; `common/projections.py`, `_value_list_to_array`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from strop.errors import BackendError
from strop_backends.pynn.common.synapse_lists import rows_of


@lru_cache
def projection_class(sim: ModuleType) -> type:
    """Return the projection for `sim`, the module `pyNN.neuron`."""
    base: Any = sim

    class CurrentProjection(base.Projection):  # type: ignore[misc]  # the module is known only at run time
        """A projection whose weights are the graph's, read and written with `get` and `set`."""

        def _set_attributes(self, parameter_space: Any) -> None:
            """Write matrices of weights or delays; all or nothing."""
            parameter_space.evaluate(simplify=False)
            connections = list(self.connections)
            pairs = [(c.presynaptic_index, c.postsynaptic_index) for c in connections]
            place = tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)
            for name, matrix in parameter_space.items():
                values = np.broadcast_to(np.asarray(matrix, dtype=np.float64), self.shape)[place]
                if not np.isfinite(values).all():
                    raise BackendError(f"pynn-neuron: {name} of {self.label} must be finite")
                for connection, value in zip(connections, values.tolist(), strict=True):
                    setattr(connection, name, value)

        def _get_attributes_as_list(self, names: Sequence[str]) -> list[tuple[float, ...]]:
            wanted = ("presynaptic_index", "postsynaptic_index", *names)
            table = np.array([connection.as_tuple(*wanted) for connection in self.connections], dtype=np.float64)
            pre, post, *columns = table.reshape(-1, len(wanted)).T
            return rows_of(pre, post, columns)

    return CurrentProjection
