"""The report as one self-contained HTML page: verdict first, then a table of layers by comparisons."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from strop.data import write_text
from strop.errors import DataError
from strop.report import Report

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #8886; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
.verdict { font-size: 1.6rem; font-weight: 700; }
"""


def write_page(report: Report, folder: str | Path) -> Path:
    """Write `report.html` into `folder` (made if it is not there) and return its path."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--report needs a folder, {folder} is a file")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    write_text(path, render_page(report))
    return path


def render_page(report: Report) -> str:
    """Return the page as text; it loads nothing from anywhere."""
    columns: list[tuple[str, Any]] = [] if report.keras is None else [("Keras", report.keras)]
    columns += list(report.backends.items())
    longest = max((column.layers for _, column in columns), key=len)
    head = "".join(f"<th>{html.escape(name)}</th>" for name, _ in columns)
    rows = []
    for layer in longest:
        cells = "".join(f"<td>{_cell(column, layer.name)}</td>" for _, column in columns)
        rate = f"{layer.spikes / report.frames:,.1f}"
        rows.append(f"<tr><td>{html.escape(layer.name)}</td><td>{layer.units:,}</td><td>{rate}</td>{cells}</tr>")
    accuracies = "".join(f"<td>{_percent(column.accuracy)}</td>" for _, column in columns)
    verdict = "Passed: every spike is accounted for" if report.passed else "Failed: there are faults"
    graph = report.graph
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>strop: {html.escape(report.model)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(report.model)}</h1>
<p class="verdict">{verdict}</p>
<p>{report.frames:,} frames; {graph["populations"]} populations, {graph["neurons"]:,} neurons,
{graph["synapses"]:,} synapses, depth {graph["depth"]}, {graph["synaptic_events_per_frame"]:,.0f} synaptic events a
frame.</p>
<div class="scroll"><table><thead><tr><th>layer</th><th>neurons</th><th>spikes/frame</th>{head}</tr></thead>
<tbody>{"".join(rows)}<tr><td>accuracy</td><td></td><td></td>{accuracies}</tr></tbody></table></div>
<p>A tie is a difference that float32 rounding in Keras cannot decide; any other is a fault.
Versions: {html.escape("; ".join(backend.version for backend in report.backends.values()))}.</p>
</body></html>
"""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _cell(column: Any, name: str) -> str:
    layer = next((layer for layer in column.layers if layer.name == name), None)
    if layer is None:
        return "inside Keras's layer"
    if layer.faults:
        return f"<strong>{layer.faults:,} faults</strong>"
    return f"equal, {layer.ties:,} ties" if layer.ties else "equal"
