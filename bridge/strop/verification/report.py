"""`Report`: the outcome of a verification, printed as a table, shown in a notebook, or written as a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from strop.graph.files.atomic import write_text
from strop.graph.html_table import html_table
from strop.verification.outcome import BackendReport, Outcome
from strop.verification.proof import unproved


class Report(Outcome):
    """What `strop.verify` found; prints itself as a table."""

    # Makes the page. `strop/__init__.py` sets it: pages are made in `strop.display`, a room above this one, which this
    # module may not import.
    page: ClassVar[Callable[[Report], str]]

    def __str__(self) -> str:
        from strop.verification.table import render_report  # rich, only where something is printed

        return render_report(self)

    def save_html(self, path: str | Path) -> None:
        """Write the page of this verification to a file, whole or not at all; it loads nothing from anywhere.

        >>> report = strop.verify(model, frames, labels, backends=("brian2",), evidence=True)
        >>> report.save_html("report.html")

        Parameters
        ----------
        path : path
            Without `evidence=True`, the page has neither wave, raster nor margins.

        Raises
        ------
        DataError
            If the folder does not exist.
        """
        write_text(path, Report.page(self))

    def _repr_html_(self) -> str:
        from strop.running.terminal import percent  # rich

        rows = []
        for name, own in self._columns():
            proved = ("proved" if name in self.proved else "not proved") if isinstance(own, BackendReport) else ""
            differing = f"{own.faults:,} faults" if own.faults else "equal"
            rows.append((name, differing, own.ties, proved, percent(own.accuracy)))
        headings = ("compared with the oracle", "spikes", "ties", "for all inputs", "accuracy")
        reasons = unproved({name: own.proof for name, own in self.backends.items()})
        notes = [*self.problems(), *(self.reservations() if self.passed else ())]
        notes += [f"Not proved for all inputs on {', '.join(names)}: {why}." for why, names in reasons.items()]
        notes += self.notes
        about = f"{self.frames:,} frames, every spike of every layer"
        return html_table(f"{self.model}: {self.verdict}", headings, rows, notes, about)
