"""Building and running a graph on a backend: `strop.build` and `strop.simulate`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.graph.html_table import html_table
from strop.running.backend import Backend, Runner, spikes_from
from strop.running.cluster import run_job
from strop.running.decode import classes, decode
from strop.running.encode import Frames, encode
from strop.running.frame_source import Chunk, FrameSource, frame_source
from strop.running.jobs import Job, Session, frames_of
from strop.running.model_argument import ModelOrGraph, as_graph, keys_of, model_or_graph
from strop.running.progress import Progress
from strop.running.registry import get_backend

# A chunk holds about this many values of the widest node, so that memory does not grow with the number of frames.
_CHUNK_VALUES = 8_000_000
_CHUNK_FRAMES = 1000


@dataclass(frozen=True)
class Result:
    """The result of a simulation.

    Attributes
    ----------
    spikes : dict of population name to bool array, shape (n, *shape)
    output : array, or list of arrays for a model with several outputs, shape (n, ...)
        Decoded: class probabilities, values, or spikes.
    classes : int64 array, shape (n,), or None where the network decides nothing
    backend : str
    version : str
        Simulator and version.
    notes : tuple of str
        How the frames were scaled and cast, in plain sentences.
    """

    spikes: dict[str, npt.NDArray[np.bool_]] = field(repr=False)
    output: Any = field(repr=False)
    classes: npt.NDArray[np.int64] | None = field(repr=False)
    backend: str
    version: str
    notes: tuple[str, ...] = field(default=(), repr=False)

    def _repr_html_(self) -> str:
        frames = len(next(iter(self.spikes.values())))
        rows = [
            (name, "×".join(map(str, raster.shape[1:])), int(raster.sum()), f"{raster.sum() / max(frames, 1):,.1f}")
            for name, raster in self.spikes.items()
        ]
        decided = () if self.classes is None else (f"classes: {', '.join(map(str, self.classes[:20]))}",)
        about = f"{frames:,} frames on {self.backend} ({self.version})"
        more = ("first 20 frames",) if self.classes is not None and frames > 20 else ()
        headings = ("population", "shape", "spikes", "spikes/frame")
        return html_table("Result", headings, rows, (*decided, *more, *self.notes), about)


def build(graph: ModelOrGraph, backend: str | ModuleType, **options: Any) -> Any:
    """Return the native objects of `backend` for `graph`, for the user's own script.

    >>> network = strop.build(graph, "brian2")  # a brian2.Network, its groups named as in the graph
    >>> network = strop.build(graph, sim)  # sim is a PyNN module, after sim.setup()

    Parameters
    ----------
    graph : Graph, keras.Model or path
        A model is lowered as `strop.lower(model)` does.
    backend : str or PyNN module
    options
        Passed on to the backend.

    Raises
    ------
    BackendMissingError
        If the backend is unknown or its simulator is not installed.
    BackendError
        If it cannot run this graph.
    """
    if isinstance(backend, ModuleType):
        options["simulator"] = backend
        # "pyNN.spiNNaker" imports everything from "spynnaker.pyNN", and is as often called by that name.
        name = backend.__name__.replace("spynnaker.pyNN", "pyNN.spiNNaker", 1)
        backend = name.replace("pyNN.", "pynn-", 1).lower() if name.startswith("pyNN.") else name
    found = get_backend(backend)
    graph = as_graph(graph, "strop.build")
    found.check(graph)
    return found.build(graph, **options)


def chunk_size(graph: Graph) -> int:
    """Return how many frames to work on at once, so that the widest node stays within some tens of megabytes."""
    widest = max(int(np.prod(graph.signal_shape(name))) for name in graph.depths)
    return int(np.clip(_CHUNK_VALUES // widest, 1, _CHUNK_FRAMES))


@dataclass
class SimulationJob(Job):
    """A simulation of a graph on a backend."""

    graph: Graph
    backend: Backend
    options: dict[str, Any]

    def start(self) -> Session:
        runner = self.backend.prepare(self.graph, **self.options)
        return _Simulation(self.graph, runner, self.backend.name, self.backend.version())


@dataclass(frozen=True)
class _Simulated:
    """What came of a chunk: spikes, eight to a byte."""

    start: int
    count: int
    version: str
    spikes: dict[str, npt.NDArray[np.uint8]]


class _Simulation(Session):
    def __init__(self, graph: Graph, runner: Runner, name: str, version: str) -> None:
        self.graph, self.runner, self.name, self.version = graph, runner, name, version

    def take(self, chunk: Chunk, wanted: None) -> _Simulated:
        signals = encode(self.graph, frames_of(self.graph, chunk))
        spikes = spikes_from(self.runner, signals, self.name, self.graph.population_names)
        packed = {}
        for population in self.graph.populations:
            own, shape = spikes[population.name], (chunk.count, *population.shape)
            if own.shape != shape or own.dtype != np.bool_:
                got = f"{own.dtype} {own.shape}"
                raise BackendError(f"{self.name} should give spikes of {population.name!r} as bool {shape}; got {got}")
            packed[population.name] = np.packbits(own.reshape(chunk.count, -1), axis=1)
        return _Simulated(chunk.start, chunk.count, self.version, packed)

    def close(self) -> None:
        self.runner.close()


def simulate(
    graph: ModelOrGraph,
    frames: Frames,
    backend: str | Backend,
    *,
    workers: int | None = None,
    client: Any = None,
    **options: Any,
) -> Result:
    """Stream `frames` through `graph` on `backend`, one frame per time step.

    >>> result = strop.simulate(graph, frames, "brian2")
    >>> result.classes[:3], result.spikes["dense_1"].shape

    Parameters
    ----------
    graph : Graph, keras.Model or path
        A model is lowered as `strop.lower(model)` does.
    frames : array, shape (n, *input_shape)
        Or several, or a stream of them, as for `strop.verify`; see `strop.running.encode.as_frames`.
    backend : str or Backend
        For example "reference", "brian2"; see `strop backends`. Or one of your own that is not registered.
    workers : int, optional
        Have so many processes take the frames, chunk by chunk; by default this one does. Needs the extra `cluster`.
    client : distributed.Client, or address of a scheduler, optional
        Have the workers of a Dask scheduler take the frames, on other machines too; see the manual, `cluster`.
    options
        Passed on to the backend.

    Raises
    ------
    DataError, BackendMissingError, BackendError, CapacityError
    """
    found = get_backend(backend)
    name = backend if isinstance(backend, str) else backend.name
    model = model_or_graph(graph, "strop.simulate")
    graph = as_graph(model, "strop.simulate", frames)
    found.check(graph)
    source = frame_source(graph, frames, inputs=keys_of(model, graph)[0])
    spikes = _spikes(graph, found, name, options, source, workers, client)
    answers = decode(graph, spikes)
    counts = {len(rows) for rows in (*spikes.values(), *answers)}
    if counts != {source.given} or any(spikes[p.name].shape[1:] != p.shape for p in graph.populations):
        raise StropError(f"{source.given} frames were simulated, and answers of {sorted(counts)} came: some were lost")
    output = answers[0] if len(answers) == 1 else answers
    notes = (*graph.assumptions, *source.frame_notes)
    return Result(spikes, output, classes(graph, spikes), name, found.version(), notes)


def _spikes(
    graph: Graph,
    backend: Backend,
    name: str,
    options: dict[str, Any],
    source: FrameSource,
    workers: int | None,
    client: Any,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the spikes of every population, of all frames."""
    job = SimulationJob(graph, backend, options)
    parts: list[_Simulated] = []
    count = 0
    results = run_job(job, source.chunks(chunk_size(graph)), lambda chunk: None, workers, client)
    with Progress(f"simulating on {name}", source.count) as progress, closing(results):
        for part in results:
            if part.version != backend.version():
                raise BackendError(f"{name} is {backend.version()} here, and {part.version} on a worker")
            if part.start != count:
                raise StropError(f"frames from {part.start:,} on came out of turn: a chunk was lost, or came twice")
            parts.append(part)
            count += part.count
            progress.advance(part.count)
    if count != source.given:
        raise StropError(f"{count} of {source.given} frames were simulated: chunks were lost, or came twice")
    spikes = {}
    for population in graph.populations:
        rows = np.concatenate([part.spikes.pop(population.name) for part in parts])
        flat = np.unpackbits(rows, axis=1, count=population.size).view(np.bool_)
        spikes[population.name] = flat.reshape(len(flat), *population.shape)
    return spikes
