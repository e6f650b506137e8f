"""Arguments of commands, opened and checked: models, graphs and backends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from strop.cli.signals import takes_signals
from strop.errors import DataError
from strop.graph import Graph
from strop.graph.threads import thread_count

# Endings of files that hold a graph, and no Keras model.
GRAPH_FILES = (".strop", ".nir")


def open_model(path: Path, reading: dict[str, Any] | None = None) -> Any:
    """Return the Keras model or the graph at `path`; `reading` holds options of a graph format's reader."""
    from strop.errors import ModelFileError
    from strop.graph.readers import read_graph

    if not path.exists():
        raise ModelFileError(f"model {path} does not exist")
    graph = read_graph(path, **(reading or {}))
    if graph is not None:
        return graph
    from strop.cli.noise import import_keras_quietly, quiet_stderr
    from strop.reader import load_model

    import_keras_quietly()
    with quiet_stderr():
        return load_model(path)


def may_run_side_by_side() -> bool:
    """Tell whether simulators get processes of their own, unless the user says otherwise.

    Not where a script calls `strop.cli.main`: what it has done to a simulator, or registered, is in its own process.
    """
    return takes_signals() and thread_count() > 1


@contextmanager
def simulators_started(over: dict[str, Any], backends: list[str], wanted: bool | None) -> Iterator[dict[str, Any]]:
    """Start a process for each simulator: they import what they need while this one opens the model.

    Yields what `strop.verify` takes beside `over`.

    Parameters
    ----------
    over : dict
        See `strop.cli.options.worker_options`.
    backends : list of str
        Backends that will run.
    wanted : bool or None
        None: where there is more than one core, and no worker to take the frames.
    """
    from strop.running.side_by_side import SimulatorProcesses

    alone = over["workers"] is None and over["client"] is None
    if wanted and not alone:
        raise click.UsageError(
            "give either --processes, for the simulators, or --workers or --scheduler, for the frames"
        )
    if wanted or (wanted is None and alone and may_run_side_by_side()):
        with SimulatorProcesses(backends) as processes:
            yield {"processes": processes}
    else:
        yield {}


@contextmanager
def started(over: dict[str, Any], backends: list[str], keras: bool) -> Iterator[dict[str, Any]]:
    """Start the processes of `--workers` at once: they import what they need while this one opens the model.

    Yields what the functions take in the place of `over`.

    Parameters
    ----------
    over : dict
        See `strop.cli.options.worker_options`.
    backends : list of str
        Backends that will run.
    keras : bool
        Whether the workers will ask Keras.
    """
    if over["workers"] is None:
        yield over
        return
    from strop.running.cluster import local_workers
    from strop.running.registry import get_backend

    imports = ["strop.lowering.probe"] if keras else []
    # Where strop's own backends have what imports their simulator.
    imports += [f"{type(get_backend(name)).__module__}.run" for name in backends]
    with local_workers(over["workers"], imports) as client:
        yield {"workers": None, "client": client}


def graph_of(model: Any, encoding: str, planes: dict[str, Any], decision: str, frames: Any = None) -> Graph:
    """Return a saved graph, or the graph of a Keras model under these options."""
    check_planes(model, planes)
    if isinstance(model, Graph):
        check_decision(model, decision)
        return model
    from strop.lowering import lower

    return lower(model, encoding, decision=decision, frames=frames, **planes)


def explain_call(model: Path, data: Path, encoding: str, planes: dict[str, Any], decision: str) -> str:
    """Return the arguments with which `strop explain` sees what this command saw."""
    words = [str(model), "--data", str(data)]
    words += ["--encoding", encoding] if encoding != "host" else []
    for name, value in planes.items():
        text = ",".join(f"{own}={n}" for own, n in value.items()) if isinstance(value, dict) else str(value)
        words += [f"--{name}", text]
    words += ["--decision", decision] if decision != "host" else []
    return shlex.join(words)


def check_planes(model: Any, planes: dict[str, Any]) -> None:
    """Refuse `--bits`, `--step` and `--offset` for a saved graph, which states them itself."""
    if planes and isinstance(model, Graph):
        raise DataError(
            f"--{min(planes)}: the saved graph {model.name!r} carries its own encoding; leave it out, or give the model"
        )


def check_decision(model: Any, decision: str) -> None:
    """Refuse `--decision spikes` for a saved graph that decides in its read-out."""
    from strop.running.decode import decides

    if decision == "spikes" and isinstance(model, Graph) and decides(model):
        first = next(readout for readout in model.readouts if readout.name == model.outputs[0])
        if first.kind != "winner":
            raise DataError(
                f"--decision spikes: the saved graph {model.name!r} decides in its read-out {first.name!r}; lower the "
                "model itself, or save the graph of strop.lower(model, decision='spikes')"
            )


def chosen_backends(names: str | None) -> list[str]:
    """Return the backends named by the user, or all that can run here; unknown ones are refused before any work."""
    from strop.running.registry import get_backend, named_backends

    chosen = [str(name) for name in named_backends(names)]
    for name in chosen:
        get_backend(name)
    return chosen
