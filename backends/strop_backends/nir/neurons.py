"""Populations as NIR nodes: the comparator's threshold in the consumer's precision, and one threshold for a layer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import nir
import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.graph import Population
from strop_backends.nir.profiles import Profile

FloatArray = npt.NDArray[np.float64]

# Nodes that stand for a population.
NEURONS = (nir.Threshold, nir.IF, nir.LIF)


def strictly_below(threshold: FloatArray, precision: str) -> npt.NDArray[Any]:
    """Return the greatest numbers t of a precision with `t < threshold`: `v > t` then says `v >= threshold`."""
    if precision == "float64":
        return np.nextafter(threshold, -np.inf)
    near = threshold.astype(np.float32)
    return np.where(near < threshold, near, np.nextafter(near, np.float32(-np.inf)))


def not_below(threshold: FloatArray, precision: str) -> npt.NDArray[Any]:
    """Return the smallest numbers t of a precision with `t >= threshold`: `v >= t` then says `v >= threshold`."""
    if precision == "float64":
        return threshold.copy()
    near = threshold.astype(np.float32)
    return np.where(near >= threshold, near, np.nextafter(near, np.float32(np.inf)))


def compared_with(threshold: FloatArray, precision: str, fires: str) -> npt.NDArray[Any]:
    """Return what a consumer with the comparator `fires` compares with, to fire from `threshold` on."""
    return not_below(threshold, precision) if fires == ">=" else strictly_below(threshold, precision)


def fires_from(value: npt.NDArray[Any], fires: str) -> FloatArray:
    """Return the smallest numbers of the precision of `value` that fire there; the inverse of `compared_with`."""
    if fires == ">=":
        return np.asarray(value, dtype=np.float64)
    return np.asarray(np.nextafter(value, value.dtype.type(np.inf)), dtype=np.float64)


def make_neurons(profile: Profile, dt: float, threshold: npt.NDArray[Any], metadata: dict[str, str]) -> Any:
    """Return the node of a population whose comparator is set, in the shape of NIR's tensor."""
    kind = profile.image_neuron if threshold.ndim > 1 else profile.neuron
    if kind == "Threshold":
        return nir.Threshold(threshold=threshold, metadata=metadata)
    ones, zeros = np.ones_like(threshold), np.zeros_like(threshold)
    if kind == "IF":
        return nir.IF(r=ones, v_threshold=threshold, v_reset=zeros, metadata=metadata)
    tau = np.full(threshold.shape, float(dt))
    return nir.LIF(tau=tau, r=ones, v_leak=zeros, v_threshold=threshold, v_reset=zeros.copy(), metadata=metadata)


def level(node: Any) -> npt.NDArray[Any]:
    """Return the threshold of a node of neurons, in its own precision."""
    return np.asarray(node.threshold if isinstance(node, nir.Threshold) else node.v_threshold)


def set_level(node: Any, value: npt.NDArray[Any]) -> None:
    """Replace the threshold of a node of neurons."""
    if isinstance(node, nir.Threshold):
        node.threshold = value
    else:
        node.v_threshold = value


def same_for_all(population: Population, precision: str, consumer: str) -> tuple[FloatArray, FloatArray]:
    """Return a threshold that is the same for all neurons, and the bias that makes up for it.

    `a + b >= th` says the same as `a + (b + c - th) >= c`, as long as `b + c - th` is a number of the precision.

    Raises
    ------
    BackendError
        If no threshold c makes all those biases numbers of the precision.
    """
    values = population.threshold.reshape(-1)
    common = [value for value, _ in Counter(values.tolist()).most_common(8)]
    if len(common) == 1:
        return population.threshold, population.bias
    for c in dict.fromkeys([*common, 0.0]):
        shift, exact = _exact_sum(np.full_like(values, c), -values)
        bias, also = _exact_sum(population.bias.reshape(-1), shift)
        held = precision == "float64" or np.array_equal(bias, bias.astype(np.float32))
        if exact and also and held:
            return np.full(population.shape, c), bias.reshape(population.shape)
    raise BackendError(
        f"nir: {consumer} has one threshold for a layer; the neurons of population {population.name!r} have "
        f"{len(np.unique(values)):,}, and no bias that {precision} can hold makes up for the difference. Quantise the "
        "graph first (strop quantize), or export with --profile lif"
    )


def _exact_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, bool]:
    """Return a + b, and whether nothing was rounded (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, not ((a - (total - part)) + (b - part)).any()
