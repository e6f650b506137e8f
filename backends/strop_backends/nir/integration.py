"""When a NIR neuron fires that sees its input for one step, from rest; and whether it would remember the step before.

NIR fires at `v > v_thr` (nir 1.0.8, `ir/threshold.py`, `ir/neuron.py`). strop's neurons fire at `a >= threshold`, so
the threshold becomes the smallest number that is greater than NIR's. An `IF` or `LIF` counts as a threshold that sees
its input for one step of length dt, from rest: `v = R I dt`, or `v = R I dt / tau` (one step of Euler's method).

With `tau = dt` nothing of v is left after that step. An `IF`, and a `LIF` with a longer tau, keep some of it where they
do not fire; they are no threshold, and are refused unless the caller says that every frame finds them at rest.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import nir
import numpy as np

from strop.errors import UnsupportedLayerError
from strop_backends.nir.neurons import fires_from
from strop_backends.nir.signals import FloatArray
from strop_backends.nir.writing import graph_hint

# By how much a tau in float32 may miss dt, for it to be dt: four roundings. The same of a gain and 1.
_FLOAT32_ROUNDINGS = 4 * 2.0**-24

_AT_REST = (
    "pass memoryless=True (--memoryless) if every frame finds them at rest: as a batch, or after a reset of all states"
)


def first_firing(node: Any, dt: float, memoryless: bool, where: str) -> tuple[FloatArray, str]:
    """Return the smallest inputs that make neurons fire, in the shape of NIR's tensor, and what they would remember.

    Parameters
    ----------
    node : nir.Threshold, nir.IF or nir.LIF
    dt : float
        The step, in the unit of tau.
    memoryless : bool
        Whether a neuron that keeps its potential may count as one that does not.
    where : str
        The node, for errors.

    Returns
    -------
    threshold : float64 array
    kept : str
        "" for neurons without memory, or where strop wrote the node.
    """
    about = graph_hint(node.metadata)
    fires = ">=" if about.get("fires") == ">=" else ">"
    if isinstance(node, nir.Threshold):
        return _as_written(np.asarray(node.threshold), about, fires), ""
    for key in ("v_reset", "v_leak"):
        if np.any(getattr(node, key, 0.0)):
            raise UnsupportedLayerError(f"{where} has {key} other than 0: its neurons do not start every frame alike")
    r, level = (np.asarray(x) for x in (node.r, node.v_threshold))
    if (r <= 0).any():
        raise UnsupportedLayerError(f"{where} has a resistance that is not positive")
    share = _share(node, dt, where) if isinstance(node, nir.LIF) else np.full((), np.inf)
    if about.get("precision") and (r == 1).all() and (not isinstance(node, nir.LIF) or (share == 1).all()):
        # strop's own: of an IF the folder says that every frame finds it at rest.
        return _as_written(level, about, fires), ""
    kept = _kept(node, share, dt)
    if kept and not memoryless:
        raise UnsupportedLayerError(f"{where} {kept}: strop's neurons forget a frame; {_AT_REST}")
    gain = share if isinstance(node, nir.LIF) else np.full((), Fraction(dt))
    columns = zip(*(np.broadcast_to(x, level.shape).reshape(-1) for x in (level, r, gain)), strict=True)
    values = [_first_above(Fraction(float(v)) / _gain(Fraction(float(k)) * g)) for v, k, g in columns]
    return np.array(values).reshape(level.shape), kept


def _as_written(value: Any, about: dict[str, Any], fires: str) -> FloatArray:
    # strop wrote thresholds for float32 one float32 below; those of other tools are taken as they are.
    short = about.get("precision") == "float32" and value.dtype == np.float32
    return fires_from(value if short else value.astype(np.float64), fires)


def _share(node: Any, dt: float, where: str) -> Any:
    """Return dt / tau of every neuron, as fractions; 1 where tau is dt in the precision in which it is written."""
    tau = np.asarray(node.tau)
    flat = []
    for value in tau.reshape(-1):
        # Tools calculate tau in float32: snnTorch's 1e-4 lies below 1e-4, Norse's is two roundings off.
        rounded = np.float32(value) == value and abs(float(value) - dt) <= _FLOAT32_ROUNDINGS * dt
        if value == dt or rounded:
            flat.append(Fraction(1))
        elif not value > 0 or dt > value:
            raise UnsupportedLayerError(
                f"{where} has a time constant of {float(value):g}, shorter than the step dt={dt:g}; pass the dt that "
                f"the network runs with (dt=..., --dt). Only with dt={float(value):g} does nothing of a step last"
            )
        else:
            flat.append(Fraction(dt) / Fraction(float(value)))
    share = np.empty(len(flat), dtype=object)
    share[:] = flat
    return share.reshape(tau.shape)


def _gain(gain: Fraction) -> Fraction:
    """Return `r dt / tau`; 1 where it misses 1 by roundings of float32 alone, for tools mean 1 by r = tau / dt."""
    return Fraction(1) if abs(gain - 1) <= _FLOAT32_ROUNDINGS else gain


def _kept(node: Any, share: Any, dt: float) -> str:
    """Return what neurons keep of their potential until the next step; "" for nothing."""
    if isinstance(node, nir.IF):
        return "keeps its charge from step to step until it fires"
    if (share == 1).all():
        return ""
    longest = float(np.max(np.asarray(node.tau, dtype=np.float64)))
    left = 1.0 - float(min(share.reshape(-1)))
    return f"keeps {left:.3g} of its potential for the next step (tau = {longest:g}, dt = {dt:g})"


def _first_above(bound: Fraction) -> float:
    """Return the smallest float64 that is greater than `bound`."""
    near = float(bound)
    return near if Fraction(near) > bound else float(np.nextafter(near, np.inf))
