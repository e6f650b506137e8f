"""The command `strop inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import check_decision, check_planes, open_model
from strop.cli.options import (
    PATH,
    decision_option,
    encoding_options,
    json_option,
    limit_option,
    model_argument,
    reading_options,
)
from strop.cli.results import write_json
from strop.errors import UnsupportedLayerError


@click.command()
@model_argument
@json_option
@encoding_options
@decision_option
@reading_options
@click.option("--target", help="Report how faithfully this backend runs each population.")
@click.option(
    "--data",
    type=PATH,
    help="Count the spikes and synaptic events of these frames, and estimate energies. With --target spinnaker also: "
    "the load that they cause, and the spikes that would differ.",
)
@limit_option
def inspect(
    model: Path,
    json_file: Path | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    target: str | None,
    data: Path | None,
    limit: int | None,
) -> int:
    """Show the graph and the costs of a model: populations, neurons, synapses, memory, operations; or the refusal."""
    from strop.cli.npz import read_data
    from strop.costs.inspection import inspect as run

    frames = None if data is None else read_data(data, limit)[0]
    try:
        opened = open_model(model, reading)
    except UnsupportedLayerError as error:
        for line in ("not carried:", *(f"  {line}" for line in error.refused)) if error.refused else ():
            click.echo(line)
        raise
    check_planes(opened, planes)
    check_decision(opened, decision)
    inspection = run(opened, frames, encoding=encoding, decision=decision, target=target, **planes)
    inspection.model = str(model)
    write_json(json_file, inspection.to_dict())
    click.echo(str(inspection))
    return 0
