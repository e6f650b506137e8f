"""Proof: every spike of every layer held against Keras, and every simulator against the oracle (DESIGN section 4).

Frames are worked through in chunks, so that memory does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strop.activity import Activity
from strop.backend import Backend, Runner, get_backend, named_backends
from strop.decode import classes, decides, decode
from strop.encode import FrameDict, Frames, as_frames, encode, frame_notes
from strop.errors import BackendError, DataError, did_you_mean
from strop.evidence import Collector
from strop.fidelity import compared
from strop.given import take_apart
from strop.graph import Graph
from strop.labels import Scores, Truths, labels_by_output, part_of
from strop.labels import as_labels as as_labels  # has moved; who imported it from here still can
from strop.lowering.shown import keras_frames
from strop.opening import ModelOrGraph, keys_of, model_or_graph
from strop.progress import Progress
from strop.reference import (
    FLOAT32_UNIT,
    FLOAT64_UNIT,
    BoolArray,
    FloatArray,
    Signals,
    evaluate,
    fan_in,
    gamma,
    magnitude,
    potential,
    terms,
)
from strop.report import BackendReport, KerasReport, LayerReport, Report
from strop.simulate import chunk_size, chunks

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe

# The bound on the rounding error of a population's potentials, given what its sources sent.
Bound = Callable[[str, Signals], FloatArray]


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
        Or a list or dict of arrays for several inputs, a pair (x, y), or a stream of batches: see
        `strop.given.take_apart`. uint8 is divided by 255 where the model does not take whole numbers itself, everything
        else is used as it is (`strop.encode.as_frames`); `report.notes` say what was done.
    labels : array of class numbers, shape (n,), or one-hot rows, optional
        True classes, for the accuracies; for several outputs a list or dict of them (`strop.labels`).
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
        Also keep what a page shows (`strop.page.write_page`): chosen frames spike by spike, and the margins of all.

    Raises
    ------
    StropError
        If the model cannot be lowered, the frames or labels do not fit, or a backend is missing.
    """
    probe: KerasProbe | None = None
    lowering: Lowering | None = None
    model = model_or_graph(model, "strop.verify")
    if isinstance(model, Graph):
        graph = model
    else:
        from strop.lowering import trace
        from strop.lowering.probe import KerasProbe

        lowering = trace(model, encoding, decision, bits=bits, step=step, offset=offset)
        graph, probe = lowering.graph, KerasProbe(model, lowering)
    engines, left_out = _engines(graph, backends, options or {})
    inputs, outputs = keys_of(model, graph)
    given = take_apart(graph, frames, labels, inputs)
    ready = as_frames(graph, given.frames)
    count = given.count
    truths, about_labels = labels_by_output(graph, given.labels, count, outputs)

    verification = _Verification(graph, probe, lowering, engines, options or {}, evidence)
    try:
        with Progress("verifying", count) as progress:
            start = 0
            for part in chunks(ready, chunk_size(graph)):
                stop = start + len(next(iter(part.values())))
                own = {name: array[start:stop] for name, array in given.frames.items()}
                verification.take(part, part_of(truths, start, stop), own)
                progress.advance(stop - start)
                start = stop
    finally:
        verification.close()
    report = verification.report(count)
    report.notes = [*frame_notes(graph, given.frames), *given.notes, *about_labels, *left_out]
    return report


def _engines(
    graph: Graph, backends: str | Backend | Iterable[str | Backend] | None, options: Mapping[str, Any]
) -> tuple[dict[str, Backend], list[str]]:
    """Return the backends that were asked for, by name, and what to say of those that were left out."""
    engines: dict[str, Backend] = {}
    left_out = []
    for backend in named_backends(backends):
        name = backend if isinstance(backend, str) else backend.name
        engine = get_backend(backend)
        try:
            engine.check(graph)
        except BackendError as error:
            if backends is not None:
                raise
            left_out.append(f"{name} is left out: {error}")
        else:
            engines[name] = engine
    unknown = [name for name in options if name not in engines]
    if unknown:
        raise BackendError(
            f"options are given for {unknown[0]!r}, and the backends are {', '.join(engines) or 'none'}"
            + did_you_mean(unknown[0], engines)
        )
    return engines, left_out


@dataclass(frozen=True)
class Verdict:
    """What a comparison found in one population, shapes `(n, *shape)`."""

    faults: BoolArray
    ties: BoolArray


