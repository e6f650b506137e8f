"""From clues to an explanation: which layers err by themselves, and the hypothesis that explains each best.

Every population is evaluated on the spikes that its sources sent, as they were observed. Where that leaves faults, it
is evaluated once more on the spikes that faulty sources should have sent: if those explain it, the sources were
recorded wrongly and this layer only echoes that.

Among hypotheses the one is taken that says most with least: the bits that it takes to state it, and those to name each
fault that it leaves (a minimum description length, J. Rissanen, "Modeling by shortest data description", 1978).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.running.oracle import BoolArray, fires, potential
from strop.verification.bounds import Bound, undecided
from strop.verification.explanation.case import Case, Guess
from strop.verification.explanation.clues import Clues, LayerCount, Sample
from strop.verification.explanation.explained import Explanation
from strop.verification.explanation.hypotheses import HYPOTHESES, SEARCHES, Hypothesis
from strop.verification.explanation.hypotheses.leftovers import unexplained
from strop.verification.explanation.outputs import explain_outputs
from strop.verification.explanation.places import describe, index_of
from strop.verification.explanation.records import Cause, LayerFaults, NeuronFault
from strop.verification.explanation.synapses import contributions
from strop.verification.judge import doubted

Array = npt.NDArray[Any]
# A guess that explains less than this share of the faults is none.
_LEAST_EXPLAINED = 0.5
# One that explains less than this is not the whole cause.
_MOSTLY_EXPLAINED = 0.9
# Where some guess explains this share, no search is made.
_WELL_EXPLAINED = 0.99
# Another guess that explains as much, and takes hardly more bits to say, is told beside it.
_AS_GOOD = 3.0
# A source that nearly always fires adds a constant: its weight and the neuron's threshold are hard to tell apart.
_ALIKE = 9.0
_MOST_SHOWN = 5
# Neurons that never fire, or always: any threshold that is out of reach explains that as well.
_PLAIN = ("silent", "stuck")
# These say no more than which spikes are wrong.
_NAMED_ONE_BY_ONE = ("isolated", "lost spikes")
# Sources of which either version of the spikes is tried.
_MOST_TOUCHED = 4


def explain(graph: Graph, bound: Bound, clues: Clues, frames: int, comparison: str) -> Explanation:
    """Return the explanation of a comparison with faults.

    Parameters
    ----------
    graph : Graph
    bound : Bound
        Of the comparison.
    clues : Clues
        With at least one fault.
    frames : int
        That were verified.
    comparison : str
        As it is called in sentences.
    """
    sample = clues.sample()
    found = _Trace(graph, bound, sample)
    layers = tuple(
        _layer(graph, bound, sample, clues.counts[name], suspect, found, comparison)
        for name, suspect in found.suspects.items()
        if name in clues.counts
    )
    named = {own.layer for own in layers} | set(found.echoes)
    outputs = explain_outputs(graph, sample, found.known, clues.output_faults, comparison) if not layers else ()
    return Explanation(
        comparison,
        frames,
        clues.faulty_frames,
        layers,
        outputs,
        tuple(name for name in graph.population_names if clues.differing.get(name) and name not in named),
        tuple(found.echoes),
    )


@dataclass(frozen=True)
class _Suspect:
    """A layer at fault: what its sources sent, as far as can be told, and where rounding excuses it."""

    sent: dict[str, Array]
    undecided: BoolArray


class _Trace:
    """Goes through the layers from input to output and tells those that err from those that follow.

    Attributes
    ----------
    known : dict of node name to array
        Observed spikes, and the oracle's where none were observed.
    suspects : dict of population name to _Suspect
    echoes : list of str
        Layers explained by spikes that their sources sent, though not as recorded.
    recorded_wrong : set of str
    """

    def __init__(self, graph: Graph, bound: Bound, sample: Sample) -> None:
        self.graph, self.bound, self.sample = graph, bound, sample
        self.known: dict[str, Array] = dict(sample.signals)
        self.sent: dict[str, Array] = dict(sample.signals)  # what was sent, where that is not what was recorded
        self.doubt: dict[str, BoolArray] = {}
        self.suspects: dict[str, _Suspect] = {}
        self.echoes: list[str] = []
        self.recorded_wrong: set[str] = set()
        for population in graph.populations:
            self._take(population.name)

    def _take(self, name: str) -> None:
        fired, open_ = self._fired(name, self.known)
        if name not in self.sample.observed:
            self.known[name], self.doubt[name] = fired, open_
            self.sent[name] = self._fired(name, self.sent)[0]
            return
        observed = self.sample.observed[name]
        wrong = int(np.count_nonzero((fired != observed) & ~open_))
        self.known[name] = self.sent[name] = observed
        if not wrong:
            return
        sources, left, fired, open_ = self._best_sources(name, wrong, fired, open_)
        otherwise = [source for source in sources if not _same(sources[source], self.known[source])]
        self.recorded_wrong.update(otherwise)
        if left == 0:
            self.echoes.append(name)
            return
        self.suspects[name] = _Suspect({**self.known, **sources}, open_)
        # Layers behind it may have got these spikes, or those that were recorded.
        self.sent[name] = fired

    def _fired(self, name: str, signals: Mapping[str, Array]) -> tuple[BoolArray, BoolArray]:
        population = self.graph.population(name)
        a = potential(self.graph, name, signals)
        error = self.bound.error(name, signals) + doubted(self.graph, name, self.doubt)
        open_ = undecided(np.abs(a - population.threshold), error, self.bound.blur(name, signals))
        return fires(population, a), open_

    def _best_sources(
        self, name: str, wrong: int, fired: BoolArray, open_: BoolArray
    ) -> tuple[dict[str, Array], int, BoolArray, BoolArray]:
        """Return the version of each source, recorded or as it should have been, that explains most of this layer."""
        observed = self.sample.observed[name]
        touched = [
            source
            for source in dict.fromkeys(p.source for p in self.graph.incoming(name))
            if not _same(self.known[source], self.sent[source])
        ][:_MOST_TOUCHED]
        best: tuple[dict[str, Array], int, BoolArray, BoolArray] = ({}, wrong, fired, open_)
        for choice in product((self.known, self.sent), repeat=len(touched)):
            own = {source: version[source] for source, version in zip(touched, choice, strict=True)}
            fired, open_ = self._fired(name, {**self.known, **own})
            left = int(np.count_nonzero((fired != observed) & ~open_))
            # The recorded spikes are believed unless others explain clearly more.
            if left < 0.7 * best[1]:
                best = (own, left, fired, open_)
        return best


def _same(one: Array, other: Array) -> bool:
    return one is other or bool(np.array_equal(one, other))


def _layer(
    graph: Graph, bound: Bound, sample: Sample, count: LayerCount, suspect: _Suspect, trace: _Trace, comparison: str
) -> LayerFaults:
    name = _name_of(trace, suspect)
    cases = list(_cases(graph, sample, suspect, name, comparison))
    neurons = np.flatnonzero(count.neurons)
    return LayerFaults(
        name,
        graph.population(name).size,
        count.missing + count.extra,
        count.missing,
        count.extra,
        len(neurons),
        count.frames,
        describe(neurons, graph.population(name).shape)[0],
        _first(graph, bound, sample, cases[0], count),
        cause_of(cases),
        name in trace.recorded_wrong,
    )


def _name_of(trace: _Trace, suspect: _Suspect) -> str:
    return next(name for name, own in trace.suspects.items() if own is suspect)


def _cases(graph: Graph, sample: Sample, suspect: _Suspect, name: str, comparison: str) -> Iterator[Case]:
    """Yield the layer itself, and the layer before it that nobody observed: a pool shows what it pools."""
    observed = sample.observed[name]
    yield Case(graph, name, name, suspect.sent, observed, suspect.undecided, sample, comparison)
    incoming = graph.incoming(name)
    if len(incoming) == 1 and incoming[0].source not in (*sample.observed, *sample.signals):
        core = incoming[0].source
        yield Case(graph, name, core, suspect.sent, observed, suspect.undecided, sample, comparison)


def cause_of(cases: list[Case]) -> Cause:
    """Return the likeliest cause of a layer's faults, among all hypotheses on all views of it."""
    guesses = _guesses(cases, HYPOTHESES)
    if (
        max((guess.explained for _, guess in guesses if guess.kind not in _NAMED_ONE_BY_ONE), default=0.0)
        < _WELL_EXPLAINED
    ):
        guesses += _guesses(cases, SEARCHES)
    if not guesses:
        own = unexplained(cases[0])
        return Cause(own.kind, own.sentence, 0.0)
    guesses.sort(key=lambda pair: pair[0])
    cost, best = guesses[0]
    sentence = best.sentence
    if best.explained < _MOSTLY_EXPLAINED:
        sentence += ", and more than that"
    for other_cost, other in guesses[1:]:
        if other_cost > cost + (_ALIKE if {best.kind, other.kind} == {"threshold", "weight"} else _AS_GOOD):
            continue
        if best.kind in _PLAIN:
            break
        if other.kind != best.kind and other.explained >= best.explained:
            sentence += f"; or else {other.sentence}"
            break
    return Cause(best.kind, sentence, max(0.0, best.explained))


