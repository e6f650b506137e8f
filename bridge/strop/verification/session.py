"""The comparing side of a verification: Keras and the backends compared with the oracle, a chunk of frames at a time.

Each chunk yields a `Partial` of its own, whatever was compared before it; `strop.verification.totals` adds them up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strop.costs.activity import Activity
from strop.errors import BackendError, StropError
from strop.graph import Graph
from strop.graph.capacity import memory_limit
from strop.lowering.keras_frames import keras_frames
from strop.running.backend import Backend, Runner, spikes_from
from strop.running.decode import answered_classes, classes, classes_of, decode, readout_of
from strop.running.encode import FrameDict, SignalDict, encode
from strop.running.frame_source import Chunk
from strop.running.jobs import Session, frames_of
from strop.running.labels import Scores
from strop.running.oracle import BoolArray, evaluate
from strop.running.side_by_side import SimulatorProcesses
from strop.verification.bounds import Bound, RoundingBound, SimulatorBound, graph_stages
from strop.verification.comparison import Comparison, Found
from strop.verification.counts import OutputReport
from strop.verification.evidence import Gathering
from strop.verification.explanation.clues import Notes, notes_on
from strop.verification.judge import Judgement
from strop.verification.near import Near
from strop.verification.outputs import AnswerVerdict, compare_answers, differing_frames, joined
from strop.verification.partial import KERAS, Built, Compared, Partial, Room
from strop.verification.selfcheck import check_outputs, check_spikes

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe

# Winning classes, one entry per output: shape (n,), or None where it decides nothing.
Answers = list[npt.NDArray[np.int64] | None]

# Bytes that a synapse takes at most while a simulator builds it (NEURON). Where there is not so much for all, processes
# build one after the other: each looks at what is free before it begins.
_ROOM = 1500


class Verification(Session):
    """Compares chunks of frames; the backends are built once.

    Parameters
    ----------
    graph : Graph
    probe : KerasProbe or None
        None for a saved graph.
    lowering : Lowering or None
        Of the model.
    backends, options : mapping by backend name
    processes : SimulatorProcesses, optional
        Run backends there that have a process, side by side with what is done here.
    """

    def __init__(
        self,
        graph: Graph,
        probe: KerasProbe | None,
        lowering: Lowering | None,
        backends: Mapping[str, Backend],
        options: Mapping[str, Mapping[str, Any]],
        processes: SimulatorProcesses | None = None,
    ) -> None:
        self.graph, self.probe = graph, probe
        self.keras_bound = RoundingBound(graph, graph_stages(graph) if lowering is None else lowering.computed)
        self.bounds: dict[str, Bound] = {name: SimulatorBound(graph, backends[name].resolution) for name in backends}
        self.runners: dict[str, Runner] = {}
        self.built: dict[str, Built] = {}
        # Of chunks that have been announced, and not been taken.
        self._announced: dict[int, tuple[FrameDict, SignalDict]] = {}
        self.own = {} if processes is None else processes.runners_for(backends, options)
        self.looks_ahead = bool(self.own)
        at_once = _ROOM * graph.synapses * len(self.own) < memory_limit()
        try:
            for name, process in self.own.items() if at_once else ():
                process.begin_to_prepare(graph, options.get(name, {}))
            for name, backend in backends.items():
                if name not in self.own:
                    begin = time.perf_counter()
                    self.runners[name] = backend.prepare(graph, **options.get(name, {}))
                    self.built[name] = Built(backend.version(), time.perf_counter() - begin)
            for name, process in self.own.items():
                if not at_once:
                    process.begin_to_prepare(graph, options.get(name, {}))
                process.prepared(graph)
                self.built[name] = Built(process.version, process.seconds)
        except BaseException as error:
            if isinstance(error, BackendError):
                error.backend = name
            self.close()
            raise

    def close(self) -> None:
        with ExitStack() as each:
            for runner in (*self.runners.values(), *self.own.values()):
                each.callback(runner.close)
            for process in self.own.values():
                process.begin_to_close()

    def expect(self, chunk: Chunk) -> None:
        """Have the chunk sent to backends in processes of their own."""
        self._announced[chunk.number] = self._encoded(chunk)
        for process in self.own.values():
            process.expect(chunk.number, self._announced[chunk.number][1])

    def take(self, chunk: Chunk, wanted: Room) -> Partial:
        """Verify one chunk of frames."""
        announced = chunk.number in self._announced
        frames, signals = self._announced.pop(chunk.number) if announced else self._encoded(chunk)
        return _Comparing(self, chunk, wanted, frames, signals).partial()

    def _encoded(self, chunk: Chunk) -> tuple[FrameDict, SignalDict]:
        """Return the frames of a chunk, and the signals that they become."""
        frames = frames_of(self.graph, chunk)
        given = {len(values) for values in (*frames.values(), *chunk.own.values())}
        if given != {chunk.count}:
            raise StropError(f"chunk {chunk.number} is said to hold {chunk.count} frames, and holds {given}")
        return frames, encode(self.graph, frames)

    def spikes_of(self, name: str, chunk: Chunk, signals: SignalDict) -> tuple[dict[str, BoolArray], float]:
        """Return a backend's spikes, and the seconds that it took."""
        if name in self.own:
            spikes = self.own[name].finish(chunk.number)
            return spikes, self.own[name].seconds
        begin = time.perf_counter()
        spikes = spikes_from(self.runners[name], signals, name, self.graph.population_names)
        return spikes, time.perf_counter() - begin


