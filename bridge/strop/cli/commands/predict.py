"""The command `strop predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import graph_of, open_model, started
from strop.cli.options import (
    PATH,
    data_option,
    decision_option,
    encoding_options,
    labels_option,
    limit_option,
    model_argument,
    reading_options,
    worker_options,
)
from strop.graph import Graph


@click.command()
@model_argument
@data_option
@click.option("--out", type=PATH, required=True, help="Write classes, output and spikes to this .npz file.")
@click.option("--backend", default="brian2", show_default=True)
@labels_option
@limit_option
@encoding_options
@decision_option
@reading_options
@worker_options
def predict(
    model: Path,
    data: Path,
    out: Path,
    backend: str,
    labels_file: Path | None,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    over: dict[str, Any],
) -> int:
    """Run frames through a backend and write the spikes of every population and the decoded outputs."""
    from strop.cli.data_files import read_data
    from strop.graph.files.atomic import check_writable, write_npz
    from strop.running.registry import get_backend
    from strop.running.simulate import simulate

    check_writable(out)
    get_backend(backend)
    frames, labels = read_data(data, limit, labels_file)
    with started(over, [backend], keras=False) as by:
        graph = graph_of(open_model(model, reading), encoding, planes, decision, frames)
        result = simulate(graph, frames, backend, **by)
    arrays: dict[str, Any] = {f"spikes/{name}": values for name, values in result.spikes.items()}
    outputs = result.output if isinstance(result.output, list) else [result.output]
    for number, output in enumerate(outputs):
        arrays["output" if number == 0 else f"output_{number + 1}"] = output
    if result.classes is not None:
        arrays["classes"] = result.classes
    write_npz(out, **arrays)
    count = len(next(iter(result.spikes.values())))
    accuracies, notes = _accuracies(graph, result.spikes, labels, count)
    for note in (*result.notes, *notes):
        click.echo(note)
    said = [
        f"{'accuracy' if len(graph.outputs) == 1 else f'accuracy of {name}'} {100 * a:.2f} %" for name, a in accuracies
    ]
    click.echo("; ".join([f"{count} frames on {result.version}, written to {out}", *said]))
    return 0


def _accuracies(graph: Graph, spikes: Any, labels: Any, count: int) -> tuple[list[tuple[str, float]], list[str]]:
    """Return the accuracy of every output that has labels, and notes on the labels."""
    from strop.running.decode import classes
    from strop.running.label_source import LabelSource
    from strop.running.labels import Scores

    source, scores = LabelSource(graph, labels, count, None), Scores(graph)
    scores.add("it", [classes(graph, spikes, name) for name in graph.outputs], source.part(0, count))
    found = [(name, accuracy) for name, accuracy in scores.accuracies("it").items() if accuracy is not None]
    return found, source.notes
