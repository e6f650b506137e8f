"""A progress bar for long work: shown on a terminal, silent everywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Progress:
    """A bar over `total` items (None: not known yet), on standard error; does nothing where that is no terminal.

    >>> with Progress("simulating", 10_000) as progress:
    ...     progress.advance(1000)
    """

    def __init__(self, label: str, total: int | None = None) -> None:
        self.label, self.total = label, total
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total)
        return self

    def expect(self, total: int) -> None:
        """Say how many items there are, where that was not known at the beginning."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, count: int) -> None:
        """Move the bar forward by `count` items."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
