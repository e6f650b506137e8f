"""What a comparison counts: faults, ties and spikes of one layer, and of one output; and how many ties are too many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import StropError

# A verification fails where more of a layer's comparisons are ties than this share. Rounding alone leaves less than
# one in a thousand undecided unless sums lie on their thresholds by construction: then nothing was verified there.
MOST_TIES = 1e-3
# The same for comparisons that are equal though undecided: it is reported, and fails under `strict`.
MOST_UNDECIDED = 1e-2
# Shares of a few comparisons mean nothing: so many are allowed in any layer.
ALWAYS_ALLOWED = 2


@dataclass
class LayerReport:
    """One population under one comparison.

    Attributes
    ----------
    name : str
    units : int
        Number of neurons (the name is that of the JSON key).
    spikes : int
        Spikes observed over all frames.
    faults, ties : int
        Differing spikes, over all neurons and frames, that rounding cannot and can explain.
    compared : int
        Comparisons: neurons times frames.
    undecided : int
        Comparisons in which rounding may decide either way, the ties among them.
    """

    name: str
    units: int
    spikes: int = 0
    faults: int = 0
    ties: int = 0
    compared: int = 0
    undecided: int = 0

    def merge(self, other: LayerReport) -> None:
        """Add the counts of other frames of the same population.

        Raises
        ------
        StropError
            If it is another population.
        """
        if (self.name, self.units) != (other.name, other.units):
            raise StropError(f"counts of {other.name!r} cannot be added to those of {self.name!r}")
        self.spikes += other.spikes
        self.faults += other.faults
        self.ties += other.ties
        self.compared += other.compared
        self.undecided += other.undecided

    @property
    def tie_share(self) -> float:
        """Ties by comparisons."""
        return self.ties / self.compared if self.compared else 0.0

    @property
    def has_too_many_ties(self) -> bool:
        """Whether more comparisons are ties than rounding leaves by chance (`MOST_TIES`)."""
        return self.ties > max(ALWAYS_ALLOWED, MOST_TIES * self.compared)

    @property
    def is_mostly_decided(self) -> bool:
        """Whether hardly any comparison is undecided (`MOST_UNDECIDED`)."""
        return self.undecided <= max(ALWAYS_ALLOWED, MOST_UNDECIDED * self.compared)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "units": self.units,
            "spikes": self.spikes,
            "faults": self.faults,
            "ties": self.ties,
            "compared": self.compared,
            "undecided": self.undecided,
        }


@dataclass
class OutputReport:
    """One output of the model: Keras's own values against the read-out of Keras's last spikes.

    Attributes
    ----------
    name : str
    values : int
        Values that were compared.
    faults : int
        Values that float32 cannot explain.
    ties : int
        Frames in which another class wins by less than float32 can tell.
    frames_with_faults : int
    largest_difference : float
    frames : int
    undecided : int
        Values that rounding may decide either way (`strop.verification.outputs.AnswerVerdict`).
    """

    name: str
    values: int = 0
    faults: int = 0
    ties: int = 0
    frames_with_faults: int = 0
    largest_difference: float = 0.0
    frames: int = 0
    undecided: int = 0

    def add(
        self,
        faults: npt.NDArray[np.bool_],
        ties: npt.NDArray[np.bool_],
        difference: float,
        undecided: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Count some frames in: faults, undecided (n, *shape), ties (n,), the largest difference."""
        self.values += faults.size
        self.frames += len(ties)
        self.faults += int(np.count_nonzero(faults))
        self.ties += int(np.count_nonzero(ties))
        self.frames_with_faults += int(faults.reshape(len(faults), -1).any(axis=1).sum())
        self.undecided += 0 if undecided is None else int(np.count_nonzero(undecided))
        # A NaN is larger than everything.
        self.largest_difference = float(np.maximum(self.largest_difference, difference))

    def merge(self, other: OutputReport) -> None:
        """Add the counts of other frames of the same output.

        Raises
        ------
        StropError
            If it is another output.
        """
        if self.name != other.name:
            raise StropError(f"counts of output {other.name!r} cannot be added to those of {self.name!r}")
        self.values += other.values
        self.frames += other.frames
        self.faults += other.faults
        self.ties += other.ties
        self.frames_with_faults += other.frames_with_faults
        self.undecided += other.undecided
        self.largest_difference = float(np.maximum(self.largest_difference, other.largest_difference))

    @property
    def is_mostly_decided(self) -> bool:
        """Whether rounding decides hardly any of its values (`MOST_UNDECIDED`)."""
        each = self.values / max(self.frames, 1)
        return self.undecided <= max(ALWAYS_ALLOWED * each, MOST_UNDECIDED * self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "values": self.values,
            "faults": self.faults,
            "ties": self.ties,
            "frames_with_faults": self.frames_with_faults,
            # JSON has no NaN and no infinity.
            "largest_difference": self.largest_difference if np.isfinite(self.largest_difference) else None,
            "undecided": self.undecided,
        }
