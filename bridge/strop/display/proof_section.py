"""What a page shows of the proofs: for which backends spikes are equal for all inputs, beside the frames compared."""

from __future__ import annotations

from typing import Any

from strop.display.wording import cut, plural
from strop.verification.outcome import BackendReport
from strop.verification.proof import STATEMENT
from strop.verification.report import Report

# Rows of the table of sums.
_MOST_ROWS = 200


def proof_shown(report: Report) -> dict[str, Any] | None:
    """Return the values of `verification/proof.html.j2`, or None where nothing was tried."""
    runs = {name: own for name, own in report.backends.items() if own.proof is not None}
    if not runs:
        return None
    proved = report.proved
    # Of the proved: their sums are the same in any arithmetic whose grid is free.
    first = runs[proved[0]].proof if proved else None
    certificate = None if first is None else first.certificate
    return {
        "statement": STATEMENT,
        "proved": ", ".join(cut(name) for name in proved),
        "rows": [_row(name, own, report) for name, own in runs.items()],
        "target": "" if certificate is None else certificate.target["name"],
        "populations": [] if certificate is None else [row.to_dict() for row in certificate.populations[:_MOST_ROWS]],
    }


def _row(name: str, own: BackendReport, report: Report) -> dict[str, Any]:
    assert own.proof is not None
    differing = own.faults + own.ties
    said = own.proof.to_dict(differing)
    found = f"{plural(differing, 'spike')} of {plural(report.frames, 'frame')} differ"
    return {
        "name": name,
        "proved": said["proved"],
        "refuted": said["refuted"],
        "frames": found if differing else f"equal on {plural(report.frames, 'frame')}",
        "why": said["reason"] or said["source"],
    }
