"""The page of a verification, section by section: verdict, layers, wave, raster, margins, costs, speeds, versions."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from strop.costs.energy import FLOAT32_ADD, FLOAT32_MAC, NEUROMORPHIC, STATEMENT, as_energy, float32_energy
from strop.costs.macs import graph_arithmetic, host_arithmetic
from strop.costs.macs import total as summed
from strop.display.charts import hatch_definition, margin_histogram, margin_sentence, octave_range
from strop.display.markup import (
    bar,
    breakable,
    count,
    document,
    escape,
    percent,
    plural,
    prose,
    seconds,
    section,
    table,
    tiles,
)
from strop.display.wave import payload, still_wave
from strop.verification.evidence import Evidence
from strop.verification.outcome import LayerReport, OutputReport
from strop.verification.report import Report

# Rows of a table, and histograms, that fit on a page of less than 5 MB with any number of layers.
_MOST_ROWS, _MOST_HISTOGRAMS = 1000, 60
_CHECK = '<svg viewBox="0 0 24 24" aria-hidden="true"><circle class="badge" cx="12" cy="12" r="12"/>{}</svg>'
_PASSED = _CHECK.format('<path class="sign" d="M6.5 12.5l3.7 3.7 7.3-8"/>')
_FAILED = _CHECK.format('<path class="sign" d="M8 8l8 8M16 8l-8 8"/>')
_TIE_OR_FAULT = (
    "A tie is a difference that float32 rounding in Keras cannot decide: the sum lies within its proven rounding error "
    "of the threshold. Any other difference is a fault, and one fault fails the verification."
)


def render_page(report: Report) -> str:
    """Return the page as text; it loads nothing from anywhere."""
    evidence = report.evidence
    parts = [_header(report), _layers(report)]
    if evidence is not None:
        parts += [_wave(evidence), _raster(evidence), _margins(evidence)]
    parts += [_costs(report), _speeds(report), _versions(report)]
    data = payload(evidence) if evidence is not None and evidence.frames else None
    body = "\n".join([hatch_definition(), "<main>", *parts, "</main>", _FOOTER])
    return document(f"strop: {report.model}", body, data)


_FOOTER = (
    "<footer><p>One file, complete in itself: it loads nothing, so it can be mailed, archived and opened offline.</p>"
    "</footer>"
)


def columns_of(report: Report) -> list[tuple[str, Any]]:
    """Return the comparisons by name: Keras first, where there is one."""
    columns: list[tuple[str, Any]] = [] if report.keras is None else [("Keras", report.keras)]
    return columns + list(report.backends.items())


def _longest(report: Report) -> list[LayerReport]:
    """Simulators show every population, Keras only those that are outputs of its layers: the longest list has all."""
    return max((list(column.layers) for _, column in columns_of(report)), key=len, default=[])


def _header(report: Report) -> str:
    columns, graph = columns_of(report), report.graph
    compared = sum(layer.units for _, column in columns for layer in column.layers) * report.frames
    faults, ties = (sum(getattr(column, kind) for _, column in columns) for kind in ("faults", "ties"))
    who = [*(["Keras"] if report.keras is not None else []), plural(len(report.backends), "backend")]
    sentence = (
        f"{' and '.join(who)} compared with the float64 oracle, neuron by neuron, over "
        f"{plural(report.frames, 'frame')}: "
        f"{count(compared)} comparisons, {plural(faults, 'fault')}, {plural(ties, 'tie')}."
    )
    accuracies = {name: column.accuracy for name, column in columns if column.accuracy is not None}
    figures = []
    if accuracies:
        same = len(set(accuracies.values())) == 1
        name, accuracy = next(iter(accuracies.items()))
        remark = f"{escape(name)}{' and all others alike' if same and len(accuracies) > 1 else ''}"
        figures.append(("accuracy", percent(accuracy), remark if same else f"{remark}; others below"))
    figures += [
        ("frames", count(report.frames), ""),
        ("neurons", count(graph["neurons"]), f"in {plural(graph['populations'], 'population')}"),
        ("synapses", count(graph["synapses"]), ""),
        ("depth", plural(graph["depth"], "step"), "from image to answer"),
        ("synaptic events", count(graph["synaptic_events_per_frame"]), "per frame"),
    ]
    links = [("layers", "Layers")]
    if report.evidence is not None:
        links += [("wave", "Wave"), ("raster", "Raster"), ("margins", "Margins")]
    links += [("costs", "Costs"), ("speeds", "Speeds"), ("versions", "Versions")]
    menu = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in links)
    return (
        f'<header>\n<p class="eyebrow">strop verification</p>\n<h1>{escape(report.model)}</h1>\n'
        f'<div class="verdict {"passed" if report.passed else "failed"}" id="verdict">'
        f'{_PASSED if report.passed else _FAILED}<div><p class="word">{_WORDS[report.verdict]}</p><p>{sentence}</p>'
        f"{_listed(report.problems() or report.reservations())}</div></div>\n{_listed(report.notes)}"
        f'{tiles(figures)}\n<nav aria-label="Sections"><ul>{menu}</ul></nav>\n</header>'
    )


_WORDS = {
    "passed": "Passed: every spike and every output is accounted for",
    "passed with reservations": "Passed, with reservations",
    "failed": "Failed",
}


def _listed(clauses: list[str]) -> str:
    items = "".join(f"<li>{prose(clause)}</li>" for clause in clauses)
    return f"<ul>{items}</ul>" if items else ""


def _layers(report: Report) -> str:
    columns, layers = columns_of(report), _longest(report)
    shown = layers if len(layers) <= _MOST_ROWS else layers[: _MOST_ROWS // 2] + layers[-_MOST_ROWS // 2 :]
    found = {name: {layer.name: layer for layer in column.layers} for name, column in columns}
    rows = [
        [breakable(layer.name), count(layer.units), f"{layer.spikes / report.frames:,.1f}"]
        + [_cell(found[name].get(layer.name)) for name, _ in columns]
        for layer in shown
    ]
    foot = [
        ["all layers", "", "", *(_cell(LayerReport("", 0, 0, column.faults, column.ties)) for _, column in columns)],
        *(_output_row(output, columns) for output in ([] if report.keras is None else report.keras.outputs)),
        ["accuracy", "", "", *(percent(column.accuracy) for _, column in columns)],
    ]
    head = ["layer", "neurons", "spikes/<wbr>frame", *(escape(name) for name, _ in columns)]
    less = f'<p class="note">{len(layers):,} layers; the first and last {_MOST_ROWS // 2} are listed.</p>'
    return section(
        "layers",
        "Every layer, on every backend",
        "<p>Equal means that every neuron of the layer fired in just the frames that the oracle says. "
        f"{_TIE_OR_FAULT}</p>",
        table(head, rows, caption="Faults and ties by layer and comparison", foot=foot, name="layer-table"),
        less if len(shown) < len(layers) else "",
    )


def _output_row(output: OutputReport, columns: list[tuple[str, Any]]) -> list[str]:
    """Keras's own outputs against the read-out; a backend's answers against the oracle's."""
    cells = [_cell(LayerReport("", 0, 0, output.faults, output.ties))]
    for _, column in columns[1:]:
        cells.append(_cell(LayerReport("", 0, 0, column.unexplained, 0 if column.decoded_equal else 1)))
    return [f"output {breakable(output.name)}", "", "", *cells]


