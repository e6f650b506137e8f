"""Arithmetics by name: number formats, generic integers, SpiNNaker, NEURON, and two chips from public documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from strop.errors import BackendError, BackendMissingError, did_you_mean
from strop.running.arithmetic import FLOAT32, FLOAT64, NEURON, SPINNAKER, Arithmetic
from strop.running.registry import backend_names, get_backend

LOIHI = Arithmetic(
    "loihi",
    weight_bits=8,
    sum_bits=23,
    comparator=">",
    scale="population",
    threshold_bits=24,
    source=(
        "M. Davies et al., Loihi (IEEE Micro 38(1), 2018): synaptic weights of up to 9 bits with sign, an exponent "
        "shared by a synapse group, 23-bit signed state; Lava documents the comparison v > vth"
    ),
)
TRUENORTH = Arithmetic(
    "truenorth",
    weight_bits=8,
    sum_bits=19,
    comparator=">=",
    threshold_bits=19,
    source=(
        "A. S. Cassidy et al., Cognitive computing building block (IJCNN 2013): signed 9-bit weights, 20-bit signed "
        "membrane potential, V >= threshold. Its four weight types per neuron are a matter of placement, not of sums"
    ),
)
BUILT_IN: Mapping[str, Arithmetic] = {
    known.name: known for known in (FLOAT64, FLOAT32, SPINNAKER, NEURON, LOIHI, TRUENORTH)
}
_INTEGER = re.compile(r"int(\d+)\Z")
# Generic integers: a weight with a sign in N bits, sums in 24 bits with a sign.
_SUM_BITS = 23


def integers(bits: int, sum_bits: int = _SUM_BITS) -> Arithmetic:
    """Return the arithmetic of `bits`-bit weights, sign included, and sums of `sum_bits` bits besides the sign.

    One bit is a sign: weights are -1 and 1. Two bits are -1, 0 and 1.

    >>> integers(8).largest_weight
    127
    """
    if bits < 1:
        raise BackendError(f"a weight takes at least 1 bit, its sign, got {bits}")
    if bits > sum_bits + 1:
        raise BackendError(f"weights of {bits} bits do not fit sums of {sum_bits + 1} bits")
    return Arithmetic(
        f"int{bits}",
        max(bits - 1, 1),
        sum_bits,
        signs=bits == 1,
        source=f"generic: {bits}-bit weights, {sum_bits + 1}-bit sums",
    )


def arithmetic_of(target: str | Arithmetic, weight_bits: int | None = None) -> Arithmetic:
    """Return the arithmetic called `target`: a built-in one, `intN`, or that of a backend.

    >>> arithmetic_of("spinnaker").largest_sum
    65535

    Parameters
    ----------
    target : str or Arithmetic
    weight_bits : int, optional
        Take fewer bits for a weight than the target has, its sign counted; 1 takes signs, -1 and 1.

    Raises
    ------
    BackendError
        If `weight_bits` is below 1 or more than the target has.
    BackendMissingError
        If nothing is known by this name.
    """
    found = target if isinstance(target, Arithmetic) else _named(target)
    if weight_bits is None:
        return found
    if not isinstance(weight_bits, int) or isinstance(weight_bits, bool) or weight_bits < 1:
        raise BackendError(f"weight_bits must be a whole number of at least 1, got {weight_bits!r}")
    magnitude = max(weight_bits - 1, 1)
    available = found.sum_bits if found.weight_bits is None else found.weight_bits
    held = 1 if found.signs else available + 1
    if weight_bits > held:
        raise BackendError(f"{found.name} holds weights of {held} bits with their sign, got {weight_bits}")
    return replace(found, weight_bits=magnitude, signs=weight_bits == 1)


def _named(name: str) -> Arithmetic:
    if not isinstance(name, str):
        raise BackendError(f"a target is a name or an Arithmetic, got {name!r}")
    if name in BUILT_IN:
        return BUILT_IN[name]
    match = _INTEGER.match(name)
    if match:
        return integers(int(match[1]))
    if name in backend_names():
        return get_backend(name).arithmetic
    known = [*BUILT_IN, "int8", "int4", *backend_names()]
    raise BackendMissingError(
        f"no arithmetic is known for the target {name!r}; known are {', '.join(known)}{did_you_mean(name, known)}"
    )
