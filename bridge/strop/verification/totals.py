"""`Totals`: what was found in each chunk, added up in the order of the frames, and the report.

It makes no difference where a chunk was compared: in this process, or in one of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from strop.costs.activity import Activity
from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.running.backend import Backend
from strop.running.frame_source import Chunk
from strop.running.labels import Scores
from strop.verification.bounds import Bound, RoundingBound, SimulatorBound
from strop.verification.counts import LayerReport, OutputReport
from strop.verification.evidence import Collector
from strop.verification.explanation.clues import Clues
from strop.verification.outcome import BackendReport, KerasReport
from strop.verification.partial import KERAS, Built, Compared, Partial, Room
from strop.verification.proof import prove_for
from strop.verification.report import Report
from strop.verification.selfcheck import blind

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.verification.explanation.explained import Explanation


# Keras's outputs, beside the comparisons that are checked.
_OUTPUTS = "the outputs of Keras"


class Totals:
    """The running totals of one verification.

    Parameters
    ----------
    graph : Graph
    lowering : Lowering or None
        None for a saved graph, which is not compared with Keras.
    backends : mapping of name to Backend
    evidence, strict : bool
        See `strop.verify`.
    """

    def __init__(
        self,
        graph: Graph,
        lowering: Lowering | None,
        backends: Mapping[str, Backend],
        evidence: bool = False,
        strict: bool = False,
    ) -> None:
        self.graph, self.lowering, self.backends, self.strict = graph, lowering, backends, strict
        self.activity = Activity(graph)
        self.collector = Collector(graph, lowering is not None) if evidence else None
        self.keras = None if lowering is None else KerasReport()
        proofs = prove_for(graph, backends)
        self.reports = {
            name: BackendReport(backend.version(), proof=proofs[name]) for name, backend in backends.items()
        }
        self.layers: dict[str, dict[str, LayerReport]] = {}
        self.outputs: dict[str, OutputReport] = {}
        self.clues = {name: Clues(graph, name) for name in self.comparisons}
        self.checked = dict.fromkeys([*self.comparisons, *([] if lowering is None else [_OUTPUTS])], 0)
        self.scores = Scores(graph)
        self.chunks = self.frames = 0

    @property
    def comparisons(self) -> list[str]:
        """Names of the comparisons, in the order of the backends; Keras last."""
        return [*self.backends, *([] if self.lowering is None else [KERAS])]

    def wanted(self, chunk: Chunk) -> Room:
        """Return what is wanted of the chunk that is given out next."""
        clues = {name: own.room for name, own in self.clues.items()}
        if self.collector is None:
            return Room(chunk.number == 0, clues)
        sampled = self.collector.rows_to_sample(chunk.count)
        return Room(chunk.number == 0, clues, self.collector.choice.another(), sampled)

    def add(self, partial: Partial) -> None:
        """Add the next chunk.

        Raises
        ------
        StropError
            If it is another chunk than the next: one was lost, or came twice; or if its process has other versions.
        """
        if (partial.number, partial.start) != (self.chunks, self.frames):
            raise StropError(
                f"chunk {partial.number}, from frame {partial.start:,} on, came where chunk {self.chunks}, from frame "
                f"{self.frames:,} on, was to come: a chunk was lost, or came twice"
            )
        counted = {partial.activity.frames, *(own.frames for own in partial.compared.values())}
        if counted != {partial.count} or set(partial.compared) != set(self.comparisons):
            raise StropError(
                f"chunk {partial.number} was not compared whole: {partial.count} frames, {counted} counted"
            )
        self.activity.merge(partial.activity)
        if partial.planted_outputs is not None:
            self._check_outputs(partial.planted_outputs)
        for name in self.comparisons:
            self._add_compared(name, partial.compared[name])
        for name, output in partial.outputs.items():
            self.outputs.setdefault(name, OutputReport(name)).merge(output)
        for name, built in partial.built.items():
            self._note_built(name, built)
        self.scores.merge(partial.scores)
        if self.collector is not None:
            if partial.evidence is None:
                raise StropError(f"chunk {partial.number} came without evidence")
            self.collector.add(partial.evidence)
        self.chunks += 1
        self.frames += partial.count

    def _add_compared(self, name: str, compared: Compared) -> None:
        if compared.planted is not None:
            self._check(name, compared.planted)
        self._merge_layers(name, compared.layers)
        self.clues[name].add(compared.notes)
        if name == KERAS:
            assert self.keras is not None
            self.keras.seconds += compared.seconds
            return
        report = self.reports[name]
        report.run_seconds += compared.seconds
        report.frames += compared.frames
        report.frames_with_faults += compared.frames_with_faults
        report.decoded_equal &= compared.decoded_equal
        report.unexplained += compared.unexplained
        report.unproved += compared.unproved

    def _check(self, name: str, planted: list[LayerReport]) -> None:
        """Check that the planted faults of a comparison, added up as others are, fail this verification."""
        self.checked[name] += 1
        if not any(layer.faults for layer in planted):
            return
        counted = {layer.name: LayerReport(layer.name, layer.units) for layer in planted}
        for layer in planted:
            counted[layer.name].merge(layer)
        layers = list(counted.values())
        if name == KERAS:
            _must_fail(name, self._assembled(KerasReport(layers=layers)))
        else:
            _must_fail(name, self._assembled(None, {name: BackendReport(self.reports[name].version, layers=layers)}))

    def _check_outputs(self, planted: list[OutputReport]) -> None:
        """Check that planted wrong values fail this verification."""
        self.checked[_OUTPUTS] += 1
        if not planted:
            return
        counted = {output.name: OutputReport(output.name) for output in planted}
        for output in planted:
            counted[output.name].merge(output)
        _must_fail(KERAS, self._assembled(KerasReport(outputs=list(counted.values()))))

    def _merge_layers(self, name: str, layers: Mapping[str, LayerReport]) -> None:
        if self.chunks == 0:
            self.layers[name] = {own.name: LayerReport(own.name, own.units) for own in layers.values()}
        known = self.layers[name]
        if list(layers) != list(known):
            raise StropError(f"{name} gave spikes of {', '.join(set(layers) ^ set(known))} in some chunks only")
        for layer, own in layers.items():
            known[layer].merge(own)

    def _note_built(self, name: str, built: Built) -> None:
        report = self.reports[name]
        if built.version != report.version:
            raise BackendError(f"{name} is {report.version} here, and {built.version} where chunks of frames are run")
        report.build_seconds = max(report.build_seconds, built.seconds)

    def report(self) -> Report:
        """Return the finished report.

        Raises
        ------
        StropError
            If a comparison has not shown, exactly once, that it finds planted faults.
        """
        for name, times in self.checked.items():
            if times != 1:
                raise StropError(f"the comparison with {name} was checked {times} times, and must be once")
        for name, report in (*((KERAS, self.keras),) * (self.keras is not None), *self.reports.items()):
            assert report is not None
            report.layers = list(self.layers[name].values())
            if isinstance(report, KerasReport):
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
        return explain(self.graph, self._bound(name), self.clues[name], self.frames, shown)

    def _bound(self, name: str) -> Bound:
        if name != KERAS:
            return SimulatorBound(self.graph, self.backends[name].resolution)
        assert self.lowering is not None
        return RoundingBound(self.graph, self.lowering.computed)

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