def _cell(layer: LayerReport | None) -> str:
    if layer is None:
        return '<span class="muted">inside Keras’s layer</span>'
    ties = f", {plural(layer.ties, 'tie')}" if layer.ties else ""
    if layer.faults:
        return f'<strong class="fault"><span aria-hidden="true">✗ </span>{plural(layer.faults, "fault")}</strong>{ties}'
    return f'<span class="sign" aria-hidden="true">✓</span> equal{ties}'


def _legend(*items: tuple[str, str]) -> str:
    return (
        '<ul class="legend">'
        + "".join(f'<li><svg viewBox="0 0 32 18" aria-hidden="true">{mark}</svg>{text}</li>' for mark, text in items)
        + "</ul>"
    )


_ICONS = {
    "start": '<path d="M3 3h2.5v10H3zM13.5 3v10L6 8z"/>',
    "back": '<path d="M11.5 3v10L4 8z"/>',
    "play": '<path d="M4 2.5v11L13.5 8z"/>',
    "forward": '<path d="M4.5 3v10L12 8z"/>',
}


def _button(name: str, label: str, text: str = "") -> str:
    icon = f'<svg viewBox="0 0 16 16" aria-hidden="true">{_ICONS[name]}</svg>'
    if text:
        return f'<button type="button" id="{name}" class="main">{icon}<span id="{name}-text">{text}</span></button>'
    return f'<button type="button" id="{name}" aria-label="{label}" title="{label}">{icon}</button>'


