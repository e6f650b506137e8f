"""Proof: every spike of every layer held against Keras, and every simulator against the oracle (DESIGN section 4).

Frames are worked through in chunks, so that memory does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strop.activity import Activity
from strop.answers import compare_answers, differing_frames
from strop.backend import Backend, Runner, get_backend
from strop.bounds import RoundingBound, SimulatorBound, graph_stages, undecided
from strop.comparison import Comparison, Found
from strop.decode import classes, decides, decode
from strop.encode import FrameDict, Frames, as_frames, encode, keras_frames
from strop.errors import BackendError, DataError
from strop.evidence import Collector
from strop.graph import Graph
from strop.judge import Judgement
from strop.progress import Progress
from strop.reference import BoolArray, FloatArray, Signals, evaluate
from strop.report import BackendReport, KerasReport, OutputReport, Report
from strop.selfcheck import blind, check_outputs, check_spikes
from strop.simulate import chunk_size, chunks

if TYPE_CHECKING:
    import keras

    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe

# Keras's own name among the comparisons; a backend cannot be registered under it.
KERAS = "keras"


def verify(
    model: keras.Model | Graph,
    frames: Frames,
    labels: npt.ArrayLike | None = None,
    backends: Sequence[str | Backend] = ("brian2",),
    *,
    encoding: str = "host",
    decision: str = "host",
    bits: int | Mapping[str, int] | None = None,
    step: float | Mapping[str, float] | None = None,
    offset: float | Mapping[str, float] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    evidence: bool = False,
    strict: bool = False,
) -> Report:
    """Compare every spike of every layer between Keras, the oracle and simulators.

    >>> report = strop.verify(model, frames, labels, backends=("reference", "brian2"))
    >>> report.passed
    True
    >>> print(report)

    Parameters
    ----------
    model : keras.Model or Graph
        A sharpened model, or a saved graph (then there is no Keras to compare with).
    frames : array, shape (n, *input_shape), uint8, bool or float
        See `strop.encode.as_frames`.
    labels : int array, shape (n,), optional
        True classes, for the accuracies.
    backends : sequence of str or Backend
        Names, see `strop backends`; or backends of your own that are not registered.
    encoding : {"host", "bitplane", "binary", "current"}
        For a Keras model; a saved graph carries its own.
    decision : {"host", "spikes"}
        For a Keras model: where the winning class is found; see `strop.lower`.
    bits, step, offset : number, or mapping of input name to number, optional
        For a Keras model and encoding "bitplane": what its frames hold; see `strop.lower`.
    options : mapping of backend name to options, optional
    evidence : bool
        Also keep what a page shows (`strop.page.write_page`): chosen frames spike by spike, and the margins of all.

    strict : bool
        Fail on any tie, and where nothing was compared in some layer.

    Returns
    -------
    Report
        `report.passed`, `report.verdict`; `print(report)` shows a table.

    Raises
    ------
    StropError
        If the model cannot be lowered, the frames do not fit, or a backend is missing.
    """
    probe: KerasProbe | None = None
    lowering: Lowering | None = None
    if isinstance(model, Graph):
        graph = model
    else:
        from strop.lowering import trace
        from strop.lowering.probe import KerasProbe

        lowering = trace(model, encoding, decision, bits=bits, step=step, offset=offset)
        graph, probe = lowering.graph, KerasProbe(model, lowering)
    ready = as_frames(graph, frames)
    count = len(next(iter(ready.values())))
    truth = as_labels(labels, count)

    engines = {b if isinstance(b, str) else b.name: get_backend(b) for b in dict.fromkeys(backends)}
    for engine in engines.values():
        engine.check(graph)
    verification = _Verification(graph, probe, lowering, engines, options or {}, evidence, strict)
    try:
        with Progress("verifying", count) as progress:
            start = 0
            for part in chunks(ready, chunk_size(graph)):
                size = len(next(iter(part.values())))
                verification.take(part, None if truth is None else truth[start : start + size])
                start += size
                progress.advance(size)
    finally:
        verification.close()
    return verification.report()


def as_labels(labels: npt.ArrayLike | None, count: int) -> npt.NDArray[np.int64] | None:
    """Return labels as class numbers, shape `(count,)`; one-hot rows are accepted."""
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] > 1:
        array = array.argmax(axis=1)
    array = array.reshape(-1) if array.ndim == 2 else array
    if array.shape != (count,) or not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
        raise DataError(f"labels must be {count} class numbers, one per frame; got {array.dtype} {array.shape}")
    return array.astype(np.int64)


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
        strict: bool = False,
    ) -> None:
        self.graph, self.probe, self.strict = graph, probe, strict
        self.activity = Activity(graph)
        self.keras_bound = RoundingBound(graph, graph_stages(graph) if lowering is None else lowering.computed)
        self.collector = Collector(graph, self.keras_bound.error, probe is not None) if evidence else None
        self.keras = None if probe is None else KerasReport()
        self.outputs: dict[str, OutputReport] = {}
        self.comparisons = {
            name: Comparison(graph, name, SimulatorBound(graph, engines[name].resolution)) for name in engines
        }
        if probe is not None:
            self.comparisons[KERAS] = Comparison(graph, KERAS, self.keras_bound)
        self.frames = self.labelled = 0
        self.correct: dict[str, int] = {}
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

    def take(self, frames: FrameDict, truth: npt.NDArray[np.int64] | None) -> None:
        """Verify one chunk of frames."""
        signals = encode(self.graph, frames)
        count = len(next(iter(frames.values())))
        if self.collector is not None:
            self.collector.expect(count)
        near = _Near(self.graph, self.keras_bound, signals, count) if self.probe is not None else None
        oracle = evaluate(self.graph, signals, self._watch(near))
        self.activity.add(oracle, signals)
        if self.collector is not None:
            self.collector.begin(signals, oracle, truth)
        self.labelled += 0 if truth is None else len(truth)
        decided, accounted = None, np.zeros(count, dtype=bool)
        if self.probe is not None and near is not None:
            decided, accounted = self._take_keras(self.probe, frames, signals, oracle, near.frames, truth)
        expected = decode(self.graph, oracle)
        for name in self.runners:
            self._take_backend(name, signals, oracle, expected, truth, decided, accounted)
        if self.collector is not None:
            self.collector.end(frames, oracle, truth)
        self.frames += count

    def _watch(self, near: _Near | None) -> Callable[[str, FloatArray], None]:
        def watch(name: str, potentials: FloatArray) -> None:
            if near is not None:
                near.watch(name, potentials)
            if self.collector is not None:
                self.collector.watch(name, potentials)

        return watch

    def _take_keras(
        self,
        probe: KerasProbe,
        frames: FrameDict,
        signals: Signals,
        oracle: Mapping[str, BoolArray],
        near: BoolArray,
        truth: npt.NDArray[np.int64] | None,
    ) -> tuple[npt.NDArray[np.int64] | None, BoolArray]:
        """Compare Keras with the oracle; return its classes, and the frames in which it differs."""
        assert self.keras is not None
        begin = time.perf_counter()
        spikes, outputs = probe.run(keras_frames(self.graph, frames))
        self.keras.seconds += time.perf_counter() - begin
        found = self._compare(KERAS, spikes, oracle, signals, near)
        if self.frames == 0:
            self._check_itself(spikes, outputs, oracle, signals, near)
        tied = self._compare_outputs(found, oracle, signals, outputs, self.outputs)
        decided = outputs[0].argmax(axis=-1) if decides(self.graph) else None
        self._score(KERAS, decided, truth)
        return decided, found.tied | found.faulty | tied

    def _check_itself(
        self,
        spikes: Mapping[str, BoolArray],
        outputs: list[npt.NDArray[Any]],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        near: BoolArray,
    ) -> None:
        """See that wrong spikes and wrong outputs would fail this verification; see `strop.selfcheck`."""
        planted = check_spikes(self.graph, KERAS, self.keras_bound, spikes, oracle, signals, near)
        if any(layer.faults for layer in planted.layers.values()):
            _must_fail(KERAS, self._assembled(KerasReport(layers=list(planted.layers.values()))))
        comparison = Comparison(self.graph, KERAS, self.keras_bound)
        found = comparison.compare(spikes, oracle, signals, near)

        def compare(given: list[npt.NDArray[Any]]) -> dict[str, OutputReport]:
            reports: dict[str, OutputReport] = {}
            self._compare_outputs(found, oracle, signals, given, reports)
            return reports

        wrong = check_outputs(compare, outputs)
        _must_fail(KERAS, self._assembled(KerasReport(outputs=list(wrong.values()))))

    def _compare_outputs(
        self,
        found: Found,
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        outputs: list[npt.NDArray[Any]],
        reports: dict[str, OutputReport],
    ) -> BoolArray:
        """Compare Keras's outputs with the read-outs of its own last spikes; return the frames with a tie."""
        count = len(outputs[0])
        rest = np.ones(count, dtype=bool)
        for rows, _ in found.judged:
            rest[rows] = False
        # In all other frames Keras's spikes are the oracle's.
        others = np.flatnonzero(rest)
        known = {name: values[others] for name, values in (*signals.items(), *oracle.items())}
        tied = np.zeros(count, dtype=bool)
        for rows, judgement in (*found.judged, (others, Judgement({}, known, {}))):
            if len(rows) == 0:
                continue
            given = [values[rows] for values in outputs]
            for name, verdict in compare_answers(self.graph, judgement, self.keras_bound, given).items():
                report = reports.setdefault(name, OutputReport(name))
                report.add(verdict.faults, verdict.ties, verdict.difference)
                tied[rows] |= verdict.ties
        return tied

    def _take_backend(
        self,
        name: str,
        signals: Signals,
        oracle: Mapping[str, BoolArray],
        expected: list[npt.NDArray[Any]],
        truth: npt.NDArray[np.int64] | None,
        decided: npt.NDArray[np.int64] | None,
        accounted: BoolArray,
    ) -> None:
        report, bound = self.reports[name], self.comparisons[name].bound
        begin = time.perf_counter()
        spikes = self.runners[name].run(signals)
        report.run_seconds += time.perf_counter() - begin
        missing = sorted(set(self.graph.population_names) - set(spikes))
        if missing:
            raise BackendError(f"{name} gave no spikes of {', '.join(missing)}")
        found = self._compare(name, spikes, oracle, signals)
        if self.frames == 0:
            planted = check_spikes(self.graph, name, bound, spikes, oracle, signals)
            layers = list(planted.layers.values())
            if any(layer.faults for layer in layers):
                _must_fail(name, self._assembled(None, {name: BackendReport(report.version, layers=layers)}))
        answers = decode(self.graph, spikes)
        other = differing_frames(self.graph, answers, expected)
        report.decoded_equal &= not other.any()
        chosen = classes(self.graph, spikes)
        if decided is not None and chosen is not None:
            other = np.where(accounted, other, other | (chosen != decided))
        report.unexplained += int(np.count_nonzero(other & ~found.tied & ~found.faulty))
        self._score(name, chosen, truth)

    def _score(self, who: str, chosen: npt.NDArray[np.int64] | None, truth: npt.NDArray[np.int64] | None) -> None:
        if self.collector is not None:
            self.collector.decide(who, chosen)
        if chosen is not None and truth is not None:
            self.correct[who] = self.correct.get(who, 0) + int((chosen == truth).sum())

    def _compare(
        self,
        who: str,
        claimed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        near: BoolArray | None = None,
    ) -> Found:
        found = self.comparisons[who].compare(claimed, oracle, signals, near)
        if self.collector is not None:
            for rows, judgement in found.judged:
                self.collector.differ(who, rows, judgement.verdicts)
        return found

    def report(self) -> Report:
        """Return the finished report."""
        for name, report in (*((KERAS, self.keras),) * (self.keras is not None), *self.reports.items()):
            assert report is not None
            comparison = self.comparisons[name]
            report.layers = list(comparison.layers.values())
            if isinstance(report, BackendReport):
                report.frames, report.frames_with_faults = comparison.frames, comparison.frames_with_faults
            else:
                report.outputs = list(self.outputs.values())
            if self.labelled and decides(self.graph):
                report.accuracy = self.correct.get(name, 0) / self.labelled
        whole = self._assembled(self.keras, self.reports)
        whole.evidence = None if self.collector is None else self.collector.finish(self.activity)
        whole.graph["synaptic_events_per_frame"] = self.activity.events_per_frame()
        return whole

    def _assembled(self, keras: KerasReport | None, backends: dict[str, BackendReport] | None = None) -> Report:
        graph, counts = self.graph, self.activity.spikes
        populations = [(p.name, int(counts[p.name].sum()), p.size * self.activity.frames) for p in graph.populations]
        return Report(
            model=graph.name,
            frames=self.activity.frames,
            keras=keras,
            backends=backends or {},
            graph={
                "populations": len(graph.populations),
                "neurons": graph.neurons,
                "synapses": graph.synapses,
                "depth": graph.total_depth,
            },
            strict=self.strict,
            silent=[name for name, spikes, _ in populations if spikes == 0],
            saturated=[name for name, spikes, most in populations if spikes == most],
        )


class _Near:
    """The frames in which some potential is so close to its threshold that float32 may matter."""

    def __init__(self, graph: Graph, bound: RoundingBound, signals: Signals, count: int) -> None:
        self.graph, self.ceilings = graph, bound.ceilings(signals)
        self.frames = np.zeros(count, dtype=bool)

    def watch(self, name: str, potentials: FloatArray) -> None:
        """Take a population's potentials, shape `(n, *shape)`, as `strop.reference.evaluate` has them."""
        margin = np.abs(potentials - self.graph.population(name).threshold)
        self.frames |= undecided(margin, self.ceilings[name]).reshape(len(margin), -1).any(axis=1)


def _must_fail(who: str, report: Report) -> None:
    """Raise where a report that holds planted faults passes."""
    if report.passed or report.verdict != "failed" or report.to_dict()["passed"]:
        raise blind(who, "planted faults in its verdict")
