"""The table that `strop backends` prints."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from strop.running.registry import BackendStatus
from strop.running.terminal import to_text


def render_backends(statuses: list[BackendStatus]) -> str:
    """Return the registered backends as a table."""
    table = Table(title="backends", title_justify="left")
    for heading in ("name", "version", "encodings", "what it is, or what is missing"):
        table.add_column(heading)
    for status in statuses:
        version = status.version if status.available else "[yellow]not installed[/yellow]"
        # Advice such as pip install 'strop[nengo]' must not be read as markup.
        said = status.problem or f"{status.summary}; {status.fidelity}"
        table.add_row(status.name, version, ", ".join(status.encodings), escape(said))
    return to_text(table)
