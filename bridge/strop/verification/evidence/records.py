"""Records of evidence: margins of a population, chosen frames, and where comparisons differ in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from strop.costs.activity import Activity
from strop.graph import Graph
from strop.verification.evidence.views import View


@dataclass
class Margins:
    """How far one population's potentials stayed from their thresholds, `|a - threshold|`.

    Bins are octaves: bin e counts the values in `[2^e, 2^(e+1))`.

    Attributes
    ----------
    name : str
    octaves : dict of exponent to count
        Margins of all frames and neurons, in the oracle's arithmetic.
    exact : int
        Potentials that are equal to their threshold.
    smallest : float
        The smallest margin that is not 0; infinity if there is none.
    bound_octaves : dict of exponent to count
        The float32 bounds of all neurons that are not 0, over the sampled frames.
    bound_median, bound_max : float
        The median of those that are not 0.
    sampled, within : int
        Values for which the bound was computed, and those of them that it leaves undecided.
    """

    name: str
    octaves: dict[int, int] = field(default_factory=dict)
    exact: int = 0
    smallest: float = float("inf")
    bound_octaves: dict[int, int] = field(default_factory=dict)
    bound_median: float = 0.0
    bound_max: float = 0.0
    sampled: int = 0
    within: int = 0


@dataclass
class Difference:
    """Where one comparison differs from the oracle in one frame.

    Attributes
    ----------
    faults, ties : int
    marks : dict of population name to (int array, int array)
        Flat indices of neurons at fault, and of ties; at most 200 each, and only where they were kept.
    """

    faults: int
    ties: int
    marks: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = field(default_factory=dict)


@dataclass
class FrameEvidence:
    """One chosen frame.

    Attributes
    ----------
    index : int
        Among all frames that were verified.
    reasons : tuple of str
        Of "first", "class", "misclassified", "tie", "fault".
    label : int or None
    decisions : dict of comparison to class
        "oracle", "keras" and the backends.
    inputs : dict of input name to (base64 of uint8, lowest, highest value)
    spikes : dict of population name to base64 of packed bits, in the order of its view
    counts : dict of population name to number of spikes
        Of all neurons, shown or not.
    scores : list of (class, value)
        The read-out's values, best first.
    differences : dict of comparison to Difference
    """

    index: int
    reasons: tuple[str, ...]
    label: int | None
    decisions: dict[str, int]
    inputs: dict[str, tuple[str, float, float]]
    spikes: dict[str, str]
    counts: dict[str, int]
    scores: list[tuple[int, float]]
    differences: dict[str, Difference]


@dataclass
class Evidence:
    """All evidence that a page shows beside the numbers of a report.

    Attributes
    ----------
    graph : Graph
    margins : list of Margins
        In the graph's order.
    inputs, populations : list of View
    frames : list of FrameEvidence
        By index.
    left_out : list of str
        Sentences that name what was left out to limit the size of the page.
    activity : Activity or None
        Spike counts of each neuron, over all frames.
    with_keras : bool
        Whether the bounds are those of a Keras model, with what its folded layers round; otherwise of the graph.
    """

    graph: Graph
    margins: list[Margins]
    inputs: list[View]
    populations: list[View]
    frames: list[FrameEvidence]
    left_out: list[str]
    activity: Activity | None
    with_keras: bool

    @property
    def opening(self) -> int:
        """Place among `frames` of the one that a page opens on: the first with a fault, or the first of all."""
        faulty = (any(own.faults for own in frame.differences.values()) for frame in self.frames)
        return next((place for place, found in enumerate(faulty) if found), 0)
