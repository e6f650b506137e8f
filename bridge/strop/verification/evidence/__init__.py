"""Evidence of a report beside its verdict: chosen frames spike by spike, and margins between potentials and thresholds.

`strop.verify(..., evidence=True)` fills a `Collector` chunk by chunk with values that it computes anyway;
`strop.display` draws the resulting `Evidence`. Its size depends on neither the number of frames nor, beyond a limit, on
the network's.
"""

from __future__ import annotations

from strop.verification.evidence.collect import Collector
from strop.verification.evidence.records import Difference, Evidence, FrameEvidence, Margins
from strop.verification.evidence.views import BUDGET, View

__all__ = ["BUDGET", "Collector", "Difference", "Evidence", "FrameEvidence", "Margins", "View"]
