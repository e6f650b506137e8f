"""The page of a verification: from a report to what each section of `verification.html.j2` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from strop.costs.energy import FLOAT32_ADD, FLOAT32_MAC, NEUROMORPHIC, STATEMENT, as_energy, float32_energy
from strop.costs.macs import graph_arithmetic, host_arithmetic
from strop.costs.macs import total as summed
from strop.display.histogram import margin_histogram, margin_sentence, octave_range
from strop.display.network_picture import diagram_shown
from strop.display.proof_section import proof_shown
from strop.display.rendering import render
from strop.display.versions import versions
from strop.display.wave import payload, still_wave
from strop.display.wording import count, cut, percent, plural
from strop.verification.evidence import Evidence
from strop.verification.outcome import BackendReport, KerasReport, LayerReport, OutputReport
from strop.verification.report import Report

# Rows of a table, and histograms, that fit on a page of less than 5 MB with any number of layers.
_MOST_ROWS, _MOST_HISTOGRAMS = 1000, 60
# Sentences about what is left out are cut here: they hold names of layers.
_LONGEST_SENTENCE = 300
# Failed comparisons that are explained below the verdict.
_MOST_EXPLAINED = 3
_WORDS = {
    "passed": "Passed: every spike and every output is accounted for",
    "passed with reservations": "Passed, with reservations",
    "failed": "Failed",
}

# A template's values: text, numbers, lists and mappings of them.
Shown = dict[str, Any]
# What is compared with the oracle, and its name.
Comparison = tuple[str, KerasReport | BackendReport]


class Found(NamedTuple):
    """What a comparison found, for one cell of a table."""

    faults: int
    ties: int


def render_page(report: Report) -> str:
    """Return the page as text; it loads nothing from anywhere."""
    evidence = report.evidence
    return render(
        "verification.html.j2",
        title=f"strop: {report.model}",
        data=payload(evidence) if evidence is not None and evidence.frames else None,
        report=report,
        word=_headline(report),
        reasons=_reasons(report),
        sentence=_sentence(report),
        proof=proof_shown(report),
        figures=_figures(report),
        links=_links(report),
        layers=_layers(report),
        diagram=None if evidence is None else diagram_shown(evidence.graph),
        wave=None if evidence is None else _wave(evidence),
        margins=None if evidence is None else _margins(evidence),
        costs=_costs(report),
        energy=_energy(report),
        speeds=_speeds(report),
        versions=_versions(report),
    )


def _headline(report: Report) -> str:
    """Return the verdict; of a failure also where it fails, and the likely cause."""
    explanations = report.explanations()
    word = _WORDS[report.verdict]
    return f"{word}: {cut(explanations[0].headline)}" if explanations and not report.passed else word


def _reasons(report: Report) -> list[list[tuple[str, str]]]:
    """Return the five lines of each explanation, each line by its first word."""
    found = []
    for explanation in report.explanations()[:_MOST_EXPLAINED]:
        pairs = (line.partition(":") for line in explanation.lines(report.call))
        found.append([(name, text.strip()) for name, _, text in pairs])
    return found


def comparisons(report: Report) -> list[Comparison]:
    """Return the comparisons by name: Keras first, where there is one."""
    first: list[Comparison] = [] if report.keras is None else [("Keras", report.keras)]
    return first + list(report.backends.items())


def _longest(report: Report) -> list[LayerReport]:
    """Simulators show every population, Keras only those that are outputs of its layers: the longest list has all."""
    return max((list(own.layers) for _, own in comparisons(report)), key=len, default=[])


def _sentence(report: Report) -> str:
    compared = sum(layer.units for _, own in comparisons(report) for layer in own.layers) * report.frames
    faults = sum(own.faults for _, own in comparisons(report))
    ties = sum(own.ties for _, own in comparisons(report))
    names = [*(["Keras"] if report.keras is not None else []), plural(len(report.backends), "backend")]
    return (
        f"{' and '.join(names)} compared with the float64 oracle, neuron by neuron, over "
        f"{plural(report.frames, 'frame')}: "
        f"{count(compared)} comparisons, {plural(faults, 'fault')}, {plural(ties, 'tie')}."
    )


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """Return the key figures: what, how much, and a remark."""
    graph = report.graph
    accuracies = {name: own.accuracy for name, own in comparisons(report) if own.accuracy is not None}
    figures = []
    if accuracies:
        name, accuracy = next(iter(accuracies.items()))
        if len(set(accuracies.values())) > 1:
            remark = "; others below"
        else:
            remark = " and all others alike" if len(accuracies) > 1 else ""
        figures.append(("accuracy", percent(accuracy), f"{cut(name)}{remark}"))
    return [
        *figures,
        ("frames", count(report.frames), ""),
        ("neurons", count(graph["neurons"]), f"in {plural(graph['populations'], 'population')}"),
        ("synapses", count(graph["synapses"]), ""),
        ("depth", plural(graph["depth"], "step"), "from image to answer"),
        ("synaptic events", count(graph["synaptic_events_per_frame"]), "per frame"),
    ]


def _links(report: Report) -> list[tuple[str, str]]:
    links = [("layers", "Layers")]
    if any(own.proof is not None for own in report.backends.values()):
        links = [("proof", "For all inputs"), *links]
    if report.evidence is not None:
        links += [("network", "Network"), ("wave", "Wave"), ("raster", "Raster"), ("margins", "Margins")]
    return [*links, ("costs", "Costs"), ("speeds", "Speeds"), ("versions", "Versions")]


def _layers(report: Report) -> Shown:
    found = [{layer.name: layer for layer in own.layers} for _, own in comparisons(report)]
    layers = _longest(report)
    half = _MOST_ROWS // 2
    shown = layers if len(layers) <= _MOST_ROWS else layers[:half] + layers[-half:]
    outputs = [] if report.keras is None else report.keras.outputs
    return {
        "comparisons": [name for name, _ in comparisons(report)],
        "rows": [
            {
                "name": layer.name,
                "neurons": layer.units,
                "spikes": f"{layer.spikes / report.frames:,.1f}",
                "found": [own.get(layer.name) for own in found],
            }
            for layer in shown
        ],
        "all": [Found(own.faults, own.ties) for _, own in comparisons(report)],
        "outputs": [(output.name, _output(output, report)) for output in outputs],
        "accuracies": [own.accuracy for _, own in comparisons(report)],
        "number": len(layers),
        "listed": half if len(shown) < len(layers) else None,
    }


def _output(output: OutputReport, report: Report) -> list[Found]:
    """Keras's own outputs against the read-out; a backend's answers against the oracle's."""
    backends = report.backends.values()
    return [
        Found(output.faults, output.ties),
        *(Found(own.unexplained, 0 if own.decoded_equal else 1) for own in backends),
    ]


