"""Evidence of a report beside its verdict: chosen frames spike by spike, and margins between potentials and thresholds.

`strop.verify(..., evidence=True)` has a `Gathering` for each chunk, filled with values that it computes anyway, and a
`Collector` that adds them up; `strop.display` draws the resulting `Evidence`. Its size depends on neither the number of
frames nor, beyond a limit, on the network's.
"""

from __future__ import annotations

from strop.verification.evidence.collect import Collector
from strop.verification.evidence.gather import Choice, ChunkEvidence, Gathering
from strop.verification.evidence.records import Difference, Evidence, FrameEvidence, Margins
from strop.verification.evidence.views import BUDGET, View

__all__ = [
    "BUDGET",
    "Choice",
    "ChunkEvidence",
    "Collector",
    "Difference",
    "Evidence",
    "FrameEvidence",
    "Gathering",
    "Margins",
    "View",
]