def _guesses(cases: list[Case], hypotheses: tuple[Hypothesis, ...]) -> list[tuple[float, Guess]]:
    """Return the guesses that explain something, each with what it costs to say it and to name what it leaves."""
    found = []
    for case in cases:
        if not case.faults():
            continue
        for hypothesis in hypotheses:
            for guess in hypothesis(case):
                if guess.faults and guess.explained >= _LEAST_EXPLAINED:
                    scale = case.faults() / guess.faults
                    found.append((guess.bits + guess.left * scale * case.bits_of_one, guess))
    return found


def _first(graph: Graph, bound: Bound, sample: Sample, case: Case, count: LayerCount) -> NeuronFault | None:
    """Return a fault of the first faulty frame: that of the neuron that errs most often."""
    if not len(case.bad_rows):
        return None
    row = int(case.bad_rows[0])
    wrong = np.flatnonzero(case.bad[row])
    neuron = int(wrong[np.argmax(count.neurons[wrong])])
    return neuron_fault(graph, bound, case, row, neuron, int(sample.frames[row]))


def neuron_fault(
    graph: Graph, bound: Bound, case: Case, row: int, neuron: int, frame: int, most: int = _MOST_SHOWN
) -> NeuronFault:
    """Return one spike of a case, its potential and what added to it.

    Parameters
    ----------
    row, neuron : int
        Place in the case.
    frame : int
    most : int
        Contributions to keep.
    """
    sources = {p.source for p in graph.incoming(case.name)}
    one = {name: case.sent[name][row : row + 1] for name in sources}
    error = np.broadcast_to(bound.error(case.name, one) + bound.blur(case.name, one), (1, *case.shape))
    added, number = contributions(graph, case.name, neuron, {name: values[0] for name, values in one.items()}, most)
    return NeuronFault(
        frame,
        case.name,
        index_of(neuron, case.shape),
        float(case.potential[row, neuron]),
        float(case.threshold[neuron]),
        float(error.reshape(-1)[neuron]),
        float(case.bias[neuron]),
        bool(case.observed[row, neuron]),
        added,
        number,
    )
