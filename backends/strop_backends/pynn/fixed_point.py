"""Old place of `strop_backends.pynn.spinnaker.fixed_point`; it goes away with the next release."""

from __future__ import annotations

from warnings import warn

from strop_backends.pynn.spinnaker.fixed_point import (
    FixedPointReport,
    LayerDifference,
    Scaling,
    fixed_point_report,
    fixed_point_spikes,
    least_margin,
    measured_scaling,
    shift_for,
)

__all__ = [
    "FixedPointReport",
    "LayerDifference",
    "Scaling",
    "fixed_point_report",
    "fixed_point_spikes",
    "least_margin",
    "measured_scaling",
    "shift_for",
]

warn(
    "strop_backends.pynn.fixed_point is strop_backends.pynn.spinnaker.fixed_point now", DeprecationWarning, stacklevel=2
)
