"""The commands themselves: each reads its input, calls the library, prints a table, and returns an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from strop.errors import DataError
from strop.graph import ENCODINGS, Graph

_PATH = click.Path(path_type=Path)
_Command = Callable[..., Any]
# What is said of all inputs, or of each by its name.
PerInput = float | dict[str, float]


class _PerInput(click.ParamType):  # type: ignore[type-arg]  # generic for the type checker alone
    """A number for all inputs, or `NAME=NUMBER,NAME=NUMBER`; fractions as 1/16."""

    name = "number"

    def __init__(self, kind: type[int] | type[Fraction]) -> None:
        self.kind = kind

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> PerInput:
        try:
            if "=" not in str(value):
                return self._number(value)
            pairs = (part.rpartition("=") for part in str(value).split(","))
            return {name.strip(): self._number(number) for name, _, number in pairs}
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is neither a number nor NAME=NUMBER,NAME=NUMBER", parameter, context)

    def _number(self, text: Any) -> float:
        number = self.kind(text)
        return number if isinstance(number, int) else float(number)


def _model(function: _Command) -> _Command:
    return click.argument("model", type=_PATH)(function)


def _data(function: _Command) -> _Command:
    return click.option("--data", type=_PATH, required=True, help=".npz with x (and y), or Keras's mnist.npz.")(
        function
    )


def _limit(function: _Command) -> _Command:
    return click.option("--limit", type=click.IntRange(min=1), help="Use only the first N frames.")(function)


def _encoding(function: _Command) -> _Command:
    """Add --encoding, and --bits, --step and --offset, which reach the command as one dict, `planes`."""

    @wraps(function)
    def command(
        *args: Any, bits: PerInput | None, step: PerInput | None, offset: PerInput | None, **kwargs: Any
    ) -> Any:
        given = {"bits": bits, "step": step, "offset": offset}
        planes = {what: value for what, value in given.items() if value is not None}
        return function(*args, planes=planes, **kwargs)

    text = "How frames enter; a saved graph carries its own."
    wrapped: _Command = command
    for option in (
        click.option("--encoding", type=click.Choice(ENCODINGS), default="host", show_default=True, help=text),
        click.option("--bits", type=_PerInput(int), help="bitplane: planes of each value, or INPUT=N,INPUT=N. [8]"),
        click.option("--step", type=_PerInput(Fraction), help="bitplane: what frames are multiples of. [1/(2^bits-1)]"),
        click.option("--offset", type=_PerInput(Fraction), help="bitplane: the least value of a frame. [0]"),
    ):
        wrapped = option(wrapped)
    return wrapped


def _decision(function: _Command) -> _Command:
    text = "Where the winning class is found: by the read-out on the host, or by two more layers of spikes."
    return click.option(
        "--decision", type=click.Choice(["host", "spikes"]), default="host", show_default=True, help=text
    )(function)


def _json(function: _Command) -> _Command:
    return click.option("--json", "json_file", type=_PATH, help="Write the result to this file as JSON.")(function)


def _report(function: _Command, page: str = "report.html") -> _Command:
    text = f"Write {page} to this folder."
    return click.option("--report", "report_folder", type=_PATH, callback=_check_folder, help=text)(function)


def _check_folder(context: click.Context, option: click.Parameter, folder: Path | None) -> Path | None:
    """Refuse a file before any work is done, not after."""
    if folder is not None:
        from strop.display import check_folder

        check_folder(folder)
    return folder


def _show_version(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from strop import __version__

        click.echo(f"strop {__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Print it.")
def app() -> None:
    """Sharpened Keras networks on spiking simulators, every spike verified.

    MODEL is a .keras file, a legacy Whetstone .h5, a TensorFlow SavedModel folder, a saved .strop graph, or a .nir
    file.
    """


def open_model(path: Path) -> Any:
    """Return the Keras model or the graph at `path`."""
    from strop.errors import ModelFileError
    from strop.graph.formats import read_graph

    if not path.exists():
        raise ModelFileError(f"model {path} does not exist")
    graph = read_graph(path)
    if graph is not None:
        return graph
    from strop.cli.noise import import_keras_quietly, quiet_stderr
    from strop.reader import load_model

    import_keras_quietly()
    with quiet_stderr():
        return load_model(path)


def _graph_of(model: Any, encoding: str, planes: dict[str, Any], decision: str) -> Graph:
    _check_planes(model, planes)
    if isinstance(model, Graph):
        _check_decision(model, decision)
        return model
    from strop.lowering import lower

    return lower(model, encoding, decision=decision, **planes)


def _check_planes(model: Any, planes: dict[str, Any]) -> None:
    """Refuse to say of a saved graph what its frames hold: it knows."""
    if planes and isinstance(model, Graph):
        raise DataError(
            f"--{min(planes)}: the saved graph {model.name!r} carries its own encoding; leave it out, or give the model"
        )


def _check_decision(model: Any, decision: str) -> None:
    """Refuse a saved graph that leaves to its read-out what is to be decided by spikes."""
    from strop.running.decode import decides

    if decision == "spikes" and isinstance(model, Graph) and decides(model):
        first = next(readout for readout in model.readouts if readout.name == model.outputs[0])
        if first.kind != "winner":
            raise DataError(
                f"--decision spikes: the saved graph {model.name!r} decides in its read-out {first.name!r}; lower the "
                "model itself, or save the graph of strop.lower(model, decision='spikes')"
            )


def _write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        from strop.graph.files.atomic import write_text

        write_text(path, json.dumps(content, indent=2) + "\n")


def _chosen_backends(names: str | None) -> list[str]:
    """Return the backends named by the user, or all that can run here; unknown ones are refused before any work."""
    from strop.running.registry import get_backend, named_backends

    chosen = [str(name) for name in named_backends(names)]
    for name in chosen:
        get_backend(name)
    return chosen


@app.command()
@_model
@_data
@click.option("--backends", help="Comma-separated; by default all that are installed.")
@_limit
@_encoding
@_decision
@click.option("--strict", is_flag=True, help="Fail on any tie, and where nothing was compared in some layer.")
@_json
@_report
def verify(
    model: Path,
    data: Path,
    backends: str | None,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    strict: bool,
    json_file: Path | None,
    report_folder: Path | None,
) -> int:
    """Compare every spike of every layer, and every output, with Keras, on every backend. Ends with 1 if it fails."""
    from strop.cli.data import read_data
    from strop.verification.verify import verify as run

    chosen = _chosen_backends(backends)
    frames, labels = read_data(data, limit)
    opened = open_model(model)
    _check_planes(opened, planes)
    _check_decision(opened, decision)
    wanted = report_folder is not None
    options = {"encoding": encoding, "decision": decision, "evidence": wanted, "strict": strict, **planes}
    # Of all that are installed, those that cannot run this graph are left out, and the report says so.
    report = run(opened, frames, labels, backends=None if backends is None else chosen, **options)
    report.model = str(model)
    _write_json(json_file, report.to_dict())
    if report_folder is not None:
        _write_report(report, report_folder)
    click.echo(str(report))
    return 0 if report.passed else 1


def _write_report(report: Any, folder: Path) -> None:
    from strop.display import write_page

    click.echo(f"report: {write_page(report, folder)}")


@app.command()
@_model
@_data
@click.option("--out", type=_PATH, required=True, help="Write classes, output and spikes to this .npz file.")
@click.option("--backend", default="brian2", show_default=True)
@_limit
@_encoding
@_decision
def predict(
    model: Path,
    data: Path,
    out: Path,
    backend: str,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
) -> int:
    """Run frames through a backend and write what every population and the decoder said."""
    from strop.cli.data import read_data
    from strop.graph.files.atomic import write_npz
    from strop.running.registry import get_backend
    from strop.running.simulate import simulate

    get_backend(backend)
    frames, labels = read_data(data, limit)
    graph = _graph_of(open_model(model), encoding, planes, decision)
    result = simulate(graph, frames, backend)
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
    """Return the accuracy of every output that has labels, and what to say of the labels."""
    from strop.running.decode import classes
    from strop.running.labels import Scores, labels_by_output

    truths, notes = labels_by_output(graph, labels, count)
    scores = Scores(graph)
    scores.add("it", [classes(graph, spikes, name) for name in graph.outputs], truths)
    return [(name, found) for name, found in scores.accuracies("it").items() if found is not None], notes


@app.command()
@_model
@_json
@_encoding
@_decision
@click.option("--target", help="Say what this backend makes of it.")
@click.option(
    "--data",
    type=_PATH,
    help="Count the spikes and synaptic events of these frames, and estimate energies. With --target spinnaker also: "
    "what they load it with, and what would differ.",
)
@_limit
def inspect(
    model: Path,
    json_file: Path | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
    target: str | None,
    data: Path | None,
    limit: int | None,
) -> int:
    """Show what a model becomes and costs: populations, neurons, synapses, memory, operations; or what is refused."""
    from strop.cli.data import read_data
    from strop.costs.inspection import inspect as run

    frames = None if data is None else read_data(data, limit)[0]
    opened = open_model(model)
    _check_planes(opened, planes)
    _check_decision(opened, decision)
    inspection = run(opened, frames, encoding=encoding, decision=decision, target=target, **planes)
    inspection.model = str(model)
    _write_json(json_file, inspection.to_dict())
    click.echo(str(inspection))
    return 0


@app.command()
def backends() -> int:
    """Show the registered backends: versions, what each can do, and how to install the rest."""
    from strop.cli.backends_table import render_backends
    from strop.running.registry import backend_names, backend_status

    click.echo(render_backends([backend_status(name) for name in backend_names()]))
    return 0


@app.command()
@_model
@click.option("--target", required=True, help="brian2, pynn, spinnaker, nengo or nir.")
@click.option("--out", type=_PATH, required=True, help="Folder to write; must not exist, or be empty.")
@click.option("--data", type=_PATH, help="Frames to take along, with the spikes expected.")
@_limit
@_encoding
@_decision
def export(
    model: Path,
    target: str,
    out: Path,
    data: Path | None,
    limit: int | None,
    encoding: str,
    planes: dict[str, Any],
    decision: str,
) -> int:
    """Write a folder that runs where strop is not installed."""
    from strop.cli.data import read_data
    from strop.export.folders import export as run

    frames, labels = (None, None) if data is None else read_data(data, limit)
    graph = _graph_of(open_model(model), encoding, planes, decision)
    click.echo(f"written: {run(graph, target, out, frames=frames, labels=labels)}")
    return 0


@app.command()
@click.argument("dataset", type=click.Choice(["digits", "mnist"]))
@click.option("--out", type=_PATH, required=True, help="Where to save the sharpened model (.keras).")
@click.option("--data", type=_PATH, help="mnist: Keras's mnist.npz; by default where Keras keeps it.")
@click.option(
    "--architecture",
    type=click.Choice(["mlp", "lenet", "convnet"]),
    default="mlp",
    show_default=True,
    help="For mnist.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="By default as many as the recipe needs.")
@click.option("--seed", type=int, default=0, show_default=True)
@partial(_report, page="training.html")
def train(
    dataset: str,
    out: Path,
    data: Path | None,
    architecture: str,
    epochs: int | None,
    seed: int,
    report_folder: Path | None,
) -> int:
    """Train and sharpen a network with the Whetstone recipe, and save it."""
    from strop.cli.training import train_and_save

    return train_and_save(dataset, out, data, architecture, epochs, seed, report_folder)


@app.command()
@_report
@click.option("--seed", type=int, default=0, show_default=True)
def demo(report_folder: Path | None, seed: int) -> int:
    """Train and sharpen on bundled digits, lower, and verify every spike on every installed backend."""
    from strop.cli.training import run_demo

    report = run_demo(seed, _chosen_backends(None), evidence=report_folder is not None)
    if report_folder is not None:
        _write_report(report, report_folder)
    return 0 if report.passed else 1
