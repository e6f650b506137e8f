"""The command `strop sharpen`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from strop.cli.options import PATH, labels_option, limit_option, report_option


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="What to train with: as --data of strop verify; of mnist.npz, its training part.",
)
@click.option("--out", type=PATH, required=True, help="Where to save the sharpened model (.keras).")
@click.option("--epochs", type=click.IntRange(min=1), help="The most that are trained; by default what it takes.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--head",
    type=click.Choice(["linear", "nhot"]),
    default="linear",
    show_default=True,
    help="Keep the last dense layer as a read-out, or put an n-hot code of spikes in its place.",
)
@click.option(
    "--loss",
    type=click.Choice(["crossentropy", "binary_crossentropy", "mse", "mae"]),
    help="By default what labels and the model's last activation call for. Without y, frames are their own targets.",
)
@click.option("--weight-bits", type=click.IntRange(1, 8), help="Train weights of so few bits, the sign counted.")
@labels_option
@limit_option
@partial(report_option, page="training.html and report.html")
def sharpen(
    model: Path,
    data: Path,
    out: Path,
    epochs: int | None,
    seed: int,
    head: str,
    loss: str | None,
    weight_bits: int | None,
    labels_file: Path | None,
    limit: int | None,
    report_folder: Path | None,
) -> int:
    """Make thresholds of an ordinary network's activations: convert, fine-tune, sharpen, save, verify.

    MODEL is a trained Keras model with ReLU, sigmoid or tanh. An interrupted run goes on when it is started again.
    """
    from strop.cli.sharpening_run import Options, sharpen_and_save

    options = Options(epochs, seed, head, loss, weight_bits, limit)
    return sharpen_and_save(model, data, out, options, report_folder, labels_file)
