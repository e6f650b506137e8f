"""Arithmetics of targets as data: what weights, sums and thresholds a simulator or chip can hold.

`strop.quantize` makes a graph that fits one, `strop.certify` proves that a graph does. A backend states its own as
`Backend.arithmetic`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import frexp
from typing import Any

from strop.errors import BackendError

SUMS = ("signed", "per sign")
SCALES = ("neuron", "population")
COMPARATORS = (">=", ">")


@dataclass(frozen=True)
class Arithmetic:
    """What a target can hold, in whole numbers of one grid.

    In every neuron, weights are whole numbers times a power of two, the neuron's grid. A target adds up the weights of
    the spikes that arrive, in any order, and compares the sum with the threshold.

    Parameters
    ----------
    name : str
    weight_bits : int or None
        Bits of a weight's magnitude, without the sign: weights lie in `[-(2^b - 1), 2^b - 1]`. None where a weight
        may be as large as a sum.
    sum_bits : int
        Bits of a sum's magnitude: every partial sum, in any order, must stay below `2^sum_bits`. For a floating-point
        format that is the length of its significand: below it whole numbers are exact.
    sums : {"signed", "per sign"}
        Whether weights of both signs are added up in one number, or apart and subtracted afterwards.
    saturating : bool
        Whether a sum that does not fit stays at the largest value (else it wraps or is rounded). For the record: a
        certificate allows neither.
    threshold_bits : int or None
        Bits of the magnitude of threshold and bias, in halves of the grid. None: as many as needed.
    comparator : {">=", ">"}
        What a neuron does with a sum that equals its threshold; with ">", none may.
    scale : {"neuron", "population"}
        Whether every neuron may have a scale of its own, or all neurons of a population share one.
    exponent : int or None
        The grid is `2^exponent` for all neurons, None where it is free.
    resolution : float
        Differences smaller than this, relative to the size of what is compared, are not seen.
    signs : bool
        Whether weights are signs, -1 and 1: where there is a synapse, none is rounded to 0. A matter of rounding alone,
        so it does not stand in certificates.
    digits : int or None
        Binary digits of the numbers, where the target computes in floating point: bias and weights are added up in one
        number of so many digits, and thresholds have no more. None for whole numbers and fixed point.
    exponents : (int, int) or None
        With `digits`, (low, high): sums are exact where all that is added up is a whole multiple of `2^low` and stays
        below `2^high`.
    lift : float or None
        Where a neuron must not fire without input, a threshold that is not positive is raised by a power of two, the
        next above its magnitude, which comes with the input of every step; a threshold of 0 by this much.
    source : str
        Where this is known from.
    """

    name: str
    weight_bits: int | None
    sum_bits: int
    sums: str = "signed"
    saturating: bool = False
    threshold_bits: int | None = None
    comparator: str = ">="
    scale: str = "neuron"
    exponent: int | None = None
    resolution: float = 0.0
    signs: bool = False
    digits: int | None = None
    exponents: tuple[int, int] | None = None
    lift: float | None = None
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for what in ("weight_bits", "sum_bits", "threshold_bits"):
            bits = getattr(self, what)
            if bits is not None and not 1 <= bits <= 62:
                raise BackendError(f"arithmetic {self.name!r}: {what} must lie in 1..62, got {bits}")
        for what, known in (("sums", SUMS), ("scale", SCALES), ("comparator", COMPARATORS)):
            if getattr(self, what) not in known:
                raise BackendError(
                    f"arithmetic {self.name!r}: {what} must be one of {', '.join(known)}, got {getattr(self, what)!r}"
                )
        if not 0.0 <= self.resolution < 1.0:
            raise BackendError(f"arithmetic {self.name!r}: resolution must lie in [0, 1), got {self.resolution}")
        if (self.digits is None) is not (self.exponents is None):
            raise BackendError(f"arithmetic {self.name!r}: digits and exponents belong together")
        if self.digits is not None and not 1 <= self.digits <= 53:
            raise BackendError(f"arithmetic {self.name!r}: digits must lie in 1..53, got {self.digits}")
        if self.lift is not None and (self.digits is None or not self.lift > 0 or frexp(self.lift)[0] != 0.5):
            raise BackendError(
                f"arithmetic {self.name!r}: lift must be a power of two, and needs digits; got {self.lift!r}"
            )

    @property
    def largest_weight(self) -> int:
        """The largest magnitude of a weight, in the grid's units."""
        return (1 << (self.sum_bits if self.weight_bits is None else self.weight_bits)) - 1

    @property
    def largest_sum(self) -> int:
        """The largest magnitude of a sum, in the grid's units."""
        return (1 << self.sum_bits) - 1

    @property
    def half_bits(self) -> int:
        """Bits of a threshold's magnitude, in halves of the grid, of which float64 holds 53 at most."""
        return min(self.threshold_bits or 53, self.digits or 53)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as it stands in a certificate."""
        return {
            "name": self.name,
            "weight_bits": self.weight_bits,
            "sum_bits": self.sum_bits,
            "sums": self.sums,
            "threshold_bits": self.threshold_bits,
            "comparator": self.comparator,
            "scale": self.scale,
            "exponent": self.exponent,
            "resolution": self.resolution,
            "digits": self.digits,
            "exponents": None if self.exponents is None else list(self.exponents),
            "lift": self.lift,
            "source": self.source,
        }


# Numbers below the smallest normal one may be flushed to 0 (-ffast-math), so that grids are no finer.
FLOAT64 = Arithmetic(
    "float64",
    None,
    53,
    digits=53,
    exponents=(-1022, 1024),
    source="IEEE 754 binary64: whole numbers up to 2^53 are exact, and so are their sums",
)
FLOAT32 = Arithmetic(
    "float32",
    None,
    24,
    digits=24,
    exponents=(-126, 128),
    source="IEEE 754 binary32: whole numbers up to 2^24 are exact, and so are their sums",
)
SPINNAKER = Arithmetic(
    "spinnaker",
    weight_bits=16,
    sum_bits=16,
    sums="per sign",
    saturating=True,
    threshold_bits=31,
    comparator=">=",
    exponent=-14,
    source=(
        "sPyNNaker 7.4.1: 16-bit weights without sign and 16-bit ring buffers per sign (synapses.c, "
        "population_vertex.py), shift 1; s16.15 potential, offset and threshold (neuron_model_lif_impl.h)"
    ),
)
# Why these numbers: docs/quantization.md, "What simulators add up".
NEURON = Arithmetic(
    "neuron",
    weight_bits=None,
    sum_bits=34,
    comparator=">=",
    resolution=2.0**-43,
    digits=53,
    exponents=(-900, 40),
    lift=1.0,
    source=(
        "IF_curr_exp of PyNN 0.13 on NEURON 9.0.2: float64; the current is exact, the peak is it times 2^-20 to less "
        "than 64 roundings, and thresholds are lowered by 2^-44 of themselves (strop_backends.pynn.neuron.dialect)"
    ),
)
