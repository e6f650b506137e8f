"""A progress bar for long work: on a terminal and in a notebook; silent everywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol

# Seconds between two updates of a bar in a notebook: each is a message to the browser.
_PAUSE = 0.2


class _Bar(Protocol):
    def expect(self, total: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def stop(self) -> None: ...


class Progress:
    """A bar over `total` items (None: not known yet), on standard error of a terminal or below a cell of a notebook.

    >>> with Progress("simulating", 10_000) as progress:
    ...     progress.advance(1000)
    """

    def __init__(self, label: str, total: int | None = None) -> None:
        self.label, self.total = label, total
        self._bar: _Bar | None = None

    def __enter__(self) -> Progress:
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = _TerminalBar(self.label, self.total)
        elif in_notebook():
            self._bar = _NotebookBar(self.label, self.total)
        return self

    def expect(self, total: int) -> None:
        """Say how many items there are, where that was not known at the beginning."""
        if self._bar is not None:
            self._bar.expect(total)

    def advance(self, count: int) -> None:
        """Move the bar forward by `count` items."""
        if self._bar is not None:
            self._bar.advance(count)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code; nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _TerminalBar:
    """Drawn by rich."""

    def __init__(self, label: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task(label, total=total)

    def expect(self, total: int) -> None:
        self._bar.update(self._task, total=total)

    def advance(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def stop(self) -> None:
        self._bar.stop()


class _NotebookBar:
    """The browser's own bar, through IPython's display: rich needs ipywidgets, and warns where they are missing."""

    def __init__(self, label: str, total: int | None) -> None:
        from IPython.display import HTML, display

        self._html, self.label, self.total, self.done = HTML, label, total, 0
        self._handle: Any = display(HTML(self._text()), display_id=True)
        self._shown = time.monotonic()

    def expect(self, total: int) -> None:
        self.total = total
        self._update()

    def advance(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self._shown >= _PAUSE:
            self._update()

    def stop(self) -> None:
        # What is left of it is an empty output.
        self._handle.update(self._html(""))

    def _update(self) -> None:
        self._handle.update(self._html(self._text()))
        self._shown = time.monotonic()

    def _text(self) -> str:
        # The label is one of ours.
        if self.total is None:
            return f"{self.label} <progress></progress> {self.done:,}"
        done = f"{self.done:,} of {self.total:,}"
        return f'{self.label} <progress value="{self.done}" max="{self.total}"></progress> {done}'
