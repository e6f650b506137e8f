"""When a verification passes, passes with reservations, or fails; and that it notices when it has gone blind."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from strop.errors import StropError
from strop.graph import Dense, Graph, Input, Population, Readout
from strop.running.backend import Runner
from strop.running.reference import ReferenceBackend
from strop.running.simulate import simulate
from strop.verification.comparison import Comparison
from strop.verification.judge import Judgement, Verdict
from strop.verification.outcome import BackendReport, KerasReport, LayerReport, OutputReport
from strop.verification.report import Report
from strop.verification.verify import verify


def network(bias: float = 0.0, threshold: float = 0.5) -> Graph:
    rng = np.random.default_rng(0)
    return Graph.from_nodes(
        [Input("x", (6,))],
        [Population("a", (8,), 0.5, 0.0), Population("b", (9,), threshold, bias)],
        [("x", "a", Dense(rng.normal(size=(6, 8)))), ("a", "b", Dense(rng.normal(size=(8, 9))))],
        [Readout("out", "softmax", ("b",), (Dense(rng.normal(size=(9, 3))),), np.zeros(3))],
        ["out"],
    )


FRAMES = np.random.default_rng(1).random((40, 6), np.float32)


# Layers in which nothing is compared ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bias", "which", "words"), [(-50.0, "silent", "no neuron"), (50.0, "saturated", "every neuron")]
)
def test_layers_that_never_or_always_fire_are_reservations(bias: float, which: str, words: str) -> None:
    report = verify(network(bias), FRAMES, backends=["reference"])
    assert getattr(report, which) == ["b"]
    assert (report.passed, report.verdict) == (True, "passed with reservations")
    (said,) = report.reservations()
    assert said.startswith("nothing was compared in b")
    assert words in said
    assert "WITH RESERVATIONS" in str(report)
    assert "nothing was compared in b" in str(report)
    assert report.to_dict()["reservations"] == [said]
    strict = verify(network(bias), FRAMES, backends=["reference"], strict=True)
    assert (strict.passed, strict.verdict) == (False, "failed")
    assert said in strict.problems()


def test_a_network_in_which_something_happens_passes_plainly() -> None:
    report = verify(network(), FRAMES, backends=["reference"], strict=True)
    assert (report.verdict, report.silent, report.saturated) == ("passed", [], [])
    assert "100.00 %" in str(report)


# Shares of ties ------------------------------------------------------------------------------------------------------


def layer(ties: int = 0, undecided: int = 0, faults: int = 0, compared: int = 10_000) -> LayerReport:
    return LayerReport("dense", 100, 50, faults, ties, compared, max(undecided, ties))


def report_of(keras: LayerReport, *, strict: bool = False, output: OutputReport | None = None) -> Report:
    outputs = [] if output is None else [output]
    totals = {"populations": 1, "neurons": 100, "synapses": 9, "depth": 1, "synaptic_events_per_frame": 1.0}
    return Report("m", 100, KerasReport(layers=[keras], outputs=outputs), {"sim": BackendReport("1")}, totals, strict)


@pytest.mark.parametrize(
    ("keras", "plain", "strict"),
    [
        (layer(), "passed", "passed"),
        (layer(ties=10), "passed", "failed"),
        (layer(ties=11), "failed", "failed"),
        (layer(ties=2, compared=20), "passed", "failed"),
        (layer(ties=3, compared=20), "failed", "failed"),
        (layer(undecided=100), "passed", "passed"),
        (layer(undecided=101), "passed with reservations", "failed"),
        (layer(faults=1), "failed", "failed"),
    ],
)
def test_verdicts_by_share(keras: LayerReport, plain: str, strict: str) -> None:
    for wanted, expected in ((False, plain), (True, strict)):
        report = report_of(keras, strict=wanted)
        assert report.verdict == expected
        assert report.passed == (expected != "failed") == report.to_dict()["passed"]
        assert bool(report.problems()) == (expected == "failed")


def test_a_wrong_value_in_an_output_fails() -> None:
    report = report_of(layer(), output=OutputReport("probabilities", 300, 1, 0, 1, 0.25))
    assert not report.passed
    assert report.problems() == [
        "Keras's output 'probabilities' differs from the read-out's in 1 of 300 values, by up to 0.25"
    ]
    assert report.to_dict()["keras"]["outputs"][0]["faults"] == 1
    assert "1 FAULTS" in str(report)


def test_the_share_that_is_decided_never_rounds_up_to_all() -> None:
    shown = str(report_of(layer(undecided=1, compared=10_000_000)))
    assert "99.99999 %" in shown


# Answers that no tie explains ----------------------------------------------------------------------------------------


def test_answers_that_differ_without_a_tie_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spikes are equal and answers are not: then decoding itself is at fault."""
    module = import_module("strop.verification.session")
    honest, calls = module.decode, []

    def wavering(graph: Graph, spikes: Any) -> Any:
        calls.append(1)
        answers = honest(graph, spikes)
        return answers if len(calls) % 2 else [np.roll(answer, 1, axis=-1) for answer in answers]

    monkeypatch.setattr(module, "decode", wavering)
    report = verify(network(), FRAMES, backends=["reference"])
    assert not report.passed
    assert report.backends["reference"].unexplained > 0
    assert "no tie explains it" in report.problems()[0]