class _Comparing:
    """The comparison of one chunk."""

    def __init__(
        self, session: Verification, chunk: Chunk, wanted: Room, frames: FrameDict, signals: SignalDict
    ) -> None:
        self.session, self.graph, self.chunk, self.wanted = session, session.graph, chunk, wanted
        self.frames, self.signals = frames, signals
        self.compared: dict[str, Compared] = {}
        self.outputs: dict[str, OutputReport] = {}
        self.planted_outputs: list[OutputReport] | None = None
        self.scores = Scores(self.graph)
        self.gathering: Gathering | None = None
        if wanted.choice is not None:
            error = session.keras_bound.error
            self.gathering = Gathering(self.graph, error, wanted.choice, chunk.start, chunk.count, wanted.sampled)

    def partial(self) -> Partial:
        """Compare, and return what was found."""
        chunk, session = self.chunk, self.session
        truth = None if chunk.truths is None else chunk.truths[0]
        near = None if session.probe is None else Near(self.graph, session.keras_bound, self.signals, chunk.count)
        seen = None if self.gathering is None else self.gathering.watch
        oracle = evaluate(self.graph, self.signals, seen, None if near is None else near.glance)
        activity = Activity(self.graph)
        activity.add(oracle, self.signals)
        if self.gathering is not None:
            self.gathering.begin(self.signals, oracle, truth)
        decided: Answers = [None] * len(self.graph.outputs)
        accounted = np.zeros(chunk.count, dtype=bool)
        if session.probe is not None and near is not None:
            decided, accounted = self._take_keras(session.probe, oracle, near.frames(oracle))
            self._score(KERAS, decided)
        expected = decode(self.graph, oracle)
        for name in session.bounds:
            self._score(name, self._take_backend(name, oracle, expected, decided, accounted))
        evidence = None if self.gathering is None else self.gathering.end(self.frames, oracle, truth)
        return Partial(
            chunk.number,
            chunk.start,
            chunk.count,
            activity.counts(),
            self.scores,
            self.compared,
            self.outputs,
            self.planted_outputs,
            evidence,
            session.built,
        )

    def _take_keras(
        self, probe: KerasProbe, oracle: Mapping[str, BoolArray], near: BoolArray
    ) -> tuple[Answers, BoolArray]:
        """Compare Keras with the oracle; return its classes, and the frames in which it differs."""
        begin = time.perf_counter()
        spikes, outputs = probe.run(keras_frames(self.graph, self.chunk.own, probe.lowering.encoded, probe.wide))
        seconds = time.perf_counter() - begin
        found, compared = self._compare(KERAS, self.session.keras_bound, spikes, oracle, near)
        compared.seconds = seconds
        if self.wanted.check:
            planted = check_spikes(self.graph, KERAS, self.session.keras_bound, spikes, oracle, self.signals, near)
            compared.planted = list(planted.layers.values())
            wrong_outputs = check_outputs(lambda values: self._compare_outputs(found, oracle, values), outputs)
            self.planted_outputs = list(wrong_outputs.values())
        tied = found.tied | found.faulty
        verdicts = self._compare_outputs(found, oracle, outputs)
        wrong = {name: verdict.faulty for name, verdict in verdicts.items()}
        self._note(KERAS, found, spikes, oracle, outputs, wrong)
        for name, verdict in verdicts.items():
            self.outputs[name] = OutputReport(name)
            self.outputs[name].add(verdict.faults, verdict.ties, verdict.difference, verdict.undecided)
            tied |= verdict.ties
        readouts = [readout_of(self.graph, name) for name in self.graph.outputs]
        for report, readout, own in zip(self.outputs.values(), readouts, outputs, strict=True):
            # Of a decision in spikes one value per frame can be compared: its class.
            values = own.size if readout is None or readout.kind != "winner" else len(own)
            if report.values != values and not report.faults:
                raise StropError(f"{report.values} values of output {report.name!r} were compared, of {values}")
        decided: Answers = [
            None if readout is None or classes_of(readout) is None else answered_classes(readout, values)
            for readout, values in zip(readouts, outputs, strict=True)
        ]
        return decided, tied

    def _compare_outputs(
        self, found: Found, oracle: Mapping[str, BoolArray], outputs: list[npt.NDArray[Any]]
    ) -> dict[str, AnswerVerdict]:
        """Compare Keras's outputs with the read-outs of its own last spikes, in all frames of a chunk."""
        rest = np.ones(len(outputs[0]), dtype=bool)
        for rows, _ in found.judged:
            rest[rows] = False
        # In all other frames Keras's spikes are the oracle's.
        others = np.flatnonzero(rest)
        known = {name: values[others] for name, values in (*self.signals.items(), *oracle.items())}
        parts = [(rows, j) for rows, j in (*found.judged, (others, Judgement({}, known, {}))) if len(rows)]
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        verdicts = [
            compare_answers(
                self.graph,
                judgement,
                self.session.keras_bound,
                [values[rows] for values in outputs],
                decode(self.graph, judgement.known),
            )
            for rows, judgement in parts
        ]
        return {name: joined([verdict[name] for verdict in verdicts], order) for name in verdicts[0]}

    def _take_backend(
        self,
        name: str,
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
        bound = self.session.bounds[name]
        spikes, seconds = self.session.spikes_of(name, self.chunk, self.signals)
        found, compared = self._compare(name, bound, spikes, oracle)
        compared.seconds = seconds
        if self.wanted.check:
            planted = check_spikes(self.graph, name, bound, spikes, oracle, self.signals)
            compared.planted = list(planted.layers.values())
            # A layer that is wrong already has its faults.
            compared.unproved = [own for own in planted.unproved if not compared.layers[own].faults]
        answers = decode(self.graph, spikes)
        other = differing_frames(self.graph, answers, expected)
        compared.decoded_equal = not other.any()
        chosen: Answers = [classes(self.graph, spikes, output) for output in self.graph.outputs]
        for ours, keras in zip(chosen, decided, strict=True):
            if ours is not None and keras is not None:
                other |= (ours != keras) & ~accounted
        unexplained = other & ~found.tied & ~found.faulty
        compared.unexplained = int(np.count_nonzero(unexplained))
        self._note(name, found, spikes, oracle, (), {"answers": unexplained})
        return chosen

    def _score(self, comparison: str, chosen: Answers) -> None:
        if self.gathering is not None:
            self.gathering.decide(comparison, chosen[0])
        self.scores.add(comparison, chosen, self.chunk.truths)

    def _compare(
        self,
        comparison: str,
        bound: Bound,
        observed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        near: BoolArray | None = None,
    ) -> tuple[Found, Compared]:
        totals = Comparison(self.graph, comparison, bound)
        found = totals.compare(observed, oracle, self.signals, near)
        if self.gathering is not None:
            for rows, judgement in found.judged:
                self.gathering.differ(comparison, rows, judgement.verdicts)
        compared = Compared(totals.layers, totals.frames, totals.frames_with_faults, Notes(0, 0))
        self.compared[comparison] = compared
        return found, compared

    def _note(
        self,
        comparison: str,
        found: Found,
        observed: Mapping[str, BoolArray],
        oracle: Mapping[str, BoolArray],
        outputs: Iterable[npt.NDArray[Any]],
        wrong: Mapping[str, BoolArray],
    ) -> None:
        room = self.wanted.clues[comparison]
        self.compared[comparison].notes = notes_on(
            room, self.chunk.start, found, observed, oracle, self.signals, outputs, wrong
        )
