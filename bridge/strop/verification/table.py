"""The table of a verification report, drawn with rich; imported only when it is printed."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop.running.terminal import count, percent, to_text
from strop.verification.explanation.explained import Explanation
from strop.verification.outcome import BackendReport, KerasReport, LayerReport, Outcome, OutputReport
from strop.verification.proof import unproved

# Most comparisons side by side in one table; more get a row each.
_MOST_COLUMNS = 4
# Most explanations in five lines; others are named.
_MOST_EXPLAINED = 3


def _verdict(faults: int, ties: int) -> str:
    if faults:
        return f"[red]{count(faults)} FAULTS[/red]"
    return f"equal, {count(ties)} ties" if ties else "[green]equal[/green]"


def _share(part: int, whole: int) -> str:
    """Return a share as a percentage that is 100 % or 0 % only if the share is."""
    percent = 100 * part / whole if whole else 100.0
    digits = 2
    while digits < 6 and part not in (0, whole) and float(f"{percent:.{digits}f}") in (0.0, 100.0):
        digits += 1
    return f"{percent:.{digits}f} %"


def render_report(report: Outcome) -> str:
    """Return the report as text: every layer under every comparison, the totals, and the verdict."""
    columns: list[tuple[str, Any]] = [] if report.keras is None else [("Keras", report.keras)]
    columns += list(report.backends.items())
    tables = _wide_table(report, columns) if len(columns) <= _MOST_COLUMNS else _long_tables(report, columns)
    graph = report.graph
    return to_text(
        # Not the table's own title, which is folded where a path is longer than the table is wide.
        Text(f"{report.model}: {count(report.frames)} frames, every spike of every layer"),
        *_proved_line(report),
        *tables,
        f"{graph['populations']} populations, {count(graph['neurons'])} neurons, "
        f"{count(graph['synapses'])} synapses, depth {graph['depth']}, "
        f"{count(graph['synaptic_events_per_frame'])} synaptic events per frame",
        *_unproved_lines(report),
        *(escape(note) for note in report.notes),
        *_verdict_lines(report),
        *_explanations(report),
    )


_VERDICTS = {
    "passed": "[green]PASSED[/green]: every spike and every output is accounted for.",
    "passed with reservations": "[yellow]PASSED, WITH RESERVATIONS[/yellow]: what was compared is accounted for.",
    "failed": "[red]FAILED[/red].",
}
_WORDS = "A tie is a difference that float32 rounding in Keras cannot decide; any other is a fault."


def _proved_line(report: Outcome) -> list[str]:
    if not report.proved:
        return []
    return [f"[green]equal for all inputs, proved[/green]: {escape(', '.join(report.proved))} (spikes, not read-outs)"]


def _unproved_lines(report: Outcome) -> list[str]:
    """Return why spikes are not proved for all inputs, a line for each reason."""
    reasons = unproved({name: own.proof for name, own in report.backends.items()})
    lines = [f"not proved for all inputs: {escape(', '.join(names))} ({escape(why)})" for why, names in reasons.items()]
    # Where something is proved, the reader knows how.
    tried = any(own.proof is not None and own.proof.certificate is not None for own in report.backends.values())
    return lines if report.proved or not tried else [*lines, "strop quantize gives a graph whose spikes can be proved"]


def _verdict_lines(report: Outcome) -> list[str]:
    lines = [f"{_VERDICTS[report.verdict]} {_WORDS}"]
    lines += [f"  [red]{escape(problem)}[/red]" for problem in report.problems()]
    if report.passed:
        lines += [f"  [yellow]{escape(reservation)}[/yellow]" for reservation in report.reservations()]
    if report.keras is None:
        lines.append("  There is no Keras model to compare with: the graph itself was taken as it is.")
    return lines


def _explanations(report: Outcome) -> list[Text]:
    """Return why comparisons have faults, five lines each; of those that say the same, and of many, the first alone."""
    found: dict[str, list[Explanation]] = {}
    for explanation in report.explanations():
        cause, *_ = explanation.lines()
        found.setdefault(cause.replace(explanation.comparison, "", 1), []).append(explanation)
    lines = []
    for alike in list(found.values())[:_MOST_EXPLAINED]:
        lines += ["", *alike[0].lines(report.call)]
        if len(alike) > 1:
            lines.append(f"The same on {', '.join(own.comparison for own in alike[1:])}.")
    if len(found) > _MOST_EXPLAINED:
        others = [alike[0].headline for alike in list(found.values())[_MOST_EXPLAINED:]]
        lines.append(f"Otherwise at fault: {'; '.join(others)}.")
    return [Text(line) for line in lines]


def _layers(columns: list[tuple[str, Any]]) -> list[LayerReport]:
    """Simulators show every population, Keras only those that are outputs of its layers: the longest list has all."""
    layers: list[LayerReport] = max((column.layers for _, column in columns), key=len)
    return layers


def _speed(report: Outcome, column: Any) -> str:
    seconds = getattr(column, "run_seconds", None) or getattr(column, "seconds", 0.0)
    return f"{count(report.frames / seconds)}/s" if seconds else "-"


def _outputs(report: Outcome) -> list[OutputReport]:
    return [] if report.keras is None else report.keras.outputs


def _answers(column: BackendReport) -> str:
    if column.unexplained:
        return f"[red]{count(column.unexplained)} differ[/red]"
    return "[green]equal[/green]" if column.decoded_equal else "differs by ties"


def _decided(column: KerasReport | BackendReport) -> str:
    """Return the share of comparisons in which rounding can change nothing."""
    compared = sum(layer.compared for layer in column.layers)
    return _share(compared - sum(layer.undecided for layer in column.layers), compared)


def _wide_table(report: Outcome, columns: list[tuple[str, Any]]) -> list[Table]:
    """One row per layer, one column per comparison."""
    table = Table()
    table.add_column("layer")
    for heading in ("neurons", "spikes/frame", *(escape(name) for name, _ in columns)):
        table.add_column(heading, justify="right")
    for layer in _layers(columns):
        found = [next((own for own in column.layers if own.name == layer.name), None) for _, column in columns]
        cells = ["inside Keras's layer" if own is None else _verdict(own.faults, own.ties) for own in found]
        table.add_row(escape(layer.name), count(layer.units), f"{layer.spikes / report.frames:,.1f}", *cells)
    table.add_section()
    for output in _outputs(report):
        others = (_answers(column) for _, column in columns[1:])
        table.add_row(escape(f"output {output.name}"), "", "", _verdict(output.faults, output.ties), *others)
    table.add_row("decided beyond doubt", "", "", *(_decided(column) for _, column in columns))
    if report.proved:
        proved = ("[green]proved[/green]" if name in report.proved else "on these frames" for name, _ in columns)
        table.add_row("equal for all inputs", "", "", *proved)
    table.add_row("accuracy", "", "", *(percent(column.accuracy) for _, column in columns))
    for output in columns[0][1].accuracies if len(columns[0][1].accuracies) > 1 else ():
        each = (percent(column.accuracies.get(output)) for _, column in columns)
        table.add_row(escape(f"accuracy of {output}"), "", "", *each)
    table.add_row("frames per second", "", "", *(_speed(report, column) for _, column in columns))
    return [table]


def _long_tables(report: Outcome, columns: list[tuple[str, Any]]) -> list[Table]:
    """The layers in one table, the comparisons in another, a row each: for more of them than fit side by side."""
    layers = Table()
    layers.add_column("layer")
    for heading in ("neurons", "spikes/frame", "spikes compared"):
        layers.add_column(heading, justify="right")
    for layer in _layers(columns):
        rate = f"{layer.spikes / report.frames:,.1f}"
        layers.add_row(escape(layer.name), count(layer.units), rate, count(layer.spikes))
    runs = Table(title="compared with the oracle, neuron by neuron and frame by frame", title_justify="left")
    runs.add_column("backend")
    for heading in ("layers equal", "outputs", "decided", "ties", "faults", "accuracy", "frames/s"):
        runs.add_column(heading, justify="right")
    runs.add_column("where it differs")
    for name, column in columns:
        wrong = [layer for layer in column.layers if layer.faults]
        equal = len(column.layers) - len(wrong)
        runs.add_row(
            escape(name),
            f"[{'red' if wrong else 'green'}]{equal} of {len(column.layers)}[/]",
            _answers(column) if isinstance(column, BackendReport) else _keras_answers(column),
            _decided(column),
            count(column.ties),
            count(column.faults),
            percent(column.accuracy),
            _speed(report, column),
            escape(", ".join(f"{layer.name} ({count(layer.faults)})" for layer in wrong)),
        )
    return [layers, runs]


def _keras_answers(column: KerasReport) -> str:
    return _verdict(sum(output.faults for output in column.outputs), sum(output.ties for output in column.outputs))
