"""The command group `strop`, with all commands of `strop.cli.commands`."""

from __future__ import annotations

import click

from strop.cli.commands.backends import backends
from strop.cli.commands.explain import explain
from strop.cli.commands.export import export
from strop.cli.commands.inspect import inspect
from strop.cli.commands.predict import predict
from strop.cli.commands.quantize import certify, quantize
from strop.cli.commands.sharpen import sharpen
from strop.cli.commands.train import demo, train
from strop.cli.commands.verify import verify


def _show_version(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from strop import __version__

        click.echo(f"strop {__version__}")
        context.exit()


def _show_all(context: click.Context, option: click.Parameter, value: bool) -> None:
    from strop.cli import noise

    noise.shown = value


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Print it.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_show_all,
    help="Show what Keras, TensorFlow and the simulators print on their own account.",
)
def app() -> None:
    """Sharpened Keras networks on spiking simulators, every spike verified.

    MODEL is a .keras file, a legacy Whetstone .h5, a TensorFlow SavedModel folder, a saved .strop graph, or a .nir
    file.
    """


for _command in (backends, certify, demo, explain, export, inspect, predict, quantize, sharpen, train, verify):
    app.add_command(_command)
