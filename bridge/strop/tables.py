"""Tables for people, drawn with rich; imported only when something is printed."""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop.backend import BackendStatus
from strop.capacity import as_size
from strop.cost_tables import cost_lines
from strop.inspection import Inspection
from strop.report import BackendReport, KerasReport, LayerReport, OutputReport, Report

_WIDTH = 110

# So many comparisons stand side by side in one table; more get a row each.
_MOST_COLUMNS = 4


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


def _share(part: int, whole: int) -> str:
    """Return a share as a percentage that says 100 % and 0 % of nothing else."""
    percent = 100 * part / whole if whole else 100.0
    digits = 2
    while digits < 6 and part not in (0, whole) and float(f"{percent:.{digits}f}") in (0.0, 100.0):
        digits += 1
    return f"{percent:.{digits}f} %"


def render_report(report: Report) -> str:
    """Return the report as text: every layer under every comparison, the totals, and the verdict."""
    columns: list[tuple[str, Any]] = [] if report.keras is None else [("Keras", report.keras)]
    columns += list(report.backends.items())
    tables = _wide_table(report, columns) if len(columns) <= _MOST_COLUMNS else _long_tables(report, columns)
    graph = report.graph
    return to_text(
        # Not the table's own title, which is folded where a path is longer than the table is wide.
        Text(
            f"{report.model}: {_count(report.frames)} frames, every spike of every layer",
            no_wrap=True,
            overflow="ignore",
        ),
        *tables,
        f"{graph['populations']} populations, {_count(graph['neurons'])} neurons, "
        f"{_count(graph['synapses'])} synapses, depth {graph['depth']}, "
        f"{_count(graph['synaptic_events_per_frame'])} synaptic events per frame",
        *(escape(note) for note in report.notes),
        *_verdict_lines(report),
    )


_VERDICTS = {
    "passed": "[green]PASSED[/green]: every spike and every output is accounted for.",
    "passed with reservations": "[yellow]PASSED, WITH RESERVATIONS[/yellow]: what was compared is accounted for.",
    "failed": "[red]FAILED[/red].",
}
_WORDS = "A tie is a difference that float32 rounding in Keras cannot decide; any other is a fault."


def _verdict_lines(report: Report) -> list[str]:
    lines = [f"{_VERDICTS[report.verdict]} {_WORDS}"]
    lines += [f"  [red]{escape(problem)}[/red]" for problem in report.problems()]
    if report.passed:
        lines += [f"  [yellow]{escape(reservation)}[/yellow]" for reservation in report.reservations()]
    if report.keras is None:
        lines.append("  There is no Keras model to compare with: the graph itself was taken as it is.")
    return lines


def _layers(columns: list[tuple[str, Any]]) -> list[LayerReport]:
    """Simulators show every population, Keras only those that are outputs of its layers: the longest list has all."""
    layers: list[LayerReport] = max((column.layers for _, column in columns), key=len)
    return layers


def _speed(report: Report, column: Any) -> str:
    seconds = getattr(column, "run_seconds", None) or getattr(column, "seconds", 0.0)
    return f"{_count(report.frames / seconds)}/s" if seconds else "-"


def _outputs(report: Report) -> list[OutputReport]:
    return [] if report.keras is None else report.keras.outputs


def _answers(column: BackendReport) -> str:
    if column.unexplained:
        return f"[red]{_count(column.unexplained)} differ[/red]"
    return "[green]equal[/green]" if column.decoded_equal else "differs by ties"


def _decided(column: KerasReport | BackendReport) -> str:
    """Return the share of comparisons in which rounding can change nothing."""
    compared = sum(layer.compared for layer in column.layers)
    return _share(compared - sum(layer.undecided for layer in column.layers), compared)


def _wide_table(report: Report, columns: list[tuple[str, Any]]) -> list[Table]:
    """One row per layer, one column per comparison."""
    table = Table()
    table.add_column("layer")
    for heading in ("neurons", "spikes/frame", *(name for name, _ in columns)):
        table.add_column(heading, justify="right")
    for layer in _layers(columns):
        found = [next((own for own in column.layers if own.name == layer.name), None) for _, column in columns]
        cells = ["inside Keras's layer" if own is None else _verdict(own.faults, own.ties) for own in found]
        table.add_row(escape(layer.name), _count(layer.units), f"{layer.spikes / report.frames:,.1f}", *cells)
    table.add_section()
    for output in _outputs(report):
        others = (_answers(column) for _, column in columns[1:])
        table.add_row(escape(f"output {output.name}"), "", "", _verdict(output.faults, output.ties), *others)
    table.add_row("decided beyond doubt", "", "", *(_decided(column) for _, column in columns))
    table.add_row("accuracy", "", "", *(_percent(column.accuracy) for _, column in columns))
    for output in columns[0][1].accuracies if len(columns[0][1].accuracies) > 1 else ():
        each = (_percent(column.accuracies.get(output)) for _, column in columns)
        table.add_row(escape(f"accuracy of {output}"), "", "", *each)
    table.add_row("frames per second", "", "", *(_speed(report, column) for _, column in columns))
    return [table]


