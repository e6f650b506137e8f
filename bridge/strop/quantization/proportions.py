"""Weights that are whole numbers already, but for one factor per group: those of a network trained with few bits.

A kernel of whole numbers times a scale stays one when a batch normalisation is folded into it, but the factor is no
power of two any more, and each product was rounded to float64. What is looked for is the smallest whole number that the
heaviest weight of a group can stand for, so that all its others are whole numbers too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from strop.quantization.kernels import Kernel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Weights of more bits are not searched for, but for bit planes, which double them up to so often.
_MOST = 127
_DOUBLINGS = 16
# How far from a whole number a weight may be, relative to the heaviest: folding rounds it a few times by 2^-53.
_NEAR = 2.0**-49
# So many weights of a kernel are looked at first; networks that were not trained with few bits fail on these.
_SAMPLE = 4096


def whole_multiples(
    kernels: Sequence[Kernel], labels: Sequence[IntArray], groups: int, largest: int
) -> tuple[IntArray, FloatArray] | None:
    """Return for each group (n, h): its heaviest weight h is n units, and all its weights are whole numbers of them.

    Parameters
    ----------
    kernels : sequence of Kernel
    labels : sequence of int array
        The group of each part of a kernel, see `scale_groups`.
    groups : int
    largest : int
        What n may be at most.

    Returns
    -------
    (n, h), each of shape (groups,), or None if it is not so in every group. (1, 1) where all weights are 0.
    """
    heaviest = np.zeros(groups)
    for kernel, own in zip(kernels, labels, strict=True):
        np.maximum.at(heaviest, own, kernel.per_label(np.abs(kernel.weights), np.maximum))
    heaviest = np.where(heaviest > 0.0, heaviest, 1.0)
    rng = np.random.default_rng(0)
    sample = [_weights(k, own, rng.integers(0, k.weights.size, _SAMPLE)) for k, own in _filled(kernels, labels)]
    numbers = np.unique(np.arange(1, _MOST + 1)[:, None] << np.arange(_DOUBLINGS + 1))
    numbers = numbers[numbers <= largest]
    possible = np.array([_fit(sample, np.full(groups, n), heaviest) for n in numbers])
    if not possible.any(axis=0).all():
        return None
    everything = [_weights(k, own, np.arange(k.weights.size)) for k, own in _filled(kernels, labels)]
    while possible.any(axis=0).all():
        first = possible.argmax(axis=0)
        fit = _fit(everything, numbers[first], heaviest)
        if fit.all():
            return numbers[first], heaviest
        possible[first[~fit], np.flatnonzero(~fit)] = False
    return None


def _filled(kernels: Sequence[Kernel], labels: Sequence[IntArray]) -> list[tuple[Kernel, IntArray]]:
    return [(kernel, own) for kernel, own in zip(kernels, labels, strict=True) if kernel.weights.size]


def _weights(kernel: Kernel, labels: IntArray, chosen: IntArray) -> tuple[FloatArray, IntArray]:
    """Return some of a kernel's weights, and the group of each."""
    weights = kernel.weights
    group = np.broadcast_to(kernel.per_weight(labels), weights.shape)
    return weights.flat[chosen], group.flat[chosen]


def _fit(
    parts: Sequence[tuple[FloatArray, IntArray]], numbers: IntArray, heaviest: FloatArray
) -> npt.NDArray[np.bool_]:
    """Return for each group whether its weights are whole where the heaviest is `numbers`."""
    fit = np.ones(len(heaviest), bool)
    for weights, group in parts:
        scaled = weights * (numbers / heaviest)[group]
        fit[group[np.abs(scaled - np.rint(scaled)) > _NEAR * numbers[group]]] = False
    return fit
