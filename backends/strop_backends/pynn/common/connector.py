"""`SynapseArrays`: a PyNN `Connector` that hands whole arrays of synapses to the simulator.

PyNN's `FromListConnector` calls the simulator once for every target neuron and sets parameters synapse by
synapse (`pyNN/connectors.py`, `FromListConnector.connect`; `pyNN/brian2/projections.py`,
`_convergent_connect`: a Python loop over synapses), some ten microseconds each. A dialect that knows a faster
way registers it in `WAYS`; other simulators get the list through PyNN's own connector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from pyNN.connectors import Connector, FromListConnector

# PyNN's name of a simulator -> function of `(projection, connector)` that makes the synapses.
WAYS: dict[str, Callable[[Any, SynapseArrays], None]] = {}


class SynapseArrays(Connector):  # type: ignore[misc]  # PyNN ships no types
    """Connect single pairs of cells, given as arrays.

    >>> sim.Projection(a, b, SynapseArrays(pre, post, weight, delay=1.0), sim.StaticSynapse())

    Parameters
    ----------
    pre, post : int arrays, shape (synapses,)
        Indices into the two populations.
    weight : float array, shape (synapses,)
        In the simulator's native unit for the target's cells.
    delay : float, or float array, shape (synapses,)
        In ms; a number is the same for all.
    """

    parameter_names = ("pre", "post", "weight", "delay")

    def __init__(
        self,
        pre: npt.NDArray[np.integer],
        post: npt.NDArray[np.integer],
        weight: npt.NDArray[np.floating],
        delay: float | npt.NDArray[np.floating],
    ) -> None:
        super().__init__(safe=False)
        self.pre = np.asarray(pre, dtype=np.int64)
        self.post = np.asarray(post, dtype=np.int64)
        self.weight = np.asarray(weight, dtype=np.float64)
        self.delay = float(delay) if np.ndim(delay) == 0 else np.asarray(delay, dtype=np.float64)

    def connect(self, projection: Any) -> None:
        """Make the synapses; called by PyNN."""
        if len(self.pre) == 0:
            return
        way = WAYS.get(projection._simulator.name)
        if way is not None:
            way(projection, self)
            return
        # Of several processes each has the synapses that end at its cells.
        ours = projection.post._mask_local[self.post] if projection._simulator.state.num_processes > 1 else slice(None)
        delay = np.broadcast_to(self.delay, self.pre.shape)
        table = np.column_stack([self.pre[ours], self.post[ours], self.weight[ours], delay[ours]])
        FromListConnector(table, column_names=("weight", "delay"), safe=False).connect(projection)
