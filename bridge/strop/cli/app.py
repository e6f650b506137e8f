"""The commands themselves: each reads its input, calls the library, prints a table, and returns an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from strop.errors import DataError
from strop.graph import ENCODINGS, Graph

_PATH = click.Path(path_type=Path)
_Command = Callable[..., Any]


def _model(function: _Command) -> _Command:
    return click.argument("model", type=_PATH)(function)


def _data(function: _Command) -> _Command:
    return click.option("--data", type=_PATH, required=True, help=".npz with x (and y), or Keras's mnist.npz.")(
        function
    )


def _limit(function: _Command) -> _Command:
    return click.option("--limit", type=click.IntRange(min=1), help="Use only the first N frames.")(function)


def _encoding(function: _Command) -> _Command:
    text = "How frames enter; a saved graph carries its own."
    return click.option("--encoding", type=click.Choice(ENCODINGS), default="host", show_default=True, help=text)(
        function
    )


def _json(function: _Command) -> _Command:
    return click.option("--json", "json_file", type=_PATH, help="Write the result to this file as JSON.")(function)


def _report(function: _Command) -> _Command:
    return click.option("--report", "report_folder", type=_PATH, help="Write report.html to this folder.")(function)


def _show_version(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from strop import __version__

        click.echo(f"strop {__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Print it.")
def app() -> None:
    """Sharpened Keras networks on spiking simulators, every spike verified.

    MODEL is a .keras file, a legacy Whetstone .h5, a TensorFlow SavedModel folder, or a saved .strop graph.
    """


def open_model(path: Path) -> Any:
    """Return the Keras model or the saved graph at `path`."""
    from strop.errors import ModelFileError

    if not path.exists():
        raise ModelFileError(f"model {path} does not exist")
    if path.suffix == ".strop" or _is_saved_graph(path):
        return Graph.load(path)
    from strop.quiet import import_keras_quietly, quiet_stderr
    from strop.reader import load_model

    import_keras_quietly()
    with quiet_stderr():
        return load_model(path)


def _is_saved_graph(path: Path) -> bool:
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("format") in ("strop-graph", b"strop-graph")
    except OSError:
        return False


def _graph_of(model: Any, encoding: str) -> Graph:
    if isinstance(model, Graph):
        return model
    from strop.lowering import lower

    return lower(model, encoding)


def _write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        from strop.data import write_text

        write_text(path, json.dumps(content, indent=2) + "\n")


def _chosen_backends(names: str | None) -> list[str]:
    """Return the backends named by the user, or all that can run here; unknown ones are refused before any work."""
    from strop.backend import available_backends, get_backend, runnable

    if names is None:
        return [name for name in available_backends() if runnable(name)]
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if not chosen:
        raise DataError("--backends names no backend")
    for name in chosen:
        get_backend(name)
    return chosen


@app.command()
@_model
@_data
@click.option("--backends", help="Comma-separated; by default all that are installed.")
@_limit
@_encoding
@_json
@_report
def verify(
    model: Path,
    data: Path,
    backends: str | None,
    limit: int | None,
    encoding: str,
    json_file: Path | None,
    report_folder: Path | None,
) -> int:
    """Hold every spike of every layer against Keras, on every backend. Ends with 1 if there is a fault."""
    from strop.data import read_data
    from strop.verify import verify as run

    chosen = _chosen_backends(backends)
    frames, labels = read_data(data, limit)
    opened = open_model(model)
    report = run(opened, frames, labels, backends=chosen, encoding=encoding)
    report.model = str(model)
    _write_json(json_file, report.to_dict())
    if report_folder is not None:
        _write_report(report, report_folder)
    click.echo(str(report))
    return 0 if report.passed else 1


def _write_report(report: Any, folder: Path) -> None:
    from strop.page import write_page

    click.echo(f"report: {write_page(report, folder)}")


@app.command()
@_model
@_data
@click.option("--out", type=_PATH, required=True, help="Write classes, output and spikes to this .npz file.")
@click.option("--backend", default="brian2", show_default=True)
@_limit
@_encoding
def predict(model: Path, data: Path, out: Path, backend: str, limit: int | None, encoding: str) -> int:
    """Run frames through a backend and write what every population and the decoder said."""
    from strop.backend import get_backend
    from strop.data import read_data, write_npz
    from strop.simulate import simulate

    get_backend(backend)
    frames, labels = read_data(data, limit)
    result = simulate(_graph_of(open_model(model), encoding), frames, backend)
    arrays: dict[str, Any] = {f"spikes/{name}": values for name, values in result.spikes.items()}
    outputs = result.output if isinstance(result.output, list) else [result.output]
    for number, output in enumerate(outputs):
        arrays["output" if number == 0 else f"output_{number + 1}"] = output
    if result.classes is not None:
        arrays["classes"] = result.classes
    write_npz(out, **arrays)
    summary = f"{len(frames)} frames on {result.version}, written to {out}"
    if result.classes is not None and labels is not None:
        from strop.verify import as_labels

        correct = float((result.classes == as_labels(labels, len(frames))).mean())
        summary += f"; accuracy {100 * correct:.2f} %"
    click.echo(summary)
    return 0


@app.command()
@_model
@_json
@_encoding
@click.option("--target", help="Say what this backend makes of it.")
@click.option(
    "--data", type=_PATH, help="With --target spinnaker: what these frames load it with, and what would differ."
)
@_limit
def inspect(
    model: Path, json_file: Path | None, encoding: str, target: str | None, data: Path | None, limit: int | None
) -> int:
    """Show what a model becomes: populations, neurons, synapses, depth, memory; or what is refused, and why."""
    from strop.data import read_data
    from strop.inspection import inspect_graph

    if data is not None and target is None:
        raise DataError("--data needs a --target that maps the network, such as spinnaker")
    frames = None if data is None else read_data(data, limit)[0]
    inspection = inspect_graph(_graph_of(open_model(model), encoding), target, frames)
    inspection.model = str(model)
    _write_json(json_file, inspection.to_dict())
    click.echo(str(inspection))
    return 0


@app.command()
def backends() -> int:
    """Show the registered backends: versions, what each can do, and how to install the rest."""
    from strop.backend import backend_names, backend_status
    from strop.tables import render_backends

    click.echo(render_backends([backend_status(name) for name in backend_names()]))
    return 0


@app.command()
@_model
@click.option("--target", required=True, help="brian2, pynn, spinnaker, nengo or nir.")
@click.option("--out", type=_PATH, required=True, help="Folder to write; must not exist, or be empty.")
@click.option("--data", type=_PATH, help="Frames to take along, with the spikes expected.")
@_limit
@_encoding
def export(model: Path, target: str, out: Path, data: Path | None, limit: int | None, encoding: str) -> int:
    """Write a folder that runs where strop is not installed."""
    from strop.data import read_data
    from strop.takeaway import export as run

    frames, labels = (None, None) if data is None else read_data(data, limit)
    graph = _graph_of(open_model(model), encoding)
    click.echo(f"written: {run(graph, target, out, frames=frames, labels=labels)}")
    return 0


@app.command()
@click.argument("dataset", type=click.Choice(["digits", "mnist"]))
@click.option("--out", type=_PATH, required=True, help="Where to save the sharpened model (.keras).")
@click.option("--data", type=_PATH, help="mnist: Keras's mnist.npz; by default where Keras keeps it.")
@click.option(
    "--architecture", type=click.Choice(["mlp", "lenet"]), default="mlp", show_default=True, help="For mnist."
)
@click.option("--epochs", type=click.IntRange(min=1), help="By default as many as the recipe needs.")
@click.option("--seed", type=int, default=0, show_default=True)
def train(dataset: str, out: Path, data: Path | None, architecture: str, epochs: int | None, seed: int) -> int:
    """Train and sharpen a network with the Whetstone recipe, and save it."""
    from strop.cli.training import train_and_save

    return train_and_save(dataset, out, data, architecture, epochs, seed)


@app.command()
@_report
@click.option("--seed", type=int, default=0, show_default=True)
def demo(report_folder: Path | None, seed: int) -> int:
    """Train and sharpen on bundled digits, lower, and verify every spike on every installed backend."""
    from strop.cli.training import run_demo

    report = run_demo(seed, _chosen_backends(None))
    if report_folder is not None:
        _write_report(report, report_folder)
    return 0 if report.passed else 1
