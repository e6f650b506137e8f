"""The pages as text: one file that loads nothing, well formed, small, and with the report's own numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from pages import BITING, FAULTY_FRAME, Page, copies, decoding_frames, decoding_network, full_report

from strop.display import render_page, render_training_page, write_page, write_training_page
from strop.errors import DataError
from strop.verification.report import Report

verify = import_module("strop.verification.verify").verify
MOST_BYTES = 5_000_000
FIGURES = {"verdict", "layer-table", "wave", "cards", "raster-canvas", "margins", "cost-table", "energy-table"} | {
    "speed-table",
    "versions",
    "play",
    "step",
    "frames",
}
HISTORY = {
    "loss": [2.0, 1.0, 0.5, 0.4],
    "accuracy": [0.25, 0.5, 0.75, 0.875],
    "val_loss": [1.5, 1.25, float("nan"), 0.625],
    "val_accuracy": [0.3, 0.6, 0.8, 0.9],
    "sharpened_accuracy": [0.1, 0.2, 0.7, 0.9],
    "sharpness_<b>one": [0.0, 0.5, 1.0, 1.0],
    "sharpness_two": [0.0, 0.0, 0.25, 1.0],
    "sharpness": [0.0, 0.25, 0.625, 1.0],
}


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return render_page(report)


def check_form(text: str) -> Page:
    """Assert what holds for every page, and return it taken apart."""
    page = Page(text)
    assert page.unbalanced == []
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert len(text.encode()) < MOST_BYTES
    links = [load for load in page.loads if load != "data:," and not load.startswith("data:image/svg+xml;base64,")]
    assert all(link.startswith("#") and link[1:] in page.ids for link in links)
    assert "://" not in text
    assert "@import" not in text
    assert [given.get("lang") for tag, given in page.elements if tag == "html"] == ["en"]
    assert sum(tag == "h1" for tag, _ in page.elements) == 1
    return page


def test_a_page_is_well_formed_and_loads_nothing(text: str) -> None:
    page = check_form(text)
    assert set(page.ids) >= FIGURES
    for tag, given in page.elements:
        assert "style" not in given, tag
        assert not [name for name in given if name.startswith("on")], tag
        if tag == "svg":
            assert given.get("aria-hidden") == "true" or (given["role"], bool(given["aria-label"])) == ("img", True)


def test_the_policy_allows_this_script_and_this_style_alone(text: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    for kind, element in (("script", "<script>"), ("style", "<style>")):
        content = text.split(element, 1)[1].split(f"</{kind}>", 1)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]


def test_names_that_bite_are_text(text: str, report: Report) -> None:
    assert BITING not in text
    assert "<b>model</b>" not in text
    page = Page(text)
    assert BITING in page.texts["th"]
    assert page.texts["h1"] == ["<b>model</b>"]
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]  # it is there
    assert data["populations"][0]["name"] == BITING
    assert report.evidence is not None
    assert [frame["index"] for frame in data["frames"]] == [frame.index for frame in report.evidence.frames]


def test_the_numbers_are_those_of_the_report(text: str, report: Report) -> None:
    page = Page(text)
    tiles = page.texts["dd"]
    assert f"{100 * report.backends['reference'].accuracy:.2f} %" in tiles  # type: ignore[operator]  # labels are given
    assert {"40", f"{report.graph['neurons']:,}", f"{report.graph['synapses']:,}", "4 steps"} <= set(tiles)
    events = f"{report.graph['synaptic_events_per_frame']:,.0f}"
    assert events in tiles
    cells = page.texts["td"]
    for layer in report.backends["reference"].layers:
        assert f"{layer.units:,}" in cells
        assert f"{layer.spikes / 40:,.1f}" in cells
    assert "1 fault" in page.texts["strong"]
    assert any(", 1 tie" in cell for cell in cells)
    assert "liar" in page.texts["th"]
    assert report.evidence is not None
    assert report.evidence.activity is not None
    assert events in cells
    sent = [report.evidence.activity.events_from(name) for name in decoding_network().population_names]
    assert sum(sent) > 0
    assert all(f"{count:,.0f}" in cells for count in sent)


def test_a_failed_verification_says_where_and_why_and_opens_on_the_faulty_frame(text: str, report: Report) -> None:
    (explanation,) = report.explanations()
    page = Page(text)
    assert "Failed: liar, layer code: isolated" in page.texts["p"]
    assert 'class="verdict failed"' in text
    lines = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert "liar errs in layer code" in lines["Cause"]
    assert f"frame {FAULTY_FRAME}" in lines["First"]
    assert lines["Extent"].startswith("1 faults in code")
    assert lines["Look"].endswith(f'"liar", frame={FAULTY_FRAME}, layer="code")')
    assert [f"{name}:" for name in ("Cause", "First", "Extent", "Origin", "Look")] == [
        line.split()[0] for line in explanation.lines()
    ]
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]  # it is there
    assert data["frames"][data["opening"]]["index"] == FAULTY_FRAME
    assert f"this is frame {FAULTY_FRAME}, layer by layer" in text


def test_a_passed_verification_says_so() -> None:
    frames, labels = decoding_frames()
    text = render_page(verify(decoding_network("conv"), frames, labels, backends=["reference"], evidence=True))
    assert "Passed: every spike and every output is accounted for" in text
    assert "0 faults, 0 ties" in text
    assert '"opening": 0' in text.replace('"opening":0', '"opening": 0')
    assert 'class="why"' not in text
    check_form(text)


def test_a_report_without_evidence_has_a_page_without_wave_and_script() -> None:
    frames, _ = decoding_frames()
    text = render_page(verify(decoding_network(), frames, backends=["reference"]))
    page = check_form(text)
    assert {"layer-table", "cost-table", "speed-table"} <= set(page.ids)
    assert not {"wave", "raster", "margins"} & set(page.ids)
    assert "<script" not in text


def test_readers_without_scripts_see_the_faulty_frame(text: str, report: Report) -> None:
    inside = " ".join(re.findall(r"<noscript>(.*?)</noscript>", text, re.S))
    assert report.evidence is not None
    assert inside.count('role="img"') == 4
    assert inside.count("h1v1h-1z") == sum(report.evidence.frames[report.evidence.opening].counts.values()) > 0


@pytest.mark.parametrize(
    ("shape", "depth", "name"),
    [((384, 384, 3), 2, "wide"), ((24, 24, 8), 60, "deep" * 60)],
)
def test_wide_and_deep_networks_stay_below_five_megabytes_and_say_what_is_left_out(
    shape: tuple[int, ...], depth: int, name: str
) -> None:
    graph = copies(shape, depth, name)
    frames = np.random.default_rng(5).integers(0, 256, (30, *shape)).astype(np.uint8)
    found = verify(graph, frames[: 30 if depth > 10 else 12], None, ["reference"], evidence=True)
    text = render_page(found)
    check_form(text)
    assert 200_000 < len(text.encode()) < MOST_BYTES
    assert "are shown" in text
    assert found.evidence is not None
    assert len(found.evidence.frames) == 4


def test_pages_are_written_into_folders(report: Report, tmp_path: Path) -> None:
    path = write_page(report, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(DataError, match="a report needs a folder"):
        write_page(report, path)


def test_a_training_page_has_curves_sharpness_and_numbers(tmp_path: Path) -> None:
    units = {"<b>one": {"neurons": 256, "dead": 31, "stuck": 4}}
    path = write_training_page(
        HISTORY, tmp_path, title="<i>digits", accuracy=0.8125, settings={"rate <": 4.0}, units=units
    )
    assert path.name == "training.html"
    text = path.read_text(encoding="utf-8")
    page = check_form(text)
    assert {"curves", "chart-0", "chart-1", "sharpness", "epoch-table", "unit-table", "settings"} <= set(page.ids)
    assert "<script" not in text
    assert "<i>" not in text.replace("<i>digits", "")
    assert page.texts["h1"] == ["<i>digits"]
    assert {"81.25 %", "2 of 2", "87.50 %", "90.00 %"} <= set(page.texts["dd"])
    assert {"256", "31", "4", "0.875", "0.25"} <= set(page.texts["td"])
    assert "–" in page.texts["td"]
    told = [str(given.get("aria-label")) for tag, given in page.elements if tag == "svg" and given.get("role") == "img"]
    assert any("<b>one ends at 1; two ends at 1" in label for label in told)
    assert any(label.startswith("loss over 4 epochs: training ends at 0.4; validation ends at 0.625") for label in told)
    assert any("as if sharpened ends at 90.00 %" in label for label in told)


def test_a_blunt_network_is_called_blunt() -> None:
    text = render_training_page({"loss": [1.0], "sharpness_a": [1.0], "sharpness_b": [0.5]})
    assert "Not fully sharpened:</strong> b." in text
    assert "1 of 2" in text


@pytest.mark.parametrize("history", [{}, {"loss": []}, None, 3])
def test_a_history_without_epochs_is_refused(history: object) -> None:
    with pytest.raises(DataError, match="at least one epoch"):
        render_training_page(history)  # type: ignore[arg-type]  # that is the point


def test_a_history_object_of_keras_is_taken(tmp_path: Path) -> None:
    class Fitted:
        history = HISTORY

    assert "87.50 %" in write_training_page(Fitted(), tmp_path).read_text(encoding="utf-8")


def test_long_trainings_stay_small() -> None:
    logs = {f"sharpness_layer_{n}": list(np.linspace(0, 1, 2000)) for n in range(100)} | {"loss": [1.0] * 2000}
    assert len(check_form(render_training_page(logs)).ids) > 3
