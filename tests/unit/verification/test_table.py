"""What people read: names, verdicts and advice must survive the drawing."""

from __future__ import annotations

import numpy as np
import pytest

from strop.cli.backends_table import render_backends
from strop.conformance import golden_case
from strop.costs.inspection import Inspection, inspect_graph
from strop.display import render_page
from strop.running.registry import BackendStatus
from strop.verification.outcome import BackendReport, KerasReport, LayerReport
from strop.verification.report import Report
from strop.verification.table import render_report

TOTALS = {"populations": 1, "neurons": 3, "synapses": 4, "depth": 1, "stored_bytes": 8, "expanded_bytes": 24}


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
    assert ">Failed</p>" in page
    assert "17 faults</strong>" in page
    assert "dense[0]" in page
    assert "src=" not in page
    assert "://" not in page


def test_advice_with_brackets_is_not_taken_for_markup() -> None:
    status = BackendStatus("nengo", False, "", "", (), "Install it with: pip install 'strop[nengo]'")
    assert "strop[nengo]" in " ".join(render_backends([status]).split())


def test_a_mapping_is_drawn_as_lines_and_tables() -> None:
    target = {
        "name": "chip",
        "version": "chip 1.0",
        "problem": "",
        "fidelity": [["dense[0]", "exact within 1.0e-05", "16 bits"]],
        "mapping": {
            "version": "chip 1.0",
            "boards": 1,
            "sdram": 1_234_567,
            "populations": [
                {"name": "dense[0]", "units": 1200, "shifts": [5, 6], "spikes_per_tick": 32.0, "sdram": 91304},
                {"name": "x", "units": 3, "shifts": None, "spikes_per_tick": None, "sdram": 12},
            ],
            "warnings": ["the chip [is] warm"],
            "fixed_point": [
                {"scaling": "own", "different": 41, "layers": [{"name": "dense[0]", "grid": 0.001953125}]},
                {"scaling": "measured", "different": 0, "layers": [{"name": "dense[0]", "grid": 2.0**-15}]},
            ],
        },
    }
    inspection = Inspection("m[1].strop", [], dict(TOTALS), [], [], target)
    text = str(inspection)
    assert "boards 1, sdram 1.2 MB" in text
    assert "dense[0]: exact within 1.0e-05 (16 bits)" in text
    row = next(line for line in text.splitlines() if "1,200" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["dense[0]", "1,200", "5, 6", "32", "91.3 kB"]
    assert "spikes per tick" in text
    assert "warnings: the chip [is] warm" in text
    assert "fixed point: scaling own, different 41" in text
    assert "fixed point: scaling measured, different 0" in text
    assert "3.05e-05" in text
    assert text.count("chip 1.0") == 1
    assert "{" not in text


def test_a_target_that_maps_nothing_takes_frames_too() -> None:
    graph = golden_case("dense").graph
    found = inspect_graph(graph, "reference", np.zeros((1, *graph.inputs[0].shape)))
    assert found.target is not None
    assert "mapping" not in found.target
    assert found.activity is not None
    assert found.activity["frames"] == 1


def test_backends_say_how_faithful_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from strop.running.reference import ReferenceBackend
    from strop.running.registry import backend_status

    assert backend_status("reference").fidelity == "exact in float64"
    monkeypatch.setattr(ReferenceBackend, "resolution", 2.0**-10)
    assert "exact within 0.001" in backend_status("reference").fidelity
    monkeypatch.setattr(ReferenceBackend, "fidelity", lambda self, graph: [])
    assert "--target reference" in backend_status("reference").fidelity