def judge(graph: Graph, signals: Signals, claimed: Mapping[str, BoolArray], bound: Bound) -> dict[str, Verdict]:
    """Hold claimed spikes against the oracle, every population fed the claimed spikes of its sources.

    A difference is a tie where `|a - threshold| <= bound`. A population that nobody claims anything about is evaluated;
    where its own spikes are within the bound, both are possible, and that doubt is carried to what it feeds.
    """
    known: dict[str, npt.NDArray[Any]] = dict(signals)
    doubt: dict[str, BoolArray] = {}
    verdicts: dict[str, Verdict] = {}
    for population in graph.populations:
        name = population.name
        a = potential(graph, name, known)
        reach = bound(name, known)
        for projection in graph.incoming(name):
            if projection.source in doubt and doubt[projection.source].any():
                reach = reach + projection.operator.absolute().apply(doubt[projection.source])
        fired = a >= population.threshold
        undecided = np.abs(a - population.threshold) <= reach
        if name in claimed:
            differ = fired != claimed[name]
            verdicts[name] = Verdict(differ & ~undecided, differ & undecided)
            known[name] = claimed[name]
        else:
            known[name], doubt[name] = fired, undecided
    return verdicts


def float32_bound(lowering: Lowering) -> Bound:
    """Return the bound for Keras: `gamma_n (sum |w||s| + |b|)` with u = 2^-24.

    n counts the summed terms and what Keras rounds besides; |b| is the sum of the absolute values that the folded
    bias was added up from, because Keras adds them up in float32.
    """

    def bound(name: str, signals: Signals) -> FloatArray:
        rounding = lowering.roundings[name]
        n = terms(lowering.graph, name) + rounding.roundings
        return gamma(n, FLOAT32_UNIT) * (magnitude(lowering.graph, name, signals) + rounding.offset_size)

    return bound


def graph_float32_bound(graph: Graph) -> Bound:
    """Return the bound for somebody who sums a graph's own weights in float32; for graphs that come without Keras."""

    def bound(name: str, signals: Signals) -> FloatArray:
        summed = magnitude(graph, name, signals) + np.abs(graph.population(name).bias)
        reach: FloatArray = gamma(terms(graph, name) + 1, FLOAT32_UNIT) * summed
        return reach

    return bound


def float64_bound(graph: Graph, resolution: float = 0.0) -> Bound:
    """Return the bound for a simulator that sums the same float64 weights in another order, synapse by synapse.

    Parameters
    ----------
    resolution : float
        `Backend.resolution` of a simulator that blurs what it compares; it comes on top of the roundings.
    """
    # Oracle (stage by stage) and simulator (expanded) may each be off; factors folded into weights round once more.
    roundings = {name: terms(graph, name) + fan_in(graph, name) + 4 for name in graph.population_names}

    def bound(name: str, signals: Signals) -> FloatArray:
        population = graph.population(name)
        summed = magnitude(graph, name, signals)
        reach: FloatArray = 2.0 * gamma(roundings[name], FLOAT64_UNIT) * (summed + np.abs(population.bias))
        # What is evaluated on the host never comes near the simulator.
        if resolution and name not in graph.host_populations:
            reach = reach + resolution * compared(population, summed)
        return reach

    return bound