def _long_tables(report: Report, columns: list[tuple[str, Any]]) -> list[Table]:
    """The layers in one table, the comparisons in another, a row each: for more of them than fit side by side."""
    layers = Table()
    layers.add_column("layer")
    for heading in ("neurons", "spikes/frame", "spikes compared"):
        layers.add_column(heading, justify="right")
    for layer in _layers(columns):
        rate = f"{layer.spikes / report.frames:,.1f}"
        layers.add_row(escape(layer.name), _count(layer.units), rate, _count(layer.spikes))
    runs = Table(title="compared with the oracle, neuron by neuron and frame by frame", title_justify="left")
    runs.add_column("backend")
    for heading in ("layers equal", "outputs", "decided", "ties", "faults", "accuracy", "frames/s"):
        runs.add_column(heading, justify="right")
    runs.add_column("where it differs")
    for name, column in columns:
        wrong = [layer for layer in column.layers if layer.faults]
        equal = len(column.layers) - len(wrong)
        runs.add_row(
            name,
            f"[{'red' if wrong else 'green'}]{equal} of {len(column.layers)}[/]",
            _answers(column) if isinstance(column, BackendReport) else _keras_answers(column),
            _decided(column),
            _count(column.ties),
            _count(column.faults),
            _percent(column.accuracy),
            _speed(report, column),
            escape(", ".join(f"{layer.name} ({_count(layer.faults)})" for layer in wrong)),
        )
    return [layers, runs]


def _keras_answers(column: KerasReport) -> str:
    return _verdict(sum(output.faults for output in column.outputs), sum(output.ties for output in column.outputs))


def render_inspection(inspection: Inspection) -> str:
    """Return an inspection as a table: one row per population, then the totals."""
    table = Table(title=escape(f"{inspection.model}: layers to populations"), title_justify="left")
    # Names are folded where they are too long, never cut.
    table.add_column("population", overflow="fold")
    for heading in ("shape", "neurons", "synapses", "fan-in\n(mean)", "fan-out\n(mean)", "stored", "depth"):
        table.add_column(heading, justify="right")
    table.add_column("fed by", overflow="fold")
    for row in inspection.populations:
        fed = ", ".join(f"{source} ({kind})" for source, kind in zip(row.sources, row.operators, strict=True))
        shape = "x".join(map(str, row.shape))
        neurons, synapses, stored, depth = map(_count, (row.neurons, row.synapses, row.parameters, row.depth))
        fans = (_fan(row.fan_in, row.mean_fan_in), _fan(row.fan_out, row.mean_fan_out))
        table.add_row(escape(row.name), shape, neurons, synapses, *fans, stored, depth, escape(fed))
    totals = inspection.totals
    inputs = ", ".join(f"{n['name']} {'x'.join(map(str, n['shape']))} ({n['encoding']})" for n in inspection.inputs)
    outputs = ", ".join(
        f"{n['name']} {'x'.join(map(str, n['shape'])) or 'a class'} ({n['kind']}{', argmax' if n['argmax'] else ''})"
        for n in inspection.outputs
    )
    lines: list[Any] = [
        table,
        f"input: {inputs}; output: {outputs}",
        f"{totals['populations']} populations, {_count(totals['neurons'])} neurons, "
        f"{_count(totals['synapses'])} synapses, depth {totals['depth']}",
        f"memory: {as_size(totals['stored_bytes'])} as stored, {as_size(totals['expanded_bytes'])} with every synapse "
        "expanded (24 bytes each, before a simulator adds its own)",
        *cost_lines(inspection),
    ]
    lines += [escape(note) for note in inspection.notes]
    if not totals.get("counts_exact", True):
        lines.append("synapses and fans are upper bounds where a pool overlaps a convolution: too many to expand")
    if inspection.target is not None:
        lines += _target_lines(inspection.target)
    return to_text(*lines)


def _fan(most: int, mean: float) -> str:
    """Return the largest fan, and the mean where the units differ."""
    return _count(most) if mean in (most, 0.0) else f"{_count(most)} ({mean:,.1f})"


def _target_lines(target: dict[str, Any]) -> list[Any]:
    lines = [f"{target['name']} ({target['version']}): {target['problem'] or 'can run this graph'}"]
    for name, fidelity, reason in target.get("fidelity", ()):
        lines.append(f"  {name}: {fidelity}{f' ({reason})' if reason else ''}")
    # The version stands in the first line.
    mapping = {key: value for key, value in (target.get("mapping") or {}).items() if key != "version"}
    return [escape("\n".join(lines)), *_facts("", mapping)]


def _facts(heading: str, facts: dict[str, Any]) -> list[Any]:
    """Return what a backend reports as lines and tables: plain values in one line, lists of records as a table each."""
    plain = [f"{_words(key)} {_cell(key, value)}" for key, value in facts.items() if not isinstance(value, dict | list)]
    items: list[Any] = [escape(heading + ", ".join(plain))] if plain else []
    for key, value in facts.items():
        records = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
        if isinstance(value, dict):
            items += _facts(f"{_words(key)}: ", value)
        elif records and any(_is_table(cell) for row in records for cell in row.values()):
            for row in records:
                items += _facts(f"{_words(key)}: ", row)
        elif records:
            table = Table(title=_words(key), title_justify="left")
            for number, column in enumerate(records[0]):
                table.add_column(_words(column), justify="left" if number == 0 else "right")
            for row in records:
                table.add_row(*(escape(_cell(column, cell)) for column, cell in row.items()))
            items.append(table)
        elif isinstance(value, list):
            items += [escape(f"{_words(key)}: {line}") for line in value]
    return items


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_cell("", part) for part in value)
    if key.endswith(("sdram", "bytes")):
        return as_size(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def render_backends(statuses: list[BackendStatus]) -> str:
    """Return the registered backends as a table."""
    table = Table(title="backends", title_justify="left")
    for heading in ("name", "version", "encodings", "what it is, or what is missing"):
        table.add_column(heading)
    for status in statuses:
        version = status.version if status.available else "[yellow]not installed[/yellow]"
        # Advice such as pip install 'strop[nengo]' must not be read as markup.
        said = status.problem or f"{status.summary}; {status.fidelity}"
        table.add_row(status.name, version, ", ".join(status.encodings), escape(said))
    return to_text(table)
