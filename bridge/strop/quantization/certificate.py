"""`Certificate`: for every population, the largest sums over all inputs, and why they fit a target or do not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.errors import ModelFileError
from strop.graph import Graph
from strop.graph.files.atomic import write_text
from strop.graph.html_table import html_table

FORMAT = "strop-certificate"
VERSION = 1


@dataclass(frozen=True)
class Reason:
    """Why a neuron is not proved.

    Attributes
    ----------
    neuron : int
        Flat index in C order.
    what : str
        One sentence with the figures.
    pattern : dict of source name to list of int, or None
        Flat indices of the spikes that bring it about, where they could be found.
    """

    neuron: int
    what: str
    pattern: dict[str, list[int]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"neuron": self.neuron, "what": self.what, "pattern": self.pattern}


@dataclass(frozen=True)
class PopulationProof:
    """What was proved of one population; whole numbers are in units of each neuron's grid.

    Attributes
    ----------
    name : str
    neurons : int
    on_host : bool
        Evaluated on the host, in float64: its spikes are the network's input, and nothing is to be proved.
    exponents : tuple of int
        Smallest and largest exponent of the neurons' grids.
    positive, negative, heaviest : int
        Largest sum of the positive and of the negative weights over all inputs, and the heaviest weight.
    bits_needed, bits_available : int
        Of a sum's magnitude.
    distance : str
        Least possible distance of a sum from its threshold, in units of the grid: "1/2", "1/4", ...; "0" where one may
        be equal.
    reasons : tuple of Reason
        Empty where everything is proved.
    failing : int
        Neurons that are not proved; reasons name the first of each kind.
    """

    name: str
    neurons: int
    on_host: bool
    exponents: tuple[int, int] = (0, 0)
    positive: int = 0
    negative: int = 0
    heaviest: int = 0
    bits_needed: int = 0
    bits_available: int = 0
    distance: str = "0"
    reasons: tuple[Reason, ...] = ()
    failing: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing is left to prove."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "neurons": self.neurons,
            "on_host": self.on_host,
            "holds": self.holds,
            "exponents": list(self.exponents),
            "positive": self.positive,
            "negative": self.negative,
            "heaviest": self.heaviest,
            "bits_needed": self.bits_needed,
            "bits_available": self.bits_available,
            "distance": self.distance,
            "failing": self.failing,
            "reasons": [reason.to_dict() for reason in self.reasons],
        }


@dataclass(frozen=True)
class Certificate:
    """That a graph's spikes are the same for all inputs in a target's arithmetic, or where that is not proved.

    Attributes
    ----------
    graph : str
        SHA-256 digest of the graph's content, see `Graph.digest`.
    target : dict
        The arithmetic, see `strop.running.arithmetic.Arithmetic`.
    populations : tuple of PopulationProof
    version : str
        Of strop.
    """

    graph: str
    target: dict[str, Any]
    populations: tuple[PopulationProof, ...]
    version: str

    @property
    def holds(self) -> bool:
        """Whether every population is proved."""
        return all(population.holds for population in self.populations)

    def is_of(self, graph: Graph) -> bool:
        """Whether this certificate is one of `graph`."""
        return self.graph == graph.digest

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form (docs/quantization.md)."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "strop": self.version,
            "graph": self.graph,
            "target": self.target,
            "holds": self.holds,
            "populations": [population.to_dict() for population in self.populations],
        }

    def save(self, path: str | Path) -> None:
        """Write the certificate as JSON, whole or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate; raises `ModelFileError` where the file holds none."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            if found["format"] != FORMAT or found["version"] != VERSION:
                raise ValueError(f"format {found['format']!r}, version {found['version']!r}")
            populations = tuple(_proof(row) for row in found["populations"])
            read = cls(
                _of(str, found["graph"], "graph"),
                _target(found["target"]),
                populations,
                _of(str, found["strop"], "strop"),
            )
            if read.holds is not found["holds"]:
                raise ValueError("its verdict is not that of its populations")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelFileError(f"{path} holds no certificate of strop: {reason}") from error
        return read

    def _repr_html_(self) -> str:
        rows = [
            (row.name, row.neurons, "taken as input")
            if row.on_host
            else (
                row.name,
                row.neurons,
                f"{'−' if row.negative else ''}{row.negative:,} to {row.positive:,}",
                row.heaviest,
                f"{row.bits_needed} of {row.bits_available}",
                row.distance,
                "proved" if row.holds else f"{row.failing:,} neurons not proved",
            )
            for row in self.populations
        ]
        headings = ("population", "neurons", "sums", "heaviest weight", "bits", "distance to a threshold", "")
        notes = [
            f"{row.name}, neuron {reason.neuron}: {reason.what}" for row in self.populations for reason in row.reasons
        ]
        verdict = "proved for all inputs" if self.holds else "not proved"
        return html_table(f"Certificate for {self.target['name']}: {verdict}", headings, rows, notes)

    def __str__(self) -> str:
        """The verdict, a line per population, and a line per reason."""
        lines = [f"{self.target['name']}: {'PROVED for all inputs' if self.holds else 'NOT PROVED'}"]
        for row in self.populations:
            if row.on_host:
                lines.append(f"  {row.name}: {row.neurons:,} neurons, evaluated on the host, taken as input")
                continue
            lines.append(
                f"  {row.name}: {row.neurons:,} neurons, sums from -{row.negative:,} to {row.positive:,}, weights "
                f"up to {row.heaviest:,}; {row.bits_needed} of {row.bits_available} bits; at least {row.distance} "
                "from a threshold"
            )
            lines += [f"    neuron {reason.neuron}: {reason.what}" for reason in row.reasons]
            if row.failing > len(row.reasons):
                lines.append(f"    {row.failing:,} neurons in all")
        return "\n".join(lines)


_COUNTS = ("neurons", "positive", "negative", "heaviest", "bits_needed", "bits_available", "failing")


def _proof(row: dict[str, Any]) -> PopulationProof:
    fields = {key: value for key, value in row.items() if key != "holds"}
    low, high = (_of(int, n, "exponents") for n in fields["exponents"])
    for key in _COUNTS:
        _of(int, fields[key], key)
    for key in ("name", "distance"):
        _of(str, fields[key], key)
    _of(bool, fields["on_host"], "on_host")
    reasons = tuple(_reason(reason) for reason in fields["reasons"])
    return PopulationProof(**{**fields, "exponents": (low, high), "reasons": reasons})


def _reason(row: dict[str, Any]) -> Reason:
    reason = Reason(**row)
    _of(int, reason.neuron, "neuron")
    _of(str, reason.what, "what")
    if reason.pattern is not None:
        for indices in _of(dict, reason.pattern, "pattern").values():
            for index in _of(list, indices, "pattern"):
                _of(int, index, "pattern")
    return reason


def _target(found: Any) -> dict[str, Any]:
    target: dict[str, Any] = _of(dict, found, "target")
    _of(str, target["name"], "target's name")
    return target


def _of(kind: type, value: Any, what: str) -> Any:
    # bool is an int for Python, but not here.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{what} is {str(value)[:60]!r}, which is no {kind.__name__}")
    return value
