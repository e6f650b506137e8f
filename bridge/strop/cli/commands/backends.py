"""The command `strop backends`."""

from __future__ import annotations

import click


@click.command()
def backends() -> int:
    """Show the registered backends: versions, what each can do, and how to install the rest; and what Keras runs on."""
    from strop.cli.backends_table import render_backends
    from strop.cli.noise import import_keras_quietly
    from strop.errors import BackendMissingError
    from strop.running.registry import backend_names, backend_status

    click.echo(render_backends([backend_status(name) for name in backend_names()]))
    try:
        import_keras_quietly()
    except BackendMissingError as error:
        click.echo(f"No Keras: {error}")
    else:
        from strop.keras.framework import describe_framework

        click.echo(f"{describe_framework()}; another: set KERAS_BACKEND to tensorflow, jax or torch")
    return 0
