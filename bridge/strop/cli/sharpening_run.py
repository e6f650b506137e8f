"""`strop sharpen`: from a user's model and data to a sharpened model, verified; goes on where it was interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from strop.cli.arguments import open_model
from strop.cli.data_files import Data, read_training_data
from strop.cli.recipe_runs import check_out, epoch_bar, save_model
from strop.cli.results import write_report
from strop.errors import DataError, UnsupportedLayerError
from strop.graph import Graph
from strop.running.frames import as_array
from strop.running.progress import Progress

# Frames of the test that are verified, and that dead neurons are counted on.
_VERIFIED = 1000
_REPORTED = 2048
_RUN = "run.json"


@dataclass(frozen=True)
class Options:
    """What the training depends on, beside model and data."""

    epochs: int | None
    seed: int
    head: str
    loss: str | None
    weight_bits: int | None
    limit: int | None


def sharpen_and_save(
    path: Path, data: Path, out: Path, options: Options, report_folder: Path | None, labels_file: Path | None = None
) -> int:
    """Convert, fine-tune, sharpen, save, verify; print what the network is worth at each step.

    Returns
    -------
    int
        The exit code: 1 if the verification failed.
    """
    check_out(out)
    if out.exists() and path.exists() and out.samefile(path):
        raise DataError(f"--out {out} is the model itself: give another name, so that it is kept")
    frames, labels, test = read_training_data(data, options.limit, labels_file)
    model = open_model(path)
    if isinstance(model, Graph):
        raise UnsupportedLayerError(f"{path} is a graph, whose activations are thresholds already: give a Keras model")
    folder = out.with_name(f"{out.name}.training")
    resumed = _claim(folder, path, [data, *([] if labels_file is None else [labels_file])], options)
    click.echo(f"{'resuming' if resumed else 'converting'} {path.name}; interrupted, the same command goes on")
    try:
        result = _sharpened(model, (frames, labels, test), folder, options)
    except KeyboardInterrupt:
        if (folder / "state.json").is_file():
            click.echo(f"the training so far is in {folder}: the same command goes on from there", err=True)
        raise
    finally:
        if not (folder / "state.json").is_file():  # nothing was trained yet
            shutil.rmtree(folder, ignore_errors=True)
    save_model(result.model, out)
    shutil.rmtree(folder, ignore_errors=True)
    _say(result, out)
    return _verified(result, out, path, options, report_folder)


def _sharpened(model: Any, data: tuple[Data, Data | None, Any], folder: Path, options: Options) -> Any:
    from strop.keras.recipes.own_network import sharpen
    from strop.lowering import lower

    frames, labels, test = data
    _build(model, frames)
    x = _frames(model, frames)
    given = None if test is None else (_frames(model, test[0]), _one(test[1]))
    with Progress("sharpening") as progress:
        return sharpen(
            model,
            x,
            _one(labels),
            test=given,
            head="nhot" if options.head == "nhot" else "linear",
            loss=options.loss,
            epochs=options.epochs,
            seed=options.seed,
            checkpoint=folder,
            weight_bits=options.weight_bits,
            check=lower,
            callbacks=[epoch_bar(progress)],
        )


# Data -----------------------------------------------------------------------------------------------------------------


def _build(model: Any, frames: Data) -> None:
    from strop.keras.conversion.convert import build

    if not isinstance(frames, dict):
        build(model, frames)


def _frames(model: Any, frames: Data) -> list[Any]:
    """Return the frames of each input as `strop verify` would show them to Keras."""
    from strop.graph import Input
    from strop.lowering.scaling import whole_numbers
    from strop.running.encode import frames_of_input
    from strop.running.frames import by_name

    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    given = frames if isinstance(frames, dict) else {names[0]: frames}
    fields = whole_numbers(model, "host", {name: {} for name in names})
    arrays = []
    for name, tensor, array in zip(names, model.inputs, by_name(names, given, "frames", "inputs"), strict=True):
        if array is None:
            raise DataError(f"frames must be given for the inputs {', '.join(names)}; got {', '.join(given)}")
        shape = tuple(tensor.shape[1:])
        if any(extent is None for extent in shape):
            raise UnsupportedLayerError(
                f"input {name!r} has the shape {shape}, with extents left open: rebuild the model with a fixed input "
                "shape"
            )
        own = as_array(array, f"frames for input {name!r}")
        ready = frames_of_input(Input(name, shape, "host", **fields[name]), own)
        arrays.append(ready.astype(tensor.dtype) if "int" in tensor.dtype else ready)
    return arrays


def _one(labels: Data | None) -> Any:
    if isinstance(labels, dict):
        if len(labels) != 1:
            raise DataError(f"labels are given for {', '.join(labels)}: give those of one output, as 'y'")
        labels = next(iter(labels.values()))
    return None if labels is None else as_array(labels, "labels")


# Resuming -------------------------------------------------------------------------------------------------------------


def _claim(folder: Path, model: Path, data: list[Path], options: Options) -> bool:
    """Make the folder of the training, or recognise it as the one of this very run; return whether it was there.

    Raises
    ------
    DataError
        If it holds another training.
    """
    from strop import __version__
    from strop.graph.files.atomic import write_text

    given = {"model": _digest(model), "data": " ".join(map(_digest, data))}
    run = {"strop": __version__, **given, **dataclasses.asdict(options)}
    record = folder / _RUN
    if folder.exists():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise DataError(f"{folder} is in the way, and holds no training of strop: move it away") from None
        if not isinstance(found, dict) or found != run:
            different = sorted(key for key in run if not isinstance(found, dict) or found.get(key) != run[key])
            raise DataError(
                f"{folder} holds an interrupted training with another {' and '.join(different)}: delete it to start "
                "again, or give another --out"
            )
        return (folder / "state.json").is_file()
    folder.mkdir()
    write_text(record, json.dumps(run, indent=1) + "\n")
    return False


def _digest(path: Path) -> str:
    """Return a hash of a file, or of the files in a folder."""
    digest = hashlib.sha256()
    for part in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if part.is_file():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


# Results --------------------------------------------------------------------------------------------------------------


def _say(result: Any, out: Path) -> None:
    figures, name = result.figures, result.task.figure
    decides = result.task.decides
    shown = {step: f"{100 * value:.2f} %" if decides else f"{value:.5g}" for step, value in figures.items()}
    change = figures["sharpened"] - figures["before"]
    difference = f"{100 * change:+.2f} points" if decides else f"{change:+.5g}"
    click.echo(f"{name} on {len(result.y_test)} frames that were held out")
    click.echo(f"  before               {shown['before']}")
    click.echo(f"  activations swapped  {shown['swapped']}")
    click.echo(f"  sharpened            {shown['sharpened']}  ({difference})")
    epochs = len(next(iter(result.history.values()), []))
    click.echo(f"{epochs} epochs, {result.seconds:.0f} s of training; saved: {out}")


def _verified(result: Any, out: Path, path: Path, options: Options, report_folder: Path | None) -> int:
    from strop.verification.verify import verify

    x, y = [array[:_VERIFIED] for array in result.x_test], result.y_test[:_VERIFIED]
    labels = y if result.task.loss == "crossentropy" and y.ndim == 1 else None
    frames = x if len(x) > 1 else x[0]
    report = verify(result.model, frames, labels, backends=["reference"], evidence=report_folder is not None)
    report.model = str(out)
    if report_folder is not None:
        _write_training(result, out, path, options, report_folder)
        write_report(report, report_folder)
    click.echo("")
    click.echo(str(report))
    return 0 if report.passed else 1


def _write_training(result: Any, out: Path, path: Path, options: Options, folder: Path) -> None:
    from strop.display import write_training_page
    from strop.keras import neuron_report

    settings = {"model": path, **dataclasses.asdict(options), "saved as": out}
    settings = {name.replace("_", " "): value for name, value in settings.items() if value is not None}
    settings |= {f"{result.task.figure}, {step}": f"{value:.5g}" for step, value in result.figures.items()}
    x = [array[:_REPORTED] for array in result.x_test]
    page = write_training_page(
        result.history,
        folder,
        title=path.name,
        accuracy=result.figures["sharpened"] if result.task.decides else None,
        settings=settings,
        units=neuron_report(result.model, x if len(x) > 1 else x[0]),
    )
    click.echo(f"report: {page}")
