"""Tables for people, drawn with rich; imported only when something is printed."""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from strop.backend import BackendStatus
from strop.capacity import as_size
from strop.inspection import Inspection
from strop.report import Report

_WIDTH = 110


def to_text(*items: Any) -> str:
    """Return what rich would print, as plain text (with colour codes only where standard output is a terminal)."""
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, force_terminal=sys.stdout.isatty(), highlight=False)
    for item in items:
        console.print(item)
    return stream.getvalue().rstrip("\n")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _verdict(faults: int, ties: int) -> str:
    if faults:
        return f"[red]{_count(faults)} FAULTS[/red]"
    return f"equal, {_count(ties)} ties" if ties else "[green]equal[/green]"


def render_report(report: Report) -> str:
    """Return the report as a table: one row per layer, one column per comparison, then the totals."""
    graph = report.graph
    table = Table(
        title=f"{report.model}: {_count(report.frames)} frames, every spike of every layer",
        title_justify="left",
    )
    table.add_column("layer")
    table.add_column("neurons", justify="right")
    table.add_column("spikes/frame", justify="right")
    columns: list[Any] = []
    if report.keras is not None:
        table.add_column("Keras", justify="right")
        columns.append(report.keras)
    for name, backend in report.backends.items():
        table.add_column(name, justify="right")
        columns.append(backend)
    # Simulators show every population, Keras only those that are outputs of its layers: the longest list has them all.
    names = [layer.name for layer in max((column.layers for column in columns), key=len)]
    for name in names:
        found = [next((layer for layer in column.layers if layer.name == name), None) for column in columns]
        seen = next(layer for layer in reversed(found) if layer is not None)
        cells = ["inside Keras's layer" if layer is None else _verdict(layer.faults, layer.ties) for layer in found]
        table.add_row(name, _count(seen.units), f"{seen.spikes / report.frames:,.1f}", *cells)
    table.add_section()
    table.add_row("accuracy", "", "", *(_percent(column.accuracy) for column in columns))
    speeds = [f"{_count(report.frames / c.seconds)}/s" if c.seconds else "-" for c in columns[:1] if report.keras]
    speeds += [f"{_count(backend.frames_per_second)}/s" for backend in report.backends.values()]
    table.add_row("frames per second", "", "", *speeds)
    verdict = "[green]PASSED[/green]: every spike is accounted for" if report.passed else "[red]FAILED[/red]"
    return to_text(
        table,
        f"{graph['populations']} populations, {_count(graph['neurons'])} neurons, {_count(graph['synapses'])} synapses, "
        f"depth {graph['depth']}, {_count(graph['synaptic_events_per_frame'])} synaptic events per frame",
        f"{verdict}. A tie is a difference that float32 rounding in Keras cannot decide; any other is a fault.",
    )


def render_inspection(inspection: Inspection) -> str:
    """Return an inspection as a table: one row per population, then the totals."""
    table = Table(title=f"{inspection.model}: layers to populations", title_justify="left")
    table.add_column("population")
    for heading in ("shape", "neurons", "synapses", "fan-in", "stored", "depth"):
        table.add_column(heading, justify="right")
    table.add_column("fed by")
    for row in inspection.populations:
        fed = ", ".join(f"{source} ({kind})" for source, kind in zip(row.sources, row.operators, strict=True))
        shape = "x".join(map(str, row.shape))
        counts = (_count(value) for value in (row.neurons, row.synapses, row.fan_in, row.parameters, row.depth))
        table.add_row(row.name, shape, *counts, fed)
    totals = inspection.totals
    inputs = ", ".join(f"{n['name']} {'x'.join(map(str, n['shape']))} ({n['encoding']})" for n in inspection.inputs)
    outputs = ", ".join(f"{n['name']} {'x'.join(map(str, n['shape']))} ({n['kind']})" for n in inspection.outputs)
    lines = [
        table,
        f"input: {inputs}; output: {outputs}",
        f"{totals['populations']} populations, {_count(totals['neurons'])} neurons, "
        f"{_count(totals['synapses'])} synapses, depth {totals['depth']}",
        f"memory: {as_size(totals['stored_bytes'])} as stored, {as_size(totals['expanded_bytes'])} with every synapse "
        "expanded (24 bytes each, before a simulator adds its own)",
    ]
    if inspection.target is not None:
        lines.append(_target_lines(inspection.target))
    return to_text(*lines)


def _target_lines(target: dict[str, Any]) -> str:
    lines = [f"{target['name']} ({target['version']}): {target['problem'] or 'can run this graph'}"]
    for name, fidelity, reason in target.get("fidelity", ()):
        lines.append(f"  {name}: {fidelity}{f' ({reason})' if reason else ''}")
    for key, value in (target.get("mapping") or {}).items():
        lines.append(f"  {key}: {value}")
    return "\n".join(lines)


def render_backends(statuses: list[BackendStatus]) -> str:
    """Return the registered backends as a table."""
    table = Table(title="backends", title_justify="left")
    for heading in ("name", "version", "encodings", "what it is, or what is missing"):
        table.add_column(heading)
    for status in statuses:
        version = status.version if status.available else "[yellow]not installed[/yellow]"
        # Advice such as pip install 'strop[nengo]' must not be read as markup.
        table.add_row(status.name, version, ", ".join(status.encodings), escape(status.problem or status.summary))
    return to_text(table)
