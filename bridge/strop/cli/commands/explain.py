"""The command `strop explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import check_decision, check_planes, open_model
from strop.cli.options import (
    data_option,
    decision_option,
    encoding_options,
    json_option,
    model_argument,
    reading_options,
)
from strop.cli.results import write_json


@click.command()
@model_argument
@data_option
@click.option("--backend", default="brian2", show_default=True, help="A backend, or keras: the model and its graph.")
@click.option("--frame", type=click.IntRange(min=0), required=True, help="Number of the frame, from 0.")
@click.option("--layer", help="The layer whose neurons are shown; by default the first at fault.")
@encoding_options
@decision_option
@reading_options
@json_option
def explain(
    model: Path,
    data: Path,
    backend: str,
    frame: int,
    layer: str | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    json_file: Path | None,
) -> int:
    """Show one frame in full: every layer, the neurons at fault, their synapses, and why. Ends with 1 if there are."""
    from strop.cli.data_files import read_data
    from strop.running.registry import get_backend
    from strop.verification.explain import KERAS
    from strop.verification.explain import explain as run

    if backend != KERAS:
        get_backend(backend)
    frames, _ = read_data(data, None)
    opened = open_model(model, reading)
    check_planes(opened, planes)
    check_decision(opened, decision)
    found = run(opened, frames, backend, frame, layer, encoding=encoding, decision=decision, **planes)
    write_json(json_file, found.to_dict())
    click.echo(str(found))
    return 1 if found.faults else 0
