"""The command `strop inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import check_decision, check_planes, open_model
from strop.cli.options import PATH, decision_option, encoding_options, json_option, limit_option, model_argument
from strop.cli.results import write_json


@click.command()
@model_argument
@json_option
@encoding_options
@decision_option
@click.option(
    "--graph",
    "picture",
    type=PATH,
    help="Draw populations, depth and skip connections to a .svg, .png or .pdf file (needs the extra plot).",
)
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
    picture: Path | None,
    target: str | None,
    data: Path | None,
    limit: int | None,
) -> int:
    """Show the graph and the costs of a model: populations, neurons, synapses, memory, operations; or the refusal."""
    from strop.cli.npz import read_data
    from strop.costs.inspection import inspect as run
    from strop.graph import Graph

    frames = None if data is None else read_data(data, limit)[0]
    opened = open_model(model)
    check_planes(opened, planes)
    check_decision(opened, decision)
    inspection = run(opened, frames, encoding=encoding, decision=decision, target=target, **planes)
    inspection.model = str(model)
    if picture is not None:
        graph = opened
        if not isinstance(opened, Graph):
            from strop.lowering import lower

            graph = lower(opened, encoding, decision=decision, **planes)
        graph.plot(picture)
    write_json(json_file, inspection.to_dict())
    click.echo(str(inspection))
    return 0
