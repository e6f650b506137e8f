"""`SignedProjections`: the projections from one population to another on SpiNNaker, one for each sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop.errors import BackendError


@dataclass(frozen=True)
class SignedProjections:
    """The projections of sPyNNaker from one population to another.

    Attributes
    ----------
    label : str
    parts : mapping of "excitatory" and "inhibitory" to a projection
        Those of them that have synapses.
    factor : float
        By which weights are multiplied there; see `strop_backends.pynn.spinnaker.fixed_point.Scaling`.
    """

    label: str
    parts: Mapping[str, Any]
    factor: float

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        raise BackendError(
            f"pynn-spinnaker: {self.label} is {len(self.parts)} projections, one for each sign "
            f"({', '.join(self.parts)}), with weights of 16 bits that are {self.factor:g} times the graph's: read and "
            'change each of them, parts["excitatory"].get and set; a weight cannot change its sign'
        )

    # One of the two projections would return half of the synapses as if they were all.
    get = set = save = _refuse
