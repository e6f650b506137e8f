"""Text for terminals, drawn with rich; imported only when something is printed."""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

_WIDTH = 110


def to_text(*items: Any) -> str:
    """Return what rich would print, as plain text (with colour codes only where standard output is a terminal)."""
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, force_terminal=sys.stdout.isatty(), highlight=False)
    for item in items:
        # A text stays one line, however long it is: a terminal folds it, and a file keeps it whole.
        console.print(item, soft_wrap=isinstance(item, Text))
    return stream.getvalue().rstrip("\n")


def percent(value: float | None) -> str:
    """Return a share as a percentage; a dash for None."""
    return "-" if value is None else f"{100 * value:.2f} %"


def count(value: float) -> str:
    """Return a whole number with commas between its thousands."""
    return f"{value:,.0f}"
