"""Energy estimates: counted operations times published energies per operation; never measurements.

Each `EnergyFigure` says what its authors divided by what, because they differ: TrueNorth's figure is the power of the
whole chip, leakage and neurons included, by its synaptic events; Loihi's is one operation in a simulation before
there was silicon. So the figures stand beside each other, but compare neither chips nor networks by themselves.

Left out on purpose: SpiNNaker 2 (figures quoted from the literature lie between 10 pJ and 1.5 nJ per event) and
BrainScaleS (its publications give energies per classified image, not per event).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What every estimate leaves out, printed with it.
STATEMENT = (
    "An estimate, no measurement: counted operations times a published constant. Left out, unless a figure says that "
    "it includes them: static power, neuron updates, the routing of spikes, input and output, the memory traffic of "
    "multiply-accumulates, and the host's own work, which is priced separately."
)


@dataclass(frozen=True)
class EnergyFigure:
    """A published energy per operation.

    Attributes
    ----------
    name : str
    picojoules : float
        Per operation.
    operation : str
        "synaptic event", "multiply-accumulate" or "addition".
    counts : str
        What the figure includes, and how it was got.
    process : str
    source, doi : str
        The publication.
    """

    name: str
    picojoules: float
    operation: str
    counts: str
    process: str
    source: str
    doi: str

    def of(self, operations: float) -> float:
        """Return the energy of so many operations, in picojoules."""
        return self.picojoules * operations

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "picojoules_per_operation": self.picojoules,
            "operation": self.operation,
            "counts": self.counts,
            "process": self.process,
            "source": self.source,
            "doi": self.doi,
        }


SPINNAKER = EnergyFigure(
    "SpiNNaker",
    43_000.0,
    "synaptic event",
    "measured on four chips that ran 10,000 neurons in real time: energy per postsynaptic potential; the same paper "
    "gives 100 nJ per neuron and millisecond, and its abstract does not say whether the two overlap",
    "130 nm",
    "Sharp, Galluppi, Rast and Furber, J. Neurosci. Methods 210 (2012) 110-118, abstract",
    "10.1016/j.jneumeth.2012.03.001",
)

TRUENORTH = EnergyFigure(
    "TrueNorth",
    26.0,
    "synaptic event",
    "measured: power of the whole chip (0.775 V; static power, neuron updates and routing included) by its synaptic "
    "events, at 20 Hz and 128 active synapses per neuron; other loads give other quotients",
    "28 nm",
    "Merolla et al., Science 345 (2014) 668-673",
    "10.1126/science.1254642",
)

LOIHI = EnergyFigure(
    "Loihi",
    23.6,
    "synaptic event",
    "simulated before silicon, 0.75 V, the least energy of one synaptic operation; no static power, no neuron update "
    "(52 to 81 pJ each), no routing (1.7 pJ within a tile, 3 to 4 pJ per hop)",
    "14 nm",
    "Davies et al., IEEE Micro 38(1) (2018) 82-99, table 2",
    "10.1109/MM.2018.112130359",
)

ODIN = EnergyFigure(
    "ODIN",
    12.7,
    "synaptic event",
    "measured, the least energy per synaptic operation (0.55 V, highest rate), power of the whole core included",
    "28 nm FDSOI",
    "Frenkel, Lefebvre, Legat and Bol, IEEE Trans. Biomed. Circuits Syst. 13 (2019) 145-158",
    "10.1109/TBCAS.2018.2880425",
)

FLOAT32_MAC = EnergyFigure(
    "float32 multiply-accumulate",
    4.6,
    "multiply-accumulate",
    "3.7 pJ for a 32-bit float multiplication and 0.9 pJ for an addition at 0.9 V: the arithmetic alone, without "
    "instructions and without memory, which costs more (10 pJ for 64 bits from an 8 kB cache, nanojoules from DRAM)",
    "45 nm",
    "Horowitz, ISSCC 2014, 10-14, figure 1.1.9",
    "10.1109/ISSCC.2014.6757323",
)

FLOAT32_ADD = EnergyFigure(
    "float32 addition",
    0.9,
    "addition",
    "one 32-bit float addition at 0.9 V; a comparison is taken for one",
    "45 nm",
    "Horowitz, ISSCC 2014, 10-14, figure 1.1.9",
    "10.1109/ISSCC.2014.6757323",
)

# Per synaptic event, dearest first.
NEUROMORPHIC = (SPINNAKER, TRUENORTH, LOIHI, ODIN)


def float32_energy(macs: float, additions: float) -> float:
    """Return the picojoules of dense float32 arithmetic: `4.6 macs + 0.9 additions` (Horowitz, 2014)."""
    return FLOAT32_MAC.of(macs) + FLOAT32_ADD.of(additions)


def as_energy(picojoules: float) -> str:
    """Return an energy as people write it: "1.27 µJ"."""
    size = picojoules
    for unit in ("pJ", "nJ", "µJ", "mJ"):
        if size < 1000 or unit == "mJ":
            return f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