class OddBackend(ReferenceBackend):
    name = "odd"

    def __init__(self, change: Any) -> None:
        self.change = change

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        honest, change = super().prepare(graph), self.change

        class Odd(Runner):
            def run(self, signals: Any) -> Any:
                return change(dict(honest.run(signals)))

        return Odd()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spikes: {"b": spikes["b"]}, "odd gave no spikes of a"),
        (lambda spikes: {**spikes, "b": spikes["b"][:-1]}, "shape"),
        (lambda spikes: {**spikes, "b": spikes["b"].astype(int)}, "int64"),
        (lambda spikes: {**spikes, "c": spikes["b"]}, "'c'"),
        (lambda spikes: None, "odd gave a NoneType in place of a dict"),
        (lambda spikes: list(spikes.values()), "odd gave a list in place of a dict"),
        (lambda spikes: {**spikes, "b": spikes["b"].tolist()}, "odd gave a list for the spikes of 'b'"),
        (lambda spikes: {**spikes, "b": None}, "odd gave a NoneType for the spikes of 'b'"),
    ],
)
def test_what_a_backend_gives_must_be_spikes_of_every_population(change: Any, words: str) -> None:
    with pytest.raises(StropError, match=words):
        verify(network(), FRAMES, backends=[OddBackend(change)])


class Agreeable(np.ndarray):
    """Equal to everything."""

    def __ne__(self, other: Any) -> Any:
        return np.zeros(self.shape, bool)


@pytest.mark.parametrize(
    "hide",
    [
        lambda wrong: np.ma.MaskedArray(wrong, np.ones(wrong.shape, bool)),
        lambda wrong: wrong.view(Agreeable),
    ],
)
def test_arrays_that_compare_in_their_own_way_hide_no_fault(hide: Any) -> None:
    def changed(spikes: dict[str, Any]) -> dict[str, Any]:
        wrong = spikes["b"].copy()
        wrong[20] ^= True
        return {**spikes, "b": hide(wrong)}

    report = verify(network(), FRAMES, backends=[OddBackend(changed)])
    assert report.backends["odd"].layers[1].faults == 9


@pytest.mark.parametrize("function", [verify, simulate])
def test_a_backend_cannot_change_the_signals_that_it_is_compared_on(function: Any) -> None:
    """What it gave would be right for the frames that it made of them."""

    class Reversing(ReferenceBackend):
        name = "reversing"

        def prepare(self, graph: Graph, **options: Any) -> Any:
            honest = super().prepare(graph)

            class Runs(Runner):
                def run(self, signals: Any) -> Any:
                    signals["x"][:] = signals["x"][::-1].copy()
                    return honest.run(signals)

            return Runs()

    with pytest.raises(ValueError, match="read-only"):
        function(network(), FRAMES, **({"backends": Reversing()} if function is verify else {"backend": Reversing()}))


