"""The command `strop export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import graph_of, open_model
from strop.cli.options import PATH, decision_option, encoding_options, limit_option, model_argument


@click.command()
@model_argument
@click.option("--target", required=True, help="brian2, pynn, spinnaker, nengo or nir.")
@click.option("--out", type=PATH, required=True, help="Folder to write; must not exist, or be empty.")
@click.option("--data", type=PATH, help="Frames to include, with the expected spikes.")
@click.option("--no-quantize", is_flag=True, help="spinnaker: keep weights that are no whole numbers of its grid.")
@limit_option
@encoding_options
@decision_option
def export(
    model: Path,
    target: str,
    out: Path,
    data: Path | None,
    no_quantize: bool,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
) -> int:
    """Write a folder that runs where strop is not installed."""
    from strop.cli.npz import read_data
    from strop.export.folders import export as run

    frames, labels = (None, None) if data is None else read_data(data, limit)
    graph = graph_of(open_model(model), encoding, planes, decision, frames)
    folder = run(graph, target, out, frames=frames, labels=labels, quantize=not no_quantize)
    click.echo(f"written: {folder}")
    if (folder / "run.py").is_file():
        click.echo(f"run it: python {shlex.quote(str(folder / 'run.py'))}{_ARGUMENT.get(target, '')}")
    return 0


# What the script of a target must be told: the simulator.
_ARGUMENT = {"pynn": " nest   (or: brian2, spiNNaker)", "spinnaker": " spiNNaker   (or without a board: --virtual)"}
