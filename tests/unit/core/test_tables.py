"""What people read: names, verdicts and advice must survive the drawing."""

from __future__ import annotations

import pytest

from strop.backend import BackendStatus
from strop.page import render_page
from strop.report import BackendReport, KerasReport, LayerReport, Report
from strop.tables import render_backends, render_report


def report(backends: int, faults: int = 0) -> Report:
    def layers(wrong: int = 0) -> list[LayerReport]:
        return [LayerReport("conv", 144, 1440), LayerReport("dense[0]", 20, 90, wrong, 2)]

    runs = {
        f"sim{n}": BackendReport(f"sim {n}", 0, True, 0.975, 1.0, 0.5, 30, layers(faults if n == backends - 1 else 0))
        for n in range(backends)
    }
    graph = {"populations": 2, "neurons": 164, "synapses": 99, "depth": 2, "synaptic_events_per_frame": 12.0}
    return Report("tiny[1].keras", 30, KerasReport(0.975, 0.1, layers()), runs, graph)


@pytest.mark.parametrize("backends", [1, 3, 4, 7])
def test_reports_name_every_layer_and_comparison_however_many(backends: int) -> None:
    text = render_report(report(backends))
    for word in (
        "tiny[1].keras",
        "Keras",
        "conv",
        "dense[0]",
        "97.50 %",
        "PASSED",
        *(f"sim{n}" for n in range(backends)),
    ):
        assert word in text
    assert "FAIL" not in text
    assert all(len(line) <= 110 for line in text.splitlines())


@pytest.mark.parametrize("backends", [2, 7])
def test_faults_are_shown_where_they_are(backends: int) -> None:
    text = render_report(report(backends, faults=17))
    assert "FAILED" in text
    assert "17" in text
    assert "PASSED" not in text


def test_the_page_says_the_same_and_loads_nothing() -> None:
    page = render_page(report(2, faults=17))
    assert "Failed: there are faults" in page
    assert "<strong>17 faults</strong>" in page
    assert "dense[0]" in page
    assert "src=" not in page
    assert "href=" not in page


def test_advice_with_brackets_is_not_taken_for_markup() -> None:
    status = BackendStatus("nengo", False, "", "", (), "Install it with: pip install 'strop[nengo]'")
    assert "strop[nengo]" in " ".join(render_backends([status]).split())
