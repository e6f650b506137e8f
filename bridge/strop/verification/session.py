"""One verification, chunk by chunk: Keras and the backends compared with the oracle, and the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strop.costs.activity import Activity
from strop.errors import BackendError
from strop.graph import Graph
from strop.lowering.keras_frames import keras_frames
from strop.running.backend import Backend, Runner
from strop.running.decode import answered_classes, classes, classes_of, decode, readout_of
from strop.running.encode import FrameDict, encode
from strop.running.labels import Scores, Truths
from strop.running.oracle import BoolArray, Signals, evaluate
from strop.verification.bounds import RoundingBound, SimulatorBound, graph_stages
from strop.verification.comparison import Comparison, Found
from strop.verification.evidence import Collector
from strop.verification.explanation.clues import Clues
from strop.verification.judge import Judgement
from strop.verification.near import Near
from strop.verification.outcome import BackendReport, KerasReport, OutputReport
from strop.verification.outputs import AnswerVerdict, compare_answers, differing_frames, joined
from strop.verification.proof import prove_for
from strop.verification.report import Report
from strop.verification.selfcheck import blind, check_outputs, check_spikes

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe
    from strop.verification.explanation.explained import Explanation

# Keras's own name among the comparisons; a backend cannot be registered under it.
KERAS = "keras"

# Winning classes, one entry per output: shape (n,), or None where it decides nothing.
Answers = list[npt.NDArray[np.int64] | None]


class Verification:
    """The running totals of one verification."""

    def __init__(
        self,
        graph: Graph,
        probe: KerasProbe | None,
        lowering: Lowering | None,
        backends: Mapping[str, Backend],
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
            name: Comparison(graph, name, SimulatorBound(graph, backends[name].resolution)) for name in backends
        }
        if probe is not None:
            self.comparisons[KERAS] = Comparison(graph, KERAS, self.keras_bound)
        self.clues = {name: Clues(graph, name) for name in self.comparisons}
        self.scores = Scores(graph)
        self.frames = 0
        self.reports: dict[str, BackendReport] = {}
        self.runners: dict[str, Runner] = {}
        proofs = prove_for(graph, backends)
        try:
            for name, backend in backends.items():
                begin = time.perf_counter()
                self.runners[name] = backend.prepare(graph, **options.get(name, {}))
                seconds = time.perf_counter() - begin
                self.reports[name] = BackendReport(backend.version(), build_seconds=seconds, proof=proofs[name])
        except BaseException as error:
            if isinstance(error, BackendError):
                error.backend = name
            self.close()
            raise

    def close(self) -> None:
        for runner in self.runners.values():
            runner.close()

    def take(self, frames: FrameDict, truths: Truths | None, own: Mapping[str, npt.NDArray[Any]]) -> None:
        """Verify one chunk of frames; `own` holds the user's unscaled frames, for Keras."""
        truth = None if truths is None else truths[0]
        signals = encode(self.graph, frames)
        count = len(next(iter(frames.values())))
        if self.collector is not None:
            self.collector.expect(count)
        near = None if self.probe is None else Near(self.graph, self.keras_bound, signals, count)
        seen = None if self.collector is None else self.collector.watch
        oracle = evaluate(self.graph, signals, seen, None if near is None else near.glance)
        self.activity.add(oracle, signals)
        if self.collector is not None:
            self.collector.begin(signals, oracle, truth)
        decided: Answers = [None] * len(self.graph.outputs)
        accounted = np.zeros(count, dtype=bool)
        if self.probe is not None and near is not None:
            decided, accounted = self._take_keras(self.probe, own, signals, oracle, near.frames(oracle))
            self._score(KERAS, decided, truths)
        expected = decode(self.graph, oracle)
        for name in self.runners:
            self._score(name, self._take_backend(name, signals, oracle, expected, decided, accounted), truths)
        if self.collector is not None:
            self.collector.end(frames, oracle, truth)
        self.frames += count

    def _take_keras(
        self,
        probe: KerasProbe,
        own: Mapping[str, npt.NDArray[Any]],
        signals: Signals,
        oracle: Mapping[str, BoolArray],
        near: BoolArray,
    ) -> tuple[Answers, BoolArray]:
        """Compare Keras with the oracle; return its classes, and the frames in which it differs."""
        assert self.keras is not None
        begin = time.perf_counter()
        spikes, outputs = probe.run(keras_frames(self.graph, own, probe.lowering.encoded))
        self.keras.seconds += time.perf_counter() - begin
        found = self._compare(KERAS, spikes, oracle, signals, near)
        if self.frames == 0:
            self._check_itself(spikes, outputs, oracle, signals, near)
        tied = found.tied | found.faulty
        verdicts = self._compare_outputs(found, oracle, signals, outputs)
        wrong = {name: verdict.faulty for name, verdict in verdicts.items()}
        self.clues[KERAS].take(found, spikes, oracle, signals, outputs, wrong)
        for name, verdict in verdicts.items():
            self.outputs.setdefault(name, OutputReport(name)).add(verdict.faults, verdict.ties, verdict.difference)
            tied |= verdict.ties
        readouts = [readout_of(self.graph, name) for name in self.graph.outputs]
        decided: Answers = [
            None if readout is None or classes_of(readout) is None else answered_classes(readout, values)
            for readout, values in zip(readouts, outputs, strict=True)
        ]
        return decided, tied

    def _check_itself(
        self,
        spikes: Mapping[str, BoolArray],
        outputs: list[npt.NDArray[Any]],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        near: BoolArray,
    ) -> None:
        """Check that wrong spikes and outputs would fail this verification; see `strop.verification.selfcheck`."""
        planted = check_spikes(self.graph, KERAS, self.keras_bound, spikes, oracle, signals, near)
        if any(layer.faults for layer in planted.layers.values()):
            _must_fail(KERAS, self._assembled(KerasReport(layers=list(planted.layers.values()))))
        comparison = Comparison(self.graph, KERAS, self.keras_bound)
        found = comparison.compare(spikes, oracle, signals, near)

        wrong = check_outputs(lambda values: self._compare_outputs(found, oracle, signals, values), outputs)
        if wrong:
            _must_fail(KERAS, self._assembled(KerasReport(outputs=list(wrong.values()))))

    def _compare_outputs(
        self,
        found: Found,
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        outputs: list[npt.NDArray[Any]],
    ) -> dict[str, AnswerVerdict]:
        """Compare Keras's outputs with the read-outs of its own last spikes, in all frames of a chunk."""
        rest = np.ones(len(outputs[0]), dtype=bool)
        for rows, _ in found.judged:
            rest[rows] = False
        # In all other frames Keras's spikes are the oracle's.
        others = np.flatnonzero(rest)
        known = {name: values[others] for name, values in (*signals.items(), *oracle.items())}
        parts = [(rows, j) for rows, j in (*found.judged, (others, Judgement({}, known, {}))) if len(rows)]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        verdicts = [
            compare_answers(
                self.graph,
                judgement,
                self.keras_bound,
                [values[rows] for values in outputs],
                decode(self.graph, judgement.known),
            )
            for rows, judgement in parts
        ]
        return {name: joined([verdict[name] for verdict in verdicts], order) for name in verdicts[0]}

    def _take_backend(
        self,
        name: str,
        signals: Signals,
        oracle: Mapping[str, BoolArray],
        expected: list[npt.NDArray[Any]],
        decided: Answers,
        accounted: BoolArray,
    ) -> Answers:
        """Compare a backend with the oracle; return its classes.

        Parameters
        ----------
        expected : list of arrays
            The oracle's decoded outputs.
        decided : list of arrays or None
            Keras's classes, where its output decides.
        accounted : bool array, shape (n,)
            Frames in which Keras itself differs from the oracle.
        """
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
            # A layer that is wrong already has its faults.
            report.unproved = [own for own in planted.unproved if not self.comparisons[name].layers[own].faults]
            layers = list(planted.layers.values())
            if any(layer.faults for layer in layers):
                _must_fail(name, self._assembled(None, {name: BackendReport(report.version, layers=layers)}))
        answers = decode(self.graph, spikes)
        other = differing_frames(self.graph, answers, expected)
        report.decoded_equal &= not other.any()
        chosen: Answers = [classes(self.graph, spikes, output) for output in self.graph.outputs]
        for ours, keras in zip(chosen, decided, strict=True):
            if ours is not None and keras is not None:
                other |= (ours != keras) & ~accounted
        unexplained = other & ~found.tied & ~found.faulty
        report.unexplained += int(np.count_nonzero(unexplained))
        self.clues[name].take(found, spikes, oracle, signals, wrong_outputs={"answers": unexplained})
        return chosen

    def _score(self, comparison: str, chosen: Answers, truths: Truths | None) -> None:
        if self.collector is not None:
            self.collector.decide(comparison, chosen[0])
        self.scores.add(comparison, chosen, truths)

    def _compare(
        self,
        comparison: str,
        observed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        signals: Signals,
        near: BoolArray | None = None,
    ) -> Found:
        found = self.comparisons[comparison].compare(observed, oracle, signals, near)
        if self.collector is not None:
            for rows, judgement in found.judged:
                self.collector.differ(comparison, rows, judgement.verdicts)
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
            report.explanation = self._explanation(name)
            report.accuracy = self.scores.accuracy(name)
            report.accuracies = self.scores.accuracies(name)
        whole = self._assembled(self.keras, self.reports)
        whole.evidence = None if self.collector is None else self.collector.finish(self.activity)
        whole.graph["synaptic_events_per_frame"] = self.activity.events_per_frame()
        return whole

    def _explanation(self, name: str) -> Explanation | None:
        """Return why a comparison has faults; None where it has none."""
        if not self.clues[name].found_any:
            return None
        from strop.verification.explanation.diagnose import explain  # only where something is wrong

        shown = "Keras" if name == KERAS else name
        return explain(self.graph, self.comparisons[name].bound, self.clues[name], self.frames, shown)

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


def _must_fail(comparison: str, report: Report) -> None:
    """Raise where a report that holds planted faults passes."""
    if report.passed or report.verdict != "failed" or report.to_dict()["passed"]:
        raise blind(comparison, "planted faults in its verdict")
