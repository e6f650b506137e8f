"""The commands `strop train` and `strop demo`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from strop.cli.arguments import chosen_backends
from strop.cli.options import PATH, report_option
from strop.cli.results import write_report


@click.command()
@click.argument("dataset", type=click.Choice(["digits", "mnist"]))
@click.option("--out", type=PATH, required=True, help="Where to save the sharpened model (.keras).")
@click.option("--data", type=PATH, help="mnist: Keras's mnist.npz; by default where Keras keeps it.")
@click.option(
    "--architecture",
    type=click.Choice(["mlp", "lenet", "convnet"]),
    default="mlp",
    show_default=True,
    help="For mnist.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="By default as many as the recipe needs.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--weight-bits", type=int, help="Train weights of so few bits, the sign counted (1 to 8; 1: signs). Else float32."
)
@partial(report_option, page="training.html")
def train(
    dataset: str,
    out: Path,
    data: Path | None,
    architecture: str,
    epochs: int | None,
    seed: int,
    weight_bits: int | None,
    report_folder: Path | None,
) -> int:
    """Train and sharpen a network with the Whetstone recipe, and save it."""
    from strop.cli.recipe_runs import train_and_save

    return train_and_save(dataset, out, data, architecture, epochs, seed, report_folder, weight_bits)


@click.command()
@report_option
@click.option("--seed", type=int, default=0, show_default=True)
def demo(report_folder: Path | None, seed: int) -> int:
    """Train and sharpen on bundled digits, lower, and verify every spike on every installed backend."""
    from strop.cli.recipe_runs import run_demo

    report = run_demo(seed, chosen_backends(None), evidence=report_folder is not None)
    if report_folder is not None:
        write_report(report, report_folder)
    return 0 if report.passed else 1
