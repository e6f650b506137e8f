"""`Partial`: what a verification found in one chunk of frames, small enough to be sent between processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from strop.costs.activity import Counts
from strop.running.labels import Scores
from strop.verification.counts import LayerReport, OutputReport
from strop.verification.evidence import Choice, ChunkEvidence
from strop.verification.explanation.clues import Notes
from strop.verification.explanation.clues import Room as ClueRoom

# Keras's own name among the comparisons; a backend cannot be registered under it.
KERAS = "keras"


@dataclass(frozen=True)
class Room:
    """What is still wanted of a chunk, when it is given out.

    It never grows: when the chunk's result is added, some of what was wanted may have been found in earlier ones.

    Attributes
    ----------
    check : bool
        Whether the comparisons must show on this chunk that they find planted faults (`strop.verification.selfcheck`).
    clues : dict of comparison to Room
    choice : Choice or None
        Of frames for the evidence; None without.
    sampled : int
        Frames for which the evidence takes bounds.
    """

    check: bool
    clues: dict[str, ClueRoom]
    choice: Choice | None = None
    sampled: int = 0


@dataclass
class Compared:
    """One comparison over one chunk.

    Attributes
    ----------
    layers : dict of population name to LayerReport
    frames, frames_with_faults : int
    notes : Notes
        For the explanation of faults.
    planted : list of LayerReport, or None
        What was found in copies with planted faults, on the chunk that was checked.
    unproved : list of str
        Layers in which no fault could be planted there.
    seconds : float
        Of running.
    decoded_equal : bool
        Whether a backend answered all frames as the oracle did.
    unexplained : int
        See `strop.verification.outcome.BackendReport`.
    """

    layers: dict[str, LayerReport]
    frames: int
    frames_with_faults: int
    notes: Notes
    planted: list[LayerReport] | None = None
    unproved: list[str] = field(default_factory=list)
    seconds: float = 0.0
    decoded_equal: bool = True
    unexplained: int = 0


@dataclass(frozen=True)
class Built:
    """A backend's simulator and its version, and how long it took to build the network."""

    version: str
    seconds: float


@dataclass
class Partial:
    """What a verification found in one chunk.

    Attributes
    ----------
    number, start, count : int
        Of the chunk.
    activity : Counts
    compared : dict of comparison to Compared
    outputs : dict of output name to OutputReport
        Keras's.
    planted_outputs : list of OutputReport, or None
        Of copies with wrong values, on the chunk that was checked.
    scores : Scores
    evidence : ChunkEvidence or None
    built : dict of backend name to Built
        By the process that took the chunk.
    """

    number: int
    start: int
    count: int
    activity: Counts
    scores: Scores
    compared: dict[str, Compared] = field(default_factory=dict)
    outputs: dict[str, OutputReport] = field(default_factory=dict)
    planted_outputs: list[OutputReport] | None = None
    evidence: ChunkEvidence | None = None
    built: dict[str, Built] = field(default_factory=dict)
