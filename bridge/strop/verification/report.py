"""`Report`: the outcome of a verification, printed as a table."""

from __future__ import annotations

from strop.verification.outcome import Outcome


class Report(Outcome):
    """What `strop.verify` found; prints itself as a table."""

    def __str__(self) -> str:
        from strop.verification.table import render_report  # rich, only where something is printed

        return render_report(self)