def _wave(evidence: Evidence) -> str:
    last = evidence.graph.total_depth + 1
    controls = (
        '<div class="controls">'
        + _button("play", "", "Play")
        + _button("start", "Back to the input")
        + _button("back", "One step back")
        + _button("forward", "One step on")
        + '<label class="slide"><span>Step</span>'
        f'<input type="range" id="step" min="0" max="{last}" value="{last}"></label></div>'
    )
    keys = [
        ('<rect class="now-key" x="2" y="2" width="14" height="14"/>', "fires now"),
        ('<rect class="past-key" x="2" y="2" width="14" height="14"/>', "has fired"),
        ('<rect class="cell-key" x="2" y="2" width="14" height="14"/>', "silent"),
    ]
    if any(readout.kind == "key" for readout in evidence.graph.readouts):
        keys.append(('<rect class="code-key" x="3" y="3" width="12" height="12"/>', "in the code of the decided class"))
    if any(frame.differences for frame in evidence.frames):
        keys += [
            ('<path class="fault-key" d="M3 3l12 12M15 3L3 15"/>', "fault: a simulator, or Keras, says otherwise"),
            ('<path class="tie-key" d="M9 2l7 7-7 7-7-7z"/>', "tie"),
        ]
    left_out = "".join(f"<li>{prose(sentence[:300])}</li>" for sentence in evidence.left_out)
    return section(
        "wave",
        "The wave of spikes",
        "<p>A frame enters at step 0; each population answers once, at the step of its depth, and forgets. Choose a "
        "frame and play its way through the network, down to the read-out, which happens off the simulator.</p>",
        '<div id="player" hidden><fieldset class="frames"><legend>Frame</legend><div class="strip" id="frames"></div>'
        '</fieldset><p id="facts" class="facts note" aria-live="polite"></p>',
        controls,
        '<p id="step-label" role="status"></p><ol class="wave" id="cards" tabindex="0" aria-label="Populations"></ol>',
        _legend(*keys),
        "</div>",
        '<noscript><div class="noscript"><p>Without JavaScript there is no player; this is the first frame, layer by '
        f"layer.</p>{still_wave(evidence)}</div></noscript>",
        f'<div class="note"><p>To keep this page small:</p><ul>{left_out}</ul></div>' if left_out else "",
    )


def _raster(evidence: Evidence) -> str:
    graph = evidence.graph
    told = (
        f"Spike raster of {len(evidence.frames)} frames streamed one per step through "
        f"{len(evidence.populations)} populations, over {len(evidence.frames) + graph.total_depth} steps."
    )
    return section(
        "raster",
        "Raster: one frame per step",
        "<p>Neurons keep no history, so a new frame may enter at every step while its predecessors are still on their "
        "way: frame n enters at step n, and a population of depth d answers it at step n + d. Here the chosen frames "
        "are streamed one after the other; the frame chosen above is outlined and runs down the diagonal.</p>",
        f'<figure id="raster-figure" hidden><div class="raster-box" tabindex="0" role="region" aria-label="Raster">'
        f'<canvas id="raster-canvas" role="img" aria-label="{prose(told)}"></canvas></div>'
        "<figcaption>Time steps to the right, neurons downwards, grouped by population. Where neurons outnumber the "
        "rows, a row stands for several, and is the darker the more of them fired.</figcaption></figure>",
        "<noscript><p>The raster is drawn by JavaScript, which is switched off.</p></noscript>",
    )


def _margins(evidence: Evidence) -> str:
    chosen = sorted(evidence.margins, key=lambda own: own.smallest / (own.bound_max or 1e-300))[:_MOST_HISTOGRAMS]
    names = {own.name for own in chosen}
    shown = [own for own in evidence.margins if own.name in names]
    span = octave_range(shown)
    figures = "".join(
        f"<figure><h3>{escape(own.name)}</h3>{margin_histogram(own, span)}"
        f"<figcaption>{prose(margin_sentence(own))}</figcaption></figure>"
        for own in shown
    )
    legend = _legend(
        ('<rect class="bar-fill" x="2" y="2" width="26" height="14"/>', "margins of all frames"),
        ('<rect x="2" y="2" width="26" height="14" class="hatch-key"/>', "float32 bounds, on a scale of their own"),
        ('<path class="limit-key" d="M16 0v18"/>', "the largest of these bounds"),
    )
    less = len(evidence.margins) - len(shown)
    whose = "of the Keras model" if evidence.with_keras else "of the graph’s own weights (there is no Keras model)"
    return section(
        "margins",
        "Margins: how sure each decision is",
        "<p>A neuron fires iff its potential a reaches its threshold; the margin is |a − threshold|. Only a margin "
        f"below the float32 bound {whose} leaves a decision to rounding in the neuron’s own sum. Bounds are shown for "
        "up to 256 frames, margins for all. Heights are counts, on a logarithmic scale.</p>",
        legend,
        f'<div class="charts">{figures}</div>',
        f'<p class="note">The {_MOST_HISTOGRAMS} closest of {len(evidence.margins):,} populations are shown.</p>'
        if less
        else "",
    )


