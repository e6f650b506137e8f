#!/usr/bin/env python
"""Prove a certificate again, from the network beside it, with whole numbers and without strop.

    python check_certificate.py [FOLDER]

Every float is a whole number times a power of two. For each neuron, with g the largest exponent such that all its
weights are multiples of 2^g, the sums of its positive and of its negative weights in units of 2^g bound every partial
sum of every input, in any order. They must fit the target. Ends with 0 if the certificate is right and says that all is
proved, 1 if it is right and says that something is not, 2 if it is no certificate of the network in FOLDER.

A template of strop: `strop export` copies this file as it is.
"""

from __future__ import annotations

import hashlib
import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

BITS = 62


class Invalid(Exception):
    """The certificate is not one of this network."""


def digest(network: dict, arrays: dict) -> str:
    """SHA-256 of populations and projections, and of all arrays of network.npz, by name."""
    text = json.dumps([network["populations"], network["projections"]], sort_keys=True, separators=(",", ":"))
    content = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        content.update(f"{name}\0{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return content.hexdigest()


def lowest_bits(weights: np.ndarray) -> np.ndarray:
    """Exponent of the lowest set bit of each weight; none is zero."""
    fraction, exponent = np.frexp(weights)
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    return exponent - 54 + np.frexp((whole & -whole).astype(np.float64))[1]


class Population:
    """The synapses of one population, from all its sources."""

    def __init__(self, name: str, size: int, network: dict, arrays: dict) -> None:
        keys = [p["key"] for p in network["projections"] if p["target"] == name]
        self.post = np.concatenate([arrays[f"post:{key}"].astype(np.int64) for key in keys])
        self.origin = np.concatenate([np.full(len(arrays[f"pre:{key}"]), n) for n, key in enumerate(keys)])
        self.sources = [p["source"] for p in network["projections"] if p["target"] == name]
        self.pre = np.concatenate([arrays[f"pre:{key}"].astype(np.int64) for key in keys])
        self.weight = np.concatenate([arrays[f"weight:{key}"] for key in keys])
        self.threshold, self.bias, self.size = arrays[f"threshold:{name}"], arrays[f"bias:{name}"], size
        if not all(np.isfinite(values).all() for values in (self.weight, self.threshold, self.bias)):
            raise Invalid(f"{name}: not all numbers are finite")

    def numbers(self, target: dict) -> dict:
        """Whole numbers of every neuron in units of its grid: sums, heaviest weight, threshold."""
        grid = np.full(self.size, 1 << 20, np.int64)
        there = self.weight != 0.0
        np.minimum.at(grid, self.post[there], lowest_bits(self.weight[there]))
        grid[grid == 1 << 20] = grid.min() if grid.min() < 1 << 20 else 0
        if target["exponent"] is not None:
            grid = np.minimum(grid, target["exponent"])
        elif target["threshold_bits"] is not None:  # as fine as thresholds of whole halves need, within reason
            halves = (np.where(v == 0.0, grid, lowest_bits(v) + 1) for v in (self.threshold, self.bias))
            finer = np.minimum(grid, np.minimum(*halves))
            grid = np.where(grid - finer > 32, grid, finer)
        if target["exponent"] is None and target["scale"] == "population":
            grid[:] = grid.min()
        size = np.frexp(self.weight)[1] - grid[self.post]
        rough = np.bincount(self.post, np.ldexp(1.0, np.where(there, np.minimum(size, 900), -1)), self.size)
        wide = rough >= 2.0**BITS
        usable = there & ~wide[self.post]
        shift = -grid[self.post[usable]]
        whole = np.ldexp(np.ldexp(self.weight[usable], shift // 2), shift - shift // 2).astype(np.int64)
        found = {what: np.zeros(self.size, np.int64) for what in ("positive", "negative", "heaviest")}
        np.add.at(found["positive"], self.post[usable], np.maximum(whole, 0))
        np.add.at(found["negative"], self.post[usable], np.maximum(-whole, 0))
        np.maximum.at(found["heaviest"], self.post[usable], np.abs(whole))
        return found | {"grid": grid, "wide": wide}

    def can_meet(self, neuron: int, value: int, grid: int) -> bool:
        """Whether some spikes bring exactly `value`, in units of the grid."""
        weights: dict = {}
        for k in np.flatnonzero(self.post == neuron):
            key = (self.sources[self.origin[k]], int(self.pre[k]))
            weights[key] = weights.get(key, 0) + int(Fraction(float(self.weight[k])) / Fraction(2) ** grid)
        sums, low = 1, sum(w for w in weights.values() if w < 0)
        for weight in weights.values():
            sums |= sums << abs(weight)
        return value >= low and bool(sums >> (value - low) & 1)


def proved(population: Population, target: dict, found: dict) -> bool:
    """Whether every neuron fits the target."""
    largest, heaviest = ((1 << bits) - 1 for bits in (target["sum_bits"], target["weight_bits"] or target["sum_bits"]))
    exponent = found["grid"].min() if target["exponent"] is None else target["exponent"]
    sums = max(found["positive"].max(), found["negative"].max())
    if found["wide"].any() or found["heaviest"].max() > heaviest or sums > largest or found["grid"].min() < exponent:
        return False
    seen: dict = {}
    for j in range(population.size):
        grid, plus, minus = (int(found[key][j]) for key in ("grid", "positive", "negative"))
        key = (float(population.threshold[j]), float(population.bias[j]), grid, plus, minus)
        if key not in seen:
            seen[key] = holds(*key, target)
        fine, whole = seen[key]
        meets = whole is not None and target["comparator"] == ">" and -minus <= whole <= plus
        if not fine or (meets and population.can_meet(j, whole, grid)):
            return False
    return True


def holds(threshold: float, bias: float, grid: int, plus: int, minus: int, target: dict) -> tuple:
    """(whether the threshold fits the target, the whole number that it is, or None)."""
    t, b = (Fraction(value) / Fraction(2) ** grid for value in (threshold, bias))
    if target["threshold_bits"] is not None:
        halves = (2 * t).denominator == (2 * b).denominator == 1
        if not halves or max(abs(2 * t), abs(2 * b)) >= 1 << target["threshold_bits"]:
            return False, None
    if target["digits"] is not None:  # floating point: the bias is added to the weights, without a rounding
        (low, high), most = (Fraction(2) ** (n - grid) for n in target["exponents"]), 1 << target["digits"]
        unit = min(lowest(b), Fraction(1))
        if unit < low or max(plus, minus) + abs(b) >= min(unit * most, high):
            return False, None
        if t and (lowest(t) < low or abs(t) >= min(lowest(t) * most, high)):
            return False, None
    return True, int(t - b) if (t - b).denominator == 1 else None


def lowest(value: Fraction) -> Fraction:
    """The power of two that is the lowest bit of a number; 1 for 0."""
    return Fraction(abs(value.numerator) & -abs(value.numerator) or 1, value.denominator)


def check(folder: Path) -> tuple:
    """Return the target and what the certificate says of it, if it is right; raise `Invalid` if not."""
    certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    network = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    with np.load(folder / "network.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if certificate.get("format") != "strop-certificate" or certificate.get("version") != 1:
        raise Invalid("certificate.json is of another format or version")
    target = certificate["target"]
    if target["lift"] or target["resolution"]:
        raise Invalid("targets that raise or blur thresholds are not checked here")
    if certificate.get("network") != digest(network, arrays):
        raise Invalid("the certificate's hash is not that of network.json and network.npz")
    rows = {row["name"]: row for row in certificate["populations"]}
    result = True
    for entry in network["populations"]:
        name = entry["name"]
        if entry["played"]:
            if not rows.pop(name, {"on_host": True})["on_host"]:
                raise Invalid(f"{name} is not evaluated by the target, and the certificate says that it is")
            continue
        row = rows.pop(name, None)
        if row is None or row["on_host"] or row["neurons"] != entry["size"]:
            raise Invalid(f"the certificate has no proof of {name}")
        if entry["driven"] and not row["holds"]:  # by values that are no whole numbers: nothing is proved
            result = False
            continue
        population = Population(name, entry["size"], network, arrays)
        found = population.numbers(target)
        for what in ("positive", "negative", "heaviest"):
            if row[what] != int(found[what].max()):
                raise Invalid(f"{name}: {what} is {int(found[what].max()):,}, and {row[what]:,} in the certificate")
        if row["exponents"] != [int(found["grid"].min()), int(found["grid"].max())]:
            raise Invalid(f"{name}: the exponents of its grids are others")
        fits = proved(population, target, found)
        if entry["driven"] or fits != row["holds"]:
            raise Invalid(f"{name}: the certificate says the opposite of what is proved")
        result &= fits
    if rows or certificate["holds"] != result:
        raise Invalid("the certificate names populations that are not there, or another verdict than theirs")
    return target, result


def main() -> int:
    """Check the certificate in a folder."""
    try:
        target, result = check(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
    except Exception as error:  # a file can be damaged in more ways than any list of exceptions foresees
        print(f"INVALID: {' '.join(str(error).split()) or type(error).__name__}")
        return 2
    print("target: " + ", ".join(f"{what} {value}" for what, value in target.items() if value is not None))
    print("PROVED for all inputs, as the certificate says" if result else "not proved, as the certificate says")
    return int(not result)


if __name__ == "__main__":
    sys.exit(main())
