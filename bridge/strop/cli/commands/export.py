"""The command `strop export`."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import graph_of, open_model
from strop.cli.options import (
    PATH,
    copies_option,
    decision_option,
    encoding_options,
    labels_option,
    limit_option,
    model_argument,
    reading_options,
)


@click.command()
@model_argument
@click.option("--target", required=True, help="brian2, pynn, spinnaker, nengo, nir or keras.")
@click.option(
    "--out", type=PATH, required=True, help="Folder to write; must not exist, or be empty. keras: a .keras file."
)
@click.option("--data", type=PATH, help="Frames to include, with the expected spikes.")
@click.option("--no-quantize", is_flag=True, help="spinnaker: keep weights that are no whole numbers of its grid.")
@click.option("--profile", help="nir: for whom; threshold, lif, snntorch, norse or sinabs. [threshold]")
@click.option("--precision", type=click.Choice(["float64", "float32"]), help="nir: of the consumer. [of the profile]")
@click.option("--delays", type=click.Choice(["auto", "always", "never"]), help="nir: on every projection. [auto]")
@click.option("--dt", type=float, help="nir: length of a step. [of the profile]")
@click.option("--pools", type=click.Choice(["auto", "sum", "convolution"]), help="nir: how pools are written. [auto]")
@click.option("--round", "rounding", is_flag=True, help="nir: round weights to float32, and count what changes.")
@copies_option
@labels_option
@limit_option
@encoding_options
@decision_option
@partial(reading_options, dt="--read-dt")
def export(
    model: Path,
    target: str,
    out: Path,
    data: Path | None,
    no_quantize: bool,
    rounding: bool,
    copies: int | str | None,
    labels_file: Path | None,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    **options: Any,
) -> int:
    """Write a folder that runs where strop is not installed, or the graph as a Keras model."""
    from strop.cli.data_files import read_optional_data
    from strop.errors import DataError
    from strop.export.folders import export as run

    frames, labels = read_optional_data(data, limit, labels_file)
    if target == "keras":
        from strop.cli.noise import import_keras_quietly

        import_keras_quietly()
    graph = graph_of(open_model(model, reading), encoding, planes, decision, frames)
    given = {name: value for name, value in options.items() if value is not None}
    given |= {"rounding": True} if rounding else {}
    if given and target != "nir":
        raise DataError(
            f"--{'round' if 'rounding' in given else min(given)} is for --target nir alone, not for {target}"
        )
    if copies is not None:
        if target not in _TILED:
            raise DataError(f"--copies is for --target {' and '.join(_TILED)}, not for {target}")
        given["copies"] = copies
    folder = run(graph, target, out, frames=frames, labels=labels, quantize=not no_quantize, **given)
    click.echo(f"written: {folder}")
    if (folder / "run.py").is_file():
        click.echo(f"run it: python {shlex.quote(str(folder / 'run.py'))}{_ARGUMENT.get(target, '')}")
    return 0


# Targets whose scripts build several copies of a network.
_TILED = ("pynn", "spinnaker")
# What the script of a target must be told: the simulator.
_ARGUMENT = {"pynn": " nest   (or: brian2, spiNNaker)", "spinnaker": " spiNNaker   (or without a board: --virtual)"}
