"""`strop.explain`: one frame on one backend (or in Keras), every layer of it, and the reason of its faults.

The frame is run together with those that `strop.verify` runs with it, so that what depends on its neighbours in time
is there to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from strop.errors import DataError
from strop.graph import Graph
from strop.lowering.keras_frames import keras_frames
from strop.running.backend import Backend, spikes_from
from strop.running.encode import FrameDict, Frames, encode
from strop.running.frame_source import frame_source
from strop.running.model_argument import ModelOrGraph, keys_of, model_or_graph
from strop.running.oracle import evaluate
from strop.running.registry import get_backend
from strop.running.simulate import chunk_size
from strop.verification.bounds import Bound, RoundingBound, SimulatorBound
from strop.verification.comparison import Comparison
from strop.verification.explanation.clues import Clues
from strop.verification.explanation.frames import FrameFindings, layer_frames, neurons_of

if TYPE_CHECKING:
    from strop.lowering.context import Lowering

Array = npt.NDArray[Any]
KERAS = "keras"
# Faulty neurons of a layer, and contributions to each, that are shown.
_MOST_NEURONS, _MOST_CONTRIBUTIONS = 20, 10


class FrameExplanation(FrameFindings):
    """One frame in full; prints itself as tables."""

    def __str__(self) -> str:
        from strop.verification.frame_table import render_frame  # rich, only where something is printed

        return render_frame(self)


def explain(
    model: ModelOrGraph,
    frames: Frames,
    backend: str | Backend = "brian2",
    frame: int = 0,
    layer: str | None = None,
    *,
    encoding: str = "host",
    decision: str = "host",
    bits: int | Mapping[str, int] | None = None,
    step: float | Mapping[str, float] | None = None,
    offset: float | Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> FrameExplanation:
    """Show one frame on one backend in full: every layer, and in one of them every neuron at fault.

    >>> print(strop.explain(model, frames, "brian2", frame=17))

    Parameters
    ----------
    model : keras.Model, Graph or path
    frames : array, shape (n, *input_shape)
        As for `strop.verify`; those that it runs together with `frame` are run.
    backend : str or Backend
        A backend; or "keras", to compare a model with its graph.
    frame : int
        Its place in `frames`, from 0.
    layer : str, optional
        A population; by default the first at fault.
    encoding, decision, bits, step, offset
        For a Keras model; see `strop.verify`.
    options : mapping, optional
        For the backend.

    Returns
    -------
    FrameExplanation
        `print(found)` shows it; `found.explanation.lines()` says why in five lines.

    Raises
    ------
    DataError
        If there is no such frame, or "keras" is asked for and the model is a saved graph.
    GraphError
        If there is no such layer.
    """
    model = model_or_graph(model, "strop.explain")
    lowering: Lowering | None = None
    if isinstance(model, Graph):
        graph = model
    else:
        from strop.lowering import trace

        lowering = trace(model, encoding, decision, bits=bits, step=step, offset=offset)
        graph = lowering.graph
    if layer is not None:
        graph.population(layer)
    if backend == KERAS and lowering is None:
        raise DataError(f"{graph.name!r} is a saved graph: there is no Keras model to compare it with; name a backend")
    if backend != KERAS:
        backend = get_backend(backend)
        backend.check(graph)
    source = frame_source(graph, frames, inputs=keys_of(model, graph)[0])
    chunk = source.chunk_with(frame, chunk_size(graph))
    place = (chunk.start, frame)
    if isinstance(backend, Backend):
        bound: Bound = SimulatorBound(graph, backend.resolution)
        observed = _run(graph, backend, chunk.frames, options or {})
        return _shown(graph, bound, backend.name, observed, chunk.frames, place, layer)
    assert lowering is not None
    bound = RoundingBound(graph, lowering.computed)
    return _shown(graph, bound, "Keras", _keras_spikes(model, lowering, chunk.own), chunk.frames, place, layer)


def _run(graph: Graph, backend: Backend, part: FrameDict, options: Mapping[str, Any]) -> dict[str, Array]:
    runner = backend.prepare(graph, **options)
    try:
        return spikes_from(runner, encode(graph, part), backend.name, graph.population_names)
    finally:
        runner.close()


def _keras_spikes(model: Any, lowering: Lowering, own: Mapping[str, Array]) -> dict[str, Array]:
    from strop.lowering.probe import KerasProbe

    probe = KerasProbe(model, lowering)
    spikes, _ = probe.run(keras_frames(lowering.graph, own, lowering.encoded, probe.wide))
    return spikes


def _shown(
    graph: Graph,
    bound: Bound,
    name: str,
    observed: Mapping[str, Array],
    part: FrameDict,
    place: tuple[int, int],
    layer: str | None,
) -> FrameExplanation:
    """Return the explanation of frame `place[1]`, given the spikes of the chunk that begins at `place[0]`."""
    from strop.verification.explanation.diagnose import explain as diagnose

    start, frame = place
    signals = encode(graph, part)
    oracle = evaluate(graph, signals)
    found = Comparison(graph, name, bound).compare(observed, oracle, signals)
    clues = Clues(graph, name, start)
    clues.take(found, observed, oracle, signals)
    row = slice(frame - start, frame - start + 1)
    one = ({n: values[row] for n, values in given.items()} for given in (signals, observed, oracle))
    layers, judged = layer_frames(graph, bound, *one)
    faulty = [own.layer for own in layers if own.missing or own.extra]
    explanation = diagnose(graph, bound, clues, len(oracle[layers[-1].layer]), name) if clues.found_any else None
    chosen = layer or next(iter(faulty), layers[-1].layer)
    neurons = neurons_of(graph, bound, judged, chosen, frame, _MOST_NEURONS, _MOST_CONTRIBUTIONS)
    return FrameExplanation(name, frame, tuple(layers), chosen, neurons, chosen in faulty, explanation)
