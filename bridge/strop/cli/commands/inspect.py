"""The command `strop inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import check_decision, check_planes, open_model
from strop.cli.options import (
    PATH,
    copies_option,
    decision_option,
    encoding_options,
    json_option,
    limit_option,
    model_argument,
    reading_options,
    worker_options,
)
from strop.cli.results import write_json
from strop.errors import BackendMissingError, DataError, UnsupportedLayerError


@click.command()
@model_argument
@json_option
@encoding_options
@decision_option
@reading_options
@click.option(
    "--graph",
    "picture",
    type=PATH,
    help="Draw populations, depth and skip connections to a .svg, .png or .pdf file (needs the extra plot).",
)
@click.option("--target", help="Report how faithfully this backend runs each population.")
@copies_option
@click.option(
    "--data",
    type=PATH,
    help="Count the spikes and synaptic events of these frames, and estimate energies. With --target spinnaker also: "
    "the load that they cause, and the spikes that would differ.",
)
@limit_option
@worker_options
@click.option("--nirviz", "drawing", type=PATH, help="MODEL is a .nir file: have nirviz draw it to this .svg or .png.")
def inspect(
    model: Path,
    json_file: Path | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    picture: Path | None,
    target: str | None,
    copies: int | str | None,
    data: Path | None,
    limit: int | None,
    over: dict[str, Any],
    drawing: Path | None,
) -> int:
    """Show the graph and the costs of a model: populations, neurons, synapses, memory, operations; or the refusal."""
    from strop.cli.data_files import read_data
    from strop.costs.inspection import inspect as run
    from strop.graph import Graph

    if data is None and any(value is not None for value in over.values()):
        raise DataError("--workers and --scheduler are for the frames of --data, and there are none")
    frames = None if data is None else read_data(data, limit)[0]
    if drawing is not None:
        _draw(model, drawing)
    try:
        opened = open_model(model, reading)
    except UnsupportedLayerError as error:
        for line in ("not carried:", *(f"  {line}" for line in error.refused)) if error.refused else ():
            click.echo(line)
        raise
    check_planes(opened, planes)
    check_decision(opened, decision)
    inspection = run(
        opened, frames, encoding=encoding, decision=decision, target=target, copies=copies, **planes, **over
    )
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


def _draw(model: Path, drawing: Path) -> None:
    """Have nirviz draw a NIR file, whether strop can carry it or not."""
    if model.suffix.lower() != ".nir":
        raise DataError(f"--nirviz {drawing}: nirviz draws .nir files alone, not {model}")
    try:
        import nirviz
    except ImportError as error:
        raise BackendMissingError(
            f"--nirviz {drawing} needs nirviz ({error}). Install it with: pip install nirviz; and Graphviz"
        ) from error
    try:
        # Its default orientation is missing in its own style file (nirviz 0.1.5).
        nirviz.visualize(str(model), orientation="horizontal").save(drawing)
    except Exception as error:
        # What it raises comes from nir, Graphviz or Pillow.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"--nirviz {drawing}: nirviz cannot draw {model}: {reason}") from error