def _costs(report: Report) -> str:
    layers = _longest(report)
    activity = None if report.evidence is None else report.evidence.activity
    sent = {} if activity is None else {layer.name: activity.events_from(layer.name) for layer in layers}
    most_events = max(sent.values(), default=0.0) or 1.0
    most_spikes = max((layer.spikes for layer in layers), default=0) or 1
    rows = []
    for layer in layers[:_MOST_ROWS]:
        rate = layer.spikes / report.frames
        cells = [
            breakable(layer.name),
            f"{rate:,.1f}{bar(layer.spikes / most_spikes)}",
            f"{100 * rate / max(layer.units, 1):.1f} %",
        ]
        if sent:
            cells.append(f"{sent[layer.name]:,.0f}{bar(sent[layer.name] / most_events)}")
        rows.append(cells)
    total = report.graph["synaptic_events_per_frame"]
    spikes = sum(layer.spikes for layer in layers) / report.frames
    neurons = max(1, sum(layer.units for layer in layers))
    foot = ["all", f"{spikes:,.1f}", f"{100 * spikes / neurons:.1f} %", *([f"{total:,.0f}"] if sent else [])]
    head = ["layer", "spikes per frame", "of its neurons", *(["synaptic events it causes"] if sent else [])]
    energy = [
        [escape(figure.name), as_energy(figure.of(total)), as_energy(figure.picojoules), escape(figure.process)]
        for figure in NEUROMORPHIC
    ]
    if report.evidence is not None:
        energy += _arithmetic_rows(report.evidence)
    sources = [
        (figure.name, f"{figure.counts}. {figure.source}, doi:{figure.doi}")
        for figure in (*NEUROMORPHIC, FLOAT32_MAC, FLOAT32_ADD)
    ]
    return section(
        "costs",
        "Costs per frame",
        table(head, rows, caption="Spikes and synaptic events per frame", foot=[foot], name="cost-table"),
        f"<p>{count(total)} synaptic events per frame, at what publications give for one:</p>",
        table(
            ["where", "energy per frame", "per operation", "process"],
            energy,
            caption="Estimated energy: synaptic events on a chip, and arithmetic beside it",
            name="energy-table",
        ),
        f'<p class="note">{prose(STATEMENT)}</p>'
        f"<details><summary>What the figures count, and their sources</summary>{facts(sources)}</details>",
    )


def _arithmetic_rows(evidence: Evidence) -> list[list[str]]:
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
    return [[what, as_energy(energy), price, FLOAT32_MAC.process] for what, energy, price in rows]


def _speeds(report: Report) -> str:
    fastest = max((run.frames_per_second for run in report.backends.values()), default=0.0)
    rows = []
    if report.keras is not None and report.keras.seconds:
        rate = report.frames / report.keras.seconds
        fastest = max(fastest, rate)
        rows.append(
            ["Keras", "–", seconds(report.keras.seconds), f"{count(rate)}{bar(rate / fastest)}", "layer by layer"]
        )
    for name, run in report.backends.items():
        speed = run.frames_per_second
        rows.append(
            [
                escape(name),
                seconds(run.build_seconds),
                seconds(run.run_seconds),
                f"{count(speed)}{bar(speed / fastest if fastest else 0)}",
                escape(run.version),
            ]
        )
    return section(
        "speeds",
        "Speeds",
        table(
            ["who", "building", "running", "frames per second", "what ran"],
            rows,
            caption="Time spent in this verification; building is counted apart",
            name="speed-table",
        ),
    )


def versions() -> list[tuple[str, str]]:
    """Return the versions of strop, Python and what computes; nothing is imported to find out."""
    found = [("strop", version("strop")), ("Python", platform.python_version())]
    for name in ("numpy", "scipy", "keras", "tensorflow", "tensorflow-cpu"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return [*found, ("platform", f"{platform.system()} {platform.machine()}")]


def facts(pairs: list[tuple[str, str]]) -> str:
    """Return pairs of names and values as a list."""
    return '<dl class="kv">' + "".join(f"<dt>{escape(a)}</dt><dd>{prose(b)}</dd>" for a, b in pairs) + "</dl>"


def _versions(report: Report) -> str:
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    runs = [(name, run.version) for name, run in report.backends.items()]
    return section("versions", "Versions", facts([*versions(), *runs, ("written", written)]))
