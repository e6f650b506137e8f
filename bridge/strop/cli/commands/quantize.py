"""The commands `strop quantize` and `strop certify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import graph_of, open_model
from strop.cli.options import (
    PATH,
    decision_option,
    encoding_options,
    json_option,
    labels_option,
    limit_option,
    model_argument,
    reading_options,
)
from strop.cli.results import write_json

_TARGET = "float64, float32, spinnaker, neuron, loihi, truenorth, int8 (or another intN), or a backend."


@click.command()
@model_argument
@click.option("--target", required=True, help=_TARGET)
@click.option("--weight-bits", type=int, help="Fewer bits for a weight than the target has, its sign counted.")
@click.option("--data", type=PATH, help="Frames on which thresholds are placed, and changed spikes counted.")
@labels_option
@limit_option
@click.option("--out", type=PATH, required=True, help="What to write: a graph (.strop), or a Keras model (.keras).")
@encoding_options
@decision_option
@reading_options
@json_option
def quantize(
    model: Path,
    target: str,
    weight_bits: int | None,
    data: Path | None,
    labels_file: Path | None,
    limit: int | None,
    out: Path,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    json_file: Path | None,
) -> int:
    """Write a graph in whole numbers that fits the target's arithmetic, whatever its input, or its Keras model."""
    from strop.cli.data_files import read_optional_data
    from strop.errors import DataError
    from strop.graph.files.atomic import check_writable
    from strop.quantization.quantize import quantize_report
    from strop.quantization.table import render_quantization

    if out.suffix not in (".strop", ".keras"):
        raise DataError(f"--out {out}: a quantised graph is written as a .strop file, or as a Keras model, .keras")
    check_writable(out)
    frames, labels = read_optional_data(data, limit, labels_file)
    graph = graph_of(open_model(model, reading), encoding, planes, decision, frames)
    result = quantize_report(graph, target, weight_bits, frames, labels)
    if out.suffix == ".keras":
        from strop.cli.noise import import_keras_quietly
        from strop.export.keras_model import write_keras

        import_keras_quietly()
        write_keras(result.graph, out)
    else:
        result.graph.save(out)
    write_json(json_file, {"model": str(model), **result.to_dict()})
    click.echo(render_quantization(result))
    click.echo(f"written: {out}")
    return 0


@click.command()
@model_argument
@click.option("--target", required=True, help=_TARGET)
@encoding_options
@decision_option
@reading_options
@json_option
def certify(
    model: Path,
    target: str,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    reading: dict[str, Any],
    json_file: Path | None,
) -> int:
    """Prove that spikes are equal for all inputs in the target's arithmetic. Ends with 1 where that is not proved."""
    from strop.quantization.certify import certify as run

    certificate = run(graph_of(open_model(model, reading), encoding, planes, decision), target)
    write_json(json_file, certificate.to_dict())
    click.echo(str(certificate))
    return 0 if certificate.holds else 1
