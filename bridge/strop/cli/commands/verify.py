"""The command `strop verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import (
    GRAPH_FILES,
    check_decision,
    check_planes,
    chosen_backends,
    explain_call,
    open_model,
    simulators_started,
    started,
)
from strop.cli.options import (
    data_option,
    decision_option,
    encoding_options,
    json_option,
    labels_option,
    limit_option,
    model_argument,
    reading_options,
    report_option,
    worker_options,
)
from strop.cli.results import write_json, write_report


@click.command()
@model_argument
@data_option
@click.option("--backends", help="Comma-separated; by default all that are installed.")
@labels_option
@limit_option
@encoding_options
@decision_option
@reading_options
@worker_options
@click.option(
    "--processes/--one-process",
    default=None,
    help="Run each simulator in a process of its own, side by side. [where there is more than one core]",
)
@click.option("--strict", is_flag=True, help="Fail on any tie, and where nothing was compared in some layer.")
@json_option
@report_option
def verify(
    model: Path,
    data: Path,
    backends: str | None,
    labels_file: Path | None,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    over: dict[str, Any],
    processes: bool | None,
    strict: bool,
    json_file: Path | None,
    report_folder: Path | None,
) -> int:
    """Compare every spike of every layer, and every output, with Keras, on every backend. Ends with 1 if it fails."""
    from strop.cli.data_files import read_data
    from strop.verification.verify import verify as run

    chosen = chosen_backends(backends)
    frames, labels = read_data(data, limit, labels_file)
    wanted = report_folder is not None
    options = {"encoding": encoding, "decision": decision, "evidence": wanted, "strict": strict, **planes}
    with (
        simulators_started(over, chosen, processes) as beside,
        started(over, chosen, keras=model.suffix not in GRAPH_FILES) as by,
    ):
        opened = open_model(model, reading)
        check_planes(opened, planes)
        check_decision(opened, decision)
        # Of all that are installed, those that cannot run this graph are left out, and the report says so.
        report = run(opened, frames, labels, backends=None if backends is None else chosen, **options, **by, **beside)
    report.model = str(model)
    report.call = explain_call(model, data, encoding, planes, decision)
    write_json(json_file, report.to_dict())
    if report_folder is not None:
        write_report(report, report_folder)
    click.echo(str(report))
    return 0 if report.passed else 1
