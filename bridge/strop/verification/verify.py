"""`strop.verify`: every spike of every layer and every output compared with Keras, every simulator with the oracle.

This module prepares the user's arguments; the comparison itself is in `strop.verification.session` (DESIGN section 4).
Frames are worked through in chunks, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from strop.errors import BackendError, StropError, did_you_mean
from strop.graph import Graph
from strop.running.backend import Backend
from strop.running.cluster import run_job
from strop.running.decode import classes_of
from strop.running.encode import Frames
from strop.running.frame_source import frame_source
from strop.running.labels import as_labels as as_labels  # moved; importable from here as before
from strop.running.model_argument import ModelOrGraph, keys_of, model_or_graph
from strop.running.progress import Progress
from strop.running.registry import get_backend, named_backends
from strop.running.side_by_side import SimulatorProcesses
from strop.running.simulate import chunk_size
from strop.verification.job import VerificationJob
from strop.verification.report import Report
from strop.verification.totals import Totals

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe


def verify(
    model: ModelOrGraph,
    frames: Frames,
    labels: Any = None,
    backends: str | Backend | Iterable[str | Backend] | None = ("brian2",),
    *,
    encoding: str = "host",
    decision: str = "host",
    bits: int | Mapping[str, int] | None = None,
    step: float | Mapping[str, float] | None = None,
    offset: float | Mapping[str, float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    evidence: bool = False,
    strict: bool = False,
    workers: int | None = None,
    client: Any = None,
    processes: bool | SimulatorProcesses = False,
) -> Report:
    """Compare every spike of every layer between Keras, the oracle and simulators.

    >>> report = strop.verify(model, frames, labels, backends=("reference", "brian2"))
    >>> report.passed
    True
    >>> print(report)

    Parameters
    ----------
    model : keras.Model, Graph or path
        A sharpened model, or a saved graph (then there is no Keras to compare with).
    frames : array, shape (n, *input_shape)
        Or a list or dict of arrays for several inputs, a pair (x, y), or a stream of batches. What is memory-mapped or
        lazy (h5py, Zarr, Dask) and streams are taken a chunk at a time: see `strop.running.frame_source`. uint8 is
        divided by 255 where the model does not take whole numbers itself, everything else is used as it is
        (`strop.running.encode.as_frames`); see `report.notes`.
    labels : array of class numbers, shape (n,), or one-hot rows, optional
        True classes, for the accuracies; for several outputs a list or dict of them (`strop.running.labels`).
    backends : str, Backend, or several of them
        Names, see `strop backends`; or backends of your own that are not registered. None: all that are installed and
        can run this graph.
    encoding : {"host", "bitplane", "binary", "current"}
        For a Keras model; a saved graph carries its own.
    decision : {"host", "spikes"}
        For a Keras model: where the winning class is found; see `strop.lower`.
    bits, step, offset : number, or mapping of input name to number, optional
        For a Keras model and encoding "bitplane": what its frames hold; see `strop.lower`.
    options : mapping of backend name to options, optional
    evidence : bool
        Also keep what a page shows (`strop.display.write_page`): chosen frames spike by spike, and the margins of all.
    strict : bool
        Fail on any tie, and where nothing was compared in some layer.
    workers : int, optional
        Have so many processes take the frames, chunk by chunk; by default this one does. The report is the same but
        for times. Needs the extra `cluster`.
    client : distributed.Client, or address of a scheduler, optional
        Have the workers of a Dask scheduler take the frames, on other machines too; see the manual, `cluster`.
    processes : bool or SimulatorProcesses
        Run each simulator in a process of its own, side by side (`strop.running.side_by_side`). What this process has
        set in a simulator is unknown there. The report is the same but for times.

    Returns
    -------
    Report
        `report.passed`, `report.verdict`; `print(report)` shows a table.

    Raises
    ------
    StropError
        If the model cannot be lowered, the frames or labels do not fit, or a backend is missing.
    """
    probe: KerasProbe | None = None
    lowering: Lowering | None = None
    model = model_or_graph(model, "strop.verify")
    lowered_as: dict[str, Any] = {
        "encoding": encoding,
        "decision": decision,
        "bits": bits,
        "step": step,
        "offset": offset,
    }
    if isinstance(model, Graph):
        graph = model
    else:
        from strop.lowering import trace
        from strop.lowering.probe import KerasProbe

        lowering = trace(model, frames=frames, **lowered_as)
        graph, probe = lowering.graph, KerasProbe(model, lowering)
    if lowering is not None and decision == "spikes":
        _check_decisions(graph)
    # An iterator gives them once.
    backends = None if backends is None else named_backends(backends)
    checked, left_out = _checked_backends(graph, backends, options or {})
    source = frame_source(graph, frames, labels, *keys_of(model, graph))
    totals = Totals(graph, lowering, checked, evidence, strict)
    job = VerificationJob(graph, probe, lowering, checked, options or {}, lowered_as)
    with _processes(processes, backends, checked, workers, client) as job.processes:
        results = run_job(job, source.chunks(chunk_size(graph)), totals.wanted, workers, client)
        with Progress("verifying", source.count) as progress, closing(results):
            for partial in results:
                totals.add(partial)
                progress.advance(partial.count)
    if totals.frames != source.given:
        raise StropError(f"{totals.frames} of {source.given} frames were verified: chunks were lost, or came twice")
    source.require_labels(totals.frames)
    report = totals.report()
    report.notes = [*graph.assumptions, *source.notes, *left_out]
    return report


@contextmanager
def _processes(
    wanted: bool | SimulatorProcesses,
    backends: Sequence[str | Backend] | None,
    checked: Mapping[str, Backend],
    workers: int | None,
    client: Any,
) -> Iterator[SimulatorProcesses | None]:
    """Yield the processes of the backends that are asked for by name; None without.

    A backend of the user's own, an object of this process, stays in it.
    """
    if wanted and (workers is not None or client is not None):
        raise StropError("give either processes, for the simulators, or workers or a client, for the frames")
    named = [name for name in checked if backends is None or name in backends]
    if isinstance(wanted, SimulatorProcesses):
        others = [name for name in wanted.names if name in checked and name not in named]
        if others:
            raise StropError(f"processes has one for {others[0]!r}, which is given as an object of this process")
        yield wanted
    elif wanted:
        with SimulatorProcesses(named) as processes:
            yield processes
    else:
        yield None


def _check_decisions(graph: Graph) -> None:
    """Check that every output that decides between classes decides in spikes, as was asked for."""
    for readout in graph.readouts:
        if readout.name in graph.outputs and classes_of(readout) is not None and readout.kind != "winner":
            raise StropError(f"output {readout.name!r} is decided off the simulator, with decision='spikes'")


def _checked_backends(
    graph: Graph, backends: str | Backend | Iterable[str | Backend] | None, options: Mapping[str, Any]
) -> tuple[dict[str, Backend], list[str]]:
    """Return the requested backends that can run `graph`, by name, and notes on those that were left out."""
    checked: dict[str, Backend] = {}
    left_out = []
    for backend in named_backends(backends):
        name = backend if isinstance(backend, str) else backend.name
        found = get_backend(backend)
        try:
            found.check(graph)
        except BackendError as error:
            if backends is not None:
                raise
            left_out.append(f"{name} is left out: {error}")
        else:
            checked[name] = found
    for name, own in options.items() if isinstance(options, Mapping) else [("all", options)]:
        if not isinstance(own, Mapping) or not all(isinstance(key, str) for key in own):
            raise BackendError(
                f"options are given as {own!r} for {name!r}: give each backend's as {{'name': {{'option': value}}}}"
            )
    unknown = [name for name in options if name not in checked]
    if unknown:
        raise BackendError(
            f"options are given for {unknown[0]!r}, and the backends are {', '.join(checked) or 'none'}"
            + did_you_mean(unknown[0], checked)
        )
    return checked, left_out
