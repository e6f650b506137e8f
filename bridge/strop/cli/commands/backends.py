"""The command `strop backends`."""

from __future__ import annotations

import click


@click.command()
def backends() -> int:
    """Show the registered backends: versions, what each can do, and how to install the rest."""
    from strop.cli.backends_table import render_backends
    from strop.running.registry import backend_names, backend_status

    click.echo(render_backends([backend_status(name) for name in backend_names()]))
    return 0