def _wave(evidence: Evidence) -> Shown:
    opening = evidence.frames[evidence.opening] if evidence.frames else None
    return {
        "frames": len(evidence.frames),
        "populations": len(evidence.populations),
        "depth": evidence.graph.total_depth,
        "has_code": any(readout.kind == "key" for readout in evidence.graph.readouts),
        "has_differences": any(frame.differences for frame in evidence.frames),
        "pictures": still_wave(evidence),
        "opening": opening.index if opening is not None else 0,
        "decided": None if opening is None else opening.decisions.get("oracle"),
        "left_out": [sentence[:_LONGEST_SENTENCE] for sentence in evidence.left_out],
    }


def _margins(evidence: Evidence) -> Shown:
    chosen = sorted(evidence.margins, key=lambda own: own.smallest / (own.bound_max or 1e-300))[:_MOST_HISTOGRAMS]
    names = {own.name for own in chosen}
    shown = [own for own in evidence.margins if own.name in names]
    span = octave_range(shown)
    return {
        "with_keras": evidence.with_keras,
        "histograms": [(own.name, margin_histogram(own, span), margin_sentence(own)) for own in shown],
        "most": _MOST_HISTOGRAMS,
        "number": len(evidence.margins),
        "is_cut": len(shown) < len(evidence.margins),
    }