def test_two_backends_of_one_name_are_refused() -> None:
    """The results of one would stand for both."""

    def wrong(spikes: dict[str, Any]) -> dict[str, Any]:
        return {name: ~values for name, values in spikes.items()}

    for backends in ([OddBackend(wrong), OddBackend(dict)], [OddBackend(wrong), "odd", OddBackend(dict)]):
        with pytest.raises(StropError, match="two backends are called 'odd'|no backend 'odd'"):
            verify(network(), FRAMES, backends=backends)
    for name in ("keras", "", 5):
        backend = OddBackend(dict)
        backend.name = name  # type: ignore[assignment, misc]
        with pytest.raises(StropError, match="a name of its own, other than 'keras'"):
            verify(network(), FRAMES, backends=backend)


def test_names_of_backends_are_no_markup() -> None:
    backend = OddBackend(dict)
    backend.name = "[red]mine[/blue]"  # type: ignore[misc]
    assert "[red]mine[/blue]" in str(verify(network(), FRAMES, backends=backend))


# A comparison that has gone blind ------------------------------------------------------------------------------------


def _blind_mask(judge: Any) -> Any:
    def broken(*args: Any) -> Judgement:
        found = judge(*args)
        none = {n: Verdict(v.faults & False, v.ties, v.undecided) for n, v in found.verdicts.items()}
        return replace(found, verdicts=none)

    return broken


def _lenient(undecided: Any) -> Any:
    return lambda margin, error, blur=None: np.ones(np.shape(margin), dtype=bool)


def _forgetful(add: Any) -> Any:
    return lambda self, judgement: None


def _last_frame_left_out(compare: Any) -> Any:
    def broken(self: Any, observed: Any, oracle: Any, signals: Any, near: Any = None) -> Any:
        last = {name: values.copy() for name, values in observed.items()}
        for name in last:
            last[name][-1] = oracle[name][-1]
        return compare(self, last, oracle, signals, near)

    return broken


@pytest.mark.parametrize(
    ("where", "what", "breaks"),
    [
        ("strop.verification.comparison", "judge", _blind_mask),
        ("strop.verification.comparison.Comparison", "_add", _forgetful),
        ("strop.verification.comparison.Comparison", "compare", _last_frame_left_out),
    ],
)
def test_a_blind_comparison_reports_itself(monkeypatch: pytest.MonkeyPatch, where: str, what: str, breaks: Any) -> None:
    owner: Any = Comparison if where.endswith("Comparison") else import_module(where)
    monkeypatch.setattr(owner, what, breaks(getattr(owner, what)))
    with pytest.raises(StropError, match="comparison with reference is broken"):
        verify(network(), FRAMES, backends=["reference"])


def test_a_verdict_that_always_passes_reports_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "problems", lambda self: [])
    with pytest.raises(StropError, match="planted faults in its verdict"):
        verify(network(), FRAMES, backends=["reference"])


def test_a_backend_that_resolves_nothing_is_a_reservation() -> None:
    """Its bound excuses every answer: no fault can be planted, and none could be found."""

    class Blurred(ReferenceBackend):
        name = "blurred"
        resolution = 1e9

    report = verify(network(), FRAMES, backends=[Blurred()])
    assert report.verdict == "passed with reservations"
    # The host evaluates the first layer.
    assert report.reservations() == ["blurred: no spike of b is beyond what it resolves"]
    assert not verify(network(), FRAMES, backends=[Blurred()], strict=True).passed


def test_where_everything_counts_as_undecided_nothing_passes_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that excuses everything leaves nowhere to plant a fault: that must not pass for a comparison."""
    module = import_module("strop.verification.judge")
    monkeypatch.setattr(module, "undecided", _lenient(module.undecided))
    with pytest.raises(StropError, match="broken"):
        verify(network(), FRAMES, backends=["reference"])
