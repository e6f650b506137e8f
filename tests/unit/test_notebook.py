"""What objects show of themselves in a notebook, and the bars of long work there."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pages import Page

import strop
from strop.errors import DataError
from strop.graph import Dense, Graph, Input, Population
from strop.graph.html_table import MOST_ROWS, html_table
from strop.running import progress
from strop.running.progress import Progress, in_notebook

BITING = "<script>alert(1)</script>"
WEIGHT = np.random.default_rng(0).integers(-2, 3, (6, 4)).astype(float)
FRAMES = np.random.default_rng(1).integers(0, 2, (30, 6)).astype(np.float32)


def network() -> Graph:
    return Graph.from_nodes(
        [Input("x", (6,), "binary")],
        [Population(BITING, (4,), 0.5, 0.0), Population("b", (4,), 1.0, 0.0)],
        [("x", BITING, Dense(WEIGHT)), (BITING, "b", Dense(np.eye(4)))],
        (),
        ["b"],
    )


def shown(thing: Any) -> str:
    """Return what a notebook shows; assert that it is a sound piece of HTML, with biting names escaped."""
    text: str = thing._repr_html_()
    page = Page(text)
    assert page.unbalanced == []
    assert page.open == []
    assert "<script>" not in text
    assert not [given for _, given in page.elements if "style" in given or "src" in given]
    return text


def test_a_graph_shows_its_populations() -> None:
    text = shown(network())
    assert "&lt;script&gt;" in text
    synapses = int((WEIGHT != 0).sum())
    assert f"8 neurons, {synapses + 4} synapses, depth 2; input: x 6 (binary)" in text
    assert f"<td>{synapses}</td>" in text


def test_results_certificates_inspections_and_reports_show_their_numbers() -> None:
    graph = network()
    result = strop.simulate(graph, FRAMES, "reference")
    text = shown(result)
    assert f"<td>{int(result.spikes['b'].sum())}</td>" in text
    assert "30 frames on reference" in text

    proved = shown(strop.certify(graph, "float64"))
    assert "proved for all inputs" in proved
    refused = shown(strop.certify(graph, replace(strop.quantization.targets.LOIHI)))
    assert "not proved" in refused
    assert "a sum can be equal to the threshold" in refused

    inspection = shown(strop.inspect(graph, FRAMES))
    assert "synaptic events per frame" in inspection
    assert "fan-in" in inspection

    report = strop.verify(graph, FRAMES, backends=["reference"])
    text = shown(report)
    assert "passed" in text
    assert "<td>proved</td>" in text
    report.backends["reference"].layers[0].faults = 3
    text = shown(report)
    assert "failed" in text
    assert "3 faults" in text
    assert "<td>not proved</td>" in text


def test_tables_are_cut_where_they_would_fill_a_notebook() -> None:
    text = html_table("t", ("n",), [(n,) for n in range(MOST_ROWS + 7)])
    assert text.count("<tr>") == MOST_ROWS + 1
    assert "7 more rows" in text


def test_a_report_writes_its_page_whole_or_not_at_all(tmp_path: Path) -> None:
    report = strop.verify(network(), FRAMES, backends=["reference"])
    report.save_html(tmp_path / "mine.html")
    text = (tmp_path / "mine.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "Equal for all inputs, proved: reference." in text
    with pytest.raises(DataError, match="does not exist"):
        report.save_html(tmp_path / "no" / "mine.html")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]


def test_dir_shows_public_names_alone() -> None:
    names = dir(strop)
    assert set(strop.__all__) <= set(names)
    assert {"display", "keras", "__version__"} <= set(names)
    assert [name for name in names if name.startswith("_")] == ["__version__"]
    assert not {"sys", "Any", "import_module", "annotations", "errors"} & set(names)
    assert all(getattr(strop, name) is not None for name in names if name != "keras")


def test_dir_of_the_keras_room_shows_public_names_alone() -> None:
    pytest.importorskip("keras")
    assert dir(strop.keras) == sorted(strop.keras.__all__)


# Bars ----------------------------------------------------------------------------------------------------------------


class _Handle:
    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, html: str) -> None:
        self.shown.append(html)


def kernel(monkeypatch: pytest.MonkeyPatch, shell: str) -> list[str]:
    """Put an IPython in place that keeps what it is told to display."""
    written: list[str] = []

    def display(html: str, display_id: bool) -> _Handle:
        assert display_id
        written.append(html)
        return _Handle(written)

    package, part = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: type(shell, (), {})()  # type: ignore[attr-defined]
    part.HTML, part.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    return written


def test_a_bar_moves_in_a_notebook_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written = kernel(monkeypatch, "ZMQInteractiveShell")
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    with Progress("verifying", 1200) as bar:
        bar.advance(300)
        bar.advance(900)
    assert written == [
        'verifying <progress value="0" max="1200"></progress> 0 of 1,200',
        'verifying <progress value="300" max="1200"></progress> 300 of 1,200',
        'verifying <progress value="1200" max="1200"></progress> 1,200 of 1,200',
        "",
    ]


def test_a_bar_without_an_end_waits_for_one_and_updates_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    written = kernel(monkeypatch, "ZMQInteractiveShell")
    monkeypatch.setattr(progress, "_PAUSE", 1e9)
    with Progress("training") as bar:
        bar.expect(5)
        for _ in range(5):
            bar.advance(1)
    assert written == [
        "training <progress></progress> 0",
        'training <progress value="0" max="5"></progress> 0 of 5',
        "",
    ]


def test_no_bar_is_shown_in_a_script_or_a_terminal_of_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    written = kernel(monkeypatch, "TerminalInteractiveShell")
    assert not in_notebook()
    with Progress("simulating", 3) as bar:
        bar.advance(3)
    assert written == []
