"""`strop train` and `strop demo`: the recipes of `strop.keras.recipes`, with a progress bar and a file at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import may_run_side_by_side
from strop.cli.noise import import_keras_quietly, quiet_stderr
from strop.errors import DataError
from strop.running.progress import Progress


def epoch_bar(progress: Progress) -> Any:
    """Return a Keras callback that moves the bar by one each epoch."""
    import keras

    class Bar(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
        def on_train_begin(self, logs: Any = None) -> None:
            progress.expect(self.params["epochs"])

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            progress.advance(1)

    return Bar()


def _mnist(data: Path | None) -> tuple[Any, Any, Any, Any]:
    from strop.graph.files.archive import open_npz

    path = data or Path.home() / ".keras" / "datasets" / "mnist.npz"
    if not path.is_file():
        raise DataError(
            f"MNIST was not found at {path}: give the file with --data (Keras's mnist.npz), or put it where Keras looks"
        )
    try:
        with open_npz(path) as file:
            arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    except DataError as error:
        raise DataError(f"{path} is no MNIST file with x_train, y_train, x_test, y_test: {error}") from error
    x_train, y_train, x_test, y_test = arrays
    return x_train.astype("float32") / 255, y_train, x_test.astype("float32") / 255, y_test


def check_out(out: Path) -> None:
    """Refuse before any work what cannot be written as a model file."""
    if out.suffix != ".keras":
        raise DataError(f"--out must end in .keras, got {out}")
    from strop.graph.files.atomic import check_writable

    check_writable(out)


def save_model(model: Any, out: Path) -> None:
    """Save a model, whole or not at all."""
    from strop.graph.files.atomic import write_atomically
    from strop.keras.copies import copied

    with write_atomically(out) as temporary, quiet_stderr():
        # Not the state of the optimiser, which is two to three times as large as the network.
        network = copied(model)
        network.save(temporary)


def train_and_save(
    dataset: str,
    out: Path,
    data: Path | None,
    architecture: Any,
    epochs: int | None,
    seed: int,
    report_folder: Path | None = None,
    weight_bits: int | None = None,
) -> int:
    """Train, report the sharpened test accuracy, save whole or not at all."""
    check_out(out)
    arrays = _mnist(data) if dataset == "mnist" else ()
    import_keras_quietly()
    from strop.keras import recipes

    options: dict[str, Any] = {"weight_bits": weight_bits} | ({} if epochs is None else {"epochs": epochs})
    begin = time.perf_counter()
    with Progress(f"training on {dataset}") as progress:
        callbacks = [epoch_bar(progress)]
        if dataset == "digits":
            trained = recipes.train_digits(seed=seed, callbacks=callbacks, **options)
        else:
            trained = recipes.train_mnist(*arrays, architecture=architecture, seed=seed, callbacks=callbacks, **options)
    save_model(trained.model, out)
    if report_folder is not None:
        settings = {"data": dataset, "architecture": trained.model.name, "seed": seed, "saved as": out}
        settings |= {} if weight_bits is None else {"bits of a weight": weight_bits}
        click.echo(f"report: {_write_training(trained, dataset, settings, report_folder)}")
    click.echo(
        f"sharpened test accuracy {100 * trained.accuracy:.2f} % on {len(trained.x_test)} images after "
        f"{time.perf_counter() - begin:.0f} s; saved: {out}"
    )
    return 0


def _write_training(trained: Any, title: str, settings: dict[str, Any], folder: Path) -> Path:
    from strop.display import write_training_page
    from strop.keras import neuron_report

    optimizer = trained.model.optimizer
    settings |= {
        "optimizer": type(optimizer).__name__,
        "learning rate": f"{float(optimizer.learning_rate):g}",
        "parameters": f"{trained.model.count_params():,}",
    }
    neurons = neuron_report(trained.model, trained.x_test)
    return write_training_page(trained, folder, title=title, settings=settings, units=neurons)


def _verify_where_possible(trained: Any, backends: list[str], evidence: bool) -> Any:
    """Verify on all backends that can build the network here; print why the others cannot (no compiler, for
    example)."""
    from strop.errors import BackendError
    from strop.verification.verify import verify

    beside = may_run_side_by_side()
    x, y = trained.x_test, trained.y_test
    while True:
        try:
            return verify(trained.model, x, y, backends=backends, evidence=evidence, processes=beside)
        except BackendError as error:
            if error.backend is None or len(backends) == 1:
                raise
            click.echo(f"   ({error.backend} is left out: {error})")
            backends = [name for name in backends if name != error.backend]


def run_demo(seed: int, backends: list[str], evidence: bool = False) -> Any:
    """Train on the bundled digits, lower, verify on `backends`; print each step and return the report."""
    click.echo("1. Train a small convolutional network on scikit-learn's 8x8 digits, sharpening it to thresholds.")
    import_keras_quietly()
    from strop.keras import recipes

    begin = time.perf_counter()
    with Progress("training") as progress:
        trained = recipes.train_digits(seed=seed, callbacks=[epoch_bar(progress)])
    click.echo(
        f"   {time.perf_counter() - begin:.0f} s; every activation is 0 or 1 now; "
        f"accuracy on {len(trained.x_test)} unseen images: {100 * trained.accuracy:.2f} %"
    )
    from strop.lowering import lower

    graph = lower(trained.model)
    click.echo(
        f"2. Lower it: {len(graph.populations)} populations, {graph.neurons:,} integrate-and-fire neurons, "
        f"{graph.synapses:,} synapses."
    )
    click.echo(
        f"   The answer comes {graph.total_depth} time steps after the image, and a new image may enter at every step."
    )
    click.echo("3. Compare every spike of every layer with Keras, on every backend that is installed:")
    click.echo(f"   {', '.join(backends)}")
    if "brian2" in backends:
        click.echo("   (the first run of Brian2 compiles for half a minute; later runs find the code again)")
    click.echo("")
    report = _verify_where_possible(trained, backends, evidence)
    report.model = "digits"
    click.echo(str(report))
    return report