def _costs(report: Report) -> Shown:
    layers = _longest(report)
    activity = None if report.evidence is None else report.evidence.activity
    sent = {} if activity is None else {layer.name: activity.events_from(layer.name) for layer in layers}
    most_events = max(sent.values(), default=0.0) or 1.0
    most_spikes = max((layer.spikes for layer in layers), default=0) or 1
    rows = []
    for layer in layers[:_MOST_ROWS]:
        rate, events = layer.spikes / report.frames, sent.get(layer.name)
        rows.append(
            {
                "name": layer.name,
                "spikes": f"{rate:,.1f}",
                "spikes_bar": layer.spikes / most_spikes,
                "share": f"{100 * rate / max(layer.units, 1):.1f} %",
                "events": events,
                "events_bar": None if events is None else events / most_events,
            }
        )
    spikes = sum(layer.spikes for layer in layers) / report.frames
    neurons = max(1, sum(layer.units for layer in layers))
    return {
        "rows": rows,
        "has_events": bool(sent),
        "spikes": f"{spikes:,.1f}",
        "share": f"{100 * spikes / neurons:.1f} %",
        "events": report.graph["synaptic_events_per_frame"],
    }


def _energy(report: Report) -> Shown:
    """Return the energy of a frame on each chip that has a published figure, and of the arithmetic beside it."""
    events = report.graph["synaptic_events_per_frame"]
    rows = [
        (figure.name, as_energy(figure.of(events)), as_energy(figure.picojoules), figure.process)
        for figure in NEUROMORPHIC
    ]
    if report.evidence is not None:
        rows += _arithmetic_rows(report.evidence)
    return {
        "rows": rows,
        "statement": STATEMENT,
        "sources": [
            (figure.name, f"{figure.counts}. {figure.source}, doi:{figure.doi}")
            for figure in (*NEUROMORPHIC, FLOAT32_MAC, FLOAT32_ADD)
        ],
    }


def _arithmetic_rows(evidence: Evidence) -> list[tuple[str, str, str, str]]:
    """Return what the host adds to a chip's events, and the same network without spikes."""
    graph, activity = evidence.graph, evidence.activity
    host, dense = summed(host_arithmetic(graph)), summed(graph_arithmetic(graph))
    each = f"{as_energy(FLOAT32_MAC.picojoules)}, {as_energy(FLOAT32_ADD.picojoules)}"
    rows: list[tuple[str, float, str]] = []
    if host.macs or host.additions:
        rows.append(("on the host: first layer", float32_energy(host.macs, host.additions), each))
    if activity is not None and activity.readout_events_per_frame():
        additions = FLOAT32_ADD.of(activity.readout_events_per_frame())
        rows.append(("on the host: read-out", additions, as_energy(FLOAT32_ADD.picojoules)))
    rows.append(("for comparison: all of it in dense float32", float32_energy(dense.macs, dense.additions), each))
    return [(what, as_energy(energy), price, FLOAT32_MAC.process) for what, energy, price in rows]


def _speeds(report: Report) -> list[Shown]:
    """Return one row per comparison: seconds, frames per second, and what ran."""
    rows: list[Shown] = []
    if report.keras is not None and report.keras.seconds:
        rate = report.frames / report.keras.seconds
        rows.append(_speed("Keras", None, report.keras.seconds, rate, "layer by layer"))
    for name, run in report.backends.items():
        rows.append(_speed(name, run.build_seconds, run.run_seconds, run.frames_per_second, run.version))
    fastest = max((row["rate"] for row in rows), default=0.0)
    return [{**row, "bar": row["rate"] / fastest if fastest else 0.0} for row in rows]


def _speed(name: str, building: float | None, running: float, rate: float, ran: str) -> Shown:
    return {"name": name, "building": building, "running": running, "rate": rate, "ran": ran}


def _versions(report: Report) -> list[tuple[str, str]]:
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [*versions(), *((name, run.version) for name, run in report.backends.items()), ("written", written)]
