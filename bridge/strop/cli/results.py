"""Results of commands as files: JSON, and HTML reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def write_json(path: Path | None, content: Any) -> None:
    """Write `content` as JSON; nothing where `path` is None."""
    if path is not None:
        from strop.graph.files.atomic import write_text

        write_text(path, json.dumps(content, indent=2) + "\n")


def write_report(report: Any, folder: Path) -> None:
    """Write the HTML page of a verification report to `folder`, and print its path."""
    from strop.display import write_page

    click.echo(f"report: {write_page(report, folder)}")
