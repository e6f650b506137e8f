"""Proofs beside comparisons: who is proved for all inputs, why others are not, and what refutes a proof."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import strop as run

import strop
from strop.display import render_page
from strop.graph import Composed, Dense, Graph, Input, Population, Projection, Sparse
from strop.quantization import certify as certify_module
from strop.running.arithmetic import FLOAT64, Arithmetic
from strop.running.backend import Backend, Runner
from strop.running.reference import ReferenceBackend

RNG = np.random.default_rng(5)
WEIGHT, LAST = RNG.integers(-3, 4, (8, 12)).astype(float), RNG.integers(-3, 4, (12, 5)).astype(float)
FRAMES = RNG.integers(0, 2, (60, 8)).astype(np.float32)


def network(threshold: float = 1.5, bias: float = 0.0, encoding: str = "binary", weight: Any = WEIGHT) -> Graph:
    return Graph.from_nodes(
        [Input("x", (8,), encoding)],
        [Population("a", (12,), threshold, bias), Population("b", (5,), 0.5, 0.0)],
        [("x", "a", Dense(weight)), ("a", "b", Dense(LAST))],
        (),
        ["b"],
    )


class Spoilt(ReferenceBackend):
    """Runs another graph than it is given, or does something to its spikes."""

    name = "spoilt"

    def __init__(self, changed: Callable[[Graph], Graph]) -> None:
        self.changed = changed

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        return super().prepare(self.changed(graph), **options)


def with_weight(graph: Graph, value: float) -> Graph:
    """The graph with one weight changed."""
    first, *rest = graph.projections
    assert isinstance(first.operator, Dense)
    weight = first.operator.weight.copy()
    weight[0, 0] += value
    return replace(graph, projections=(replace(first, operator=Dense(weight)), *rest))


class Unstated(ReferenceBackend):
    """A backend that leaves `arithmetic` to its base class."""

    name = "unstated"
    arithmetic = Backend.arithmetic


class Above(ReferenceBackend):
    """Fires above its threshold alone, and states a comparator."""

    name = "above"

    def __init__(self, stated: str) -> None:
        self.stated = stated

    @property
    def arithmetic(self) -> Arithmetic:
        return replace(FLOAT64, name=self.name, comparator=self.stated)

    def prepare(self, graph: Graph, **options: Any) -> Runner:
        raised = [
            replace(p, threshold=np.nextafter(p.threshold, np.inf)) if p.name == "a" else p for p in graph.populations
        ]
        return super().prepare(replace(graph, populations=tuple(raised)), **options)


def test_what_is_whole_is_proved_and_stands_in_table_json_and_page() -> None:
    report = strop.verify(network(), FRAMES, backends=["reference"])
    assert report.passed
    assert report.proved == ["reference"]
    assert "equal for all inputs, proved: reference (spikes, not read-outs)" in str(report)
    found = report.to_dict()
    assert found["proved_for_all_inputs"] == ["reference"]
    assert found["backends"]["reference"]["proof"] == {
        "proved": True,
        "refuted": False,
        "reason": "",
        "source": "strop.running.oracle: NumPy in float64",
    }
    page = render_page(report)
    proof, layers = page.index('<section id="proof"'), page.index('<section id="layers"')
    assert page.index('id="proved"') < page.index("compared with the float64 oracle") < proof < layers
    assert "Equal for all inputs, proved: reference." in page
    assert "equal on 60 frames" in page
    assert "Read-outs are not part of the proof" in page


def test_what_is_not_whole_says_why_and_passes_on_its_frames() -> None:
    report = strop.verify(network(bias=0.1), FRAMES, backends=["reference"])
    assert report.passed
    assert report.proved == []
    said = "a, neuron 0: its weights and its bias are no whole numbers of one grid"
    assert report.to_dict()["backends"]["reference"]["proof"]["reason"].startswith(said)
    assert "not proved for all inputs: reference (a, neuron 0: its weights" in " ".join(str(report).split())
    page = render_page(report)
    assert 'id="proved"' not in page
    assert said in page


@pytest.mark.parametrize("value", [1.0, -2.0, 3.0])
def test_a_weight_that_is_changed_behind_the_certificate_refutes_it(value: float) -> None:
    spoilt = Spoilt(lambda graph: with_weight(graph, value))
    report = strop.verify(network(), FRAMES, backends=[spoilt, "reference"])
    wrong = report.backends["spoilt"]
    assert wrong.faults > 0
    assert report.verdict == "failed"
    assert report.proved == ["reference"]
    assert f"all spikes are proved equal in the arithmetic that it states, and {wrong.faults} differ" in str(
        report.problems()
    )
    proof = report.to_dict()["backends"]["spoilt"]["proof"]
    assert (proof["proved"], proof["refuted"]) == (False, True)
    page = render_page(report)
    assert "refuted</strong>" in page
    assert "Equal for all inputs, proved: reference." in page


def test_a_comparator_that_is_stated_is_not_proved_and_one_that_is_not_refutes_the_proof() -> None:
    graph = network(threshold=2.0)
    lying = strop.verify(graph, FRAMES, backends=[Above(">=")])
    assert lying.backends["above"].faults > 0
    assert lying.proved == []
    assert any("are proved equal in the arithmetic that it states" in problem for problem in lying.problems())
    honest = strop.verify(graph, FRAMES, backends=[Above(">")])
    proof = honest.to_dict()["backends"]["above"]["proof"]
    assert proof["proved"] is proof["refuted"] is False
    assert "a sum can be equal to the threshold" in proof["reason"]
    # Half-way between whole numbers, both comparators are the same.
    assert strop.verify(network(threshold=1.5), FRAMES, backends=[Above(">")]).proved == ["above"]


def test_a_tie_refutes_a_proof_as_well_as_a_fault() -> None:
    report = strop.verify(network(), FRAMES, backends=["reference"])
    run_report = report.backends["reference"]
    run_report.layers[0].ties = 1
    assert report.proved == []
    assert not report.passed
    assert "and 1 differ" in report.problems()[0]


def test_a_backend_that_states_no_arithmetic_is_not_proved() -> None:
    report = strop.verify(network(), FRAMES, backends=[Unstated()])
    assert report.passed
    assert report.proved == []
    reason = report.to_dict()["backends"]["unstated"]["proof"]["reason"]
    assert reason == "it states no arithmetic of its own (Backend.arithmetic)"


def test_wide_integers_prove_nothing_where_the_oracle_rounds() -> None:
    class Wide(ReferenceBackend):
        name = "wide"

        @property
        def arithmetic(self) -> Arithmetic:
            return Arithmetic("wide", None, 60, source="made up")

    graph = network(weight=WEIGHT + 2.0**54)
    reason = strop.verify(graph, FRAMES, backends=[Wide()]).to_dict()["backends"]["wide"]["proof"]["reason"]
    assert reason.startswith("the oracle's sums are rounded: a, neuron 0: its heaviest weight")


def test_values_and_networks_on_the_host_are_not_proved() -> None:
    driven = strop.verify(network(encoding="current"), FRAMES, backends=["reference"])
    assert "driven by the values of 'x'" in driven.to_dict()["backends"]["reference"]["proof"]["reason"]
    alone = Graph.from_nodes(
        [Input("x", (8,))], [Population("a", (12,), 1.5, 0.0)], [("x", "a", Dense(WEIGHT))], (), ["a"]
    )
    proof = strop.verify(alone, FRAMES, backends=["reference"]).to_dict()["backends"]["reference"]["proof"]
    assert (proof["proved"], proof["reason"]) == (False, "the host evaluates all populations")


def test_nothing_large_is_expanded_for_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify_module, "MOST_EXPANDED", 10)
    pre, post = np.divmod(np.arange(96), 12)
    node, population = Input("x", (8,), "binary"), Population("a", (12,), 1.5, 0.0)
    operator = Composed((Sparse((8,), (12,), pre, post, WEIGHT.reshape(-1)), Dense(np.eye(12))))
    graph = Graph((node,), (population,), (Projection("x", "a", operator),), (), ("a",))
    reason = strop.verify(graph, FRAMES, backends=["reference"]).to_dict()["backends"]["reference"]["proof"]["reason"]
    assert reason.startswith("not tried: ")
    assert "strop.certify does that" in reason
    assert strop.certify(graph, "reference").holds


def test_every_backend_of_strop_states_its_arithmetic_and_where_it_is_known_from() -> None:
    from importlib.metadata import entry_points

    for entry in entry_points(group="strop.backends"):
        backend = entry.load()()
        assert backend.states_arithmetic, entry.name
        assert backend.arithmetic.name == entry.name
        assert len(backend.arithmetic.source) > 20


def test_the_command_line_shows_the_proof_first(tmp_path: Path) -> None:
    network().save(tmp_path / "net.strop")
    np.savez(tmp_path / "data.npz", x=FRAMES)
    command = ["verify", str(tmp_path / "net.strop"), "--data", str(tmp_path / "data.npz"), "--backends", "reference"]
    result = run(*command, "--json", str(tmp_path / "out.json"))
    assert result.returncode == 0
    assert result.stdout.index("equal for all inputs, proved: reference") < result.stdout.index("neurons")
    assert json.loads((tmp_path / "out.json").read_text())["proved_for_all_inputs"] == ["reference"]