class _Verification:
    """The running totals of one verification."""

    def __init__(
        self,
        graph: Graph,
        probe: KerasProbe | None,
        lowering: Lowering | None,
        engines: Mapping[str, Backend],
        options: Mapping[str, Mapping[str, Any]],
        evidence: bool = False,
    ) -> None:
        self.graph, self.probe, self.lowering, self.engines = graph, probe, lowering, engines
        self.activity = Activity(graph)
        self.keras_bound = None if lowering is None else float32_bound(lowering)
        self.collector: Collector | None = None
        if evidence:
            self.collector = Collector(graph, self.keras_bound or graph_float32_bound(graph), probe is not None)
        self.backend_bounds = {name: float64_bound(graph, engine.resolution) for name, engine in engines.items()}
        self.scores = Scores(graph)
        self.keras = KerasReport() if probe is not None else None
        self.totals: dict[str, dict[str, LayerReport]] = {}
        self.reports: dict[str, BackendReport] = {}
        self.runners: dict[str, Runner] = {}
        try:
            for name, engine in engines.items():
                begin = time.perf_counter()
                self.runners[name] = engine.prepare(graph, **options.get(name, {}))
                self.reports[name] = BackendReport(engine.version(), build_seconds=time.perf_counter() - begin)
        except BaseException as error:
            if isinstance(error, BackendError):
                error.backend = name
            self.close()
            raise

    def close(self) -> None:
        for runner in self.runners.values():
            runner.close()

    def take(self, frames: FrameDict, truths: Truths | None, own: Mapping[str, npt.NDArray[Any]]) -> None:
        """Verify one chunk of frames; `own` holds them as the user has them, for Keras."""
        truth = None if truths is None else truths[0]
        signals = encode(self.graph, frames)
        if self.collector is not None:
            self.collector.expect(len(next(iter(frames.values()))))
        oracle = evaluate(self.graph, signals, None if self.collector is None else self.collector.watch)
        self.activity.add(oracle, signals)
        if self.collector is not None:
            self.collector.begin(signals, oracle, truth)
        if self.probe is not None and self.keras is not None and self.keras_bound is not None:
            begin = time.perf_counter()
            spikes, outputs = self.probe.run(keras_frames(self.graph, own))
            self.keras.seconds += time.perf_counter() - begin
            self._compare("keras", spikes, oracle, signals, self.keras_bound)
            self._score(
                "keras",
                [
                    output.argmax(axis=-1) if decides(self.graph, name) else None
                    for name, output in zip(self.graph.outputs, outputs, strict=True)
                ],
                truths,
            )
        expected = decode(self.graph, oracle)
        for name, runner in self.runners.items():
            report = self.reports[name]
            begin = time.perf_counter()
            spikes = runner.run(signals)
            report.run_seconds += time.perf_counter() - begin
            report.frames += len(next(iter(spikes.values())))
            report.frames_with_faults += self._compare(name, spikes, oracle, signals, self.backend_bounds[name])
            report.decoded_equal &= _answers_equal(self.graph, decode(self.graph, spikes), expected)
            self._score(name, [classes(self.graph, spikes, output) for output in self.graph.outputs], truths)
        if self.collector is not None:
            self.collector.end(frames, oracle, truth)

    def _score(self, who: str, chosen: list[npt.NDArray[np.int64] | None], truths: Truths | None) -> None:
        if self.collector is not None:
            self.collector.decide(who, chosen[0])
        self.scores.add(who, chosen, truths)

    def _compare(
        self,
        who: str,
        claimed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        bound: Bound,
    ) -> int:
        """Add a chunk's differences to the totals; return in how many frames there are faults."""
        layers = self.totals.setdefault(
            who,
            {name: LayerReport(name, self.graph.population(name).size) for name in oracle if name in claimed},
        )
        frames = len(next(iter(oracle.values())))
        # Where every claimed spike equals the oracle's own, feeding claimed spikes forward changes nothing: only the
        # other frames need a second look, layer by layer.
        differs = np.zeros(frames, dtype=bool)
        for name, layer in layers.items():
            if claimed[name].shape != oracle[name].shape:
                raise DataError(f"{who} gave spikes of shape {claimed[name].shape} for {name!r}")
            layer.spikes += int(np.count_nonzero(claimed[name]))
            differs |= (claimed[name] != oracle[name]).reshape(frames, -1).any(axis=1)
        rows = np.flatnonzero(differs)
        if len(rows) == 0:
            return 0
        some = {name: claimed[name][rows] for name in layers}
        verdicts = judge(self.graph, {name: values[rows] for name, values in signals.items()}, some, bound)
        if self.collector is not None:
            self.collector.differ(who, rows, verdicts)
        faulty = np.zeros(len(rows), dtype=bool)
        for name, layer in layers.items():
            layer.faults += int(np.count_nonzero(verdicts[name].faults))
            layer.ties += int(np.count_nonzero(verdicts[name].ties))
            faulty |= verdicts[name].faults.reshape(len(rows), -1).any(axis=1)
        return int(faulty.sum())

    def report(self, count: int) -> Report:
        """Return the finished report."""
        graph = self.graph
        for name, report in (("keras", self.keras), *self.reports.items()):
            if report is not None:
                report.layers = list(self.totals.get(name, {}).values())
                report.accuracy = self.scores.accuracy(name)
                report.accuracies = self.scores.accuracies(name)
        return Report(
            model=graph.name,
            frames=count,
            keras=self.keras,
            backends=self.reports,
            graph={
                "populations": len(graph.populations),
                "neurons": graph.neurons,
                "synapses": graph.synapses,
                "depth": graph.total_depth,
                "synaptic_events_per_frame": self.activity.events_per_frame(),
            },
            evidence=None if self.collector is None else self.collector.finish(self.activity),
        )


def _answers_equal(graph: Graph, ours: list[npt.NDArray[Any]], theirs: list[npt.NDArray[Any]]) -> bool:
    if decides(graph):
        return bool((ours[0].argmax(axis=-1) == theirs[0].argmax(axis=-1)).all())
    return all(np.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
